//! Merged indexes are the bytes that the texts would give.

use super::*;

type Texts = Vec<Option<Vec<String>>>;

/// Some segments, all of texts or all of arrays; of each row whether it is still there.
fn any_segments() -> impl Strategy<Value = (bool, Vec<(Texts, Vec<bool>)>)> {
    let segment = |array: bool| {
        let texts = if array { 0..4usize } else { 1..2 };
        let row = (
            option::weighted(0.9, vec(any_text(), texts)),
            proptest::bool::weighted(0.8),
        );
        (vec(row, 0..16), proptest::bool::weighted(0.3)).prop_map(|(rows, whole)| {
            let (texts, live): (Texts, Vec<bool>) = rows.into_iter().unzip();
            let live = live.into_iter().map(|is_live| is_live || whole).collect();
            (texts, live)
        })
    };
    any::<bool>().prop_flat_map(move |array| (Just(array), vec(segment(array), 0..5)))
}

fn column(array: bool, rows: &Texts) -> ArrayRef {
    match array {
        true => arrays(rows),
        false => texts(
            &rows
                .iter()
                .map(|row| row.as_ref().map(|t| t[0].clone()))
                .collect::<Vec<_>>(),
        ),
    }
}

/// The segments as they are stored, where their rows go, and the rows that are left.
fn stored(
    config: &FullTextConfig,
    array: bool,
    segments: &[(Texts, Vec<bool>)],
) -> (Vec<Stored>, Vec<Vec<Option<u32>>>, Texts) {
    let mut left = Texts::new();
    let mut remaps = Vec::new();
    for (rows, live) in segments {
        let mut remap = Vec::new();
        for (row, is_live) in rows.iter().zip(live) {
            remap.push(is_live.then_some(left.len() as u32));
            if *is_live {
                left.push(row.clone());
            }
        }
        remaps.push(remap);
    }
    let stored = segments
        .iter()
        .map(|(rows, _)| Stored::of(config, &column(array, rows)));
    (stored.collect(), remaps, left)
}

fn inputs<'a>(stored: &'a [Stored], remaps: &'a [Vec<Option<u32>>]) -> Vec<MergeInput<'a>> {
    let both = stored.iter().zip(remaps);
    both.map(|(stored, remap)| MergeInput {
        directory: &stored.directory,
        pages: stored.pages.clone(),
        remap,
    })
    .collect()
}

proptest! {
    #[test]
    fn a_merge_gives_the_bytes_that_the_texts_give(config in any_config(), (array, segments) in any_segments()) {
        let (stored, remaps, left) = stored(&config, array, &segments);
        let merged = merge(&config, array, &inputs(&stored, &remaps), left.len() as u32).unwrap();
        let anew = encode(&config, &column(array, &left), true);
        prop_assert_eq!(&merged.directory, &anew.directory);
        prop_assert_eq!(&merged.pages, &anew.pages);
    }

    #[test]
    fn damage_is_an_error_of_the_merge(
        config in any_config(), (array, segments) in any_segments(), which: usize, at: usize, bit in 0..8u8, cut: bool,
    ) {
        let (mut stored, remaps, left) = stored(&config, array, &segments);
        prop_assume!(!stored.is_empty());
        let which = which % stored.len();
        let mut bytes = stored[which].pages.to_vec();
        prop_assume!(!bytes.is_empty());
        let at = at % bytes.len();
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] ^= 1 << bit,
        }
        stored[which].pages = bytes.into();
        prop_assert!(merge(&config, array, &inputs(&stored, &remaps), left.len() as u32).is_err());
    }
}

#[test]
fn large_indexes_are_merged_block_by_block() {
    let config = FullTextConfig::default();
    let rows: Texts = large().into_iter().map(|text| text.map(|t| vec![t])).collect();
    let middle = rows.len() / 2;
    let live = |from: usize, to: usize| (from..to).map(|row| row % 7 != 3).collect::<Vec<bool>>();
    let segments = [
        (rows[..middle].to_vec(), live(0, middle)),
        (rows[middle..].to_vec(), vec![true; rows.len() - middle]),
    ];
    let (stored, remaps, left) = stored(&config, false, &segments);
    let merged = merge(&config, false, &inputs(&stored, &remaps), left.len() as u32).unwrap();
    let anew = encode(&config, &column(false, &left), true);
    assert!(merged.directory == anew.directory && merged.pages == anew.pages);
    assert!(Stored::open(&merged, left.len()).unwrap().directory.terms() > 1_000);
}

#[test]
fn indexes_of_other_places_are_refused() {
    let config = FullTextConfig::default();
    let rows = vec![Some(vec!["one two".to_owned()])];
    let remap = [Some(0)];
    for (encoded, array) in [
        (encode(&config, &column(false, &rows), false), false),
        (encode(&config, &column(true, &rows), true), false),
        (encode(&config, &column(false, &rows), true), true),
    ] {
        let stored = Stored::open(&encoded, 1).unwrap();
        let input = MergeInput {
            directory: &stored.directory,
            pages: stored.pages.clone(),
            remap: &remap,
        };
        assert!(merge(&config, array, &[input], 1).is_err());
    }
}
