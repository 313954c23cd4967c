//! Settings of the models that make vectors of texts and judge rows.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// What a model is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Vectors of texts, at an OpenAI-compatible `/v1/embeddings`.
    #[default]
    Embedding,
    /// Judgements of texts, at a Cohere- or Jina-style `/rerank`.
    Rerank,
}

/// A model at some HTTP endpoint.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What clients call it, such as `openai/text-embedding-3-small`; 1 to 128 bytes.
    pub name: String,
    /// `embedding` or `rerank`. Default `embedding`.
    #[serde(default)]
    pub kind: ModelKind,
    /// The whole URL of the endpoint. Redirects are not followed.
    pub url: String,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// A file with the token, in place of `api_key`.
    pub api_key_file: Option<PathBuf>,
    /// What the endpoint calls it. Default `name`.
    pub upstream_model: Option<String>,
    /// The dimensions of its vectors; needed for embedding models. Fewer are asked of the endpoint as
    /// `dimensions`.
    pub dims: Option<u32>,
    /// Seconds that one attempt may take. Default 10. Less: hanging requests are repeated sooner.
    #[serde(default = "ten")]
    pub timeout_seconds: u64,
    /// Seconds that a request may take with all its retries, and with waiting for its turn. Default
    /// 30. More: longer outages are waited out; less: 503 sooner.
    #[serde(default = "thirty")]
    pub deadline_seconds: u64,
    /// Most texts in one request to the endpoint. Default 32. More: fewer requests.
    #[serde(default = "thirty_two")]
    pub batch_max: usize,
    /// Requests to the endpoint at once; further ones wait. Default 8.
    #[serde(default = "eight")]
    pub requests_max: usize,
}

fn ten() -> u64 {
    10
}

fn thirty() -> u64 {
    30
}

fn thirty_two() -> usize {
    32
}

fn eight() -> usize {
    8
}

impl ModelConfig {
    /// A model with the default settings.
    pub fn new(name: &str, kind: ModelKind, url: &str, dims: Option<u32>) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            url: url.to_owned(),
            api_key: None,
            api_key_file: None,
            upstream_model: None,
            dims,
            timeout_seconds: ten(),
            deadline_seconds: thirty(),
            batch_max: thirty_two(),
            requests_max: eight(),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("models: {:?}: {what}", self.name));
        if !(1..=128).contains(&self.name.len()) || self.name.chars().any(char::is_control) {
            return wrong("name must have 1 to 128 bytes and no control characters");
        }
        let url = url::Url::parse(&self.url).ok();
        let Some(url) = url.filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host()) else {
            return wrong("url must be that of an endpoint, such as https://api.openai.com/v1/embeddings");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("url must not hold credentials; use api_key or api_key_file");
        }
        if self.api_key.is_some() && self.api_key_file.is_some() {
            return wrong("api_key and api_key_file exclude each other");
        }
        match (self.kind, self.dims) {
            (ModelKind::Embedding, None | Some(0)) => return wrong("dims is needed for an embedding model"),
            (ModelKind::Rerank, Some(_)) => return wrong("a rerank model has no dims"),
            _ => {}
        }
        let positive = [
            ("timeout_seconds", self.timeout_seconds),
            ("deadline_seconds", self.deadline_seconds),
            ("batch_max", self.batch_max as u64),
            ("requests_max", self.requests_max as u64),
        ];
        match positive.iter().find(|(_, value)| !(1..=100_000).contains(value)) {
            Some((name, _)) => wrong(&format!("{name} must be 1 to 100000")),
            None => Ok(()),
        }
    }

    /// The token, if there is one.
    ///
    /// # Errors
    ///
    /// When its file cannot be read.
    pub fn token(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.api_key_file else {
            return Ok(self.api_key.clone());
        };
        let text = std::fs::read_to_string(file)
            .map_err(|e| format!("models: {:?}: api_key_file {}: {e}", self.name, file.display()))?;
        Ok(Some(text.trim().to_owned()))
    }
}

/// Without the token, so that a configuration can be logged.
impl fmt::Debug for ModelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelConfig")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("url", &self.url)
            .field("dims", &self.dims)
            .finish_non_exhaustive()
    }
}
