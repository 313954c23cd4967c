//! Requests to one model: bounded, repeated where that can help, and never longer than the deadline.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use crate::base::{CpuPool, Priority, Rng};
use crate::config::ModelConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry;

/// Attempts at one request.
const ATTEMPTS_MAX: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// In tenths of a retry, as of the object store: afterwards at most one request in eleven is a
/// retry, so that retries cannot keep a struggling model down.
const BUDGET_MAX: u64 = 200;
const RETRY_COST: u64 = 10;
/// How much of an error's body is logged, in bytes.
const LOGGED_BYTES: usize = 300;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The HTTP client that all models share.
pub(super) fn http() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("shoal/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Asks one model.
pub(super) struct Client {
    name: String,
    upstream_model: String,
    url: reqwest::Url,
    authorization: Option<HeaderValue>,
    http: reqwest::Client,
    timeout: Duration,
    deadline: Duration,
    batch_max: usize,
    turns: Semaphore,
    budget: AtomicU64,
    rng: Rng,
    cpu: CpuPool,
}

/// Why a model gave no usable answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It cannot be reached, is overloaded or at fault: another attempt may help.
    #[error("{why}")]
    Passing { why: String, retry_after: Option<Duration> },
    /// It does not take these texts.
    #[error("the model answered HTTP {0}")]
    Refused(StatusCode),
    /// It does not take our requests at all.
    #[error("the model answered HTTP {0}")]
    Misconfigured(StatusCode),
    /// What it answered is not an answer.
    #[error("its answer cannot be used: {0}")]
    Unusable(String),
}

impl Failure {
    fn passing(why: impl Into<String>) -> Self {
        Self::Passing {
            why: why.into(),
            retry_after: None,
        }
    }

    fn outcome(&self) -> &'static str {
        match self {
            Self::Passing { .. } => "unavailable",
            Self::Refused(_) => "refused",
            Self::Misconfigured(_) => "misconfigured",
            Self::Unusable(_) => "unusable",
        }
    }
}

