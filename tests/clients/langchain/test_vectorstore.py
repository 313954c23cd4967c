"""LangChain's vector store on a Shoal server, with embeddings whose distances are worked out by hand.

The server is named by SHOAL_TEST_URL and SHOAL_TEST_KEY, as in the Python suite. The integration brings an older
turbopuffer client (1.x), so these tests also show that older clients still work.
"""

from __future__ import annotations

import asyncio
import math
import os
import uuid

import pytest
import turbopuffer
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_turbopuffer import TurbopufferVectorStore

BASE_URL = os.environ["SHOAL_TEST_URL"]
API_KEY = os.environ["SHOAL_TEST_KEY"]

ANIMALS = ["otter", "puffer", "walrus"]
TEXTS = ["otter", "puffer", "otter puffer", "walrus walrus"]
METADATA = [{"kind": "mammal", "page": 1}, {"kind": "fish", "page": 2}, {"kind": "both", "page": 3}, {"kind": "mammal", "page": 4}]


class CountingEmbeddings(Embeddings):
    """One dimension per animal: how often the text names it."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        words = text.split()
        return [float(words.count(animal)) for animal in ANIMALS]


@pytest.fixture(params=["plain", "region in the path"])
def namespace(request, monkeypatch):
    monkeypatch.delenv("TURBOPUFFER_REGION", raising=False)
    monkeypatch.delenv("TURBOPUFFER_BASE_URL", raising=False)
    where = {"base_url": BASE_URL}
    if request.param != "plain":
        where = {"base_url": BASE_URL + "/{region}", "region": "gcp-us-central1"}
    client = turbopuffer.Turbopuffer(**where, api_key=API_KEY, max_retries=1)
    namespace = client.namespace(f"langchain-{uuid.uuid4().hex}")
    yield namespace
    try:
        namespace.delete_all()
    except turbopuffer.NotFoundError:
        pass
    client.close()


@pytest.fixture
def store(namespace):
    return TurbopufferVectorStore.from_texts(
        TEXTS, CountingEmbeddings(), metadatas=METADATA, ids=["a", "b", "c", "d"], namespace=namespace
    )


def document(i: int) -> Document:
    return Document(id="abcd"[i], page_content=TEXTS[i], metadata=METADATA[i])


def test_the_nearest_documents_come_back_whole(store):
    assert store.similarity_search("puffer", k=2) == [document(1), document(2)]
    assert store.similarity_search("walrus", k=1) == [document(3)]
    # Distance from "otter": none, a right angle to two, and 45 degrees; ties by id.
    assert [found.id for found in store.similarity_search("otter")] == ["a", "c", "b", "d"]


def test_distances_and_relevance(store):
    found = store.similarity_search_with_score("otter", k=3)
    assert [(doc.id, score) for doc, score in found] == [
        ("a", pytest.approx(0.0, abs=1e-6)),
        ("c", pytest.approx(1 - math.sqrt(0.5), abs=1e-6)),
        ("b", pytest.approx(1.0, abs=1e-6)),
    ]
    relevant = store.similarity_search_with_relevance_scores("otter", k=2)
    assert [doc.id for doc, _ in relevant] == ["a", "c"]
    assert relevant[0][1] == pytest.approx(1.0, abs=1e-6)


def test_euclidean_distances(namespace):
    store = TurbopufferVectorStore(embedding=CountingEmbeddings(), namespace=namespace, distance_metric="euclidean_squared")
    store.add_texts(TEXTS, ids=["a", "b", "c", "d"])
    found = store.similarity_search_with_score("walrus", k=4)
    assert [(doc.id, score) for doc, score in found] == [("d", 1.0), ("a", 2.0), ("b", 2.0), ("c", 3.0)]


def test_filters_on_metadata(store):
    assert [d.id for d in store.similarity_search("otter", k=9, filters=("kind", "Eq", "mammal"))] == ["a", "d"]
    both = ("And", (("page", "Gte", 2), ("kind", "NotEq", "fish")))
    assert [d.id for d in store.similarity_search("otter", k=9, filters=both)] == ["c", "d"]
    assert store.similarity_search("otter", k=9, filters=("page", "Gt", 4)) == []


def test_documents_by_id(store):
    assert store.get_by_ids(["c", "a", "missing"]) == [document(0), document(2)]
    assert store.get_by_ids([]) == []


def test_added_replaced_and_deleted_documents(store):
    [new] = store.add_documents([Document(page_content="walrus puffer", metadata={"kind": "both", "page": 5})])
    assert store.get_by_ids([new]) == [Document(id=new, page_content="walrus puffer", metadata={"kind": "both", "page": 5})]
    store.add_texts(["otter otter"], metadatas=[{"kind": "replaced"}], ids=["b"])
    assert store.get_by_ids(["b"]) == [Document(id="b", page_content="otter otter", metadata={"kind": "replaced"})]
    assert store.delete(["a", new]) is True
    assert [d.id for d in store.similarity_search("otter", k=9)] == ["b", "c", "d"]
    assert store.delete() is True
    with pytest.raises(turbopuffer.NotFoundError):
        store.similarity_search("otter")


def test_metadata_named_like_a_column_survives(store):
    store.add_texts(["otter"], metadatas=[{"content": "mine", "id": 7}], ids=["e"])
    assert store.get_by_ids(["e"]) == [Document(id="e", page_content="otter", metadata={"content": "mine", "id": 7})]


def test_diversity_and_retrievers(store):
    retriever = store.as_retriever(search_kwargs={"k": 1})
    assert retriever.invoke("puffer") == [document(1)]
    assert asyncio.run(store.asimilarity_search("puffer", k=1)) == [document(1)]
    assert [d.id for d in store.search("walrus", search_type="similarity", k=1)] == ["d"]
