//! Models that the operator runs or rents, over HTTP: vectors of texts (an OpenAI-compatible
//! `/v1/embeddings`) and judgements of texts for a query (a Cohere- or Jina-style `/rerank`).
//!
//! # What stays true
//!
//! - A model is outside our control: its answers are bounded before they are parsed, every number
//!   is checked, every wait ends by the model's deadline, redirects are not followed.
//! - Nothing is changed by asking a model, so that every failure may be tried again.
//! - Tokens are sent to the model's own URL and appear in no log, error or metric.
//!
//! # Who touches it
//!
//! `namespace::embed` and `namespace::rerank`.
//!
//! # Cost
//!
//! One HTTP request per `batch_max` texts, and at most two more for each when the model fails.

mod cache;
mod client;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use futures::future::try_join_all;

use crate::base::{CpuPool, Rng};
use crate::config::{ModelConfig, ModelKind};
use crate::error::Result;
use crate::model::Invalid;
use crate::model::embed::Models;
use crate::model::types::DIMS_MAX;
use cache::Cache;
use client::Client;

/// Most text in one request to a model, in bytes, unless a single text is longer.
const BATCH_TEXT_BYTES: usize = 1 << 20;

/// The models of a node; clones share them.
#[derive(Clone, Default)]
pub struct Inference {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    embedding: BTreeMap<String, Client>,
    rerank: BTreeMap<String, Client>,
    models: Arc<Models>,
    /// Vectors of query texts. Held to look one up or to add one.
    queries: Mutex<Cache>,
}

/// Names only.
impl fmt::Debug for Inference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inference")
            .field("embedding", &self.inner.embedding.keys())
            .field("rerank", &self.inner.rerank.keys())
            .finish()
    }
}

/// Vectors of texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    /// One per text, each of as many finite numbers as were asked for.
    pub vectors: Vec<Arc<[f32]>>,
    /// As the model counts them; 0 when it does not say.
    pub tokens: u64,
}

impl Inference {
    /// * `rng` — for the jitter of retries
    /// * `cpu` — reads answers
    ///
    /// # Errors
    ///
    /// A sentence that names the setting.
    pub fn new(models: &[ModelConfig], rng: &Rng, cpu: &CpuPool) -> Result<Self, String> {
        let mut inner = Inner::default();
        let mut dims = Vec::new();
        if models.is_empty() {
            return Ok(Self::default());
        }
        let http = client::http().map_err(|e| format!("models: the HTTP client cannot be built: {e}"))?;
        for model in models {
            let client = Client::new(model, http.clone(), rng.clone(), cpu.clone())?;
            match model.kind {
                ModelKind::Embedding => {
                    let of_model = model.dims.filter(|d| (1..=DIMS_MAX).contains(d));
                    let of_model =
                        of_model.ok_or_else(|| format!("models: {:?}: dims must be 1 to {DIMS_MAX}", model.name))?;
                    dims.push((Arc::from(model.name.as_str()), of_model));
                    inner.embedding.insert(model.name.clone(), client);
                }
                ModelKind::Rerank => {
                    inner.rerank.insert(model.name.clone(), client);
                }
            }
        }
        inner.models = Arc::new(Models::new(dims));
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The embedding models there are.
    pub fn models(&self) -> &Arc<Models> {
        &self.inner.models
    }

    /// Makes vectors of texts.
    ///
    /// * `dims` — at most those of the model
    /// * `texts` — not blank
    ///
    /// # Errors
    ///
    /// 400 when there is no such model, or it refuses the texts; else
    /// [`ErrorKind::Unavailable`](crate::error::ErrorKind::Unavailable).
    pub async fn embed(&self, model: &str, dims: u32, texts: &[String]) -> Result<Vectors> {
        let models = self.models();
        models.check_dims(model, dims)?;
        let fewer = models.dims(model)? != dims;
        let Some(client) = self.inner.embedding.get(model) else {
            // It has dimensions, so it exists; said all the same rather than assumed.
            return Err(Invalid::new(format!("embedding model {model:?} is not configured on this server")).into());
        };
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let batches = batches(&texts, client.batch_max());
        let answers = batches.iter().map(|batch| async move {
            let request = wire::embedding_request(client.upstream_model(), batch, fewer.then_some(dims));
            let bytes_max = wire::embedding_bytes_max(batch.len(), dims);
            let count = batch.len();
            let check = move |answer: &[u8]| wire::embeddings(answer, count, dims);
            client.ask(request, bytes_max, check).await
        });
        let mut made = Vectors {
            vectors: Vec::with_capacity(texts.len()),
            tokens: 0,
        };
        for answer in try_join_all(answers).await? {
            made.vectors.extend(answer.vectors);
            made.tokens = made.tokens.saturating_add(answer.tokens);
        }
        Ok(made)
    }

    /// Makes the vector of a query text, or takes it from those made lately.
    ///
    /// Returns it with the tokens it took; `None` when it was there already. Errors as of
    /// [`Inference::embed`].
    pub async fn embed_query(&self, model: &str, dims: u32, text: &str) -> Result<(Arc<[f32]>, Option<u64>)> {
        let key = cache::key(model, dims, text);
        if let Some(vector) = self.queries().get(&key) {
            return Ok((vector, None));
        }
        let made = self.embed(model, dims, &[text.to_owned()]).await?;
        let vector = made.vectors.into_iter().next();
        let vector = vector.expect("as many vectors as texts were checked");
        self.queries().put(key, vector.clone());
        Ok((vector, Some(made.tokens)))
    }

    fn queries(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.inner.queries.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Checks that there is such a rerank model.
    pub fn check_rerank(&self, model: &str) -> Result<(), Invalid> {
        self.judge(model).map(|_| ())
    }

    fn judge(&self, model: &str) -> Result<&Client, Invalid> {
        self.inner.rerank.get(model).ok_or_else(|| {
            let shown: String = model.chars().take(128).collect();
            let names: Vec<&str> = self.inner.rerank.keys().take(20).map(String::as_str).collect();
            let there = match names.is_empty() {
                true => "no rerank model configured on this server".to_owned(),
                false => format!("the rerank models of this server are {}", names.join(", ")),
            };
            Invalid::new(format!(
                "rerank_by: {there}, so {shown:?} cannot be used: its operator lists models in the setting \"models\" \
                 ([[models]]) with kind = \"rerank\""
            ))
        })
    }

    /// How relevant each document is to the query: one finite score per document, larger is better.
    ///
    /// Errors as of [`Inference::embed`].
    pub async fn rerank(&self, model: &str, query: &str, documents: &[&str]) -> Result<Vec<f64>> {
        let client = self.judge(model)?;
        let batches = batches(documents, client.batch_max());
        let answers = batches.iter().map(|batch| async move {
            let request = wire::rerank_request(client.upstream_model(), query, batch);
            let bytes_max = wire::rerank_bytes_max(batch);
            let count = batch.len();
            let check = move |answer: &[u8]| wire::scores(answer, count);
            client.ask(request, bytes_max, check).await
        });
        Ok(try_join_all(answers).await?.into_iter().flatten().collect())
    }
}

/// Splits texts into stretches of at most so many, and of about [`BATCH_TEXT_BYTES`].
fn batches<'a, 'b>(texts: &'b [&'a str], batch_max: usize) -> Vec<&'b [&'a str]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, text) in texts.iter().enumerate() {
        if at > start && (at - start == batch_max || bytes + text.len() > BATCH_TEXT_BYTES) {
            batches.push(&texts[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += text.len();
    }
    if start < texts.len() {
        batches.push(&texts[start..]);
    }
    batches
}
