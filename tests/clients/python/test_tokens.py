"""Tokens of databases and groups as API keys of the client: what they open, and how long."""

from __future__ import annotations

import json
import urllib.request
import uuid
from typing import Any

import pytest
import turbopuffer
from conftest import API_KEY, BASE_URL, Api, ids

pytestmark = pytest.mark.anyio


def platform(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A call of the control plane."""
    request = urllib.request.Request(
        f"{BASE_URL}/v1/{path}",
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {API_KEY}"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.fixture
async def opened(api, ns):
    """A namespace with a row, and a function that makes a client of a new token for it."""
    await ns.write(upsert_rows=[{"id": 1, "a": "x"}])
    clients = []

    def client(query: str = "", body: dict[str, Any] | None = None, path: str | None = None) -> Any:
        path = path or f"databases/{ns.id}"
        token = platform("POST", f"{path}/auth/tokens{query}", body)["jwt"]
        clients.append(Api(api.mode, api_key=token))
        return clients[-1]

    yield client
    for made in clients:
        made.made.clear()
        await made.close()


async def test_a_read_only_token_reads_until_it_is_rotated(ns, opened):
    through = opened("?authorization=read-only&expiration=1h").namespace(ns.id)
    assert ids(await through.query(rank_by=("id", "asc"), limit=5)) == [1]
    assert (await through.schema())["a"].type == "string"
    with pytest.raises(turbopuffer.PermissionDeniedError):
        await through.write(upsert_rows=[{"id": 2}])
    with pytest.raises(turbopuffer.PermissionDeniedError):
        await through.delete_all()
    platform("POST", f"databases/{ns.id}/auth/rotate")
    with pytest.raises(turbopuffer.AuthenticationError):
        await through.query(rank_by=("id", "asc"), limit=5)


async def test_a_full_access_token_writes_to_its_namespace_only(api, ns, opened):
    client = opened()
    await client.namespace(ns.id).write(upsert_rows=[{"id": 2, "a": "y"}])
    assert ids(await ns.query(rank_by=("id", "asc"), limit=5)) == [1, 2]
    other = api.namespace()
    await other.write(upsert_rows=[{"id": 1}])
    with pytest.raises(turbopuffer.PermissionDeniedError):
        await client.namespace(other.id).query(rank_by=("id", "asc"), limit=5)
    with pytest.raises(turbopuffer.PermissionDeniedError):
        await client.page()


async def test_a_token_of_a_namespace_that_is_made_again_is_worth_nothing(ns, opened):
    through = opened().namespace(ns.id)
    await ns.delete_all()
    await ns.write(upsert_rows=[{"id": 1}])
    with pytest.raises(turbopuffer.AuthenticationError):
        await through.query(rank_by=("id", "asc"), limit=5)


async def test_a_token_of_a_group_opens_what_is_in_it(ns, opened):
    group = f"g-{uuid.uuid4().hex}"
    platform("POST", "groups", {"name": group})
    inside = f"db-{uuid.uuid4().hex}"
    try:
        platform("POST", "databases", {"name": inside, "group": group})
        client = opened(path=f"groups/{group}")
        await client.namespace(inside).write(upsert_rows=[{"id": 3}])
        assert ids(await client.namespace(inside).query(rank_by=("id", "asc"), limit=5)) == [3]
        with pytest.raises(turbopuffer.AuthenticationError):
            await client.namespace(ns.id).query(rank_by=("id", "asc"), limit=5)
    finally:
        platform("DELETE", f"groups/{group}")
    with pytest.raises(turbopuffer.AuthenticationError):
        await client.namespace(inside).query(rank_by=("id", "asc"), limit=5)
