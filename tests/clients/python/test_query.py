"""Queries: nearest neighbours, attribute order, projection, limits, and the shape of answers."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

import pytest
import turbopuffer
from conftest import ids, plain

pytestmark = pytest.mark.anyio


@pytest.fixture
async def points(ns):
    """Points whose distances to (0.8, 0.7) are easy to work out; 15 and 16 are the same point."""
    await ns.write(
        upsert_rows=[
            {"id": 7, "vector": [0.7, 0.7], "hello": "world", "n": 7},
            {"id": 10, "vector": [1.0, 1.0], "n": 10},
            {"id": 16, "vector": [1.5, 1.5], "n": 1},
            {"id": 15, "vector": [1.5, 1.5], "n": 1},
            {"id": 20, "vector": [2.0, 2.0]},
        ],
        distance_metric="euclidean_squared",
    )
    return ns


async def test_ann_is_ordered_by_distance_and_ties_by_id(points):
    answer = await points.query(rank_by=("vector", "ANN", [0.8, 0.7]), top_k=5)
    assert ids(answer) == [7, 10, 15, 16, 20]
    dists = [row["$dist"] for row in answer.rows]
    assert dists == pytest.approx([0.01, 0.13, 1.13, 1.13, 3.13], rel=1e-5)
    # Without include_attributes a row is its id and its distance.
    assert all(set(plain(row)) == {"id", "$dist"} for row in answer.rows)
    assert [len(plain(row)) for row in answer.rows] == [2] * 5


async def test_cosine_distance(ns):
    await ns.write(
        upsert_rows=[
            {"id": 1, "vector": [1.0, 0.0]},
            {"id": 2, "vector": [0.0, 5.0]},
            {"id": 3, "vector": [-2.0, 0.0]},
            {"id": 4, "vector": [3.0, 3.0]},
        ],
        distance_metric="cosine_distance",
    )
    answer = await ns.query(rank_by=("vector", "ANN", [2.0, 0.0]), top_k=4)
    assert ids(answer) == [1, 4, 2, 3]
    dists = [row["$dist"] for row in answer.rows]
    assert dists == pytest.approx([0.0, 1 - 1 / math.sqrt(2), 1.0, 2.0], abs=1e-6)


async def test_knn_is_exact_and_needs_filters(points):
    answer = await points.query(rank_by=("vector", "kNN", [0.8, 0.7]), filters=("n", "Lte", 7), top_k=5)
    # Null sorts before every number, so Lte matches row 20, which has none.
    assert ids(answer) == [7, 15, 16, 20]
    with pytest.raises(turbopuffer.BadRequestError):
        await points.query(rank_by=("vector", "kNN", [0.8, 0.7]), top_k=5)


async def test_a_namespace_without_vectors_has_no_neighbours_to_rank(ns):
    await ns.write(upsert_rows=[{"id": 1, "n": 1}])
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.query(rank_by=("vector", "ANN", [1.0, 0.0]), top_k=5)


async def test_attribute_order_has_no_distance_and_puts_nulls_first_ascending(points):
    answer = await points.query(rank_by=("n", "asc"), limit=10)
    assert ids(answer) == [20, 15, 16, 7, 10]
    assert all("$dist" not in plain(row) for row in answer.rows)
    assert ids(await points.query(rank_by=("n", "desc"), limit=10)) == [10, 7, 15, 16, 20]
    assert ids(await points.query(rank_by=(("n", "asc"), ("id", "desc")), limit=3)) == [20, 16, 15]


async def test_vectors_cannot_be_ordered_by(points):
    with pytest.raises(turbopuffer.BadRequestError):
        await points.query(rank_by=("vector", "asc"), limit=10)


async def test_projection(points):
    async def keys(**options):
        answer = await points.query(rank_by=("vector", "ANN", [0.7, 0.7]), top_k=1, **options)
        return plain(answer.rows[0])

    dist = {"$dist": 0.0}
    assert await keys() == {"id": 7, **dist}
    assert await keys(include_attributes=False) == {"id": 7, **dist}
    assert await keys(include_attributes=["hello"]) == {"id": 7, "hello": "world", **dist}
    assert await keys(include_attributes=["id", "vector"]) == {"id": 7, "vector": [0.7, 0.7], **dist}
    everything = {"id": 7, "vector": [0.7, 0.7], "hello": "world", "n": 7, **dist}
    assert await keys(include_attributes=True) == everything
    assert await keys(exclude_attributes=["vector", "unknown"]) == {"id": 7, "hello": "world", "n": 7, **dist}
    with pytest.raises(turbopuffer.BadRequestError):
        await keys(include_attributes=["unknown"])
    with pytest.raises(turbopuffer.APIError):
        await keys(include_attributes=["hello"], exclude_attributes=["n"])


async def test_top_k_and_limit_mean_the_same(points):
    rank = ("id", "asc")
    assert len((await points.query(rank_by=rank, top_k=2)).rows) == 2
    assert len((await points.query(rank_by=rank, limit=2)).rows) == 2
    assert len((await points.query(rank_by=rank, limit={"total": 3})).rows) == 3
    assert len((await points.query(rank_by=rank, limit=2, top_k=2)).rows) == 2
    for options in ({"limit": 2, "top_k": 3}, {"limit": 10_001}, {}):
        with pytest.raises(turbopuffer.APIError):
            await points.query(rank_by=rank, **options)


async def test_a_lookup_without_rank_by_answers_in_id_order(points):
    answer = await points.query(filters=("n", "Gte", 1), limit=10)
    assert ids(answer) == [7, 10, 15, 16]


@pytest.mark.parametrize(
    "consistency", [{"level": "strong"}, {"level": "eventual"}, {"level": "eventual", "max_staleness_seconds": 10}]
)
async def test_both_levels_of_consistency(points, consistency):
    answer = await points.query(rank_by=("id", "asc"), limit=10, consistency=consistency)
    assert ids(answer) == [7, 10, 15, 16, 20]


async def test_performance_and_billing_have_the_documented_types(points):
    answer = await points.query(rank_by=("vector", "ANN", [0.8, 0.7]), top_k=2, filters=("n", "Eq", 1))
    performance = answer.performance
    assert performance.approx_namespace_size == 5
    # Rows looked at that are not in an index yet, counted before the filter.
    assert performance.exhaustive_search_count == 5
    assert type(performance.cache_hit_ratio) is float and 0.0 <= performance.cache_hit_ratio <= 1.0
    assert performance.cache_temperature in ("hot", "warm", "cold")
    assert type(performance.query_execution_ms) is int and performance.query_execution_ms > 0
    assert type(performance.server_total_ms) is int and performance.server_total_ms > 0
    assert performance.server_total_ms >= performance.query_execution_ms
    assert answer.billing.billable_logical_bytes_queried == 256_000_000
    last_write = datetime.fromisoformat(performance.model_extra["last_included_write_at"].replace("Z", "+00:00"))
    assert abs(datetime.now(timezone.utc) - last_write) < timedelta(seconds=60)


async def test_returned_bytes_are_counted_exactly(points):
    # Five rows: 8 for the id, 4 for the distance, 8 for the vector; and five bytes of "world" in one of them.
    answer = await points.query(
        rank_by=("vector", "ANN", [0.8, 0.7]), top_k=5, include_attributes=["vector", "hello"]
    )
    assert answer.billing.billable_logical_bytes_returned == 105
    answer = await points.query(rank_by=("vector", "ANN", [0.8, 0.7]), top_k=2)
    assert answer.billing.billable_logical_bytes_returned == 24


async def test_paging_over_all_rows_by_id(ns):
    await ns.write(upsert_columns={"id": list(range(250)), "n": list(range(250))})
    seen, last = [], None
    while True:
        answer = await ns.query(
            rank_by=("id", "asc"),
            limit=100,
            include_attributes=True,
            **({} if last is None else {"filters": ("id", "Gt", last)}),
        )
        seen += [(row.id, row["n"]) for row in answer.rows]
        if len(answer.rows) < 100:
            break
        last = answer.rows[-1].id
    assert seen == [(i, i) for i in range(250)]


async def test_a_multi_query_answers_in_order_on_one_snapshot(points):
    answer = await points.multi_query(
        queries=[
            {"rank_by": ("vector", "ANN", [0.8, 0.7]), "top_k": 2, "include_attributes": ["hello"]},
            {"rank_by": ("id", "desc"), "limit": 1},
            {"filters": ("n", "Eq", 1), "limit": 10, "rank_by": ("id", "asc")},
        ],
        consistency={"level": "strong"},
    )
    assert [ids(result) for result in answer.results] == [[7, 10], [20], [15, 16]]
    assert plain(answer.results[0].rows[0])["hello"] == "world"
    assert answer.performance.approx_namespace_size == 5
    assert type(answer.performance.cache_hit_ratio) is float
    assert answer.billing.billable_logical_bytes_returned > 0
    encoded = await points.multi_query(
        queries=[{"rank_by": ("id", "asc"), "limit": 1, "include_attributes": ["vector"]}], vector_encoding="base64"
    )
    assert isinstance(encoded.results[0].rows[0].vector, str)


async def test_seventeen_sub_queries_are_too_many(points):
    query = {"rank_by": ("id", "asc"), "limit": 1}
    assert len((await points.multi_query(queries=[query] * 16)).results) == 16
    with pytest.raises(turbopuffer.APIError):
        await points.multi_query(queries=[query] * 17)
