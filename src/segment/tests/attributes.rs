//! Attribute indexes of segments.

use std::ops::{Bound, Range};

use arrow::array::AsArray;
use async_trait::async_trait;

use super::*;
use crate::base::Bitset;
use crate::index::attribute::{AttributeIndex, Blocks, Groups, Key, Predicate, build};
use crate::store::StoreError;

struct Memory(Bytes);

#[async_trait]
impl Blocks for Memory {
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let slice = |r: &Range<u64>| self.0.slice(r.start as usize..r.end as usize);
        Ok(ranges.iter().map(slice).collect())
    }
}

/// All values with the numbers of their rows. Reads everything that is not in the directory.
pub async fn groups(index: &AttributeIndex) -> crate::index::attribute::Result<Option<Groups>> {
    let mut set = Bitset::full(index.rows() as usize);
    if !set.is_empty() {
        set.remove(0);
    }
    index.groups(&Arc::new(set), Bound::Unbounded, usize::MAX).await
}

/// The index says what one says that is built from the rows.
pub async fn check(segment: &Segment, a: &Attribute, column: Option<&Column>) -> Result<(), SegmentError> {
    let stored = segment.attribute_index(a).await?;
    let values = column.filter(|c| matches!(c, Column::Values(array) if array.null_count() < array.len()));
    let (Some(stored), Some(values)) = (&stored, values) else {
        assert_eq!(stored.is_some(), values.is_some(), "{}", a.ty);
        return Ok(());
    };
    let built = build(values, a).expect("it is filterable");
    let (rows, area) = (segment.rows(), built.blocks.len() as u64);
    let blocks = Arc::new(Memory(built.blocks));
    let expected = AttributeIndex::open(&built.directory, rows, area, a, blocks, &CpuPool::inline());
    let expected = expected.expect("it was just built");
    let damaged = |e: crate::index::attribute::AttributeIndexError| SegmentError::Damaged {
        key: String::new(),
        why: e.to_string(),
    };
    let of_expected = groups(&expected).await.expect("it is in memory");
    assert_eq!(groups(stored).await.map_err(damaged)?, of_expected, "{}", a.ty);
    let nulls = stored.nulls().await.map_err(damaged)?;
    assert_eq!(nulls, expected.nulls().await.expect("it is in memory"), "{}", a.ty);
    Ok(())
}

#[tokio::test]
async fn a_predicate_costs_one_request_and_few_bytes() {
    const ROWS: usize = 100_000;
    let world = World::new();
    let attributes = [attribute(0, "int", true), attribute(1, "string", true)];
    let number = |row: u64| mix(row) % 1_000_000;
    let numbers: Vec<_> = (0..ROWS as u64).map(|row| Some(number(row))).collect();
    let columns = [
        column(attributes[0].ty, &numbers),
        filled(&attributes[1], ROWS, Fill::Few).expect("it is there"),
    ];
    let rows = Rows {
        ids: ids(IdKind::UInt, ROWS, 1),
        columns: (0..).map(AttrId).zip(columns).collect(),
    };
    let encoded = encode(ID, &rows, &schema(&attributes), &OPTIONS);
    world.put(&encoded).await;
    let mut at = 0;
    world.requests(&mut at);
    let segment = world.open(encoded.meta.clone()).await.expect("it is whole");
    assert_eq!(world.requests(&mut at), 1, "opening");

    let index = async |a| {
        segment
            .attribute_index(a)
            .await
            .expect("it is whole")
            .expect("it is filterable")
    };
    let by_number = index(&attributes[0]).await;
    assert_eq!(world.requests(&mut at), 0, "the directory is hot");
    let before = world.backend.counts().bytes_read;
    let between = Predicate::Range {
        low: Bound::Included(Key::int(250_000)),
        high: Bound::Excluded(Key::int(300_000)),
    };
    let found = by_number.evaluate(&between).await.expect("it is whole");
    let is_between = |row: &usize| (250_000..300_000).contains(&number(*row as u64));
    assert!(found.exact);
    assert!(found.rows.iter().eq((0..ROWS).filter(is_between)));
    assert_eq!(world.requests(&mut at), 1, "neighbouring blocks");
    let read = world.backend.counts().bytes_read - before;
    // A twentieth of the values, of about six bytes each, and a block at each end.
    assert!(read < 80_000, "{read} bytes");

    let by_text = index(&attributes[1]).await;
    let Some(Column::Values(texts)) = rows.columns.get(&AttrId(1)) else {
        panic!("it is a column of texts");
    };
    let texts = texts.as_string::<i64>();
    let same = Predicate::one_of(vec![Key::bytes(texts.value(17).as_bytes())]);
    let before = world.backend.counts().bytes_read;
    let found = by_text.evaluate(&same).await.expect("it is whole");
    let is_same = |row: &usize| texts.value(*row) == texts.value(17);
    assert!(found.rows.iter().eq((0..ROWS).filter(is_same)));
    assert_eq!(world.requests(&mut at), 1, "the bitmap of a frequent value");
    let read = world.backend.counts().bytes_read - before;
    assert!(read < 60_000, "{read} bytes");

    // Inline, and with other options.
    let segment = world.open(inline(&encoded)).await.expect("it is whole");
    check(&segment, &attributes[0], rows.columns.get(&AttrId(0)))
        .await
        .expect("it is whole");
    assert_eq!(world.requests(&mut at), 0, "inline");
    let plain = Attribute {
        filterable: false,
        ..attributes[1].clone()
    };
    let pattern = Attribute {
        glob: true,
        ..attributes[1].clone()
    };
    for (other, has_index) in [(plain, false), (pattern, true), (attribute(9, "int", true), false)] {
        let found = segment.attribute_index(&other).await.expect("it is whole");
        assert_eq!(found.is_some(), has_index);
    }
}

