"""Copies and branches: every way to ask for one, and what the new namespace has."""

from __future__ import annotations

import asyncio

import pytest
import turbopuffer
from conftest import ids, plain, without_dist

pytestmark = pytest.mark.anyio


async def everything(ns):
    return without_dist(await ns.query(rank_by=("id", "asc"), limit=100, include_attributes=True))


ROWS = [
    {"id": 1, "vector": [0.1, 0.2], "title": "the first", "n": 1},
    {"id": 2, "vector": [0.3, 0.4], "title": "the second", "n": 2},
    {"id": 3, "vector": [0.5, 0.6], "n": 3},
]


@pytest.fixture
async def source(ns):
    await ns.write(
        upsert_rows=ROWS,
        distance_metric="euclidean_squared",
        schema={"title": {"type": "string", "full_text_search": {"stemming": True}}},
    )
    return ns


async def same_as_source(copy, source, api):
    assert await everything(copy) == ROWS
    assert await api.json(await copy.with_raw_response.schema()) == await api.json(await source.with_raw_response.schema())
    assert ids(await copy.query(rank_by=("vector", "ANN", [0.5, 0.6]), top_k=2)) == [3, 2]
    assert ids(await copy.query(rank_by=("title", "BM25", "seconds"), top_k=2)) == [2]


async def independent(copy, source):
    await copy.write(upsert_rows=[{"id": 4, "vector": [0.7, 0.8]}], deletes=[1])
    await source.write(patch_rows=[{"id": 2, "n": 20}])
    assert ids(await copy.query(rank_by=("id", "asc"), limit=9)) == [2, 3, 4]
    assert ids(await source.query(rank_by=("id", "asc"), limit=9)) == [1, 2, 3]
    assert [row.get("n") for row in await everything(copy)] == [2, 3, None]
    assert [row["n"] for row in await everything(source)] == [1, 20, 3]
    await source.delete_all()
    assert ids(await copy.query(rank_by=("id", "asc"), limit=9)) == [2, 3, 4]


async def test_copy_from(api, source):
    copy = api.namespace()
    answer = await copy.copy_from(source_namespace=source.id)
    assert answer.status == "OK" and answer.message
    assert answer.rows_affected == 3
    assert answer.billing.billable_logical_bytes_written > 0
    await same_as_source(copy, source, api)
    await independent(copy, source)


async def test_copy_within_a_write_as_a_name_and_as_an_object(api, source):
    for form in (source.id, {"source_namespace": source.id}):
        copy = api.namespace()
        answer = await copy.write(copy_from_namespace=form)
        assert answer.rows_affected == 3
        await same_as_source(copy, source, api)


async def test_branch_from(api, source):
    branch = api.namespace()
    answer = await branch.branch_from(source_namespace=source.id)
    assert answer.status == "OK"
    await same_as_source(branch, source, api)
    metadata = await api.json(await branch.with_raw_response.metadata())
    assert metadata["branching"]["parent"] == source.id
    assert "branching" not in await api.json(await source.with_raw_response.metadata())
    await independent(branch, source)


async def test_branch_within_a_write_and_of_a_branch(api, source):
    first, second = api.namespace(), api.namespace()
    await first.write(branch_from_namespace=source.id)
    await first.write(patch_rows=[{"id": 1, "n": 10}])
    await second.write(branch_from_namespace={"source_namespace": first.id})
    assert [row["n"] for row in await everything(second)] == [10, 2, 3]
    assert [row["n"] for row in await everything(source)] == [1, 2, 3]


async def test_start_and_poll_a_copy(api, source):
    copy = api.namespace()
    token = (await copy.start_copy_from(source_namespace=source.id)).token
    assert token
    for _ in range(100):
        operation = await copy.poll_copy_from(token=token)
        if operation.status == "finished":
            break
        assert operation.status == "running"
        await asyncio.sleep(0.1)
    assert operation.status == "finished"
    assert operation.start_time <= operation.finish_time
    assert operation.result.success.status == "OK"
    assert operation.result.success.rows_affected == 3
    await same_as_source(copy, source, api)
    with pytest.raises(turbopuffer.NotFoundError):
        await copy.poll_copy_from(token="no-such-token")


async def test_copies_of_nothing_and_onto_something_are_refused(api, source):
    missing, taken = api.namespace(), api.namespace()
    await taken.write(upsert_rows=[{"id": 1}])
    for call in ("copy_from", "branch_from"):
        with pytest.raises(turbopuffer.NotFoundError):
            await getattr(api.namespace(), call)(source_namespace=missing.id)
        with pytest.raises(turbopuffer.BadRequestError):
            await getattr(taken, call)(source_namespace=source.id)
    assert [plain(row) for row in (await taken.query(rank_by=("id", "asc"), limit=9)).rows] == [{"id": 1}]
    with pytest.raises(turbopuffer.APIError):
        await api.namespace().write(copy_from_namespace=source.id, upsert_rows=[{"id": 9, "vector": [0.1, 0.2]}])


async def test_read_only_is_carried_over_and_pinning_is_not(api, source):
    raw = source.with_raw_response
    await raw.update_metadata(read_only=True, pinning=True)
    copy = api.namespace()
    await copy.copy_from(source_namespace=source.id)
    metadata = await copy.metadata()
    assert metadata.read_only is True and metadata.pinning is None
    branch = api.namespace()
    await branch.branch_from(source_namespace=source.id)
    metadata = await branch.metadata()
    assert metadata.read_only is True and metadata.pinning is None
