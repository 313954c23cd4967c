//! The pure part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use ulid::Ulid;
use uuid::Uuid;

use crate::maintenance::gc::{Blobs, Found, Held, Keep, Oldest, Plan, Retained, View, plan, retained};
use crate::manifest::{Deletions, Gen, Manifest, ManifestSegment};
use crate::model::{Incarnation, Recent, Schema, Seq, Settings};
use crate::segment::{SegmentId, SegmentMeta};
use crate::store::paths::{NsObject, OperationPart};
use crate::wal::Digest;

const HOUR: u64 = 3_600_000;

fn keep(grace: u64, retention: u64) -> Keep {
    Keep {
        grace: Duration::from_millis(grace * HOUR),
        retention: Duration::from_millis(retention * HOUR),
    }
}

fn manifest(generation: u64, indexed: u64, segments: &[u128]) -> Manifest {
    let segment = |id: &u128| ManifestSegment {
        meta: SegmentMeta {
            id: SegmentId(Ulid::from(*id)),
            level: 0,
            rows: 1,
            min_seq: Seq(1),
            max_seq: Seq(1),
            len: 100,
            hot_offset: 0,
            hot_len: 10,
            hot_crc: 0,
            logical_bytes: 1,
            owner: None,
            inline: None,
            made_as: None,
        },
        deletions: Deletions::None,
    };
    Manifest {
        generation: Gen(generation),
        prev_digest: Digest(1),
        namespace: Uuid::nil(),
        writer: 1,
        job: Ulid::nil(),
        created_ms: 0,
        indexed_seq: Seq(indexed),
        indexed_digest: Digest(2),
        hlc_ms: 0,
        incarnation: Some(Incarnation::begin(Uuid::nil(), Seq(1), 0)),
        schema: Arc::new(Schema::default()),
        settings: Arc::new(Settings::default()),
        recent: Arc::new(Recent::default()),
        segments: segments.iter().map(segment).collect(),
        pins: Vec::new(),
    }
}

fn found(object: NsObject, hour: u64) -> Found {
    Found {
        object,
        written_ms: hour * HOUR,
        bytes: 1,
    }
}

fn entry(seq: u64, hour: u64) -> Found {
    found(NsObject::Entry(Seq(seq)), hour)
}

fn man(generation: u64, hour: u64) -> Found {
    found(NsObject::Manifest(Gen(generation)), hour)
}

fn seg(id: u128, hour: u64) -> Found {
    found(NsObject::Segment(Ulid::from(id)), hour)
}

/// What a collector plans that can read these manifests.
fn planned(listing: &[Found], manifests: &[Manifest], pins: &[Held], now: u64, keep: Keep) -> Plan {
    let oldest = retained(listing, now * HOUR, keep).oldest;
    let oldest = manifests.iter().find(|m| m.generation == oldest);
    let view = View {
        listing,
        oldest: &oldest.map(Oldest::of).unwrap_or_default(),
        pins,
        blobs: Blobs::Named(&BTreeSet::new()),
        now_ms: now * HOUR,
    };
    plan(&view, keep).expect("all was read")
}

#[test]
fn a_manifest_is_retained_as_long_as_its_successor_is_young() {
    let listing = [man(1, 10), man(2, 20), man(3, 30)];
    for (now, keep, oldest, after) in [
        (30, keep(5, 0), 2, 30),
        (35, keep(5, 0), 2, 30),
        (36, keep(5, 0), 3, 36),
        (15, keep(5, 0), 0, 10),
        (16, keep(5, 0), 1, 20),
        (36, keep(5, 5), 2, 30),
        (36, keep(5, 100), 0, 10),
    ] {
        let expected = Retained {
            oldest: Gen(oldest),
            newest: Gen(3),
            named_after_ms: after * HOUR,
        };
        assert_eq!(retained(&listing, now * HOUR, keep), expected, "{now} {keep:?}");
    }
    // When the first is gone, so is the state before it.
    let expected = Retained {
        oldest: Gen(2),
        newest: Gen(3),
        named_after_ms: 30 * HOUR,
    };
    assert_eq!(retained(&listing[1..], 21 * HOUR, keep(5, 0)), expected);
    // Where one is missing in between, it may have been published soon after the one before it.
    let expected = Retained {
        oldest: Gen(2),
        newest: Gen(4),
        named_after_ms: 10 * HOUR,
    };
    assert_eq!(retained(&[man(2, 10), man(4, 30)], 31 * HOUR, keep(5, 0)), expected);
    assert_eq!(retained(&[], 0, keep(5, 0)).newest, Gen::ZERO);
}

