//! From a URL to an object store.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};
use url::Url;

use super::local::LocalStore;
use crate::config::StoreConfig;

/// How old a half-written file must be before it counts as left over by a crash.
const STAGING_AGE: Duration = Duration::from_secs(3600);
/// Our own time limits, which grow with the body, come first; this one is against leaks only.
const CLIENT_TIMEOUT: &str = "15m";
const CONNECT_TIMEOUT: &str = "1s";
const IDLE_CONNECTIONS: &str = "256";

/// A client for the configured store.
pub struct Backend {
    pub store: Arc<dyn ObjectStore>,
    /// Whether listings come in ascending order of keys.
    pub lists_in_order: bool,
}

/// Why there is no client for the configured store.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("store.url {url:?} must be file:///path, memory:, s3://bucket, gs://bucket or az://container: {reason}")]
    Url { url: String, reason: String },
    #[error("store directory {path:?} cannot be used")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("store client cannot be built")]
    Client(#[from] object_store::Error),
}

/// Builds the client. No request is sent; a local directory is created, and cleaned of the staging
/// files of crashed writes while the client is used.
///
/// * `now` — wall time since the Unix epoch
pub fn build(config: &StoreConfig, now: Duration) -> Result<Backend, BackendError> {
    let bad = |reason: &str| BackendError::Url {
        url: config.url.clone(),
        reason: reason.into(),
    };
    let url = Url::parse(&config.url).map_err(|error| bad(&error.to_string()))?;
    let host = || {
        url.host_str()
            .filter(|h| !h.is_empty())
            .ok_or_else(|| bad("the bucket is missing"))
    };
    let (store, lists_in_order): (Arc<dyn ObjectStore>, bool) = match url.scheme() {
        "memory" => (Arc::new(InMemory::new()), false),
        "file" => {
            let path = url.to_file_path().map_err(|()| bad("the path must be absolute"))?;
            return Ok(Backend {
                store: Arc::new(local(path, now)?),
                lists_in_order: true,
            });
        }
        // S3 Express buckets, whose names end so, list without order.
        "s3" => (s3(config, host()?)?, !host()?.ends_with("--x-s3")),
        "gs" => (gcs(host()?)?, true),
        "az" => (azure(host()?)?, true),
        _ => return Err(bad("the scheme is unknown")),
    };
    let prefix = object_store::path::Path::from_url_path(url.path()).map_err(|error| bad(&error.to_string()))?;
    let store = if prefix.as_ref().is_empty() {
        store
    } else {
        Arc::new(PrefixStore::new(store, prefix))
    };
    Ok(Backend { store, lists_in_order })
}

fn local(path: PathBuf, now: Duration) -> Result<LocalStore, BackendError> {
    let unusable = |source| BackendError::Directory {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(&path).map_err(unusable)?;
    let root = path.canonicalize().map_err(unusable)?;
    // Behind the start, which it would hold up by minutes: it looks at the names of all objects.
    let swept = root.clone();
    let sweeping = std::thread::Builder::new()
        .name("sweep of the store".into())
        .spawn(move || {
            if let Err(error) = sweep(&swept, now) {
                tracing::warn!(%error, "what crashed writes have left was not removed");
            }
        });
    drop(sweeping.map_err(unusable)?);
    // Without this nothing would be durable when it is acknowledged.
    let inner = LocalFileSystem::new_with_prefix(&root)?.with_fsync(true);
    Ok(LocalStore::new(inner, root))
}

/// Removes `name#N` files that a crash left behind. Young ones may belong to a running process.
fn sweep(directory: &FilePath, now: Duration) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sweep(&entry.path(), now)?;
            continue;
        }
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.rsplit_once('#')).map(|(_, number)| number);
        let staging = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if staging && age(&entry, now).is_some_and(|age| age > STAGING_AGE) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn age(entry: &std::fs::DirEntry, now: Duration) -> Option<Duration> {
    let modified = entry.metadata().ok()?.modified().ok()?;
    now.checked_sub(modified.duration_since(std::time::UNIX_EPOCH).ok()?)
}

fn client_settings() -> [(ClientConfigKey, &'static str); 4] {
    [
        (ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT),
        (ClientConfigKey::Timeout, CLIENT_TIMEOUT),
        (ClientConfigKey::PoolMaxIdlePerHost, IDLE_CONNECTIONS),
        (ClientConfigKey::Http1Only, "true"),
    ]
}

/// A repeated create would meet its own first attempt; `Store` repeats what may be.
fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn s3(config: &StoreConfig, bucket: &str) -> Result<Arc<dyn ObjectStore>, BackendError> {
    use AmazonS3ConfigKey as Key;
    let s3 = &config.s3;
    let flag = |flag: Option<bool>| flag.map(|on| on.to_string());
    let settings = [
        (Key::Endpoint, s3.endpoint.clone()),
        (Key::Region, s3.region.clone()),
        (Key::VirtualHostedStyleRequest, flag(s3.path_style.map(|path| !path))),
        (Key::AccessKeyId, s3.access_key_id.clone()),
        (Key::SecretAccessKey, s3.secret_access_key.clone()),
        (Key::Token, s3.session_token.clone()),
        (Key::Client(ClientConfigKey::AllowHttp), flag(s3.allow_http)),
    ];
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(no_retries());
    for (key, value) in client_settings() {
        builder = builder.with_config(Key::Client(key), value);
    }
    for (key, value) in settings {
        if let Some(value) = value {
            builder = builder.with_config(key, value);
        }
    }
    Ok(Arc::new(builder.build()?))
}

fn gcs(bucket: &str) -> Result<Arc<dyn ObjectStore>, BackendError> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_retry(no_retries());
    for (key, value) in client_settings() {
        builder = builder.with_config(GoogleConfigKey::Client(key), value);
    }
    Ok(Arc::new(builder.build()?))
}

fn azure(container: &str) -> Result<Arc<dyn ObjectStore>, BackendError> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_retry(no_retries());
    for (key, value) in client_settings() {
        builder = builder.with_config(AzureConfigKey::Client(key), value);
    }
    Ok(Arc::new(builder.build()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build_url(url: &str) -> Result<Backend, BackendError> {
        build(
            &StoreConfig {
                url: url.into(),
                ..StoreConfig::default()
            },
            Duration::from_secs(1 << 40),
        )
    }

    #[test]
    fn a_url_that_names_no_store_is_refused_with_the_setting() {
        for url in ["", "bucket", "ftp://x", "s3://", "file:relative/../.."] {
            if let Err(error) = build_url(url) {
                assert!(error.to_string().contains("store"), "{url}: {error}");
            } else {
                assert!(url.starts_with("file:"), "{url}");
            }
        }
    }

    #[test]
    fn only_old_staging_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("ns");
        std::fs::create_dir(&sub).unwrap();
        for name in ["a#1", "b", "c#", "d#x"] {
            std::fs::write(sub.join(name), "x").unwrap();
        }
        sweep(dir.path(), Duration::ZERO).unwrap();
        assert!(sub.join("a#1").exists(), "as if it were from the future");
        build_url(&format!("file://{}", dir.path().display())).unwrap();
        let is_swept = || !sub.join("a#1").exists();
        (0..1000).find(|_| {
            std::thread::sleep(Duration::from_millis(10));
            is_swept()
        });
        assert!(is_swept());
        assert!(["b", "c#", "d#x"].iter().all(|name| sub.join(name).exists()));
    }
}
