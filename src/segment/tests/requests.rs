//! What segments cost: requests and bytes.

use super::*;

#[tokio::test]
async fn each_read_costs_as_many_requests_as_it_says() {
    let world = World::new();
    let (attributes, rows) = every_type(IdKind::UInt, 400, |_| Fill::Random);
    let encoded = encode(ID, &rows, &schema(&attributes), &OPTIONS);
    world.put(&encoded).await;
    let mut at = 0;
    world.requests(&mut at);

    let segment = world.open(encoded.meta.clone()).await.expect("it is whole");
    assert_eq!(world.requests(&mut at), 1, "opening");
    let scalars: Vec<_> = attributes.iter().filter(|a| !a.ty.is_vector()).cloned().collect();
    segment
        .fetch(&[5, 6, 7, 5], &scalars, ReadKind::Rows)
        .await
        .expect("it is whole");
    assert_eq!(world.requests(&mut at), 1, "rows of one page");
    let all: Vec<u32> = (0..400).collect();
    segment
        .fetch(&all, &scalars, ReadKind::Scan)
        .await
        .expect("it is whole");
    assert_eq!(world.requests(&mut at), 1, "all rows: their pages touch");
    segment
        .fetch(&all, &attributes, ReadKind::Scan)
        .await
        .expect("it is whole");
    assert!(world.requests(&mut at) <= 4, "pages, and three columns of vectors");
    segment.column(&attributes[1]).await.expect("it is whole");
    assert_eq!(world.requests(&mut at), 1, "a column");
    assert!(!segment.has_column(attributes[0].id));
    segment.column(&attributes[0]).await.expect("it is whole");
    assert_eq!(world.requests(&mut at), 1, "a column from row pages");
    segment.vectors(&attributes[15], 3..300).await.expect("it is whole");
    assert_eq!(world.requests(&mut at), 1, "vectors");
    segment
        .fetch(&[], &attributes, ReadKind::Rows)
        .await
        .expect("it is whole");
    assert_eq!(world.requests(&mut at), 0, "no rows");
    let nothing = attribute(1000, "string", true);
    assert!(segment.column(&nothing).await.expect("it is whole").is_none());
    assert_eq!(world.requests(&mut at), 0, "an attribute that no row has");

    let segment = world.open(inline(&encoded)).await.expect("it is whole");
    check(&segment, &rows, &attributes).await.expect("it is whole");
    assert_eq!(world.requests(&mut at), 0, "inline");
}

/// Vectors are read in blocks, not whole.
#[tokio::test]
async fn a_few_vectors_cost_a_few_blocks() {
    let world = World::new();
    let attributes = [attribute(0, "[768]f32", false)];
    let column = filled(&attributes[0], 2000, Fill::Random).expect("it is there");
    let rows = Rows {
        ids: ids(IdKind::UInt, 2000, 1),
        columns: BTreeMap::from([(AttrId(0), column)]),
    };
    let segment = world.stored(&encode(ID, &rows, &schema(&attributes), &OPTIONS)).await;
    let before = world.backend.counts().bytes_read;
    let found = segment.vectors(&attributes[0], 1000..1010).await.expect("it is whole");
    let found = found.expect("they are there");
    assert_eq!(found.data.as_slice().as_ptr().align_offset(64), 0);
    assert_eq!(found.len(), 10);
    let read = world.backend.counts().bytes_read - before;
    assert!(read <= 2 * 64 * 1024, "{read} bytes for ten vectors");
}

/// Who fetches many rows is told after each round what they take, and can stop.
#[tokio::test]
async fn rows_are_paid_for_as_they_come() {
    let world = World::new();
    let attributes = [attribute(0, "[4000]f32", false)];
    let column = filled(&attributes[0], 1800, Fill::Random).expect("it is there");
    let rows = Rows {
        ids: ids(IdKind::UInt, 1800, 1),
        columns: BTreeMap::from([(AttrId(0), column)]),
    };
    let segment = world.stored(&encode(ID, &rows, &schema(&attributes), &OPTIONS)).await;
    let all: Vec<u32> = (0..1800).collect();
    let (whole, step) = (1800 * 16_000, 8 << 20);
    for stop_at in [usize::MAX, 10 << 20] {
        let (mut charged, mut most, before) = (0, 0, world.backend.counts().bytes_read);
        let mut charge = |bytes: usize| {
            (charged, most) = (charged + bytes, most.max(bytes));
            match charged <= stop_at {
                true => Ok(()),
                false => Err(world_is_full()),
            }
        };
        let fetched = segment
            .fetch_charged(&all, &attributes, ReadKind::Rows, &mut charge)
            .await;
        let read = world.backend.counts().bytes_read - before;
        match stop_at {
            usize::MAX => {
                assert_eq!(fetched.expect("it is whole").ids.len(), 1800);
                // The rounds, and these put together.
                assert!(charged >= 2 * whole, "{charged} of {whole}");
            }
            _ => {
                assert!(fetched.is_err());
                assert!(most < 2 * step && read < 3 * step as u64, "{most} charged, {read} read");
            }
        }
    }
}

