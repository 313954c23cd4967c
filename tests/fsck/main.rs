//! `fsck`: it finds nothing wrong with what the engine leaves, and every kind of damage.

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use prost::Message;
use roaring::RoaringBitmap;
use shoal::base::Rng;
use shoal::maintenance::fsck::{FindingKind, PARTS, Report, namespaces};
use shoal::manifest::format::proto;
use shoal::manifest::{self, Deletions, DeletionsObject};
use shoal::model::{OrgId, Seq};
use shoal::store::paths::{self, NsObject};
use shoal::wal::{self, BlobRef, Digest, EntryKind};
use support::engine::Node;
use support::fault::{Fault, FaultRates, FaultStore};
use ulid::Ulid;
use world::{Objects, look, ns, world};
use xxhash_rust::xxh3::xxh3_128;

const ALL: [&str; 5] = ["docs", "branch", "small", "gone", "log"];

fn kinds(report: &Report) -> BTreeSet<FindingKind> {
    report.findings.iter().map(|f| f.kind).collect()
}

/// What is wrong is this and nothing else, and the object is named.
#[track_caller]
fn assert_found(report: &Report, kind: FindingKind, object: &Path, case: &str) {
    assert_eq!(kinds(report), BTreeSet::from([kind]), "{case}: {:#?}", report.findings);
    let is_named = report.findings.iter().any(|f| f.object.starts_with(object.as_ref()));
    assert!(is_named, "{case}: {object} is not named in {:#?}", report.findings);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_wrong_with_what_the_engine_leaves() {
    let first = world().await;
    let later = world::later(&first).await;
    for (objects, when) in [(&first, "first"), (&later, "later")] {
        for of in ALL {
            for deep in [false, true] {
                let report = objects.look(of, deep).await;
                assert_eq!(report.findings, [], "{of}, {when}, deep: {deep}");
                assert!(report.objects > 0 && report.foreign == 0, "{report:?}");
            }
        }
    }
    let docs = first.look("docs", true).await;
    assert_eq!((docs.manifests, docs.segments, docs.rows), (4, 2, 92), "{docs:?}");
    assert_eq!(docs.entries, 10);
    let branch = first.look("branch", true).await;
    assert_eq!(
        (branch.manifests, branch.segments, branch.rows),
        (0, 0, 90),
        "{branch:?}"
    );
    assert_eq!(first.look("gone", true).await.rows, 0);
    assert_eq!(first.look("log", true).await.rows, 9);
    let nothing = first.look("never", true).await;
    assert_eq!((nothing.objects, nothing.findings), (0, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn all_namespaces_with_a_directory_are_found() {
    let node = Node::new(world().await.bucket().await, 1);
    let other = OrgId::parse("other").expect("a name");
    for (org, expected) in [(None, &ALL[..]), (Some(node.org.clone()), &ALL[..]), (Some(other), &[])] {
        let mut found = BTreeSet::new();
        for part in 0..PARTS {
            let part = u8::try_from(part).expect("there are 256");
            found.extend(
                namespaces(node.engine.store(), part, org.as_ref())
                    .await
                    .expect("listed"),
            );
        }
        assert_eq!(found, expected.iter().map(|of| ns(of)).collect());
    }
}

/// Each bit that is damaged in an object that is needed is found, and the object named.
#[tokio::test(start_paused = true)]
async fn flipped_bits_are_found_in_every_kind_of_object() {
    let objects = world().await;
    let rng = Rng::seeded(3);
    let (newest, _) = objects.newest("docs");
    for (object, key) in objects.inside("docs") {
        let len = objects.0[&key].len();
        let mut places = vec![0, len / 2, len - 1];
        places.extend((0..4).map(|_| rng.below(len as u64) as usize));
        for at in places {
            let case = format!("byte {at} of {len} of {object:?}");
            let mut damaged = objects.clone();
            damaged.flip(&key, at);
            let (kind, is_shallow) = match object {
                NsObject::Entry(seq) if seq.0 > 5 => (FindingKind::EntryDamaged, true),
                // The newest manifest ends with entry 5.
                NsObject::Entry(seq) => (FindingKind::PastIncomplete, seq.0 == 5),
                NsObject::Manifest(_) => (FindingKind::ManifestDamaged, true),
                NsObject::Head => (FindingKind::HintWrong, true),
                NsObject::Segment(id) => {
                    let (_, manifest) = objects.newest("docs");
                    let Some(segment) = manifest.segments.iter().find(|s| s.meta.id.0 == id) else {
                        assert_eq!(
                            damaged.look("docs", true).await.findings,
                            [],
                            "{case}: only the past needs it"
                        );
                        continue;
                    };
                    let is_hot = at as u64 >= segment.meta.hot_offset;
                    let report = damaged.look("docs", true).await;
                    // Between sections are zeros that nobody reads.
                    let found = kinds(&report);
                    let possible = [FindingKind::SegmentDamaged, FindingKind::IndexWrong];
                    assert!(
                        found.iter().all(|k| possible.contains(k)),
                        "{case}: {:#?}",
                        report.findings
                    );
                    assert!(found.len() == 1 || (objects.0[&key][at] == 0 && !is_hot), "{case}");
                    assert!(report.findings.iter().all(|f| f.object == key.as_ref()), "{case}");
                    let shallow = damaged.look("docs", false).await;
                    assert_eq!(shallow.is_whole(), !is_hot, "{case}: {:#?}", shallow.findings);
                    continue;
                }
                NsObject::Pin(_) => (FindingKind::HoldDamaged, true),
                ref other => panic!("{other:?} is not of this world"),
            };
            let report = damaged.look("docs", true).await;
            // A hold is JSON: some letters may change without making it unreadable.
            if kind == FindingKind::HoldDamaged && report.is_whole() {
                continue;
            }
            // A changed version is a newer one.
            if kinds(&report).contains(&FindingKind::Newer) {
                continue;
            }
            assert_found(&report, kind, &key, &case);
            let shallow = damaged.look("docs", false).await;
            assert_eq!(
                !shallow.findings.is_empty(),
                is_shallow,
                "{case}: {:#?}",
                shallow.findings
            );
            let is_needed = !matches!(kind, FindingKind::HintWrong | FindingKind::PastIncomplete);
            assert_eq!(report.is_whole(), !is_needed, "{case}");
        }
    }
    assert!(objects.0.contains_key(&newest));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_or_cut_short_is_found() {
    let objects = world().await;
    let (_, manifest) = objects.newest("docs");
    let needed: BTreeSet<Ulid> = manifest.segments.iter().map(|s| s.meta.id.0).collect();
    for (object, key) in objects.inside("docs") {
        let (mut gone, mut cut) = (objects.clone(), objects.clone());
        gone.0.remove(&key);
        let whole = &objects.0[&key];
        cut.0.insert(key.clone(), whole.slice(..whole.len() - 1));
        let case = format!("{object:?}");
        let (gone, cut) = (gone.look("docs", false).await, cut.look("docs", false).await);
        match object {
            NsObject::Entry(seq) if seq.0 == 10 => {
                // Nobody can tell that there was a later entry; a cut one is there.
                assert_eq!(gone.findings, [], "{case}");
                assert_found(&cut, FindingKind::EntryDamaged, &key, &case);
            }
            NsObject::Entry(seq) if seq.0 > 5 => {
                assert_found(&gone, FindingKind::LogGap, &key, &case);
                assert_found(&cut, FindingKind::EntryDamaged, &key, &case);
            }
            // What is in segments may be collected, oldest first.
            NsObject::Entry(seq) if seq.0 == 1 => assert_eq!(gone.findings, [], "{case}"),
            NsObject::Entry(_) => assert_found(&gone, FindingKind::PastIncomplete, &key, &case),
            NsObject::Segment(id) if needed.contains(&id) => {
                assert_found(&gone, FindingKind::SegmentMissing, &key, &case);
                assert_found(&cut, FindingKind::SegmentDamaged, &key, &case);
            }
            NsObject::Segment(_) => assert_found(&gone, FindingKind::PastIncomplete, &key, &case),
            NsObject::Manifest(generation) if generation.0 == 4 => {
                // The one before it and the log say the same.
                assert!(gone.is_whole(), "{case}: {:#?}", gone.findings);
                assert_found(&cut, FindingKind::ManifestDamaged, &key, &case);
            }
            NsObject::Manifest(generation) if generation.0 == 1 => assert_eq!(gone.findings, [], "{case}"),
            NsObject::Manifest(_) => {
                assert_eq!(kinds(&gone), BTreeSet::from([FindingKind::PastIncomplete]), "{case}");
                assert_found(&cut, FindingKind::ManifestDamaged, &key, &case);
            }
            NsObject::Head => {
                assert_eq!(gone.findings, [], "{case}");
                assert_found(&cut, FindingKind::HintWrong, &key, &case);
            }
            NsObject::Pin(_) => {
                assert_eq!(gone.findings, [], "{case}: nobody here needs it");
                assert_found(&cut, FindingKind::HoldDamaged, &key, &case);
            }
            other => panic!("{other:?} is not of this world"),
        }
    }
    let mut all = objects.clone();
    all.0
        .retain(|key, _| !key.prefix_matches(&paths::wal_prefix(&ns("docs"))));
    let report = all.look("docs", false).await;
    assert_found(
        &report,
        FindingKind::LogGap,
        &paths::wal_prefix(&ns("docs")),
        "no entries",
    );
}

#[tokio::test(start_paused = true)]
async fn a_branch_needs_what_it_shares_and_a_hold_on_it() {
    let objects = world().await;
    let holds: Vec<_> = objects
        .inside("docs")
        .into_iter()
        .filter(|(o, _)| matches!(o, NsObject::Pin(_)))
        .collect();
    assert_eq!(holds.len(), 1);
    let (_, manifest) = objects.newest("docs");
    let shared = paths::segment(&ns("docs"), manifest.segments[0].meta.id.0);
    let later = world::later(&objects).await;
    for (objects, when) in [(&objects, "before its first flush"), (&later, "after it")] {
        let mut unheld = objects.clone();
        unheld.0.remove(&holds[0].1);
        assert_found(
            &unheld.look("branch", false).await,
            FindingKind::HoldMissing,
            &shared,
            when,
        );
        let mut gone = objects.clone();
        gone.0.remove(&shared);
        assert_found(
            &gone.look("branch", false).await,
            FindingKind::SegmentMissing,
            &shared,
            when,
        );
        let mut cut = objects.clone();
        cut.0.insert(shared.clone(), objects.0[&shared].slice(..100));
        assert_found(
            &cut.look("branch", false).await,
            FindingKind::SegmentDamaged,
            &shared,
            when,
        );
        let mut flipped = objects.clone();
        flipped.flip(&shared, 20);
        let report = flipped.look("branch", true).await;
        assert_found(&report, FindingKind::SegmentDamaged, &shared, when);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_another_one_is_found() {
    let objects = world().await;
    // An entry of the tail with another predecessor, and one of another clock.
    let key = objects.entry("docs", 8);
    let (entry, _) = wal::decode(objects.0[&key].clone()).expect("whole");
    let replaced = |change: fn(&mut wal::Entry)| {
        let mut entry = entry.clone();
        change(&mut entry);
        let mut objects = objects.clone();
        objects.0.insert(key.clone(), encoded(&entry));
        objects
    };
    for (case, change) in [
        ("predecessor", (|e| e.prev_digest = Digest(7)) as fn(&mut wal::Entry)),
        ("namespace", |e| e.namespace = uuid::Uuid::from_u128(7)),
        ("clock", |e| e.hlc_ms -= 3_600_000),
    ] {
        let report = replaced(change).look("docs", true).await;
        assert_eq!(
            kinds(&report),
            BTreeSet::from([FindingKind::LogBroken]),
            "{case}: {:#?}",
            report.findings
        );
    }
    // A number that was collected was written anew by somebody who did not know: nobody was told that it counts.
    let mut anew = objects.clone();
    let (mut stray, _) = wal::decode(objects.0[&objects.entry("log", 1)].clone()).expect("whole");
    stray.namespace = uuid::Uuid::from_u128(7);
    for seq in 1..5 {
        anew.0.remove(&objects.entry("docs", seq));
    }
    anew.0.insert(objects.entry("docs", 1), encoded(&stray));
    let report = anew.look("docs", true).await;
    assert_eq!(
        kinds(&report),
        BTreeSet::from([FindingKind::PastIncomplete]),
        "{:#?}",
        report.findings
    );
    assert!(report.is_whole() && report.rows == 92);
    // The manifest is of another log.
    let mut other = objects.clone();
    other.replace_newest("docs", |m| m.indexed_digest = Digest(7));
    let report = other.look("docs", false).await;
    assert_found(
        &report,
        FindingKind::ManifestsBroken,
        &objects.entry("docs", 5),
        "another log",
    );
    // The log is an older one than the manifest's.
    let mut old = objects.clone();
    for seq in 4..=10 {
        old.0.remove(&objects.entry("docs", seq));
    }
    let report = old.look("docs", false).await;
    assert_found(
        &report,
        FindingKind::LogGap,
        &paths::wal_prefix(&ns("docs")),
        "an old log",
    );
    // The manifest follows another one.
    let mut unrelated = objects.clone();
    unrelated.replace_newest("docs", |m| m.prev_digest = Digest(7));
    let report = unrelated.look("docs", false).await;
    assert_found(
        &report,
        FindingKind::ManifestsBroken,
        &objects.newest("docs").0,
        "another past",
    );
}

fn encoded(entry: &wal::Entry) -> Bytes {
    let (payload, _) = wal::encode(entry);
    payload.iter().flat_map(|b| b.to_vec()).collect::<Vec<u8>>().into()
}

#[tokio::test(start_paused = true)]
async fn operations_beside_an_entry_are_looked_at() {
    let mut objects = world().await;
    let key = objects.entry("docs", 10);
    let (mut entry, _) = wal::decode(objects.0[&key].clone()).expect("whole");
    let EntryKind::Data(requests) = &mut entry.kind else {
        panic!("rows were written");
    };
    let staged = wal::stage(&std::mem::take(&mut requests[0].operations))
        .pop()
        .expect("some rows");
    let bytes: Bytes = staged.bytes.iter().flat_map(|b| b.to_vec()).collect::<Vec<u8>>().into();
    let id = Ulid::from_parts(5, 5);
    requests[0].staged = vec![BlobRef {
        key: id,
        len: bytes.len() as u64,
        digest: staged.digest,
    }];
    let blob = paths::blob(&ns("docs"), id);
    objects.0.insert(blob.clone(), bytes.clone());
    objects.0.insert(key.clone(), encoded(&entry));
    let report = objects.look("docs", true).await;
    assert_eq!((report.findings, report.rows), (Vec::new(), 92));
    let mut gone = objects.clone();
    gone.0.remove(&blob);
    assert_found(&gone.look("docs", false).await, FindingKind::BlobLost, &blob, "gone");
    let mut cut = objects.clone();
    cut.0.insert(blob.clone(), bytes.slice(1..));
    assert_found(
        &cut.look("docs", false).await,
        FindingKind::BlobLost,
        &blob,
        "cut short",
    );
    let mut flipped = objects.clone();
    flipped.flip(&blob, bytes.len() / 2);
    assert_eq!(flipped.look("docs", false).await.findings, [], "it was not read");
    assert_found(
        &flipped.look("docs", true).await,
        FindingKind::BlobLost,
        &key,
        "flipped",
    );
}

/// A bitmap as an object of its own.
fn bitmap_object(rows: &RoaringBitmap) -> Bytes {
    let mut bitmap = Vec::new();
    rows.serialize_into(&mut bitmap).expect("memory takes it");
    let mut bytes = b"SHOALDEL".to_vec();
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bitmap).to_le_bytes());
    bytes.extend_from_slice(&bitmap);
    bytes.into()
}

#[tokio::test(start_paused = true)]
async fn deletion_bitmaps_are_looked_at() {
    let mut objects = world().await;
    let (_, manifest) = objects.newest("docs");
    let at = manifest
        .segments
        .iter()
        .position(|s| s.deletions.rows() > 0)
        .expect("rows were deleted");
    let Deletions::Inline(rows) = manifest.segments[at].deletions.clone() else {
        panic!("few rows were deleted");
    };
    let bytes = bitmap_object(&rows);
    let object = DeletionsObject {
        key: Ulid::from_parts(3, 3),
        len: bytes.len() as u64,
        crc: crc32c::crc32c(&bytes),
        rows: rows.len() as u32,
        owner: None,
    };
    let key = paths::deletions(&ns("docs"), object.key);
    objects.0.insert(key.clone(), bytes.clone());
    let named = |object: DeletionsObject| {
        move |m: &mut manifest::Manifest| {
            m.segments[at].deletions = Deletions::Object(object);
        }
    };
    objects.replace_newest("docs", named(object.clone()));
    assert_eq!(objects.look("docs", true).await.findings, []);
    let mut gone = objects.clone();
    gone.0.remove(&key);
    assert_found(
        &gone.look("docs", false).await,
        FindingKind::DeletionsLost,
        &key,
        "gone",
    );
    let mut flipped = objects.clone();
    flipped.flip(&key, bytes.len() - 1);
    assert_found(
        &flipped.look("docs", false).await,
        FindingKind::DeletionsLost,
        &key,
        "flipped",
    );
    // It has another number of rows than the manifest counts.
    let mut miscounted = objects.clone();
    miscounted.replace_newest(
        "docs",
        named(DeletionsObject {
            rows: object.rows - 1,
            ..object
        }),
    );
    let report = miscounted.look("docs", false).await;
    assert_found(&report, FindingKind::DeletionsLost, &key, "miscounted");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_count_of_live_rows_is_found() {
    let mut objects = world().await;
    let (key, _) = objects.newest("docs");
    let bytes = objects.0[&key].clone();
    let mut message = proto::Manifest::decode(&bytes[32..bytes.len() - 16]).expect("a message");
    message.segments[0].live -= 1;
    let mut changed = bytes[..32].to_vec();
    message.encode(&mut changed).expect("memory takes it");
    // The message has the same length: one digit less.
    assert_eq!(changed.len() + 16, bytes.len());
    let digest = xxh3_128(&changed);
    changed.extend_from_slice(&digest.to_le_bytes());
    objects.0.insert(paths::head(&ns("docs")), changed.clone().into());
    objects.0.insert(key.clone(), changed.into());
    let report = objects.look("docs", false).await;
    assert!(
        kinds(&report).contains(&FindingKind::ManifestDamaged),
        "{:#?}",
        report.findings
    );
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.object == key.as_ref() && f.what.contains("add up"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_live_twice_is_found() {
    let objects = world().await;
    // Rows that were replaced live again.
    let mut twice = objects.clone();
    twice.replace_newest("docs", |m| {
        m.segments.iter_mut().for_each(|s| s.deletions = Deletions::None)
    });
    assert_eq!(twice.look("docs", false).await.findings, [], "nobody has read the ids");
    let report = twice.look("docs", true).await;
    let segment = paths::segment(&ns("docs"), objects.newest("docs").1.segments[0].meta.id.0);
    assert_found(&report, FindingKind::IdTwice, &segment, "between segments");
    let is_named = |id: u64| {
        report
            .findings
            .iter()
            .any(|f| f.what.starts_with(&format!("row {id} is live")))
    };
    assert!(is_named(5) && is_named(60) && !is_named(6), "{:#?}", report.findings);
    // The same segment under two names.
    let mut copied = objects.clone();
    let old = objects.inside("docs").into_iter().find_map(|(o, key)| match o {
        NsObject::Segment(id) if objects.newest("docs").1.segments.iter().all(|s| s.meta.id.0 != id) => Some((id, key)),
        _ => None,
    });
    let (id, _) = old.expect("one that was merged away");
    let first = objects.manifests("docs").into_iter().find_map(|key| {
        let (manifest, _) = manifest::decode(&objects.0[&key]).expect("whole");
        manifest.segments.into_iter().find(|s| s.meta.id.0 == id)
    });
    let first = first.expect("an old manifest names it");
    copied.replace_newest("docs", |m| m.segments.push(first));
    let report = copied.look("docs", true).await;
    assert_eq!(
        kinds(&report),
        BTreeSet::from([FindingKind::IdTwice]),
        "{:#?}",
        report.findings
    );
    assert!(
        report.findings.last().expect("some").what.contains("more rows"),
        "{:#?}",
        report.findings
    );
}

#[tokio::test(start_paused = true)]
async fn orphans_and_foreign_objects_are_counted() {
    let mut objects = world().await;
    let directory = paths::namespace_prefix(&ns("docs"));
    let orphans = [
        paths::segment(&ns("docs"), Ulid::from_parts(9, 9)),
        paths::deletions(&ns("docs"), Ulid::from_parts(9, 9)),
        paths::blob(&ns("docs"), Ulid::from_parts(9, 9)),
    ];
    for key in orphans {
        objects.0.insert(key, Bytes::from_static(b"12345"));
    }
    objects
        .0
        .insert(Path::from(format!("{directory}/notes.txt")), Bytes::from_static(b"?"));
    let report = objects.look("docs", true).await;
    assert_eq!(
        (report.findings, report.orphans, report.orphan_bytes),
        (Vec::new(), 3, 15)
    );
    assert_eq!(report.foreign, 1);
    assert_eq!(
        objects.look("docs", false).await.orphans,
        2,
        "who names blobs was not read"
    );
}

/// Whatever is published and collected while it is looked at, and whenever: nothing is called damaged.
#[tokio::test(start_paused = true)]
async fn a_namespace_that_changes_meanwhile_is_not_called_damaged() {
    let before = world().await;
    let mut after = world::later(&before).await;
    // What the newest manifest does not need is collected at once.
    let (_, newest) = after.newest("docs");
    let needed: BTreeSet<Ulid> = newest.segments.iter().map(|s| s.meta.id.0).collect();
    for (object, key) in after.inside("docs") {
        let goes = match object {
            NsObject::Entry(seq) => seq <= newest.indexed_seq && seq != Seq(10),
            NsObject::Manifest(generation) => generation < newest.generation,
            NsObject::Segment(id) => !needed.contains(&id),
            _ => false,
        };
        if goes {
            after.0.remove(&key);
        }
    }
    assert_eq!(after.look("docs", true).await.findings, []);
    for deep in [false, true] {
        let undisturbed = FaultStore::new(before.bucket().await, Rng::seeded(1), FaultRates::healthy());
        look(Arc::new(undisturbed.clone()), "docs", deep).await;
        let (mut call, mut again) = (0, 0);
        loop {
            let bucket = before.bucket().await;
            let slow = FaultStore::new(bucket.clone(), Rng::seeded(1), FaultRates::healthy());
            slow.fail_call(call, Fault::Slow(Duration::from_secs(4)));
            let (looked, ()) = tokio::join!(look(Arc::new(slow.clone()), "docs", deep), async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                become_of(&bucket, &before, &after).await;
            });
            assert!(looked.is_whole(), "deep: {deep}, call {call}: {:#?}", looked.findings);
            if slow.calls() <= call {
                break;
            }
            again += usize::from(slow.calls() > undisturbed.calls());
            call += 1;
        }
        assert!(
            call > 12 && again > 5,
            "{call} calls were slow, {again} times it was looked at again"
        );
    }
}

async fn become_of(bucket: &object_store::memory::InMemory, before: &Objects, after: &Objects) {
    for (key, bytes) in &after.0 {
        bucket.put(key, bytes.clone().into()).await.expect("written");
    }
    for key in before.0.keys().filter(|key| !after.0.contains_key(*key)) {
        bucket.delete(key).await.expect("deleted");
    }
}
