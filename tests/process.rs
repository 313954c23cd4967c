//! The process as its operator sees it: start, readiness, shutdown, refusal to start.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use support::http::Http;
use support::server::{API_KEY, Settings, free_port, say, shoal};

fn terminate(pid: u32) {
    let sent = Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status()
        .expect("kill is there");
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_before_sigterm_is_finished() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings::local(dir.path());
    let mut server = settings.start();
    let http = Http::to(&server);
    // A large write that is being carried out while the signal comes.
    let rows: Vec<_> = (0..3000)
        .map(|id| json!({"id": id, "vector": vec![0.5; 256], "text": "a few words of text"}))
        .collect();
    let large = json!({"upsert_rows": rows, "distance_metric": "cosine_distance"});
    let write = http.json("POST", "/v2/namespaces/ns", &large);
    let signal = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        terminate(server.id());
    };
    let (answer, ()) = tokio::join!(write, signal);
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert!(server.wait_for_exit(Duration::from_secs(20)), "it ends with success");
    let server = settings.start();
    let count = json!({"rank_by": ["id", "desc"], "limit": 1});
    let last = Http::to(&server).json("POST", "/v2/namespaces/ns/query", &count).await;
    assert_eq!(last.json()["rows"][0]["id"], 2999);
}

#[tokio::test]
async fn a_request_without_the_key_is_refused_and_health_is_not() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Settings::local(dir.path()).start();
    let http = Http::to(&server);
    for (headers, status) in [
        (&[][..], 401),
        (&[("Authorization", "Bearer wrong-key-of-a-good-length")][..], 401),
        (&[("Authorization", "Basic c2hvYWw6c2hvYWw=")][..], 401),
        (&[("Authorization", API_KEY)][..], 401),
    ] {
        for (method, path) in [
            ("GET", "/v1/namespaces"),
            ("POST", "/v2/namespaces/ns"),
            ("POST", "/v2/namespaces/ns/query"),
            ("GET", "/v1/namespaces/ns/schema"),
            ("DELETE", "/v2/namespaces/ns"),
        ] {
            let answer = http.send_with(method, path, headers, "{}").await;
            assert_eq!(answer.status, status, "{method} {path} {headers:?}");
            assert_eq!(answer.json()["status"], "error");
        }
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(http.send_with("GET", path, &[], "").await.status, 200, "{path}");
    }
    let metrics = http.send_with("GET", "/metrics", &[], "").await;
    let text = String::from_utf8(metrics.body).expect("text");
    for name in [
        "shoal_http_requests_total",
        "shoal_store_requests_total",
        "shoal_memory_used_bytes",
    ] {
        assert!(text.contains(name), "{name} is missing from\n{text}");
    }
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Settings::local(dir.path()).start();
    let http = Http::to(&server);
    let answer = http.send_with("GET", "/livez", &[("X-Request-Id", "mine-1")], "").await;
    assert_eq!(answer.headers["x-request-id"], "mine-1");
    let made = http.send_with("GET", "/livez", &[], "").await;
    assert!(made.headers["x-request-id"].len() > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_are_all_answered() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Settings::local(dir.path()).start();
    let http = Http::to(&server);
    let writes = (0..300).map(|i| {
        let body = json!({"upsert_rows": [{"id": i, "n": i}]});
        let http = &http;
        async move { http.json("POST", "/v2/namespaces/many", &body).await.status }
    });
    assert!(join_all(writes).await.iter().all(|s| *s == 200));
    let all = json!({"rank_by": ["id", "asc"], "limit": 1000});
    let rows = http.json("POST", "/v2/namespaces/many/query", &all).await.json();
    assert_eq!(rows["rows"].as_array().map(Vec::len), Some(300));
}

/// Failure 30: bodies that would take more memory than there is, and bodies that never come.
#[tokio::test]
async fn memory_for_bodies_runs_out_with_429_and_comes_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut settings = Settings::local(dir.path());
    settings.env.push(("SHOAL_BODY_MEMORY".into(), "20000000".into()));
    let server = settings.start();
    let http = Http::to(&server);
    let huge = announce(&settings, 600_000_000);
    assert!(
        answer_to(huge).starts_with("HTTP/1.1 413"),
        "more than any body may have"
    );
    // Announced, charged for, and not sent.
    let held = announce(&settings, 15_000_000);
    let text = "x".repeat(6_000_000);
    let large =
        json!({"upsert_rows": [{"id": 1, "text": text}], "schema": {"text": {"type": "string", "filterable": false}}});
    let refused = loop {
        let answer = http.json("POST", "/v2/namespaces/ns", &large).await;
        // The first request may not have been looked at yet.
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refused.status, 429, "{:?}", refused.json());
    assert!(refused.headers.contains_key("retry-after"));
    let small = json!({"upsert_rows": [{"id": 2}]});
    assert_eq!(
        http.json("POST", "/v2/namespaces/ns", &small).await.status,
        200,
        "small ones fit"
    );
    drop(held);
    for _ in 0..100 {
        if http.json("POST", "/v2/namespaces/ns", &large).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the memory of a request that went away was not given back");
}

