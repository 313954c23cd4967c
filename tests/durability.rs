//! What disks do: lose what was not synced, damage what is cached, and run full (rows 18, 19 and 28, I14).

#![allow(clippy::disallowed_methods, reason = "real processes and real files need real time")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use serde_json::json;
use shoal::base::Rng;
use shoal::cache::CacheOptions;
use shoal::maintenance::UpkeepOptions;
use shoal::model::query::{Projection, Read, Score, TextQuery};
use shoal::model::{Consistency, Direction, Filter, FilterOp, Query, RankBy};
use shoal::namespace::EngineOptions;
use shoal::query::QueryResult;
use support::engine::{Node, name};
use support::http::Http;
use support::server::{Settings, left_out};
use support::upkeep;

/// What a call to the system did to the disk.
#[derive(Clone, Debug, PartialEq)]
enum Call {
    Synced(PathBuf),
    Created(PathBuf),
    /// A name was given to a file that had another.
    Published(PathBuf, PathBuf),
}

/// The paths in quotes or after descriptors of a line of `strace -y`.
fn paths(line: &str) -> Vec<PathBuf> {
    let quoted = line.split('"').skip(1).step_by(2);
    quoted.filter(|path| path.starts_with('/')).map(PathBuf::from).collect()
}

fn call(line: &str) -> Option<Call> {
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    if !line.trim_end().ends_with("= 0") {
        return None;
    }
    let (name, rest) = line.split_once('(')?;
    let paths = paths(rest);
    match (name, &paths[..]) {
        ("fsync" | "fdatasync", _) => {
            let path = rest.split_once('<')?.1.rsplit_once('>')?.0;
            Some(Call::Synced(PathBuf::from(path)))
        }
        ("mkdir" | "mkdirat", [made]) => Some(Call::Created(made.clone())),
        (_, [from, to]) => Some(Call::Published(from.clone(), to.clone())),
        _ => None,
    }
}

/// Row 28: when a write is answered, its entry would be there after the power was lost: the bytes were synced before they
/// got their name, and every directory with a new name in it was synced before the answer.
#[tokio::test]
async fn what_is_acknowledged_on_a_local_disk_is_synced() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings::local(dir.path());
    let server = settings.start();
    let trace = dir.path().join("trace");
    let pid = server.id().to_string();
    let calls = "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2,mkdir,mkdirat";
    let tracing = Command::new("strace")
        .args(["-f", "-y", "-s", "4096", "-p", &pid, "-e", calls, "-o"])
        .arg(&trace)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut tracing) = tracing else {
        left_out("the order of syncs on the local disk", "strace is not installed");
        return;
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    if !matches!(tracing.try_wait(), Ok(None)) {
        left_out("the order of syncs on the local disk", "processes may not be traced");
        return;
    }
    let http = Http::to(&server);
    for n in 0..5 {
        let rows = json!({"upsert_rows": [{"id": n, "t": "a few words"}]});
        let answer = http.json("POST", "/v2/namespaces/synced", &rows).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
    }
    // Detached, it has written down everything.
    let stopped = Command::new("kill").args(["-INT", &tracing.id().to_string()]).status();
    assert!(stopped.expect("kill is there").success());
    tracing.wait().expect("it ends");
    let log = fs::read_to_string(&trace).expect("it wrote one");
    // Calls of several threads that overlap are on two lines each.
    let mut begun = std::collections::BTreeMap::new();
    let mut whole = Vec::new();
    for line in log.lines() {
        let (thread, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (rest.split_once("<unfinished"), rest.split_once("resumed>")) {
            (Some((start, _)), _) => drop(begun.insert(thread, start.trim().to_owned())),
            (None, Some((_, end))) => whole.extend(begun.remove(thread).map(|start| format!("{start}{end}"))),
            (None, None) => whole.push(rest.trim().to_owned()),
        }
    }
    let calls: Vec<Call> = whole.iter().filter_map(|line| call(line)).collect();
    let mut entries = 0;
    for (at, published) in calls.iter().enumerate() {
        let Call::Published(from, to) = published else { continue };
        if !to.to_string_lossy().contains("/wal/") {
            continue;
        }
        entries += 1;
        let synced = |path: &Path| Call::Synced(path.to_path_buf());
        assert!(
            calls[..at].contains(&synced(from)),
            "{from:?} was not synced before it was named {to:?}"
        );
        let parent = to.parent().expect("it lies in a directory");
        let next = calls[at..].iter().position(|c| *c == synced(parent));
        let later = calls[at + 1..]
            .iter()
            .position(|c| matches!(c, Call::Published(_, other) if other.parent() == Some(parent)));
        let next = next.expect("its directory is synced after it");
        assert!(
            later.is_none_or(|later| next <= later + 1),
            "before the next entry is written"
        );
    }
    assert_eq!(entries, 5, "{log}");
    for (at, created) in calls.iter().enumerate() {
        let Call::Created(made) = created else { continue };
        let parent = made.parent().expect("it lies in a directory").to_path_buf();
        assert!(
            calls[at..].contains(&Call::Synced(parent.clone())),
            "{parent:?} got {made:?}"
        );
    }
    drop(server);
}

fn rows(ids: std::ops::Range<u64>) -> serde_json::Value {
    let row = |id: u64| {
        let t = format!("text {} of {id} with word{}", id % 5, id % 31);
        json!({"id": id, "n": id % 7, "t": t, "vector": [id % 3, id % 11]})
    };
    json!({
        "upsert_rows": ids.map(row).collect::<Vec<_>>(),
        "schema": {"t": {"type": "string", "full_text_search": true}},
        "distance_metric": "euclidean_squared",
    })
}

/// Queries that together read every kind of section.
async fn answers(node: &Node) -> Vec<QueryResult> {
    let query = |rank_by, filter| Query {
        rank_by: Some(rank_by),
        filter,
        limit: 2_000,
        include: Projection::All,
        ..Query::default()
    };
    let by_id = || RankBy::Order(vec![("id".into(), Direction::Asc)]);
    let text = RankBy::Score(Score::Text {
        attribute: "t".into(),
        query: TextQuery::Text("text 3 word7".into()),
        last_as_prefix: false,
    });
    let queries = vec![
        query(by_id(), None),
        query(by_id(), Some(Filter::compare("n", FilterOp::Gte, 4i64))),
        query(text, None),
    ];
    let read = Read {
        queries,
        rerank: None,
        consistency: Consistency::Strong,
    };
    let found = node.engine.query(&node.org, &name("ns"), read).await;
    found.expect("whatever the disk does, there is an answer").results
}

fn files(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => files(&entry.path(), found),
            false => drop(found.insert(entry.path())),
        }
    }
}

