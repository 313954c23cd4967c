"""Fixtures of the suites that drive a Shoal server with the official Python client.

The server is named by two variables: SHOAL_TEST_URL (``http://127.0.0.1:PORT``) and SHOAL_TEST_KEY. `tests/clients.rs`
starts one and sets them; by hand any server will do, for every namespace made here has a fresh name and is deleted
afterwards.

Each test is written once, as a coroutine, and runs twice: with ``AsyncTurbopuffer`` and with ``Turbopuffer`` behind
`Sync`, which gives the blocking client the same shape. Responses are validated against the client's own types
(``_strict_response_validation``), so that a missing or mistyped field fails every test that meets it.
"""

from __future__ import annotations

import os
import re
import uuid
from typing import Any

import pytest
import turbopuffer
from turbopuffer import AsyncTurbopuffer, Turbopuffer

BASE_URL = os.environ.get("SHOAL_TEST_URL", "")
API_KEY = os.environ.get("SHOAL_TEST_KEY", "")


def pytest_configure(config: pytest.Config) -> None:
    if not BASE_URL or not API_KEY:
        raise pytest.UsageError("set SHOAL_TEST_URL and SHOAL_TEST_KEY to a running server")
    # A region from the environment makes the client refuse a plain base URL.
    for name in ("TURBOPUFFER_REGION", "TURBOPUFFER_BASE_URL", "TURBOPUFFER_CUSTOM_HEADERS"):
        os.environ.pop(name, None)


class Sync:
    """Gives a blocking resource the shape of the asynchronous one."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name == "with_raw_response":
            return Sync(value)
        if not callable(value):
            return value

        async def call(*args: Any, **kwargs: Any) -> Any:
            return value(*args, **kwargs)

        return call


class Api:
    """One client, blocking or not, and the namespaces made through it."""

    def __init__(self, mode: str, **options: Any) -> None:
        settings = {
            "base_url": BASE_URL,
            "api_key": API_KEY,
            "max_retries": 1,
            "_strict_response_validation": True,
            **options,
        }
        self.mode = mode
        self.client: Any = Turbopuffer(**settings) if mode == "sync" else AsyncTurbopuffer(**settings)
        self.made: list[Any] = []

    def namespace(self, name: str | None = None) -> Any:
        """A handle on a namespace; without a name, on one that does not exist yet."""
        name = name or f"py-{self.mode}-{uuid.uuid4().hex}"
        handle = self.client.namespace(name)
        handle = Sync(handle) if self.mode == "sync" else handle
        self.made.append(handle)
        return handle

    async def page(self, **options: Any) -> Any:
        """One page of the namespace listing."""
        page = self.client.namespaces(**options)
        return page if self.mode == "sync" else await page

    async def listed(self, **options: Any) -> list[str]:
        """All names of the listing, following the cursors as the client does."""
        if self.mode == "sync":
            return [ns.id for ns in self.client.namespaces(**options)]
        return [ns.id async for ns in self.client.namespaces(**options)]

    async def parsed(self, raw: Any) -> Any:
        """The typed body of a raw response."""
        return raw.parse() if self.mode == "sync" else await raw.parse()

    async def json(self, raw: Any) -> Any:
        """The body of a raw response, untyped."""
        return raw.json() if self.mode == "sync" else await raw.json()

    async def close(self) -> None:
        for handle in self.made:
            try:
                await handle.update_metadata(read_only=False)
                await handle.delete_all()
            except turbopuffer.APIError:
                pass  # never written, or deleted by the test
        if self.mode == "sync":
            self.client.close()
        else:
            await self.client.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sync", "async"])
async def api(request: pytest.FixtureRequest, anyio_backend: str) -> Any:
    api = Api(request.param)
    yield api
    await api.close()


@pytest.fixture
def ns(api: Api) -> Any:
    """A namespace that does not exist yet."""
    return api.namespace()


def plain(row: Any) -> dict[str, Any]:
    """The row as the server sent it: the client adds ``vector: None`` to rows that have none."""
    return row.to_dict()


def ids(response: Any) -> list[Any]:
    return [row.id for row in response.rows]


def without_dist(response: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in plain(row).items() if k != "$dist"} for row in response.rows]


def says(text: str) -> str:
    """A pattern for ``pytest.raises(match=…)`` that takes `text` literally."""
    return re.escape(text)
