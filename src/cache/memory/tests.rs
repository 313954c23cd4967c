use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::OrgId;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn memory(bytes: u64) -> Memory {
    Memory::new(bytes, &Ledger::with_caches(1 << 20, 1 << 20, 1 << 40))
}

fn object(name: &str, org: &str) -> ObjectRef {
    ObjectRef {
        key: Arc::new(name.into()),
        len: 1 << 30,
        org: OrgId::parse(org).expect("valid"),
    }
}

/// Bytes that tell where they are.
fn content(range: Range<u64>) -> Bytes {
    range.map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn put(memory: &Memory, object: &ObjectRef, range: Range<u64>, kind: ReadKind) {
    memory.insert(object, range.start, &content(range), kind, true);
}

fn has(memory: &Memory, object: &ObjectRef, range: Range<u64>) -> bool {
    memory.slice(object, &range, ReadKind::Rows).is_some()
}

#[test]
fn reads_within_what_was_read_together_share_its_memory() {
    let (memory, object) = (memory(512 * MIB), object("o", "a"));
    let body = content(0..4 * MIB);
    memory.insert(&object, 0, &body, ReadKind::Rows, true);
    for range in [0..4 * MIB, 0..1, 65_000..70_000, 100..2 * MIB] {
        let found = memory.slice(&object, &range, ReadKind::Rows).expect("there");
        assert_eq!(found, body[range.start as usize..range.end as usize]);
        assert_eq!(
            found.as_ptr(),
            body[range.start as usize..].as_ptr(),
            "{range:?} was copied"
        );
    }
    // What a segment keeps for as long as it is open does not keep what lies around it.
    let hot = memory.slice(&object, &(10..20), ReadKind::Hot).expect("there");
    assert_ne!(hot.as_ptr(), body[10..].as_ptr());
}

#[test]
fn what_came_in_pieces_is_one_after_the_first_read() {
    let (memory, object) = (memory(512 * MIB), object("o", "a"));
    for start in (0..256 * KIB).step_by(8 << 10) {
        put(&memory, &object, start..start + 8 * KIB, ReadKind::Rows);
    }
    let range = 10_000..200_000;
    let weight = memory.weight();
    let first = memory.slice(&object, &range, ReadKind::Rows).expect("there");
    assert_eq!(first, content(range.clone()));
    assert!(memory.weight() < weight, "it has fewer runs");
    let second = memory.slice(&object, &range, ReadKind::Rows).expect("there");
    assert_eq!(first.as_ptr(), second.as_ptr());
    assert_eq!(memory.bytes_of(&object), 256 * KIB);
    // A small read does not make one of much.
    put(&memory, &object, 256 * KIB..2 * MIB, ReadKind::Rows);
    let across = 255 * KIB..320 * KIB;
    assert_eq!(
        memory.slice(&object, &across, ReadKind::Rows).expect("there"),
        content(across)
    );
    assert!(has(&memory, &object, 256 * KIB..2 * MIB));
}

#[test]
fn what_is_used_stays_and_what_is_worth_more_stays_longer() {
    let memory = memory(16 * MIB);
    let object = object("o", "a");
    put(&memory, &object, 0..64 * KIB, ReadKind::Rows);
    put(&memory, &object, 900 * MIB..900 * MIB + 64 * KIB, ReadKind::Index);
    // Read once, they go through.
    for i in 1..1000 {
        let start = i * 64 * KIB;
        put(&memory, &object, start..start + 64 * KIB, ReadKind::Rows);
        assert!(
            has(&memory, &object, 0..64 * KIB),
            "after {i}, though it is read all the time"
        );
        assert!(memory.weight() <= memory.capacity());
    }
    assert!(!has(&memory, &object, 100 * 64 * KIB..101 * 64 * KIB));
    assert!(!has(&memory, &object, 900 * MIB..900 * MIB + 1), "nobody read it again");
    // Larger than everything: not kept, and nothing goes for it.
    let before = memory.weight();
    memory.insert_decoded(&object, 1, Arc::new(1_u8), 1 << 40, ReadKind::Index);
    assert!(memory.decoded(&object.key, 1).is_none());
    assert_eq!(memory.weight(), before);
}

#[test]
fn an_organization_with_more_than_its_share_makes_room_for_itself() {
    let memory = memory(16 * MIB);
    let (small, large, other) = (object("s", "small"), object("l", "large"), object("x", "other"));
    for i in 0..16 {
        put(&memory, &small, i * 128 * KIB..(i + 1) * 128 * KIB, ReadKind::Rows);
    }
    let all_of_small = memory.bytes_of(&small);
    // A flood, read again and again.
    for i in 0..1000 {
        let range = i * 64 * KIB..(i + 1) * 64 * KIB;
        put(&memory, &large, range.clone(), ReadKind::Index);
        memory.slice(&large, &range, ReadKind::Index);
    }
    assert_eq!(memory.bytes_of(&small), all_of_small, "below its share");
    assert!(memory.bytes_of(&large) > 9 * MIB, "the rest is for who needs it");
    // A third gets its part from who has most.
    for i in 0..64 {
        put(&memory, &other, i * 64 * KIB..(i + 1) * 64 * KIB, ReadKind::Rows);
    }
    assert_eq!(memory.bytes_of(&small), all_of_small);
    assert!(memory.bytes_of(&other) > 3 * MIB, "{}", memory.bytes_of(&other));
    memory.purge(std::slice::from_ref(&large));
    assert_eq!(memory.bytes_of(&large), 0);
    memory.demote(&small);
    assert_eq!(memory.bytes_of(&small), all_of_small);
}

proptest! {
    /// Whatever is put, joined, evicted and dropped: what is found is what was put, and the sums are right.
    #[test]
    fn memory_has_what_was_put_or_nothing(
        steps in proptest::collection::vec((0u8..6, 0u64..3, 0u64..40, 1u64..30, any::<bool>()), 1..120),
        bytes in 300_000u64..2_000_000,
    ) {
        let memory = memory(bytes);
        let objects = [object("a", "a"), object("b", "b"), object("c", "b")];
        for (what, which, start, len, is_vector) in steps {
            let object = &objects[which as usize];
            let range = start * 4 * KIB..(start + len) * 4 * KIB;
            let kind = if is_vector { ReadKind::Vectors } else { ReadKind::Rows };
            match what {
                0 | 1 => put(&memory, object, range, kind),
                2 | 3 => if let Some(found) = memory.slice(object, &(range.start + 5..range.end), kind) {
                    prop_assert_eq!(found, content(range.start + 5..range.end));
                },
                4 => memory.insert_decoded(object, start, Arc::new(start), len * 1000, kind),
                _ if len % 4 == 0 => memory.purge(std::slice::from_ref(object)),
                _ => memory.demote(object),
            }
            if let Some((value, _)) = memory.decoded(&object.key, start) {
                prop_assert_eq!(value.downcast_ref::<u64>(), Some(&start));
            }
            prop_assert!(memory.weight() <= memory.capacity());
        }
        memory.purge(&objects);
        prop_assert_eq!(memory.weight(), 0);
    }
}
