//! `shoal serve`: builds the parts, serves, shuts down.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::dev;
use crate::api::{self, Api, ServerOptions};
use crate::auth::Authenticator;
use crate::base::{Runtime, TokioSpawner};
use crate::config::Config;
use crate::inference::Inference;
use crate::model::Limits;
use crate::namespace::{Engine, EngineOptions};
use crate::store::{self, probe::ProbeOptions};
use crate::telemetry;

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: Config, runtime: Runtime, tasks: TokioSpawner, is_dev: bool) -> Result<(), String> {
    let grace = Duration::from_secs(config.shutdown_grace_seconds);
    let keys = config.api_keys()?;
    let auth = Authenticator::new(&keys, config.is_loopback()?)?;
    let metrics = telemetry::start_metrics().map_err(|e| e.to_string())?;
    let shutdown = shutdown_signal()?;
    let opened = store::open(&config.store_config(), &runtime, ProbeOptions::default())
        .await
        .map_err(|e| with_causes(&e))?;
    let options = EngineOptions {
        limits: limits(&config),
        inference: Inference::new(&config.models, &runtime.rng, &runtime.cpu)?,
        ..EngineOptions::default()
    };
    let engine = Engine::new(runtime.clone(), opened.store, options);
    let listener = TcpListener::bind(&config.listen)
        .await
        .map_err(|e| format!("listen {}: {e}", config.listen))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    tracing::info!(%address, store = %config.store, "serving");
    if is_dev {
        println!("{}", dev::banner(address, &keys[0]));
    }
    let api = Api::new(engine.clone(), runtime, auth, Some(metrics));
    api::serve(listener, api, server_options(&config), shutdown).await;
    engine.close();
    // What was accepted becomes durable or times out; not longer than the grace either way.
    if tokio::time::timeout(grace, tasks.join()).await.is_err() {
        tracing::warn!("background tasks were still running when the shutdown grace ended");
    }
    tracing::info!("stopped");
    Ok(())
}

fn limits(config: &Config) -> Limits {
    Limits {
        body_bytes_max: config.body_bytes_max,
        query_body_bytes_max: config.query_body_bytes_max,
        unindexed_bytes_max: config.unindexed_bytes_max,
        ..Limits::default()
    }
}

fn server_options(config: &Config) -> ServerOptions {
    ServerOptions {
        header_timeout: Duration::from_secs(config.header_timeout_seconds),
        connections_max: config.connections_max,
        shutdown_grace: Duration::from_secs(config.shutdown_grace_seconds),
    }
}

fn shutdown_signal() -> Result<impl Future<Output = ()>, String> {
    let listen = |kind| signal(kind).map_err(|e| format!("signals cannot be received: {e}"));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("shutting down");
    })
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
