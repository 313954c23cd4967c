//! Models that behave, and models that do not.

#![allow(clippy::disallowed_methods, reason = "the model is a server of the test")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::stream;
use serde_json::{Value as Json, json};

use super::*;
use crate::error::ErrorKind;

/// How the model answers one request.
#[derive(Clone, Debug)]
enum Reply {
    Right,
    Status(u16),
    /// 429 with `Retry-After: 1`.
    Later,
    Text(String),
    /// A redirect to a path of the same server that answers right.
    Redirect,
    /// Never.
    Hang,
    /// A byte every tenth of a second, without end.
    Drip,
    /// After a fifth of a second.
    Slow,
    /// More than any answer may have, without saying how much.
    Endless,
}

#[derive(Clone, Default)]
struct Model {
    script: Arc<Mutex<VecDeque<Reply>>>,
    requests: Arc<Mutex<Vec<(HeaderMap, Json)>>>,
    url: String,
}

impl Model {
    async fn start(script: &[Reply]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let model = Self {
            script: Arc::new(Mutex::new(script.iter().cloned().collect())),
            url: format!("http://{}", listener.local_addr().unwrap()),
            ..Self::default()
        };
        let app = Router::new()
            .route("/v1/embeddings", post(answer))
            .route("/rerank", post(answer))
            .with_state(model.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        model
    }

    fn inference(&self, change: impl Fn(&mut ModelConfig)) -> Inference {
        let mut embedding = ModelConfig::new(
            "m",
            ModelKind::Embedding,
            &format!("{}/v1/embeddings", self.url),
            Some(3),
        );
        let mut rerank = ModelConfig::new("r", ModelKind::Rerank, &format!("{}/rerank", self.url), None);
        for config in [&mut embedding, &mut rerank] {
            config.timeout_seconds = 1;
            config.deadline_seconds = 2;
            change(config);
        }
        Inference::new(&[embedding, rerank], &Rng::seeded(1), &CpuPool::inline()).unwrap()
    }

    fn asked(&self) -> Vec<(HeaderMap, Json)> {
        self.requests.lock().unwrap().clone()
    }
}

async fn answer(State(model): State<Model>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Json = serde_json::from_slice(&body).unwrap();
    model.requests.lock().unwrap().push((headers, request.clone()));
    let reply = model.script.lock().unwrap().pop_front().unwrap_or(Reply::Right);
    match reply {
        Reply::Right => right(&request).to_string().into_response(),
        Reply::Status(status) => (StatusCode::from_u16(status).unwrap(), "no, and your key is hush").into_response(),
        Reply::Later => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "").into_response(),
        Reply::Text(text) => text.into_response(),
        Reply::Redirect => (StatusCode::TEMPORARY_REDIRECT, [("location", "/v1/embeddings")], "").into_response(),
        Reply::Hang => std::future::pending().await,
        Reply::Slow => {
            tokio::time::sleep(Duration::from_millis(200)).await;
            right(&request).to_string().into_response()
        }
        Reply::Drip => trickle(b"{", Duration::from_millis(100)),
        Reply::Endless => trickle(&[b' '; 65536], Duration::ZERO),
    }
}

fn trickle(piece: &'static [u8], pause: Duration) -> Response {
    let pieces = stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(piece)), ()))
    });
    Body::from_stream(pieces).into_response()
}

