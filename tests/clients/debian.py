#!/usr/bin/env python3
"""Loads 10,000 real package descriptions through the official Python client and scores the answers.

    debian.py DATA [--out DIR] [--queries N] [--verify-only] [--namespace NAME] [--url URL] [--key KEY]

DATA is the directory `debian` of the test data; `score.py` lies beside it. The server is named by --url and --key, or by
SHOAL_TEST_URL and SHOAL_TEST_KEY. The data are of third parties and no part of this repository; without them the script
says so and ends with status 0, so that a caller need not know.

What is asked, and what must come of it:

  vectors   the 200 query embeddings, cosine distance                      recall@10 = 1
  filters   the same under each of 13 filters, one of them per query       recall@10 = 1
  text      BM25 over the reference's own tokens (pre_tokenized_array)     overlap@10 >= 0.99
            and over `text` as word_v4 tokenises it                        reported beside it

Run files for score.py go to DIR/runs, and every answer to DIR/answers.json. After the process was killed and started
again, --verify-only asks the same questions and demands the same answers, scores bit for bit, and the same rows.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.util
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, Iterable

import numpy as np
import turbopuffer
from turbopuffer import Turbopuffer

K = 10
ROWS_PER_WRITE = 1000
QUERIES_PER_REQUEST = 16
OVERLAP_MIN = 0.99

FIELDS = [
    "name", "summary", "text", "section", "priority", "arch", "source", "version", "maintainer", "homepage",
    "installed_size", "download_size", "n_depends", "tags",
]  # fmt: skip

# The reference has no saturation of repeated query terms, which is k3 without bound, and drops no long tokens.
SCHEMA: dict[str, Any] = {
    "vector": {"type": "[384]f32", "ann": {"distance_metric": "cosine_distance"}},
    "text": {"type": "string", "full_text_search": {"tokenizer": "word_v4", "k3": 1e12}},
    "tokens": {
        "type": "[]string",
        "full_text_search": {"tokenizer": "pre_tokenized_array", "k3": 1e12, "max_token_length": 254},
    },
    "installed_size": "int",
    "download_size": "int",
    "n_depends": "int",
    "tags": "[]string",
}


def tokens(text: str) -> list[str]:
    """The reference's tokens: maximal runs of letters and digits, in lower case."""
    return [token.lower() for token in re.findall(r"[^\W_]+", text)]


class Data:
    """The files, read once."""

    def __init__(self, path: Path, queries: int | None) -> None:
        self.path = path
        with gzip.open(path / "docs.jsonl.gz", "rt", encoding="utf-8") as lines:
            self.docs = [json.loads(line) for line in lines]
        with open(path / "queries.jsonl", encoding="utf-8") as lines:
            self.queries = [json.loads(line) for line in lines][:queries]
        self.vectors = np.load(path / "vectors_f16.npy").astype(np.float32)
        self.query_vectors = np.load(path / "queries_f16.npy").astype(np.float32)
        with open(path / "filtered" / "filters.json", encoding="utf-8") as file:
            self.filters = read_filters(json.load(file))

    def filter_of(self, name: str, query: dict[str, Any]) -> Any:
        if name == "same_section":
            return ["section", "Eq", query["from_section"]]
        return self.filters[name]


def read_filters(raw: Any) -> dict[str, Any]:
    """Name → filter, from either form of the file: a map, or a list of objects."""
    items = raw.items() if isinstance(raw, dict) else ((entry["name"], entry) for entry in raw)
    return {name: value.get("filter") if isinstance(value, dict) else value for name, value in items}


def load(ns: Any, data: Data) -> None:
    """Writes all rows, a thousand a request."""
    begin = time.monotonic()
    try:
        ns.delete_all()
    except turbopuffer.NotFoundError:
        pass
    for start in range(0, len(data.docs), ROWS_PER_WRITE):
        docs = data.docs[start : start + ROWS_PER_WRITE]
        columns: dict[str, Any] = {field: [doc.get(field) for doc in docs] for field in FIELDS}
        columns["id"] = [doc["id"] for doc in docs]
        columns["tokens"] = [tokens(doc["text"]) for doc in docs]
        columns["vector"] = [data.vectors[doc["id"]].tolist() for doc in docs]
        answer = ns.write(upsert_columns=columns, schema=SCHEMA, distance_metric="cosine_distance")
        assert answer.rows_upserted == len(docs), answer
    seconds = time.monotonic() - begin
    report(rows_written=len(data.docs), seconds=round(seconds, 2), rows_per_second=round(len(data.docs) / seconds))


def ask(ns: Any, what: str, queries: Iterable[dict[str, Any]]) -> list[list[list[Any]]]:
    """The hits of each query as [id, score], sixteen queries a request."""
    begin = time.monotonic()
    queries = list(queries)
    hits = []
    for start in range(0, len(queries), QUERIES_PER_REQUEST):
        answer = ns.multi_query(queries=queries[start : start + QUERIES_PER_REQUEST])
        hits += [[[row.id, row["$dist"]] for row in result.rows] for result in answer.results]
    seconds = time.monotonic() - begin
    report(asked=what, queries=len(queries), seconds=round(seconds, 2))
    return hits


