//! `shoal fsck` and `shoal inspect` as an operator calls them, on a local directory.

use std::path::Path;
use std::process::Output;

use object_store::ObjectStoreExt;
use object_store::local::LocalFileSystem;
use serde_json::Value as Json;
use shoal::store::paths::{self, NsObject};

use crate::support::server::shoal;
use crate::world::{Objects, ns, world};

/// The world in a directory.
async fn directory() -> (tempfile::TempDir, Objects) {
    let (dir, objects) = (tempfile::tempdir().expect("a directory"), world().await);
    let local = LocalFileSystem::new_with_prefix(dir.path()).expect("it is there");
    for (key, bytes) in &objects.0 {
        local.put(key, bytes.clone().into()).await.expect("written");
    }
    (dir, objects)
}

fn run(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let store = format!("file://{}", dir.display());
    let output: Output = shoal().args(args).args(["--store", &store]).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn fsck_says_what_is_wrong_and_its_status_how_bad_it_is() {
    let (dir, objects) = directory().await;
    let (status, out, err) = run(dir.path(), &["fsck"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("namespaces: 5, damaged: 0, not known: 0;"), "{out}");
    let (status, out, _) = run(dir.path(), &["fsck", "default", "docs", "--deep"]);
    assert_eq!(status, Some(0), "{out}");
    assert!(
        out.starts_with("default/docs: whole; rows: 92, segments: 2, manifests: 4, entries: 10, "),
        "{out}"
    );
    let (status, out, _) = run(dir.path(), &["fsck", "default", "--json"]);
    assert_eq!(status, Some(0), "{out}");
    let lines: Vec<Json> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 5);
    assert!(
        lines.iter().all(|l| l["verdict"] == "whole" && l["org"] == "default"),
        "{out}"
    );

    let (_, manifest) = objects.newest("docs");
    let key = paths::segment(&ns("docs"), manifest.segments[0].meta.id.0);
    std::fs::remove_file(dir.path().join(key.as_ref())).expect("it is there");
    let (status, out, err) = run(dir.path(), &["fsck", "default"]);
    assert_eq!(
        (status, err.as_str()),
        (Some(1), "shoal: damaged: 2 of 5 namespaces\n"),
        "{out}"
    );
    for of in ["docs", "branch"] {
        assert!(out.contains(&format!("default/{of}: DAMAGED (1);")), "{out}");
    }
    let line =
        format!("  damage segment_missing: {key}: it does not exist, and the newest manifest names it. To do: put");
    assert_eq!(out.matches(&line).count(), 2, "{out}");
    let (status, out, _) = run(dir.path(), &["fsck", "default", "branch", "--json"]);
    let line: Json = serde_json::from_str(&out).expect("one line of JSON");
    assert_eq!((status, &line["verdict"]), (Some(1), &Json::from("damaged")), "{out}");
    let finding = &line["findings"][0];
    assert_eq!(finding["kind"], "segment_missing");
    assert_eq!(
        (&finding["severity"], &finding["object"]),
        (&"damage".into(), &key.as_ref().into())
    );
    assert!(!finding["advice"].as_str().expect("a sentence").is_empty());
}

#[tokio::test]
async fn what_cannot_be_known_has_a_status_of_its_own() {
    let (dir, _) = directory().await;
    for (args, says) in [
        (
            &["fsck", "default", "never"][..],
            "there has never been a namespace never",
        ),
        (&["fsck", "Not A Slug"], "no slug or id"),
        (&["fsck", "default", "no/name"], "namespace name"),
        (&["fsck", "default", "docs", "--everything"], "unexpected argument"),
        (&["inspect", "default"], "required"),
        (
            &["inspect", "default", "docs", "--entry", "1", "--gen", "1"],
            "cannot be used with",
        ),
        (&["inspect", "default", "docs", "--segment", "x"], "26 letters"),
    ] {
        let (status, out, err) = run(dir.path(), args);
        assert_eq!(
            (status, out.contains("whole")),
            (Some(2), false),
            "{args:?}: {out}{err}"
        );
        assert!(err.contains(says), "{args:?}: {err}");
    }
    let output = shoal()
        .args(["fsck", "--store", "nonsense://x"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    // Nobody has written anything for an organization that could be.
    let (status, out, _) = run(dir.path(), &["fsck", "acme"]);
    assert_eq!(status, Some(0), "{out}");
    for (args, says) in [
        (
            &["inspect", "default", "never"][..],
            "there has never been a namespace never",
        ),
        (&["inspect", "default", "docs", "--entry", "99"], "there is no entry 99"),
        (
            &["inspect", "default", "docs", "--gen", "99"],
            "there is no manifest 99",
        ),
        (
            &["inspect", "default", "docs", "--segment", "01hf7yat008n20ea1np52hznzz"],
            "no manifest names segment",
        ),
    ] {
        let (status, out, err) = run(dir.path(), args);
        assert_eq!((status, out.as_str()), (Some(1), ""), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
}

#[tokio::test]
async fn inspect_shows_what_a_namespace_consists_of() {
    let (dir, mut objects) = directory().await;
    let inspect = |args: &[&str]| {
        let (status, out, err) = run(dir.path(), &[&["inspect", "default"], args].concat());
        assert_eq!((status, err.as_str()), (Some(0), ""), "{args:?}: {out}");
        out
    };
    let json = |args: &[&str]| -> Json { serde_json::from_str(&inspect(args)).expect("JSON") };
    let (_, manifest) = objects.newest("docs");
    let found = json(&["docs", "--json"]);
    let log = &found["log"];
    assert_eq!(
        (&log["first"], &log["last"], &log["unindexed_entries"]),
        (&1.into(), &10.into(), &5.into())
    );
    assert_eq!((&found["hint"], &found["hold_count"]), (&4.into(), &1.into()));
    assert_eq!(found["holds"][0]["for"], "default/branch");
    assert_eq!(found["manifests"].as_array().map(Vec::len), Some(4));
    let newest = &found["newest"];
    assert_eq!((&newest["gen"], &newest["indexed_seq"]), (&4.into(), &5.into()));
    assert_eq!(newest["rows"], manifest.rows());
    assert_eq!(newest["schema"]["t"]["type"], "string");
    for (shown, named) in newest["segments"]
        .as_array()
        .expect("segments")
        .iter()
        .zip(&manifest.segments)
    {
        assert_eq!(shown["id"], named.meta.id.0.to_string());
        assert_eq!(
            (&shown["live"], &shown["bytes"]),
            (&named.live().into(), &named.meta.len.into())
        );
        let sections: u64 = shown["sections"]
            .as_array()
            .expect("sums")
            .iter()
            .filter_map(|s| s["bytes"].as_u64())
            .sum();
        assert!(sections > 0 && sections <= named.meta.len, "{shown}");
    }
    let text = inspect(&["docs"]);
    for line in [
        "namespace         docs",
        "hint              4",
        "last entry       10",
        "NEWEST MANIFEST",
        "generation ",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let id = manifest.segments[0].meta.id.0.to_string();
    assert!(text.contains(&id) && text.contains("row pages "), "{text}");
    assert!(text.lines().all(|line| line.trim_end() == line), "{text}");

    let segment = inspect(&["docs", "--segment", &id.to_lowercase()]);
    for line in [
        "segment           ",
        "row pages",
        "attribute index  n ",
        "text index       t ",
        "vectors          vector",
    ] {
        assert!(segment.contains(line), "{line:?} in {segment}");
    }
    let entry = json(&["docs", "--entry", "5", "--json"]);
    assert_eq!((&entry["seq"], &entry["kind"]), (&5.into(), &"data".into()));
    let operations = entry["described"][0]["operations"].as_array().expect("operations");
    let kinds: Vec<_> = operations.iter().filter_map(|o| o["kind"].as_str()).collect();
    assert!(kinds.contains(&"patch") && kinds.contains(&"delete"), "{entry}");
    assert!(inspect(&["docs", "--entry", "5"]).contains("patch"));
    assert_eq!(json(&["docs", "--gen", "2", "--json"])["indexed_seq"], 3);
    assert!(inspect(&["docs", "--gen", "2"]).starts_with("generation "));
    let branch = json(&["branch", "--json"]);
    assert_eq!((&branch["newest"], &branch["log"]["entries"]), (&Json::Null, &2.into()));
    assert_eq!(json(&["branch", "--entry", "1", "--json"])["kind"], "branch");
    assert!(inspect(&["branch"]).contains("There is no manifest"));
    assert_eq!(json(&["gone", "--entry", "2", "--json"])["kind"], "delete namespace");
    assert_eq!(
        json(&["small", "--json"])["newest"]["segments"][0]["place"],
        "in the manifest"
    );

    // What is damaged is shown as far as it goes.
    let (key, _) = objects.newest("docs");
    objects.flip(&key, 100);
    std::fs::write(dir.path().join(key.as_ref()), &objects.0[&key]).expect("written");
    let found = json(&["docs", "--json"]);
    assert!(
        found["newest"]["error"]
            .as_str()
            .expect("a sentence")
            .contains("damaged"),
        "{found}"
    );
    assert!(inspect(&["docs"]).contains("error "));
    assert!(objects.inside("docs").iter().any(|(o, _)| matches!(o, NsObject::Head)));
}
