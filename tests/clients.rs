//! Do the official clients work?
//!
//! Sets up what the suites in `tests/clients/` need (a Python environment in `.cache/venv`, npm packages beside the
//! TypeScript suite), starts a real `shoal` on a local store, and runs them against it. Their output goes straight to the
//! terminal. Where Python or Node is missing, the suite is left out and that is said aloud; with `CI` set it is a failure.

#![allow(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use support::server::{API_KEY, Server, Settings, left_out, say};

/// The oldest Python the client installs on, and the oldest Node its transport runs on.
const PYTHON_OLDEST: (u32, u32) = (3, 11);
const NODE_OLDEST: (u32, u32) = (20, 18);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_python_client_suite_passes() {
    let Some(python) = venv() else { return };
    let (_dir, server) = start();
    let mut suite = Command::new(python);
    suite
        .args(["-m", "pytest"])
        .current_dir(root().join("tests/clients/python"));
    run_suite(suite, &server, "the Python client suite");
}

#[test]
fn the_typescript_client_suite_passes() {
    let Some(node) = npm_packages() else { return };
    let (_dir, server) = start();
    let dir = root().join("tests/clients/typescript");
    // Named one by one: what a directory argument means differs between Node versions.
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .expect("the suite's directory can be read")
        .map(|entry| entry.expect("a directory entry can be read").path())
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no test files in {}", dir.display());
    let mut suite = Command::new(node);
    suite
        .args(["--test", "--test-reporter=spec"])
        .args(&files)
        .current_dir(&dir);
    run_suite(suite, &server, "the TypeScript client suite");
}

/// The package descriptions are data of third parties and no part of the repository: `SHOAL_TEST_DATA` names the
/// directory that holds `debian/` and `score.py`, `../shared/data` is looked at otherwise.
#[test]
fn ten_thousand_package_descriptions_give_the_reference_answers() {
    let data = std::env::var_os("SHOAL_TEST_DATA").map_or(root().join("../shared/data"), PathBuf::from);
    if !data.join("debian/docs.jsonl.gz").exists() {
        say("\n*** LEFT OUT: the Debian package descriptions: set SHOAL_TEST_DATA to the directory with debian/\n");
        return;
    }
    let Some(python) = venv() else { return };
    let (dir, mut server) = start();
    let out = dir.path().join("debian");
    let debian = |options: &[&str]| {
        let mut script = Command::new(&python);
        script
            .arg(root().join("tests/clients/debian.py"))
            .arg(data.join("debian"))
            .arg("--out")
            .arg(&out)
            .args(options);
        script
    };
    // A part of the queries, so that the whole stays within a minute unoptimised; .ci/long asks all of them.
    run_suite(debian(&["--queries", "40"]), &server, "the Debian package descriptions");
    server.kill();
    let server = server.settings.start();
    run_suite(
        debian(&["--queries", "40", "--verify-only"]),
        &server,
        "the same answers after kill -9 and a restart",
    );
}

/// A server on a local store that goes away with the directory.
fn start() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Settings::local(dir.path()).start();
    (dir, server)
}

/// Runs a suite against `server`, its output going where ours goes, and panics when it fails.
fn run_suite(mut suite: Command, server: &Server, what: &str) {
    say(&format!("\n--- {what}"));
    let status = suite
        .env("SHOAL_TEST_URL", server.settings.url())
        .env("SHOAL_TEST_KEY", API_KEY)
        // No bytecode into the source tree, and no answers through a proxy of the machine.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("no_proxy", "127.0.0.1,localhost")
        .stdin(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
    assert!(
        status.success(),
        "{what} failed: {status}; the server's log ends:\n{}",
        server.log_tail()
    );
}

/// The Python of an environment with everything in `tests/clients/python/requirements.txt`; `None` when left out.
///
/// Made once per process and kept in `.cache/venv`; a stamp holds what was installed, so that the next run is immediate.
fn venv() -> Option<PathBuf> {
    static VENV: OnceLock<Option<PathBuf>> = OnceLock::new();
    VENV.get_or_init(|| match make_venv() {
        Ok(python) => Some(python),
        Err(why) => {
            left_out("the suites of the Python client", &why);
            None
        }
    })
    .clone()
}

fn make_venv() -> Result<PathBuf, String> {
    let venv = root().join(".cache/venv");
    let python = venv.join("bin/python");
    let requirements = root().join("tests/clients/python/requirements.txt");
    let wanted = fs::read_to_string(&requirements).expect("requirements.txt can be read");
    let stamp = venv.join("shoal-requirements.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    let version = tool_version("python3", PYTHON_OLDEST)?;
    say(&format!("preparing .cache/venv with Python {version} (once)"));
    if !python.exists() {
        step(
            Command::new("python3").args(["-m", "venv"]).arg(&venv),
            "python3 -m venv",
        )?;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    step(Command::new(&python).args(pip).arg(&requirements), "pip install")?;
    fs::write(&stamp, wanted).expect("the stamp can be written");
    Ok(python)
}

/// The `node` to run the TypeScript suite with, its packages installed; `None` when left out.
fn npm_packages() -> Option<PathBuf> {
    match install_npm_packages() {
        Ok(node) => Some(node),
        Err(why) => {
            left_out("the suite of the TypeScript client", &why);
            None
        }
    }
}

fn install_npm_packages() -> Result<PathBuf, String> {
    let version = tool_version("node", NODE_OLDEST)?;
    let dir = root().join("tests/clients/typescript");
    let wanted = fs::read_to_string(dir.join("package-lock.json")).expect("package-lock.json can be read");
    let stamp = dir.join("node_modules/.shoal-package-lock.json");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok("node".into());
    }
    say(&format!(
        "installing the npm packages of the TypeScript suite with Node {version} (once)"
    ));
    step(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(&dir),
        "npm ci",
    )?;
    fs::write(&stamp, wanted).expect("the stamp can be written");
    Ok("node".into())
}

/// Runs one step of a preparation. Its failure is a reason to leave the suite out, for the machine may be offline.
fn step(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{what} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let end = text.trim_end().lines().rev().take(8).collect::<Vec<_>>();
    let end = end.into_iter().rev().collect::<Vec<_>>().join("\n    ");
    Err(format!("{what} failed with {}:\n    {end}", output.status))
}

/// The version that `tool --version` prints, if it is at least `oldest`.
fn tool_version(tool: impl AsRef<OsStr>, oldest: (u32, u32)) -> Result<String, String> {
    let name = tool.as_ref().to_string_lossy().into_owned();
    let output = Command::new(&tool)
        .arg("--version")
        .output()
        .map_err(|_| format!("there is no {name} on the PATH"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.trim().trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let found = (parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0));
    if found < oldest {
        return Err(format!(
            "{name} {}.{} or newer is needed, this is {version:?}",
            oldest.0, oldest.1
        ));
    }
    Ok(version)
}
