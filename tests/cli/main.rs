//! The commands that ask a running server: what they send, what they print, how they fail.

#[path = "../support/mod.rs"]
mod support;

mod lives;
mod requests;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Output, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use support::server::{API_KEY, shoal};

/// Runs `shoal` with these arguments as an operator does, with nothing but these variables.
fn run(url: &str, key: Option<&str>, args: &[&str], stdin: &str) -> Output {
    let mut command = shoal();
    command.args(args).env("SHOAL_URL", url);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    if let Some(key) = key {
        command.env("SHOAL_API_KEY", key);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is there");
    // It may end without reading.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// A request as a server sees it.
#[derive(Debug, PartialEq)]
struct Seen {
    line: String,
    authorization: Option<String>,
    org: Option<String>,
    body: Value,
}

/// A server that answers one request with this.
fn stub(status: u16, body: &str) -> (String, JoinHandle<Seen>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\nLocation: http://127.0.0.1:1/\r\n\r\n{body}",
        body.len()
    );
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            match line.trim_end() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        let header = |name: &str| {
            let mut fields = lines.iter().filter_map(|line| line.split_once(": "));
            fields
                .find(|(field, _)| field.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
        };
        let length = header("content-length").map_or(0, |text| text.parse().expect("a number"));
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).expect("the body");
        let seen = Seen {
            line: lines[0].trim_end_matches(" HTTP/1.1").to_owned(),
            authorization: header("authorization"),
            org: header("x-shoal-org"),
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        };
        reader.into_inner().write_all(answer.as_bytes()).expect("answered");
        seen
    });
    (url, thread)
}

#[test]
fn logging_in_shows_no_key_and_prints_the_token_alone() {
    let (url, seen) = stub(200, &json!({"token": "e.y.J", "exp": 1_893_456_000}).to_string());
    let output = run(&url, None, &["login", "ana"], "correct horse\n");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "e.y.J\n"));
    let seen = seen.join().expect("asked");
    assert_eq!(seen.authorization, None);
    assert_eq!(seen.body, json!({"username": "ana", "password": "correct horse"}));
}

#[test]
fn an_organization_is_named_where_keys_are() {
    for args in [&["keys", "list", "--org", "acme"][..], &["whoami", "--org", "acme"]] {
        let (url, seen) = stub(200, "{}");
        let output = run(&url, Some(API_KEY), args, "");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(seen.join().expect("asked").org.as_deref(), Some("acme"));
    }
}

#[test]
fn an_expiration_is_counted_from_now() {
    let args = [
        "keys",
        "create",
        "--description",
        "d",
        "--action",
        "*",
        "--collection",
        "*",
        "--expiration",
        "2w",
        "-q",
    ];
    let (url, seen) = stub(201, &json!({"value": "v"}).to_string());
    assert_eq!(run(&url, Some(API_KEY), &args, "").status.code(), Some(0));
    let at = seen.join().expect("asked").body["expires_at"].as_u64().expect("a time");
    let left = at - elapsed().as_secs();
    assert!((1_209_590..=1_209_600).contains(&left), "{left}");
}

#[allow(
    clippy::disallowed_methods,
    reason = "the process that is tested reads the same clock"
)]
fn elapsed() -> std::time::Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after the epoch")
}

#[test]
fn failures_have_the_servers_sentence_and_no_key() {
    for (status, body, said) in [
        (
            404,
            r#"{"error":"database not found: products"}"#.to_owned(),
            "shoal: database not found: products (404)\n",
        ),
        (401, r#"{"message":"Forbidden"}"#.to_owned(), "shoal: Forbidden (401)\n"),
        (
            400,
            format!(r#"{{"error":"the key {API_KEY} is odd"}}"#),
            "shoal: the key … is odd (400)\n",
        ),
        (
            402,
            "{\"error\":\"a\\u001b[2Jb\"}".to_owned(),
            "shoal: a\u{fffd}[2Jb (402)\n",
        ),
        (
            502,
            "<html>".to_owned(),
            "shoal: the server answered 502 without a reason: is it a Shoal server?\n",
        ),
    ] {
        let (url, seen) = stub(status, &body);
        let output = run(&url, Some(API_KEY), &["tokens", "db", "products"], "");
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), said));
        assert_eq!(stdout(&output), "");
        drop(seen.join());
    }
    // Redirects are not followed, wherever they lead.
    let (url, seen) = stub(307, "");
    let output = run(&url, Some(API_KEY), &["keys", "list"], "");
    assert!(
        output.status.code() == Some(1) && stderr(&output).contains("--url"),
        "{}",
        stderr(&output)
    );
    drop(seen.join());
    // What is no JSON is no answer.
    let (url, seen) = stub(200, "hello");
    let output = run(&url, Some(API_KEY), &["keys", "list"], "");
    assert!(
        output.status.code() == Some(1) && stderr(&output).contains("without JSON"),
        "{}",
        stderr(&output)
    );
    drop(seen.join());
    // Nobody is there.
    let output = run("http://127.0.0.1:1", Some(API_KEY), &["keys", "list"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("gave no answer") && !stderr(&output).contains(API_KEY));
}

