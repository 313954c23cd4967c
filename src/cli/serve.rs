//! `shoal serve`: builds the parts, serves, shuts down.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{dev, machine, with_causes};
use crate::api::{self, Api, ServerOptions, Tls};
use crate::auth::Authenticator;
use crate::base::{Runtime, TokioSpawner};
use crate::cache::CacheOptions;
use crate::config::{Config, Role};
use crate::control::{Control, ControlOptions, Freshness, Place, Plans, Secret, Secrets};
use crate::inference::Inference;
use crate::maintenance::gc::{self, Collector, GcOptions};
use crate::maintenance::{self, Indexer, UpkeepOptions};
use crate::model::Limits;
use crate::namespace::{Engine, EngineOptions};
use crate::store::{self, probe::ProbeOptions};
use crate::telemetry;

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: Config, runtime: Runtime, tasks: TokioSpawner, is_dev: bool) -> Result<(), String> {
    let grace = Duration::from_secs(config.shutdown_grace_seconds);
    let keys = config.api_keys()?;
    config.check_plain_http()?;
    let tls = match config.tls_files()? {
        Some((cert, key)) => Some(Arc::new(Tls::load(cert, key).await?)),
        None => None,
    };
    let metrics = telemetry::start_metrics().map_err(|e| e.to_string())?;
    let shutdown = until(shutdown_signal()?, keep_fresh(tls.clone())?);
    let opened = store::open(&config.store_config(), &runtime, ProbeOptions::default())
        .await
        .map_err(|e| with_causes(&e))?;
    let options = EngineOptions {
        limits: limits(&config),
        retention: Duration::from_secs(config.gc.retention_seconds),
        inference: Inference::new(&config.models, &runtime.rng, &runtime.cpu)?,
        cache: CacheOptions::of(&config, machine::memory_bytes()),
        open_namespaces_max: usize::try_from(config.open_namespaces_max).unwrap_or(usize::MAX),
        ..EngineOptions::default()
    };
    let control = Control::new(
        runtime.clone(),
        opened.store.clone(),
        ControlOptions {
            secrets: secrets(&config, &keys)?,
            freshness: Freshness {
                revalidate: Duration::from_millis(config.auth_revalidate_ms),
                strict: config.auth_strict,
                ..Freshness::default()
            },
            deployment: opened.format.deployment_id.to_string(),
        },
    )
    .with_plans(Plans::new(&config.plans, &config.default_plan)?)
    .at(Place {
        region: config.region.clone(),
        locations: config.all_locations(),
        public_host: config.public_host.clone(),
    });
    let auth = Authenticator::new(&keys, config.is_loopback()?, control.clone())?
        .with_custom_values(config.allow_custom_key_values);
    let ending = CancellationToken::new();
    if config.roles.contains(&Role::Api) {
        let (control, ending) = (control.clone(), ending.clone());
        let sweep = async move { control.sweep_keys_until(ending.cancelled()).await };
        runtime.spawner.spawn("sweep of API keys", Box::pin(sweep));
    }
    let engine = Engine::new(runtime.clone(), opened.store, options);
    if config.roles.contains(&Role::Index) {
        let indexer = Indexer::new(engine.clone(), upkeep_options(&config, machine::memory_bytes()));
        let upkeep = maintenance::run(indexer, ending.clone().cancelled_owned());
        runtime.spawner.spawn("upkeep", Box::pin(upkeep));
    }
    let collects = config.roles.contains(&Role::Gc);
    let collector = collects.then(|| Collector::of(&engine, gc_options(&config)));
    let collecting = gc::run(engine.clone(), collector, ending.clone().cancelled_owned());
    runtime.spawner.spawn("garbage collection", Box::pin(collecting));
    let listener = TcpListener::bind(&config.listen)
        .await
        .map_err(|e| format!("listen {}: {e}", config.listen))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(%address, scheme, store = %config.store, "serving");
    if is_dev {
        println!("{}", dev::banner(&format!("{scheme}://{address}"), &keys[0]));
    }
    let (alive, gone) = oneshot::channel::<()>();
    let node = control.clone();
    let heartbeat = async move { node.beat_until(async { drop(gone.await) }).await };
    runtime.spawner.spawn("heartbeat", Box::pin(heartbeat));
    let (node, served) = (control.clone(), ending.clone());
    let upkeep = async move { node.keep_up_until(served.cancelled()).await };
    runtime.spawner.spawn("usage and audit", Box::pin(upkeep));
    let api = Api::new(engine.clone(), runtime, auth, control, Some(metrics));
    api::serve(listener, api, server_options(&config), tls, shutdown).await;
    drop(alive);
    engine.close();
    ending.cancel();
    // What was accepted becomes durable or times out; not longer than the grace either way.
    if tokio::time::timeout(grace, tasks.join()).await.is_err() {
        tracing::warn!("background tasks were still running when the shutdown grace ended");
    }
    tracing::info!("stopped");
    Ok(())
}

