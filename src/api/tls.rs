//! HTTPS: the certificate and its renewal, the handshake.
//!
//! The certificate can be replaced while the server runs: connections that exist keep theirs, new ones
//! get the new one. A pair of files that is broken replaces nothing, so that a renewal that was caught
//! halfway, or that went wrong, does not take the server off the air.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The largest certificate or key file that is read. Long chains have some ten kilobytes.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A certificate that can be renewed, with its key.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<ServerConfig>,
    /// The files as they were when they were last read, whether they could be used or not.
    seen: Mutex<Stamps>,
}

/// When each of the two files was modified, and its size; `None` where it cannot be told.
type Stamps = [Option<(SystemTime, u64)>; 2];

/// What a client began to speak.
pub enum Spoken {
    Tls(Box<TlsStream<TcpStream>>),
    /// HTTP without TLS. Nothing of it has been read.
    Plain(TcpStream),
}

impl Tls {
    /// Reads a certificate chain and its private key, both PEM.
    ///
    /// # Errors
    ///
    /// A sentence for the operator, when a file cannot be read or the two do not belong together.
    pub async fn load(cert: &Path, key: &Path) -> Result<Self, String> {
        let seen = stamps(cert, key).await;
        let config = read(cert, key).await?;
        Ok(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            current: ArcSwap::from_pointee(config),
            seen: Mutex::new(seen),
        })
    }

    /// Reads the files again. When they cannot be used, new connections get the certificate that was
    /// served before.
    ///
    /// # Errors
    ///
    /// As [`Tls::load`].
    pub async fn reload(&self) -> Result<(), String> {
        // Before the files are read: what changes meanwhile is found by the next look.
        *self.seen() = stamps(&self.cert, &self.key).await;
        self.current.store(Arc::new(read(&self.cert, &self.key).await?));
        Ok(())
    }

    /// Reloads whenever a signal comes or a file was modified; never ends. Files are looked at every
    /// 30 seconds.
    pub async fn keep_fresh(&self, mut hangups: Signal) {
        loop {
            let asked = tokio::select! {
                // Without a signal to come there is still the clock.
                Some(()) = hangups.recv() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            if !asked && !self.has_changed().await {
                continue;
            }
            match self.reload().await {
                Ok(()) => tracing::info!(file = %self.cert.display(), "the TLS certificate was read again"),
                Err(error) => tracing::error!(
                    error,
                    "the TLS certificate was not replaced; the old one is still served"
                ),
            }
        }
    }

    async fn has_changed(&self) -> bool {
        let now = stamps(&self.cert, &self.key).await;
        now != *self.seen()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Stamps> {
        self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Shakes hands. Takes as long as the client likes: bound it.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Spoken> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A handshake begins with the byte 22, a request with the letters of its method.
        if first[0].is_ascii_uppercase() {
            return Ok(Spoken::Plain(stream));
        }
        let stream = TlsAcceptor::from(self.current.load_full()).accept(stream).await?;
        Ok(Spoken::Tls(Box::new(stream)))
    }
}

async fn stamps(cert: &Path, key: &Path) -> Stamps {
    let stamp = async |path| {
        let metadata = tokio::fs::metadata(path).await.ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [stamp(cert).await, stamp(key).await]
}

async fn read(cert: &Path, key: &Path) -> Result<ServerConfig, String> {
    let chain = pem("tls_cert_file", cert).await?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|_| {
            format!(
                "tls_cert_file {} is not valid PEM, or only a part of it",
                cert.display()
            )
        })?;
    if chain.is_empty() {
        return Err(format!("tls_cert_file {} has no certificate in it", cert.display()));
    }
    // Without the cause: it may quote the file.
    let secret = PrivateKeyDer::from_pem_slice(&pem("tls_key_file", key).await?)
        .map_err(|_| format!("tls_key_file {} has no private key in PEM in it", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|e| format!("TLS cannot be set up: {e}"))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|e| {
            let (cert, key) = (cert.display(), key.display());
            format!("the certificate {cert} and the private key {key} cannot be used together: {e}")
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn pem(setting: &str, path: &Path) -> Result<Vec<u8>, String> {
    let failed = |e: io::Error| format!("{setting} {} cannot be read: {e}", path.display());
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(PEM_BYTES_MAX + 1);
    bounded.read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(format!("{setting} {} is larger than 1 MiB", path.display()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    struct Pair {
        cert: String,
        key: String,
    }

    fn pair() -> Pair {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        Pair {
            cert: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            Self { dir }
        }

        fn cert(&self) -> PathBuf {
            self.dir.path().join("cert.pem")
        }

        fn key(&self) -> PathBuf {
            self.dir.path().join("key.pem")
        }

        fn write(&self, cert: &str, key: &str) {
            fs::write(self.cert(), cert).expect("written");
            fs::write(self.key(), key).expect("written");
        }

        async fn load(&self) -> Result<Tls, String> {
            Tls::load(&self.cert(), &self.key()).await
        }
    }

    #[tokio::test]
    async fn unusable_files_are_refused_in_words() {
        let files = Files::new();
        let (a, b) = (pair(), pair());
        let secret_line = a.key.lines().nth(1).expect("a line of the key").to_owned();
        let huge = "x".repeat(PEM_BYTES_MAX as usize + 1);
        for (cert, key, reason) in [
            (a.cert.as_str(), b.key.as_str(), "cannot be used together"),
            (&a.cert, &a.cert, "no private key"),
            (&a.cert, "", "no private key"),
            (&a.key, &a.key, "no certificate"),
            ("", &a.key, "no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA", &a.key, "not valid PEM"),
            (
                "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----",
                &a.key,
                "not valid PEM",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
                &a.key,
                "cannot be used together",
            ),
            (&huge, &a.key, "larger than"),
        ] {
            files.write(cert, key);
            let error = files.load().await.err().expect(reason);
            assert!(error.contains(reason), "{reason}: {error}");
            assert!(!error.contains(&secret_line), "{error}");
        }
        files.write(&a.cert, &a.key);
        assert!(files.load().await.is_ok());
        fs::remove_file(files.key()).expect("removed");
        let error = files.load().await.err().expect("no key");
        assert!(
            error.contains("tls_key_file") && error.contains("cannot be read"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_broken_pair_replaces_nothing() {
        let files = Files::new();
        let (a, b) = (pair(), pair());
        files.write(&a.cert, &a.key);
        let tls = files.load().await.expect("valid");
        let first = tls.current.load_full();
        assert!(!tls.has_changed().await);
        files.write(&b.cert, &a.key);
        assert!(tls.has_changed().await);
        assert!(tls.reload().await.is_err());
        assert!(Arc::ptr_eq(&first, &tls.current.load_full()));
        assert!(!tls.has_changed().await, "the same broken files are not tried again");
        files.write(&b.cert, &b.key);
        assert!(tls.has_changed().await);
        tls.reload().await.expect("valid");
        assert!(!Arc::ptr_eq(&first, &tls.current.load_full()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_files_are_looked_at_every_thirty_seconds() {
        let files = Files::new();
        let (a, b) = (pair(), pair());
        files.write(&a.cert, &a.key);
        let tls = files.load().await.expect("valid");
        let first = tls.current.load_full();
        let is_first = || Arc::ptr_eq(&first, &tls.current.load_full());
        let script = async {
            tokio::time::sleep(Duration::from_secs(65)).await;
            assert!(is_first(), "unchanged files are not read again");
            files.write(&b.cert, "broken");
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(is_first(), "broken files are not served");
            files.write(&b.cert, &b.key);
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(is_first(), "not looked at yet");
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert!(!is_first());
        };
        // A signal that nobody sends: SIGHUP would end the test where the handler is not there yet.
        let never = signal(SignalKind::user_defined2()).expect("a handler");
        tokio::select! {
            () = tls.keep_fresh(never) => unreachable!("it never ends"),
            () = script => {}
        }
    }
}
