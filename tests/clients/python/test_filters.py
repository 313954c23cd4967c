"""Filters: each operator on each kind of value, nulls, and the logic around them."""

from __future__ import annotations

import pytest
import turbopuffer
from conftest import ids, says

pytestmark = pytest.mark.anyio

UUIDS = [f"00000000-0000-4000-8000-00000000000{i}" for i in range(5)]

# Row 5 has nothing but its id: it shows what each operator makes of null.
ROWS = [
    {"id": 1, "i": -2, "f": 0.5, "s": "apple", "b": True, "d": UUIDS[1], "t": "2024-01-01", "tags": ["a", "b"], "ns": [1, 2]},
    {"id": 2, "i": 0, "f": 1.0, "s": "Banana", "b": False, "d": UUIDS[2], "t": "2024-02-01", "tags": ["b"], "ns": [4]},
    {"id": 3, "i": 7, "f": 1.5, "s": "cherry", "b": True, "d": UUIDS[3], "t": "2024-03-01", "tags": ["c", "a"], "ns": []},
    {"id": 4, "i": 7, "f": 2.5, "s": "äpfel", "b": False, "d": UUIDS[4], "t": "2024-04-01", "tags": [], "ns": [2, 3]},
    {"id": 5},
]
SCHEMA = {
    "i": "int",
    "f": "float",
    "s": "string",
    "b": "bool",
    "d": "uuid",
    "t": "datetime",
    "tags": "[]string",
    "ns": "[]int",
}


@pytest.fixture
async def rows(ns):
    await ns.write(upsert_rows=ROWS, schema=SCHEMA)
    return ns


CASES = [
    # Equality
    (("i", "Eq", 7), [3, 4]),
    (("i", "Eq", None), [5]),
    (("i", "NotEq", 7), [1, 2, 5]),
    (("i", "NotEq", None), [1, 2, 3, 4]),
    (("s", "Eq", "apple"), [1]),
    (("s", "Eq", "Apple"), []),
    (("b", "Eq", True), [1, 3]),
    (("b", "NotEq", True), [2, 4, 5]),
    (("f", "Eq", 1), [2]),
    (("d", "Eq", UUIDS[3]), [3]),
    (("t", "Eq", "2024-02-01T00:00:00Z"), [2]),
    (("tags", "Eq", ["a", "b"]), [1]),
    (("tags", "Eq", ["b", "a"]), []),
    (("tags", "Eq", []), [4]),
    (("tags", "NotEq", []), [1, 2, 3, 5]),
    # Sets
    (("i", "In", [0, 7]), [2, 3, 4]),
    (("i", "In", []), []),
    (("i", "NotIn", [0, 7]), [1, 5]),
    (("i", "NotIn", []), [1, 2, 3, 4, 5]),
    (("s", "In", ["apple", "Banana", "none"]), [1, 2]),
    (("id", "In", (1, 3, 99)), [1, 3]),
    (("id", "NotIn", [1, 3]), [2, 4, 5]),
    (("d", "In", [UUIDS[1], UUIDS[2]]), [1, 2]),
    # In on arrays: shares an element; a scalar stands for the list of it.
    (("tags", "In", "a"), [1, 3]),
    (("ns", "In", [2, 4]), [1, 2, 4]),
    (("ns", "NotIn", [2, 4]), [3, 5]),
    # Comparison. Null sorts before every value.
    (("i", "Lt", 7), [1, 2, 5]),
    (("i", "Lte", 0), [1, 2, 5]),
    (("i", "Gt", 0), [3, 4]),
    (("i", "Gte", 0), [2, 3, 4]),
    (("f", "Gt", 1), [3, 4]),
    (("f", "Gte", 1.5), [3, 4]),
    (("f", "Lt", 1.0), [1, 5]),
    (("s", "Gt", "apple"), [3, 4]),
    (("s", "Lt", "apple"), [2, 5]),
    (("t", "Gte", "2024-03-01T01:00:00+01:00"), [3, 4]),
    (("d", "Gt", UUIDS[2]), [3, 4]),
    (("id", "Gt", 3), [4, 5]),
    (("id", "Lte", 2), [1, 2]),
    # Arrays
    (("tags", "Contains", "a"), [1, 3]),
    (("tags", "NotContains", "a"), [2, 4, 5]),
    (("tags", "ContainsAny", ["b", "c"]), [1, 2, 3]),
    (("tags", "ContainsAny", []), []),
    (("tags", "NotContainsAny", ["b", "c"]), [4, 5]),
    (("ns", "Contains", 2), [1, 4]),
    (("ns", "ContainsAny", [1, 4]), [1, 2]),
    # Logic
    (("And", (("b", "Eq", True), ("i", "Gt", 0))), [3]),
    (("Or", (("i", "Eq", 0), ("s", "Eq", "apple"))), [1, 2]),
    (("And", ()), [1, 2, 3, 4, 5]),
    (("Or", ()), []),
    (("Not", ("b", "Eq", True)), [2, 4, 5]),
    (("Not", ("Not", ("b", "Eq", True))), [1, 3]),
    (("Not", ("i", "Gt", 0)), [1, 2, 5]),
    (("Not", ("And", (("b", "Eq", True), ("i", "Gt", 0)))), [1, 2, 4, 5]),
    (("And", (("Or", (("i", "Eq", -2), ("i", "Eq", 7))), ("Not", ("tags", "Contains", "c")))), [1, 4]),
]


