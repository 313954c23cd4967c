"""Every attribute type: what may be sent, what comes back, what is refused."""

from __future__ import annotations

import base64
import struct
from datetime import datetime, timezone

import numpy as np
import pytest
import turbopuffer
from conftest import ids, plain, without_dist
from turbopuffer.lib.vector import b64decode_vector, b64encode_vector

pytestmark = pytest.mark.anyio

UUID = "1f7ab9a2-9d5c-4b6e-8f00-0242ac120002"


async def stored(ns, **options):
    rows = without_dist(await ns.query(rank_by=("id", "asc"), limit=100, include_attributes=True, **options))
    return {row.pop("id"): row for row in rows}


async def test_types_are_inferred_from_the_first_value(ns):
    await ns.write(
        upsert_rows=[
            {
                "id": 1,
                "vector": [0.1, 0.2, 0.3],
                "text": "a",
                "whole": 5,
                "flag": False,
                "texts": ["a"],
                "wholes": [1, 2],
                "flags": [True],
            }
        ],
        distance_metric="cosine_distance",
    )
    schema = await ns.schema()
    assert {name: entry.type for name, entry in schema.items()} == {
        "id": "uint",
        "vector": "[3]f32",
        "text": "string",
        "whole": "int",
        "flag": "bool",
        "texts": "[]string",
        "wholes": "[]int",
        "flags": "[]bool",
    }


async def test_string_ids_are_strings_even_when_they_look_like_uuids(ns):
    await ns.write(upsert_rows=[{"id": UUID, "n": 1}])
    assert (await ns.schema())["id"].type == "string"


async def test_declared_uuid_ids_are_stored_in_lower_case(ns):
    await ns.write(upsert_rows=[{"id": UUID.upper(), "n": 1}], schema={"id": "uuid"})
    assert (await ns.schema())["id"].type == "uuid"
    assert ids(await ns.query(rank_by=("id", "asc"), limit=10)) == [UUID]
    assert ids(await ns.query(rank_by=("id", "asc"), limit=10, filters=("id", "Eq", UUID))) == [UUID]
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.write(upsert_rows=[{"id": "not-a-uuid", "n": 1}])


async def test_scalars_of_every_declared_type(ns):
    schema = {"s": "string", "i": "int", "u": "uint", "f": "float", "d": "uuid", "b": "bool"}
    row = {"s": "ünïcödé 🐡", "i": -(2**63), "u": 2**64 - 1, "f": 0.1, "d": UUID, "b": True}
    await ns.write(upsert_rows=[{"id": 1, **row}, {"id": 2, "d": UUID.upper(), "f": 3}], schema=schema)
    rows = await stored(ns)
    assert rows[1] == row
    assert rows[2] == {"d": UUID, "f": 3.0}


async def test_arrays_of_every_declared_type_and_the_empty_array(ns):
    schema = {"s": "[]string", "i": "[]int", "u": "[]uint", "f": "[]float", "d": "[]uuid", "b": "[]bool"}
    row = {"s": ["b", "a", "b"], "i": [-1, 2], "u": [2**63], "f": [0.5, 2.25], "d": [UUID], "b": [False, True]}
    await ns.write(upsert_rows=[{"id": 1, **row}, {"id": 2, "s": [], "i": None}], schema=schema)
    rows = await stored(ns)
    assert rows[1] == row
    # An empty array is a value; null is not.
    assert rows[2] == {"s": []}
    assert ids(await ns.query(rank_by=("id", "asc"), limit=9, filters=("s", "NotEq", None))) == [1, 2]
    assert ids(await ns.query(rank_by=("id", "asc"), limit=9, filters=("i", "Eq", None))) == [2]


async def test_nulls_are_left_out_of_rows(ns):
    await ns.write(upsert_rows=[{"id": 1, "a": None, "b": "x"}, {"id": 2, "a": "y", "b": None}])
    assert await stored(ns) == {1: {"b": "x"}, 2: {"a": "y"}}
    only = await ns.query(rank_by=("id", "asc"), limit=9, include_attributes=["a"])
    assert [plain(row) for row in only.rows] == [{"id": 1}, {"id": 2, "a": "y"}]


def instant(text: str) -> datetime:
    """Parses the answer whatever its fractional digits are."""
    head, _, rest = text.removesuffix("Z").partition(".")
    assert text.endswith("Z"), f"{text} is not in UTC"
    return datetime.fromisoformat(f"{head}.{rest[:6]:0<6}+00:00")


async def test_datetimes_are_instants_in_utc(ns):
    await ns.write(
        upsert_rows=[
            {"id": 1, "at": datetime(2024, 1, 1, tzinfo=timezone.utc)},
            {"id": 2, "at": datetime(2024, 1, 1, 12, 30, 15, 250_000)},
            {"id": 3, "at": "2024-01-01T02:00:00+02:00"},
            {"id": 4, "at": "1970-01-01T00:00:00.000Z"},
            {"id": 5, "at": 1_704_067_200_001},
        ],
        schema={"at": "datetime"},
    )
    rows = await stored(ns)
    new_year = datetime(2024, 1, 1, tzinfo=timezone.utc)
    assert [instant(rows[i]["at"]) for i in range(1, 6)] == [
        new_year,
        datetime(2024, 1, 1, 12, 30, 15, 250_000, tzinfo=timezone.utc),
        new_year,
        datetime(1970, 1, 1, tzinfo=timezone.utc),
        datetime(2024, 1, 1, 0, 0, 0, 1000, tzinfo=timezone.utc),
    ]
    later = await ns.query(rank_by=("at", "asc"), limit=9, filters=("at", "Gt", "2024-01-01T00:00:00Z"))
    assert ids(later) == [5, 2]
    # The same instant in another zone, and through the client's own conversion.
    assert ids(await ns.query(rank_by=("id", "asc"), limit=9, filters=("at", "Eq", new_year))) == [1, 3]


