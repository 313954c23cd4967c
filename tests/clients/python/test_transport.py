"""Transport: compression both ways, the region in the path, request ids, big requests."""

from __future__ import annotations

import random

import pytest
from conftest import API_KEY, BASE_URL, Api, ids

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_large_answers_are_gzip_and_tiny_ones_are_not(mode):
    api = Api(mode, compression=True)
    ns = api.namespace()
    rng = random.Random(1)
    wide = [[rng.random() for _ in range(4096)] for _ in range(2)]
    await ns.write(
        upsert_columns={"id": [1, 2], "vector": wide}, distance_metric="cosine_distance"
    )  # above 1024 bytes: the client sends it as gzip
    raw = await ns.with_raw_response.query(rank_by=("vector", "ANN", wide[0]), top_k=2, include_attributes=["vector"])
    assert raw.headers.get("content-encoding") == "gzip"
    answer = await api.parsed(raw)
    assert ids(answer) == [1, 2]
    assert answer.rows[1].vector == pytest.approx(wide[1], rel=1e-6)

    tiny = api.namespace()
    await tiny.write(upsert_rows=[{"id": 1, "vector": [1.0]}], distance_metric="euclidean_squared")
    raw = await tiny.with_raw_response.query(rank_by=("vector", "ANN", [1.0]), top_k=1)
    assert raw.headers.get("content-encoding") is None
    assert raw.headers["content-type"] == "application/json"
    await api.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_without_compression_nothing_is_compressed(mode):
    api = Api(mode, compression=False)
    ns = api.namespace()
    await ns.write(upsert_rows=[{"id": 1, "text": "x" * 4000}], schema={"text": {"type": "string", "filterable": False}})
    raw = await ns.with_raw_response.query(rank_by=("id", "asc"), limit=1, include_attributes=True)
    assert raw.headers.get("content-encoding") is None
    await api.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_region_in_the_path_is_skipped(mode, monkeypatch):
    api = Api(mode, base_url=BASE_URL + "/{region}", region="gcp-us-central1")
    ns = api.namespace()
    await ns.write(upsert_rows=[{"id": 1, "n": 1}])
    assert ids(await ns.query(rank_by=("id", "asc"), limit=1)) == [1]
    assert await api.listed(prefix=ns.id) == [ns.id]
    # The same namespace without the prefix: the region is no part of its name.
    direct = Api(mode)
    assert await direct.namespace(ns.id).exists() is True
    await direct.close()
    await api.close()


async def test_the_request_id_of_the_caller_is_echoed(api, ns):
    await ns.write(upsert_rows=[{"id": 1}])
    raw = await ns.with_raw_response.schema(extra_headers={"X-Request-Id": "tpreq_0123456789"})
    assert raw.headers["x-request-id"] == "tpreq_0123456789"
    raw = await ns.with_raw_response.schema()
    assert raw.headers["x-request-id"]


async def test_ten_thousand_rows_in_one_request(ns):
    count = 10_000
    answer = await ns.write(
        upsert_columns={
            "id": list(range(count)),
            "vector": [[float(i % 100), float(i // 100)] for i in range(count)],
            "text": [f"row number {i}" for i in range(count)],
        },
        distance_metric="euclidean_squared",
    )
    assert answer.rows_upserted == count
    nearest = await ns.query(rank_by=("vector", "ANN", [41.0, 17.0]), top_k=1, include_attributes=["text"])
    assert [(row.id, row["$dist"], row["text"]) for row in nearest.rows] == [(1741, 0.0, "row number 1741")]
    everything = await ns.query(rank_by=("id", "asc"), limit=count)
    assert ids(everything) == list(range(count))


def test_liveness_readiness_and_metrics_need_no_key():
    import urllib.request

    assert API_KEY
    for path in ("/livez", "/readyz", "/metrics"):
        with urllib.request.urlopen(BASE_URL + path, timeout=10) as answer:
            assert answer.status == 200
