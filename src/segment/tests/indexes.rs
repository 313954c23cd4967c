//! Key runs and text indexes of segments.

use std::collections::HashMap;
use std::ops::Bound;

use arrow::array::AsArray;

use super::*;
use crate::index::text::{Analyzer, Buffer, TextIndex};
use crate::model::FullTextConfig;
use crate::model::schema::Tokenizer;

#[tokio::test]
async fn ids_are_found_and_cost_a_request_only_where_they_may_be() {
    for kind in [IdKind::UInt, IdKind::Uuid, IdKind::String] {
        let world = World::new();
        // Even rows are in the segment, odd ones are not.
        let all = ids(kind, 40_000, 0x9e37_79b9_7f4a_7c15);
        let even: Vec<Id> = (0..20_000).map(|row| all.get(2 * row)).collect();
        let odd: Vec<Id> = (0..20_000).map(|row| all.get(2 * row + 1)).collect();
        let rows = Rows {
            ids: IdColumn::from_ids(kind, even.iter()),
            columns: BTreeMap::new(),
        };
        let encoded = encode(ID, &rows, &Schema::default(), &OPTIONS);
        let segment = world.stored(&encoded).await;
        let mut at = 0;
        world.requests(&mut at);

        let found = segment.find(&even[7..8]).await.expect("it is whole");
        assert_eq!((found, world.requests(&mut at)), (vec![Some(7)], 1));
        let found = segment.find(&even).await.expect("it is whole");
        assert!((0..).zip(found).all(|(row, found)| found == Some(row)));
        world.requests(&mut at);
        let mut read = 0;
        for id in &odd[..1000] {
            assert_eq!(
                segment.find(std::slice::from_ref(id)).await.expect("it is whole"),
                [None]
            );
            read += world.requests(&mut at);
        }
        assert!(read <= 20, "{read} requests for a thousand ids that are not there");

        let mut sorted: Vec<(Id, u32)> = even.iter().cloned().zip(0..).collect();
        sorted.sort();
        let bounds = (Bound::Excluded(sorted[100].0.clone()), Bound::Unbounded);
        let mut scan = segment.scan_ids(bounds, false, ReadKind::Scan);
        let mut scanned = Vec::new();
        while let Some(block) = scan.next().await.expect("it is whole") {
            scanned.extend((0..block.rows.len()).map(|i| (block.ids.get(i), block.rows[i])));
        }
        assert_eq!(scanned, sorted[101..]);
        assert_eq!(segment.id_bounds(), Some((&sorted[0].0, &sorted[19_999].0)));
        assert!(world.requests(&mut at) <= 4);

        let inline = world.open(inline(&encoded)).await.expect("it is whole");
        world.requests(&mut at);
        assert_eq!(inline.find(&even[9..10]).await.expect("it is whole"), [Some(9)]);
        assert_eq!(world.requests(&mut at), 0, "inline");
    }
}

/// An attribute with its texts.
pub fn full_text(config: FullTextConfig, count: u64) -> (Attribute, Rows) {
    let attribute = Attribute {
        full_text: Some(config),
        ..attribute(4, "string", false)
    };
    let text = |row: u64| (row % 7 != 3).then(|| format!("common w{} w{} fox", mix(row) % 50, mix(row + 1) % 5000));
    let column = LargeStringArray::from_iter((0..count).map(text));
    let rows = Rows {
        ids: ids(IdKind::UInt, count as usize, 3),
        columns: BTreeMap::from([(attribute.id, Column::Values(Arc::new(column)))]),
    };
    (attribute, rows)
}

pub fn exact(terms: &[&str]) -> Vec<TermWanted> {
    terms.iter().map(|t| TermWanted::Exact((*t).into())).collect()
}

