//! The commands that ask a running server: what they send, what they print, how they fail.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Output, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use support::http::Http;
use support::server::{API_KEY, Server, Settings, shoal};

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

/// What a command sends and prints.
struct Case {
    args: &'static [&'static str],
    stdin: &'static str,
    line: &'static str,
    body: Value,
    answer: Value,
    prints: &'static str,
}

fn case(args: &'static [&'static str], line: &'static str, body: Value, answer: Value, prints: &'static str) -> Case {
    Case {
        args,
        stdin: "",
        line,
        body,
        answer,
        prints,
    }
}

fn cases() -> Vec<Case> {
    let none = Value::Null;
    let org =
        || json!({"id": "org_1", "name": "Acme", "slug": "acme", "type": "team", "plan_id": "free", "overages": false});
    let key = || {
        json!({"id": 3, "value_prefix": "k7Qm", "description": "shop", "actions": ["documents:search"],
               "collections": ["shop_*"], "expires_at": 64_723_363_199_i64, "autodelete": false})
    };
    let with_value = || {
        let mut key = key();
        key["value"] = json!("k7Qm_value");
        key
    };
    let seeded = |group: Option<&str>| {
        let seed = json!({"type": "database", "name": "products", "timestamp": "2026-01-31T12:00:00Z"});
        let mut body = json!({"name": "products-noon", "seed": seed});
        if let Some(group) = group {
            body["group"] = json!(group);
        }
        body
    };
    let made = || json!({"database": {"DbId": "7", "Hostname": "products-noon-acme.x", "Name": "products-noon"}});
    vec![
        case(
            &[
                "restore",
                "acme",
                "products",
                "--to",
                "products-noon",
                "--at",
                "2026-01-31T12:00:00Z",
            ],
            "POST /v1/organizations/acme/databases",
            seeded(None),
            made(),
            "name       products-noon\nid         7\nhost name  products-noon-acme.x\n",
        ),
        case(
            &[
                "restore",
                "acme",
                "products",
                "--to",
                "products-noon",
                "--at",
                "2026-01-31T12:00:00Z",
                "--group",
                "shop",
                "--json",
            ],
            "POST /v1/organizations/acme/databases",
            seeded(Some("shop")),
            json!({"database": 1}),
            "{\"database\":1}\n",
        ),
        case(
            &[
                "keys",
                "create",
                "--description",
                "shop",
                "--action",
                "documents:search",
                "--collection",
                "shop_*",
                "-q",
            ],
            "POST /keys",
            json!({"description": "shop", "actions": ["documents:search"], "collections": ["shop_*"]}),
            with_value(),
            "k7Qm_value\n",
        ),
        case(
            &[
                "keys",
                "create",
                "--description",
                "d",
                "--action",
                "documents:search,documents:get",
                "--action",
                "collections:*",
                "--collection",
                "a{1,2}",
                "--namespace",
                "b",
                "--autodelete",
                "--filter",
                "[\"a\",\"Eq\",1]",
                "--include-field",
                "x,y",
                "--exclude-field",
                "z",
                "--allow-ip",
                "10.0.0.0/8",
                "--queries-per-second",
                "5",
                "--writes-per-second",
                "2",
            ],
            "POST /keys",
            json!({"description": "d", "actions": ["documents:search", "documents:get", "collections:*"],
                   "collections": ["a{1,2}", "b"], "autodelete": true, "filter": ["a", "Eq", 1],
                   "include_fields": ["x", "y"], "exclude_fields": ["z"], "allowed_ips": ["10.0.0.0/8"],
                   "limits": {"queries_per_second": 5, "writes_per_second": 2}}),
            with_value(),
            "id           3\nkey          k7Qm_value\nprefix       k7Qm\ndescription  shop\n\
             actions      documents:search\nnamespaces   shop_*\nexpires      never\nautodelete   no\n",
        ),
        Case {
            stdin: "a-value-of-my-own-making\n",
            ..case(
                &[
                    "keys",
                    "create",
                    "--description",
                    "d",
                    "--action",
                    "*",
                    "--collection",
                    "*",
                    "--filter",
                    "a:=1",
                    "-q",
                    "--value-file",
                    "-",
                ],
                "POST /keys",
                json!({"description": "d", "actions": ["*"], "collections": ["*"], "filter": "a:=1",
                       "value": "a-value-of-my-own-making"}),
                with_value(),
                "k7Qm_value\n",
            )
        },
        case(
            &["keys", "list"],
            "GET /keys",
            none.clone(),
            json!({"keys": [key()]}),
            "ID  PREFIX  ACTIONS           NAMESPACES  EXPIRES  DESCRIPTION\n\
             3   k7Qm    documents:search  shop_*      never    shop\n",
        ),
        case(
            &["keys", "get", "3"],
            "GET /keys/3",
            none.clone(),
            key(),
            "id           3\nprefix       k7Qm\ndescription  shop\nactions      documents:search\n\
             namespaces   shop_*\nexpires      never\nautodelete   no\n",
        ),
        case(
            &["keys", "delete", "3"],
            "DELETE /keys/3",
            none.clone(),
            json!({"id": 3}),
            "deleted key 3\n",
        ),
        case(
            &["keys", "--json", "delete", "3"],
            "DELETE /keys/3",
            none.clone(),
            json!({"id": 3}),
            "{\"id\":3}\n",
        ),
        case(
            &["orgs", "create", "Acme", "--dry-run"],
            "POST /v1/organizations?dry_run=true",
            json!({"name": "Acme"}),
            json!({"org": org()}),
            "slug      acme\nname      Acme\nid        org_1\ntype      team\nplan      free\noverages  no\n",
        ),
        case(
            &["orgs", "list"],
            "GET /v1/organizations",
            none.clone(),
            json!({"organizations": [org()]}),
            "SLUG  NAME  TYPE  PLAN\nacme  Acme  team  free\n",
        ),
        case(
            &["orgs", "show", "acme"],
            "GET /v1/organizations/acme",
            none.clone(),
            json!({"organization": org()}),
            "slug      acme\nname      Acme\nid        org_1\ntype      team\nplan      free\noverages  no\n",
        ),
        case(
            &["orgs", "delete", "acme"],
            "DELETE /v1/organizations/acme",
            none.clone(),
            json!({}),
            "deleted organization acme\n",
        ),
        case(
            &["orgs", "members", "acme"],
            "GET /v1/organizations/acme/members",
            none.clone(),
            json!({"members": [{"username": "ana", "role": "owner", "email": "ana@example.test"}]}),
            "USER  ROLE   E-MAIL\nana   owner  ana@example.test\n",
        ),
        case(
            &["orgs", "add-member", "acme", "bob", "--role", "viewer"],
            "POST /v1/organizations/acme/members",
            json!({"username": "bob", "role": "viewer"}),
            json!({"member": "bob", "role": "viewer"}),
            "bob is viewer of acme\n",
        ),
        case(
            &["orgs", "remove-member", "acme", "bob"],
            "DELETE /v1/organizations/acme/members/bob",
            none.clone(),
            json!({"member": "bob"}),
            "bob is no member of acme any more\n",
        ),
        case(
            &["orgs", "set-role", "acme", "bob", "admin"],
            "PATCH /v1/organizations/acme/members/bob",
            json!({"role": "admin"}),
            json!({"member": {"username": "bob", "role": "admin"}}),
            "bob is admin of acme\n",
        ),
        case(
            &["orgs", "invite", "acme", "c@example.test"],
            "POST /v1/organizations/acme/invites",
            json!({"email": "c@example.test", "role": "member"}),
            json!({"invited": {}}),
            "invited c@example.test to acme as member\n",
        ),
        case(
            &["tokens", "mint", "ci", "--user", "ana", "-q"],
            "POST /v1/auth/api-tokens/ci",
            json!({"user": "ana"}),
            json!({"id": "pk", "name": "ci", "token": "e.y.J"}),
            "e.y.J\n",
        ),
        case(
            &[
                "tokens",
                "mint",
                "ci",
                "--org",
                "acme",
                "--group",
                "g",
                "--scope",
                "read,db:create",
            ],
            "POST /v1/auth/api-tokens/ci",
            json!({"organization": "acme", "group": "g", "scopes": ["read", "db:create"]}),
            json!({"id": "pk", "name": "ci", "token": "e.y.J"}),
            "id     pk\nname   ci\ntoken  e.y.J\n",
        ),
        case(
            &["tokens", "list"],
            "GET /v1/auth/api-tokens",
            none.clone(),
            json!({"tokens": [{"id": "pk", "name": "ci", "organization": "acme", "scopes": ["read"], "created_at": "2026-05-21"}]}),
            "ID  NAME  ORGANIZATION  GROUP  SCOPES  OWNER  CREATED\npk  ci    acme          -      read    -      2026-05-21\n",
        ),
        case(
            &["tokens", "list", "--org", "acme"],
            "GET /v1/organizations/acme/api-tokens",
            none.clone(),
            json!({"tokens": []}),
            "ID  NAME  ORGANIZATION  GROUP  SCOPES  OWNER  CREATED\n",
        ),
        case(
            &["tokens", "revoke", "ci"],
            "DELETE /v1/auth/api-tokens/ci",
            none.clone(),
            json!({"token": "ci"}),
            "revoked ci\n",
        ),
        case(
            &["tokens", "revoke", "pk", "--org", "acme"],
            "DELETE /v1/organizations/acme/api-tokens/pk",
            none.clone(),
            json!({"token": "pk"}),
            "revoked pk\n",
        ),
        case(
            &["tokens", "validate"],
            "GET /v1/auth/validate",
            none.clone(),
            json!({"exp": 1_893_456_000}),
            "expires  2030-01-01T00:00:00Z\n",
        ),
        case(
            &["tokens", "db", "products", "--read-only", "--expiration", "2w"],
            "POST /v1/databases/products/auth/tokens?expiration=2w&authorization=read-only",
            none.clone(),
            json!({"jwt": "e.y.J"}),
            "e.y.J\n",
        ),
        case(
            &["tokens", "group", "default", "--org", "acme"],
            "POST /v1/organizations/acme/groups/default/auth/tokens",
            none.clone(),
            json!({"jwt": "e.y.J"}),
            "e.y.J\n",
        ),
        case(
            &["tokens", "rotate", "--db", "a/b", "--org", "acme"],
            "POST /v1/organizations/acme/databases/a%2Fb/auth/rotate",
            none.clone(),
            json!({}),
            "the tokens of a/b count no more\n",
        ),
        case(
            &["tokens", "rotate", "--group", "default"],
            "POST /v1/groups/default/auth/rotate",
            none.clone(),
            json!({}),
            "the tokens of the group default count no more\n",
        ),
        case(
            &["tokens", "rotate", "--sessions"],
            "POST /v1/auth/invalidate",
            none.clone(),
            json!({"ValidFrom": 1}),
            "your sessions have ended\n",
        ),
        Case {
            stdin: "correct horse\n",
            ..case(
                &[
                    "users",
                    "create",
                    "ana",
                    "--email",
                    "ana@example.test",
                    "--name",
                    "Ana",
                    "--password-file",
                    "-",
                ],
                "POST /v1/users",
                json!({"username": "ana", "email": "ana@example.test", "name": "Ana", "password": "correct horse"}),
                json!({"user": {"username": "ana", "name": "Ana", "email": "ana@example.test"}}),
                "username  ana\nname      Ana\ne-mail    ana@example.test\n",
            )
        },
        case(
            &["users", "delete", "ana"],
            "DELETE /v1/users/ana",
            none.clone(),
            json!({}),
            "deleted user ana\n",
        ),
        Case {
            stdin: "battery staple\r\n",
            ..case(
                &["users", "password", "ana"],
                "PATCH /v1/users/ana",
                json!({"password": "battery staple"}),
                json!({}),
                "ana has a new password\n",
            )
        },
        case(
            &["audit", "verify", "--org", "acme", "--day", "2026-01-31"],
            "GET /v1/organizations/acme/audit-logs/verify?day=2026-01-31",
            none.clone(),
            json!({"day": "2026-01-31", "intact": true, "files": 3, "lines": 40, "unsealed": 0, "problems": []}),
            "day             2026-01-31\nintact          yes\nfiles           3\nlines           40\nnot sealed yet  0\n",
        ),
        case(
            &["audit", "verify"],
            "GET /v1/audit-logs/verify",
            none.clone(),
            json!({"day": "2026-01-31", "intact": true, "files": 0, "lines": 0, "unsealed": 0, "problems": []}),
            "day             2026-01-31\nintact          yes\nfiles           0\nlines           0\nnot sealed yet  0\n",
        ),
        case(
            &["whoami"],
            "GET /v1/auth/whoami",
            none,
            json!({"kind": "bootstrap", "id": "bootstrap", "organization": "default"}),
            "kind          bootstrap\nid            bootstrap\norganization  default\n",
        ),
    ]
}

