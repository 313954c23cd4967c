//! Every setting: default, unit, effect, validation.
//!
//! A flag wins over `SHOAL_*`, that over the file, that over the default. `SHOAL_S3__REGION` sets
//! `region` of the table `[s3]`. Unknown keys are errors, so that a typing mistake is noticed.

mod collecting;
mod indexing;
mod models;
mod network;
mod place;
mod plans;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

pub use collecting::CollectingConfig;
pub use indexing::IndexingConfig;
pub use models::{ModelConfig, ModelKind};
pub use network::{CorsOrigins, TrustedProxies};
pub use plans::{PlanConfig, Quotas};

/// Everything an operator can set.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the HTTP API. Default 127.0.0.1:8080; an address that others can reach
    /// needs a key of at least 16 bytes.
    pub listen: String,
    /// PEM file with the chain of the server's certificate, its own first. With `tls_key_file`: the
    /// API speaks HTTPS. Both files are read again when they change, and on SIGHUP.
    pub tls_cert_file: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    pub tls_key_file: Option<PathBuf>,
    /// Permits an address that others can reach without TLS, for use behind a proxy that speaks it.
    /// Default false.
    pub allow_plain_http: bool,
    /// Networks of proxies whose `X-Forwarded-For` is believed. Default none.
    pub trusted_proxies: TrustedProxies,
    /// Origins whose web pages may search. Default all: no cookies are used, and search keys are made
    /// for browsers.
    pub cors_origins: CorsOrigins,
    /// Where the data is: see [`StoreConfig::url`]. Default `memory:`, which forgets on exit.
    pub store: String,
    /// How to reach an S3 store.
    pub s3: S3Config,
    /// The bootstrap API key. One of this and `api_key_file` is needed, except with `--dev`.
    pub api_key: Option<String>,
    /// A file with one API key per line, so that keys can be rotated.
    pub api_key_file: Option<PathBuf>,
    /// Directory for cached objects, of one process at a time. Without one, only memory caches.
    pub cache_dir: Option<PathBuf>,
    /// What the cache may use of the disk, in bytes. Default 90 % of its file system. In any case 5 % of it or
    /// 10 GiB, whichever is less, are left free.
    pub cache_bytes: Option<u64>,
    /// Memory for cached objects. More: fewer reads of disk and store.
    pub cache_memory: MemorySize,
    /// What this node does. Default all.
    pub roles: Vec<Role>,
    /// When rows go into segments, on nodes with the role `index`.
    pub indexing: IndexingConfig,
    /// What is deleted when, on nodes with the role `gc`.
    pub gc: CollectingConfig,
    /// Memory for request bodies. More: more and larger requests at once; at the limit they get 429.
    pub body_memory: MemorySize,
    /// Memory for rows that are not indexed yet. More: more open namespaces; at the limit writes
    /// get 429.
    pub tail_memory: MemorySize,
    /// Namespaces that are kept open at most. Default 10,000. More: more memory, some KiB each, and fewer requests
    /// for namespaces that are used again.
    pub open_namespaces_max: u64,
    /// The largest request body in bytes, before and after decompression. Default 512 MB.
    pub body_bytes_max: u64,
    /// The largest body of a query in bytes. Default 16 MiB.
    pub query_body_bytes_max: u64,
    /// Unindexed bytes of one namespace above which writes to it get 429. Default 2 GB.
    pub unindexed_bytes_max: u64,
    /// Connections at once; further ones wait. Default 10,000. Each costs a file descriptor.
    pub connections_max: u32,
    /// Seconds a client may take for the headers of a request. Default 10.
    pub header_timeout_seconds: u64,
    /// Seconds that accepted requests may take after SIGTERM. Default 60.
    pub shutdown_grace_seconds: u64,
    /// Seconds that one GET, LIST or DELETE attempt at the store may take. Default 10.
    pub store_request_timeout_seconds: u64,
    /// Seconds that one PUT attempt may take, plus one per 10 MB. Default 10.
    pub store_put_timeout_seconds: u64,
    /// Seconds that an operation at the store may take with all its retries. Default 30.
    pub store_retry_deadline_seconds: u64,
    /// A file with the deployment secret of at least 32 bytes, under which tokens are signed and search keys
    /// sealed; further lines are older secrets that still count. Without it the secret is made of the first
    /// bootstrap key.
    pub secret_key_file: Option<PathBuf>,
    /// The code of the deployment's location: 2 to 32 of a-z, 0-9 and `-`. Default `local`.
    pub region: String,
    /// Texts of locations by code, as clients list them. The own one need not be among them. Default none.
    pub locations: BTreeMap<String, String>,
    /// What the host names of databases end with in answers. Default that of the request.
    pub public_host: Option<String>,
    /// Whether clients may choose the values of the API keys that they make. Default false.
    pub allow_custom_key_values: bool,
    /// Milliseconds after which other nodes notice that a key was deleted or a right withdrawn. Default 1000.
    pub auth_revalidate_ms: u64,
    /// Whether every request asks the store whether rights were withdrawn, instead of a timer. Default false.
    pub auth_strict: bool,
    /// The models that make vectors of texts or judge rows. Default none.
    pub models: Vec<ModelConfig>,
    /// What organizations may use. Default none: only the plan `unlimited`.
    pub plans: Vec<PlanConfig>,
    /// The plan of new organizations, and of those whose plan is not configured any more. Default `unlimited`.
    pub default_plan: String,
    /// How log lines look: `text` or `json`. Default `text`.
    pub log_format: LogFormat,
    /// Which log lines are written, such as `info` or `shoal=debug,info`. Default `info`.
    pub log_level: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            tls_cert_file: None,
            tls_key_file: None,
            allow_plain_http: false,
            trusted_proxies: TrustedProxies::default(),
            cors_origins: CorsOrigins::Any,
            store: "memory:".into(),
            s3: S3Config::default(),
            api_key: None,
            api_key_file: None,
            cache_dir: None,
            cache_bytes: None,
            cache_memory: MemorySize::Fraction(0.2),
            roles: vec![Role::Api, Role::Index, Role::Gc],
            indexing: IndexingConfig::default(),
            gc: CollectingConfig::default(),
            body_memory: MemorySize::Fraction(0.25),
            tail_memory: MemorySize::Fraction(0.35),
            body_bytes_max: 512 * 1000 * 1000,
            query_body_bytes_max: 16 * 1024 * 1024,
            open_namespaces_max: 10_000,
            unindexed_bytes_max: 2 * 1000 * 1000 * 1000,
            connections_max: 10_000,
            header_timeout_seconds: 10,
            shutdown_grace_seconds: 60,
            store_request_timeout_seconds: 10,
            store_put_timeout_seconds: 10,
            store_retry_deadline_seconds: 30,
            secret_key_file: None,
            region: "local".into(),
            locations: BTreeMap::new(),
            public_host: None,
            allow_custom_key_values: false,
            auth_revalidate_ms: 1000,
            auth_strict: false,
            models: Vec::new(),
            plans: Vec::new(),
            default_plan: "unlimited".into(),
            log_format: LogFormat::Text,
            log_level: "info".into(),
        }
    }
}

