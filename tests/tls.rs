//! HTTPS as clients and operators see it, and what may never be seen in a log.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, Client, ClientBuilder, Version, tls};
use serde_json::json;
use support::server::{API_KEY, Server, Settings, free_port, shoal};

/// Signs the certificates of a server; a client knows by it which certificate it was shown.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A certificate for 127.0.0.1 and its key, both PEM.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        (cert.pem(), key.serialize_pem())
    }

    /// A client that trusts this authority and no other.
    fn client(&self) -> ClientBuilder {
        let root = Certificate::from_pem(self.0.pem().as_bytes()).expect("a certificate");
        let builder = Client::builder().tls_certs_only([root]);
        builder.timeout(Duration::from_secs(30))
    }

    fn fresh(&self) -> Client {
        self.client().build().expect("a client")
    }
}

/// The two files of a server in `dir`.
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(dir: &Path, (cert, key): &(String, String)) -> Self {
        let files = Self {
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        };
        files.write(cert, key);
        files
    }

    fn write(&self, cert: &str, key: &str) {
        std::fs::write(&self.cert, cert).expect("written");
        std::fs::write(&self.key, key).expect("written");
    }
}

/// Settings of a server on `dir` with this certificate; the address is `https`.
fn secured(dir: &Path, files: &Files) -> Settings {
    let mut settings = Settings::local(dir);
    for (name, path) in [("SHOAL_TLS_CERT_FILE", &files.cert), ("SHOAL_TLS_KEY_FILE", &files.key)] {
        settings.env.push((name.into(), path.display().to_string()));
    }
    settings
}

fn url(server: &Server, path: &str) -> String {
    format!("https://127.0.0.1:{}{path}", server.settings.port)
}

/// Waits up to a minute for `is_so`.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1200 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen within a minute");
}

async fn start(settings: &Settings, authority: &Authority) -> Server {
    let server = settings.spawn();
    until("readiness", async || is_served(&server, authority).await).await;
    server
}

/// Whether a new connection is shown a certificate of this authority.
async fn is_served(server: &Server, authority: &Authority) -> bool {
    let answer = authority.fresh().get(url(server, "/readyz")).send().await;
    answer.is_ok_and(|a| a.status() == 200)
}

