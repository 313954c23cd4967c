"""Ranking expressions: each form, the number it gives, and the rows it leaves out."""

from __future__ import annotations

import pytest
import turbopuffer
from conftest import ids, says

pytestmark = pytest.mark.anyio

ROWS = [
    {"id": 1, "u": 5, "f": -1.5, "tag": "x", "at": "2024-01-01T12:00:00Z", "text": "puffer fish"},
    {"id": 2, "u": 3, "f": 0.0, "tag": "y", "at": "2024-01-01T06:00:00Z", "text": "puma in the snow"},
    {"id": 3, "u": 9, "f": 2.5, "tag": "x", "at": "2024-01-02T12:00:00Z", "text": "otter and puffer"},
    {"id": 4, "u": 0, "f": 4.0, "tag": "y", "at": "2023-12-26T12:00:00Z", "text": "nothing"},
]
SCHEMA = {"u": "uint", "f": "float", "at": "datetime", "text": {"type": "string", "full_text_search": True}}


@pytest.fixture
async def rows(ns):
    await ns.write(upsert_rows=ROWS, schema=SCHEMA)
    return ns


async def scores(ns, rank_by, **options):
    answer = await ns.query(rank_by=rank_by, limit=10, **options)
    return [(row.id, pytest.approx(row["$dist"], rel=1e-6)) for row in answer.rows]


U = ("Attribute", "u")
NOON = ("Dist", ("Attribute", "at"), "2024-01-01T12:00:00Z")

EXACT = [
    # An attribute ranks by its number, and its zero is a score like others.
    (U, [(3, 9), (1, 5), (2, 3), (4, 0)]),
    # x / (x + m), its square, and the complement.
    (("Saturate", U, {"midpoint": 3}), [(3, 0.75), (1, 0.625), (2, 0.5)]),
    (("Saturate", U, {"midpoint": 3, "exponent": 2}), [(3, 0.9), (1, 25 / 34), (2, 0.5)]),
    (("Decay", U, {"midpoint": 3}), [(4, 1), (2, 0.5), (1, 0.375), (3, 0.25)]),
    (("Decay", ("Dist", U, 5), {"midpoint": 2}), [(1, 1), (2, 0.5), (3, 1 / 3), (4, 2 / 7)]),
    (("Decay", ("Dist", U, 5), {"midpoint": 2, "exponent": 2}), [(1, 1), (2, 0.5), (3, 0.2), (4, 4 / 29)]),
    # Durations: six hours, a day, six days away.
    (("Decay", NOON, {"midpoint": "6h"}), [(1, 1), (2, 0.5), (3, 0.2), (4, 0.04)]),
    (("Decay", NOON, {"midpoint": "1d"}), [(1, 1), (2, 0.8), (3, 0.5), (4, 1 / 7)]),
    # A filter is worth one; a row that is worth nothing is left out.
    (("u", "Gte", 5), [(1, 1), (3, 1)]),
    (("tag", "Eq", "none"), []),
    (("Sum", (("u", "Gte", 5), ("tag", "Eq", "x"), ("f", "Gt", 0))), [(3, 3), (1, 2), (4, 1)]),
    (("Max", (("Product", 3, ("u", "Lt", 4)), ("Product", ("tag", "Eq", "x"), 2))), [(2, 3), (4, 3), (1, 2), (3, 2)]),
    (("Product", 0.5, ("Sum", (("tag", "Eq", "x"), ("Not", ("u", "Eq", 5))))), [(3, 1), (2, 0.5), (4, 0.5), (1, 0.5)]),
    (("Sum", (("Product", 2.5, ("tag", "Eq", "y")), ("Max", (("u", "Eq", 3), ("u", "Eq", 9))))), [(2, 3.5), (4, 2.5), (3, 1)]),
]


async def test_every_expression_gives_the_exact_score(rows):
    wrong = []
    for rank_by, expected in EXACT:
        # Equal scores by ascending id.
        expected = sorted(expected, key=lambda pair: (-pair[1], pair[0]))
        # Whether a saturated zero is a score or nothing is not known of the service.
        positive = {"filters": ("u", "Gt", 0)} if rank_by[0] == "Saturate" else {}
        answer = await rows.query(rank_by=rank_by, limit=10, **positive)
        got = [(row.id, row["$dist"]) for row in answer.rows]
        if [i for i, _ in got] != [i for i, _ in expected] or [s for _, s in got] != pytest.approx([s for _, s in expected], rel=1e-6):
            wrong.append(f"{rank_by!r}:\n  expected {expected}\n  got      {got}")
    assert not wrong, "\n".join(wrong)


async def test_both_orders_of_product_and_text_inside_it(rows):
    plain = await scores(rows, ("text", "BM25", "puffer"))
    assert [i for i, _ in plain] == [1, 3]
    for doubled in (("Product", 2, ("text", "BM25", "puffer")), ("Product", ("text", "BM25", "puffer"), 2)):
        answer = await rows.query(rank_by=doubled, limit=10)
        assert [(row.id, row["$dist"] / 2) for row in answer.rows] == plain
    boosted = await rows.query(rank_by=("Sum", (("text", "BM25", "puffer"), ("Product", 10, ("u", "Eq", 9)))), limit=10)
    assert ids(boosted) == [3, 1]
    assert boosted.rows[0]["$dist"] > 10