fn world_is_full() -> SegmentError {
    SegmentError::Damaged {
        key: String::new(),
        why: "no room".into(),
    }
}

/// Rows as people have them: a title, a text, a few facts.
fn articles(count: usize) -> (Vec<Attribute>, Rows) {
    let types = [
        ("string", false),
        ("string", false),
        ("int", true),
        ("string", true),
        ("[]string", true),
        ("float", true),
    ];
    let attributes: Vec<_> = types
        .iter()
        .enumerate()
        .map(|(i, (ty, filterable))| attribute(i as u32, ty, *filterable))
        .collect();
    let words = |row: u64, n: u64| {
        // Small numbers are more frequent, as words are.
        let word = |i: u64| format!("w{}", mix(row << 32 | i) % (1 + mix(i << 32 | row) % 5000));
        (0..n).map(word).collect::<Vec<_>>().join(" ")
    };
    let texts = |n: u64| {
        Column::Values(Arc::new(LargeStringArray::from_iter_values(
            (0..count as u64).map(|r| words(r, n)),
        )))
    };
    let columns = BTreeMap::from([
        (AttrId(0), texts(8)),
        (AttrId(1), texts(70)),
        (
            AttrId(2),
            filled(&attributes[2], count, Fill::Rising).expect("it is there"),
        ),
        (
            AttrId(3),
            filled(&attributes[3], count, Fill::Few).expect("it is there"),
        ),
        (
            AttrId(4),
            filled(&attributes[4], count, Fill::Few).expect("it is there"),
        ),
        (
            AttrId(5),
            filled(&attributes[5], count, Fill::Random).expect("it is there"),
        ),
    ]);
    let rows = Rows {
        ids: ids(IdKind::Uuid, count, 0x9e37_79b9_7f4a_7c15),
        columns,
    };
    (attributes, rows)
}

#[test]
fn rows_take_less_than_their_logical_bytes() {
    let (attributes, rows) = articles(20_000);
    for compression in [Compression::Zstd, Compression::Lz4, Compression::None] {
        let encoded = encode_with(ID, &rows, &schema(&attributes), &OPTIONS, compression);
        let ratio = encoded.bytes.len() as f64 / encoded.meta.logical_bytes as f64;
        let hot = f64::from(encoded.meta.hot_len) / f64::from(encoded.meta.rows);
        println!("{compression:?}: {ratio:.3} bytes per logical byte, {hot:.2} hot bytes per row");
        assert!(ratio <= 1.2, "{compression:?}: {ratio}");
    }
}

/// Of many ids the blocks are looked through on several threads.
#[tokio::test]
async fn many_ids_are_found_in_shares() {
    let mut world = World::new();
    world.runtime.cpu = CpuPool::new(3);
    let rows = Rows {
        ids: ids(IdKind::Uuid, 20_000, 1),
        columns: BTreeMap::new(),
    };
    let encoded = encode(ID, &rows, &schema(&[]), &OPTIONS);
    let segment = world.stored(&encoded).await;
    let absent = Id::Uuid(uuid::Uuid::from_u128(7));
    // Backwards, with one that is not there in between.
    let wanted = (0..rows.ids.len()).rev().step_by(2);
    let asked: Vec<Id> = wanted
        .clone()
        .flat_map(|row| [rows.ids.get(row), absent.clone()])
        .collect();
    let expected: Vec<Option<u32>> = wanted.flat_map(|row| [Some(row as u32), None]).collect();
    let found = segment.find(&asked).await.expect("it is whole");
    assert!(found == expected);
}
