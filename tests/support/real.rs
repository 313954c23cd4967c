//! Real S3 servers as child processes, where they are installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use shoal::config::{S3Config, StoreConfig};

use super::server::{Process, free_port, left_out, status_of};

/// Name of the bucket, and both halves of the credentials.
const BUCKET: &str = "test-bucket";
const SECRET: &str = "testtest";

/// A running server with an empty bucket; killed on drop.
pub struct RealServer {
    kind: Kind,
    binary: PathBuf,
    port: u16,
    process: Process,
    /// MinIO's data; moto keeps its in memory.
    dir: tempfile::TempDir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Minio,
    Moto,
}

/// How to reach a test server's bucket.
pub fn s3_config(endpoint: &str) -> StoreConfig {
    let text = |text: &str| Some(text.to_owned());
    StoreConfig {
        url: format!("s3://{BUCKET}/root"),
        s3: S3Config {
            endpoint: text(endpoint),
            region: text("us-east-1"),
            path_style: Some(true),
            access_key_id: text(SECRET),
            secret_access_key: text(SECRET),
            session_token: None,
            allow_http: Some(true),
        },
        ..StoreConfig::default()
    }
}

/// MinIO, from `SHOAL_TEST_MINIO` or where `tests/support/build-minio.sh` puts it. Without one: `None`,
/// said aloud; a failure when `CI` is set.
pub async fn minio() -> Option<RealServer> {
    let binary = std::env::var_os("SHOAL_TEST_MINIO").map_or_else(|| root().join(".cache/minio/minio"), PathBuf::from);
    let how = "tests/support/build-minio.sh builds one";
    RealServer::start(Kind::Minio, binary, how).await
}

/// moto, from the virtual environment in `.cache/venv`; `None` as with [`minio`].
pub async fn moto() -> Option<RealServer> {
    let binary = root().join(".cache/venv/bin/moto_server");
    let how = "pip install -r tests/clients/requirements-s3.txt in .cache/venv";
    let server = RealServer::start(Kind::Moto, binary, how).await?;
    let bucket = format!("{}/{BUCKET}", server.endpoint());
    let made = reqwest::Client::new().put(bucket).send().await.expect("moto answers");
    assert!(made.status().is_success(), "moto makes a bucket");
    Some(server)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl RealServer {
    async fn start(kind: Kind, binary: PathBuf, how_to_install: &str) -> Option<Self> {
        if !binary.exists() {
            left_out(
                &format!("a test on {kind:?}"),
                &format!("there is no {}; {how_to_install}", binary.display()),
            );
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        if kind == Kind::Minio {
            // A directory in MinIO's root is a bucket: no signed request is needed to make it.
            std::fs::create_dir(dir.path().join(BUCKET)).expect("the bucket's directory can be made");
        }
        let port = free_port();
        let process = kind.spawn(&binary, port, dir.path());
        let server = Self {
            kind,
            binary,
            port,
            process,
            dir,
        };
        server.until_it_answers().await;
        Some(server)
    }

    async fn until_it_answers(&self) {
        for _ in 0..600 {
            // Any answer will do: 403 is how MinIO greets a stranger, 5xx while it is starting.
            if status_of(self.port, "/").is_some_and(|status| status < 500) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{:?} did not answer within a minute", self.kind);
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How to reach the bucket.
    pub fn config(&self) -> StoreConfig {
        s3_config(&self.endpoint())
    }

    /// Kills the process with SIGKILL. MinIO's data stay.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts a killed server on the same port and data.
    pub async fn restart(&mut self) {
        self.process = self.kind.spawn(&self.binary, self.port, self.dir.path());
        self.until_it_answers().await;
    }
}

impl Kind {
    fn spawn(self, binary: &Path, port: u16, dir: &Path) -> Process {
        let mut command = Command::new(binary);
        match self {
            Self::Minio => command
                .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")])
                .arg(dir)
                .env("MINIO_ROOT_USER", SECRET)
                .env("MINIO_ROOT_PASSWORD", SECRET)
                .env("MINIO_BROWSER", "off"),
            Self::Moto => command.args(["-H", "127.0.0.1", "-p", &port.to_string()]),
        };
        Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))
    }
}