#[test]
fn what_goes_and_in_which_order() {
    let all = [manifest(1, 2, &[1]), manifest(2, 4, &[2]), manifest(3, 5, &[3])];
    let token = Ulid::from(70u128);
    let listing = [
        seg(1, 1),
        seg(2, 2),
        seg(3, 3),
        seg(99, 1),
        seg(98, 29),
        entry(1, 1),
        entry(2, 1),
        entry(3, 2),
        entry(4, 2),
        entry(5, 3),
        entry(6, 3),
        man(1, 2),
        man(2, 3),
        man(3, 4),
        found(NsObject::Blob(Ulid::from(50u128)), 1),
        found(NsObject::Head, 1),
        found(NsObject::Operation(token, OperationPart::Done), 1),
        found(NsObject::Operation(token, OperationPart::Start), 1),
    ];
    let doomed = |now, keep| -> Vec<String> {
        let plan = planned(&listing, &all, &[], now, keep);
        let name = |f: &Found| match &f.object {
            NsObject::Entry(seq) => format!("e{seq}"),
            NsObject::Manifest(generation) => format!("m{}", generation.0),
            NsObject::Segment(id) => format!("s{}", id.0),
            NsObject::Blob(_) => "blob".into(),
            NsObject::Operation(_, part) => format!("{part:?}"),
            other => format!("{other:?}"),
        };
        plan.doomed.iter().map(name).collect()
    };
    // How an operation ended stays until it is known that nothing says any more that it began.
    let rest = ["blob", "Start"];
    let expect = |first: &[&str]| -> Vec<String> { first.iter().chain(&rest).map(|s| s.to_string()).collect() };
    assert_eq!(
        doomed(30, keep(5, 0)),
        expect(&["m1", "m2", "e1", "e2", "e3", "e4", "e5", "s1", "s2", "s99"])
    );
    // Manifest 2 was succeeded 26 hours ago, manifest 1 27 hours ago. What was uploaded so early may be named by manifest 3.
    assert_eq!(doomed(30, keep(5, 24)), expect(&["m1", "e1", "e2", "e3", "e4"]));
    assert_eq!(
        doomed(30, keep(1, 26)),
        expect(&["m1", "e1", "e2", "e3", "e4", "s1", "s99"])
    );
    assert_eq!(doomed(30, keep(5, 40)), expect(&[]));
    assert_eq!(doomed(30, keep(40, 0)), Vec::<String>::new());
    let ended: Vec<Found> = listing
        .iter()
        .filter(|f| f.object != NsObject::Operation(token, OperationPart::Start))
        .cloned()
        .collect();
    let plan = planned(&ended, &all, &[], 30, keep(5, 0));
    assert!(
        plan.doomed
            .iter()
            .any(|f| f.object == NsObject::Operation(token, OperationPart::Done))
    );
}

#[test]
fn the_newest_entry_stays_and_so_does_all_where_nothing_is_indexed() {
    let listing = [entry(1, 0), entry(2, 0)];
    assert_eq!(planned(&listing, &[], &[], 1000, keep(1, 0)), Plan::default());
    let manifests = [manifest(7, 2, &[])];
    let listing = [entry(1, 0), entry(2, 0), man(7, 0)];
    let plan = planned(&listing, &manifests, &[], 1000, keep(1, 0));
    assert_eq!(plan.doomed, [entry(1, 0)]);
    assert!(plan.later);
    assert!(!planned(&listing[1..], &manifests, &[], 1000, keep(1, 0)).later);
}