fn send_signal(server: &Server, name: &str) {
    let sent = Command::new("kill").args([name, &server.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
}

fn log_of(server: &Server) -> String {
    let bytes = std::fs::read(server.settings.dir.join("shoal.log")).expect("there is a log");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn requests_are_answered_in_every_version_of_tls_and_http() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new();
    let files = Files::of(dir.path(), &authority.issue());
    let mut server = start(&secured(dir.path(), &files), &authority).await;
    for (client, version) in [
        (authority.client(), Version::HTTP_2),
        (authority.client().http1_only(), Version::HTTP_11),
        (
            authority.client().tls_version_max(tls::Version::TLS_1_2),
            Version::HTTP_2,
        ),
        (
            authority.client().tls_version_min(tls::Version::TLS_1_3),
            Version::HTTP_2,
        ),
    ] {
        let client = client.build().expect("a client");
        let rows = json!({"upsert_rows": [{"id": 1, "t": "a".repeat(300_000)}],
                          "schema": {"t": {"type": "string", "filterable": false}}});
        let write = client.post(url(&server, "/v2/namespaces/ns")).bearer_auth(API_KEY);
        let answer = write.body(rows.to_string()).send().await.expect("it answers");
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        let query = client
            .post(url(&server, "/v2/namespaces/ns/query"))
            .bearer_auth(API_KEY);
        let query = query.body(json!({"rank_by": ["id", "asc"], "limit": 1, "include_attributes": true}).to_string());
        let bytes = query.send().await.expect("it answers").bytes().await.expect("whole");
        let found: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(found["rows"][0]["t"], rows["upsert_rows"][0]["t"]);
        let refused = client
            .get(url(&server, "/v1/namespaces"))
            .send()
            .await
            .expect("it answers");
        assert_eq!(refused.status(), 401);
    }
    assert!(
        !is_served(&server, &Authority::new()).await,
        "clients check the certificate"
    );
    send_signal(&server, "-TERM");
    assert!(server.wait_for_exit(Duration::from_secs(20)), "it ends with success");
}

/// What comes back for these bytes until the server hangs up.
fn exchange(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a time-out can be set");
    stream.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server hangs up");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_tls_is_turned_away_and_holds_nobody_up() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new();
    let files = Files::of(dir.path(), &authority.issue());
    let mut settings = secured(dir.path(), &files);
    settings.env.push(("SHOAL_HEADER_TIMEOUT_SECONDS".into(), "2".into()));
    let server = start(&settings, &authority).await;
    let port = settings.port;
    for path in ["/livez", "/v1/namespaces"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\r\n");
        let answer = exchange(port, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(
            answer.contains("HTTPS only") && answer.contains("\"error\":"),
            "{answer}"
        );
    }
    // Nothing is carried out.
    let write = json!({"upsert_rows": [{"id": 1}]}).to_string();
    let request = format!(
        "POST /v2/namespaces/plain HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\nContent-Length: {}\r\n\r\n{write}",
        write.len()
    );
    assert!(exchange(port, request.as_bytes()).starts_with("HTTP/1.1 400 "));
    let list = authority
        .fresh()
        .get(url(&server, "/v1/namespaces"))
        .bearer_auth(API_KEY);
    let list = list.send().await.expect("it answers").text().await.expect("whole");
    assert!(!list.contains("plain"), "{list}");
    // Neither letters nor a handshake.
    assert!(!exchange(port, &[0; 64]).starts_with("HTTP"));
    // Handshakes that never go on: others are served meanwhile, and they are ended.
    let silent: Vec<_> = (0..50)
        .map(|i| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
            if i % 2 == 0 {
                stream.write_all(&[22, 3, 1, 2, 0, 1]).expect("sent");
            }
            stream
        })
        .collect();
    assert!(is_served(&server, &authority).await);
    for mut stream in silent {
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("a time-out can be set");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the server hangs up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_for_new_connections() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::of(dir.path(), &old.issue());
    let mut server = start(&secured(dir.path(), &files), &old).await;
    let lasting = old.fresh();
    let still_answers = async || {
        let answer = lasting.get(url(&server, "/livez")).send().await;
        answer.is_ok_and(|a| a.status() == 200)
    };
    assert!(still_answers().await);
    // Broken ones first: a key of another certificate, a file cut short, an empty file.
    let (cert, key) = new.issue();
    let half = &cert[..cert.len() / 2];
    for (round, (broken_cert, broken_key)) in [(cert.as_str(), old.issue().1.as_str()), (half, &key), (&cert, "")]
        .into_iter()
        .enumerate()
    {
        files.write(broken_cert, broken_key);
        send_signal(&server, "-HUP");
        let said = || log_of(&server).matches("was not replaced").count() == round + 1;
        until("a word on the broken certificate", async || said()).await;
        assert!(is_served(&server, &old).await, "the old certificate is kept");
        assert!(still_answers().await);
    }
    assert!(!log_of(&server).contains("PRIVATE KEY"));
    files.write(&cert, &key);
    send_signal(&server, "-HUP");
    until("the new certificate", async || is_served(&server, &new).await).await;
    assert!(!is_served(&server, &old).await, "new connections get the new one only");
    assert!(still_answers().await, "old connections live on");
    send_signal(&server, "-TERM");
    assert!(server.wait_for_exit(Duration::from_secs(20)), "it ends with success");
}

#[test]
fn a_pair_that_does_not_fit_is_no_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new();
    let ((cert, _), (_, key)) = (authority.issue(), authority.issue());
    let files = Files::of(dir.path(), &(cert, key));
    let listen = format!("127.0.0.1:{}", free_port());
    let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
    let missing = dir.path().join("missing.pem").display().to_string();
    for (arguments, reason) in [
        (&["--tls-cert", &cert, "--tls-key", &key][..], "cannot be used together"),
        (&["--tls-cert", &cert], "tls_key_file"),
        (&["--tls-key", &key], "tls_cert_file"),
        (&["--tls-cert", &missing, "--tls-key", &key], "cannot be read"),
        (&["--tls-cert", &key, "--tls-key", &key], "no certificate"),
    ] {
        let output = shoal()
            .args(["serve", "--store", "memory:", "--api-key", API_KEY, "--listen", &listen])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the binary was built with this test");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?} said: {said}");
        assert!(
            said.starts_with("shoal: ") && said.contains(reason),
            "{arguments:?} said: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// Everything that is chatty is on: a key in any place of a request may still not be written anywhere.
#[tokio::test]
async fn no_key_is_ever_logged() {
    for format in ["text", "json"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new();
        let files = Files::of(dir.path(), &authority.issue());
        let mut settings = secured(dir.path(), &files);
        settings.env.push((
            "SHOAL_LOG_LEVEL".into(),
            "trace,h2=trace,hyper=trace,rustls=trace".into(),
        ));
        settings.env.push(("SHOAL_LOG_FORMAT".into(), format.into()));
        let server = start(&settings, &authority).await;
        let ask = |client| send_keys_everywhere(client, url(&server, ""));
        ask(authority.fresh()).await;
        ask(authority.client().http1_only().build().expect("a client")).await;
        drop(server);
        let log = std::fs::read_to_string(dir.path().join("shoal.log")).expect("there is a log");
        assert_clean(&log);

        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut settings = Settings::local(dir.path());
        settings.env.push(("SHOAL_LOG_LEVEL".into(), "trace,h2=trace".into()));
        settings.env.push(("SHOAL_LOG_FORMAT".into(), format.into()));
        let server = settings.start();
        let prior = Client::builder().http2_prior_knowledge().build().expect("a client");
        send_keys_everywhere(prior, settings.url()).await;
        send_keys_everywhere(Client::new(), settings.url()).await;
        send_malformed_path(settings.port);
        drop(server);
        let log = std::fs::read_to_string(dir.path().join("shoal.log")).expect("there is a log");
        assert_clean(&log);
    }
}

/// Part of every wrong key.
const WRONG: &str = "wrong-key-of-somebody";

async fn send_keys_everywhere(client: Client, base: String) {
    let mut statuses = Vec::new();
    for key in [API_KEY.to_owned(), format!("{WRONG}-0123456789abcdef")] {
        for (method, path) in [
            ("POST", "/v2/namespaces/ns/query"),
            ("POST", "/v2/namespaces/ns"),
            ("GET", "/v1/namespaces"),
            ("GET", "/collections/ns/documents/search"),
            ("POST", "/multi_search"),
            ("POST", "/r/v2/namespaces/ns/query"),
            ("GET", "/nowhere"),
        ] {
            for (query, body) in [
                (String::new(), String::new()),
                (format!("?x-typesense-api-key={key}"), String::new()),
                (format!("?q=a&X-TYPESENSE-API-KEY={key}"), String::new()),
                (format!("?x%2Dtypesense-api-k%65y={key}"), String::new()),
                (
                    String::new(),
                    json!({"searches": [{"x-typesense-api-key": key, "q": "a"}]}).to_string(),
                ),
                (String::new(), format!("{{\"source_api_key\": \"{key}")),
                (
                    String::new(),
                    json!({"copy_from_namespace": {"source_namespace": "x", "source_api_key": key}}).to_string(),
                ),
            ] {
                for (name, value) in [
                    ("authorization", format!("Bearer {key}")),
                    ("authorization", key.clone()),
                    ("x-typesense-api-key", key.clone()),
                    ("cookie", format!("k={key}")),
                ] {
                    let request = client.request(method.parse().expect("a method"), format!("{base}{path}{query}"));
                    let answer = request
                        .header(name, value)
                        .body(body.clone())
                        .send()
                        .await
                        .expect("it answers");
                    statuses.push(answer.status().as_u16());
                }
            }
        }
    }
    for expected in [200, 401] {
        assert!(statuses.contains(&expected), "no request got {expected}");
    }
}

/// A key in the query string of a path that no HTTP library accepts, which they may want to talk about.
fn send_malformed_path(port: u16) {
    let path = format!("/multi search?x-typesense-api-key={API_KEY}");
    exchange(port, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    // HTTP/2: GET, http, and the path and the authority as literals.
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(b"\x01\x01x");
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        frame.extend_from_slice(payload);
        frame
    };
    let settings = frame(4, 0, 0, &[]);
    let headers = frame(1, 0b101, 1, &block);
    // An error of the client's ends the connection.
    let farewell = frame(7, 0, 0, &[0; 8]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    exchange(port, &[preface, settings, headers, farewell].concat());
}

fn assert_clean(log: &str) {
    assert!(log.contains("request began"), "the log is as chatty as can be");
    assert!(log.contains("x-typesense-api-key=…") && log.contains("x%2Dtypesense-api-k%65y=…"));
    for secret in [API_KEY, WRONG] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a key is in the log");
    }
}
