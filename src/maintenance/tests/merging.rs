//! Which segments are merged, and what comes out.

use serde_json::json;
use ulid::Ulid;

use super::engine::{Node, name, org};
use super::*;
use crate::base::CpuPool;
use crate::cache::ReadKind;
use crate::maintenance::merge::policy::{Candidate, choose};
use crate::manifest::tests::scripted::ScriptedStore;
use crate::model::Attribute;
use crate::model::Seq;
use crate::segment::SegmentId;
use crate::segment::{EncodeOptions, Segment, encode};
use crate::store::paths::{self, NsKey};

const MIB: u64 = 1 << 20;

fn candidate(n: u128, bytes: u64, live: u32) -> Candidate {
    Candidate {
        id: SegmentId(Ulid::from(n)),
        min_seq: Seq(n as u64),
        rows: 100,
        live,
        bytes,
        is_stale: false,
    }
}

fn chosen(candidates: &[Candidate]) -> Vec<u128> {
    let mut backwards = candidates.to_vec();
    backwards.reverse();
    let options = UpkeepOptions::default();
    let chosen = choose(candidates, &options);
    assert_eq!(chosen, choose(&backwards, &options), "their order does not matter");
    chosen.into_iter().map(|id| id.0.0).collect()
}

fn of(sizes: &[(u128, u64)]) -> Vec<Candidate> {
    sizes.iter().map(|(n, bytes)| candidate(*n, *bytes, 100)).collect()
}

#[test]
fn eight_of_a_size_become_one() {
    let tiny: Vec<_> = (1..=8).map(|n| (n, 1_000 * n as u64)).collect();
    assert_eq!(chosen(&of(&tiny)), (1..=8).collect::<Vec<_>>());
    assert!(chosen(&of(&tiny[..7])).is_empty());
    // Ten: the eight smallest.
    let ten: Vec<_> = (1..=10).map(|n| (n, 100_000 - n as u64)).collect();
    assert_eq!(chosen(&of(&ten)), (3..=10).collect::<Vec<_>>());
    // Two tiers are full: the lower one goes first.
    let both: Vec<_> = tiny.iter().copied().chain((20..28).map(|n| (n, 20 * MIB))).collect();
    assert_eq!(chosen(&of(&both)), (1..=8).collect::<Vec<_>>());
    // Seven of one size and seven of another stay.
    let neither: Vec<_> = (1..8)
        .map(|n| (n, MIB / 2))
        .chain((20..27).map(|n| (n, 20 * MIB)))
        .collect();
    assert!(chosen(&of(&neither)).is_empty());
}

#[test]
fn a_merge_does_not_grow_beyond_its_limit() {
    let large: Vec<_> = (1..=8).map(|n| (n, 100 * MIB)).collect();
    assert_eq!(chosen(&of(&large)), [1, 2, 3, 4, 5]);
    let too_large: Vec<_> = (1..=20).map(|n| (n, 300 * MIB)).collect();
    assert!(chosen(&of(&too_large)).is_empty());
}

#[test]
fn deleted_rows_are_left_behind_in_time() {
    assert!(chosen(&[candidate(1, MIB, 80)]).is_empty(), "a fifth may be dead");
    assert_eq!(chosen(&[candidate(1, MIB, 79)]), [1]);
    assert_eq!(
        chosen(&[
            candidate(1, MIB, 100),
            candidate(2, 9 * MIB, 70),
            candidate(3, 9 * MIB, 60)
        ]),
        [2, 3]
    );
    // Of another size: alone, the one with the most first.
    assert_eq!(chosen(&[candidate(2, MIB, 70), candidate(3, 90 * MIB, 60)]), [3]);
    assert_eq!(chosen(&[candidate(3, 900 * MIB, 60)]), [3], "however large");
    // What is dead altogether goes first: it costs nothing.
    assert_eq!(
        chosen(&[candidate(1, MIB, 0), candidate(2, MIB, 10), candidate(3, MIB, 0)]),
        [1, 3]
    );
}