/// Without keys, so that a configuration can be logged.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("store", &self.store)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Answers requests.
    Api,
    /// Builds and merges indexes.
    Index,
    /// Deletes what is no longer needed.
    Gc,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// An amount of memory: whole numbers are bytes, numbers below 1 a fraction of the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum MemorySize {
    Bytes(u64),
    Fraction(f64),
}

impl MemorySize {
    /// The amount on a machine with this much memory, in bytes.
    pub fn bytes(self, machine_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Fraction(part) => (machine_bytes as f64 * part) as u64,
        }
    }

    fn check(self, name: &str) -> Result<(), String> {
        match self {
            Self::Bytes(bytes) if bytes < 1 << 20 => Err(format!("{name} must be at least 1 MiB, got {bytes} bytes")),
            Self::Fraction(part) if !(part > 0.0 && part < 1.0) => Err(format!(
                "{name} must be bytes or a fraction between 0 and 1, got {part}"
            )),
            _ => Ok(()),
        }
    }
}

/// Settings from the command line; `None` where it says nothing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Flags {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_plain_http: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
}

/// What the command line reads from the environment itself, as text: a key of digits only stays
/// text that way. The last three are for the commands that ask a server.
const ENV_OF_FLAGS: [&str; 13] = [
    "config",
    "dev",
    "listen",
    "tls_cert_file",
    "tls_key_file",
    "store",
    "api_key",
    "api_key_file",
    "cache_dir",
    "roles",
    "url",
    "org",
    "ca_file",
];

