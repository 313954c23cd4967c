//! The examples of `docs/api/`, run as they are printed.
//!
//! Every page is sent to one server, block by block, and begins on an empty one. An example is a block
//!
//! ```text
//! ```http                              method and path, headers if any, the body
//! POST /v2/namespaces/otters
//! {"upsert_rows": [{"id": 1}]}
//! ```
//! ```json                              what the answer must contain; status 200
//! {"status": "OK", "rows_affected": 1}
//! ```
//! ```
//!
//! An answer with another status, or with headers worth showing, is an `http` block that begins with `HTTP 400`.
//! The string `…` in an answer stands for any value that is there, `{token}` in a path or header for the `token` of the
//! newest answer that had one. What cannot run here has `<!-- not run: why -->` before it.

#![allow(clippy::disallowed_methods, reason = "a test of a real process waits in real time")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::cases::contains;
use support::http::{Answer, Http};
use support::models::{DIMS, Models};
use support::server::{API_KEY, Server, Settings, say};

const FOLDER: &str = "docs/api";

/// What every page together must show in an example that runs, besides what `/openapi.json` names.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    // filters
    "And", "Or", "Not", "Eq", "NotEq", "In", "NotIn", "Lt", "Lte", "Gt", "Gte", "Contains", "NotContains", "ContainsAny",
    "NotContainsAny", "AnyLt", "AnyLte", "AnyGt", "AnyGte", "Glob", "NotGlob", "IGlob", "NotIGlob", "Regex", "Fuzzy",
    "ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence", "last_as_prefix", "max_edit_distance",
    "min_query_chars", "distance", "$ref_new",
    // ranking
    "ANN", "kNN", "SparseKNN", "BM25", "Sum", "Max", "Product", "Attribute", "Dist", "Saturate", "Decay", "midpoint",
    "exponent", "asc", "desc", "per", "total", "RRF", "rank_constant", "weights",
    // aggregations
    "Count", "Min", "Avg", "CountDistinct", "Top", "ForEachUnique",
    // computed attributes
    "VectorDist", "Highlight", "fragment_by", "fragment_limit", "include_offsets", "rank_fragments_by", "$fragment",
    "none", "sentence", "paragraph", "word", "utf-8", "utf-16", "codepoints",
    // schema
    "type", "filterable", "full_text_search", "regex", "glob", "fuzzy", "ann", "distance_metric", "late_interaction",
    "sparse_knn", "drop", "tokenizer", "language", "stemming", "remove_stopwords", "case_sensitive", "ascii_folding",
    "max_token_length", "k1", "b", "k3", "word_v0", "word_v1", "word_v2", "word_v3", "word_v4", "pre_tokenized_array",
    "string", "int", "uint", "float", "uuid", "datetime", "bool", "bytes", "[]string", "[]int", "[]uint", "[]float",
    "[]uuid", "[]datetime", "[]bool", "[2]f32", "[2]f16", "[2]i8", "[][2]f32", "{}f16", "cosine_distance",
    "euclidean_squared", "dot_product",
    // other words of requests
    "level", "strong", "eventual", "max_staleness_seconds", "base64", "source_namespace", "num_shards", "replicas",
];

/// One example of a page.
struct Example {
    /// `docs/api/write.md:12`.
    at: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    status: u16,
    answer_headers: Vec<(String, String)>,
    /// Null: nothing is said of the body.
    answer: Value,
    runs: bool,
}