#[tokio::test]
async fn terms_of_a_text_are_loaded_in_two_rounds() {
    let world = World::new();
    let (attribute, rows) = full_text(FullTextConfig::default(), 20_000);
    let Some(Column::Values(texts)) = rows.columns.get(&attribute.id) else {
        panic!("it is a column of texts");
    };
    let full = TextIndex::build(&FullTextConfig::default(), texts);
    let encoded = encode(ID, &rows, &schema(std::slice::from_ref(&attribute)), &OPTIONS);
    let segment = world.stored(&encoded).await;
    let mut at = 0;
    world.requests(&mut at);
    let (bytes_before, terms) = (world.backend.counts().bytes_read, ["common", "w7", "absent"]);
    let loaded = segment
        .text(&attribute, &exact(&terms))
        .await
        .expect("it is whole")
        .expect("there are texts");
    assert!(world.requests(&mut at) <= 6, "dictionary, lengths, postings");
    // The cache joins ranges that are near each other, and everything is near in so small a segment.
    assert!(world.backend.counts().bytes_read - bytes_before < encoded.meta.len);
    for term in terms {
        assert_eq!(loaded.postings(term), full.postings(term), "{term}");
    }
    assert_eq!((loaded.stats(), loaded.rows()), (full.stats(), full.rows()));

    // Tokens as they were, whatever the scoring; other tokens: the texts are analysed.
    for (config, same) in [
        (
            FullTextConfig {
                k1: 2.0,
                ..FullTextConfig::default()
            },
            true,
        ),
        (
            FullTextConfig {
                max_token_length: 3,
                ..FullTextConfig::default()
            },
            false,
        ),
    ] {
        let changed = Attribute {
            full_text: Some(config),
            ..attribute.clone()
        };
        let loaded = segment
            .text(&changed, &exact(&["common", "fox"]))
            .await
            .expect("it is whole")
            .expect("texts");
        assert_eq!(loaded.config(), &config);
        assert_eq!(loaded.stats() == full.stats(), same);
        assert_eq!(loaded.postings("common").is_empty(), !same);
        assert_eq!(loaded.postings("fox").len(), full.postings("fox").len());
        let sequence = segment
            .token_sequence(&changed, &[("fox".into(), 0)])
            .await
            .expect("it is whole");
        assert_eq!(sequence.is_some(), same);
    }
    let none = Attribute {
        id: AttrId(99),
        ..attribute
    };
    assert!(
        segment
            .text(&none, &exact(&["fox"]))
            .await
            .expect("it is whole")
            .is_none()
    );
}

#[tokio::test]
async fn sequences_are_found_without_texts() {
    let world = World::new();
    let (attribute, rows) = full_text(FullTextConfig::default(), 3000);
    let segment = world
        .stored(&encode(ID, &rows, &schema(std::slice::from_ref(&attribute)), &OPTIONS))
        .await;
    let Some(Column::Values(texts)) = rows.columns.get(&attribute.id) else {
        panic!("it is a column of texts");
    };
    let analyzer = Analyzer::new(&FullTextConfig::default());
    let mut rows_of: HashMap<String, Vec<usize>> = HashMap::new();
    for (row, text) in texts.as_string::<i64>().iter().enumerate() {
        let mut tokens = Vec::new();
        analyzer.analyze(text.unwrap_or_default(), &mut Buffer::new(), |t, _| {
            tokens.push(t.to_owned())
        });
        tokens
            .windows(2)
            .for_each(|pair| rows_of.entry(pair.join(" ")).or_default().push(row));
    }
    let mut pairs: Vec<_> = rows_of.into_iter().collect();
    pairs.sort();
    for (pair, rows) in pairs.iter().step_by(97) {
        let tokens: Vec<(String, u32)> = pair.split(' ').map(str::to_owned).zip(5..).collect();
        let found = segment
            .token_sequence(&attribute, &tokens)
            .await
            .expect("it is whole")
            .expect("places are stored");
        assert_eq!(&found.iter().collect::<Vec<_>>(), rows, "{pair}");
    }
    let tokens = Attribute {
        full_text: Some(FullTextConfig {
            tokenizer: Tokenizer::PreTokenizedArray,
            ..FullTextConfig::default()
        }),
        ..attribute
    };
    assert!(
        segment
            .token_sequence(&tokens, &[("fox".into(), 0)])
            .await
            .expect("it is whole")
            .is_none()
    );
}

/// Requests run on several threads: what they await has to move between them.
#[expect(dead_code, reason = "it is enough that it compiles")]
fn reads_may_move_between_threads(segment: &Segment, attribute: &Attribute, mut scan: IdScan<'_>) {
    fn sendable(_: impl Send) {}
    sendable(segment.find(&[]));
    sendable(segment.text(attribute, &[]));
    sendable(segment.token_sequence(attribute, &[]));
    sendable(scan.next());
}
