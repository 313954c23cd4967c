"""Collections and documents."""

from __future__ import annotations

import json

import pytest
from typesense import exceptions


def test_a_collection_is_described_listed_changed_and_deleted(client, books):
    known = books.retrieve()
    assert known["num_documents"] == 3
    assert known["default_sorting_field"] == "sold"
    assert [f["name"] for f in known["fields"]] == ["title", "author", "topics", "sold", "emb"]
    assert known["name"] in [c["name"] for c in client.collections.retrieve()]
    books.update({"fields": [{"name": "year", "type": "int64", "optional": True}, {"name": "author", "drop": True}]})
    assert [f["name"] for f in books.retrieve()["fields"]] == ["title", "topics", "sold", "emb", "year"]
    assert books.delete()["name"] == known["name"]
    with pytest.raises(exceptions.ObjectNotFound, match="No collection with name"):
        books.retrieve()


def test_a_collection_is_made_once(client, books):
    with pytest.raises(exceptions.ObjectAlreadyExists):
        client.collections.create({"name": books.name, "fields": [{"name": "a", "type": "string"}]})
    with pytest.raises(exceptions.RequestMalformed):
        client.collections.create({"name": "x", "fields": [{"name": "a", "type": "geopoint"}]})


def test_documents_one_by_one(books):
    whole = {"id": "9", "title": "New", "author": "Eve", "sold": 1, "emb": [0, 1], "notes": {"any": ["thing"]}}
    assert books.documents.create(whole) == whole
    with pytest.raises(exceptions.ObjectAlreadyExists, match="A document with id 9 already exists"):
        books.documents.create(whole)
    assert books.documents["9"].retrieve() == whole
    assert books.documents["9"].update({"sold": 2})["sold"] == 2
    assert books.documents.upsert({**whole, "title": "Newer"})["title"] == "Newer"
    assert books.documents["9"].delete()["title"] == "Newer"
    with pytest.raises(exceptions.ObjectNotFound, match="Could not find a document with id: 9"):
        books.documents["9"].retrieve()
    with pytest.raises(exceptions.RequestMalformed, match="not found in the document"):
        books.documents.create({"id": "10"})


def test_documents_by_filter(books):
    assert books.documents.update({"author": "Cyd"}, {"filter_by": "sold:>15"}) == {"num_updated": 2}
    assert books.documents.delete({"filter_by": "author:=Cyd"}) == {"num_deleted": 2}
    assert books.retrieve()["num_documents"] == 1


def test_documents_by_lines(books):
    outcomes = books.documents.import_([{"id": "1", "title": "again"}, {"id": "4"}], {"action": "update", "return_id": True})
    assert outcomes[0] == {"success": True, "id": "1"}
    assert outcomes[1]["code"] == 404
    text = books.documents.import_('{"id":"5","title":"t","author":"a","sold":1,"emb":[1,1]}\nnonsense')
    lines = [json.loads(line) for line in text.split("\n")]
    assert [line["success"] for line in lines] == [True, False]
    exported = books.documents.export({"filter_by": "sold:<25", "include_fields": "id,sold"})
    assert [json.loads(line) for line in exported.split("\n")] == [
        {"id": "2", "sold": 20},
        {"id": "3", "sold": 10},
        {"id": "5", "sold": 1},
    ]
