//! A server of models inside the test: it knows a few concepts, or vectors that were recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Words that mean the same; one dimension each.
const CONCEPTS: [&[&str]; 5] = [
    &["cat", "kitten", "feline", "purring"],
    &["car", "automobile", "vehicle", "driving"],
    &["rain", "storm", "weather", "drizzle"],
    &["bread", "baking", "loaf", "dough"],
    &["ship", "boat", "sailing", "vessel"],
];

/// Dimensions of the vectors of concepts: the last is in every text.
pub const DIMS: usize = CONCEPTS.len() + 1;

/// What the server does with requests.
#[derive(Clone, Default)]
pub enum Mode {
    #[default]
    Right,
    Status(u16),
    /// Never answers.
    Hang,
    /// Says that a request came, and answers when it is let through.
    Gate(Arc<Gate>),
}

#[derive(Default)]
pub struct Gate {
    pub came: Notify,
    pub open: Notify,
}

#[derive(Clone, Default)]
pub struct Models {
    pub url: String,
    mode: Arc<Mutex<Mode>>,
    texts: Arc<Mutex<Vec<String>>>,
    recorded: Arc<HashMap<String, Vec<f32>>>,
}

impl Models {
    /// Vectors of concepts.
    pub async fn start() -> Self {
        Self::with(HashMap::new()).await
    }

    /// Vectors that a real model made, by text.
    pub async fn with(recorded: HashMap<String, Vec<f32>>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let models = Self {
            url: format!("http://{}", listener.local_addr().expect("bound")),
            recorded: Arc::new(recorded),
            ..Self::default()
        };
        let app = Router::new()
            .route("/v1/embeddings", post(embeddings))
            .route("/rerank", post(rerank))
            .with_state(models.clone());
        #[allow(clippy::disallowed_methods, reason = "a server of the test")]
        tokio::spawn(async move { axum::serve(listener, app).await });
        models
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().expect("not poisoned") = mode;
    }

    /// Every text that was embedded so far, and forgets them.
    pub fn take_texts(&self) -> Vec<String> {
        std::mem::take(&mut *self.texts.lock().expect("not poisoned"))
    }

    async fn pass(&self) -> Result<(), Response> {
        let mode = self.mode.lock().expect("not poisoned").clone();
        match mode {
            Mode::Right => Ok(()),
            Mode::Status(status) => Err(StatusCode::from_u16(status).expect("a status").into_response()),
            Mode::Hang => std::future::pending().await,
            Mode::Gate(gate) => {
                gate.came.notify_one();
                gate.open.notified().await;
                Ok(())
            }
        }
    }
}

/// How much of each concept is in a text.
pub fn concepts(text: &str) -> Vec<f32> {
    let text = text.to_lowercase();
    let of = |words: &&[&str]| words.iter().filter(|word| text.contains(**word)).count() as f32;
    CONCEPTS.iter().map(of).chain([0.1]).collect()
}

async fn embeddings(State(models): State<Models>, Json(request): Json<Value>) -> Response {
    let input = request["input"].as_array().expect("texts");
    let texts: Vec<&str> = input.iter().map(|t| t.as_str().expect("a text")).collect();
    models
        .texts
        .lock()
        .expect("not poisoned")
        .extend(texts.iter().map(|t| (*t).to_owned()));
    if let Err(refused) = models.pass().await {
        return refused;
    }
    let mut data = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let vector = match models.recorded.get(*text) {
            Some(vector) => vector.clone(),
            None if models.recorded.is_empty() => concepts(text),
            None => return (StatusCode::UNPROCESSABLE_ENTITY, "not recorded").into_response(),
        };
        data.push(json!({"object": "embedding", "index": index, "embedding": vector}));
    }
    let tokens: usize = texts.iter().map(|t| t.split_whitespace().count()).sum();
    Json(json!({"object": "list", "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}))
        .into_response()
}

async fn rerank(State(models): State<Models>, Json(request): Json<Value>) -> Response {
    if let Err(refused) = models.pass().await {
        return refused;
    }
    let query = concepts(request["query"].as_str().expect("a query"));
    let documents = request["documents"].as_array().expect("documents");
    let results = documents.iter().enumerate().map(|(index, document)| {
        let document = concepts(document.as_str().expect("a text"));
        let score: f32 = query.iter().zip(&document).map(|(a, b)| a * b).sum();
        json!({"index": index, "relevance_score": score})
    });
    Json(json!({"results": results.collect::<Vec<_>>()})).into_response()
}
