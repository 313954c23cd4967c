"""API keys and scoped search keys, by the official Python client.

SHOAL_TEST_URL and SHOAL_TEST_KEY name a running server. Scoped keys are also shown to the native query route, as a
Bearer, for which the standard library is enough.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any

import pytest
import typesense
from typesense.exceptions import ObjectNotFound, RequestMalformed, RequestUnauthorized

BASE_URL = os.environ.get("SHOAL_TEST_URL", "")
API_KEY = os.environ.get("SHOAL_TEST_KEY", "")


def client(key: str) -> typesense.Client:
    url = urllib.parse.urlsplit(BASE_URL)
    node = {"host": url.hostname, "port": url.port, "protocol": url.scheme}
    return typesense.Client({"nodes": [node], "api_key": key, "connection_timeout_seconds": 10, "num_retries": 0})


def native(key: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE_URL + path, data=data, method=method)
    request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def admin() -> typesense.Client:
    return client(API_KEY)


@pytest.fixture
def namespace() -> Any:
    name = f"keys-{uuid.uuid4()}"
    rows = [{"id": i, "tenant": "even" if i % 2 == 0 else "odd"} for i in range(1, 7)]
    assert native(API_KEY, "POST", f"/v2/namespaces/{name}", {"upsert_rows": rows})[0] == 200
    yield name
    native(API_KEY, "DELETE", f"/v2/namespaces/{name}")


def test_a_key_is_made_shown_listed_and_deleted(admin: typesense.Client) -> None:
    asked = {"description": "shop search", "actions": ["documents:search"], "collections": ["shop_.*"],
             "expires_at": 4102444800}
    made = admin.keys.create(asked)
    value = made["value"]
    assert {name: made[name] for name in asked} == asked
    assert made["value_prefix"] == made["key_prefix"] == value[:4]
    shown = admin.keys[made["id"]].retrieve()
    assert "value" not in shown and shown["value_prefix"] == value[:4]
    assert shown in admin.keys.retrieve()["keys"]
    assert admin.keys[made["id"]].delete() == {"id": made["id"]}
    with pytest.raises(ObjectNotFound):
        admin.keys[made["id"]].retrieve()
    with pytest.raises(ObjectNotFound):
        admin.keys[made["id"]].delete()


def test_mistakes_are_malformed(admin: typesense.Client) -> None:
    whole = {"description": "d", "actions": ["*"], "collections": ["*"]}
    for name in whole:
        with pytest.raises(RequestMalformed, match=f"Could not find a `{name}` key."):
            admin.keys.create({key: value for key, value in whole.items() if key != name})
    with pytest.raises(RequestMalformed, match="array of string"):
        admin.keys.create({**whole, "actions": []})
    with pytest.raises(RequestMalformed, match="no action"):
        admin.keys.create({**whole, "actions": ["documents:fly"]})


def test_a_search_key_reads_no_keys(admin: typesense.Client) -> None:
    made = admin.keys.create({"description": "d", "actions": ["documents:search"], "collections": ["*"]})
    search = client(made["value"])
    for refused in (search.keys.retrieve, search.keys[made["id"]].retrieve, search.keys[made["id"]].delete):
        with pytest.raises(RequestUnauthorized):
            refused()
    with pytest.raises(RequestUnauthorized):
        client("nobody-has-this-key").keys.retrieve()
    admin.keys[made["id"]].delete()


def test_a_key_mints_no_wider_key(admin: typesense.Client) -> None:
    made = admin.keys.create(
        {"description": "d", "actions": ["keys:create", "documents:search"], "collections": ["shop_*"]})
    minter = client(made["value"])
    narrow = {"description": "d", "actions": ["documents:search"], "collections": ["shop_a"]}
    child = minter.keys.create(narrow)
    for wider in ({"actions": ["*"]}, {"collections": ["*"]}, {"collections": []}, {"actions": ["documents:get"]}):
        with pytest.raises(RequestUnauthorized):
            minter.keys.create({**narrow, **wider})
    for key in (made, child):
        admin.keys[key["id"]].delete()


def test_scoped_keys_see_their_rows_until_their_parent_goes(admin: typesense.Client, namespace: str) -> None:
    parent = admin.keys.create({"description": "d", "actions": ["documents:search"], "collections": [namespace]})

    def scoped(parameters: dict[str, Any]) -> str:
        key = admin.keys.generate_scoped_search_key(parent["value"], parameters)
        return key.decode() if isinstance(key, bytes) else key

    def ids(key: str, name: str = namespace) -> Any:
        query = {"rank_by": ["id", "asc"], "limit": 10}
        status, answer = native(key, "POST", f"/v2/namespaces/{name}/query", query)
        return [row["id"] for row in answer["rows"]] if status == 200 else status

    by_text = scoped({"filter_by": "tenant:=even", "expires_at": int(time.time()) + 3600})
    assert ids(by_text) == [2, 4, 6]
    assert ids(scoped({"filters": ["tenant", "Eq", "odd"]})) == [1, 3, 5]
    assert ids(scoped({"filter_by": "tenant:=even", "max_top_k": 2})) == [2, 4]
    assert ids(by_text, "another") == 403
    assert ids(scoped({"expires_at": int(time.time()) - 1})) == 401
    assert ids(scoped({"a_restriction_of_tomorrow": True})) == 401
    status, _ = native(by_text, "POST", f"/v2/namespaces/{namespace}", {"deletes": [2]})
    assert status == 401
    admin.keys[parent["id"]].delete()
    assert ids(by_text) == 401