/// Whether Kubernetes put this variable (its name without the prefix) into the environment, as it
/// does in every pod beside a service that is named `shoal`.
fn is_service_link(key: &str) -> bool {
    let key = key.to_ascii_uppercase();
    ["SERVICE_HOST", "SERVICE_PORT", "PORT"].iter().any(|link| {
        key.strip_prefix(link)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    })
}

/// The lines of a file with secrets, without blank ones.
fn lines(setting: &str, file: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{setting} {}: {e}", file.display()))?;
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(str::to_owned)
        .collect())
}

/// The shortest deployment secret, in bytes.
const SECRET_BYTES_MIN: usize = 32;

impl Config {
    /// Reads the file, the environment and the flags.
    ///
    /// # Errors
    ///
    /// A sentence that names the setting.
    pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Self, String> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{} cannot be read: {e}", file.display()))?;
            figment = figment.merge(Toml::string(&text));
        }
        let env = Env::prefixed("SHOAL_").ignore(&ENV_OF_FLAGS);
        let env = env.filter(|key| !is_service_link(key.as_str())).split("__");
        Self::from_figment(figment.merge(env).merge(Serialized::defaults(flags)))
    }

    fn from_figment(figment: Figment) -> Result<Self, String> {
        let config: Self = figment.extract().map_err(|e| e.to_string())?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        self.is_loopback()?;
        self.check_place()?;
        self.tls_files()?;
        self.body_memory.check("body_memory")?;
        self.tail_memory.check("tail_memory")?;
        self.indexing.check()?;
        self.gc.check()?;
        self.cache_memory.check("cache_memory")?;
        if self.cache_bytes.is_some_and(|bytes| bytes < 16 << 20) {
            return Err("cache_bytes must be at least 16 MiB".into());
        }
        if self.roles.is_empty() {
            return Err("roles must name at least one of api, index and gc".into());
        }
        let positive = [
            ("body_bytes_max", self.body_bytes_max),
            ("query_body_bytes_max", self.query_body_bytes_max),
            ("unindexed_bytes_max", self.unindexed_bytes_max),
            ("open_namespaces_max", self.open_namespaces_max),
            ("connections_max", u64::from(self.connections_max)),
            ("header_timeout_seconds", self.header_timeout_seconds),
            ("shutdown_grace_seconds", self.shutdown_grace_seconds),
            ("store_request_timeout_seconds", self.store_request_timeout_seconds),
            ("store_put_timeout_seconds", self.store_put_timeout_seconds),
            ("store_retry_deadline_seconds", self.store_retry_deadline_seconds),
            ("auth_revalidate_ms", self.auth_revalidate_ms),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} must be at least 1"));
        }
        let mut names = HashSet::new();
        for model in &self.models {
            model.check()?;
            if !names.insert(&model.name) {
                return Err(format!("models: there are two of the name {:?}", model.name));
            }
        }
        let mut names = HashSet::new();
        for plan in &self.plans {
            plan.check()?;
            if !names.insert(plan.name.as_str()) {
                return Err(format!("plans: there are two of the name {:?}", plan.name));
            }
        }
        if self.default_plan != "unlimited" && !names.contains(self.default_plan.as_str()) {
            return Err(format!("default_plan {:?} is not among the plans", self.default_plan));
        }
        Ok(())
    }

    /// Whether only this machine can connect.
    ///
    /// # Errors
    ///
    /// When `listen` is no address with a port.
    pub fn is_loopback(&self) -> Result<bool, String> {
        let address: SocketAddr = self.listen.parse().map_err(|_| {
            format!(
                "listen must be an IP address and a port such as 127.0.0.1:8080, got {:?}",
                self.listen
            )
        })?;
        Ok(address.ip().is_loopback())
    }

    /// The keys of `api_key` and of the lines of `api_key_file`.
    pub fn api_keys(&self) -> Result<Vec<String>, String> {
        let mut keys: Vec<String> = self.api_key.iter().cloned().collect();
        if let Some(file) = &self.api_key_file {
            keys.extend(lines("api_key_file", file)?);
        }
        Ok(keys)
    }

    /// The lines of `secret_key_file`, the newest secret first; none when it is not set.
    pub fn secret_keys(&self) -> Result<Vec<String>, String> {
        let Some(file) = &self.secret_key_file else {
            return Ok(Vec::new());
        };
        let secrets = lines("secret_key_file", file)?;
        match secrets.iter().all(|s| s.len() >= SECRET_BYTES_MIN) && !secrets.is_empty() {
            true => Ok(secrets),
            false => Err(format!(
                "secret_key_file must have secrets of at least {SECRET_BYTES_MIN} bytes, one per line"
            )),
        }
    }

    /// How to reach the object store.
    pub fn store_config(&self) -> StoreConfig {
        StoreConfig {
            url: self.store.clone(),
            s3: self.s3.clone(),
            request_timeout: Duration::from_secs(self.store_request_timeout_seconds),
            put_timeout: Duration::from_secs(self.store_put_timeout_seconds),
            retry_deadline: Duration::from_secs(self.store_retry_deadline_seconds),
        }
    }
}

