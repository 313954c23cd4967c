//! The shape of the source: which module may name which.

use std::path::{Path, PathBuf};

/// Modules from the ground up. A file names `crate::x` only if `x` stands before its own.
const LAYERS: &[&str] = &[
    "config",
    "error",
    "base",
    "telemetry",
    "model",
    "inference",
    "store",
    "cache",
    "wal",
    "index",
    "segment",
    "tail",
    "manifest",
    "snapshot",
    "query",
    "namespace",
    "maintenance",
    "cluster",
    "transfer",
    "control",
    "auth",
    "api",
    "cli",
];

/// `error` tells what a client did wrong in the words of `model`, and `telemetry` is set up from
/// `config`; nothing else looks upwards.
const ALLOWED: &[(&str, &str)] = &[("error", "model")];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&src, &mut paths);
    paths
        .into_iter()
        .filter_map(|path| {
            let inside = path.strip_prefix(&src).expect("found below src");
            let first = inside.components().next()?.as_os_str().to_str()?;
            let module = first.trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
            (module != "main" && module != "lib").then_some((module, path, text))
        })
        .collect()
}

fn rank(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|l| *l == module)
        .unwrap_or_else(|| panic!("module {module} is not in LAYERS"))
}

/// The modules that a source names as `crate::x`, also inside `use crate::{x, y::z}`.
fn named(text: &str) -> Vec<String> {
    let word = |s: &str| -> String { s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut names = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if !rest.starts_with('{') {
            names.push(word(rest));
            continue;
        }
        let mut depth = 0;
        let mut item = String::new();
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => names.push(word(std::mem::take(&mut item).trim())),
                c if depth == 1 => item.push(c),
                _ => {}
            }
            if depth == 0 {
                names.push(word(item.trim()));
                break;
            }
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

#[test]
fn every_module_names_only_what_stands_below_it() {
    let sources = sources();
    assert!(sources.len() > 30, "the sources were found");
    for (module, path, text) in sources {
        for named in named(&text) {
            let allowed = named == module || ALLOWED.contains(&(module.as_str(), named.as_str()));
            assert!(
                allowed || rank(&named) < rank(&module),
                "{}: {module} must not name crate::{named}",
                path.display()
            );
        }
    }
}

#[test]
fn no_source_file_is_too_long_to_find_ones_way_in() {
    for (_, path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 700, "{} has {lines} lines", path.display());
    }
}

#[test]
fn keys_of_objects_are_built_in_one_place() {
    for (_, path, text) in sources() {
        if path.ends_with("store/paths.rs") {
            continue;
        }
        for line in text.lines().map(str::trim).filter(|l| !l.starts_with("//")) {
            let builds = line.contains("Path::from(") || line.contains("Path::parse(");
            let store = path.components().any(|c| c.as_os_str() == "store");
            assert!(!builds || store, "{}: builds an object key: {line}", path.display());
        }
    }
}

#[test]
fn nothing_is_unfinished() {
    for (_, path, text) in sources() {
        for word in ["todo!(", "unimplemented!(", "FIXME", "XXX"] {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
    }
}
