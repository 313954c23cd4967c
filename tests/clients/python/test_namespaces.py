"""Namespaces: listing, schema, metadata, deletion, warming, and the errors of missing ones."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

import pytest
import turbopuffer
from conftest import ids, says

pytestmark = pytest.mark.anyio


async def test_listing_pages_by_prefix_in_order(api):
    prefix = f"list-{uuid.uuid4().hex}-"
    names = [f"{prefix}{i:02}" for i in range(12)]
    for name in reversed(names):
        await api.namespace(name).write(upsert_rows=[{"id": 1}])
    assert await api.listed(prefix=prefix) == names
    first = await api.page(prefix=prefix, page_size=5)
    second = await api.page(prefix=prefix, page_size=5, cursor=first.next_cursor)
    third = await api.page(prefix=prefix, page_size=5, cursor=second.next_cursor)
    assert [ns.id for ns in first.namespaces] == names[:5]
    assert [ns.id for ns in second.namespaces] == names[5:10]
    assert [ns.id for ns in third.namespaces] == names[10:]
    assert first.next_cursor != second.next_cursor
    assert not third.next_cursor
    # The client follows the cursors by itself.
    assert await api.listed(prefix=prefix, page_size=5) == names
    assert await api.listed(prefix=prefix + "no") == []
    for page_size in (0, 1001):
        with pytest.raises(turbopuffer.APIError):
            await api.page(page_size=page_size)


async def test_a_deleted_namespace_is_no_longer_listed(api):
    ns = api.namespace()
    await ns.write(upsert_rows=[{"id": 1}])
    assert await api.listed(prefix=ns.id) == [ns.id]
    await ns.delete_all()
    assert await api.listed(prefix=ns.id) == []


async def test_exists(ns):
    assert await ns.exists() is False
    await ns.write(upsert_rows=[{"id": 1}])
    assert await ns.exists() is True
    await ns.delete_all()
    assert await ns.exists() is False


async def test_a_deleted_name_is_new_again(ns):
    await ns.write(upsert_rows=[{"id": 1, "vector": [1.0, 2.0]}], distance_metric="cosine_distance")
    answer = await ns.delete_all()
    assert answer.status == "OK"
    await ns.write(upsert_rows=[{"id": "x", "vector": [1.0, 2.0, 3.0]}], distance_metric="euclidean_squared")
    assert ids(await ns.query(rank_by=("id", "asc"), limit=9)) == ["x"]
    assert (await ns.schema())["vector"].type == "[3]f32"


async def test_schema_answers_have_exactly_the_documented_keys(api, ns):
    await ns.write(
        upsert_rows=[{"id": 1, "vector": [0.1, 0.2], "title": "t", "private": True}],
        distance_metric="cosine_distance",
        schema={
            "vector": {"type": "[2]f16", "ann": True},
            "title": {"type": "string", "full_text_search": {"stemming": True, "remove_stopwords": True}},
        },
    )
    full_text_search = {
        "k1": 1.2,
        "k3": 8,
        "b": 0.75,
        "language": "english",
        "stemming": True,
        "max_token_length": 39,
        "remove_stopwords": True,
        "ascii_folding": False,
        "case_sensitive": False,
        "tokenizer": "word_v4",
    }
    assert await api.json(await ns.with_raw_response.schema()) == {
        "id": {"type": "uint", "filterable": None, "full_text_search": None},
        "vector": {"type": "[2]f16", "filterable": None, "full_text_search": None, "ann": True},
        "private": {"type": "bool", "filterable": True, "full_text_search": None},
        "title": {"type": "string", "filterable": False, "full_text_search": full_text_search},
    }


async def test_update_schema_answers_the_whole_schema_after_the_change(ns):
    await ns.write(upsert_rows=[{"id": 1, "a": "x"}])
    after = await ns.update_schema(
        schema={"a": {"type": "string", "filterable": False}, "later": "[]int", "word": {"type": "string", "full_text_search": True}}
    )
    assert {name: (entry.type, entry.filterable) for name, entry in after.items()} == {
        "id": ("uint", None),
        "a": ("string", False),
        "later": ("[]int", True),
        "word": ("string", False),
    }
    assert {name: entry.type for name, entry in (await ns.schema()).items()} == {
        "id": "uint",
        "a": "string",
        "later": "[]int",
        "word": "string",
    }
    back = await ns.update_schema(schema={"a": {"type": "string", "filterable": True}})
    assert back["a"].filterable is True
    assert ids(await ns.query(rank_by=("id", "asc"), limit=9, filters=("a", "Eq", "x"))) == [1]


@pytest.mark.parametrize("change", [{"a": "int"}, {"id": "string"}, {"vector": "[3]f32"}, {"$x": "int"}, {"b": "nonsense"}])
async def test_types_ids_and_dimensions_cannot_be_changed(ns, change):
    await ns.write(upsert_rows=[{"id": 1, "a": "x", "vector": [1.0, 2.0]}], distance_metric="cosine_distance")
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.update_schema(schema=change)


async def test_metadata_of_a_fresh_namespace(ns):
    await ns.write(upsert_rows=[{"id": 1, "vector": [0.1, 0.2], "p": True}], distance_metric="cosine_distance")
    metadata = await ns.metadata()
    now = datetime.now(timezone.utc)
    for instant in (metadata.created_at, metadata.updated_at):
        assert abs(now - instant) < timedelta(seconds=60)
    assert metadata.created_at <= metadata.updated_at
    assert metadata.encryption.mode == "default"
    assert metadata.index.status == "up-to-date"
    assert (metadata.read_only, metadata.pinning, metadata.sharding) == (None, None, None)
    assert type(metadata.approx_logical_bytes) is int and type(metadata.approx_row_count) is int
    # Here, unlike in schema answers, what is null is left out and the index shows its metric.
    assert {name: entry.to_dict() for name, entry in metadata.schema_.items()} == {
        "id": {"type": "uint"},
        "vector": {"type": "[2]f32", "ann": {"distance_metric": "cosine_distance"}},
        "p": {"type": "bool", "filterable": True},
    }


async def test_updated_at_follows_the_writes(ns):
    await ns.write(upsert_rows=[{"id": 1}])
    before = await ns.metadata()
    await ns.write(upsert_rows=[{"id": 2}])
    after = await ns.metadata()
    assert after.created_at == before.created_at
    assert after.updated_at > before.updated_at


async def test_hint_cache_warm(ns):
    await ns.write(upsert_rows=[{"id": 1}])
    for _ in range(2):
        answer = await ns.hint_cache_warm()
        assert answer.status in ("ACCEPTED", "OK")
        assert isinstance(answer.message, str) and answer.message


async def test_everything_about_a_missing_namespace_is_not_found(ns):
    calls = [
        lambda: ns.query(rank_by=("id", "asc"), limit=1),
        lambda: ns.multi_query(queries=[{"rank_by": ("id", "asc"), "limit": 1}]),
        lambda: ns.schema(),
        lambda: ns.metadata(),
        lambda: ns.delete_all(),
        lambda: ns.hint_cache_warm(),
    ]
    for call in calls:
        with pytest.raises(turbopuffer.NotFoundError, match=says(ns.id)):
            await call()


@pytest.mark.parametrize("name", ["with space", "slash/inside", "ümlaut", "a" * 129])
async def test_bad_namespace_names_are_refused(api, name):
    with pytest.raises(turbopuffer.APIStatusError) as refused:
        await api.namespace(name).write(upsert_rows=[{"id": 1}])
    assert 400 <= refused.value.status_code < 500


async def test_names_of_all_permitted_characters(api):
    ns = api.namespace("Az09-_." + uuid.uuid4().hex + "x" * (128 - 7 - 32))
    assert len(ns.id) == 128
    await ns.write(upsert_rows=[{"id": 1}])
    assert await api.listed(prefix=ns.id) == [ns.id]