#[test]
fn old_indexes_are_made_anew_last() {
    let stale = |n, bytes| Candidate {
        is_stale: true,
        ..candidate(n, bytes, 100)
    };
    assert_eq!(chosen(&[stale(1, 9 * MIB), stale(2, 600 * MIB)]), [1]);
    assert_eq!(chosen(&[stale(2, 600 * MIB)]), [2]);
    assert_eq!(chosen(&[stale(1, 9 * MIB), candidate(2, MIB, 50)]), [2]);
}

proptest! {
    #[test]
    fn merging_ends(sizes in proptest::collection::vec((0u64..1 << 30, 0u32..=100), 0..40)) {
        let mut segments: Vec<_> = (1..).zip(sizes).map(|(n, (bytes, live))| candidate(n, bytes, live)).collect();
        let options = UpkeepOptions::default();
        for n in 1_000.. {
            let chosen = choose(&segments, &options);
            if chosen.is_empty() {
                break;
            }
            prop_assert!(n < 1_100, "it never ends");
            let (gone, rest): (Vec<_>, Vec<_>) = segments.into_iter().partition(|c| chosen.contains(&c.id));
            segments = rest;
            let bytes = gone.iter().map(|c| c.bytes * u64::from(c.live) / 100).sum();
            if gone.iter().any(|c| c.live > 0) {
                prop_assert!(gone.len() == 1 || bytes <= options.merge_bytes_max);
                segments.push(candidate(n, bytes, 100));
            }
        }
        prop_assert!(segments.iter().all(|c| c.live >= 80));
    }
}

/// Every segment that was merged has the bytes that writing its rows anew gives.
async fn assert_written_alike(node: &Node) {
    let ns = NsKey::new(org(), name("docs"));
    let manifest = node.manifest("docs").await.expect("there");
    let attributes: Vec<Attribute> = manifest.schema.attributes().cloned().collect();
    assert!(manifest.segments.iter().any(|s| s.meta.level > 0));
    for meta in manifest.segments.iter().map(|s| &s.meta).filter(|m| m.level > 0) {
        let cache = node.engine.cache();
        let segment = Segment::open(meta.clone(), &ns, cache, &CpuPool::inline())
            .await
            .expect("opened");
        let all: Vec<u32> = (0..meta.rows).collect();
        let rows = segment.fetch(&all, &attributes, ReadKind::Scan).await.expect("read");
        let options = EncodeOptions {
            level: meta.level,
            min_seq: meta.min_seq,
            max_seq: meta.max_seq,
        };
        let anew = encode(meta.id, &rows, &manifest.schema, &options);
        let stored = node.store.get(&paths::segment(&ns, meta.id.0)).await.expect("read");
        assert!(stored.expect("there") == anew.bytes, "{} rows", meta.rows);
        assert_eq!(meta, &anew.meta);
    }
}

#[test]
fn a_merge_writes_the_bytes_that_its_rows_give() {
    run(async {
        let node = Node::new(&ScriptedStore::new(), 1);
        let indexer = node.indexer(|o| (o.inline, o.merge_fan_out) = (false, 3));
        let schema = json!({
            "title": {"type": "string", "full_text_search": true},
            "tags": {"type": "[]string", "full_text_search": true},
            "late": {"type": "string", "full_text_search": true},
        });
        for batch in 0..6u64 {
            let rows: Vec<_> = (batch * 40..batch * 40 + 60)
                .map(|id| {
                    let mut row =
                        json!({"id": id, "n": id, "title": format!("row {id} of batch {batch}, the {}th", id % 9)});
                    if id % 3 > 0 {
                        row["tags"] = json!([format!("tag {}", id % 5), format!("of {batch}")]);
                    }
                    if batch > 2 {
                        row["late"] = json!(format!("late {}", id % 4));
                    }
                    row
                })
                .collect();
            let deletes: Vec<u64> = (batch * 30..batch * 30 + 7).collect();
            node.write("docs", json!({"upsert_rows": rows, "schema": schema})).await;
            node.write("docs", json!({"deletes": deletes})).await;
            assert_eq!(
                indexer.flush(&org(), &name("docs")).await.expect("flushed"),
                Done::Published
            );
            indexer.merge(&org(), &name("docs")).await.expect("done");
        }
        assert_written_alike(&node).await;
        // Other tokens: the texts are analysed again.
        let schema = json!({"title": {"type": "string", "full_text_search": {"stemming": true}}});
        node.write(
            "docs",
            json!({"upsert_rows": [{"id": 1, "n": 1, "title": "rows"}], "schema": schema}),
        )
        .await;
        indexer.flush(&org(), &name("docs")).await.expect("flushed");
        while indexer.merge(&org(), &name("docs")).await.expect("done") == Done::Published {}
        assert_written_alike(&node).await;
    });
}

