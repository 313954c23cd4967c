"""Errors: the classes that clients raise, and the texts that the official suites look for."""

from __future__ import annotations

import pytest
import turbopuffer
from conftest import Api, says

pytestmark = pytest.mark.anyio


@pytest.fixture
async def one(ns):
    await ns.write(upsert_rows=[{"id": 1, "vector": [0.1, 0.2], "a": "x"}], distance_metric="cosine_distance")
    return ns


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("key", ["wrong", "tpuf_00000000000000000000000000000000"])
async def test_a_wrong_key_is_an_authentication_error(mode, key):
    api = Api(mode, api_key=key)
    with pytest.raises(turbopuffer.AuthenticationError) as refused:
        await api.page()
    assert refused.value.body["status"] == "error"
    with pytest.raises(turbopuffer.AuthenticationError):
        await api.namespace("any").query(rank_by=("id", "asc"), limit=1)
    await api.close()


async def test_error_bodies_have_status_and_error(ns):
    with pytest.raises(turbopuffer.NotFoundError) as missing:
        await ns.schema()
    assert set(missing.value.body) == {"status", "error"}
    assert missing.value.body["status"] == "error"
    assert str(missing.value).startswith("Error code: 404 - {'status': 'error', 'error': ")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"upsert_rows": {"id": 1}}, "invalid type: map, expected a sequence"),
    ],
)
async def test_writes_of_the_wrong_shape(one, body, text):
    with pytest.raises(turbopuffer.UnprocessableEntityError, match=says(text)):
        await one.write(extra_body=body)


@pytest.mark.parametrize(
    ("consistency", "text"),
    [
        ("eventual", 'invalid type: string "eventual", expected struct Consistency'),
        ({"level": "nonexistentvalue"}, "unknown variant `nonexistentvalue`, expected `strong` or `eventual`"),
    ],
)
async def test_queries_of_the_wrong_shape(one, consistency, text):
    with pytest.raises(turbopuffer.UnprocessableEntityError, match=says(text)):
        await one.query(rank_by=("id", "asc"), limit=1, consistency=consistency)


async def test_a_customer_managed_key_needs_a_provider(ns):
    with pytest.raises(turbopuffer.BadRequestError, match="Malformed Cloud KMS crypto key: mykey"):
        await ns.write(
            upsert_rows=[{"id": 1}], encryption={"mode": "customer-managed", "key_name": "mykey"}
        )
    assert await ns.exists() is False


async def test_unknown_keys_of_a_request_are_refused(one):
    for call in (
        lambda: one.write(upsert_rows=[{"id": 2, "vector": [0.1, 0.2]}], extra_body={"upsert_rowz": []}),
        lambda: one.query(rank_by=("id", "asc"), limit=1, extra_body={"filter": ["a", "Eq", "x"]}),
    ):
        with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
            await call()


@pytest.mark.parametrize(
    "row",
    [
        {"id": -1},
        {"id": 1.5},
        {"id": None},
        {"id": "x" * 65},
        {"a": "no id"},
        {"id": 2, "$reserved": 1},
        {"id": 2, "n" * 129: 1},
        {"id": 2, "": 1},
    ],
)
async def test_bad_ids_and_attribute_names_are_refused(ns, row):
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await ns.write(upsert_rows=[row])
    assert await ns.exists() is False


async def test_vectors_need_a_metric_on_the_first_write(ns):
    with pytest.raises(turbopuffer.BadRequestError, match="distance_metric"):
        await ns.write(upsert_rows=[{"id": 1, "vector": [1.0, 2.0]}])


@pytest.mark.parametrize(
    "columns", [{"id": [1, 2], "a": [1]}, {"a": [1]}, {"id": [1, 2], "vector": [1, 2, 3]}]
)
async def test_columns_of_unequal_length_are_refused(ns, columns):
    with pytest.raises((turbopuffer.BadRequestError, turbopuffer.UnprocessableEntityError)):
        await ns.write(upsert_columns=columns, distance_metric="cosine_distance")


async def test_a_refusal_is_answered_once_and_not_retried(one):
    # 4xx other than 408, 409 and 429 are final: a retried refusal would stall callers for seconds.
    with pytest.raises(turbopuffer.BadRequestError) as refused:
        await one.query(rank_by=("absent", "asc"), limit=1)
    assert refused.value.response.request.headers["x-stainless-retry-count"] == "0"
