"""Filters on text: tokens, phrases, patterns, regular expressions, and search with typing errors."""

from __future__ import annotations

import pytest
import turbopuffer
from conftest import ids

pytestmark = pytest.mark.anyio

ROWS = [
    {"id": 1, "body": "Walruses are large marine mammals", "path": "/vendor/lib/a.ts", "city": "Lübeck Port", "tags": ["alpha", "beta"]},
    {"id": 2, "body": "the mammal that lives in marine waters", "path": "/src/App.tsx", "city": "lubeck", "tags": ["gamma"]},
    {"id": 3, "body": "a marine and large ship", "path": "/src/b.ts", "city": "Hamburg", "tags": []},
    {"id": 4, "path": "readme", "tags": ["ALPHA"]},
]
SCHEMA = {
    "body": {"type": "string", "full_text_search": {"stemming": True}},
    "path": {"type": "string", "glob": True, "regex": True},
    "city": {"type": "string", "fuzzy": True},
    "tags": {"type": "[]string", "filterable": True},
    "tokens": {"type": "[]string", "full_text_search": {"tokenizer": "pre_tokenized_array"}},
}
PREFIX = {"last_as_prefix": True}
ONE = {"max_edit_distance": [{"min_query_chars": 6, "distance": 1}]}
UP_TO_TWO = {"max_edit_distance": [{"min_query_chars": 6, "distance": 1}, {"min_query_chars": 11, "distance": 2}], "case_sensitive": False}

CASES = [
    # Tokens are analysed like the text: "mammal" is found in "mammals".
    (("body", "ContainsAllTokens", "marine mammals"), [1, 2]),
    (("body", "ContainsAllTokens", "LARGE marine"), [1, 3]),
    (("body", "ContainsAllTokens", ["large", "mammal"]), [1]),
    (("body", "ContainsAllTokens", "large wat", PREFIX), []),
    (("body", "ContainsAllTokens", "marine wat", PREFIX), [2]),
    (("body", "ContainsAnyToken", "walrus ship"), [1, 3]),
    (("body", "ContainsAnyToken", ["walrus", "ship"]), [1, 3]),
    (("body", "ContainsAnyToken", "ship wat", PREFIX), [2, 3]),
    (("body", "ContainsTokenSequence", "marine mammal"), [1]),
    (("body", "ContainsTokenSequence", "large marine mammals"), [1]),
    (("body", "ContainsTokenSequence", "large mammals"), []),
    (("body", "ContainsTokenSequence", ["marine", "waters"]), [2]),
    (("Not", ("body", "ContainsAllTokens", "marine")), [4]),
    (("tokens", "ContainsAllTokens", ["Exact token"]), [3]),
    (("tokens", "ContainsAnyToken", ["exact token", "other"]), [3]),
    # Patterns match the whole value.
    (("path", "Glob", "/vendor/**"), [1]),
    (("path", "Glob", "**.tsx"), [2]),
    (("path", "Glob", "/src/*.{ts,tsx}"), [2, 3]),
    (("path", "Glob", "/src/[a-c].ts"), [3]),
    (("path", "Glob", "/src/[!a]*.ts"), [3]),
    (("path", "Glob", "/src/?.ts"), [3]),
    (("path", "Glob", "READ*"), []),
    (("path", "IGlob", "READ*"), [4]),
    (("path", "NotGlob", "/src/**"), [1, 4]),
    (("path", "NotIGlob", "/SRC/**"), [1, 4]),
    (("tags", "Glob", "al*"), [1]),
    (("tags", "IGlob", "al*"), [1, 4]),
    # Regular expressions match anywhere.
    (("path", "Regex", r"^/(src|vendor)/"), [1, 2, 3]),
    (("path", "Regex", r"\.tsx?$"), [1, 2, 3]),
    (("path", "Regex", r"(?i)app"), [2]),
    (("path", "Regex", r"^src"), []),
    # Within a distance of some part of the value.
    (("city", "Fuzzy", "lubeck", ONE), [2]),
    (("city", "Fuzzy", "lubeek", ONE), [2]),
    (("city", "Fuzzy", "Lubeck", ONE), [1, 2]),
    (("city", "Fuzzy", "lubec", ONE), []),
    (("city", "Fuzzy", "hamburg", {**ONE, "case_sensitive": False}), [3]),
    (("city", "Fuzzy", "lubeck port", UP_TO_TWO), [1]),
    (("city", "Fuzzy", "lubek porr", UP_TO_TWO), []),
]


@pytest.fixture
async def rows(ns):
    rows = [dict(row) for row in ROWS]
    rows[2]["tokens"] = ["Exact token", "other"]
    await ns.write(upsert_rows=rows, schema=SCHEMA)
    return ns


async def test_every_operator_on_text_matches_exactly_the_right_rows(rows):
    wrong = []
    for filters, expected in CASES:
        try:
            got = ids(await rows.query(rank_by=("id", "asc"), limit=100, filters=filters))
        except turbopuffer.APIError as error:
            got = error
        if got != expected:
            wrong.append(f"{filters!r}: expected {expected}, got {got}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "filters",
    [
        ("tags", "Regex", "a"),
        ("city", "Regex", "a"),
        ("path", "Regex", "("),
        ("path", "Regex", "(?=look)"),
        ("path", "Fuzzy", "readme", ONE),
        ("city", "Fuzzy", "lubeck"),
        ("city", "Fuzzy", "lubeck", {"max_edit_distance": [{"min_query_chars": 5, "distance": 1}]}),
        ("path", "ContainsAllTokens", "src"),
        ("tokens", "ContainsAllTokens", "Exact token"),
        ("path", "Glob", "["),
    ],
)
async def test_what_an_attribute_does_not_permit_is_refused(rows, filters):
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await rows.query(rank_by=("id", "asc"), limit=10, filters=filters)


async def test_elements_of_arrays_are_compared(ns):
    await ns.write(
        upsert_rows=[
            {"id": 1, "ns": [1, 10], "ats": ["2024-01-01"], "fs": [0.5]},
            {"id": 2, "ns": [5], "ats": ["2024-03-01", "2020-01-01"], "fs": [1.5, 2.5]},
            {"id": 3, "ns": [], "fs": []},
            {"id": 4},
        ],
        schema={"ns": "[]int", "ats": "[]datetime", "fs": "[]float"},
    )
    cases = [
        (("ns", "AnyLt", 5), [1]),
        (("ns", "AnyLte", 5), [1, 2]),
        (("ns", "AnyGt", 5), [1]),
        (("ns", "AnyGte", 5), [1, 2]),
        (("ns", "AnyGt", 10), []),
        (("fs", "AnyGt", 1), [2]),
        (("ats", "AnyLt", "2024-01-01T00:00:00Z"), [2]),
        (("ats", "AnyGte", "2024-01-01T00:00:00Z"), [1, 2]),
    ]
    for filters, expected in cases:
        assert ids(await ns.query(rank_by=("id", "asc"), limit=9, filters=filters)) == expected, filters
