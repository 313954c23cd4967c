//! Does the server do what its `/openapi.json` says?
//!
//! Two programs in Python look: `replay.py` sends the good cases of `tests/cases` and compares requests and answers
//! with the document, and schemathesis makes requests up from the document, valid and invalid ones: no answer may be a
//! 5xx, have a status, content type or shape that is not described. Its seed is fixed. Where Python is missing both
//! are left out and that is said aloud; with `CI` set it is a failure.

#![allow(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::json;
use support::http::Http;
use support::server::{API_KEY, Server, Settings, left_out, say};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn start() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings {
        store: "memory:".into(),
        ..Settings::local(dir.path())
    };
    let server = settings.start();
    (dir, server)
}

#[tokio::test]
async fn the_document_is_served_without_a_key() {
    let (_dir, server) = start();
    let answer = Http::to(&server).send_with("GET", "/openapi.json", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/json");
    let document = answer.json();
    assert!(
        document["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")),
        "{document}"
    );
    assert!(document["paths"]["/v2/namespaces/{namespace}/query"]["post"].is_object());
}

#[test]
fn the_document_describes_the_good_cases_and_their_answers() {
    let Some(python) = venv() else { return };
    let (_dir, server) = start();
    let mut replay = Command::new(python);
    replay
        .arg(root().join("tests/clients/openapi/replay.py"))
        .args([&server.settings.url(), API_KEY])
        .arg(root().join("tests/cases"));
    run(replay, "the replay of the good cases");
}

/// Most made up namespaces do not exist, which tests little but 404.
#[test]
fn made_up_requests_get_described_answers() {
    let Some(python) = venv() else { return };
    let (_dir, server) = start();
    let mut schemathesis = schemathesis(&python, &server);
    schemathesis.args(["--max-examples", "8"]);
    run(schemathesis, "schemathesis");
}

/// The same on one namespace with rows of every kind, which nothing deletes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_requests_to_a_namespace_that_exists_get_described_answers() {
    let Some(python) = venv() else { return };
    let (dir, server) = start();
    let row = |id: u64| json!({"id": id, "vector": [id, 1], "s": "x", "i": id, "f": 0.5, "b": true, "t": "a text", "tags": ["p", "q"]});
    let seed = json!({
        "schema": {"t": {"type": "string", "full_text_search": true}, "tags": "[]string"},
        "upsert_rows": (0..50).map(row).collect::<Vec<_>>(),
        "distance_metric": "cosine_distance",
    });
    let http = Http::to(&server);
    assert_eq!(http.json("POST", "/v2/namespaces/known", &seed).await.status, 200);
    let config = dir.path().join("schemathesis.toml");
    fs::write(&config, "[parameters]\n\"path.namespace\" = \"known\"\n").expect("the configuration can be written");
    let mut schemathesis = Command::new(&python);
    schemathesis
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(&config)
        .args(options(&server))
        .args([
            "--max-examples",
            "15",
            "--exclude-method",
            "DELETE",
            "--exclude-path-regex",
            "^/(?!v[12]/)",
        ])
        .current_dir(dir.path());
    run(schemathesis, "schemathesis on a namespace that exists");
    assert_eq!(http.send("GET", "/v1/namespaces/known/schema", "").await.status, 200);
}

fn schemathesis(python: &Path, server: &Server) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-m", "schemathesis.cli"])
        .args(options(server))
        .current_dir(&server.settings.dir);
    command
}

fn options(server: &Server) -> Vec<String> {
    let url = format!("{}/openapi.json", server.settings.url());
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance";
    let header = format!("Authorization: Bearer {API_KEY}");
    let options = [
        "run",
        &url,
        "--header",
        &header,
        "--checks",
        checks,
        "--phases",
        "examples,coverage,fuzzing",
        "--seed",
        "20260101",
        "--suppress-health-check",
        "all",
        "--request-timeout",
        "30",
        "--continue-on-failure",
        "--no-color",
    ];
    options.map(str::to_owned).to_vec()
}

fn run(mut command: Command, what: &str) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{what} failed with {}:\n{text}\n{errors}",
        output.status
    );
    // How much was looked at: a check of nothing passes too.
    let count = text
        .lines()
        .find(|l| l.contains(" generated, ") || l.contains(" requests of "));
    let count = count.unwrap_or_else(|| panic!("{what} does not say what it did:\n{text}"));
    say(&format!("{what}: {}", count.trim()));
}

/// The Python of `.cache/venv-openapi`, made if need be; `None` when left out.
fn venv() -> Option<PathBuf> {
    static VENV: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || match make_venv() {
        Ok(python) => Some(python),
        Err(why) => {
            left_out("the checks of /openapi.json", &why);
            None
        }
    };
    VENV.get_or_init(make).clone()
}

fn make_venv() -> Result<PathBuf, String> {
    let venv = root().join(".cache/venv-openapi");
    let python = venv.join("bin/python");
    let requirements = root().join("tests/clients/openapi/requirements.txt");
    let wanted = fs::read_to_string(&requirements).expect("requirements.txt can be read");
    let stamp = venv.join("shoal-requirements.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    step(
        Command::new("python3").args(["-m", "venv"]).arg(&venv),
        "python3 -m venv",
    )?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    step(Command::new(&python).args(pip).arg(&requirements), "pip install")?;
    fs::write(&stamp, wanted).expect("the stamp can be written");
    Ok(python)
}

/// Runs one step of a preparation. Its failure is a reason to leave the checks out, for the machine may be offline.
fn step(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{what} cannot be started: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{what} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        )),
    }
}