/// Sends the headers of a write whose body has that many bytes, and nothing of the body.
fn announce(settings: &Settings, bytes: u64) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", settings.port)).expect("the server listens");
    write!(
        stream,
        "POST /v2/namespaces/ns HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\nContent-Length: {bytes}\r\n\r\n"
    )
    .expect("headers are sent");
    stream
}

fn answer_to(mut stream: TcpStream) -> String {
    let mut head = [0; 64];
    let n = stream.read(&mut head).expect("it answers");
    String::from_utf8_lossy(&head[..n]).into_owned()
}

/// A file system of 16 MB; `None` where mounting is not permitted.
struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|s| s.success()).then(|| Self(dir))
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// The local disk is full.
#[tokio::test]
async fn a_full_disk_refuses_writes_and_keeps_what_was_acknowledged() {
    let Some(disk) = TinyDisk::mount() else {
        say("\n*** LEFT OUT: the test of a full disk: mounting needs root\n");
        return;
    };
    let logs = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings {
        store: format!("file://{}", disk.0.path().display()),
        ..Settings::local(logs.path())
    };
    let mut server = settings.start();
    let http = Http::to(&server);
    let (mut acknowledged, mut refused) = (0, 0);
    for id in 0..12 {
        // Three megabytes of text that hardly compress, each.
        let mut state = id + 1;
        let noise: String = (0..3_000_000)
            .map(|_| {
                state = u64::wrapping_mul(state, 6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'a' + (state >> 59) as u8 % 26)
            })
            .collect();
        let body = json!({"upsert_rows": [{"id": id, "noise": noise}],
                          "schema": {"noise": {"type": "string", "filterable": false}}});
        let answer = http.json("POST", "/v2/namespaces/full", &body).await;
        match answer.status {
            200 => acknowledged += 1,
            503 => refused += 1,
            other => panic!("{other}: {:?}", answer.json()),
        }
    }
    assert!(
        acknowledged > 0 && refused > 0,
        "{acknowledged} acknowledged, {refused} refused"
    );
    let all = json!({"rank_by": ["id", "asc"], "limit": 100});
    let rows = http.json("POST", "/v2/namespaces/full/query", &all).await.json();
    assert_eq!(rows["rows"].as_array().map(Vec::len), Some(acknowledged));
    server.kill();
    let server = settings.spawn();
    // A full disk fails the start-up probe: the store cannot be used until there is room.
    std::thread::sleep(Duration::from_secs(1));
    assert!(!server.is_ready());
}

/// Runs the binary to its end and returns whether it succeeded and what it said.
fn run(arguments: &[&str]) -> (bool, String) {
    let output = shoal()
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built with this test");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_bad_start_says_why() {
    let any = format!("127.0.0.1:{}", free_port());
    for (arguments, reason) in [
        (&["serve", "--listen", &any, "--store", "memory:"][..], "key"),
        (
            &[
                "serve",
                "--listen",
                "nowhere",
                "--store",
                "memory:",
                "--api-key",
                API_KEY,
            ][..],
            "nowhere",
        ),
        (
            &["serve", "--listen", &any, "--store", "ftp://x", "--api-key", API_KEY][..],
            "ftp",
        ),
        (
            &[
                "serve",
                "--listen",
                &any,
                "--store",
                "memory:",
                "--api-key",
                API_KEY,
                "--roles",
                "cook",
            ][..],
            "cook",
        ),
        (
            &["serve", "--config", "/no/such/file", "--api-key", API_KEY][..],
            "/no/such/file",
        ),
        (
            &[
                "serve",
                "--listen",
                "0.0.0.0:0",
                "--store",
                "memory:",
                "--api-key",
                "short",
                "--allow-plain-http",
            ][..],
            "16",
        ),
        (
            &[
                "serve",
                "--listen",
                "0.0.0.0:0",
                "--store",
                "memory:",
                "--api-key",
                API_KEY,
            ][..],
            "tls_cert_file and tls_key_file",
        ),
        (
            &[
                "serve",
                "--listen",
                "[::]:0",
                "--store",
                "memory:",
                "--api-key",
                API_KEY,
            ][..],
            "--allow-plain-http",
        ),
    ] {
        let (succeeded, said) = run(arguments);
        assert!(!succeeded, "{arguments:?}");
        assert!(said.contains(reason), "{arguments:?} said: {said}");
    }
}

#[tokio::test]
async fn plain_http_beyond_loopback_can_be_allowed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let by_variable = Settings {
        env: vec![("SHOAL_ALLOW_PLAIN_HTTP".into(), "true".into())],
        host: "0.0.0.0",
        ..Settings::local(dir.path())
    };
    let by_flag = Settings {
        arguments: vec!["--allow-plain-http".into()],
        host: "0.0.0.0",
        ..Settings::local(dir.path())
    };
    for settings in [by_variable, by_flag] {
        let server = settings.start();
        assert_eq!(Http::to(&server).send("GET", "/v1/namespaces", "").await.status, 200);
    }
}

