//! A real `shoal` process for the tests that need one: started on a free port, killed on drop.
//!
//! Free of the crate's internals on purpose. These tests see what an operator sees: a binary, its flags, its port.

#![allow(clippy::disallowed_methods, reason = "a test of a real process waits in real time")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The key that every server of the tests is given.
pub const API_KEY: &str = "shoal-tests-0123456789abcdef0123456789abcdef";

/// How long a server may take from its start to its first 200 on `/readyz`.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The binary, without the `SHOAL_` variables of the tests: they are no settings, and it refuses unknown ones.
pub fn shoal() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SHOAL_")) {
        command.env_remove(name);
    }
    command
}

/// What a server is started with; the same value restarts it after a kill.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `file:///…` or `s3://bucket`.
    pub store: String,
    pub port: u16,
    /// Cache directory and log of the process.
    pub dir: PathBuf,
    /// Further environment, such as `AWS_ENDPOINT`.
    pub env: Vec<(String, String)>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// The address to listen on; clients use loopback in any case.
    pub host: &'static str,
}

impl Settings {
    /// A server on a free port whose store is the local directory `dir/store`.
    pub fn local(dir: &Path) -> Self {
        let store = dir.join("store");
        fs::create_dir_all(&store).expect("the store's directory can be made");
        Self {
            store: format!("file://{}", store.display()),
            port: free_port(),
            dir: dir.to_owned(),
            env: Vec::new(),
            arguments: Vec::new(),
            host: "127.0.0.1",
        }
    }

    /// A server on a free port whose store is a test server's S3 bucket.
    pub fn on_s3(dir: &Path, config: &shoal::config::StoreConfig) -> Self {
        let s3 = &config.s3;
        let env = [
            ("AWS_ENDPOINT", &s3.endpoint),
            ("AWS_REGION", &s3.region),
            ("AWS_ACCESS_KEY_ID", &s3.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &s3.secret_access_key),
            ("AWS_ALLOW_HTTP", &Some("true".to_owned())),
        ];
        let env = env
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        Self {
            store: config.url.clone(),
            env: env.collect(),
            ..Self::local(dir)
        }
    }

    /// Where clients reach the server.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&self) -> Server {
        let log_path = self.dir.join("shoal.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .expect("the log can be opened");
        let mut command = shoal();
        command
            .arg("serve")
            .args(["--listen", &format!("{}:{}", self.host, self.port)])
            .args(&self.arguments)
            .args(["--store", &self.store])
            .args(["--api-key", API_KEY])
            .arg("--cache-dir")
            .arg(self.dir.join("cache"))
            .env("SHOAL_LOG_LEVEL", "warn")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log);
        Server {
            settings: self.clone(),
            log_path,
            process: Process::spawn(&mut command),
        }
    }

    /// Starts the process and waits until it is ready.
    ///
    /// Panics with the end of its log when it exits or takes longer than a minute.
    pub fn start(&self) -> Server {
        let mut server = self.spawn();
        let begin = Instant::now();
        while !server.is_ready() {
            if let Some(status) = server.process.0.try_wait().expect("the child can be waited for") {
                panic!(
                    "shoal ended with {status} before it was ready; its log ends:\n{}",
                    server.log_tail()
                );
            }
            assert!(
                begin.elapsed() < READY_WITHIN,
                "shoal was not ready within {READY_WITHIN:?}; its log ends:\n{}",
                server.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub settings: Settings,
    log_path: PathBuf,
    process: Process,
}

/// A child process without input; killed and reaped on drop.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}")))
    }

    /// Kills the process with SIGKILL and reaps it. Nothing is flushed, closed or announced.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    /// Whether `/readyz` answers 200 right now.
    pub fn is_ready(&self) -> bool {
        status_of(self.settings.port, "/readyz") == Some(200)
    }

    /// Kills the process with SIGKILL and reaps it. Nothing is flushed, closed or announced.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Waits for the process to end by itself; true when it ended with success in time.
    pub fn wait_for_exit(&mut self, patience: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if let Some(status) = self.process.0.try_wait().expect("the child can be waited for") {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// The last lines of the process's output, for messages.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log_path).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(4000)..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("the log of shoal ends:\n{}", self.log_tail()));
        }
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port can be bound");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The status of an HTTP `GET` on loopback; `None` when nothing answers as HTTP does.
pub fn status_of(port: u16, path: &str) -> Option<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

/// Writes past the test harness's capture, so that it is read in passing runs too.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Says aloud that `what` was left out, and why. Where `CI` is set nothing may be left out: panics.
pub fn left_out(what: &str, why: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
    assert!(!ci, "CI is set, so {what} may not be left out: {why}");
    say(&format!("\n*** LEFT OUT: {what}: {why}\n"));
}