/// The deployment secrets; made of the bootstrap key when there are none.
fn secrets(config: &Config, keys: &[String]) -> Result<Secrets, String> {
    let given = config.secret_keys()?;
    let first = keys
        .first()
        .ok_or("no api key is set: give api_key or api_key_file, or use --dev")?;
    if given.is_empty() {
        tracing::warn!(
            "no secret_key_file is set: tokens and sealed keys depend on the first bootstrap key, and die with it"
        );
        return Ok(Secrets::new(vec![Secret::of_bootstrap_key(first)]));
    }
    Ok(Secrets::new(given.iter().map(|k| Secret::new(k.as_bytes())).collect()))
}

fn gc_options(config: &Config) -> GcOptions {
    GcOptions {
        retention: Duration::from_secs(config.gc.retention_seconds),
        interval: Duration::from_secs(config.gc.interval_seconds),
        second_look: Duration::from_secs(config.gc.second_look_seconds),
        sweep: Duration::from_secs(config.gc.sweep_seconds),
        dry_run: config.gc.dry_run,
    }
}

/// * `machine_bytes` — memory of the machine
fn upkeep_options(config: &Config, machine_bytes: u64) -> UpkeepOptions {
    let indexing = &config.indexing;
    let memory_bytes = indexing.memory.bytes(machine_bytes);
    let list_interval = Duration::from_millis(indexing.list_interval_ms);
    let quiet = Duration::from_secs(indexing.quiet_seconds);
    let defaults = UpkeepOptions::default();
    let serves = config.roles.contains(&Role::Api);
    UpkeepOptions {
        flush_bytes: indexing.flush_bytes,
        flush_entries: indexing.flush_entries,
        flush_age: Duration::from_secs(indexing.flush_age_seconds),
        small_quiet: quiet,
        small_age: quiet * 4,
        flushes_at_once: indexing.flushes_at_once,
        merge_fan_out: indexing.merge_fan_out,
        merge_dead_percent: indexing.merge_dead_percent,
        // It takes three times as much, and flushes go on beside it.
        merge_bytes_max: indexing.merge_bytes_max.min(memory_bytes / 4),
        merges_at_once: indexing.merges_at_once,
        merge_bytes_per_second: indexing.merge_bytes_per_second,
        jobs_per_org: indexing.jobs_per_org,
        memory_bytes,
        list_interval,
        // A node that writes indexes what it writes, and others do the same.
        list_interval_idle: if serves {
            defaults.list_interval_idle
        } else {
            list_interval
        },
        foreign_wait: if serves { defaults.foreign_wait } else { Duration::ZERO },
        ..defaults
    }
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
        trusted_proxies: config.trusted_proxies.clone(),
        cors_origins: config.cors_origins.clone(),
    }
}

/// Reads the certificate again when it changes, and on SIGHUP; never ends. Without TLS it only waits,
/// and SIGHUP ends the process as it does by default.
fn keep_fresh(tls: Option<Arc<Tls>>) -> Result<impl Future<Output = ()>, String> {
    let hangups = tls
        .map(|tls| Ok::<_, String>((tls, listen(SignalKind::hangup())?)))
        .transpose()?;
    Ok(async move {
        match hangups {
            Some((tls, hangups)) => tls.keep_fresh(hangups).await,
            None => std::future::pending().await,
        }
    })
}

/// Runs `beside` as long as `end` is not there.
async fn until(end: impl Future<Output = ()>, beside: impl Future<Output = ()>) {
    tokio::select! {
        () = end => {}
        () = beside => {}
    }
}

fn shutdown_signal() -> Result<impl Future<Output = ()>, String> {
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("shutting down");
    })
}

fn listen(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|e| format!("signals cannot be received: {e}"))
}