/// A node without a cache in memory, so that all it reads of segments comes from the disk once it is there.
fn cached(bucket: &Arc<InMemory>, seed: u64, directory: &Path) -> Node {
    let mut cache = CacheOptions::with_disk(0, Some(directory.to_path_buf()), 64 << 20);
    cache.disk_reserve_bytes = Some(0);
    let options = EngineOptions {
        cache,
        ..EngineOptions::default()
    };
    Node::with(bucket.clone(), seed, options)
}

async fn indexed() -> (Arc<InMemory>, Vec<QueryResult>) {
    let bucket = Arc::new(InMemory::new());
    let writer = Node::new(bucket.clone(), 1);
    for part in 0..2 {
        writer
            .write("ns", rows(part * 900..part * 900 + 900))
            .await
            .expect("written");
        let options = UpkeepOptions {
            inline: false,
            ..UpkeepOptions::default()
        };
        upkeep::flush_with(&writer, "ns", options).await.expect("flushed");
    }
    let expected = answers(&writer).await;
    assert_eq!(expected[0].rows().len(), 1_800);
    (bucket, expected)
}

/// Rows 18 and 19, I14: through the whole engine, whatever is flipped, torn, lost or exchanged in the directory of the
/// cache, while it is used or between two runs: the answers are the same ones, and damage is counted.
#[tokio::test]
async fn whatever_becomes_of_the_disk_cache_queries_have_the_same_answers() {
    let (bucket, expected) = indexed().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rng = Rng::seeded(4);
    let mut noticed = 0;
    for run in 0..12 {
        let node = cached(&bucket, 10 + run, dir.path());
        for round in 0..6 {
            assert!(answers(&node).await == expected, "run {run}, round {round}");
            tokio::time::sleep(Duration::from_millis(60)).await;
            let mut found = BTreeSet::new();
            files(dir.path(), &mut found);
            for path in found
                .iter()
                .filter(|path| path.ends_with("data") || path.ends_with("map"))
            {
                let Ok(mut bytes) = fs::read(path) else { continue };
                let at = rng.below(bytes.len().max(1) as u64) as usize;
                match (rng.below(8), bytes.is_empty()) {
                    (_, true) => continue,
                    // A page that was not written before the power was lost reads as zeros.
                    (0, _) => bytes[at..].iter_mut().take(4096).for_each(|b| *b = 0),
                    (1, _) => bytes.truncate(at),
                    (2, _) => {
                        let _ = fs::remove_file(path);
                        continue;
                    }
                    (_, _) => (0..20).for_each(|_| {
                        let at = rng.below(bytes.len() as u64) as usize;
                        bytes[at] ^= 1 << rng.below(8);
                    }),
                }
                // In place, as the node has it open.
                let written = fs::OpenOptions::new().write(true).open(path).and_then(|file| {
                    file.set_len(bytes.len() as u64)?;
                    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0)
                });
                let _ = written;
            }
        }
        assert!(answers(&node).await == expected, "run {run}");
        noticed += node
            .engine
            .cache()
            .stats()
            .disk
            .map_or(0, |disk| disk.checksum_errors + disk.read_errors);
        node.engine.close();
        drop(node);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!(noticed > 10, "{noticed} errors were counted");
}

/// Row 19: the file system of the cache has no room. Nothing is kept there, nothing else happens.
#[tokio::test]
async fn without_room_for_the_cache_queries_go_on() {
    let disk = tempfile::tempdir().expect("a temporary directory");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(disk.path())
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        left_out("a full file system of the cache", "mounting needs root");
        return;
    }
    let (bucket, expected) = indexed().await;
    let cache = disk.path().join("cache");
    fs::create_dir(&cache).expect("there is room for that");
    // All but a few pages.
    let mut filler = Vec::new();
    while fs::write(disk.path().join("filler"), &filler).is_ok() && filler.len() < 1_000_000 {
        filler.resize(filler.len() + 16_384, 1);
    }
    let node = cached(&bucket, 5, &cache);
    for _ in 0..5 {
        assert!(answers(&node).await == expected);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let reads = node.engine.cache().stats().reads;
    assert!(
        reads.store_bytes > reads.disk_bytes,
        "{reads:?}: it comes from the store"
    );
    node.engine.close();
    drop(node);
    let _ = Command::new("umount").arg("-l").arg(disk.path()).status();
}