/// Vectors `[length, 1, 0…]` in reverse order; of documents, their lengths.
fn right(request: &Json) -> Json {
    let len = |text: &Json| text.as_str().unwrap().chars().count();
    if let Some(documents) = request["documents"].as_array() {
        let results = documents.iter().enumerate().rev();
        let results = results.map(|(i, d)| json!({"index": i, "relevance_score": len(d) as f64, "document": d}));
        return json!({"results": results.collect::<Vec<_>>()});
    }
    let dims = request["dimensions"].as_u64().unwrap_or(3) as usize;
    let input = request["input"].as_array().unwrap();
    let data = input.iter().enumerate().rev().map(|(i, text)| {
        let mut vector = vec![0.0; dims];
        (vector[0], vector[1]) = (len(text) as f64, 1.0);
        json!({"index": i, "embedding": vector})
    });
    json!({"data": data.collect::<Vec<_>>(), "usage": {"total_tokens": input.len() * 7}})
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

#[tokio::test]
async fn vectors_come_in_the_order_of_the_texts_however_they_are_split() {
    let model = Model::start(&[]).await;
    let texts = strings(&["a", "bb", "ccc", "dddd", "eeeee"]);
    for batch_max in [1, 2, 5, 32] {
        let inference = model.inference(|c| c.batch_max = batch_max);
        let before = model.asked().len();
        let made = inference.embed("m", 3, &texts).await.unwrap();
        assert_eq!(model.asked().len() - before, texts.len().div_ceil(batch_max));
        let first: Vec<f32> = made.vectors.iter().map(|v| v[0]).collect();
        assert_eq!(first, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(made.tokens, 35);
    }
    let long = ["x".repeat(BATCH_TEXT_BYTES), "y".to_owned()];
    let made = model.inference(|_| ()).embed("m", 3, &long).await.unwrap();
    assert_eq!(made.vectors[0][0], BATCH_TEXT_BYTES as f32);
    assert_eq!(made.vectors[1][0], 1.0);
    let none = model.inference(|_| ()).embed("m", 3, &[]).await.unwrap();
    assert_eq!((none.vectors.len(), none.tokens), (0, 0));
}

#[tokio::test]
async fn requests_are_those_of_the_documented_interfaces() {
    let model = Model::start(&[]).await;
    let inference = model.inference(|c| {
        c.upstream_model = Some("theirs".into());
        c.api_key = Some("hush".into());
    });
    inference.embed("m", 3, &strings(&["a"])).await.unwrap();
    inference.embed("m", 2, &strings(&["a"])).await.unwrap();
    inference.rerank("r", "q", &["x", "y"]).await.unwrap();
    let asked = model.asked();
    assert_eq!(
        asked[0].1,
        json!({"model": "theirs", "input": ["a"], "encoding_format": "float"})
    );
    assert_eq!(asked[1].1["dimensions"], 2);
    assert_eq!(
        asked[2].1,
        json!({"model": "theirs", "query": "q", "documents": ["x", "y"], "top_n": 2})
    );
    for (headers, _) in &asked {
        assert_eq!(headers["authorization"], "Bearer hush");
        assert_eq!(headers["content-type"], "application/json");
    }
    assert!(!format!("{inference:?}").contains("hush"));
    model.inference(|_| ()).embed("m", 3, &strings(&["a"])).await.unwrap();
    assert!(!model.asked()[3].0.contains_key("authorization"));
}

/// The requests that `replies` cause until there is an answer.
async fn outcome(replies: &[Reply]) -> (Result<Vectors>, usize, Duration) {
    let model = Model::start(replies).await;
    let inference = model.inference(|c| c.api_key = Some("hush".into()));
    let begin = Instant::now();
    let result = inference.embed("m", 3, &strings(&["a", "bb"])).await;
    (result, model.asked().len(), begin.elapsed())
}

#[tokio::test]
async fn passing_failures_are_waited_out() {
    for replies in [
        &[Reply::Status(500)][..],
        &[Reply::Status(503), Reply::Status(502)],
        &[Reply::Status(408), Reply::Status(429)],
        &[Reply::Hang],
        &[Reply::Drip],
    ] {
        let (result, asked, _) = outcome(replies).await;
        assert_eq!(result.unwrap().vectors.len(), 2, "{replies:?}");
        assert_eq!(asked, replies.len() + 1, "{replies:?}");
    }
    let (result, _, took) = outcome(&[Reply::Later]).await;
    assert!(
        result.is_ok() && took >= Duration::from_secs(1),
        "as long as it was told to wait: {took:?}"
    );
}

#[tokio::test]
async fn lasting_failures_end_soon_and_say_what_to_do() {
    use ErrorKind::{Invalid, Unavailable};
    let text = |t: &str| Reply::Text(t.to_owned());
    let vectors = |a: &str, b: &str| {
        Reply::Text(format!(
            r#"{{"data": [{{"index": 0, "embedding": {a}}}, {{"index": 1, "embedding": {b}}}]}}"#
        ))
    };
    let unusable = "cannot be used";
    let cases: Vec<(Vec<Reply>, ErrorKind, &str, usize)> = vec![
        (vec![Reply::Status(500); 9], Unavailable, "try again", 3),
        (vec![Reply::Hang; 9], Unavailable, "try again", 2),
        (vec![Reply::Drip; 9], Unavailable, "try again", 2),
        (vec![Reply::Status(400)], Invalid, "too long", 1),
        (vec![Reply::Status(413)], Invalid, "HTTP 413", 1),
        (vec![Reply::Status(401)], Unavailable, "api_key", 1),
        (vec![Reply::Status(404)], Unavailable, "url", 1),
        (vec![Reply::Redirect], Unavailable, "HTTP 307", 1),
        (vec![Reply::Endless], Unavailable, unusable, 1),
        (vec![text("")], Unavailable, unusable, 1),
        (vec![text("<html>")], Unavailable, unusable, 1),
        (vec![text("{}")], Unavailable, unusable, 1),
        (vec![text(r#"{"data": []}"#)], Unavailable, unusable, 1),
        (vec![text(&"x".repeat(1 << 20))], Unavailable, unusable, 1),
        (vec![vectors("[1,2,3]", "[1,2]")], Unavailable, unusable, 1),
        (vec![vectors("[1,2,3]", "[1,2,3,4]")], Unavailable, unusable, 1),
        (vec![vectors("[1,2,3]", "[1,2,NaN]")], Unavailable, unusable, 1),
        (vec![vectors("[1,2,3]", "[1,2,null]")], Unavailable, unusable, 1),
        (vec![vectors("[1,2,3]", "[1,2,1e39]")], Unavailable, unusable, 1),
        (vec![vectors("[1,2,3]", "[1,2,1e999]")], Unavailable, unusable, 1),
        (vec![vectors("[1,2,3]", "\"AACAPw==\"")], Unavailable, unusable, 1),
        (
            vec![text(
                r#"{"data": [{"index": 0, "embedding": [1,2,3]}, {"index": 0, "embedding": [1,2,3]}]}"#,
            )],
            Unavailable,
            unusable,
            1,
        ),
        (
            vec![text(
                r#"{"data": [{"index": 0, "embedding": [1,2,3]}, {"index": 2, "embedding": [1,2,3]}]}"#,
            )],
            Unavailable,
            unusable,
            1,
        ),
    ];
    for (replies, kind, part, asked) in cases {
        let shown: String = format!("{replies:?}").chars().take(200).collect();
        let (result, requests, took) = outcome(&replies).await;
        let error = result.expect_err(&shown);
        assert_eq!(error.kind, kind, "{shown}: {error}");
        assert!(error.message.contains(part), "{shown}: {error}");
        assert!(error.message.contains("nothing was done"), "{shown}: {error}");
        assert_eq!(requests, asked, "{shown}");
        assert!(took < Duration::from_secs(4), "{shown}: {took:?}");
        assert!(!format!("{error:?}").contains("hush"), "{shown}: {error:?}");
    }
}

#[tokio::test]
async fn a_model_that_is_not_there_is_unavailable() {
    let config = ModelConfig::new("m", ModelKind::Embedding, "http://127.0.0.1:9/v1/embeddings", Some(3));
    let inference = Inference::new(&[config], &Rng::seeded(1), &CpuPool::inline()).unwrap();
    let error = inference.embed("m", 3, &strings(&["a"])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.retry_after.is_some());
}

#[tokio::test]
async fn retries_have_a_budget() {
    let model = Model::start(&vec![Reply::Status(500); 1000]).await;
    let inference = model.inference(|c| c.requests_max = 64);
    let texts = strings(&["a"]);
    let all = (0..40).map(|_| inference.embed("m", 3, &texts));
    assert!(futures::future::join_all(all).await.iter().all(|r| r.is_err()));
    assert_eq!(model.asked().len(), 40 + 20, "each once, and twenty retries together");
}

#[tokio::test]
async fn only_so_many_requests_are_under_way() {
    let texts = strings(&["a"]);
    for (requests_max, least, most) in [(1, 600, 60_000), (8, 0, 600)] {
        let model = Model::start(&vec![Reply::Slow; 3]).await;
        let inference = model.inference(|c| c.requests_max = requests_max);
        let begin = Instant::now();
        let all = (0..3).map(|_| inference.embed("m", 3, &texts));
        assert!(futures::future::join_all(all).await.iter().all(|r| r.is_ok()));
        let took = begin.elapsed().as_millis();
        assert!((least..most).contains(&took), "{requests_max} at once took {took} ms");
    }
}

#[tokio::test]
async fn a_query_text_is_embedded_once() {
    let model = Model::start(&[]).await;
    let inference = model.inference(|_| ());
    let (first, tokens) = inference.embed_query("m", 3, "abc").await.unwrap();
    assert_eq!((&first[..], tokens), (&[3.0, 1.0, 0.0][..], Some(7)));
    let (again, tokens) = inference.embed_query("m", 3, "abc").await.unwrap();
    assert_eq!((again, tokens), (first, None));
    assert_eq!(model.asked().len(), 1);
    assert_eq!(inference.embed_query("m", 2, "abc").await.unwrap().0.len(), 2);
    assert_eq!(model.asked().len(), 2);
}

#[tokio::test]
async fn scores_come_in_the_order_of_the_documents() {
    let model = Model::start(&[]).await;
    let inference = model.inference(|c| c.batch_max = 2);
    let scores = inference.rerank("r", "q", &["a", "bbb", "cc"]).await.unwrap();
    assert_eq!(scores, [1.0, 3.0, 2.0]);
    assert_eq!(model.asked().len(), 2);
    for text in [
        r#"{"results": []}"#,
        r#"{"results": [{"index": 1, "relevance_score": 1}]}"#,
        r#"{"results": [{"index": 0, "relevance_score": null}]}"#,
        r#"{"results": [{"index": 0, "relevance_score": 1e999}]}"#,
    ] {
        let model = Model::start(&[Reply::Text(text.to_owned())]).await;
        let error = model.inference(|_| ()).rerank("r", "q", &["a"]).await.expect_err(text);
        assert!(error.message.contains("cannot be used"), "{text}: {error}");
    }
}

#[tokio::test]
async fn models_that_are_not_listed_are_refused() {
    let model = Model::start(&[]).await;
    let inference = model.inference(|_| ());
    let texts = strings(&["a"]);
    for (result, part) in [
        (inference.embed("r", 3, &texts).await.map(|_| ()), "there are m"),
        (
            inference.embed("m", 4, &texts).await.map(|_| ()),
            "at most 3 dimensions",
        ),
        (inference.rerank("m", "q", &["a"]).await.map(|_| ()), "are r"),
        (
            Inference::default().embed("m", 3, &texts).await.map(|_| ()),
            "[[models]]",
        ),
        (
            Inference::default().rerank("r", "q", &["a"]).await.map(|_| ()),
            "[[models]]",
        ),
    ] {
        let error = result.expect_err(part);
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains(part), "{error}");
    }
    assert!(model.asked().is_empty());
}
