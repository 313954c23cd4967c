//! Unpacked pages that the cache keeps, and pages unpacked side by side.

use arrow::array::LargeStringArray;

use super::*;
use crate::model::FullTextConfig;

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

/// Pages of many streams, directories, codes and what they have cost are all decoded of one object.
#[tokio::test]
async fn pages_of_many_wide_attributes_are_not_taken_for_indexes() {
    const ROWS: u64 = 200;
    const WIDE: u32 = 12;
    let world = World::new();
    let narrow: Vec<Attribute> = (0..3).map(|id| attribute(id, "int", true)).collect();
    let wide = (3..3 + WIDE).map(|id| attribute(id, "string", false));
    let attributes: Vec<Attribute> = narrow.iter().cloned().chain(wide).collect();
    let column = |a: &Attribute| match a.id.0 < 3 {
        true => filled(a, ROWS as usize, Fill::Few).expect("some"),
        false => {
            let text = |row: u64| format!("{:x}", mix(row ^ u64::from(a.id.0) << 32)).repeat(200);
            Column::Values(Arc::new(LargeStringArray::from_iter_values((0..ROWS).map(text))))
        }
    };
    let rows = Rows {
        ids: ids(IdKind::UInt, ROWS as usize, 7),
        columns: attributes.iter().map(|a| (a.id, column(a))).collect(),
    };
    let encoded = encode(ID, &rows, &schema(&attributes), &OPTIONS);
    world.put(&encoded).await;
    let numbers: Vec<u32> = (0..ROWS as u32).collect();
    for pages_first in [true, false] {
        let options = CacheOptions::memory_only(256 << 20);
        let cache = Cache::new(world.store.clone(), &world.runtime, options);
        let segment = Segment::open(encoded.meta.clone(), &world.ns, &cache, &CpuPool::inline()).await;
        let segment = segment.expect("it is whole");
        let fetch = async || {
            // They are kept from the second time on.
            for _ in 0..3 {
                let found = segment.fetch(&numbers, &attributes, ReadKind::Rows).await;
                assert_rows(&found.expect("it is whole"), &rows, &attributes);
            }
        };
        if pages_first {
            fetch().await;
        }
        for a in &narrow {
            let index = segment
                .attribute_index(a)
                .await
                .expect("it is whole")
                .expect("filterable");
            segment.index_spent(a).await.expect("nothing is read");
            let codes = segment
                .codes(a, &index)
                .await
                .expect("it is whole")
                .expect("few values");
            assert_eq!((codes.rows(), codes.count()), (ROWS as usize, 6));
            assert!(segment.codes_kept(a).await.is_some());
        }
        fetch().await;
        let held = cache.stats().memory_bytes;
        assert!(
            held > encoded.meta.logical_bytes / 4 * 3,
            "{held}: pages are kept unpacked"
        );
        check(&segment, &rows, &attributes).await.expect("it is whole");
    }
}

/// Texts that were stored with other tokens than the attribute has now are analysed once.
#[tokio::test]
async fn what_was_analysed_is_kept() {
    let world = World::new();
    let (attribute, rows) = indexes::full_text(FullTextConfig::default(), 500);
    let encoded = encode(ID, &rows, &schema(std::slice::from_ref(&attribute)), &OPTIONS);
    world.put(&encoded).await;
    let options = CacheOptions::memory_only(256 << 20);
    let cache = Cache::new(world.store.clone(), &world.runtime, options);
    let segment = Segment::open(encoded.meta.clone(), &world.ns, &cache, &CpuPool::inline()).await;
    let segment = segment.expect("it is whole");
    assert!(segment.has_text(&attribute));
    for case_sensitive in [true, false] {
        let config = FullTextConfig {
            case_sensitive,
            max_token_length: 3,
            ..FullTextConfig::default()
        };
        let changed = Attribute {
            full_text: Some(config),
            ..attribute.clone()
        };
        assert!(!segment.has_text(&changed));
        let asked = async || {
            let found = segment.text(&changed, &indexes::exact(&["fox"])).await;
            found.expect("it is whole").expect("there are texts")
        };
        let (first, second) = (asked().await, asked().await);
        assert!(Arc::ptr_eq(&first, &second) && segment.has_text(&changed));
        assert_eq!(first.config(), &config);
        assert!(first.postings("common").is_empty() && !first.postings("fox").is_empty());
    }
}

/// An index that was built for other options answers what it can until the segment is written anew.
#[tokio::test]
async fn indexes_outlive_a_change_of_options() {
    let world = World::new();
    let plain = attribute(0, "string", true);
    let of = |filterable, glob| Attribute {
        filterable,
        glob,
        ..plain.clone()
    };
    let column = filled(&plain, 2000, Fill::Few).expect("it is there");
    let rows = Rows {
        ids: ids(IdKind::UInt, 2000, 1),
        columns: BTreeMap::from([(AttrId(0), column.clone())]),
    };
    let all = [of(true, false), of(true, true), of(false, true), of(false, false)];
    for written in &all {
        let segment = world
            .stored(&encode(ID, &rows, &schema(std::slice::from_ref(written)), &OPTIONS))
            .await;
        for now in &all {
            let (was, is) = ((written.filterable, written.glob), (now.filterable, now.glob));
            let found = segment.attribute_index(now).await.expect("it is whole");
            let wants = is != (false, false);
            assert_eq!(found.is_some(), wants && was != (false, false), "{was:?} {is:?}");
            if let Some(found) = found.filter(|_| written.filterable) {
                assert!(found.has_values());
                let filterable = of(true, now.glob);
                attributes::check(&segment, &filterable, Some(&column))
                    .await
                    .expect("it is whole");
            }
            let lacks = segment.lacks_index(&schema(std::slice::from_ref(now)));
            assert_eq!(lacks, wants && was != is, "{was:?} {is:?}");
        }
    }
}
