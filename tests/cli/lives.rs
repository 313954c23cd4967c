//! Keys, tokens and people from their beginning to their end, by commands, on a server.

use serde_json::{Value, json};

use super::support::http::Http;
use super::support::server::{API_KEY, Server, Settings};
use super::{run, stderr, stdout};

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