impl Client {
    /// # Errors
    ///
    /// A sentence that names the setting.
    pub(super) fn new(
        config: &ModelConfig,
        http: reqwest::Client,
        rng: Rng,
        cpu: CpuPool,
    ) -> std::result::Result<Self, String> {
        let wrong = |what: &str| format!("models: {:?}: {what}", config.name);
        let authorization = config.token()?.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| wrong("api_key has characters that a header cannot hold"))?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        Ok(Self {
            name: config.name.clone(),
            upstream_model: config.upstream_model.clone().unwrap_or_else(|| config.name.clone()),
            url: config.url.parse().map_err(|_| wrong("url is not a URL"))?,
            authorization: authorization.transpose()?,
            http,
            timeout: Duration::from_secs(config.timeout_seconds),
            deadline: Duration::from_secs(config.deadline_seconds),
            batch_max: config.batch_max.max(1),
            turns: Semaphore::new(config.requests_max.max(1)),
            budget: AtomicU64::new(BUDGET_MAX),
            rng,
            cpu,
        })
    }

    pub(super) fn upstream_model(&self) -> &str {
        &self.upstream_model
    }

    pub(super) fn batch_max(&self) -> usize {
        self.batch_max
    }

    /// Sends a request until it has an answer that passes `check`, fails for good, or the deadline,
    /// the attempts or the budget of retries end.
    ///
    /// * `bytes_max` — answers are read up to here
    /// * `check` — reads an answer, on the CPU pool; or says what is wrong with it
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        request: Vec<u8>,
        bytes_max: usize,
        check: impl Fn(&[u8]) -> std::result::Result<T, String> + Copy + Send + 'static,
    ) -> Result<T> {
        let end = Instant::now() + self.deadline;
        let left = || end.saturating_duration_since(Instant::now());
        let request = Bytes::from(request);
        let Ok(turn) = timeout(left(), self.turns.acquire()).await else {
            return Err(self.busy());
        };
        let _turn = turn.expect("the semaphore is never closed");
        let mut attempts = 1;
        loop {
            let attempt = timeout(self.timeout.min(left()), self.attempt(request.clone(), bytes_max));
            let failure = match attempt.await {
                Ok(Ok(answer)) => match self.cpu.run(Priority::Foreground, move || check(&answer)).await {
                    Ok(answer) => {
                        self.count("ok");
                        self.succeeded();
                        return Ok(answer);
                    }
                    Err(why) => Failure::Unusable(why),
                },
                Ok(Err(failure)) => failure,
                Err(_) => Failure::passing("it did not answer in time"),
            };
            self.count(failure.outcome());
            let pause = match self.pause(&failure, attempts) {
                Some(pause) if pause < left() && self.take() => pause,
                _ => return Err(self.explain(failure)),
            };
            sleep(pause).await;
            attempts += 1;
        }
    }

    /// How long to wait before the next attempt; `None` when there shall be none.
    fn pause(&self, failure: &Failure, attempts: u32) -> Option<Duration> {
        match failure {
            Failure::Passing { retry_after, .. } if attempts < ATTEMPTS_MAX => {
                let pause = self.rng.jitter(FIRST_PAUSE * 4u32.pow(attempts - 1));
                Some(retry_after.unwrap_or_default().max(pause))
            }
            _ => None,
        }
    }

    async fn attempt(&self, request: Bytes, bytes_max: usize) -> std::result::Result<Vec<u8>, Failure> {
        let mut post = self.http.post(self.url.clone()).body(request);
        post = post.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            post = post.header(AUTHORIZATION, authorization.clone());
        }
        let response = post.send().await.map_err(|e| Failure::passing(cause(e)))?;
        let status = response.status();
        if status.is_success() {
            return read(response, bytes_max).await;
        }
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let retry_after = retry_after.and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
        let body = read(response, SPARE).await.unwrap_or_default();
        tracing::warn!(
            model = self.name,
            status = status.as_u16(),
            body = self.shown(&body),
            "a model refused a request"
        );
        Err(match status.as_u16() {
            408 | 429 | 500.. => Failure::Passing {
                why: format!("it answered HTTP {status}"),
                retry_after,
            },
            400 | 413 | 422 => Failure::Refused(status),
            _ => Failure::Misconfigured(status),
        })
    }

    /// The beginning of a body, for the log. Some models repeat the token in their errors, in part.
    fn shown(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(&body[..body.len().min(LOGGED_BYTES)]).into_owned();
        match &self.authorization {
            Some(_) if text.to_ascii_lowercase().contains("key") => "(not shown: it is about keys)".to_owned(),
            Some(token) => {
                let token = token.to_str().unwrap_or_default().trim_start_matches("Bearer ");
                match token.is_empty() {
                    true => text,
                    false => text.replace(token, "…"),
                }
            }
            None => text,
        }
    }

    fn count(&self, outcome: &'static str) {
        metrics::counter!(telemetry::MODEL_REQUESTS, "model" => self.name.clone(), "outcome" => outcome).increment(1);
    }

    fn succeeded(&self) {
        let more = |budget: u64| Some((budget + 1).min(BUDGET_MAX));
        let _ = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    fn take(&self) -> bool {
        let less = |budget: u64| budget.checked_sub(RETRY_COST);
        let taken = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.is_ok()
    }

    fn busy(&self) -> Error {
        Error::new(
            ErrorKind::Overloaded,
            format!(
                "too many requests wait for model {:?} on this server; nothing was done, try again",
                self.name
            ),
        )
        .after(Duration::from_secs(1))
    }

    /// What the client is told. The rest is in the log.
    fn explain(&self, failure: Failure) -> Error {
        let name = &self.name;
        let (kind, message) = match &failure {
            Failure::Passing { .. } => (
                ErrorKind::Unavailable,
                format!("model {name:?} cannot be reached or is overloaded; nothing was done, try again"),
            ),
            Failure::Refused(status) => (
                ErrorKind::Invalid,
                format!(
                    "model {name:?} refused the texts with HTTP {}: they may be too long for it; nothing was done",
                    status.as_u16()
                ),
            ),
            Failure::Misconfigured(status) => (
                ErrorKind::Unavailable,
                format!(
                    "model {name:?} refuses this server with HTTP {}; nothing was done, and the operator has to check \
                     its url, api_key and upstream_model",
                    status.as_u16()
                ),
            ),
            Failure::Unusable(_) => (
                ErrorKind::Unavailable,
                format!(
                    "model {name:?} gave an answer that cannot be used; nothing was done, and the operator has to \
                     check its settings and this server's log"
                ),
            ),
        };
        let error = Error::new(kind, message);
        match kind {
            ErrorKind::Invalid => error.because(failure),
            _ => error.after(Duration::from_secs(1)).because(failure),
        }
    }
}

/// Room for the body of an error.
const SPARE: usize = 16 << 10;

/// Reads a body, up to a size.
async fn read(mut response: Response, bytes_max: usize) -> std::result::Result<Vec<u8>, Failure> {
    let too_long = || Failure::Unusable(format!("it is longer than {bytes_max} bytes"));
    if response.content_length().is_some_and(|len| len > bytes_max as u64) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() > bytes_max => return Err(too_long()),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Err(error) => return Err(Failure::passing(cause(error))),
        }
    }
}

/// An error of the HTTP client with its causes, on one line and without the URL.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
