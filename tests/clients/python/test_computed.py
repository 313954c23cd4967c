"""Computed attributes, highlighting, fused queries, and the unusual kinds of vectors."""

from __future__ import annotations

import base64
import struct

import pytest
import turbopuffer
from conftest import ids, plain

pytestmark = pytest.mark.anyio


@pytest.fixture
async def articles(ns):
    await ns.write(
        upsert_rows=[
            {"id": 1, "vector": [1.0, 0.0], "u": 4, "body": "The otter sleeps. A puffer swims by. Nothing else happens."},
            {"id": 2, "vector": [0.0, 2.0], "u": 1, "body": "Puffers eat. Every puffer fears the otter."},
            {"id": 3, "vector": [3.0, 4.0], "u": 9, "body": "Snow."},
        ],
        distance_metric="euclidean_squared",
        schema={"u": "uint", "body": {"type": "string", "full_text_search": {"stemming": True}}},
    )
    return ns


async def computed(ns, name, expression, **query):
    answer = await ns.query(compute_attributes={name: expression}, **query)
    return {row.id: plain(row).get(name) for row in answer.rows}


async def test_distances_filters_and_scores_are_computed(articles):
    in_order = {"rank_by": ("id", "asc"), "limit": 9}
    assert await computed(articles, "d", ("vector", "VectorDist", [0.0, 0.0]), **in_order) == {1: 1.0, 2: 4.0, 3: 25.0}
    assert await computed(articles, "big", ("u", "Gte", 4), **in_order) == {1: True, 2: False, 3: True}
    saturated = await computed(articles, "s", ("Saturate", ("Attribute", "u"), {"midpoint": 1}), **in_order)
    assert saturated == pytest.approx({1: 0.8, 2: 0.5, 3: 0.9})
    # The same number as the ranking by it gives.
    text = ("body", "BM25", "puffer")
    answer = await articles.query(rank_by=text, limit=9, compute_attributes={"score": text, "near": ("vector", "VectorDist", [0.0, 2.0])})
    assert set(ids(answer)) == {1, 2}
    assert all(row["score"] == pytest.approx(row["$dist"]) for row in answer.rows)
    assert {row.id: row["near"] for row in answer.rows} == {1: 5.0, 2: 0.0}
    # A row has its id, its score, and what was computed.
    assert set(plain(answer.rows[0])) == {"id", "$dist", "score", "near"}


async def test_highlights_of_the_query(articles):
    puffer = {"rank_by": ("body", "BM25", "puffer"), "limit": 9}
    whole = await computed(articles, "h", ("Highlight", "body", {"fragment_by": "none", "include_offsets": "utf-8"}), **puffer)
    assert {i: [(part["text"], part["fragment_range"], part["match_ranges"]) for part in parts] for i, parts in whole.items()} == {
        1: [("The otter sleeps. A puffer swims by. Nothing else happens.", [0, 58], [[20, 26]])],
        2: [("Puffers eat. Every puffer fears the otter.", [0, 42], [[0, 7], [19, 25]])],
    }
    sentences = await computed(articles, "h", ("Highlight", "body"), **puffer)
    assert [part["text"].strip() for part in sentences[1]][0] == "A puffer swims by."
    assert sorted(part["text"].strip() for part in sentences[2]) == ["Every puffer fears the otter.", "Puffers eat."]
    # Without offsets a part is its text alone.
    assert all(set(part) == {"text"} for parts in sentences.values() for part in parts)
    one = await computed(articles, "h", ("Highlight", "body", {"fragment_limit": 1}), **puffer)
    assert [len(parts) for parts in one.values()] == [1, 1]


async def test_fragments_are_ranked_by_their_own_query_when_the_ranking_has_no_text(articles):
    config = {"rank_fragments_by": ("$fragment", "BM25", "otter"), "fragment_limit": 1}
    nearest = {"rank_by": ("vector", "ANN", [0.0, 2.0]), "limit": 2}
    parts = await computed(articles, "h", ("Highlight", "body", config), **nearest)
    assert {i: [part["text"].strip() for part in found] for i, found in parts.items()} == {
        2: ["Every puffer fears the otter."],
        1: ["The otter sleeps."],
    }
    with pytest.raises(turbopuffer.BadRequestError):
        await articles.query(**nearest, compute_attributes={"h": ("Highlight", "body")})