struct Block {
    line: usize,
    kind: String,
    text: String,
    /// Whether the line before says that it does not run.
    not_run: bool,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut not_run = false;
    for (i, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => {
                open = Some(Block {
                    line: i + 1,
                    kind: kind.to_owned(),
                    text: String::new(),
                    not_run,
                });
            }
            (None, None) => not_run = line.starts_with("<!-- not run: ") || (not_run && line.is_empty()),
            (Some(_), Some(_)) => {
                blocks.extend(open.take());
                not_run = false;
            }
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// The first line, the header lines after it, and the rest.
fn parts(text: &str) -> (&str, Vec<(String, String)>, String) {
    let (first, mut rest) = text.split_once('\n').unwrap_or((text, ""));
    let mut headers = Vec::new();
    while let Some((line, after)) = rest.split_once('\n')
        && let Some((name, value)) = line.split_once(": ")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    {
        headers.push((name.to_owned(), value.to_owned()));
        rest = after;
    }
    (first, headers, rest.trim().to_owned())
}

fn examples(name: &str, page: &str) -> Vec<Example> {
    let mut blocks = blocks(page).into_iter().peekable();
    let mut examples = Vec::new();
    while let Some(block) = blocks.next() {
        let at = format!("{FOLDER}/{name}:{}", block.line);
        assert!(
            block.kind != "json" || block.not_run,
            "{at}: a json block that is no answer to the http block before it"
        );
        if block.kind != "http" {
            continue;
        }
        let (request, headers, body) = parts(&block.text);
        let (method, path) = request
            .split_once(' ')
            .unwrap_or_else(|| panic!("{at}: no method and path"));
        let answers = |b: &Block| b.kind == "json" || (b.kind == "http" && b.text.starts_with("HTTP "));
        let (mut status, mut answer_headers, mut answer) = (200, Vec::new(), String::new());
        if let Some(block) = blocks.next_if(answers) {
            answer = block.text;
            if block.kind == "http" {
                let (first, headers, rest) = parts(&answer);
                status = first["HTTP ".len()..]
                    .trim()
                    .parse()
                    .unwrap_or_else(|_| panic!("{at}: no status"));
                (answer_headers, answer) = (headers, rest);
            }
        }
        let answer = match answer.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|e| panic!("{at}: the answer is no JSON: {e}")),
        };
        examples.push(Example {
            method: method.to_owned(),
            path: path.to_owned(),
            headers,
            body,
            status,
            answer_headers,
            answer,
            runs: !block.not_run,
            at,
        });
    }
    examples
}

/// Every page in the order of the index, which is the order of the names.
fn pages() -> Vec<(String, Vec<Example>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let files = fs::read_dir(folder).expect("the pages are in the repository");
    let mut pages: Vec<_> = files
        .map(|file| file.expect("a readable folder"))
        .filter_map(|file| {
            let name = file.file_name().into_string().expect("UTF-8");
            let text = fs::read_to_string(file.path()).expect("a page is text");
            name.ends_with(".md").then(|| (name.clone(), examples(&name, &text)))
        })
        .collect();
    pages.sort_by(|a, b| a.0.cmp(&b.0));
    pages
}

/// Puts what was found where the page has `…`.
fn with_found(expected: &mut Value, found: &Value) {
    match expected {
        Value::String(s) if s == "…" => *expected = found.clone(),
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(found) = found.get(key) {
                    with_found(value, found);
                }
            }
        }
        Value::Array(list) => {
            for (value, found) in list.iter_mut().zip(found.as_array().into_iter().flatten()) {
                with_found(value, found);
            }
        }
        _ => {}
    }
}

/// Puts the values of earlier answers into a path.
fn filled(path: &str, known: &BTreeMap<String, String>) -> String {
    known.iter().fold(path.to_owned(), |path, (key, value)| {
        path.replace(&format!("{{{key}}}"), value)
    })
}