#[test]
fn every_command_is_one_request_and_a_readable_answer() {
    for Case {
        args,
        stdin,
        line,
        body,
        answer,
        prints,
    } in cases()
    {
        let (url, seen) = stub(200, &answer.to_string());
        let output = run(&url, Some(API_KEY), args, stdin);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        let expected = Seen {
            line: line.to_owned(),
            authorization: Some(format!("Bearer {API_KEY}")),
            org: None,
            body,
        };
        assert_eq!(seen.join().expect("asked"), expected, "{args:?}");
        assert_eq!(stdout(&output), prints, "{args:?}");
    }
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

/// Runs a command that has to succeed, and gives what it printed.
fn ok(server: &Server, key: &str, args: &[&str]) -> String {
    let output = run(&server.settings.url(), Some(key), args, "");
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    stdout(&output).trim_end().to_owned()
}

/// Runs a command that the server has to refuse, and gives its sentence.
fn refused(server: &Server, key: &str, args: &[&str]) -> String {
    let output = run(&server.settings.url(), Some(key), args, "");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert!(stdout(&output).is_empty() && !said.contains(key), "{args:?}: {said}");
    said
}

fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = Settings::local(dir.path());
    settings.env.push(("SHOAL_LOG_LEVEL".into(), "trace".into()));
    // What the commands read from the environment must not stop a server that shares it.
    for name in ["SHOAL_URL", "SHOAL_ORG", "SHOAL_CA_FILE"] {
        settings.env.push((name.into(), "http://127.0.0.1:1".into()));
    }
    let server = settings.start();
    (dir, server)
}

