//! Do texts become vectors, and find what means the same?
//!
//! A real `shoal` asks a server of models inside the test, which knows a few concepts or replays what all-MiniLM-L6-v2
//! made of the Debian package descriptions. The official Python client drives the same server.

#![allow(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]

mod support;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use serde_json::{Value, json};
use shoal::base::{CpuPool, Rng};
use shoal::config::{ModelConfig, ModelKind};
use shoal::error::ErrorKind;
use shoal::inference::Inference;
use shoal::model::query::{Compute, Projection, Read as Asked, Rerank, VectorQuery};
use shoal::model::{Consistency, Direction, Query, RankBy};
use shoal::namespace::EngineOptions;
use shoal::query::{Computed, Rank};
use support::debian::Debian;
use support::engine::{Node, ids, name};
use support::http::{Answer, Http};
use support::models::{DIMS, Gate, Mode, Models};
use support::server::{API_KEY, Server, Settings, left_out, say};

/// A server that knows the models, and a client of it.
struct World {
    _dir: tempfile::TempDir,
    models: Models,
    server: Server,
    http: Http,
}

async fn world() -> World {
    world_of(Models::start().await, DIMS)
}

fn world_of(models: Models, dims: usize) -> World {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut settings = Settings::local(dir.path());
    let url = &models.url;
    let list = format!(
        "[{{name=\"concepts\",url=\"{url}/v1/embeddings\",dims={dims},api_key=\"hush\",timeout_seconds=1,deadline_seconds=2}},\
         {{name=\"other\",url=\"{url}/v1/embeddings\",dims={dims}}},\
         {{name=\"judge\",kind=\"rerank\",url=\"{url}/rerank\"}}]"
    );
    settings.env.push(("SHOAL_MODELS".into(), list));
    let server = settings.start();
    World {
        _dir: dir,
        http: Http::to(&server),
        models,
        server,
    }
}

impl World {
    async fn post(&self, path: &str, body: Value) -> Answer {
        self.http.json("POST", path, &body).await
    }

    async fn write(&self, body: Value) -> Answer {
        self.post("/v2/namespaces/n", body).await
    }

    async fn written(&self, body: Value) -> Value {
        let answer = self.write(body).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }

    async fn query(&self, body: Value) -> Answer {
        self.post("/v2/namespaces/n/query", body).await
    }

    async fn found(&self, body: Value) -> Value {
        let answer = self.query(body).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }

    /// The ids of the rows nearest to a text.
    async fn nearest(&self, column: &str, text: &str) -> Vec<u64> {
        let found = self
            .found(json!({"rank_by": [column, "ANN", ["Embed", text]], "limit": 10}))
            .await;
        row_ids(&found)
    }

    async fn refused(&self, path: &str, body: Value, status: u16, part: &str) {
        let answer = self.post(path, body).await;
        let said = answer.json();
        assert_eq!(answer.status, status, "{said}");
        assert!(said["error"].as_str().unwrap_or_default().contains(part), "{said}");
    }
}

fn row_ids(answer: &Value) -> Vec<u64> {
    let rows = answer["rows"].as_array().expect("rows");
    rows.iter().map(|r| r["id"].as_u64().expect("an id")).collect()
}

fn texts() -> Value {
    json!([
        {"id": 1, "text": "A kitten sleeps on the sofa"},
        {"id": 2, "text": "The automobile needs new tyres"},
        {"id": 3, "text": "Drizzle in the morning, a storm at night"},
        {"id": 4, "text": "How to knead dough"},
        {"id": 5, "text": null},
        {"id": 6},
    ])
}