async def test_offsets_in_each_unit(ns):
    await ns.write(
        upsert_rows=[{"id": 1, "body": "é🐡 puffer"}], schema={"body": {"type": "string", "full_text_search": True}}
    )
    # Two bytes and four, one unit and two, one character and one; then a space.
    for unit, start in (("utf-8", 7), ("utf-16", 4), ("codepoints", 3)):
        expression = ("Highlight", "body", {"fragment_by": "none", "include_offsets": unit})
        [part] = (await computed(ns, "h", expression, rank_by=("body", "BM25", "puffer"), limit=1))[1]
        assert part["match_ranges"] == [[start, start + 6]], unit
        assert part["fragment_range"] == [0, start + 6], unit


@pytest.mark.parametrize(
    "expression",
    [
        ("Highlight", "absent"),
        ("Highlight", "u"),
        ("Highlight", "body", {"fragment_by": "page"}),
        ("Highlight", "body", {"fragment_limit": 1025}),
        ("vector", "VectorDist", [1.0]),
        ("u", "VectorDist", [1.0, 2.0]),
        ("Nope", "body"),
    ],
)
async def test_malformed_computations_are_refused(articles, expression):
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await articles.query(rank_by=("body", "BM25", "puffer"), limit=1, compute_attributes={"x": expression})


@pytest.fixture
async def points(ns):
    await ns.write(
        upsert_rows=[
            {"id": 7, "vector": [0.7, 0.7], "name": "seven"},
            {"id": 10, "vector": [1.0, 1.0], "name": "ten"},
            {"id": 15, "vector": [1.5, 1.5], "name": "fifteen"},
            {"id": 16, "vector": [1.5, 1.5], "name": "sixteen"},
            {"id": 20, "vector": [2.0, 2.0], "name": "twenty"},
        ],
        distance_metric="euclidean_squared",
    )
    return ns


# The first list is 7, 10, 15; the second 20, 16, 15.
LISTS = [
    {"rank_by": ("vector", "ANN", [0.8, 0.7]), "limit": 3, "include_attributes": ["name"]},
    {"rank_by": ("id", "desc"), "limit": 3, "include_attributes": ["name"]},
]


async def test_lists_are_fused_by_reciprocal_rank(points):
    answer = await points.multi_query(queries=LISTS, rerank_by=("RRF",), limit=10)
    [fused] = answer.results
    expected = [(15, 2 / 63), (7, 1 / 61), (20, 1 / 61), (10, 1 / 62), (16, 1 / 62)]
    assert ids(fused) == [i for i, _ in expected]
    assert [row["$dist"] for row in fused.rows] == pytest.approx([score for _, score in expected], rel=1e-6)
    assert [row["name"] for row in fused.rows] == ["fifteen", "seven", "twenty", "ten", "sixteen"]


async def test_fusion_takes_a_constant_weights_a_limit_and_an_offset(points):
    params = {"rank_constant": 1, "weights": [1, 0.5]}
    answer = await points.multi_query(queries=LISTS, rerank_by=("RRF", params), limit=10)
    [fused] = answer.results
    expected = [(7, 1 / 2), (15, 1.5 / 4), (10, 1 / 3), (20, 0.5 / 2), (16, 0.5 / 3)]
    assert ids(fused) == [i for i, _ in expected]
    assert [row["$dist"] for row in fused.rows] == pytest.approx([score for _, score in expected], rel=1e-6)
    answer = await points.multi_query(queries=LISTS, rerank_by=("RRF", params), limit={"total": 2}, offset=1)
    assert ids(answer.results[0]) == [15, 10]


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 3},
        {"offset": 1},
        {"rerank_by": ("RRF", {"weights": [1]}), "limit": 3},
        {"rerank_by": ("RRF", {"weights": [1, -1]}), "limit": 3},
        {"rerank_by": ("Nope",), "limit": 3},
    ],
)
async def test_malformed_fusions_are_refused(points, options):
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await points.multi_query(queries=LISTS, **options)
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await points.multi_query(queries=LISTS[:1], rerank_by=("RRF",), limit=3)


