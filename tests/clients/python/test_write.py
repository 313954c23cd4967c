"""Writes: every operation, its counts, and what is stored afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import turbopuffer
from conftest import ids, plain, without_dist

pytestmark = pytest.mark.anyio


async def everything(ns, **options):
    """All rows by id with all their attributes, as plain dictionaries."""
    return without_dist(await ns.query(rank_by=("id", "asc"), limit=100, include_attributes=True, **options))


async def test_upserted_rows_come_back_as_they_were_sent(ns):
    answer = await ns.write(
        upsert_rows=[
            {"id": 2, "vector": [2, 2]},
            {"id": 7, "vector": [0.7, 0.7], "hello": "world", "n": -3, "ok": True, "tags": ["a", "b"]},
        ],
        distance_metric="euclidean_squared",
    )
    assert answer.status == "OK"
    assert isinstance(answer.message, str) and answer.message
    assert (answer.rows_affected, answer.rows_upserted) == (2, 2)
    assert answer.rows_patched is None and answer.rows_deleted is None
    assert answer.upserted_ids is None
    assert answer.billing.billable_logical_bytes_written > 0
    # One vector went as numbers (integers), the other as base64: both are the same type here, and 0.7 is not 0.69999.
    assert await everything(ns) == [
        {"id": 2, "vector": [2.0, 2.0]},
        {"id": 7, "vector": [0.7, 0.7], "hello": "world", "n": -3, "ok": True, "tags": ["a", "b"]},
    ]


async def test_upserted_columns_equal_the_same_rows(ns):
    answer = await ns.write(
        upsert_columns={
            "id": [0, 1, 2, 3],
            "vector": [[0.0, 0.0], [0.1, 0.1], [0.2, 0.2], [1.1, 1.1]],
            "key": ["zero", None, "two", "three"],
            "n": [None, 1, None, 3],
        },
        distance_metric="cosine_distance",
        schema={"n": "int"},
    )
    assert (answer.rows_affected, answer.rows_upserted) == (4, 4)
    assert await everything(ns) == [
        {"id": 0, "vector": [0.0, 0.0], "key": "zero"},
        {"id": 1, "vector": [0.1, 0.1], "n": 1},
        {"id": 2, "vector": [0.2, 0.2], "key": "two"},
        {"id": 3, "vector": [1.1, 1.1], "key": "three", "n": 3},
    ]


async def test_float32_lists_tuples_and_one_flat_column_are_vectors_too(ns):
    # The client serialises no numpy arrays, so they go as lists; a tuple goes as numbers, a list of floats as base64.
    embedding = np.array([0.5, 1.5], dtype=np.float32)
    await ns.write(
        upsert_rows=[{"id": 1, "vector": embedding.tolist()}, {"id": 2, "vector": (3.5, 4.5)}],
        distance_metric="euclidean_squared",
    )
    await ns.write(upsert_columns={"id": [3, 4], "vector": [5, 6, 7, 8]}, distance_metric="euclidean_squared")
    rows = await everything(ns)
    assert [row["vector"] for row in rows] == [[0.5, 1.5], [3.5, 4.5], [5.0, 6.0], [7.0, 8.0]]


async def test_an_upsert_replaces_the_whole_row(ns):
    await ns.write(upsert_rows=[{"id": 1, "a": "x", "b": 1}])
    await ns.write(upsert_rows=[{"id": 1, "a": "y"}])
    assert await everything(ns) == [{"id": 1, "a": "y"}]


async def test_a_patch_changes_only_the_named_attributes_of_existing_rows(ns):
    await ns.write(upsert_rows=[{"id": 1, "a": "x", "b": 1}, {"id": 2, "a": "y", "b": 2}, {"id": 3, "a": "z"}])
    answer = await ns.write(patch_rows=[{"id": 1, "a": "new"}, {"id": 2, "b": None, "c": True}, {"id": 99, "a": "none"}])
    assert (answer.rows_affected, answer.rows_patched, answer.rows_upserted) == (2, 2, None)
    assert await everything(ns) == [
        {"id": 1, "a": "new", "b": 1},
        {"id": 2, "a": "y", "c": True},
        {"id": 3, "a": "z"},
    ]
    answer = await ns.write(patch_columns={"id": [1, 3], "b": [10, 30]})
    assert answer.rows_patched == 2
    assert [row.get("b") for row in await everything(ns)] == [10, None, 30]


async def test_a_patch_leaves_the_vector_alone(ns):
    await ns.write(upsert_rows=[{"id": 1, "vector": [0.1, 0.2], "a": 1}], distance_metric="cosine_distance")
    await ns.write(patch_rows=[{"id": 1, "a": 2}])
    assert await everything(ns) == [{"id": 1, "vector": [0.1, 0.2], "a": 2}]


async def test_deletes_count_missing_ids_and_leave_an_empty_namespace(ns):
    await ns.write(upsert_rows=[{"id": 1, "vector": [1.0, 1.0]}], distance_metric="cosine_distance")
    answer = await ns.write(deletes=[1, 77])
    assert (answer.rows_affected, answer.rows_deleted) == (2, 2)
    answer = await ns.query(rank_by=("vector", "ANN", [1.0, 1.0]), top_k=10)
    assert answer.rows == []
    assert await ns.exists() is True


async def test_one_request_may_upsert_patch_and_delete_different_rows(ns):
    await ns.write(upsert_rows=[{"id": i, "n": i} for i in range(1, 5)])
    answer = await ns.write(
        upsert_rows=[{"id": 9, "n": 9}], patch_rows=[{"id": 1, "n": 100}], deletes=[2]
    )
    assert (answer.rows_upserted, answer.rows_patched, answer.rows_deleted, answer.rows_affected) == (1, 1, 1, 3)
    assert await everything(ns) == [{"id": 1, "n": 100}, {"id": 3, "n": 3}, {"id": 4, "n": 4}, {"id": 9, "n": 9}]


async def test_the_same_id_twice_in_one_request_is_refused(ns):
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.write(upsert_rows=[{"id": 1, "n": 1}, {"id": 1, "n": 2}])
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.write(upsert_rows=[{"id": 1, "n": 1}], deletes=[1])


async def test_a_refused_request_changes_nothing(ns):
    await ns.write(upsert_rows=[{"id": 1, "n": 1}])
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.write(upsert_rows=[{"id": 2, "n": 2}, {"id": 3, "n": "not a number"}])
    assert await everything(ns) == [{"id": 1, "n": 1}]


async def test_string_ids_sort_bytewise(ns):
    await ns.write(upsert_rows=[{"id": "b", "n": 2}, {"id": "a", "n": 1}, {"id": "B", "n": 3}, {"id": "ä", "n": 4}])
    assert ids(await ns.query(rank_by=("id", "asc"), limit=10)) == ["B", "a", "b", "ä"]
    await ns.write(deletes=["a"])
    assert ids(await ns.query(rank_by=("id", "desc"), limit=10)) == ["ä", "b", "B"]
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.write(upsert_rows=[{"id": 1, "n": 1}])


async def test_the_largest_unsigned_id_survives(ns):
    largest = 2**64 - 1
    await ns.write(upsert_rows=[{"id": largest, "n": 1}, {"id": 0, "n": 2}])
    assert ids(await ns.query(rank_by=("id", "asc"), limit=10)) == [0, largest]
    assert ids(await ns.query(rank_by=("id", "asc"), limit=10, filters=("id", "Eq", largest))) == [largest]


async def test_create_namespace_false_and_true(api):
    missing = api.namespace()
    with pytest.raises(turbopuffer.NotFoundError):
        await missing.write(upsert_rows=[{"id": 1}], create_namespace=False)
    assert await missing.exists() is False
    await missing.write(schema={"id": "string", "n": "int"}, create_namespace=True)
    assert await missing.exists() is True
    assert (await missing.query(rank_by=("id", "asc"), limit=10)).rows == []


async def test_a_write_is_seen_by_the_next_strong_read(ns):
    for i in range(20):
        await ns.write(upsert_rows=[{"id": i, "n": i}])
        answer = await ns.query(rank_by=("id", "desc"), limit=1, include_attributes=["n"])
        assert plain(answer.rows[0]) == {"id": i, "n": i}