async def test_every_operator_matches_exactly_the_right_rows(rows):
    # One test for all cases, so that the namespace is written once per client.
    wrong = []
    for filters, expected in CASES:
        got = ids(await rows.query(rank_by=("id", "asc"), limit=100, filters=filters))
        if got != expected:
            wrong.append(f"{filters!r}: expected {expected}, got {got}")
    assert not wrong, "\n".join(wrong)


async def test_a_filter_limits_nearest_neighbours_before_they_are_ranked(ns):
    await ns.write(
        upsert_columns={"id": list(range(100)), "vector": [[float(i), 1.0] for i in range(100)], "m": [i % 10 for i in range(100)]},
        distance_metric="euclidean_squared",
    )
    answer = await ns.query(rank_by=("vector", "ANN", [0.0, 1.0]), top_k=3, filters=("m", "Eq", 9))
    assert [(row.id, row["$dist"]) for row in answer.rows] == [(9, 81.0), (19, 361.0), (29, 841.0)]
    assert answer.performance.exhaustive_search_count == 100


async def test_string_ids_are_filtered_as_strings(ns):
    await ns.write(upsert_rows=[{"id": "a"}, {"id": "b"}, {"id": "c"}])
    assert ids(await ns.query(rank_by=("id", "asc"), limit=9, filters=("id", "In", ["a", "c", "x"]))) == ["a", "c"]
    assert ids(await ns.query(rank_by=("id", "asc"), limit=9, filters=("id", "Gt", "a"))) == ["b", "c"]


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        (("tags", "ContainsAny", "python"), "filter error in key `tags`: type mismatch, ContainsAny expects []string, but got "),
        (
            ("tags", "NotContainsAny", "python"),
            "filter error in key `tags`: type mismatch, NotContainsAny expects []string, but got ",
        ),
        (("tags", "Contains", ["a", "b"]), "filter error in key `tags`: type mismatch, Contains expects string, but got "),
        (
            ("tags", "NotContains", ["a", "b"]),
            "filter error in key `tags`: type mismatch, NotContains expects string, but got ",
        ),
        (("nope", "Eq", 1), "attribute not found"),
    ],
)
async def test_wrong_operands_are_explained(rows, filters, text):
    with pytest.raises(turbopuffer.BadRequestError, match=says(text)):
        await rows.query(rank_by=("id", "asc"), limit=10, filters=filters)


@pytest.mark.parametrize("filters", [("i", "Eq", "seven"), ("i", "Nope", 1), ("i",), ("And", ("i", "Eq", 1)), ("s", "Contains", "a")])
async def test_malformed_filters_are_refused(rows, filters):
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await rows.query(rank_by=("id", "asc"), limit=10, filters=filters)


async def test_an_attribute_that_is_not_filterable_cannot_be_filtered_by(ns):
    await ns.write(
        upsert_rows=[{"id": 1, "public": "x", "private": "y"}],
        schema={"private": {"type": "string", "filterable": False}},
    )
    assert ids(await ns.query(rank_by=("id", "asc"), limit=9, filters=("public", "Eq", "x"))) == [1]
    with pytest.raises(turbopuffer.BadRequestError, match="private"):
        await ns.query(rank_by=("id", "asc"), limit=9, filters=("private", "Eq", "y"))
