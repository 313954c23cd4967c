"""Searches, and what is kept for them."""

from __future__ import annotations

import uuid

import pytest
from conftest import client_with, ids
from typesense import exceptions


def search(books, **params):
    return books.documents.search({"query_by": "title", **params})


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"q": "*"}, ["1", "2", "3"]),
        ({"q": "*", "sort_by": "sold:asc"}, ["3", "2", "1"]),
        ({"q": "*", "page": 2, "per_page": 2}, ["3"]),
        ({"q": "*", "offset": 1, "limit": 1}, ["2"]),
        ({"q": "otter", "sort_by": "sold:desc"}, ["1", "2"]),
        ({"q": "otter", "prefix": "false", "num_typos": 0}, ["1"]),
        ({"q": "lighthuoses"}, ["3"]),
        ({"q": "sea nowhere"}, ["1"]),
        ({"q": "sea nowhere", "drop_tokens_threshold": 0}, []),
        ({"q": "ada sea", "query_by": "title,author", "query_by_weights": "2,1"}, ["1"]),
        ({"q": "*", "filter_by": "sold:[10..20] && topics:=[sea]"}, ["3"]),
        ({"q": "*", "filter_by": "author:!=Ada || sold:>25"}, ["1", "3"]),
        ({"q": "*", "pinned_hits": "3:1", "hidden_hits": "1"}, ["3", "2"]),
        ({"q": "*", "vector_query": "emb:([0, 1], k: 2)"}, ["1", "3"]),
        ({"q": "*", "exhaustive_search": "true", "search_cutoff_ms": 50, "cache_ttl": 5, "use_cache": "true"}, ["1", "2", "3"]),
    ],
)
def test_hits(books, params, expected):
    assert ids(search(books, **params)) == expected


def test_the_parts_of_an_answer(books):
    answer = search(
        books,
        q="otter",
        facet_by="author,topics,sold",
        max_facet_values=5,
        exclude_fields="emb,topics",
        highlight_full_fields="title",
        highlight_start_tag="<b>",
        highlight_end_tag="</b>",
        sort_by="sold:desc",
    )
    assert (answer["found"], answer["out_of"], answer["page"]) == (2, 3, 1)
    assert isinstance(answer["search_time_ms"], int)
    hit = answer["hits"][0]
    assert hit["document"] == {"id": "1", "title": "The sea otter", "author": "Ada", "sold": 30}
    marked = {"matched_tokens": ["otter"], "snippet": "The sea <b>otter</b>", "value": "The sea <b>otter</b>"}
    assert hit["highlight"] == {"title": marked}
    assert hit["highlights"] == [{"field": "title", **marked}]
    assert isinstance(hit["text_match"], int)
    facets = {f["field_name"]: f for f in answer["facet_counts"]}
    assert facets["author"]["counts"] == [{"count": 2, "highlighted": "Ada", "value": "Ada"}]
    assert facets["sold"]["stats"] == {"avg": 25, "max": 30, "min": 20, "sum": 50, "total_values": 2}


def test_groups(books):
    answer = search(books, q="*", group_by="author", group_limit=1)
    assert (answer["found"], answer["found_docs"]) == (2, 3)
    assert [(g["group_key"], ids(g), g["found"]) for g in answer["grouped_hits"]] == [(["Ada"], ["1"], 2), (["Bob"], ["3"], 1)]


def test_several_searches(client, books):
    answer = client.multi_search.perform(
        {"searches": [{"collection": books.name, "q": "*"}, {"collection": books.name, "q": "a", "query_by": "nope"}]},
        {"per_page": 1},
    )
    assert ids(answer["results"][0]) == ["1"]
    assert answer["results"][1]["code"] == 404


def test_errors(client, books):
    with pytest.raises(exceptions.ObjectNotFound, match="Could not find a field named `nope`"):
        search(books, q="a", query_by="nope")
    with pytest.raises(exceptions.RequestMalformed):
        search(books, q="*", filter_by="sold:much")
    with pytest.raises(exceptions.ObjectUnprocessable):
        search(books, q="*", per_page=1000)
    with pytest.raises(exceptions.RequestUnauthorized):
        client_with("not a key").collections[books.name].documents.search({"q": "*"})


def test_synonym_sets(client, books):
    name = f"set-{uuid.uuid4().hex}"
    item = {"id": "a", "synonyms": ["lutra", "otter"]}
    assert client.synonym_sets[name].upsert({"items": [item]}) == {"name": name, "items": [item]}
    assert client.synonym_sets[name].retrieve() == {"name": name, "items": [item]}
    assert name in [s["name"] for s in client.synonym_sets.retrieve()]
    books.update({"synonym_sets": [name]})
    assert ids(search(books, q="lutra", sort_by="sold:desc", num_typos=0)) == ["1"]
    other = {"synonyms": ["beacon", "lighthouses"]}
    client.synonym_sets[name].upsert_item("b", other)
    assert ids(search(books, q="beacon", num_typos=0)) == ["3"]
    assert [i["id"] for i in client.synonym_sets[name].list_items()] == ["a", "b"]
    assert client.synonym_sets[name].delete_item("b") == {"id": "b"}
    assert client.synonym_sets[name].delete() == {"name": name}
    with pytest.raises(exceptions.ObjectNotFound):
        client.synonym_sets[name].retrieve()


def test_synonyms_of_a_collection(books):
    assert books.synonyms.upsert("x", {"root": "pup", "synonyms": ["otter"]}) == {"id": "x", "root": "pup", "synonyms": ["otter"]}
    assert books.synonyms.retrieve() == {"synonyms": [{"id": "x", "root": "pup", "synonyms": ["otter"]}]}
    assert ids(search(books, q="pup", num_typos=0)) == ["1"]
    assert books.synonyms["x"].delete() == {"id": "x"}


def test_stopwords(client, books):
    name = f"stop-{uuid.uuid4().hex}"
    client.stopwords.upsert(name, {"stopwords": ["about"], "locale": "en"})
    expected = {"id": name, "stopwords": ["about"], "locale": "en"}
    assert client.stopwords[name].retrieve() == {"stopwords": expected}
    assert expected in client.stopwords.retrieve()["stopwords"]
    assert ids(search(books, q="about lighthouses", drop_tokens_threshold=0, stopwords=name)) == ["3"]
    assert client.stopwords[name].delete() == {"id": name}