async fn send(server: &Http, example: &Example, known: &BTreeMap<String, String>) -> Answer {
    let key = format!("Bearer {API_KEY}");
    let own: Vec<(&str, String)> = example
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), filled(v, known)))
        .collect();
    // An example that shows a credential of its own is sent with that alone.
    let is_credential =
        |name: &str| ["authorization", "x-typesense-api-key"].contains(&name.to_ascii_lowercase().as_str());
    let mut headers: Vec<(&str, &str)> = own.iter().map(|(n, v)| (*n, v.as_str())).collect();
    if !own.iter().any(|(name, _)| is_credential(name)) {
        headers.push(("Authorization", key.as_str()));
    }
    let path = filled(&example.path, known);
    for _ in 0..200 {
        let answer = server
            .send_with(&example.method, &path, &headers, example.body.clone())
            .await;
        // A started operation is asked again, as a client would.
        if answer.json()["status"] != "running" || example.answer["status"] == "running" {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{}: the operation does not end", example.at);
}

fn check(example: &Example, answer: &Answer) -> Result<(), String> {
    if answer.status != example.status {
        return Err(format!("status should be {}", example.status));
    }
    for (name, value) in &example.answer_headers {
        let found = answer.headers.get(name).and_then(|v| v.to_str().ok());
        if !found.is_some_and(|found| value == "…" || found == value) {
            return Err(format!("header {name} should be {value:?}, is {found:?}"));
        }
    }
    let mut expected = example.answer.clone();
    if expected.is_null() {
        return Ok(());
    }
    with_found(&mut expected, &answer.json());
    contains(&answer.json(), &expected, "the answer")
}

/// A server on memory that knows the two models of the pages, `concepts` and `judge`.
fn start(dir: &Path, models: &Models) -> Server {
    let url = &models.url;
    let list = format!(
        "[{{name=\"concepts\",url=\"{url}/v1/embeddings\",dims={DIMS}}},\
         {{name=\"judge\",kind=\"rerank\",url=\"{url}/rerank\"}}]"
    );
    let mut settings = Settings {
        store: "memory:".into(),
        ..Settings::local(dir)
    };
    settings
        .env
        .push(("SHOAL_ALLOW_CUSTOM_KEY_VALUES".into(), "true".into()));
    if !url.is_empty() {
        settings.env.push(("SHOAL_MODELS".into(), list));
    }
    settings.start()
}

async fn delete_all(server: &Http) {
    let listed = server.send("GET", "/v1/namespaces?page_size=1000", "").await.json();
    for namespace in listed["namespaces"].as_array().into_iter().flatten() {
        let name = namespace["id"].as_str().expect("a name");
        server.send("DELETE", &format!("/v2/namespaces/{name}"), "").await;
    }
}

#[tokio::test]
async fn every_example_of_the_pages_answers_as_printed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let models = Models::start().await;
    let server = start(dir.path(), &models);
    let server = Http::to(&server);
    let (mut ran, mut left) = (0, 0);
    let mut failures = Vec::new();
    for (_, examples) in pages() {
        let mut known = BTreeMap::new();
        for example in &examples {
            if !example.runs {
                left += 1;
                continue;
            }
            ran += 1;
            let answer = send(&server, example, &known).await;
            if let Some(object) = answer.json().as_object() {
                known.extend(
                    object
                        .iter()
                        .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))),
                );
            }
            if let Err(why) = check(example, &answer) {
                let body = String::from_utf8_lossy(&answer.body);
                let shown: String = body.chars().take(1000).collect();
                failures.push(format!("{}: {why}; got {} {shown}", example.at, answer.status));
            }
        }
        delete_all(&server).await;
    }
    say(&format!(
        "{ran} examples of the documentation ran, {left} cannot run here"
    ));
    assert!(
        failures.is_empty(),
        "{} examples failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Every key and every string of a body.
fn words(json: &Value, into: &mut BTreeSet<String>) {
    match json {
        Value::String(word) => {
            into.insert(word.clone());
        }
        Value::Array(list) => list.iter().for_each(|json| words(json, into)),
        Value::Object(map) => {
            into.extend(map.keys().cloned());
            map.values().for_each(|json| words(json, into));
        }
        _ => {}
    }
}

/// The names of the fields of a request's body, its references followed.
fn fields(schema: &Value, document: &Value, into: &mut BTreeSet<String>, depth: usize) {
    if depth > 4 {
        return;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let place = reference.trim_start_matches('#');
        return fields(
            document.pointer(place).unwrap_or(&Value::Null),
            document,
            into,
            depth + 1,
        );
    }
    into.extend(
        schema["properties"]
            .as_object()
            .into_iter()
            .flat_map(|p| p.keys().cloned()),
    );
    for key in ["anyOf", "oneOf", "allOf"] {
        for part in schema[key].as_array().into_iter().flatten() {
            fields(part, document, into, depth + 1);
        }
    }
}

#[tokio::test]
async fn every_route_field_and_operator_has_an_example() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = start(dir.path(), &Models::default());
    let document = Http::to(&server)
        .send_with("GET", "/openapi.json", &[], "")
        .await
        .json();
    let pages = pages();
    let run: Vec<&Example> = pages.iter().flat_map(|(_, e)| e).filter(|e| e.runs).collect();
    let mut shown = BTreeSet::new();
    for example in &run {
        words(&serde_json::from_str(&example.body).unwrap_or(Value::Null), &mut shown);
    }
    let mut missing: Vec<String> = WORDS
        .iter()
        .filter(|w| !shown.contains(**w))
        .map(|w| format!("{w:?}"))
        .collect();
    let paths = document["paths"].as_object().expect("a document has paths");
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("a path has methods") {
            let method = method.to_uppercase();
            if !run.iter().any(|e| e.method == method && is_of(&e.path, path)) {
                missing.push(format!("{method} {path}"));
            }
            let mut named = BTreeSet::new();
            fields(
                &operation["requestBody"]["content"]["application/json"]["schema"],
                &document,
                &mut named,
                0,
            );
            missing.extend(
                named
                    .iter()
                    .filter(|f| !shown.contains(*f))
                    .map(|f| format!("{method} {path}: {f}")),
            );
        }
    }
    assert!(missing.is_empty(), "no example that runs has\n{}", missing.join("\n"));
}

