use arrow::buffer::{Buffer, NullBuffer};
use half::f16;
use proptest::prelude::*;

use super::*;
use crate::base::Bitset;
use crate::model::{Element, Id, IdColumn, IdKind, Metric, VectorColumn};

fn encode(element: Element, x: f32) -> Vec<u8> {
    match element {
        Element::F32 => x.to_le_bytes().to_vec(),
        Element::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
        Element::I8 => vec![x as i8 as u8],
    }
}

fn column(element: Element, rows: &[Option<Vec<f32>>], dims: usize) -> VectorColumn {
    let zeros = vec![0.0; dims];
    let data: Vec<u8> = rows
        .iter()
        .flat_map(|row| row.as_ref().unwrap_or(&zeros).iter().flat_map(|x| encode(element, *x)))
        .collect();
    let present: Vec<bool> = rows.iter().map(Option::is_some).collect();
    VectorColumn {
        dims: dims as u32,
        element,
        data: Buffer::from_vec(data),
        nulls: present.contains(&false).then(|| NullBuffer::from(present)),
    }
}

fn uint_ids(ids: &[u64]) -> IdColumn {
    let ids: Vec<Id> = ids.iter().map(|n| Id::UInt(*n)).collect();
    IdColumn::from_ids(IdKind::UInt, ids.iter())
}

fn distance(metric: Metric, query: &[f32], row: &[f32]) -> f32 {
    let column = column(Element::F32, &[Some(row.to_vec())], row.len());
    let distances: Vec<f32> = kernels::all()
        .into_iter()
        .map(|k| PreparedQuery::with(k, metric, query).distance(&column, 0))
        .collect();
    assert!(
        distances.iter().all(|d| d.to_bits() == distances[0].to_bits()),
        "{distances:?}"
    );
    distances[0]
}

#[test]
fn distances_have_their_textbook_values() {
    use Metric::{CosineDistance as Cosine, EuclideanSquared as Euclidean};
    assert_eq!(distance(Euclidean, &[1.0, 2.0], &[4.0, 6.0]), 25.0);
    assert_eq!(distance(Cosine, &[1.0, 0.0], &[0.0, 5.0]), 1.0);
    assert_eq!(distance(Cosine, &[1.0, 0.0], &[-3.0, 0.0]), 2.0);
    assert_eq!(distance(Cosine, &[2.0, 0.0], &[3.0, 0.0]), 0.0);
    assert!((distance(Cosine, &[1.0, 0.0], &[1.0, 1.0]) - (1.0 - 0.5f32.sqrt())).abs() < 1e-7);
}

