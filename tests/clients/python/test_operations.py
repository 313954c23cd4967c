"""What stands beside writes and queries: metadata changes, plans, recall, sharding, schema changes."""

from __future__ import annotations

import pytest
import turbopuffer
from conftest import ids, says, without_dist

pytestmark = pytest.mark.anyio


@pytest.fixture
async def three(ns):
    await ns.write(
        upsert_rows=[
            {"id": 1, "vector": [0.1, 0.1], "title": "one", "n": 1},
            {"id": 2, "vector": [0.2, 0.2], "title": "two", "n": 2},
            {"id": 3, "vector": [0.3, 0.3], "title": "three"},
        ],
        distance_metric="euclidean_squared",
    )
    return ns


async def test_read_only_refuses_documents_and_schemas_until_it_is_lifted(api, three):
    # The change answers the first shape of metadata, which the client's own types do not describe.
    answer = await api.json(await three.with_raw_response.update_metadata(read_only=True))
    assert answer["read_only"] is True
    assert answer["encryption"] == {"sse": True}
    assert (await three.metadata()).read_only is True
    for write in (
        {"upsert_rows": [{"id": 4, "vector": [0.4, 0.4]}]},
        {"deletes": [1]},
        {"patch_rows": [{"id": 1, "n": 5}]},
        {"delete_by_filter": ("id", "Eq", 1)},
        {"schema": {"later": "int"}},
    ):
        with pytest.raises(turbopuffer.APIStatusError, match="read-only") as refused:
            await three.write(**write)
        assert 400 <= refused.value.status_code < 500
    with pytest.raises(turbopuffer.APIStatusError, match="read-only"):
        await three.update_schema(schema={"later": "int"})
    assert ids(await three.query(rank_by=("id", "asc"), limit=9)) == [1, 2, 3]
    answer = await api.json(await three.with_raw_response.update_metadata(read_only=False))
    assert not answer.get("read_only")
    assert (await three.metadata()).read_only is None
    await three.write(deletes=[1])
    assert ids(await three.query(rank_by=("id", "asc"), limit=9)) == [2, 3]


async def test_pinning_is_set_kept_and_taken_away(api, three):
    async def change(**fields):
        answer = await api.json(await three.with_raw_response.update_metadata(**fields))
        pinning = (await three.metadata()).pinning
        assert (answer.get("pinning") or {}).get("replicas") == (pinning.replicas if pinning else None)
        return pinning and pinning.replicas

    assert await change(pinning=True) == 1
    assert await change(pinning={"replicas": 2}) == 2
    # A missing field changes nothing.
    assert await change(read_only=False) == 2
    assert await change(pinning=None) is None
    assert await change(pinning={"replicas": 1}) == 1
    assert await change(pinning=False) is None
    with pytest.raises(turbopuffer.NotFoundError):
        await api.namespace().with_raw_response.update_metadata(pinning=True)


async def test_explain_query_answers_a_plan(three):
    for query in (
        {"rank_by": ("vector", "ANN", [0.1, 0.1]), "limit": 2, "filters": ("n", "Gt", 1)},
        {"rank_by": ("id", "asc"), "limit": 2},
        {"aggregate_by": {"n": ("Count",)}},
    ):
        plan = (await three.explain_query(**query)).plan_text
        assert isinstance(plan, str) and plan.strip()
    with pytest.raises(turbopuffer.BadRequestError):
        await three.explain_query(rank_by=("absent", "asc"), limit=1)


async def test_recall_of_an_exact_namespace_is_one(three):
    answer = await three.recall(num=1, top_k=2)
    assert (answer.avg_recall, answer.avg_exhaustive_count, answer.avg_ann_count) == (1.0, 2.0, 2.0)
    assert answer.ground_truth is None
    # Without arguments the body is empty; three rows cannot give ten neighbours.
    answer = await three.recall()
    assert (answer.avg_recall, answer.avg_exhaustive_count, answer.avg_ann_count) == (1.0, 3.0, 3.0)


async def test_recall_shows_its_ground_truth_and_obeys_filters_and_a_given_query(three):
    answer = await three.recall(num=1, top_k=2, rank_by=("vector", "ANN", [0.3, 0.3]), include_ground_truth=True)
    [truth] = answer.ground_truth
    assert truth.query_vector == pytest.approx([0.3, 0.3])
    assert [row.id for row in truth.nearest_neighbors] == [3, 2]
    assert truth.nearest_neighbors[0]["$dist"] == 0.0
    assert truth.nearest_neighbors[0].vector == pytest.approx([0.3, 0.3])
    answer = await three.recall(num=2, top_k=3, filters=("id", "Lte", 2), include_ground_truth=True)
    assert answer.avg_ann_count == 2.0 and len(answer.ground_truth) == 2
    assert all({row.id for row in truth.nearest_neighbors} == {1, 2} for truth in answer.ground_truth)


