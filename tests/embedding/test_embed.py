"""Embedding through the official Python client; `tests/embedding.rs` starts the server and its model."""

from __future__ import annotations

import os
import uuid
from typing import Any, Iterator

import pytest
import turbopuffer

for name in ("TURBOPUFFER_REGION", "TURBOPUFFER_BASE_URL", "TURBOPUFFER_CUSTOM_HEADERS"):
    os.environ.pop(name, None)


@pytest.fixture
def ns() -> Iterator[Any]:
    client = turbopuffer.Turbopuffer(
        base_url=os.environ["SHOAL_TEST_URL"],
        api_key=os.environ["SHOAL_TEST_KEY"],
        max_retries=1,
        _strict_response_validation=True,
    )
    namespace = client.namespace(f"py-{uuid.uuid4().hex}")
    yield namespace
    try:
        namespace.delete_all()
    except turbopuffer.NotFoundError:
        pass  # never written


ROWS = [
    {"id": 1, "text": "A kitten sleeps on the sofa"},
    {"id": 2, "text": "The automobile needs new tyres"},
    {"id": 3, "text": "Drizzle in the morning"},
]


def test_a_text_finds_what_means_the_same(ns: Any) -> None:
    written = ns.write(schema={"text": {"type": "string", "embed": "concepts"}}, upsert_rows=ROWS)
    assert written.rows_upserted == 3
    assert written.performance.embedding_ms >= 1
    assert written.performance.embedding_tokens > 0
    found = ns.query(rank_by=("$embed_text", "ANN", ("Embed", "bad weather")), top_k=1, include_attributes=["text"])
    assert found.rows[0].text == "Drizzle in the morning"
    assert found.performance.embedding_ms >= 1
    found = ns.query(rank_by=("$embed_text", "ANN", ("Embed", "feline", {"model": "other"})), top_k=2)
    assert found.rows[0].id == 1
    embed = ns.schema()["text"].embed
    assert (embed.model, embed.attribute) == ("concepts", "$embed_text")


def test_an_existing_column_can_be_filled(ns: Any) -> None:
    schema = {
        "vector": {"type": "[6]f32", "ann": True},
        "text": {"type": "string", "embed": {"model": "concepts", "attribute": "vector"}},
    }
    own = {"id": 4, "text": "cat", "vector": [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]}
    ns.write(schema=schema, distance_metric="cosine_distance", upsert_rows=[*ROWS, own])
    found = ns.query(rank_by=("vector", "ANN", ("Embed", "boat")), top_k=1)
    assert found.rows[0].id == 4


def test_an_unknown_model_is_a_bad_request(ns: Any) -> None:
    with pytest.raises(turbopuffer.BadRequestError, match="not configured"):
        ns.write(schema={"text": {"type": "string", "embed": "gpt"}}, upsert_rows=ROWS)
