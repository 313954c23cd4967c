//! Requests to a running server.

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::server::{API_KEY, Server};

/// A client of one server.
pub struct Http {
    url: String,
    client: reqwest::Client,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

impl Http {
    pub fn to(server: &Server) -> Self {
        Self {
            url: server.settings.url(),
            client: reqwest::Client::new(),
        }
    }

    /// Sends a request with the key.
    pub async fn send(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let key = format!("Bearer {API_KEY}");
        self.send_with(method, path, &[("Authorization", &key)], body).await
    }

    /// Sends JSON with the key.
    pub async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, body.to_string()).await
    }

    /// Sends a request with just these headers.
    pub async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let method = method.parse().expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("the server answers");
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.bytes().await.expect("the answer is whole").to_vec();
        Answer { status, headers, body }
    }
}
