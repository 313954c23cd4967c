//! An S3 server inside the test process, over real HTTP, with scripted faults.
//!
//! It speaks what a client of path-style buckets sends: PUT with `If-None-Match: *`, GET with a
//! range, HEAD, DELETE, bulk delete and ListObjectsV2. Signatures are not checked.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;

/// What happens to one request.
#[derive(Clone, Copy, Debug)]
pub enum S3Fault {
    Pass,
    /// Do it, then drop the connection without an answer.
    ApplyThenClose,
    /// Do it, then answer with this status.
    ApplyThen(u16),
    /// Answer with this status and do nothing.
    Refuse(u16),
    /// Answer 409 and do nothing.
    Conflict409,
    /// Never answer.
    Hang,
    Delay(Duration),
    /// Announce the whole body, send half of it, drop the connection.
    TruncateBody,
    /// Change one bit of the body.
    FlipByte,
    /// Drop the connection, do it that much later.
    LateApply(Duration),
}

/// How the server treats `If-None-Match: *`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditions {
    Atomic,
    /// The header has no effect.
    Ignored,
    /// Checked first, written a little later.
    Racy,
}

struct Rule {
    method: Method,
    key_part: String,
    fault: S3Fault,
}

struct Server {
    /// Protects all there is; never held across an await.
    state: Mutex<Objects>,
    conditions: Conditions,
}

#[derive(Default)]
struct Objects {
    objects: BTreeMap<String, Bytes>,
    rules: VecDeque<Rule>,
    requests: BTreeMap<String, u64>,
}

/// A running server; it ends with this value.
pub struct S3Server {
    address: SocketAddr,
    server: Arc<Server>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl S3Server {
    #[allow(clippy::disallowed_methods, reason = "the server is not part of the node under test")]
    pub async fn start(conditions: Conditions) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(Server {
            state: Mutex::default(),
            conditions,
        });
        let app = Router::new().fallback(answer).with_state(server.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, server, task }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request of that method whose key contains `key_part` meets this fault, once.
    pub fn fault(&self, method: Method, key_part: &str, fault: S3Fault) {
        self.server.state().rules.push_back(Rule {
            method,
            key_part: key_part.into(),
            fault,
        });
    }

    /// Requests of a method so far.
    pub fn requests(&self, method: &Method) -> u64 {
        self.server.state().requests.get(method.as_str()).copied().unwrap_or(0)
    }
}

impl Server {
    fn state(&self) -> MutexGuard<'_, Objects> {
        self.state.lock().unwrap()
    }

    fn draw(&self, method: &Method, key: &str) -> S3Fault {
        let mut state = self.state();
        *state.requests.entry(method.to_string()).or_default() += 1;
        let found = state
            .rules
            .iter()
            .position(|r| r.method == *method && key.contains(&r.key_part));
        found
            .and_then(|i| state.rules.remove(i))
            .map_or(S3Fault::Pass, |rule| rule.fault)
    }

    async fn apply(&self, request: &Call) -> Response {
        let Call {
            method,
            key,
            query,
            headers,
            body,
        } = request;
        let query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        match *method {
            Method::PUT => self.put(key, headers, body.clone()).await,
            Method::GET if query.contains_key("list-type") => self.list(&query),
            Method::GET | Method::HEAD => self.get(key, headers),
            Method::DELETE => {
                self.state().objects.remove(key);
                StatusCode::NO_CONTENT.into_response()
            }
            Method::POST if query.contains_key("delete") => self.bulk_delete(body),
            _ => StatusCode::NOT_IMPLEMENTED.into_response(),
        }
    }

