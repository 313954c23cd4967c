"""Conditional writes and writes by filter."""

from __future__ import annotations

import pytest
import turbopuffer
from conftest import ids, plain, without_dist

pytestmark = pytest.mark.anyio


async def everything(ns, **options):
    """All rows by id with all their attributes, as plain dictionaries."""
    return without_dist(await ns.query(rank_by=("id", "asc"), limit=100, include_attributes=True, **options))


async def test_conditions_compare_the_stored_row_with_the_incoming_one(ns):
    await ns.write(upsert_rows=[{"id": 1, "rev": 2, "body": "two"}, {"id": 2, "rev": 5, "body": "five"}])
    newer = ("Or", (("rev", "Lt", {"$ref_new": "rev"}), ("rev", "Eq", None)))
    answer = await ns.write(
        upsert_rows=[{"id": i, "rev": 3, "body": "three"} for i in (1, 2, 3)],
        upsert_condition=newer,
        return_affected_ids=True,
    )
    # 1 is older and replaced, 2 is newer and kept, 3 did not exist.
    assert (answer.rows_upserted, sorted(answer.upserted_ids)) == (2, [1, 3])
    assert [(row["id"], row["rev"]) for row in await everything(ns)] == [(1, 3), (2, 5), (3, 3)]

    answer = await ns.write(patch_rows=[{"id": 1, "body": "p"}, {"id": 9, "body": "p"}], patch_condition=("rev", "Eq", 3))
    assert answer.rows_patched == 1
    answer = await ns.write(deletes=[1, 2, 9], delete_condition=("rev", "Gte", 5), return_affected_ids=True)
    assert (answer.rows_deleted, answer.deleted_ids) == (1, [2])
    assert [row["id"] for row in await everything(ns)] == [1, 3]


async def test_insert_if_absent(ns):
    await ns.write(upsert_rows=[{"id": 1, "who": "first"}])
    answer = await ns.write(
        upsert_rows=[{"id": 1, "who": "second"}, {"id": 2, "who": "second"}], upsert_condition=("id", "Eq", None)
    )
    assert answer.rows_upserted == 1
    assert await everything(ns) == [{"id": 1, "who": "first"}, {"id": 2, "who": "second"}]


async def test_delete_and_patch_by_filter(ns):
    await ns.write(upsert_rows=[{"id": i, "n": i, "kind": "even" if i % 2 == 0 else "odd"} for i in range(10)])
    answer = await ns.write(delete_by_filter=("n", "Gte", 8))
    assert (answer.rows_affected, answer.rows_deleted) == (2, 2)
    assert answer.billing.query is not None
    answer = await ns.write(patch_by_filter={"filters": ("kind", "Eq", "odd"), "patch": {"mark": True}})
    assert (answer.rows_affected, answer.rows_patched) == (4, 4)
    answer = await ns.write(delete_by_filter=("n", "Gte", 1000))
    assert answer.rows_affected == 0
    rows = await everything(ns)
    assert [row["id"] for row in rows if row.get("mark")] == [1, 3, 5, 7]
    assert len(rows) == 8


async def test_delete_by_filter_comes_before_patch_by_filter_before_the_rest(ns):
    await ns.write(upsert_rows=[{"id": i, "n": i} for i in range(4)])
    answer = await ns.write(
        delete_by_filter=("n", "Eq", 0),
        patch_by_filter={"filters": ("n", "Lte", 1), "patch": {"n": 50}},
        patch_rows=[{"id": 0, "n": 7}, {"id": 2, "n": 8}],
        upsert_rows=[{"id": 9, "n": 0}],
    )
    assert (answer.rows_deleted, answer.rows_patched, answer.rows_upserted) == (1, 2, 1)
    assert [(row["id"], row["n"]) for row in await everything(ns)] == [(1, 50), (2, 8), (3, 3), (9, 0)]
