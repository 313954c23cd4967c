"""Does /openapi.json tell the truth about the requests of tests/cases/*.json and their answers?

Sends every good case to a running server and holds against the document:

- that the path, the method and the status of each answer are described,
- that the body of each answer has the described schema and content type,
- that the body of each request that was answered with success has the schema of that operation's requests.

Usage: replay.py URL KEY CASES_DIR
"""

import json
import pathlib
import re
import sys
import urllib.parse

import jsonschema_rs
import requests


class Document:
    def __init__(self, document):
        self.document = document
        self.validators = {}
        self.paths = []
        for template, methods in document["paths"].items():
            pattern = re.sub(r"\{[^}]+\}", "[^/]+", template.replace(".", r"\."))
            self.paths.append((re.compile(pattern + "$"), template, methods))

    def operation(self, method, path):
        path = urllib.parse.urlsplit(path).path
        for pattern, template, methods in self.paths:
            if pattern.match(path) and method.lower() in methods:
                return f"{method} {template}", methods[method.lower()]
        return None, None

    def response(self, operation, status):
        described = operation["responses"].get(str(status))
        if described and "$ref" in described:
            described = self.document["components"]["responses"][described["$ref"].rsplit("/", 1)[1]]
        return described

    def complaints(self, key, schema, value):
        """What is wrong with a value, shortly."""
        if key not in self.validators:
            whole = {"components": self.document["components"], **schema}
            self.validators[key] = jsonschema_rs.Draft202012Validator(whole)
        errors = self.validators[key].iter_errors(value)
        return [f"{e.message[:300]} at /{'/'.join(map(str, e.instance_path))}" for e in errors][:3]


def check(document, method, path, step, answer):
    """Every way in which one request and its answer differ from the document."""
    name, operation = document.operation(method, path)
    # Paths and methods that do not exist are not described, nor is the region before a path.
    if operation is None:
        known = answer.status_code in (404, 405) or not re.match("/v[123]/", path)
        return [] if known else [f"{method} {path} is not described"]
    described = document.response(operation, answer.status_code)
    if described is None:
        return [f"{name}: status {answer.status_code} is not described"]
    wrong = []
    content = described.get("content", {})
    kind = answer.headers.get("content-type", "").split(";")[0]
    if method != "HEAD":
        if kind not in content:
            return [f"{name}: content type {kind!r} is not described"]
        if kind == "application/json":
            schema = content[kind]["schema"]
            found = document.complaints(f"{name} {answer.status_code}", schema, answer.json())
            wrong += [f"{name}: answer {answer.status_code}: {e}" for e in found]
    if answer.ok and "body" in step:
        body = operation.get("requestBody")
        if body is None:
            wrong.append(f"{name}: its body is not described")
        else:
            schema = body["content"]["application/json"]["schema"]
            found = document.complaints(f"{name} body", schema, step["body"])
            wrong += [f"{name}: body {json.dumps(step['body'])[:300]}: {e}" for e in found]
    return wrong


def main(url, key, cases):
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key}"
    document = Document(session.get(f"{url}/openapi.json", timeout=30).json())
    sent, wrong, seen = 0, [], set()
    for table in sorted(pathlib.Path(cases).glob("*.json")):
        if table.stem == "bad_input" or table.stem.endswith("_bad"):
            continue
        for n, case in enumerate(json.loads(table.read_text())):
            for step in case["steps"]:
                method, path = step["do"].replace("$ns", f"replay-{table.stem}-{n}").split(" ", 1)
                body = json.dumps(step["body"]) if "body" in step else step.get("raw", "")
                answer = session.request(method, url + path, data=body.encode(), timeout=60)
                sent += 1
                seen.add(document.operation(method, path)[0])
                for complaint in check(document, method, path, step, answer):
                    wrong.append(f"{table.stem}: {case['name']}: {complaint}")
    print(f"{sent} requests of {len(seen)} operations, {len(wrong)} differences from the document")
    for complaint in wrong[:50]:
        print(" ", complaint)
    sys.exit(bool(wrong) or sent == 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