#[test]
fn wrong_usage_is_told_from_failure_and_asks_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let long = dir.path().join("long");
    std::fs::write(&long, vec![b'a'; 9000]).expect("written");
    let long = long.to_str().expect("text");
    let nobody = "http://127.0.0.1:1";
    for (url, key, args, stdin) in [
        (nobody, None, &["keys", "list"][..], ""),
        (nobody, Some(" "), &["keys", "list"], ""),
        (nobody, Some("a\u{7}b"), &["keys", "list"], ""),
        ("ftp://127.0.0.1", Some(API_KEY), &["keys", "list"], ""),
        ("http://192.0.2.1", Some(API_KEY), &["keys", "list"], ""),
        ("http://u:p@127.0.0.1", Some(API_KEY), &["keys", "list"], ""),
        (nobody, None, &["keys", "list", "--api-key-file", "/nonexistent"], ""),
        (nobody, None, &["keys", "list", "--api-key-file", long], ""),
        (nobody, Some(API_KEY), &["keys", "get", "three"], ""),
        (
            nobody,
            Some(API_KEY),
            &["keys", "create", "--description", "d", "--action", "*"],
            "",
        ),
        (
            nobody,
            Some(API_KEY),
            &[
                "keys",
                "create",
                "--description",
                "d",
                "--action",
                "*",
                "--collection",
                "*",
                "--expiration",
                "soon",
            ],
            "",
        ),
        (nobody, Some(API_KEY), &["keys", "list", "--api-key", API_KEY], ""),
        (nobody, Some(API_KEY), &["orgs", "delete", ".."], ""),
        (
            nobody,
            Some(API_KEY),
            &["restore", "acme", "x", "--to", "y", "--at", "yesterday"],
            "",
        ),
        (nobody, Some(API_KEY), &["restore", "acme", "x", "--to", "y"], ""),
        (nobody, Some(API_KEY), &["orgs", "set-role", "acme", "bob", "king"], ""),
        (nobody, Some(API_KEY), &["tokens", "rotate"], ""),
        (
            nobody,
            Some(API_KEY),
            &["tokens", "rotate", "--db", "a", "--group", "b"],
            "",
        ),
        (nobody, Some(API_KEY), &["tokens", "mint", "ci", "--scope", "read"], ""),
        (nobody, Some(API_KEY), &["tokens", "mint", "ci", "--group", "g"], ""),
        (nobody, Some(API_KEY), &["users", "password", "ana"], ""),
        (nobody, None, &["login", "ana"], "\n"),
        (nobody, None, &["login", "ana", "--password-file", "/nonexistent"], ""),
    ] {
        let output = run(url, key, args, stdin);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty() && stdout(&output).is_empty(), "{args:?}");
    }
}

#[test]
fn a_key_comes_from_the_file_before_the_environment() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    std::fs::write(&path, "the-key-of-the-file\nanother\n").expect("written");
    let (url, seen) = stub(200, "{}");
    let file = path.to_str().expect("text");
    let output = run(&url, Some(API_KEY), &["keys", "--api-key-file", file, "list"], "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let seen = seen.join().expect("asked");
    assert_eq!(seen.authorization.as_deref(), Some("Bearer the-key-of-the-file"));
}

/// Scripts that watch the log go by the status.
#[test]
fn an_audit_log_that_was_changed_is_a_failure() {
    let verdict = json!({"day": "2026-01-31", "intact": false, "files": 2, "lines": 7, "unsealed": 0,
                         "problems": ["file 2 of stream a is missing"]});
    let (url, server) = stub(200, &verdict.to_string());
    let output = run(
        &url,
        Some("0123456789abcdef"),
        &["audit", "verify", "--day", "2026-01-31"],
        "",
    );
    server.join().expect("it was asked");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("file 2 of stream a is missing"),
        "{}",
        stdout(&output)
    );
    assert!(
        stderr(&output).contains("the audit log is not as it was written"),
        "{}",
        stderr(&output)
    );
}