#[test]
fn a_hold_keeps_its_objects_and_goes_alone_first() {
    let manifests = [manifest(7, 1, &[])];
    let id = Ulid::from(60u128);
    let listing = [entry(1, 0), man(7, 0), seg(1, 0), found(NsObject::Pin(id), 0)];
    for needed in [true, false] {
        let held = Held {
            id,
            objects: BTreeSet::from([NsObject::Segment(Ulid::from(1u128))]),
            needed,
        };
        let plan = planned(&listing, &manifests, &[held], 1000, keep(1, 0));
        let expected: &[Found] = if needed { &[] } else { &listing[3..] };
        assert_eq!(plan.doomed, expected);
        assert!(plan.later);
    }
    assert_eq!(
        planned(&listing[..3], &manifests, &[], 1000, keep(1, 0)).doomed,
        [seg(1, 0)]
    );
}

#[test]
fn a_blob_goes_when_no_entry_that_stays_can_name_it() {
    let blob = |id: u128, hour| found(NsObject::Blob(Ulid::from(id)), hour);
    let listing = [entry(5, 90), man(7, 90), blob(1, 10), blob(2, 20), blob(3, 98)];
    let named = BTreeSet::from([Ulid::from(2u128)]);
    for (blobs, expected) in [
        (Blobs::Since(0), &[][..]),
        (Blobs::Since(20 * HOUR), &listing[2..3]),
        (Blobs::Since(1000 * HOUR), &listing[2..4]),
        (Blobs::Named(&named), &listing[2..3]),
    ] {
        let view = View {
            listing: &listing,
            oldest: &Oldest::of(&manifest(7, 5, &[])),
            pins: &[],
            blobs,
            now_ms: 100 * HOUR,
        };
        let plan = plan(&view, keep(5, 0)).expect("it was read");
        assert_eq!(plan.doomed, expected, "{blobs:?}");
        assert!(plan.later);
    }
}

#[test]
fn a_retained_manifest_that_was_not_read_stops_everything() {
    let listing = [man(1, 0), man(2, 999), seg(1, 0)];
    let view = View {
        listing: &listing,
        oldest: &Oldest::of(&manifest(2, 2, &[])),
        pins: &[],
        blobs: Blobs::Since(0),
        now_ms: 1000 * HOUR,
    };
    assert!(plan(&view, keep(5, 0)).is_err());
}