async def test_sparse_vectors(api, ns):
    sparse = {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}}
    await ns.write(
        upsert_rows=[
            {"id": 1, "terms": {"12": 1.0, "otter": 2.0}},
            {"id": 2, "terms": {"otter": 0.5}, "n": 1},
            {"id": 3, "terms": {"snow": 1.25}, "n": 1},
            {"id": 4},
        ],
        schema={"terms": sparse, "n": "int"},
    )
    answer = await ns.query(rank_by=("terms", "SparseKNN", {"12": 1.0, "otter": 0.5, "unseen": 3.0}), limit=2, include_attributes=["terms"])
    assert [(row.id, row["$dist"], row["terms"]) for row in answer.rows] == [
        (1, 2.0, {"12": 1.0, "otter": 2.0}),
        (2, 0.25, {"otter": 0.5}),
    ]
    mixed = ("Sum", (("terms", "SparseKNN", {"otter": 1.0}), ("Product", 10, ("n", "Eq", 1))))
    answer = await ns.query(rank_by=mixed, limit=9)
    assert [(row.id, row["$dist"]) for row in answer.rows] == [(2, 10.5), (3, 10.0), (1, 2.0)]
    entry = (await api.json(await ns.with_raw_response.schema()))["terms"]
    assert entry["type"] == "{}f16" and entry["sparse_knn"] == {"distance_metric": "dot_product"}
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.query(rank_by=("id", "asc"), limit=1, filters=("terms", "Eq", 1))
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await ns.write(upsert_rows=[{"id": 5, "terms": {"a": "heavy"}}])


async def test_late_interaction(ns):
    await ns.write(
        upsert_rows=[
            {"id": 1, "pages": [[1.0, 0.0], [0.0, 1.0]]},
            {"id": 2, "pages": [[-1.0, 0.0]]},
            {"id": 3, "pages": [[0.6, 0.8], [0.0, -1.0]]},
        ],
        schema={"pages": {"type": "[][2]f32", "ann": {"distance_metric": "cosine_distance", "late_interaction": True}}},
    )
    answer = await ns.query(rank_by=("pages", "ANN", [[1.0, 0.0], [0.0, 1.0]]), limit=3, include_attributes=["pages"])
    assert ids(answer) == [1, 3, 2]
    dists = [row["$dist"] for row in answer.rows]
    assert dists == sorted(dists)
    assert answer.rows[1]["pages"] == [[0.6, 0.8], [0.0, -1.0]]
    exact = await ns.query(rank_by=("pages", "kNN", [[0.0, -1.0]]), filters=("id", "Gte", 1), limit=1)
    assert ids(exact) == [3]


async def test_vectors_leave_as_base64_of_their_own_type(ns):
    await ns.write(
        upsert_rows=[{"id": 1, "vector": [1.0, -2.0], "half": [0.5, 4.0], "byte": [5, -6]}],
        schema={
            "vector": {"type": "[2]f32", "ann": {"distance_metric": "cosine_distance"}},
            "half": {"type": "[2]f16", "ann": {"distance_metric": "cosine_distance"}},
            "byte": {"type": "[2]i8", "ann": {"distance_metric": "euclidean_squared"}},
        },
    )
    answer = await ns.query(rank_by=("id", "asc"), limit=1, include_attributes=True, vector_encoding="base64")
    row = plain(answer.rows[0])
    assert struct.unpack("<2f", base64.b64decode(row["vector"])) == (1.0, -2.0)
    assert struct.unpack("<2e", base64.b64decode(row["half"])) == (0.5, 4.0)
    assert struct.unpack("<2b", base64.b64decode(row["byte"])) == (5, -6)
    answer = await ns.query(rank_by=("byte", "ANN", [5, -5]), limit=1)
    assert answer.rows[0]["$dist"] == 1.0