def ask_everything(ns: Any, data: Data) -> dict[str, list[list[list[Any]]]]:
    """Every part's answers by name."""
    vectors = [data.query_vectors[i].tolist() for i in range(len(data.queries))]
    answers = {"vectors": ask(ns, "vectors", ({"rank_by": ("vector", "ANN", v), "limit": K} for v in vectors))}
    for name in data.filters:
        filtered = (
            {"rank_by": ("vector", "ANN", vector), "filters": data.filter_of(name, query), "limit": K}
            for vector, query in zip(vectors, data.queries)
        )
        answers[f"filter-{name}"] = ask(ns, name, filtered)
    texts = [query["text"] for query in data.queries]
    answers["text-tokens"] = ask(ns, "text", ({"rank_by": ("tokens", "BM25", tokens(t)), "limit": K} for t in texts))
    answers["text-word_v4"] = ask(ns, "word_v4", ({"rank_by": ("text", "BM25", t), "limit": K} for t in texts))
    return answers


def digest_of_all_rows(ns: Any) -> str:
    """SHA-256 over every row with all its attributes, paged by id."""
    digest, last, count = hashlib.sha256(), None, 0
    while True:
        more = {} if last is None else {"filters": ("id", "Gt", last)}
        rows = ns.query(rank_by=("id", "asc"), limit=1000, include_attributes=True, **more).rows
        for row in rows:
            digest.update(json.dumps(row.to_dict(), sort_keys=True).encode())
        count += len(rows)
        if not rows:
            return f"{count} rows {digest.hexdigest()}"
        last = rows[-1].id


def write_runs(out: Path, data: Data, answers: dict[str, Any]) -> None:
    """The answers as files that score.py reads."""
    (out / "runs").mkdir(parents=True, exist_ok=True)
    for name, hits in answers.items():
        with open(out / "runs" / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for query, hit in zip(data.queries, hits):
                file.write(json.dumps({"query_id": query["id"], "hits": [[str(i), s] for i, s in hit]}) + "\n")


def check(data: Data, out: Path, answers: dict[str, Any]) -> list[str]:
    """Scores the run files with score.py's own functions; returns what fell short."""
    spec = importlib.util.spec_from_file_location("score", data.path.parent / "score.py")
    assert spec and spec.loader
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    asked = [query["id"] for query in data.queries]
    short = []

    def gate(name: str, values: list[float], least: float | None) -> None:
        mean = sum(values) / len(values)
        report(scored=name, mean=round(mean, 5), least=round(min(values), 4), queries=len(values))
        if least is not None and mean < least:
            short.append(f"{name}: {mean:.5f} is below {least}")

    for name in answers:
        run = score.load_run(str(out / "runs" / f"{name}.jsonl"))
        if name.startswith("text-"):
            reference = score.load_run(str(data.path / "run_bm25_plain_exact.jsonl.gz"))
            reference = {query: hits for query, hits in reference.items() if query in asked}
            gate(f"{name} overlap@{K}", score.overlap(reference, run, K), OVERLAP_MIN if name == "text-tokens" else None)
            continue
        stem = "gt_cosine_distance" if name == "vectors" else f"filtered/gt_{name.removeprefix('filter-')}"
        ids = score.npy(str(data.path / f"{stem}_ids.npy"))[: len(asked)]
        dist = score.npy(str(data.path / f"{stem}_dist.npy"))[: len(asked)]
        gate(f"{name} recall@{K}", score.recall(ids, dist, run, K, asked), 1.0)
    return short


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = []
    for name in sorted(before.keys() | after.keys()):
        if name == "rows":
            if before[name] != after.get(name):
                found.append(f"rows: {before[name]} became {after.get(name)}")
            continue
        old, new = before.get(name, []), after.get(name, [])
        wrong = [i for i in range(max(len(old), len(new))) if old[i : i + 1] != new[i : i + 1]]
        if wrong:
            i = wrong[0]
            found.append(f"{name}: {len(wrong)} answers differ, first query {i}: {old[i : i + 1]} became {new[i : i + 1]}")
    return found


def report(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("debian-out"))
    parser.add_argument("--queries", type=int, help="ask only the first N")
    parser.add_argument("--verify-only", action="store_true", help="write nothing, compare with the saved answers")
    parser.add_argument("--namespace", default="debian")
    parser.add_argument("--url", default=os.environ.get("SHOAL_TEST_URL"))
    parser.add_argument("--key", default=os.environ.get("SHOAL_TEST_KEY"))
    options = parser.parse_args()
    if not (options.data / "docs.jsonl.gz").exists():
        print(f"left out: there is no docs.jsonl.gz in {options.data}", file=sys.stderr)
        return 0
    if not options.url or not options.key:
        parser.error("name the server with --url and --key, or with SHOAL_TEST_URL and SHOAL_TEST_KEY")
    os.environ.pop("TURBOPUFFER_REGION", None)
    client = Turbopuffer(base_url=options.url, api_key=options.key, timeout=300)
    ns = client.namespace(options.namespace)
    data = Data(options.data, options.queries)
    saved = options.out / "answers.json"
    if not options.verify_only:
        load(ns, data)
    answers = ask_everything(ns, data)
    write_runs(options.out, data, answers)
    problems = check(data, options.out, answers)
    answers["rows"] = digest_of_all_rows(ns)
    if options.verify_only:
        problems += differences(json.loads(saved.read_text(encoding="utf-8")), answers)
    else:
        saved.write_text(json.dumps(answers), encoding="utf-8")
    for problem in problems:
        print(f"FAILED {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
