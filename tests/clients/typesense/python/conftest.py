"""Fixtures of the suite that drives a Shoal server with Typesense's Python client.

SHOAL_TEST_URL and SHOAL_TEST_KEY name a running server; `tests/clients.rs` starts one and sets them.
"""

from __future__ import annotations

import os
import uuid
from typing import Any, Iterator
from urllib.parse import urlparse

import pytest
import typesense

BASE_URL = os.environ.get("SHOAL_TEST_URL", "")
API_KEY = os.environ.get("SHOAL_TEST_KEY", "")


def pytest_configure(config: pytest.Config) -> None:
    if not BASE_URL or not API_KEY:
        raise pytest.UsageError("set SHOAL_TEST_URL and SHOAL_TEST_KEY to a running server")


def client_with(key: str) -> typesense.Client:
    url = urlparse(BASE_URL)
    node = {"host": url.hostname, "port": url.port, "protocol": url.scheme}
    return typesense.Client({"nodes": [node], "api_key": key, "connection_timeout_seconds": 10, "num_retries": 1})


@pytest.fixture
def client() -> typesense.Client:
    return client_with(API_KEY)


@pytest.fixture
def books(client: typesense.Client) -> Iterator[Any]:
    """A collection with three documents; deleted afterwards."""
    name = f"py-{uuid.uuid4().hex}"
    client.collections.create(
        {
            "name": name,
            "default_sorting_field": "sold",
            "fields": [
                {"name": "title", "type": "string"},
                {"name": "author", "type": "string", "facet": True},
                {"name": "topics", "type": "string[]", "facet": True, "optional": True},
                {"name": "sold", "type": "int32"},
                {"name": "emb", "type": "float[]", "num_dim": 2},
            ],
        }
    )
    collection = client.collections[name]
    lines = collection.documents.import_(
        [
            {"id": "1", "title": "The sea otter", "author": "Ada", "topics": ["sea"], "sold": 30, "emb": [0, 1]},
            {"id": "2", "title": "River otters at play", "author": "Ada", "topics": ["river"], "sold": 20, "emb": [1, 0]},
            {"id": "3", "title": "Lighthouses", "author": "Bob", "topics": ["sea", "light"], "sold": 10, "emb": [0.6, 0.8]},
        ],
        {"action": "create"},
    )
    assert lines == [{"success": True}] * 3
    yield collection
    try:
        collection.delete()
    except typesense.exceptions.ObjectNotFound:
        pass  # deleted by the test


def ids(answer: Any) -> list[str]:
    return [hit["document"]["id"] for hit in answer["hits"]]
