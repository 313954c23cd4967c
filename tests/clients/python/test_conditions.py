"""Conditional writes, writes by filter, and the ids they report."""

from __future__ import annotations

import pytest
import turbopuffer
from conftest import ids, without_dist

pytestmark = pytest.mark.anyio


async def everything(ns):
    return without_dist(await ns.query(rank_by=("id", "asc"), limit=100, include_attributes=True))


NEWER = ("Or", (("rev", "Lt", {"$ref_new": "rev"}), ("rev", "Eq", None)))


@pytest.fixture
async def drafts(ns):
    await ns.write(
        upsert_rows=[
            {"id": 1, "rev": 1, "body": "one"},
            {"id": 2, "rev": 5, "body": "two"},
            {"id": 3, "body": "never revised"},
        ],
        schema={"rev": "int"},
    )
    return ns


async def test_an_upsert_condition_compares_stored_with_incoming_values(drafts):
    answer = await drafts.write(
        upsert_rows=[
            {"id": 1, "rev": 3, "body": "newer"},
            {"id": 2, "rev": 4, "body": "older"},
            {"id": 3, "rev": 1, "body": "first revision"},
            {"id": 4, "rev": 0, "body": "missing rows are written whatever the condition says"},
        ],
        upsert_condition=NEWER,
        return_affected_ids=True,
    )
    assert (answer.rows_affected, answer.rows_upserted) == (3, 3)
    assert answer.upserted_ids == [1, 3, 4]
    assert [(row["id"], row["rev"], row["body"][:6]) for row in await everything(drafts)] == [
        (1, 3, "newer"),
        (2, 5, "two"),
        (3, 1, "first "),
        (4, 0, "missin"),
    ]
    assert answer.billing.query is not None and answer.billing.query.billable_logical_bytes_queried >= 0


async def test_insert_if_absent(drafts):
    answer = await drafts.write(
        upsert_columns={"id": [1, 9], "body": ["taken", "free"]}, upsert_condition=("id", "Eq", None), return_affected_ids=True
    )
    assert (answer.rows_upserted, answer.upserted_ids) == (1, [9])
    assert [row["body"] for row in await everything(drafts)] == ["one", "two", "never revised", "free"]


async def test_a_patch_condition_skips_missing_rows(drafts):
    answer = await drafts.write(
        patch_rows=[{"id": 1, "rev": 2}, {"id": 2, "rev": 2}, {"id": 77, "rev": 2}],
        patch_condition=("rev", "Lt", {"$ref_new": "rev"}),
        return_affected_ids=True,
    )
    assert (answer.rows_affected, answer.rows_patched, answer.patched_ids) == (1, 1, [1])
    assert [row.get("rev") for row in await everything(drafts)] == [2, 5, None]


async def test_a_delete_condition_counts_only_what_it_deleted(drafts):
    answer = await drafts.write(deletes=[1, 2, 77], delete_condition=("rev", "Gte", 5), return_affected_ids=True)
    assert (answer.rows_affected, answer.rows_deleted, answer.deleted_ids) == (1, 1, [2])
    assert ids(await drafts.query(rank_by=("id", "asc"), limit=9)) == [1, 3]
    # In a delete every new value is null.
    answer = await drafts.write(deletes=[1, 3], delete_condition=("rev", "Eq", {"$ref_new": "rev"}), return_affected_ids=True)
    assert answer.deleted_ids == [3]
    answer = await drafts.write(deletes=[1], delete_condition=("rev", "Gt", 50), return_affected_ids=True)
    assert (answer.rows_affected, answer.rows_deleted, answer.deleted_ids) == (0, 0, None)


async def test_affected_ids_of_every_kind(drafts):
    answer = await drafts.write(
        upsert_rows=[{"id": 8, "rev": 1}], patch_rows=[{"id": 1, "rev": 9}], deletes=[2], return_affected_ids=True
    )
    assert (answer.upserted_ids, answer.patched_ids, answer.deleted_ids) == ([8], [1], [2])
    silent = await drafts.write(upsert_rows=[{"id": 8, "rev": 2}])
    assert (silent.upserted_ids, silent.patched_ids, silent.deleted_ids) == (None, None, None)