async def test_a_dropped_attribute_is_gone_and_its_name_is_free(three):
    schema = await three.update_schema(schema={"title": {"drop": True}})
    assert set(schema) == {"id", "vector", "n"}
    assert without_dist(await three.query(rank_by=("id", "asc"), limit=1, include_attributes=True)) == [
        {"id": 1, "vector": [0.1, 0.1], "n": 1}
    ]
    with pytest.raises(turbopuffer.BadRequestError):
        await three.query(rank_by=("id", "asc"), limit=1, filters=("title", "Eq", "one"))
    await three.write(patch_rows=[{"id": 1, "title": 7}])
    assert (await three.schema())["title"].type == "int"
    rows = without_dist(await three.query(rank_by=("id", "asc"), limit=9, include_attributes=["title"]))
    assert rows == [{"id": 1, "title": 7}, {"id": 2}, {"id": 3}]


async def test_switches_of_an_attribute_are_shown_only_when_on(api, three):
    after = await api.json(
        await three.with_raw_response.update_schema(
            schema={
                "title": {"type": "string", "regex": True, "glob": True, "fuzzy": True},
                "path": {"type": "string", "glob": True},
            }
        )
    )
    title = after["title"]
    assert (title["type"], title["regex"], title["glob"], title["fuzzy"]) == ("string", True, True, True)
    assert after["path"] == {"type": "string", "filterable": False, "full_text_search": None, "glob": True}
    assert after["n"] == {"type": "int", "filterable": True, "full_text_search": None}
    assert ids(await three.query(rank_by=("id", "asc"), limit=9, filters=("title", "Regex", "^t"))) == [2, 3]
    after = await api.json(
        await three.with_raw_response.update_schema(schema={"title": {"type": "string", "regex": False}})
    )
    assert "regex" not in after["title"] and after["title"]["glob"] is True
    with pytest.raises(turbopuffer.BadRequestError):
        await three.query(rank_by=("id", "asc"), limit=9, filters=("title", "Regex", "^t"))


async def test_full_text_search_is_reconfigured_and_switched_off(three):
    async def found(text):
        return ids(await three.query(rank_by=("title", "BM25", text), limit=9))

    await three.write(upsert_rows=[{"id": 4, "vector": [0.4, 0.4], "title": "Jumping"}])
    await three.update_schema(schema={"title": {"type": "string", "full_text_search": True}})
    assert await found("jumping") == [4] and await found("jumps") == []
    await three.update_schema(schema={"title": {"type": "string", "full_text_search": {"stemming": True}}})
    assert await found("jumps") == [4]
    await three.update_schema(schema={"title": {"type": "string", "full_text_search": {"case_sensitive": True}}})
    assert await found("jumping") == [] and await found("Jumping") == [4]
    off = await three.update_schema(schema={"title": {"type": "string", "full_text_search": False}})
    assert not off["title"].full_text_search
    with pytest.raises(turbopuffer.BadRequestError):
        await found("jumping")


async def test_sharding_is_chosen_with_the_first_write(api):
    ns = api.namespace()
    await ns.write(upsert_rows=[{"id": i, "n": i} for i in range(20)], sharding={"num_shards": 4})
    assert (await ns.metadata()).sharding.num_shards == 4
    await ns.write(upsert_rows=[{"id": 20, "n": 20}], sharding={"num_shards": 4})
    assert ids(await ns.query(rank_by=("n", "desc"), limit=99)) == list(range(20, -1, -1))
    for changed in (8, 1):
        with pytest.raises(turbopuffer.BadRequestError):
            await ns.write(upsert_rows=[{"id": 21, "n": 21}], sharding={"num_shards": changed})
    with pytest.raises(turbopuffer.BadRequestError):
        await api.namespace().branch_from(source_namespace=ns.id)
    with pytest.raises(turbopuffer.APIStatusError):
        await api.namespace().write(upsert_rows=[{"id": 1}], sharding={"num_shards": 257})


async def test_what_needs_a_model_is_refused_with_a_reason(three):
    with pytest.raises(turbopuffer.BadRequestError) as refused:
        await three.query(rank_by=("vector", "ANN", ("Embed", "some text", {"model": "no/such-model"})), limit=1)
    assert refused.value.body["error"]
    with pytest.raises(turbopuffer.BadRequestError) as refused:
        await three.query(
            rank_by=("id", "asc"),
            limit=3,
            include_attributes=["title"],
            extra_body={"rerank_by": {"model": "no/such-model", "attribute": "title", "query": "one"}},
        )
    assert refused.value.body["error"]


async def test_every_call_on_a_missing_namespace_is_not_found(ns):
    calls = [
        lambda: ns.explain_query(rank_by=("id", "asc"), limit=1),
        lambda: ns.recall(),
        lambda: ns.update_metadata(read_only=True),
        lambda: ns.update_schema(schema={"a": "int"}),
        lambda: ns.write(patch_by_filter={"filters": ("id", "Eq", 1), "patch": {"a": 1}}, create_namespace=False),
    ]
    for call in calls:
        with pytest.raises(turbopuffer.NotFoundError, match=says(ns.id)):
            await call()