    async fn put(&self, key: &str, headers: &HeaderMap, body: Bytes) -> Response {
        let create = headers.contains_key(header::IF_NONE_MATCH) && self.conditions != Conditions::Ignored;
        if create && self.state().objects.contains_key(key) {
            return error(StatusCode::PRECONDITION_FAILED);
        }
        if self.conditions == Conditions::Racy {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut state = self.state();
        if create && self.conditions == Conditions::Atomic && state.objects.contains_key(key) {
            return error(StatusCode::PRECONDITION_FAILED);
        }
        let tag = etag(&body);
        state.objects.insert(key.to_owned(), body);
        ([(header::ETAG, tag)], "").into_response()
    }

    fn get(&self, key: &str, headers: &HeaderMap) -> Response {
        let Some(body) = self.state().objects.get(key).cloned() else {
            return error(StatusCode::NOT_FOUND);
        };
        let common = [
            (header::ETAG, etag(&body)),
            (header::LAST_MODIFIED, "Mon, 01 Jan 2024 00:00:00 GMT".into()),
        ];
        let Some(range) = headers
            .get(header::RANGE)
            .and_then(|r| r.to_str().ok()?.strip_prefix("bytes="))
        else {
            return (common, body).into_response();
        };
        let len = body.len();
        let (start, end) = match range.split_once('-') {
            Some(("", n)) => (len.saturating_sub(n.parse().unwrap()), len),
            Some((a, "")) => (a.parse().unwrap(), len),
            Some((a, b)) => (a.parse().unwrap(), len.min(b.parse::<usize>().unwrap() + 1)),
            None => return error(StatusCode::BAD_REQUEST),
        };
        if start >= end {
            return error(StatusCode::RANGE_NOT_SATISFIABLE);
        }
        let content_range = [(header::CONTENT_RANGE, format!("bytes {start}-{}/{len}", end - 1))];
        (
            StatusCode::PARTIAL_CONTENT,
            common,
            content_range,
            body.slice(start..end),
        )
            .into_response()
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Response {
        let text = |name: &str| query.get(name).map_or("", String::as_str);
        let (prefix, delimiter) = (text("prefix"), text("delimiter"));
        let after = text("start-after").max(text("continuation-token"));
        let page: usize = text("max-keys").parse().unwrap_or(1000).min(1000);
        let (mut contents, mut common, mut last, mut more) = (String::new(), Vec::<String>::new(), "", false);
        let mut entries = 0;
        let state = self.state();
        for (key, body) in state
            .objects
            .iter()
            .filter(|(k, _)| k.starts_with(prefix) && k.as_str() > after)
        {
            let group = (!delimiter.is_empty())
                .then(|| key[prefix.len()..].find(delimiter))
                .flatten();
            let group = group.map(|at| &key[..prefix.len() + at + delimiter.len()]);
            let seen = group.is_some_and(|g| common.last().is_some_and(|c| c == g));
            if !seen && entries == page {
                more = true;
                break;
            }
            last = key;
            match group {
                _ if seen => continue,
                Some(group) => common.push(group.to_owned()),
                None => {
                    contents += &format!(
                        "<Contents><Key>{}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>\
                     <ETag>{}</ETag><Size>{}</Size></Contents>",
                        escape(key),
                        escape(&etag(body)),
                        body.len()
                    )
                }
            }
            entries += 1;
        }
        let groups: String = common
            .iter()
            .map(|c| format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escape(c)))
            .collect();
        let token = if more {
            format!("<NextContinuationToken>{}</NextContinuationToken>", escape(last))
        } else {
            String::new()
        };
        format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{token}{contents}{groups}</ListBucketResult>")
            .into_response()
    }

    fn bulk_delete(&self, body: &Bytes) -> Response {
        let text = String::from_utf8_lossy(body);
        let mut done = String::new();
        for part in text.split("<Key>").skip(1) {
            let key = part.split("</Key>").next().unwrap_or_default();
            self.state()
                .objects
                .remove(&key.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"));
            done += &format!("<Deleted><Key>{key}</Key></Deleted>");
        }
        format!("<DeleteResult>{done}</DeleteResult>").into_response()
    }
}

struct Call {
    method: Method,
    key: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
}

#[allow(clippy::disallowed_methods, reason = "a late effect outlives its request")]
async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 30).await.unwrap_or_default();
    let path = parts
        .uri
        .path()
        .trim_start_matches('/')
        .replace("%21", "!")
        .replace("%3D", "=");
    // What follows the bucket.
    let key = path.split_once('/').map_or("", |(_, key)| key).to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let fault = server.draw(&parts.method, if key.is_empty() { &query } else { &key });
    let call = Call {
        method: parts.method,
        key,
        query,
        headers: parts.headers,
        body,
    };
    match fault {
        S3Fault::Pass => server.apply(&call).await,
        S3Fault::Refuse(status) => error(StatusCode::from_u16(status).unwrap()),
        S3Fault::Conflict409 => error(StatusCode::CONFLICT),
        S3Fault::Hang => std::future::pending().await,
        S3Fault::ApplyThen(status) => {
            server.apply(&call).await;
            error(StatusCode::from_u16(status).unwrap())
        }
        S3Fault::ApplyThenClose => {
            server.apply(&call).await;
            hang_up()
        }
        S3Fault::Delay(time) => {
            tokio::time::sleep(time).await;
            server.apply(&call).await
        }
        S3Fault::LateApply(time) => {
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                server.apply(&call).await;
            });
            hang_up()
        }
        S3Fault::TruncateBody | S3Fault::FlipByte => damage(server.apply(&call).await, fault).await,
    }
}

/// Ends the connection's task, and so the connection, before any byte is sent. Unlike `panic!`
/// this prints nothing.
fn hang_up() -> ! {
    std::panic::resume_unwind(Box::new("the connection is dropped on request"))
}

async fn damage(response: Response, fault: S3Fault) -> Response {
    let (parts, body) = response.into_parts();
    let mut bytes = to_bytes(body, 1 << 30).await.unwrap().to_vec();
    let (len, half) = (bytes.len(), bytes.len() / 2);
    if let S3Fault::TruncateBody = fault {
        let cut = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let body = Body::from_stream(stream::iter([Ok(Bytes::copy_from_slice(&bytes[..half])), cut]));
        let mut response = Response::from_parts(parts, body);
        response.headers_mut().insert(header::CONTENT_LENGTH, len.into());
        return response;
    }
    bytes[half] ^= 1;
    Response::from_parts(parts, Body::from(bytes))
}

fn error(status: StatusCode) -> Response {
    (status, format!("<Error><Code>{}</Code></Error>", status.as_u16())).into_response()
}

fn etag(body: &[u8]) -> String {
    format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(body))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