#[test]
fn a_zero_vector_has_cosine_distance_one_to_everything() {
    for (q, x) in [
        ([0.0, 0.0], [1.0, 2.0]),
        ([1.0, 2.0], [0.0, -0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
    ] {
        assert_eq!(distance(Metric::CosineDistance, &q, &x), 1.0);
    }
}

#[test]
fn a_vector_equal_to_the_query_has_distance_positive_zero() {
    let rng = crate::base::Rng::seeded(7);
    for scale in [1e-44f32, 1e-30, 1e-3, 1.0, 1e4, 1e18, 3e38] {
        for dims in 1..100 {
            let mut x: Vec<f32> = (0..dims)
                .map(|_| (rng.below(2001) as f32 / 1000.0 - 1.0) * scale)
                .collect();
            x[0] = scale;
            for metric in [Metric::CosineDistance, Metric::EuclideanSquared] {
                let d = distance(metric, &x, &x);
                assert_eq!(d.to_bits(), 0, "{metric:?}, {dims} dims, scale {scale}: {d}");
            }
        }
    }
}

#[test]
fn extreme_lengths_do_not_change_the_cosine() {
    for (a, b) in [(1e-40, 1e38), (1e38, 1e38), (1e-44, 1.0), (1e-20, 1e-20)] {
        let d = distance(Metric::CosineDistance, &[a, 0.0, 0.0], &[b, b, 0.0]);
        assert!((d - (1.0 - 0.5f32.sqrt())).abs() < 1e-6, "{a} and {b}: {d}");
    }
    assert_eq!(distance(Metric::CosineDistance, &[3e38, 3e38], &[3e38, -3e38]), 1.0);
}

#[test]
fn an_overflowing_euclidean_distance_is_infinite_and_sorts_last() {
    assert_eq!(
        distance(Metric::EuclideanSquared, &[3e38, -3e38], &[-3e38, 3e38]),
        f32::INFINITY
    );
    let rows = [Some(vec![3e38]), Some(vec![1.0])];
    let query = PreparedQuery::new(Metric::EuclideanSquared, &[0.0]);
    let found = scan(
        &query,
        &column(Element::F32, &rows, 1),
        &uint_ids(&[1, 2]),
        &Bitset::full(2),
        0,
        2,
    );
    assert_eq!(found.iter().map(|h| h.row).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(found[1].distance, f32::INFINITY);
}

#[test]
fn stored_nan_and_infinity_never_give_nan() {
    for metric in [Metric::CosineDistance, Metric::EuclideanSquared] {
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(
                distance(metric, &[1.0, 1.0], &[x, 1.0]),
                f32::INFINITY,
                "{metric:?} {x}"
            );
        }
    }
}

#[test]
fn equal_vectors_tie_and_come_in_the_order_of_their_ids() {
    let rows = vec![Some(vec![0.1, 0.7, 0.3]); 4];
    for metric in [Metric::CosineDistance, Metric::EuclideanSquared] {
        let query = PreparedQuery::new(metric, &[0.2, 0.5, 0.9]);
        let column = column(Element::F32, &rows, 3);
        let found = scan(&query, &column, &uint_ids(&[16, 3, 15, 9]), &Bitset::full(4), 5, 3);
        assert_eq!(found.iter().map(|h| h.row).collect::<Vec<_>>(), [1, 3, 2]);
        assert!(found.iter().all(|h| h.distance == found[0].distance && h.part == 5));
    }
}

#[test]
fn nothing_is_found_for_k_zero_in_empty_parts_or_among_nulls() {
    let query = PreparedQuery::new(Metric::EuclideanSquared, &[0.0]);
    let one = column(Element::F32, &[Some(vec![1.0])], 1);
    assert!(scan(&query, &one, &uint_ids(&[1]), &Bitset::full(1), 0, 0).is_empty());
    assert!(scan(&query, &one, &uint_ids(&[1]), &Bitset::empty(1), 0, 9).is_empty());
    let null = column(Element::F32, &[None], 1);
    assert!(scan(&query, &null, &uint_ids(&[1]), &Bitset::full(1), 0, 9).is_empty());
    let empty = column(Element::F32, &[], 1);
    assert!(scan(&query, &empty, &uint_ids(&[]), &Bitset::full(0), 0, usize::MAX).is_empty());
}

/// A part as drawn: vectors of two small numbers, so that ties and zero vectors are common.
#[derive(Clone, Debug)]
struct Drawn {
    rows: Vec<Option<Vec<f32>>>,
    eligible: Vec<bool>,
}

fn any_part() -> impl Strategy<Value = Drawn> {
    let coordinate = || (-2i32..=2).prop_map(|x| x as f32);
    let vector = prop_oneof![
        8 => (coordinate(), coordinate()).prop_map(|(x, y)| Some(vec![x, y])),
        1 => Just(None),
    ];
    // Sparse, dense and full words all occur.
    let density = prop_oneof![Just(0.05), Just(0.9), Just(1.0)];
    (prop::collection::vec(vector, 0..200), density).prop_flat_map(|(rows, density)| {
        prop::collection::vec(prop::bool::weighted(density), rows.len()).prop_map(move |eligible| Drawn {
            rows: rows.clone(),
            eligible,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn scans_in_any_split_equal_sorting_everything(
        parts in prop::collection::vec(any_part(), 1..4),
        cuts in prop::collection::vec(0..200usize, 0..3),
        k in 0..60usize,
        element in prop_oneof![Just(Element::F32), Just(Element::F16), Just(Element::I8)],
        metric in prop_oneof![Just(Metric::CosineDistance), Just(Metric::EuclideanSquared)],
        shared in any::<bool>(),
    ) {
        let query = PreparedQuery::new(metric, &[1.0, -2.0]);
        let columns: Vec<_> = parts.iter().map(|p| column(element, &p.rows, 2)).collect();
        // Unique ids in an order unlike that of the rows.
        let id = |part: usize, row: usize| (row * 37 % 211 * 4 + part) as u64;
        let ids: Vec<_> = parts.iter().enumerate()
            .map(|(p, part)| uint_ids(&(0..part.rows.len()).map(|r| id(p, r)).collect::<Vec<_>>()))
            .collect();
        let eligible: Vec<_> = parts.iter().map(|p| Bitset::from_fn(p.rows.len(), |i| p.eligible[i])).collect();

        let mut expected: Vec<(f32, u64)> = Vec::new();
        for (p, part) in parts.iter().enumerate() {
            for row in 0..part.rows.len() {
                if part.eligible[row] && part.rows[row].is_some() {
                    expected.push((query.distance(&columns[p], row), id(p, row)));
                }
            }
        }
        expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        expected.truncate(k);

        let together = Cutoff::none();
        let mut found = Vec::new();
        for (p, part) in parts.iter().enumerate() {
            let len = part.rows.len();
            let mut bounds: Vec<usize> = cuts.iter().map(|c| *c.min(&len)).chain([0, len]).collect();
            bounds.sort();
            for rows in bounds.windows(2) {
                let part = Part { number: p as u32, column: &columns[p], ids: &ids[p], eligible: &eligible[p] };
                let mut best = TopK::new(k);
                let alone = Cutoff::none();
                scan_rows(&query, &part, rows[0]..rows[1], if shared { &together } else { &alone }, &mut best);
                found.push(best.into_hits());
            }
        }
        found.reverse();
        let merged = merge(found, |p| &ids[p as usize], k);
        let merged: Vec<_> = merged.iter().map(|h| (h.distance, id(h.part as usize, h.row as usize))).collect();
        prop_assert_eq!(merged, expected);
    }
}