async def test_the_last_token_as_a_prefix_scores_one_flat(rows):
    answer = await rows.query(rank_by=("text", "BM25", "pu", {"last_as_prefix": True}), limit=10)
    assert [(row.id, row["$dist"]) for row in answer.rows] == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert ids(await rows.query(rank_by=("text", "BM25", "pu"), limit=10)) == []
    best = await rows.query(rank_by=("text", "BM25", "otter pu", {"last_as_prefix": True}), limit=10)
    assert ids(best) == [3, 1, 2]


async def test_filters_select_before_anything_is_scored(rows):
    answer = await rows.query(rank_by=U, limit=2, filters=("tag", "Eq", "y"))
    assert [(row.id, row["$dist"]) for row in answer.rows] == [(2, 3), (4, 0)]


async def test_the_orders_that_the_vendors_python_suite_pins_down(ns):
    english = {"type": "string", "full_text_search": {"language": "english", "stemming": True, "remove_stopwords": True}}
    await ns.write(
        upsert_rows=[
            {"id": 1, "vector": [0.1, 0.1], "blabla": "the fox is quick and brown"},
            {"id": 2, "vector": [0.2, 0.2], "blabla": "fox jumped over the lazy dog"},
            {"id": 3, "vector": [0.3, 0.3], "blabla": "the dog is lazy and brown"},
            {"id": 4, "vector": [0.4, 0.4], "blabla": "the walrus is slow and grey"},
        ],
        distance_metric="euclidean_squared",
        schema={"blabla": english},
    )
    assert ids(await ns.query(rank_by=("blabla", "BM25", "fox jumping"), top_k=10)) == [2, 1]
    # Written without the metric, which the namespace has by now.
    await ns.write(upsert_columns={"id": [7], "vector": [[0.7, 0.7]], "blabla": ["walruses can live up to 40 years"]})
    both = ("Sum", (("blabla", "BM25", "walrus slow"), ("blabla", "BM25", "jumping fox")))
    assert ids(await ns.query(rank_by=both, top_k=2)) == [4, 2]


async def test_several_keys_of_an_attribute_order(rows):
    assert ids(await rows.query(rank_by=(("tag", "asc"), ("u", "desc")), limit=10)) == [3, 1, 2, 4]
    assert ids(await rows.query(rank_by=[("tag", "desc"), ("f", "asc"), ("id", "asc")], limit=10)) == [2, 4, 1, 3]
    eight = [("tag", "asc")] * 7 + [("id", "desc")]
    assert ids(await rows.query(rank_by=eight, limit=10)) == [3, 1, 4, 2]
    with pytest.raises(turbopuffer.APIError):
        await rows.query(rank_by=[("tag", "asc")] * 9, limit=10)


async def test_offset_skips_and_needs_a_ranking(rows):
    assert ids(await rows.query(rank_by=("u", "desc"), limit=2, offset=1)) == [1, 2]
    assert ids(await rows.query(rank_by=U, limit=10, offset=3)) == [4]
    assert ids(await rows.query(rank_by=U, top_k=10, offset=4)) == []
    with pytest.raises(turbopuffer.APIError):
        await rows.query(filters=("u", "Gt", 0), limit=2, offset=1)


async def test_limit_per_caps_the_rows_of_each_value(ns):
    await ns.write(
        upsert_rows=[
            {"id": i, "vector": [float(i), 0.0], "shop": "ab"[i % 2], "color": "rgb"[i % 3], "text": "otter " * (7 - i)}
            for i in range(1, 7)
        ],
        distance_metric="euclidean_squared",
        schema={"text": {"type": "string", "full_text_search": True}},
    )

    async def under(per, rank_by, total=10):
        return ids(await ns.query(rank_by=rank_by, limit={"total": total, "per": per}))

    shop = {"attributes": ["shop"], "limit": 1}
    assert await under(shop, ("id", "asc")) == [1, 2]
    assert await under(shop, ("id", "desc")) == [6, 5]
    assert await under(shop, ("vector", "ANN", [3.0, 0.0])) == [3, 2]
    assert await under({"attributes": ["shop"], "limit": 2}, ("vector", "ANN", [6.0, 0.0])) == [6, 5, 4, 3]
    assert await under(shop, ("text", "BM25", "otter")) == [1, 2]
    assert await under({"attributes": ["color"], "limit": 1}, ("id", "asc")) == [1, 2, 3]
    assert await under({"attributes": ["color"], "limit": 1}, ("id", "asc"), total=2) == [1, 2]
    assert await under({"attributes": ["shop", "color"], "limit": 1}, ("id", "asc")) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "rank_by",
    [
        ("Sum", (("vector", "ANN", [1.0, 0.0]), ("u", "Gt", 1))),
        ("Sum", (("u", "asc"),)),
        ("Product", -1, ("u", "Gt", 1)),
        ("Attribute", "absent"),
        ("Attribute", "tag"),
        ("Decay", ("Attribute", "u"), {"midpoint": "soon"}),
        ("Nope", ("Attribute", "u")),
        ("tag", "sideways"),
        ("tag", "BM25", "x"),
    ],
)
async def test_malformed_rankings_are_refused(rows, rank_by):
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await rows.query(rank_by=rank_by, limit=10)


async def test_an_unknown_attribute_is_named(rows):
    with pytest.raises(turbopuffer.BadRequestError, match=says("attribute not found")):
        await rows.query(rank_by=("absent", "BM25", "x"), limit=10)