@pytest.fixture
async def numbers(ns):
    await ns.write(upsert_columns={"id": list(range(10)), "n": list(range(10)), "even": [i % 2 == 0 for i in range(10)]})
    return ns


async def test_delete_by_filter(numbers):
    answer = await numbers.write(delete_by_filter=("n", "Gte", 7), return_affected_ids=True)
    assert (answer.rows_affected, answer.rows_deleted) == (3, 3)
    assert answer.deleted_ids == [7, 8, 9]
    assert ids(await numbers.query(rank_by=("id", "asc"), limit=99)) == list(range(7))
    answer = await numbers.write(delete_by_filter=("n", "Gte", 7), delete_by_filter_allow_partial=True)
    assert answer.rows_affected == 0
    assert not answer.rows_remaining
    assert answer.billing.query.billable_logical_bytes_queried >= 0


async def test_patch_by_filter(numbers):
    answer = await numbers.write(
        patch_by_filter={"filters": ("even", "Eq", True), "patch": {"n": None, "label": "even"}},
        patch_by_filter_allow_partial=True,
    )
    assert (answer.rows_affected, answer.rows_patched) == (5, 5)
    assert not answer.rows_remaining
    assert [(row["id"], row.get("n"), row.get("label")) for row in await everything(numbers)] == [
        (i, None, "even") if i % 2 == 0 else (i, i, None) for i in range(10)
    ]
    none = await numbers.write(patch_by_filter={"filters": ("n", "Gt", 99), "patch": {"label": "none"}})
    assert (none.rows_affected, none.rows_patched) == (0, 0)
    for patch in ({"id": 3}, {"vector": [1.0, 2.0]}):
        with pytest.raises(turbopuffer.APIError):
            await numbers.write(patch_by_filter={"filters": ("n", "Gt", 1), "patch": patch})


async def test_one_request_deletes_then_patches_then_writes(numbers):
    # Deleted by filter, so neither patched by filter nor by id; the upsert comes last and wins.
    answer = await numbers.write(
        delete_by_filter=("n", "Lt", 3),
        patch_by_filter={"filters": ("n", "Lt", 5), "patch": {"label": "small"}},
        patch_rows=[{"id": 0, "label": "gone"}, {"id": 9, "label": "nine"}],
        upsert_rows=[{"id": 1, "n": 100}],
    )
    assert (answer.rows_deleted, answer.rows_patched, answer.rows_upserted, answer.rows_affected) == (3, 3, 1, 7)
    assert [(row["id"], row["n"], row.get("label")) for row in await everything(numbers)] == [
        (1, 100, None),
        (3, 3, "small"),
        (4, 4, "small"),
        (5, 5, None),
        (6, 6, None),
        (7, 7, None),
        (8, 8, None),
        (9, 9, "nine"),
    ]


@pytest.mark.parametrize(
    "write",
    [
        {"delete_by_filter": ("absent", "Eq", 1)},
        {"upsert_rows": [{"id": 1}], "upsert_condition": ("absent", "Eq", 1)},
        {"patch_by_filter": {"filters": ("n", "Nope", 1), "patch": {"n": 1}}},
        {"deletes": [1], "delete_condition": ("n",)},
        {"patch_rows": [{"id": 1, "n": 1}], "patch_condition": ("n", "Eq", "text")},
    ],
)
async def test_malformed_conditions_change_nothing(numbers, write):
    before = await everything(numbers)
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await numbers.write(**write)
    assert await everything(numbers) == before


async def test_disable_backpressure_is_accepted(numbers):
    answer = await numbers.write(upsert_rows=[{"id": 11, "n": 11}], disable_backpressure=True)
    assert answer.rows_upserted == 1
