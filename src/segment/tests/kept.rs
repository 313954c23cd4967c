//! Unpacked pages that the cache keeps, and pages unpacked side by side.

use super::*;

/// A segment that is read through a memory tier, by three threads.
#[tokio::test]
async fn rows_are_the_same_however_often_and_by_how_many_they_are_unpacked() {
    let world = World::new();
    let (attributes, rows) = every_type(IdKind::String, 3000, |_| Fill::Random);
    let encoded = encode(ID, &rows, &schema(&attributes), &OPTIONS);
    world.put(&encoded).await;
    let cache = Cache::new(
        world.store.clone(),
        &world.runtime,
        CacheOptions::memory_only(256 << 20),
    );
    let segment = Segment::open(encoded.meta.clone(), &world.ns, &cache, &CpuPool::new(3)).await;
    let segment = segment.expect("it is whole");
    let some: Vec<u32> = (0..3000).step_by(7).collect();
    let backwards: Vec<u32> = some.iter().rev().copied().collect();
    let all: Vec<u32> = (0..3000).collect();
    let mut gets = 0;
    for round in 0..4 {
        // Those of an earlier round are there, others are not.
        let also = round * 100..round * 100 + 50;
        for numbers in [&some, &backwards, &also.collect(), &all] {
            let found = segment.fetch(numbers, &attributes, ReadKind::Rows).await;
            assert_rows(&found.expect("it is whole"), &take(&rows, numbers), &attributes);
        }
        world.requests(&mut gets);
    }
    // By now what is asked for is unpacked: the bytes are not looked at.
    let before = cache.stats();
    let scalars: Vec<_> = attributes.iter().filter(|a| !a.ty.is_vector()).cloned().collect();
    segment
        .fetch(&some, &scalars, ReadKind::Rows)
        .await
        .expect("it is whole");
    let after = cache.stats();
    let read = after.reads.memory_bytes - before.reads.memory_bytes;
    assert!(read >= encoded.meta.logical_bytes / 4, "{read} bytes of unpacked pages");
    assert_eq!(after.memory_bytes, before.memory_bytes);
    assert_eq!(world.requests(&mut gets), 0);
    // Who reads everything once keeps nothing.
    let fresh = Cache::new(
        world.store.clone(),
        &world.runtime,
        CacheOptions::memory_only(256 << 20),
    );
    let segment = Segment::open(encoded.meta.clone(), &world.ns, &fresh, &CpuPool::new(3)).await;
    let segment = segment.expect("it is whole");
    let held = fresh.stats().memory_bytes;
    for _ in 0..3 {
        let found = segment.fetch(&all, &attributes, ReadKind::Scan).await;
        assert_rows(&found.expect("it is whole"), &rows, &attributes);
    }
    assert_eq!(fresh.stats().memory_bytes, held);
}
