#!/usr/bin/env python3
"""Writes the bodies of tests/cases into fuzz/corpus, as what the fuzzers start from."""

import hashlib
import json
import pathlib

ROOT = pathlib.Path(__file__).parent
BODIES: dict[str, set[str]] = {"write_body": set(), "query": set(), "filter": set(), "legacy": set()}


def filters(body: object) -> None:
    """Notes every filter in a body."""
    if isinstance(body, dict):
        for key, value in body.items():
            if key in {"filters", "delete_by_filter", "upsert_condition", "patch_condition", "delete_condition"}:
                BODIES["filter"].add(json.dumps(value))
            filters(value)
    elif isinstance(body, list):
        for value in body:
            filters(value)


def note(step: dict) -> None:
    body = step.get("raw", json.dumps(step["body"]) if "body" in step else None)
    if body is None:
        return
    path = step["do"].split(" ")[1]
    version, query = path.startswith("/v2/"), path.endswith("/query")
    BODIES["legacy" if not version else "query" if query else "write_body"].add(body)
    filters(step.get("body"))


for table in sorted((ROOT.parent / "tests/cases").glob("*.json")):
    for case in json.loads(table.read_text()):
        for step in case.get("steps", [case]):
            note(step)
BODIES["credential"] = {
    '{"filter_by": "n:7", "expires_at": 4102444800}',
    '{"collection": "shop_1", "include_fields": "a,b", "exclude_fields": "c", "limit_multi_searches": 3}',
    '{"namespace": ["shop_*"], "filters": ["n", "Eq", 7], "include_attributes": ["a"], "max_top_k": 5}',
    '{"q": "x", "query_by": "a", "preset": "p", "cache_ttl": 5}',
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiIsImtpZCI6Im46NWYxZToxIn0.eyJpc3MiOiJkZXAiLCJhdWQiOiJkYXRhIn0.AAAA",
}
BODIES["filter_by"] = {
    "s:=a && (i:[1..5] || i:>7)",
    "s:![`a,b`, c*] || b:true",
    "t:x && d:<5",
    "shop_*",
    "(a|b).*",
}
for target, bodies in BODIES.items():
    folder = ROOT / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for body in bodies:
        if len(body) <= 64 * 1024:
            (folder / hashlib.sha256(body.encode()).hexdigest()[:32]).write_text(body)
    print(f"{target}: {len(bodies)} seeds")