proptest! {
    /// I9: nothing goes that a retained manifest, a hold, the log or the grace time needs; whatever was deleted before.
    #[test]
    fn nothing_that_is_needed_goes(
        // For each manifest: hours since the one before, and entries it adds.
        steps in prop::collection::vec((0u64..10, 0u64..4), 1..10),
        // For each segment: the first manifest that names it and the first that does not any more, and how many hours, at
        // most the grace time, it was there before it was named. What no manifest names was given up.
        lives in prop::collection::vec((1u64..12, 1u64..12, 0u64..20), 12),
        tail in 0u64..4,
        grace in 1u64..20,
        retention in 0u64..30,
        later in prop::collection::vec(0u64..30, 1..4),
        held in prop::collection::btree_set(0u128..12, 0..3),
        stop in 0usize..40,
    ) {
        let (mut at, mut seq) = (20, 0);
        let mut manifests = Vec::new();
        let mut listing: Vec<Found> = Vec::new();
        let mut created = BTreeMap::new();
        for (n, (hours, entries)) in steps.iter().enumerate() {
            at += hours;
            for _ in 0..*entries {
                seq += 1;
                listing.push(entry(seq, at));
            }
            let generation = n as u64 + 1;
            let lives = lives.iter().enumerate();
            let named = lives.filter(|(_, (first, end, _))| (*first..*end).contains(&generation));
            let ids: Vec<u128> = named.map(|(id, _)| id as u128).collect();
            manifests.push(manifest(generation, seq, &ids));
            listing.push(man(generation, at));
            created.insert(generation, at);
        }
        for _ in 0..tail {
            seq += 1;
            listing.push(entry(seq, at));
        }
        listing.extend(lives.iter().enumerate().map(|(id, (first, _, before))| {
            let named = created.get(first).copied().unwrap_or(at);
            seg(id as u128, named - before.min(&grace))
        }));
        let newest = manifests.len() as u64;
        let pin = Held {
            id: Ulid::from(1u128),
            objects: held.iter().map(|id| NsObject::Segment(Ulid::from(*id))).collect(),
            needed: true,
        };
        let mut now = at;
        for hours in later {
            now += hours;
            let keep = keep(grace, retention);
            let plan = planned(&listing, &manifests, std::slice::from_ref(&pin), now, keep);
            // The definition, once more and slowly.
            let needed = |generation: u64| {
                generation == newest || created[&(generation + 1)] + grace.max(retention) >= now
            };
            let retained: Vec<&Manifest> = manifests.iter().filter(|m| needed(m.generation.0)).collect();
            let from_start = created[&1] + grace.max(retention) >= now;
            for gone in &plan.doomed {
                prop_assert!(gone.written_ms / HOUR + grace < now, "{gone:?} is young");
                match gone.object {
                    NsObject::Manifest(generation) => {
                        prop_assert!(retained.iter().all(|m| m.generation != generation));
                    }
                    NsObject::Segment(id) => {
                        prop_assert!(retained.iter().all(|m| m.segment(SegmentId(id)).is_none()));
                        prop_assert!(!held.contains(&id.0));
                    }
                    NsObject::Entry(gone) => {
                        prop_assert!(!from_start && gone.0 != seq);
                        prop_assert!(retained.iter().all(|m| m.indexed_seq >= gone));
                    }
                    _ => prop_assert!(false, "{gone:?}"),
                }
            }
            // It stops anywhere; what is left has no gaps.
            let done: BTreeSet<_> = plan.doomed.iter().take(stop).map(|f| f.object.clone()).collect();
            listing.retain(|f| !done.contains(&f.object));
            let left = |number: &dyn Fn(&NsObject) -> Option<u64>| {
                let mut left: Vec<u64> = listing.iter().filter_map(|f| number(&f.object)).collect();
                left.sort_unstable();
                left.windows(2).all(|pair| pair[1] == pair[0] + 1)
            };
            let entries = left(&|o| match o { NsObject::Entry(seq) => Some(seq.0), _ => None });
            let generations = left(&|o| match o { NsObject::Manifest(generation) => Some(generation.0), _ => None });
            prop_assert!(generations);
            // The newest may be left alone.
            prop_assert!(entries || tail == 0);
        }
        // After a long time only what the newest manifest needs is left, in one go.
        let plan = planned(&listing, &manifests, &[], now + 10_000, keep(grace, retention));
        let gone: BTreeSet<_> = plan.doomed.iter().map(|f| f.object.clone()).collect();
        listing.retain(|f| !gone.contains(&f.object));
        let last = manifests.last().expect("at least one");
        for left in &listing {
            match left.object {
                NsObject::Manifest(generation) => prop_assert_eq!(generation, last.generation),
                NsObject::Segment(id) => prop_assert!(last.segment(SegmentId(id)).is_some()),
                NsObject::Entry(left) => prop_assert!(left > last.indexed_seq || left.0 == seq),
                _ => prop_assert!(false, "{left:?}"),
            }
        }
        prop_assert!(!planned(&listing, &manifests, &[], now + 10_000, keep(grace, retention)).later);
    }
}