async def test_bytes_travel_as_base64(ns):
    blob = base64.b64encode(bytes(range(256))).decode()
    await ns.write(upsert_rows=[{"id": 1, "blob": blob}, {"id": 2, "blob": ""}], schema={"blob": "bytes"})
    assert await stored(ns) == {1: {"blob": blob}, 2: {"blob": ""}}
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.write(upsert_rows=[{"id": 3, "blob": "not base64!"}])


async def test_f32_numbers_are_printed_as_the_shortest_decimal(ns):
    sent = [0.7, 1.1, 0.1, 16777216.0, 1e-10, -3.4e38]
    await ns.write(upsert_rows=[{"id": 1, "vector": sent}], distance_metric="euclidean_squared")
    assert (await stored(ns))[1]["vector"] == sent


async def test_f16_and_i8_vectors_are_rounded_to_their_type(api):
    half, byte = api.namespace(), api.namespace()
    await half.write(
        upsert_rows=[{"id": 1, "vector": [0.1, 1.0, -2.5]}],
        distance_metric="cosine_distance",
        schema={"vector": {"type": "[3]f16", "ann": True}},
    )
    assert (await half.schema())["vector"].type == "[3]f16"
    assert (await stored(half))[1]["vector"] == pytest.approx([float(np.float16(0.1)), 1.0, -2.5], abs=1e-4)
    await byte.write(
        upsert_rows=[{"id": 1, "vector": [127, -128, 0]}, {"id": 2, "vector": [1.0, 2.0, 3.0]}],
        distance_metric="euclidean_squared",
        schema={"vector": {"type": "[3]i8", "ann": True}},
    )
    rows = await stored(byte)
    assert [rows[1]["vector"], rows[2]["vector"]] == [[127, -128, 0], [1, 2, 3]]
    with pytest.raises(turbopuffer.BadRequestError):
        await byte.write(upsert_rows=[{"id": 3, "vector": [128, 0, 0]}])


async def test_several_vector_columns(ns):
    await ns.write(
        upsert_rows=[
            {"id": 1, "vector": [1.0, 0.0], "image": [0.0, 0.0, 1.0]},
            {"id": 2, "vector": [0.0, 1.0], "image": [1.0, 0.0, 0.0]},
        ],
        schema={
            "vector": {"type": "[2]f32", "ann": {"distance_metric": "cosine_distance"}},
            "image": {"type": "[3]f16", "ann": {"distance_metric": "euclidean_squared"}},
        },
    )
    nearest = await ns.query(rank_by=("vector", "ANN", [1.0, 0.1]), top_k=2)
    assert ids(nearest) == [1, 2]
    nearest = await ns.query(rank_by=("image", "ANN", [1.0, 0.0, 0.0]), top_k=2, include_attributes=["image"])
    assert [(row.id, row["$dist"], row["image"]) for row in nearest.rows] == [(2, 0.0, [1, 0, 0]), (1, 2.0, [0, 0, 1])]
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.query(rank_by=("absent", "ANN", [1.0, 0.1]), top_k=2)
    # An upsert has to bring every vector column.
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.write(upsert_rows=[{"id": 3, "vector": [1.0, 0.0]}])


async def test_the_known_base64_values(ns):
    assert b64encode_vector([0.1, 0.2, 0.3]) == "zczMPc3MTD6amZk+"
    # Strings pass through the client unchanged; both forms may meet in one request.
    await ns.write(
        upsert_rows=[{"id": 1, "vector": "zczMPc3MTD6amZk+"}, {"id": 2, "vector": [1, 2, 3]}],
        distance_metric="cosine_distance",
    )
    rows = await stored(ns)
    assert [rows[1]["vector"], rows[2]["vector"]] == [[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]
    rows = await stored(ns, vector_encoding="base64")
    assert rows[1]["vector"] == "zczMPc3MTD6amZk+"
    assert b64decode_vector(rows[2]["vector"]) == [1.0, 2.0, 3.0]


async def test_base64_goes_in_as_f32_and_comes_out_in_the_columns_own_type(ns):
    await ns.write(
        upsert_rows=[{"id": 1, "vector": b64encode_vector([1.0, -0.5])}],
        distance_metric="cosine_distance",
        schema={"vector": {"type": "[2]f16", "ann": True}},
    )
    rows = await stored(ns, vector_encoding="base64")
    assert struct.unpack("<2e", base64.b64decode(rows[1]["vector"])) == (1.0, -0.5)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ("int", "five"),
        ("int", 1.5),
        ("int", 2**63),
        ("uint", -1),
        ("bool", 1),
        ("string", 5),
        ("uuid", "zzz"),
        ("datetime", "yesterday"),
        ("[]string", "alone"),
        ("[]int", [1, "two"]),
    ],
)
async def test_a_value_of_another_type_is_refused(ns, schema, value):
    with pytest.raises(turbopuffer.BadRequestError, match="attr"):
        await ns.write(upsert_rows=[{"id": 1, "attr": value}], schema={"attr": schema})


async def test_vectors_of_another_length_are_refused(ns):
    await ns.write(upsert_rows=[{"id": 1, "vector": [1.0, 2.0]}], distance_metric="cosine_distance")
    with pytest.raises(turbopuffer.BadRequestError, match="vector"):
        await ns.write(upsert_rows=[{"id": 2, "vector": [1.0, 2.0, 3.0]}])
    with pytest.raises(turbopuffer.BadRequestError):
        await ns.query(rank_by=("vector", "ANN", [1.0, 2.0, 3.0]), top_k=1)
