//! The command line.

mod audit;
mod client;
mod dev;
mod fsck;
mod inspect;
mod keys;
mod machine;
mod orgs;
mod place;
mod probe;
mod restore;
mod serve;
mod table;
mod tokens;
mod users;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use self::client::Failure;
use crate::base::{CpuPool, Ledger, Rng, Runtime, SystemClock, TokioSpawner};
use crate::config::{Config, Flags};
use crate::telemetry;

/// A vector and full-text search database on object storage.
#[derive(Parser, Debug)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve the HTTP API.
    Serve {
        #[command(flatten)]
        options: Options,
        /// Local disk store, loopback only, with a key made on the first start.
        #[arg(long, env = "SHOAL_DEV")]
        dev: bool,
    },
    /// Check whether an object store can be used; exit status 1 when it cannot.
    Probe {
        #[command(flatten)]
        options: Options,
    },
    /// Look whether what lies in the store is whole; exit status 1 when something is damaged, 2 when that is not known.
    Fsck(Box<fsck::Fsck>),
    /// Show what a namespace consists of in the store: its manifests, segments and log.
    Inspect(Box<inspect::Inspect>),
    /// Make a new namespace of what one was at some time, through a running server.
    Restore(restore::Restore),
    /// API keys, through a running server.
    Keys(keys::Keys),
    /// Organizations and their members, through a running server.
    Orgs(orgs::Orgs),
    /// Platform tokens, and tokens of namespaces and groups, through a running server.
    Tokens(tokens::Tokens),
    /// Users, through a running server.
    Users(users::Users),
    /// The audit log of an organization, through a running server.
    Audit(audit::Audit),
    /// Print a token of a user for seven days: the password is read from standard input or a file.
    Login(users::Login),
    /// Whom the credential stands for.
    Whoami(users::Whoami),
}

/// Settings that have a flag; the rest are in the file or in `SHOAL_*`.
#[derive(Args, Debug, Default)]
struct Options {
    /// A TOML file with settings.
    #[arg(long, env = "SHOAL_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port, such as 127.0.0.1:8080.
    #[arg(long, env = "SHOAL_LISTEN")]
    listen: Option<String>,
    /// PEM file with the server's certificate chain; with --tls-key, the API speaks HTTPS.
    #[arg(long = "tls-cert", env = "SHOAL_TLS_CERT_FILE")]
    tls_cert_file: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    #[arg(long = "tls-key", env = "SHOAL_TLS_KEY_FILE")]
    tls_key_file: Option<PathBuf>,
    /// Listen beyond this machine without TLS, for use behind a proxy that speaks it.
    #[arg(long)]
    allow_plain_http: bool,
    /// file:///path, memory:, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.
    #[arg(long, env = "SHOAL_STORE")]
    store: Option<String>,
    /// The bootstrap API key. Better given as a file: arguments are visible to other users.
    #[arg(long, env = "SHOAL_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// A file with one API key per line.
    #[arg(long, env = "SHOAL_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
    /// Directory for cached objects.
    #[arg(long, env = "SHOAL_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// What this node does: api, index, gc.
    #[arg(long, env = "SHOAL_ROLES", value_delimiter = ',')]
    roles: Option<Vec<String>>,
}

impl Options {
    fn load(&self) -> Result<Config, String> {
        let flags = Flags {
            listen: self.listen.clone(),
            tls_cert_file: self.tls_cert_file.clone(),
            tls_key_file: self.tls_key_file.clone(),
            // Not given is not "no": the file or the environment may say yes.
            allow_plain_http: self.allow_plain_http.then_some(true),
            store: self.store.clone(),
            api_key: self.api_key.clone(),
            api_key_file: self.api_key_file.clone(),
            cache_dir: self.cache_dir.clone(),
            roles: self.roles.clone(),
        };
        Config::load(self.config.as_deref(), &flags)
    }
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Serve { options, dev } => serve(&options, dev).map_err(Failure::from),
        Command::Probe { options } => options
            .load()
            .and_then(|config| on_runtime(&config, |runtime, _| probe::probe(config.clone(), runtime)))
            .map_err(Failure::from),
        Command::Fsck(fsck) => fsck::run(&fsck),
        Command::Inspect(inspect) => inspect::run(&inspect),
        Command::Restore(restore) => restore::run(restore),
        Command::Keys(keys) => keys::run(keys, &SystemClock),
        Command::Orgs(orgs) => orgs::run(orgs),
        Command::Tokens(tokens) => tokens::run(tokens),
        Command::Users(users) => users::run(users),
        Command::Audit(audit) => audit::run(audit),
        Command::Login(login) => users::login(login),
        Command::Whoami(whoami) => users::whoami(whoami),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

fn serve(options: &Options, dev: bool) -> Result<(), String> {
    let mut config = options.load()?;
    if dev {
        config = dev::config(config, options.listen.is_some())?;
    }
    telemetry::start_logs(config.log_format, &config.log_level)?;
    on_runtime(&config, |runtime, tasks| {
        serve::serve(config.clone(), runtime, tasks, dev)
    })
}

/// An error and what caused it, in one line.
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

/// Builds the seams to the outside world and runs `f` on a Tokio runtime.
fn on_runtime<E: From<String>, F: Future<Output = Result<(), E>>>(
    config: &Config,
    f: impl FnOnce(Runtime, TokioSpawner) -> F,
) -> Result<(), E> {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("threads cannot be started: {e}"))?;
    let memory = machine::memory_bytes();
    let tasks = TokioSpawner::default();
    let runtime = Runtime {
        clock: Arc::new(SystemClock),
        rng: Rng::from_os(),
        spawner: Arc::new(tasks.clone()),
        cpu: CpuPool::new(std::thread::available_parallelism().map_or(2, |n| n.get())),
        memory: Ledger::with_caches(
            config.body_memory.bytes(memory),
            config.tail_memory.bytes(memory),
            config.cache_memory.bytes(memory),
        ),
    };
    tokio.block_on(f(runtime, tasks))
}
