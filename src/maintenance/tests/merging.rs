//! Which segments are merged.

use ulid::Ulid;

use super::*;
use crate::maintenance::merge::policy::{Candidate, choose};
use crate::model::Seq;
use crate::segment::SegmentId;

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