#[test]
fn what_is_larger_than_a_merge_may_be_is_written_in_parts() {
    run(async {
        let backend = ScriptedStore::new();
        let node = Node::new(&backend, 1);
        super::faults::large_segment(&node).await;
        let rows: Vec<u64> = (0..2_000).filter(|id| id % 3 == 0).collect();
        node.write("docs", json!({ "deletes": rows })).await;
        // Every batch of rows is a part: the largest are of 8 MiB.
        let indexer = node.indexer(|o| (o.inline, o.merge_bytes_max) = (false, 1));
        indexer.flush(&org(), &name("docs")).await.expect("flushed");
        let before = node.read("docs").await;
        assert_eq!(
            indexer.merge(&org(), &name("docs")).await.expect("done"),
            Done::Published
        );
        let manifest = node.manifest("docs").await.expect("there");
        assert!(manifest.segments.iter().all(|s| s.live() == s.meta.rows));
        assert_eq!(node.read("docs").await, before);
    });
}

/// Bytes written for each byte of rows, by the log, flushes and merges; and the most segments there were.
fn amplification(flush_kib: u64, flushes: u64) -> (f64, usize) {
    let options = UpkeepOptions::default();
    let (mut segments, mut written, mut logical, mut most) = (Vec::<Candidate>::new(), 0, 0, 0);
    // Rows of 1 KiB.
    let segment = |n: u128, rows: u64| Candidate {
        rows: rows as u32,
        live: rows as u32,
        ..candidate(n, rows << 10, 100)
    };
    let mut numbers = 1u128..;
    for n in 0..flushes {
        let rows = flush_kib * (97 + n % 13) / 100;
        // A quarter of them replace or delete older ones, wherever they are.
        let all: u64 = segments.iter().map(|s| u64::from(s.live)).sum();
        for old in &mut segments {
            old.live -= (u64::from(old.live) * (rows / 4) / all.max(1)) as u32;
        }
        segments.push(segment(numbers.next().expect("endless"), rows));
        (logical, written) = (logical + rows, written + 2 * rows);
        loop {
            let chosen = choose(&segments, &options);
            if chosen.is_empty() {
                break;
            }
            let inputs: Vec<Candidate> = segments.extract_if(.., |c| chosen.contains(&c.id)).collect();
            let live = inputs.iter().map(|c| u64::from(c.live)).sum();
            written += live;
            segments.push(segment(numbers.next().expect("endless"), live));
        }
        most = most.max(segments.len());
    }
    (written as f64 / logical as f64, most)
}

#[test]
fn a_steady_load_is_rewritten_a_few_times() {
    for (flush_kib, flushes) in [
        (300, 2_000),
        (2 << 10, 1_000),
        (8 << 10, 50),
        (8 << 10, 1_000),
        (64 << 10, 200),
    ] {
        let (written, segments) = amplification(flush_kib, flushes);
        assert!(written < 6.5, "{written:.2} in flushes of {flush_kib} KiB");
        assert!(segments < 80, "{segments} segments of flushes of {flush_kib} KiB");
    }
}