/// Whether a path is one of a template such as `/v2/namespaces/{namespace}`.
fn is_of(path: &str, template: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (path, template): (Vec<_>, Vec<_>) = (path.split('/').collect(), template.split('/').collect());
    path.len() == template.len() && path.iter().zip(&template).all(|(p, t)| p == t || t.starts_with('{'))
}

/// The numbers of a table's rows, and the tests that each names: file and function.
fn named_tests(page: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (Some(number), Some(tests)) = (cells.first(), cells.last()) else {
            continue;
        };
        if !number.ends_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let mut file = String::new();
        let mut named = Vec::new();
        for word in tests.split('`').skip(1).step_by(2) {
            match word.ends_with(".rs") {
                true => file = word.to_owned(),
                false => named.push((file.clone(), word.to_owned())),
            }
        }
        assert!(
            rows.insert((*number).to_owned(), named).is_none(),
            "{number} is there twice"
        );
    }
    rows
}

#[test]
fn every_failure_and_every_invariant_has_tests_that_exist() {
    let page = fs::read_to_string("docs/design/0009-failures.md").expect("the page is there");
    let rows = named_tests(&page);
    let failures = (1..=32).map(|n| n.to_string());
    let wanted: BTreeSet<String> = failures.chain((1..=16).map(|n| format!("I{n}"))).collect();
    let found: BTreeSet<String> = rows.keys().cloned().collect();
    assert_eq!(found, wanted);
    for (number, tests) in rows {
        assert!(!tests.is_empty(), "{number} has no test");
        for (file, test) in tests {
            let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{number}: {file}: {e}"));
            let is_there = text.lines().any(|line| {
                let line = line.trim_start();
                let function = line.strip_prefix("async ").unwrap_or(line);
                function
                    .strip_prefix("fn ")
                    .is_some_and(|f| f.split('(').next() == Some(&test))
            });
            assert!(is_there, "{number}: {file} has no test {test}");
        }
    }
}
