//! Do the official clients work?
//!
//! Each suite in `tests/clients/` drives one client through all of its methods, with exact answers. Each test here sets
//! up what its suite needs (Python environments in `.cache/venv…`, npm packages beside the suites of JavaScript clients,
//! Maven's in `.cache/maven`, cargo's where cargo keeps them), starts a real `shoal` on a local store,
//! and runs the suite against it. Their output goes straight to the terminal. The tests run side by side, as the test
//! harness does it; each has its own server.
//!
//! Where a toolchain is missing, its suite is left out and that is said aloud; with `CI` set it is a failure.

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
/// The Java that the suite is written in, and the oldest Maven that its plugins run on.
const JAVA_OLDEST: (u32, u32) = (17, 0);
const MAVEN_OLDEST: (u32, u32) = (3, 6);

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
    run_node_suite("typescript", "the TypeScript client suite");
}

#[test]
fn the_suite_of_the_turso_platform_client_passes() {
    run_node_suite("turso", "the suite of the client of the Turso Platform API");
}

#[test]
fn the_typesense_javascript_suite_passes() {
    run_node_suite("typesense/javascript", "the suite of Typesense's JavaScript client");
}

#[test]
fn the_typesense_python_suite_passes() {
    let dir = root().join("tests/clients/typesense/python");
    let venv = make_venv(&root().join(".cache/venv-typesense"), &dir.join("requirements.txt"));
    let Some(python) = ready("the suite of Typesense's Python client", venv) else {
        return;
    };
    let (_dir, server) = start();
    let mut suite = Command::new(python);
    suite.args(["-m", "pytest"]).current_dir(dir);
    run_suite(suite, &server, "the suite of Typesense's Python client");
}

/// Installs the packages of `tests/clients/<name>` and runs its tests.
fn run_node_suite(name: &str, what: &str) {
    let dir = root().join("tests/clients").join(name);
    let Some(node) = ready(what, install_npm_packages(&dir)) else {
        return;
    };
    let (_dir, server) = start();
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
    run_suite(suite, &server, what);
}

#[test]
fn the_langchain_suite_passes() {
    let dir = root().join("tests/clients/langchain");
    let venv = make_venv(&root().join(".cache/venv-langchain"), &dir.join("requirements.txt"));
    let Some(python) = ready("the LangChain suite", venv) else {
        return;
    };
    let (_dir, server) = start();
    let mut suite = Command::new(python);
    suite.args(["-m", "pytest"]).current_dir(dir);
    run_suite(suite, &server, "the LangChain suite");
}

#[test]
fn the_java_client_suite_passes() {
    let Some((suite, passed)) = ready("the suite of the Java client", maven_packages()) else {
        return;
    };
    let (_dir, server) = start();
    run_suite(suite, &server, "the Java client suite");
    passed();
}

#[test]
fn the_rust_client_suite_passes() {
    let Some(mut suite) = ready("the suite of the Rust client", cargo_packages()) else {
        return;
    };
    let (_dir, server) = start();
    suite.args(["--offline", "test"]);
    run_suite(suite, &server, "the Rust client suite");
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

/// What a preparation made; `None`, said aloud, when it did not succeed and `what` is left out.
fn ready<T>(what: &str, prepared: Result<T, String>) -> Option<T> {
    prepared.map_err(|why| left_out(what, &why)).ok()
}

/// The Python of an environment with everything in `tests/clients/python/requirements.txt`; `None` when left out.
///
/// Made once per process, for two tests use it and run at the same time.
fn venv() -> Option<PathBuf> {
    static VENV: OnceLock<Option<PathBuf>> = OnceLock::new();
    VENV.get_or_init(|| {
        let requirements = root().join("tests/clients/python/requirements.txt");
        ready(
            "the suites of the Python client",
            make_venv(&root().join(".cache/venv"), &requirements),
        )
    })
    .clone()
}

/// Installs `requirements` into the environment `venv` and returns its Python.
///
/// A stamp holds what was installed, so that the next run is immediate.
fn make_venv(venv: &Path, requirements: &Path) -> Result<PathBuf, String> {
    let python = venv.join("bin/python");
    let wanted = fs::read_to_string(requirements).expect("requirements.txt can be read");
    let stamp = venv.join("shoal-requirements.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    let version = tool_version("python3", PYTHON_OLDEST)?;
    say(&format!("preparing {} with Python {version} (once)", venv.display()));
    if !python.exists() {
        step(
            Command::new("python3").args(["-m", "venv"]).arg(venv),
            "python3 -m venv",
        )?;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    step(Command::new(&python).args(pip).arg(requirements), "pip install")?;
    fs::write(&stamp, wanted).expect("the stamp can be written");
    Ok(python)
}

/// Maven in the Java suite's directory, with what its `pom.xml` names in a repository of its own, `.cache/maven`; and
/// the stamp to write when the suite has passed.
///
/// The first download compiles nothing: what it cannot do is a reason to leave the suite out, while a suite that does
/// not compile is a failure. It is not all, for Surefire fetches its last parts when it runs tests; hence offline only
/// after a run that passed.
fn maven_packages() -> Result<(Command, impl FnOnce()), String> {
    let dir = root().join("tests/clients/java");
    let java = tool_version("javac", JAVA_OLDEST)?;
    tool_version("mvn", MAVEN_OLDEST)?;
    let repository = root().join(".cache/maven");
    let maven = || {
        let mut maven = Command::new("mvn");
        maven
            .args(["--quiet", "--batch-mode"])
            .arg(format!("-Dmaven.repo.local={}", repository.display()))
            .current_dir(&dir);
        maven
    };
    let wanted = fs::read_to_string(dir.join("pom.xml")).expect("pom.xml can be read");
    let stamp = repository.join("shoal-pom.xml");
    let mut suite = maven();
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        suite.arg("--offline");
    } else {
        say(&format!(
            "fetching the packages of the Java suite with Java {java} (once)"
        ));
        step(
            maven().args(["-Dmaven.test.skip=true", "test"]),
            "mvn test without tests",
        )?;
    }
    suite.arg("test");
    Ok((suite, move || {
        fs::write(&stamp, wanted).expect("the stamp can be written");
    }))
}

/// Cargo in the Rust suite's directory, with every package of its lock file downloaded.
fn cargo_packages() -> Result<Command, String> {
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo
            .current_dir(root().join("tests/clients/rust"))
            .env("CARGO_TARGET_DIR", root().join(".cache/rust-suite"));
        cargo
    };
    step(cargo().args(["fetch", "--locked", "--quiet"]), "cargo fetch")?;
    Ok(cargo())
}

/// The `node` to run the suite in `dir` with, its packages installed.
fn install_npm_packages(dir: &Path) -> Result<PathBuf, String> {
    let version = tool_version("node", NODE_OLDEST)?;
    let wanted = fs::read_to_string(dir.join("package-lock.json")).expect("package-lock.json can be read");
    let stamp = dir.join("node_modules/.shoal-package-lock.json");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok("node".into());
    }
    say(&format!(
        "installing the npm packages of {} with Node {version} (once)",
        dir.display()
    ));
    step(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(dir),
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
    // The first word that is a number: `Python 3.11.7`, `v20.20.2`, `javac 17.0.15`, and Maven's in colours.
    let mut words = text.split_whitespace().map(|word| word.trim_start_matches('v'));
    let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let version = version.unwrap_or_default().to_owned();
    let mut parts = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().ok());
    let found = (parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0));
    if found < oldest {
        return Err(format!(
            "{name} {}.{} or newer is needed, this is {version:?}",
            oldest.0, oldest.1
        ));
    }
    Ok(version)
}