/// The address in the access log is the client's, and only proxies that are trusted may say which.
#[tokio::test]
async fn a_trusted_proxy_tells_the_clients_address() {
    for (trusted, logged) in [("[\"127.0.0.0/8\"]", "198.51.100.7"), ("[\"10.0.0.0/8\"]", "127.0.0.1")] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let settings = Settings {
            env: vec![
                ("SHOAL_TRUSTED_PROXIES".into(), trusted.into()),
                ("SHOAL_LOG_LEVEL".into(), "info".into()),
            ],
            ..Settings::local(dir.path())
        };
        let server = settings.start();
        let forwarded = [
            ("X-Forwarded-For", "127.0.0.1, 198.51.100.7"),
            ("X-Request-Id", "traced"),
        ];
        let answer = Http::to(&server).send_with("GET", "/livez", &forwarded, "").await;
        assert_eq!(answer.status, 200);
        drop(server);
        let log = std::fs::read_to_string(dir.path().join("shoal.log")).expect("there is a log");
        let line = log
            .lines()
            .find(|line| line.contains("traced"))
            .expect("the request was logged");
        assert!(line.contains(&format!("client=\"{logged}\"")), "{line}");
    }
}

#[test]
fn probe_prints_a_table() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = format!("file://{}", dir.path().display());
    let (succeeded, said) = run(&["probe", "--store", &url]);
    assert!(succeeded, "{said}");
    assert!(said.lines().count() > 6, "{said}");
}

/// A key of the HTTP API in place of the server's own.
async fn as_key(http: &Http, key: &str, method: &str, path: &str, body: &str) -> u16 {
    let bearer = format!("Bearer {key}");
    http.send_with(method, path, &[("Authorization", &bearer)], body.to_owned())
        .await
        .status
}

/// A scoped search key, as clients make it without the server.
fn scoped(parent: &str) -> String {
    use aws_lc_rs::hmac;
    let embedded = r#"{"filter_by":"n:1"}"#;
    let key = hmac::Key::new(hmac::HMAC_SHA256, parent.as_bytes());
    let digest = base64_simd::STANDARD.encode_to_string(hmac::sign(&key, embedded.as_bytes()).as_ref());
    base64_simd::STANDARD.encode_to_string(format!("{digest}{}{embedded}", &parent[..4]))
}

/// Keys and tokens outlive the process, and a new deployment secret beside the old one; without the old one what was
/// made under it is dead, and nothing else.
#[tokio::test]
async fn credentials_survive_a_crash_and_a_rotation_of_the_secret() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let secrets = dir.path().join("secrets");
    let (old, new) = ("o".repeat(40), "n".repeat(40));
    let mut settings = Settings::local(dir.path());
    settings
        .env
        .push(("SHOAL_SECRET_KEY_FILE".into(), secrets.display().to_string()));
    std::fs::write(&secrets, &old).expect("written");
    let mut server = settings.start();
    let http = Http::to(&server);
    let write = json!({"upsert_rows": [{"id": 1, "n": 1}]});
    assert_eq!(http.json("POST", "/v2/namespaces/ns", &write).await.status, 200);
    let make = async |actions: &str| {
        let wish = json!({"description": "", "actions": [actions], "collections": ["*"]});
        let made = http.json("POST", "/keys", &wish).await.json();
        (
            made["id"].to_string(),
            made["value"].as_str().expect("a value").to_owned(),
        )
    };
    let (_, all) = make("*").await;
    let (_, search) = make("documents:search").await;
    let (id, deleted) = make("*").await;
    assert_eq!(
        http.send_with(
            "DELETE",
            &format!("/keys/{id}"),
            &[("Authorization", &format!("Bearer {API_KEY}"))],
            ""
        )
        .await
        .status,
        200
    );
    let path = "/v1/organizations/default/databases/ns/auth/tokens";
    let token = http.json("POST", path, &json!({})).await.json()["jwt"]
        .as_str()
        .expect("a token")
        .to_owned();
    let scoped = scoped(&search);
    let query = r#"{"rank_by": ["id", "asc"], "limit": 1}"#;
    let works = async |http: &Http, key: &str| as_key(http, key, "POST", "/v2/namespaces/ns/query", query).await;
    server.kill();
    // (content of the file, what of [key, search key, scoped key, token, deleted key] counts)
    for (file, expected) in [
        (old.clone(), [200, 200, 200, 200, 401]),
        (format!("{new}\n{old}"), [200, 200, 200, 200, 401]),
        (new.clone(), [401, 401, 401, 401, 401]),
        (old.clone(), [200, 200, 200, 200, 401]),
    ] {
        std::fs::write(&secrets, &file).expect("written");
        let mut server = settings.start();
        let http = Http::to(&server);
        let mut found = Vec::new();
        for key in [&all, &search, &scoped, &token, &deleted] {
            found.push(works(&http, key).await);
        }
        assert_eq!(
            found,
            expected,
            "with {} secrets, the first {:?}",
            file.lines().count(),
            file.chars().next()
        );
        assert_eq!(works(&http, API_KEY).await, 200);
        server.kill();
    }
}