fn embedded() -> Value {
    json!({"schema": {"text": {"type": "string", "embed": "concepts"}}, "upsert_rows": texts()})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paraphrase_finds_the_text_that_means_the_same() {
    let w = world().await;
    let answer = w.written(embedded()).await;
    assert_eq!(answer["rows_upserted"], 6);
    assert!(answer["performance"]["embedding_ms"].as_u64() >= Some(1), "{answer}");
    assert_eq!(answer["performance"]["embedding_tokens"], 6 + 5 + 8 + 4);
    for (text, id) in [
        ("feline", 1),
        ("driving a car", 2),
        ("bad weather", 3),
        ("baking bread", 4),
    ] {
        let found = w.nearest("$embed_text", text).await;
        assert_eq!((found[0], found.len()), (id, 4), "{text}: {found:?}");
    }
    let found = w
        .found(json!({"rank_by": ["$embed_text", "ANN", ["Embed", "a loaf", {"model": "other"}]], "limit": 1}))
        .await;
    assert_eq!(row_ids(&found), [4]);
    assert!(found["performance"]["embedding_ms"].as_u64() >= Some(1), "{found}");
    assert_eq!(found["performance"]["embedding_tokens"], 2);
    let schema = w.http.send("GET", "/v1/namespaces/n/schema", "").await.json();
    assert_eq!(
        schema["text"]["embed"],
        json!({"model": "concepts", "attribute": "$embed_text"})
    );
    assert_eq!(schema["$embed_text"]["type"], format!("[{DIMS}]f32"));
    // As printed, it changes nothing.
    let again = w.post("/v1/namespaces/n/schema", schema.clone()).await;
    assert_eq!((again.status, again.json()), (200, schema));
    // The same again after a restart, from the log.
    let World {
        mut server,
        models,
        _dir,
        ..
    } = w;
    server.kill();
    let server = server.settings.start();
    let w = World {
        http: Http::to(&server),
        server,
        models,
        _dir,
    };
    assert_eq!(w.nearest("$embed_text", "purring").await[0], 1);
    w.written(json!({"upsert_rows": [{"id": 7, "text": "a boat at sea"}]}))
        .await;
    assert_eq!(w.nearest("$embed_text", "sailing vessel").await[0], 7);
    assert!(!w.server.log_tail().contains("hush"));
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_embedded_once_and_own_vectors_are_kept() {
    let w = world().await;
    w.written(json!({"distance_metric": "cosine_distance",
        "schema": {"vec": {"type": format!("[{DIMS}]f16"), "ann": true},
            "text": {"type": "string", "embed": {"model": "concepts", "attribute": "vec"}}},
        "upsert_rows": [{"id": 1, "text": "cat"}, {"id": 2, "text": "cat"}, {"id": 3, "text": "cat", "vec": [0, 0, 0, 0, 1, 0]},
            {"id": 4, "vec": [0, 1, 0, 0, 0, 0]}]}))
        .await;
    assert_eq!(w.models.take_texts(), ["cat"]);
    assert_eq!(
        w.nearest("vec", "boat").await[0],
        3,
        "its vector is its own, whatever its text"
    );
    assert_eq!(w.nearest("vec", "car").await[0], 4);
    assert_eq!(w.nearest("vec", "kitten").await[..2], [1, 2]);
    assert_eq!(w.models.take_texts(), ["boat", "car", "kitten"]);
    assert_eq!(w.nearest("vec", "kitten").await[..2], [1, 2]);
    assert!(w.models.take_texts().is_empty(), "query texts are remembered");
    // A text that changes gets another vector.
    w.written(json!({"upsert_rows": [{"id": 2, "text": "ship"}]})).await;
    assert_eq!(w.nearest("vec", "kitten").await[0], 1);
    // A write with no text to embed asks no model and says so by its silence.
    let silent = w.written(json!({"upsert_rows": [{"id": 9}], "deletes": [4]})).await;
    assert!(silent["performance"].get("embedding_ms").is_none(), "{silent}");
    let columns = json!({"id": [10, 11, 12], "text": ["storm", null, "car"], "vec": [null, null, [0, 0, 0, 1, 0, 0]]});
    w.written(json!({"upsert_columns": columns})).await;
    assert_eq!(w.nearest("vec", "rain").await[0], 10);
    assert_eq!(w.nearest("vec", "bread").await[0], 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_it_off_leaves_the_column() {
    let w = world().await;
    w.written(embedded()).await;
    let off = w
        .post("/v1/namespaces/n/schema", json!({"text": {"embed": null}}))
        .await;
    assert_eq!(off.status, 200, "{}", off.json());
    assert!(off.json()["text"].get("embed").is_none());
    assert_eq!(off.json()["$embed_text"]["type"], format!("[{DIMS}]f32"));
    w.models.take_texts();
    w.written(json!({"upsert_rows": [{"id": 8, "text": "cat"}]})).await;
    assert!(w.models.take_texts().is_empty());
    let query = "/v2/namespaces/n/query";
    let unnamed = json!({"rank_by": ["$embed_text", "ANN", ["Embed", "cat"]], "limit": 10});
    w.refused(query, unnamed, 400, "the model has to be named").await;
    let named = json!({"rank_by": ["$embed_text", "ANN", ["Embed", "cat", {"model": "concepts"}]], "limit": 10});
    let found = row_ids(&w.found(named).await);
    assert_eq!((found[0], found.len()), (1, 4), "row 8 has no vector: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_embedded_is_refused_and_changes_nothing() {
    let w = world().await;
    w.written(embedded()).await;
    let (write, query, schema) = ("/v2/namespaces/n", "/v2/namespaces/n/query", "/v1/namespaces/n/schema");
    let many: Vec<Value> = (0..31).map(|i| json!({"id": i, "text": format!("t{i}")})).collect();
    let by = |operand: Value| json!({"rank_by": ["$embed_text", "ANN", operand], "limit": 1});
    for (path, body, part) in [
        (write, json!({"upsert_rows": many}), "at most 30 rows"),
        (
            write,
            json!({"patch_rows": [{"id": 1, "text": "x"}]}),
            "cannot be patched",
        ),
        (
            write,
            json!({"patch_rows": [{"id": 1, "$embed_text": [1, 2, 3, 4, 5, 6]}]}),
            "cannot be patched",
        ),
        (
            write,
            json!({"schema": {"t2": {"type": "string", "embed": "gpt"}}}),
            "there are concepts, other",
        ),
        (
            write,
            json!({"schema": {"n": {"type": "int", "embed": "concepts"}}}),
            "needs string",
        ),
        (schema, json!({"$embed_text": {"drop": true}}), "set embed of"),
        (
            schema,
            json!({"text": {"embed": {"model": "concepts", "dims": 5}}}),
            "dims is 5",
        ),
        (query, by(json!(["Embed", " "])), "blank"),
        (query, by(json!(["Embed", "x", {"model": "gpt"}])), "not configured"),
        (
            query,
            json!({"rank_by": ["text", "ANN", ["Embed", "x"]], "limit": 1}),
            "needs a vector attribute",
        ),
        (
            query,
            json!({"rank_by": ["nope", "ANN", ["Embed", "x"]], "limit": 1}),
            "attribute not found",
        ),
    ] {
        w.models.take_texts();
        w.refused(path, body, 400, part).await;
        assert!(w.models.take_texts().is_empty(), "{part}");
    }
    w.refused(
        "/v2/namespaces/none/query",
        by(json!(["Embed", "x"])),
        404,
        "was not found",
    )
    .await;
    let all = w.found(json!({"rank_by": ["id", "asc"], "limit": 100})).await;
    assert_eq!(row_ids(&all), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_model_fails_nothing_is_written_and_nothing_waits_for_ever() {
    let w = world().await;
    for mode in [Mode::Status(500), Mode::Hang, Mode::Status(401)] {
        w.models.set(mode);
        w.refused("/v2/namespaces/n", embedded(), 503, "nothing was done").await;
    }
    w.models.set(Mode::Status(400));
    w.refused("/v2/namespaces/n", embedded(), 400, "refused the texts")
        .await;
    let missing = w.query(json!({"rank_by": ["id", "asc"], "limit": 1})).await;
    assert_eq!(missing.status, 404, "no namespace was made");
    w.models.set(Mode::Right);
    w.written(embedded()).await;
    w.models.set(Mode::Status(503));
    let unavailable = w
        .query(json!({"rank_by": ["$embed_text", "ANN", ["Embed", "new"]], "limit": 1}))
        .await;
    assert_eq!(unavailable.status, 503);
    assert!(unavailable.headers.contains_key("retry-after"));
    // What needs no model goes on.
    w.written(json!({"upsert_rows": [{"id": 9}]})).await;
    assert!(!w.server.log_tail().contains("hush"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rivals_schema_change_while_the_model_works_is_seen() {
    let w = Arc::new(world().await);
    w.written(json!({"schema": {"text": {"type": "string", "embed": "concepts"}}, "upsert_rows": [{"id": 1}]}))
        .await;
    // Another attribute; another model; none.
    let changes = [
        (json!({"more": "string"}), 200),
        (json!({"text": {"embed": "other"}}), 503),
        (json!({"text": {"embed": null}}), 200),
    ];
    for (id, (change, status)) in changes.into_iter().enumerate() {
        let gate = Arc::new(Gate::default());
        w.models.set(Mode::Gate(gate.clone()));
        let writer = w.clone();
        let row = json!({"upsert_rows": [{"id": id + 10, "text": format!("cat number {id}")}]});
        let write = tokio::spawn(async move { writer.write(row).await });
        gate.came.notified().await;
        let changed = w.post("/v1/namespaces/n/schema", change).await;
        assert_eq!(changed.status, 200, "{}", changed.json());
        gate.open.notify_one();
        let answer = write.await.expect("the write was answered");
        assert_eq!(answer.status, status, "{}", answer.json());
        w.models.set(Mode::Right);
    }
    let all = json!({"rank_by": ["id", "asc"], "limit": 10, "include_attributes": true});
    let all = w.found(all).await;
    assert_eq!(row_ids(&all), [1, 10, 12]);
    assert!(
        all["rows"][1].get("$embed_text").is_some(),
        "made, and used under the new schema"
    );
    assert!(
        all["rows"][2].get("$embed_text").is_none(),
        "made, and no longer wanted"
    );
}

/// An engine inside the test that knows the models.
fn node_with(models: &Models) -> Node {
    let endpoint = |path: &str| format!("{}{path}", models.url);
    let dims = Some(DIMS as u32);
    let configs = [
        ModelConfig::new("concepts", ModelKind::Embedding, &endpoint("/v1/embeddings"), dims),
        ModelConfig::new("judge", ModelKind::Rerank, &endpoint("/rerank"), None),
    ];
    let options = EngineOptions {
        inference: Inference::new(&configs, &Rng::seeded(1), &CpuPool::inline()).expect("valid"),
        ..EngineOptions::default()
    };
    Node::with(Arc::new(InMemory::new()), 1, options)
}

#[tokio::test]
async fn rows_are_ordered_by_a_models_judgement() {
    let models = Models::start().await;
    let node = node_with(&models);
    node.write("n", embedded()).await.expect("written");
    let read = |rerank, queries| Asked {
        queries,
        rerank,
        consistency: Consistency::Strong,
    };
    let judged = |query: &str, limit, offset| {
        Some(Rerank::Model {
            model: "judge".into(),
            attribute: "text".into(),
            query: query.into(),
            limit,
            offset,
        })
    };
    let by_id = Query {
        rank_by: Some(RankBy::Order(vec![("id".into(), Direction::Asc)])),
        limit: 10,
        include: Projection::Only(vec!["text".into()]),
        ..Query::default()
    };
    let namespace = name("n");
    let ask = |rerank, queries| node.engine.query(&node.org, &namespace, read(rerank, queries));
    // "weather" is in 3 only; 1, 2 and 4 have equal scores, so their ids decide; 5 and 6 have no text.
    let outcome = ask(judged("weather", None, 0), vec![by_id.clone()])
        .await
        .expect("answered");
    assert_eq!(ids(&outcome), [3, 1, 2, 4, 5, 6]);
    let ranks: Vec<bool> = outcome.results[0]
        .rows()
        .iter()
        .map(|r| matches!(r.rank, Some(Rank::Score(_))))
        .collect();
    assert_eq!(ranks, [true, true, true, true, false, false]);
    let outcome = ask(judged("weather", Some(2), 1), vec![by_id.clone()])
        .await
        .expect("answered");
    assert_eq!(ids(&outcome), [1, 2]);
    // Several queries: every row once, and texts compared on the way.
    let near = |text: &str| Query {
        rank_by: Some(RankBy::Nearest {
            attribute: "$embed_text".into(),
            query: VectorQuery::Embed {
                text: text.into(),
                model: None,
            },
            exact: false,
        }),
        limit: 2,
        ..by_id.clone()
    };
    let outcome = ask(judged("driving", None, 0), vec![near("cat"), near("car")])
        .await
        .expect("answered");
    assert_eq!(outcome.results.len(), 1);
    assert_eq!(ids(&outcome)[0], 2);
    let distinct: HashSet<u64> = ids(&outcome).into_iter().collect();
    assert_eq!(distinct.len(), ids(&outcome).len());
    assert!(outcome.embedding.is_some());
    let bare = Query {
        include: Projection::None,
        ..by_id.clone()
    };
    let by = |model: &str, attribute: &str| Rerank::Model {
        model: model.into(),
        attribute: attribute.into(),
        query: "q".into(),
        limit: None,
        offset: 0,
    };
    let all = Query {
        include: Projection::All,
        ..by_id.clone()
    };
    for (rerank, query, part) in [
        (judged("q", None, 0), bare, "must be in include_attributes"),
        (judged(" ", None, 0), by_id.clone(), "must not be blank"),
        (Some(by("x", "text")), by_id.clone(), "judge"),
        (Some(by("judge", "$embed_text")), all, "must be a string"),
    ] {
        let error = ask(rerank, vec![query]).await.expect_err(part);
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains(part), "{error}");
    }
    models.set(Mode::Status(500));
    let error = ask(judged("q", None, 0), vec![by_id]).await.expect_err("no model");
    assert_eq!(error.kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn computed_distances_take_texts_too() {
    let models = Models::start().await;
    let node = node_with(&models);
    node.write("n", embedded()).await.expect("written");
    let embed = || VectorQuery::Embed {
        text: "cat".into(),
        model: None,
    };
    let query = Query {
        rank_by: Some(RankBy::Nearest {
            attribute: "$embed_text".into(),
            query: embed(),
            exact: false,
        }),
        limit: 1,
        compute: vec![(
            "d".into(),
            Compute::VectorDistance {
                attribute: "$embed_text".into(),
                query: embed(),
            },
        )],
        ..Query::default()
    };
    let read = Asked {
        queries: vec![query.clone(), query],
        rerank: None,
        consistency: support::engine::EVENTUAL,
    };
    let outcome = node.engine.query(&node.org, &name("n"), read).await.expect("answered");
    assert_eq!(ids(&outcome), [1]);
    assert_eq!(
        models.take_texts().iter().filter(|t| *t == "cat").count(),
        1,
        "each text once"
    );
    let row = &outcome.results[0].rows()[0];
    // Where computed values are evaluated, this one is the row's distance.
    for (_, computed) in &row.computed {
        let (Computed::Distance(d), Some(Rank::Distance(rank))) = (computed, row.rank) else {
            panic!("{row:?}");
        };
        assert_eq!(*d, rank);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The descriptions are data of third parties and no part of the repository; see `tests/clients.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn package_descriptions_are_found_as_a_real_model_finds_them() {
    const QUERIES: usize = 60;
    const ROWS: usize = 300;
    let data = std::env::var_os("SHOAL_TEST_DATA").map_or(root().join("../shared/data"), PathBuf::from);
    let data = data.join("debian");
    if !data.join("docs.jsonl.gz").exists() {
        say("\n*** LEFT OUT: texts with vectors of a real model: set SHOAL_TEST_DATA to the directory with debian/\n");
        return;
    }
    let Debian {
        docs,
        doc_vectors,
        queries,
        query_vectors,
        nearest,
    } = Debian::load(&data, QUERIES);
    // Of all packages the nearest to each query, and others up to the number of rows.
    let mut chosen: Vec<u64> = nearest[..QUERIES].iter().copied().chain(0..docs.len() as u64).collect();
    let mut seen = HashSet::new();
    chosen.retain(|id| seen.insert(*id));
    chosen.truncate(ROWS);
    let mut recorded: HashMap<String, Vec<f32>> = HashMap::new();
    recorded.extend(queries.iter().cloned().zip(query_vectors));
    recorded.extend(
        chosen
            .iter()
            .map(|id| (docs[*id as usize].clone(), doc_vectors[*id as usize].clone())),
    );
    let w = world_of(Models::with(recorded).await, doc_vectors[0].len());
    for rows in chosen.chunks(30) {
        let rows: Vec<Value> = rows
            .iter()
            .map(|id| json!({"id": id, "text": docs[*id as usize]}))
            .collect();
        let schema = json!({"text": {"type": "string", "filterable": false, "embed": "concepts"}});
        w.written(json!({"schema": schema, "upsert_rows": rows})).await;
    }
    for (query, expected) in queries.iter().zip(&nearest) {
        assert_eq!(w.nearest("$embed_text", query).await[0], *expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_embeds() {
    let python = root().join(".cache/venv/bin/python");
    if !python.exists() {
        left_out(
            "embedding through the Python client",
            "there is no .cache/venv: tests/clients.rs makes it",
        );
        return;
    }
    let w = world().await;
    let mut suite = Command::new(python);
    suite
        .args(["-m", "pytest", "-q"])
        .current_dir(root().join("tests/embedding"))
        .env("SHOAL_TEST_URL", w.server.settings.url())
        .env("SHOAL_TEST_KEY", API_KEY)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("no_proxy", "127.0.0.1,localhost")
        .stdin(Stdio::null());
    let status = tokio::task::spawn_blocking(move || suite.status())
        .await
        .expect("not cancelled");
    assert!(status.expect("pytest starts").success(), "{}", w.server.log_tail());
}

/// A model that cannot be used stops the server at its start, with a sentence that names it.
#[test]
fn bad_settings_are_named_at_the_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (list, part) in [
        ("[{name=\"m\",url=\"http://127.0.0.1:1/x\"}]", "dims is needed"),
        ("[{name=\"m\",url=\"http://127.0.0.1:1/x\",dims=99999}]", "1 to 10752"),
        ("[{name=\"m\",url=\"nowhere\",dims=2}]", "url must be"),
    ] {
        let mut settings = Settings::local(dir.path());
        settings.env.push(("SHOAL_MODELS".into(), list.into()));
        let mut server = settings.spawn();
        assert!(!server.wait_for_exit(Duration::from_secs(30)), "{list}");
        assert!(server.log_tail().contains(part), "{list}: {}", server.log_tail());
    }
}
