"""Full-text search: the orders that the official test-suites pin down, and the analysers around them."""

from __future__ import annotations

import math

import pytest
import turbopuffer
from conftest import ids, plain

pytestmark = pytest.mark.anyio

ENGLISH = {
    "type": "string",
    "full_text_search": {"language": "english", "stemming": True, "remove_stopwords": True, "case_sensitive": False},
}


@pytest.fixture
async def foxes(ns):
    await ns.write(
        upsert_rows=[
            {"id": 1, "vector": [0.1, 0.1], "blabla": "the fox is quick and brown"},
            {"id": 2, "vector": [0.2, 0.2], "blabla": "fox jumped over the lazy dog"},
            {"id": 3, "vector": [0.3, 0.3], "blabla": "the dog is lazy and brown"},
            {"id": 4, "vector": [0.4, 0.4], "blabla": "the dog is a fox"},
        ],
        distance_metric="euclidean_squared",
        schema={"blabla": ENGLISH},
    )
    return ns


async def test_stemmed_terms_are_found_best_first(foxes):
    answer = await foxes.query(rank_by=("blabla", "BM25", "jumping"), top_k=10)
    assert ids(answer) == [2]
    answer = await foxes.query(rank_by=("blabla", "BM25", "fox jumping"), top_k=10, filters=("id", "Lte", 3))
    assert ids(answer) == [2, 1]
    scores = [row["$dist"] for row in answer.rows]
    assert scores[0] > scores[1] > 0


async def test_rows_that_match_nothing_are_left_out(foxes):
    assert ids(await foxes.query(rank_by=("blabla", "BM25", "walrus"), top_k=10)) == []
    # Stop words are not searched for.
    assert ids(await foxes.query(rank_by=("blabla", "BM25", "the and is"), top_k=10)) == []


async def test_later_writes_patches_and_deletes_are_searched(foxes):
    await foxes.write(upsert_rows=[{"id": 7, "vector": [0.5, 0.5], "blabla": "walruses can live up to 40 years"}])
    assert ids(await foxes.query(rank_by=("blabla", "BM25", "walrus"), top_k=10)) == [7]
    await foxes.write(patch_rows=[{"id": 7, "blabla": "a puffer fish"}])
    assert ids(await foxes.query(rank_by=("blabla", "BM25", "walrus"), top_k=10)) == []
    assert ids(await foxes.query(rank_by=("blabla", "BM25", "puffers"), top_k=10)) == [7]
    await foxes.write(deletes=[7])
    assert ids(await foxes.query(rank_by=("blabla", "BM25", "puffers"), top_k=10)) == []


async def test_short_texts_with_all_terms_come_before_long_ones(ns):
    await ns.write(
        upsert_rows=[
            {"id": 8, "body": "row based upsert"},
            {"id": 9, "body": "an upsert may be column based, but it may also be based on one row after the other row"},
            {"id": 10, "body": "nothing of the kind"},
        ],
        schema={"body": ENGLISH},
    )
    assert ids(await ns.query(rank_by=("body", "BM25", "row based upsert"), top_k=10)) == [8, 9]


async def test_an_attribute_with_full_text_search_is_not_filterable_unless_asked(foxes):
    with pytest.raises(turbopuffer.BadRequestError):
        await foxes.query(rank_by=("id", "asc"), limit=9, filters=("blabla", "Eq", "x"))
    await foxes.update_schema(schema={"blabla": {**ENGLISH, "filterable": True}})
    answer = await foxes.query(rank_by=("id", "asc"), limit=9, filters=("blabla", "Eq", "the dog is a fox"))
    assert ids(answer) == [4]


async def test_an_attribute_without_full_text_search_cannot_be_ranked_by_text(ns):
    await ns.write(upsert_rows=[{"id": 1, "title": "plain"}])
    with pytest.raises(turbopuffer.BadRequestError, match="title"):
        await ns.query(rank_by=("title", "BM25", "plain"), top_k=1)
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.query(rank_by=("absent", "BM25", "plain"), top_k=1)


async def test_full_text_search_can_be_switched_on_for_stored_rows(ns):
    await ns.write(upsert_rows=[{"id": 1, "title": "plain sailing"}, {"id": 2, "title": "stormy sea"}])
    schema = await ns.update_schema(schema={"title": {"type": "string", "full_text_search": True}})
    assert schema["title"].full_text_search.tokenizer == "word_v4"
    assert ids(await ns.query(rank_by=("title", "BM25", "sailing"), top_k=5)) == [1]


async def test_pre_tokenized_arrays_are_matched_token_by_token(ns):
    await ns.write(
        upsert_rows=[
            {"id": 1, "content": ["jumped", "over", "the", "lazy dog"]},
            {"id": 2, "content": ["Jumped", "the", "lazy"]},
            {"id": 3, "content": []},
        ],
        schema={"content": {"type": "[]string", "full_text_search": {"tokenizer": "pre_tokenized_array"}}},
    )
    assert ids(await ns.query(rank_by=("content", "BM25", ["jumped"]), top_k=10)) == [1]
    # Equally rare terms: the shorter row scores higher.
    assert ids(await ns.query(rank_by=("content", "BM25", ["Jumped", "lazy dog"]), top_k=10)) == [2, 1]
    assert ids(await ns.query(rank_by=("content", "BM25", ["dog"]), top_k=10)) == []
    with pytest.raises(
        turbopuffer.APIError, match=r'invalid input .* for rank_by field "content", expecting \[\]string'
    ):
        await ns.query(rank_by=("content", "BM25", "jumped"), top_k=10)


async def test_scores_are_okapi_bm25_with_the_attributes_parameters(ns):
    k1, b, k3 = 2.0, 0.5, 4.0
    texts = {1: ["x", "x", "y"], 2: ["x"], 3: ["y", "z", "z", "z", "z"], 4: ["z"]}
    await ns.write(
        upsert_rows=[{"id": i, "t": t} for i, t in texts.items()],
        schema={
            "t": {"type": "[]string", "full_text_search": {"tokenizer": "pre_tokenized_array", "k1": k1, "b": b, "k3": k3}}
        },
    )
    answer = await ns.query(rank_by=("t", "BM25", ["x", "x", "y"]), top_k=10)

    def idf(term):
        df = sum(term in t for t in texts.values())
        return math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))

    average = sum(map(len, texts.values())) / len(texts)

    def score(tokens):
        total = 0.0
        for term, qf in {"x": 2, "y": 1}.items():
            tf = tokens.count(term)
            saturation = tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(tokens) / average))
            total += idf(term) * saturation * qf * (k3 + 1) / (qf + k3)
        return total

    expected = {i: score(t) for i, t in texts.items() if score(t) > 0}
    assert ids(answer) == sorted(expected, key=lambda i: (-expected[i], i))
    for row in answer.rows:
        assert row["$dist"] == pytest.approx(expected[row.id], rel=1e-5)


async def test_text_and_filters_together(foxes):
    answer = await foxes.query(
        rank_by=("blabla", "BM25", "fox"), top_k=10, filters=("id", "In", [1, 3]), include_attributes=["blabla"]
    )
    assert [(row.id, row["blabla"]) for row in answer.rows] == [(1, "the fox is quick and brown")]
    assert set(plain(answer.rows[0])) == {"id", "$dist", "blabla"}