/// No secret is in what the server wrote.
fn assert_unlogged(dir: &tempfile::TempDir, secrets: &[&str]) {
    let log = std::fs::read(dir.path().join("shoal.log")).expect("a log");
    let log = String::from_utf8_lossy(&log);
    assert!(
        log.contains("/keys") || log.contains("/v1/"),
        "the log has the requests"
    );
    for secret in secrets {
        assert!(!secret.is_empty() && !log.contains(secret), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_live_from_creation_to_deletion() {
    let (dir, server) = server();
    let create = |more: &[&'static str]| {
        let args = [
            "keys",
            "create",
            "--description",
            "shop",
            "-q",
            "--collection",
            "shop_*",
        ];
        ok(&server, API_KEY, &[&args[..], more].concat())
    };
    let search = create(&[
        "--action",
        "documents:search",
        "--filter",
        "[\"tenant\",\"Eq\",\"a\"]",
        "--exclude-field",
        "cost",
    ]);
    let admin = create(&["--action", "documents:*,keys:*", "--expiration", "1h"]);
    let listed = ok(&server, API_KEY, &["keys", "list"]);
    assert!(
        listed.contains("documents:search") && listed.contains("shop_*") && listed.contains(&search[..4]),
        "{listed}"
    );
    assert!(
        !listed.contains(&search) && !listed.contains(&admin),
        "values are shown once"
    );
    let shown = ok(&server, API_KEY, &["keys", "get", "1"]);
    assert!(
        shown.contains("shop_*") && shown.contains("cost") && shown.contains("tenant"),
        "{shown}"
    );
    let json: Value = serde_json::from_str(&ok(&server, API_KEY, &["keys", "get", "1", "--json"])).expect("JSON");
    assert_eq!(json["actions"], json!(["documents:search"]));
    let whoami = ok(&server, &admin, &["whoami"]);
    assert!(whoami.contains("api_key") && whoami.contains("shop_*"), "{whoami}");
    // What a key may not do, it may not do by command either.
    refused(&server, &search, &["keys", "list"]);
    refused(
        &server,
        &admin,
        &[
            "keys",
            "create",
            "--description",
            "d",
            "--action",
            "*",
            "--collection",
            "*",
        ],
    );
    refused(&server, "no-key-that-anybody-has", &["keys", "list"]);
    refused(&server, API_KEY, &["keys", "get", "99"]);
    refused(
        &server,
        API_KEY,
        &[
            "keys",
            "create",
            "--description",
            "d",
            "--action",
            "fly",
            "--collection",
            "*",
        ],
    );
    refused(&server, API_KEY, &["keys", "list", "--org", "nobody"]);
    assert_eq!(ok(&server, API_KEY, &["keys", "delete", "2"]), "deleted key 2");
    refused(&server, API_KEY, &["keys", "delete", "2"]);
    refused(&server, &admin, &["whoami"]);
    assert_unlogged(&dir, &[API_KEY, &search, &admin]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_namespaces_read_write_and_end() {
    let (dir, server) = server();
    let http = Http::to(&server);
    let rows = json!({"upsert_rows": [{"id": 1}]});
    let query = json!({"rank_by": ["id", "asc"], "limit": 10});
    let status = async |method: &str, path: &str, token: &str, body: &Value| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        http.send_with(method, path, &headers, body.to_string()).await.status
    };
    let (write, read) = ("/v2/namespaces/products", "/v2/namespaces/products/query");
    assert_eq!(status("POST", write, API_KEY, &rows).await, 200);
    let full = ok(&server, API_KEY, &["tokens", "db", "products", "--expiration", "1h"]);
    let read_only = ok(&server, API_KEY, &["tokens", "db", "products", "--read-only"]);
    let group = ok(
        &server,
        API_KEY,
        &["tokens", "group", "default", "--read-only", "--org", "default"],
    );
    for (token, writes) in [(&full, 200), (&read_only, 403), (&group, 403)] {
        assert_eq!(status("POST", read, token, &query).await, 200);
        assert_eq!(status("POST", write, token, &rows).await, writes);
    }
    refused(&server, API_KEY, &["tokens", "db", "absent"]);
    refused(&server, API_KEY, &["tokens", "group", "absent"]);
    refused(&server, API_KEY, &["tokens", "db", "products", "--expiration", "soon"]);
    refused(&server, &full, &["tokens", "db", "products"]);
    ok(&server, API_KEY, &["tokens", "rotate", "--db", "products"]);
    assert_eq!(status("POST", read, &full, &query).await, 401);
    assert_eq!(status("POST", read, &read_only, &query).await, 401);
    assert_eq!(status("POST", read, &group, &query).await, 200);
    ok(&server, API_KEY, &["tokens", "rotate", "--group", "default"]);
    assert_eq!(status("POST", read, &group, &query).await, 401);
    refused(&server, API_KEY, &["tokens", "rotate", "--db", "absent"]);
    assert_unlogged(&dir, &[API_KEY, &full, &read_only, &group]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_sign_in_and_administer_organizations() {
    let (dir, server) = server();
    let url = server.settings.url();
    let (first, second) = ("correct horse battery staple", "a second password of ana");
    let create = [
        "users",
        "create",
        "ana",
        "--email",
        "ana@example.test",
        "--password-file",
        "-",
    ];
    let created = run(&url, Some(API_KEY), &create, first);
    assert!(stdout(&created).contains("ana@example.test"), "{}", stderr(&created));
    ok(&server, API_KEY, &["users", "create", "bob"]);
    refused(&server, API_KEY, &["users", "create", "bob"]);
    assert!(ok(&server, API_KEY, &["orgs", "create", "Acme"]).contains("acme"));
    refused(&server, API_KEY, &["orgs", "create", "Acme"]);
    assert!(ok(&server, API_KEY, &["orgs", "list"]).contains("acme"));
    assert!(ok(&server, API_KEY, &["orgs", "show", "acme"]).contains("Acme"));
    refused(&server, API_KEY, &["orgs", "show", "nobody"]);
    ok(
        &server,
        API_KEY,
        &["orgs", "add-member", "acme", "ana", "--role", "owner"],
    );
    refused(&server, API_KEY, &["orgs", "add-member", "acme", "nobody"]);

    // As ana, signed in.
    let login = |password: &str| run(&url, None, &["login", "ana"], password);
    let wrong = login("not her password");
    assert!(wrong.status.code() == Some(1) && !stderr(&wrong).contains("not her password"));
    let ana = stdout(&login(first)).trim().to_owned();
    assert_eq!(ana.split('.').count(), 3, "a token");
    assert!(ok(&server, &ana, &["tokens", "validate"]).starts_with("expires  20"));
    assert!(ok(&server, &ana, &["whoami"]).contains("user_token"));
    ok(&server, &ana, &["orgs", "add-member", "acme", "bob"]);
    refused(&server, &ana, &["orgs", "add-member", "acme", "bob"]);
    ok(&server, &ana, &["orgs", "set-role", "acme", "bob", "viewer"]);
    let members = ok(&server, &ana, &["orgs", "members", "acme"]);
    assert!(members.contains("viewer") && members.contains("owner"), "{members}");
    ok(
        &server,
        &ana,
        &["orgs", "invite", "acme", "c@example.test", "--role", "admin"],
    );
    refused(&server, &ana, &["orgs", "remove-member", "acme", "ana"]);
    refused(&server, &ana, &["users", "create", "eve"]);

    // Platform tokens.
    let mint = |key: &str, more: &[&str]| ok(&server, key, &[&["tokens", "mint", "-q"], more].concat());
    let ci = mint(&ana, &["ci", "--org", "acme"]);
    refused(&server, &ana, &["tokens", "mint", "ci", "--org", "acme"]);
    refused(&server, &ana, &["tokens", "mint", "validate"]);
    refused(
        &server,
        API_KEY,
        &["tokens", "mint", "bobs", "--user", "bob", "--org", "acme"],
    );
    ok(&server, &ana, &["orgs", "set-role", "acme", "bob", "member"]);
    let of_bob = mint(API_KEY, &["bobs", "--user", "bob", "--org", "acme"]);
    refused(&server, API_KEY, &["tokens", "mint", "nobodys"]);
    assert_eq!(ok(&server, &ci, &["tokens", "validate"]), "expires  never");
    assert!(ok(&server, &ana, &["tokens", "list"]).contains("ci"));
    let of_acme = ok(&server, &ana, &["tokens", "list", "--org", "acme"]);
    let id = of_acme.lines().find(|line| line.contains("bobs")).expect("listed");
    let id = id.split_whitespace().next().expect("an id");
    refused(&server, &of_bob, &["orgs", "add-member", "acme", "ana"]);
    ok(&server, &ana, &["tokens", "revoke", id, "--org", "acme"]);
    refused(&server, &of_bob, &["tokens", "validate"]);
    ok(&server, &ana, &["tokens", "revoke", "ci"]);
    refused(&server, &ci, &["orgs", "show", "acme"]);
    refused(&server, &ana, &["tokens", "revoke", "ci"]);

    // The end of sessions, of passwords, of members, of everything.
    let changed = run(&url, Some(API_KEY), &["users", "password", "ana"], second);
    assert_eq!(changed.status.code(), Some(0), "{}", stderr(&changed));
    assert_eq!(login(first).status.code(), Some(1));
    let again = stdout(&login(second)).trim().to_owned();
    ok(&server, &again, &["tokens", "rotate", "--sessions"]);
    refused(&server, &again, &["tokens", "validate"]);
    ok(&server, API_KEY, &["orgs", "remove-member", "acme", "bob"]);
    refused(&server, API_KEY, &["orgs", "delete", "default"]);
    ok(&server, API_KEY, &["orgs", "delete", "acme"]);
    refused(&server, API_KEY, &["orgs", "show", "acme"]);
    ok(&server, API_KEY, &["users", "delete", "bob"]);
    refused(&server, API_KEY, &["users", "delete", "bob"]);
    assert_unlogged(
        &dir,
        &[API_KEY, first, second, "not her password", &ana, &again, &ci, &of_bob],
    );
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
