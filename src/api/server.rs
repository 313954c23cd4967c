//! Connections: accept, shake hands, bound, shut down.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt;

use super::client_ip::ClientIp;
use super::dialect::{self, Dialect};
use super::error::ApiError;
use super::linger::Lingering;
use super::tls::{Spoken, Tls};
use super::{Api, path, router_for};
use crate::base::Spawner;
use crate::config::{CorsOrigins, TrustedProxies};

/// How the server treats connections and requests, whatever they ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// How long a client may take to send a request's headers, and to finish the TLS handshake.
    pub header_timeout: Duration,
    /// The most connections at once; further ones wait to be accepted.
    pub connections_max: u32,
    /// How long accepted requests may take after the shutdown began.
    pub shutdown_grace: Duration,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// Whose web pages may search.
    pub cors_origins: CorsOrigins,
}

/// Headers of one request, in bytes.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// How long to wait after an accept failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
struct Shared {
    app: Router,
    options: ServerOptions,
    tls: Option<Arc<Tls>>,
    stopped: watch::Receiver<()>,
    spawner: Arc<dyn Spawner>,
}

/// Serves until `shutdown` resolves; then accepts nothing new, finishes what was accepted within
/// the grace time, and returns.
///
/// * `tls` — HTTPS with this certificate; without one, plain HTTP
pub async fn serve(
    listener: TcpListener,
    api: Api,
    options: ServerOptions,
    tls: Option<Arc<Tls>>,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(options.connections_max as usize));
    let (stop, stopped) = watch::channel(());
    let shared = Arc::new(Shared {
        app: router_for(api.clone(), &options.cors_origins),
        options,
        tls,
        stopped,
        spawner: api.inner.runtime.spawner.clone(),
    });
    tokio::select! {
        () = accept(&listener, &shared, &slots) => {}
        () = shutdown => {}
    }
    api.drain();
    drop(listener);
    stop.send_replace(());
    let all = slots.acquire_many(shared.options.connections_max);
    if tokio::time::timeout(shared.options.shutdown_grace, all).await.is_err() {
        tracing::warn!("requests were still running when the shutdown grace ended");
    }
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>, slots: &Arc<Semaphore>) {
    loop {
        let slot = slots
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection = converse(stream, peer, shared.clone(), slot);
                shared.spawner.spawn("connection", Box::pin(connection));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, _slot: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let answering = shared.clone();
    let answer = move |request| answer(request, peer, answering.clone());
    let Some(tls) = shared.tls.as_ref() else {
        return talk(stream, &shared, answer).await;
    };
    let mut stopped = shared.stopped.clone();
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(shared.options.header_timeout, tls.accept(stream)) => shaken,
        // Nothing was asked yet, so nothing is lost.
        _ = stopped.changed() => return,
    };
    match shaken {
        Ok(Ok(Spoken::Tls(stream))) => talk(*stream, &shared, answer).await,
        Ok(Ok(Spoken::Plain(stream))) => {
            let spawner = shared.spawner.clone();
            talk(stream, &shared, move |request| refuse_plain(request, spawner.clone())).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Answers requests on one connection until either side ends it.
async fn talk<I, A>(io: I, shared: &Shared, answer: impl Fn(Request<Incoming>) -> A)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.options.header_timeout)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut stopped = shared.stopped.clone();
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(mut request: Request<Incoming>, peer: SocketAddr, shared: Arc<Shared>) -> Response {
    if let Some(uri) = path::without_region(request.uri()) {
        *request.uri_mut() = uri;
    }
    if let Some(uri) = path::without_slash(request.uri()) {
        *request.uri_mut() = uri;
    }
    let client = ClientIp::of(peer.ip(), request.headers(), &shared.options.trusted_proxies);
    request.extensions_mut().insert(client);
    let request = request.map(|body| Body::new(Lingering::new(body, shared.spawner.clone())));
    let app = shared.app.clone();
    app.oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// Tells a client that speaks HTTP to the HTTPS port what to do, and hangs up. What it asked for is not
/// even looked at.
async fn refuse_plain(request: Request<Incoming>, spawner: Arc<dyn Spawner>) -> Response {
    let dialect = Dialect::of(request.uri().path());
    drop(Lingering::new(request.into_body(), spawner));
    let error = ApiError::invalid("this port speaks HTTPS only: use https:// in the URL");
    let mut response = dialect::translate(dialect, error.into_response());
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}