/// However many values the others of its block are.
#[tokio::test]
async fn a_range_of_one_frequent_value_costs_its_bitmap() {
    const ROWS: u64 = 200_000;
    let world = World::new();
    let a = attribute(0, "int", true);
    let numbers: Vec<_> = (0..ROWS).map(|row| Some(mix(row) % 1000)).collect();
    let rows = Rows {
        ids: ids(IdKind::UInt, ROWS as usize, 1),
        columns: BTreeMap::from([(a.id, column(a.ty, &numbers))]),
    };
    let segment = world
        .stored(&encode(ID, &rows, &schema(std::slice::from_ref(&a)), &OPTIONS))
        .await;
    let index = segment
        .attribute_index(&a)
        .await
        .expect("it is whole")
        .expect("it is filterable");
    let before = world.backend.counts().bytes_read;
    let below_one = Predicate::Range {
        low: Bound::Unbounded,
        high: Bound::Excluded(Key::int(1)),
    };
    let found = index.evaluate(&below_one).await.expect("it is whole");
    assert!(
        found
            .rows
            .iter()
            .eq((0..ROWS as usize).filter(|row| numbers[*row] == Some(0)))
    );
    let read = world.backend.counts().bytes_read - before;
    // The block of values and one bitmap, each in the 4 KiB pieces that the cache reads; all bitmaps take 400 kB.
    assert!(read <= 5 * 4096, "{read} bytes");
}

/// The hot region is read whole and stays in memory.
#[tokio::test]
async fn large_directories_are_read_when_they_are_asked_for() {
    const ROWS: usize = 3_000;
    let world = World::new();
    let attributes = [attribute(0, "string", true), attribute(1, "int", true)];
    // Nothing in common at the front: every block's first value is in the directory.
    let texts = (0..ROWS as u64).map(|row| format!("{:016x}", mix(row)).repeat(64));
    let rows = Rows {
        ids: ids(IdKind::UInt, ROWS, 1),
        columns: BTreeMap::from([
            (
                AttrId(0),
                Column::Values(Arc::new(LargeStringArray::from_iter_values(texts)) as ArrayRef),
            ),
            (
                AttrId(1),
                filled(&attributes[1], ROWS, Fill::Random).expect("it is there"),
            ),
        ]),
    };
    for (budget, requests) in [(1 << 20, [0, 0]), (1000, [1, 0]), (0, [1, 1])] {
        let encoded = writer::encode_sized(ID, &rows, &schema(&attributes), &OPTIONS, Compression::None, budget);
        let segment = world.stored(&encoded).await;
        let mut at = 0;
        for (a, expected) in attributes.iter().zip(requests) {
            world.requests(&mut at);
            let opened = segment.attribute_index(a).await.expect("it is whole");
            assert!(opened.is_some());
            assert_eq!(world.requests(&mut at), expected, "{} of {budget}", a.ty);
            check(&segment, a, rows.columns.get(&a.id)).await.expect("it is whole");
        }
    }
}

#[test]
fn the_smallest_directories_are_hot() {
    for (mut lens, budget, longest) in [
        (vec![], 100, 0),
        (vec![60, 10, 30], 100, 60),
        (vec![60, 10, 31], 100, 31),
        (vec![50, 50, 50], 100, 0),
        (vec![101], 100, 0),
    ] {
        assert_eq!(writer::longest_hot(&mut lens, budget), longest, "{lens:?}");
    }
}

/// What the memory tier keeps must not keep the cache.
#[tokio::test]
async fn indexes_in_the_cache_do_not_keep_it() {
    let mut world = World::new();
    world.cache = Cache::new(world.store.clone(), &world.runtime, CacheOptions::memory_only(1 << 20));
    let (attributes, rows) = every_type(IdKind::UInt, 300, |_| Fill::Random);
    let encoded = encode(ID, &rows, &schema(&attributes), &OPTIONS);
    let segment = world.stored(&encoded).await;
    let first = segment.attribute_index(&attributes[1]).await.expect("it is whole");
    let first = first.expect("it is filterable");
    let before = world.backend.counts().bytes_read;
    groups(&first).await.expect("it is whole");
    groups(&first).await.expect("it is whole");
    assert!(
        world.backend.counts().bytes_read - before <= encoded.meta.len,
        "read once"
    );
    let clock = Arc::downgrade(&world.runtime.clock);
    drop((segment, first, world));
    assert_eq!(clock.strong_count(), 0);
}
