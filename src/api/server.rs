//! Connections: accept, bound, shut down.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt;

use super::linger::Lingering;
use super::{Api, path, router};
use crate::base::Spawner;

/// How the server treats connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// How long a client may take to send a request's headers.
    pub header_timeout: Duration,
    /// The most connections at once; further ones wait to be accepted.
    pub connections_max: u32,
    /// How long accepted requests may take after the shutdown began.
    pub shutdown_grace: Duration,
}

/// Headers of one request, in bytes.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// How long to wait after an accept failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` resolves; then accepts nothing new, finishes what was accepted within
/// the grace time, and returns.
pub async fn serve(listener: TcpListener, api: Api, options: ServerOptions, shutdown: impl Future<Output = ()>) {
    let spawner = api.inner.runtime.spawner.clone();
    let slots = Arc::new(Semaphore::new(options.connections_max as usize));
    let (stop, stopped) = watch::channel(());
    let app = router(api.clone());
    tokio::select! {
        () = accept(&listener, &app, options, &slots, &stopped, &spawner) => {}
        () = shutdown => {}
    }
    api.drain();
    drop((listener, stopped));
    stop.send_replace(());
    let all = slots.acquire_many(options.connections_max);
    if tokio::time::timeout(options.shutdown_grace, all).await.is_err() {
        tracing::warn!("requests were still running when the shutdown grace ended");
    }
}

async fn accept(
    listener: &TcpListener,
    app: &Router,
    options: ServerOptions,
    slots: &Arc<Semaphore>,
    stopped: &watch::Receiver<()>,
    spawner: &Arc<dyn Spawner>,
) {
    loop {
        let slot = slots
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = converse(stream, app.clone(), options, stopped.clone(), slot, spawner.clone());
                spawner.spawn("connection", Box::pin(connection));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    app: Router,
    options: ServerOptions,
    mut stopped: watch::Receiver<()>,
    _slot: OwnedSemaphorePermit,
    spawner: Arc<dyn Spawner>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let (app, spawner) = (app.clone(), spawner.clone());
        if let Some(uri) = path::without_region(request.uri()) {
            *request.uri_mut() = uri;
        }
        async move {
            Ok::<_, Infallible>(
                app.oneshot(request.map(|body| Body::new(Lingering::new(body, spawner))))
                    .await
                    .unwrap_or_else(|never| match never {}),
            )
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
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
