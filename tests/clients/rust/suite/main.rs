//! Every method of the official Rust client against a real server, with exact answers.

mod namespaces;
mod queries;

use turbopuffer::serde_json::{Value, json};
use turbopuffer::types::*;
use turbopuffer::{ApiErrorKind, Client, ClientBuilder, Error, Namespace};

/// One namespace per test: its name is the test's, and it is deleted before and after.
struct Fresh(Namespace);

impl Fresh {
    async fn new(name: &str) -> Self {
        let namespace = client().build().unwrap().namespace(format!("rust-{name}"));
        match namespace.delete_all().await {
            Ok(_) => {}
            Err(error) => assert_eq!(kind(&error), ApiErrorKind::NotFound, "{error}"),
        }
        Self(namespace)
    }
}

impl std::ops::Deref for Fresh {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.0
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("set {name} to a running server's"))
}

fn client() -> ClientBuilder {
    Client::builder()
        .base_url(variable("SHOAL_TEST_URL"))
        .api_key(variable("SHOAL_TEST_KEY"))
        .max_retries(1)
}

fn kind(error: &Error) -> ApiErrorKind {
    error
        .as_api_error()
        .unwrap_or_else(|| panic!("not an answer: {error}"))
        .kind()
}

fn ids(rows: &[Row]) -> Vec<u64> {
    let id = |row: &Row| match row.id {
        Id::Int(id) => id,
        ref other => panic!("{other} is no number"),
    };
    rows.iter().map(id).collect()
}

fn dists(rows: &[Row]) -> Vec<f64> {
    rows.iter().map(|row| row.dist().expect("a row has a score")).collect()
}

fn close(actual: &[f64], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len(), "{actual:?} is not {expected:?}");
    for (a, e) in actual.iter().zip(expected) {
        assert!(
            (a - e).abs() <= 1e-5 * e.abs().max(1.0),
            "{actual:?} is not {expected:?}"
        );
    }
}

fn in_order() -> RankBy {
    RankBy::attribute("id", "asc")
}

async fn stored(namespace: &Namespace) -> Value {
    let answer = namespace
        .query()
        .rank_by(in_order())
        .limit(100)
        .include_attributes(true)
        .await
        .unwrap();
    json!(answer.rows)
}

async fn matching(namespace: &Namespace, filter: Filter) -> Vec<u64> {
    let what = json!(filter);
    let answer = namespace.query().rank_by(in_order()).limit(100).filters(filter).await;
    ids(&answer.unwrap_or_else(|error| panic!("{what}: {error}")).rows)
}

/// Numbers named `n`, one row each.
async fn numbers(namespace: &Namespace, count: u64) {
    let rows = (1..=count).map(|i| Row::new(i).insert("n", i));
    namespace.write().upsert_rows(rows).await.unwrap();
}

async fn points(namespace: &Namespace) {
    namespace
        .write()
        .distance_metric(DistanceMetric::EuclideanSquared)
        .upsert_rows([
            Row::new(7).vector([0.75, 0.75]).insert("name", "seven"),
            Row::new(10).vector([1.0, 1.0]).insert("name", "ten"),
            Row::new(16).vector([1.5, 1.5]),
            Row::new(15).vector([1.5, 1.5]),
        ])
        .await
        .unwrap();
}