/// How to reach the object store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// `file:///path`, `memory:`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
    pub url: String,
    pub s3: S3Config,
    /// The longest one GET, LIST or DELETE attempt may take.
    pub request_timeout: Duration,
    /// The longest one PUT attempt may take, plus one second per 10 MB.
    pub put_timeout: Duration,
    /// The longest an operation may take with all its retries.
    pub retry_deadline: Duration,
}

/// S3 settings; what is unset comes from the usual `AWS_*` variables.
#[derive(Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Bucket in the path rather than in the host name.
    pub path_style: Option<bool>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    pub session_token: Option<String>,
    /// Permit plain HTTP.
    pub allow_http: Option<bool>,
}

/// Without the secrets, so that a configuration can be logged.
impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hide = |secret: &Option<String>| secret.as_ref().map(|_| "…");
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &hide(&self.secret_access_key))
            .field("session_token", &hide(&self.session_token))
            .field("allow_http", &self.allow_http)
            .finish()
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: "memory:".into(),
            s3: S3Config::default(),
            request_timeout: Duration::from_secs(10),
            put_timeout: Duration::from_secs(10),
            retry_deadline: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_kubernetes_are_no_settings() {
        for key in [
            "PORT",
            "PORT_8080_TCP",
            "PORT_8080_TCP_ADDR",
            "SERVICE_HOST",
            "SERVICE_PORT_HTTP",
            "service_port",
        ] {
            assert!(is_service_link(key), "{key}");
        }
        for key in ["LISTEN", "PORTS", "S3__REGION", "SERVICE"] {
            assert!(!is_service_link(key), "{key}");
        }
    }

    fn load(toml: &str, env: &str, flags: &Flags) -> Result<Config, String> {
        // The environment is shared by all tests, so a second text stands for it.
        let layers = Figment::new().merge(Toml::string(toml)).merge(Toml::string(env));
        Config::from_figment(layers.merge(Serialized::defaults(flags)))
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
        let flags = Flags {
            store: Some("s3://flag/x".into()),
            ..Flags::default()
        };
        let file =
            "listen = '127.0.0.1:1'\nlog_level = 'debug'\nstore = 's3://file'\n[s3]\nregion = 'a'\nendpoint = 'e'";
        let config = load(file, "listen = '127.0.0.1:2'\n[s3]\nregion = 'b'", &flags).expect("valid");
        assert_eq!(config.store, "s3://flag/x");
        assert_eq!(config.listen, "127.0.0.1:2");
        assert_eq!(config.log_level, "debug");
        assert_eq!(config.s3.region.as_deref(), Some("b"));
        assert_eq!(config.s3.endpoint.as_deref(), Some("e"));
        assert_eq!(config.shutdown_grace_seconds, 60);
    }

    #[test]
    fn unknown_keys_and_bad_values_are_refused_by_name() {
        for (toml, part) in [
            ("lissten = 'x'", "lissten"),
            ("[s3]\nregoin = 'x'", "regoin"),
            ("listen = 'localhost'", "listen"),
            ("listen = 7", "listen"),
            ("body_memory = 1.5", "body_memory"),
            ("tail_memory = 0", "tail_memory"),
            ("cache_memory = 1.0", "cache_memory"),
            ("cache_bytes = 1000000", "cache_bytes"),
            ("roles = ['cook']", "cook"),
            ("roles = []", "roles"),
            ("[indexing]\nflush_bytes = 0", "indexing.flush_bytes"),
            ("[indexing]\nmerge_fan_out = 1", "indexing.merge_fan_out"),
            ("[indexing]\nmerge_dead_percent = 0", "indexing.merge_dead_percent"),
            ("[indexing]\nflush_byte = 7", "flush_byte"),
            ("[gc]\ninterval_seconds = 1", "gc.interval_seconds"),
            ("[gc]\nsecond_look_seconds = 0", "gc.second_look_seconds"),
            ("connections_max = 0", "connections_max"),
            ("header_timeout_seconds = -1", "header_timeout_seconds"),
            ("log_format = 'xml'", "xml"),
            ("tls_cert_file = 'c'", "tls_key_file"),
            ("tls_key_file = 'k'", "tls_cert_file"),
            ("trusted_proxies = ['10.0.0.0/40']", "10.0.0.0/40"),
            ("trusted_proxies = 7", "trusted_proxies"),
            ("cors_origins = ['shop.example']", "shop.example"),
            ("cors_origins = ['*', 'https://shop.example']", "cors_origins"),
            ("allow_plain_http = 'perhaps'", "allow_plain_http"),
            ("[[models]]\nname = 'm'", "url"),
            ("[[models]]\nname = 'm'\nurl = 'ftp://h/x'\ndims = 2", "url must be"),
            (
                "[[models]]\nname = 'm'\nurl = 'http://u:p@h/x'\ndims = 2",
                "credentials",
            ),
            ("[[models]]\nname = 'm'\nurl = 'http://h/x'", "dims is needed"),
            (
                "[[models]]\nname = 'm'\nkind = 'rerank'\nurl = 'http://h/x'\ndims = 2",
                "no dims",
            ),
            (
                "[[models]]\nname = 'm'\nurl = 'http://h/x'\ndims = 2\nbatch_max = 0",
                "batch_max",
            ),
            ("[[models]]\nname = 'm'\nurl = 'http://h/x'\ndims = 2\nbach = 1", "bach"),
            (
                "[[models]]\nname = 'm'\nurl = 'http://h/x'\ndims = 2\n[[models]]\nname = 'm'\nurl = 'http://h/y'\ndims = 2",
                "two of the name",
            ),
            ("[[plans]]\nname = 'A'", "plans: name"),
            ("[[plans]]\nname = 'a'\n[plans.quotas]\nrows_read = 1", "rows_read"),
            ("[[plans]]\nname = 'a'\n[plans.quotas]\nrowsRead = -1", "rowsRead"),
            (
                "[[plans]]\nname = 'a'\n[plans.quotas]\nqueriesPerSecond = 0",
                "queriesPerSecond of a",
            ),
            ("[[plans]]\nname = 'a'\n[[plans]]\nname = 'a'", "plans: there are two"),
            ("default_plan = 'a'", "default_plan"),
            ("region = 'X'", "region"),
            ("locations = {a = 'too short'}", "locations"),
            ("[locations]\nfar = ''", "locations"),
            ("public_host = 'a:80'", "public_host"),
        ] {
            let error = load(toml, "", &Flags::default()).expect_err(toml);
            assert!(error.contains(part), "{toml}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = load(
            "api_key = 'hush'\n[s3]\nsecret_access_key = 'hush'\n[[models]]\nname = 'm'\nurl = 'http://h/x'\ndims = 2\napi_key = 'hush'",
            "",
            &Flags::default(),
        )
        .expect("valid");
        assert!(!format!("{config:?} {:?}", config.models).contains("hush"));
        assert_eq!(config.models[0].token().expect("no file"), Some("hush".to_owned()));
    }

    #[test]
    fn memory_is_bytes_or_a_fraction() {
        let config = load("body_memory = 2097152\ntail_memory = 0.5", "", &Flags::default()).expect("valid");
        assert_eq!(config.body_memory.bytes(100), 2 << 20);
        assert_eq!(config.tail_memory.bytes(100), 50);
    }

    #[test]
    fn the_example_file_is_valid() {
        load(include_str!("../deploy/shoal.example.toml"), "", &Flags::default()).expect("valid");
    }
}
