"""Aggregations: counts and sums over what the filters select, as a whole and by group."""

from __future__ import annotations

import pytest
import turbopuffer

pytestmark = pytest.mark.anyio

ROWS = [
    {"id": 1, "shop": "a", "color": "red", "price": 10, "weight": 0.5, "tags": ["new", "sale"]},
    {"id": 2, "shop": "a", "color": "blue", "price": 20, "weight": 1.5, "tags": ["new"]},
    {"id": 3, "shop": "b", "color": "red", "price": -5, "weight": 2.0, "tags": []},
    {"id": 4, "shop": "b", "price": 7, "weight": 0.25, "tags": ["sale", "sale"]},
    {"id": 5, "color": "red", "weight": 0.75},
]


@pytest.fixture
async def sales(ns):
    await ns.write(upsert_rows=ROWS, schema={"price": "int", "weight": "float", "tags": "[]string"})
    return ns


def groups(answer):
    return [dict(group) for group in answer.aggregation_groups]


async def test_counts_and_sums_of_everything(sales):
    answer = await sales.query(aggregate_by={"n": ("Count",), "of": ("Count", "id"), "total": ("Sum", "price"), "kg": ("Sum", "weight")})
    assert answer.aggregations == {"n": 5, "of": 5, "total": 32, "kg": 5.0}
    assert answer.rows is None and answer.aggregation_groups is None
    assert answer.performance.approx_namespace_size == 5
    assert answer.billing.billable_logical_bytes_queried == 256_000_000


async def test_filters_select_what_is_aggregated(sales):
    answer = await sales.query(aggregate_by={"n": ("Count",), "total": ("Sum", "price")}, filters=("shop", "Eq", "b"))
    assert answer.aggregations == {"n": 2, "total": 2}
    answer = await sales.query(aggregate_by={"n": ("Count",)}, filters=("shop", "Eq", "none"))
    assert answer.aggregations == {"n": 0}


async def test_groups_are_sorted_by_their_key_and_null_is_one(sales):
    answer = await sales.query(aggregate_by={"n": ("Count",), "total": ("Sum", "price")}, group_by=["shop"], top_k=10)
    assert answer.aggregations is None and answer.rows is None
    assert sorted(groups(answer), key=lambda g: g.get("shop") or "") == [
        {"shop": None, "n": 1, "total": 0},
        {"shop": "a", "n": 2, "total": 30},
        {"shop": "b", "n": 2, "total": 2},
    ]
    named = [group["shop"] for group in groups(answer) if group["shop"] is not None]
    assert named == sorted(named)


async def test_groups_by_two_attributes_and_their_limit(sales):
    answer = await sales.query(
        aggregate_by={"n": ("Count",)}, group_by=["shop", "color"], filters=("shop", "NotEq", None), limit=10
    )
    assert sorted(groups(answer), key=lambda g: (g["shop"], g["color"] or "")) == [
        {"shop": "a", "color": "blue", "n": 1},
        {"shop": "a", "color": "red", "n": 1},
        {"shop": "b", "color": None, "n": 1},
        {"shop": "b", "color": "red", "n": 1},
    ]
    answer = await sales.query(
        aggregate_by={"n": ("Count",)}, group_by=["shop"], filters=("shop", "NotEq", None), limit=1
    )
    assert groups(answer) == [{"shop": "a", "n": 2}]


async def test_one_group_for_each_element_of_an_array(sales):
    answer = await sales.query(
        aggregate_by={"n": ("Count",), "total": ("Sum", "price")},
        group_by=[{"tag": ("ForEachUnique", "tags")}],
        filters=("tags", "ContainsAny", ["new", "sale"]),
        limit=10,
    )
    # An element that a row has twice counts once.
    assert groups(answer) == [{"tag": "new", "n": 2, "total": 30}, {"tag": "sale", "n": 2, "total": 17}]


async def test_aggregations_in_a_multi_query(sales):
    answer = await sales.multi_query(
        queries=[
            {"aggregate_by": {"n": ("Count",)}, "filters": ("price", "Gt", 8)},
            {"aggregate_by": {"n": ("Count",)}, "group_by": ["color"], "filters": ("color", "NotEq", None), "limit": 5},
            {"rank_by": ("id", "asc"), "limit": 1},
        ]
    )
    assert answer.results[0].aggregations == {"n": 2}
    assert groups(answer.results[1]) == [{"color": "blue", "n": 1}, {"color": "red", "n": 3}]
    assert [row.id for row in answer.results[2].rows] == [1]


@pytest.mark.parametrize(
    "options",
    [
        {"aggregate_by": {"n": ("Count",)}, "rank_by": ("id", "asc"), "limit": 3},
        {"aggregate_by": {"n": ("Count",)}, "include_attributes": ["shop"]},
        {"aggregate_by": {"n": ("Sum", "shop")}},
        {"aggregate_by": {"n": ("Sum", "absent")}},
        {"aggregate_by": {"n": ("Median", "price")}},
        {"aggregate_by": {"n": ("Count",)}, "group_by": ["absent"], "limit": 3},
        {"group_by": ["shop"], "limit": 3},
    ],
)
async def test_malformed_aggregations_are_refused(sales, options):
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await sales.query(**options)
