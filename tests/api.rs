//! The HTTP API, by tables, on every kind of store.
//!
//! `cases/bad_input.json` and `cases/*_bad.json` have what must be refused without changing anything,
//! the other tables of `cases` what must work. The whole suite runs on the local disk, in memory, on the in-process S3 server and,
//! where they can be started, on MinIO and moto.

mod support;

use serde_json::{Value, json};
use support::cases::{Case, Step, load, tables};
use support::http::Http;
use support::real::{self, s3_config};
use support::s3::{Conditions, S3Server};
use support::server::{Server, Settings};

/// Runs every case of all tables against one server.
async fn whole_suite(server: &Http) {
    good_cases(server).await;
    bad_cases(server).await;
    namespaces_are_listed(server).await;
}

async fn good_cases(server: &Http) {
    let mut failures = Vec::new();
    for table in tables(false) {
        for (i, case) in load::<Case>(&table).iter().enumerate() {
            let namespace = format!("{table}-{i}");
            for (n, step) in case.steps.iter().enumerate() {
                if let Err(why) = step.run(server, &namespace).await {
                    failures.push(format!("{table}: {} (step {n}): {why}", case.name));
                    break;
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} cases failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// What bad requests must not change: rows, schema and metadata.
async fn everything(server: &Http, namespace: &str) -> Vec<Value> {
    let all = json!({"rank_by": ["id", "asc"], "limit": 100, "include_attributes": true});
    let rows = server
        .json("POST", &format!("/v2/namespaces/{namespace}/query"), &all)
        .await;
    let schema = server
        .send("GET", &format!("/v1/namespaces/{namespace}/schema"), "")
        .await;
    let metadata = server
        .send("GET", &format!("/v2/namespaces/{namespace}/metadata"), "")
        .await;
    vec![rows.json()["rows"].clone(), schema.json(), metadata.json()]
}

async fn bad_cases(server: &Http) {
    let namespace = "bad-input";
    let seed = json!({
        "schema": {
            "s": "string", "i": "int", "u": "uint", "f": "float", "g": "uuid", "d": "datetime", "b": "bool",
            "y": "bytes", "ss": "[]string", "ii": "[]int", "sp": "{}f16", "mv": "[][2]f32",
            "t": {"type": "string", "full_text_search": true},
            "p": {"type": "string", "regex": true, "fuzzy": true},
            "vector": {"type": "[2]f32", "ann": true}, "v8": {"type": "[2]i8", "ann": true},
        },
        "upsert_rows": [{"id": 1, "vector": [1, 2], "v8": [1, 2], "i": 5, "s": "here", "t": "some text"}],
        "distance_metric": "cosine_distance",
    });
    let seeded = server.json("POST", &format!("/v2/namespaces/{namespace}"), &seed).await;
    assert_eq!(seeded.status, 200, "{:?}", seeded.json());
    let before = everything(server, namespace).await;
    let cases: Vec<Step> = tables(true).iter().flat_map(|table| load::<Step>(table)).collect();
    assert!(cases.len() >= 300, "{} cases", cases.len());
    let mut failures = Vec::new();
    for case in &cases {
        // Every row of the seeded namespace needs its second vector column too.
        if let Err(why) = case.run(server, namespace).await {
            failures.push(format!("{}: {why}", case.name));
        }
        let after = everything(server, namespace).await;
        assert_eq!(after, before, "{} changed something", case.name);
    }
    assert!(
        failures.is_empty(),
        "{} cases failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

async fn namespaces_are_listed(server: &Http) {
    for name in ["list-a", "list-B", "list-b", "list-c", "list-c.d", "List-e", "other"] {
        let row = json!({"upsert_rows": [{"id": 1}]});
        let answer = server.json("POST", &format!("/v2/namespaces/{name}"), &row).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
    }
    assert_eq!(
        server.send("DELETE", "/v2/namespaces/list-c", "").await.status,
        200,
        "a listed namespace can be deleted"
    );
    for page_size in [1, 2, 100] {
        let mut names = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/namespaces?prefix=list-&page_size={page_size}{cursor}");
            let page = server.send("GET", &path, "").await.json();
            let ids = page["namespaces"].as_array().expect("a page of namespaces").clone();
            assert!(ids.len() <= page_size);
            names.extend(ids.iter().map(|n| n["id"].as_str().expect("a name").to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(names.len(), 4, "{names:?}");
        for name in ["list-a", "list-B", "list-b", "list-c.d"] {
            assert!(names.iter().any(|n| n == name), "{name} is missing from {names:?}");
        }
    }
    // The last page's name names a place, which is there whether or not the namespace still is.
    let path = "/v1/namespaces?prefix=list-&page_size=2";
    let first = server.send("GET", path, "").await.json();
    let cursor = first["next_cursor"].as_str().expect("there are more").to_owned();
    let rest =
        || async { server.send("GET", &format!("{path}&cursor={cursor}"), "").await.json()["namespaces"].clone() };
    let before = rest().await;
    for namespace in first["namespaces"]
        .as_array()
        .expect("a page")
        .iter()
        .filter_map(|n| n["id"].as_str())
    {
        assert_eq!(
            server
                .send("DELETE", &format!("/v2/namespaces/{namespace}"), "")
                .await
                .status,
            200
        );
    }
    assert_eq!(
        rest().await,
        before,
        "deleting what a page had changes nothing behind it"
    );
}

/// Runs the suite on a store that is reached as `settings` says.
async fn on(settings: Settings) {
    let server: Server = settings.start();
    whole_suite(&Http::to(&server)).await;
}

#[tokio::test]
async fn on_the_local_disk() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    on(Settings::local(dir.path())).await;
}

#[tokio::test]
async fn in_memory() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings {
        store: "memory:".into(),
        ..Settings::local(dir.path())
    };
    on(settings).await;
}

// Several threads, because the test waits for the server, which waits for the store in the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_in_process_s3_server() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let s3 = S3Server::start(Conditions::Atomic).await;
    on(Settings::on_s3(dir.path(), &s3_config(&s3.endpoint()))).await;
}

#[tokio::test]
async fn on_minio() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    if let Some(minio) = real::minio().await {
        on(Settings::on_s3(dir.path(), &minio.config())).await;
    }
}

#[tokio::test]
async fn on_moto() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    if let Some(moto) = real::moto().await {
        on(Settings::on_s3(dir.path(), &moto.config())).await;
    }
}
