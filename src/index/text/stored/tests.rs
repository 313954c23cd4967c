mod merging;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, LargeStringArray, LargeStringBuilder, ListBuilder, UInt64Array};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::lists::{Place, PlaceReader, put_places, put_postings, read_postings};
use super::packing::{pack, packed_len, unpack, width};
use super::pages::PagePlan;
use super::*;
use crate::base::Bitset;
use crate::base::coding::FormatError;
use crate::index::text::{Analyzer, Bm25, Buffer, Posting, TextIndex, query_terms, search};
use crate::model::query::TextQuery;
use crate::model::schema::Tokenizer;
use crate::model::{FullTextConfig, IdColumn};

/// A text index as it is stored, and how much of it was read.
struct Stored {
    directory: TextDirectory,
    pages: Bytes,
    /// Of each round.
    reads: Vec<Vec<Range<u64>>>,
}

impl Stored {
    fn of(config: &FullTextConfig, column: &ArrayRef) -> Self {
        Self::open(&encode(config, column, true), column.len()).unwrap()
    }

    fn open(encoded: &EncodedText, rows: usize) -> Result<Self, FormatError> {
        let directory = TextDirectory::open(&encoded.directory, rows as u32, encoded.pages.len() as u64)?;
        Ok(Self {
            directory,
            pages: encoded.pages.clone(),
            reads: Vec::new(),
        })
    }

    fn read(&mut self, ranges: Vec<Range<u64>>) -> Vec<Bytes> {
        let end = self.pages.len();
        let bytes = ranges
            .iter()
            .map(|r| self.pages.slice((r.start as usize).min(end)..(r.end as usize).min(end)));
        let bytes = bytes.collect();
        self.reads.push(ranges);
        bytes
    }

    fn load(&mut self, config: &FullTextConfig, wanted: &[TermWanted]) -> Result<TextIndex, FormatError> {
        let lookup = self.directory.look_up(wanted, true);
        let read = self.read(lookup.ranges());
        let found = lookup.finish(&self.directory, &read)?;
        let lengths = found.lengths.clone().expect("they were wanted");
        let load = found.load(&self.directory, false);
        let read = self.read(load.ranges());
        load.index(&self.directory, config, lengths, &read)
    }

    fn sequence(&mut self, tokens: &[(String, u32)]) -> Result<Bitset, FormatError> {
        let wanted: Vec<TermWanted> = tokens.iter().map(|(t, _)| TermWanted::Exact(t.clone())).collect();
        let lookup = self.directory.look_up(&wanted, false);
        let read = self.read(lookup.ranges());
        let load = lookup.finish(&self.directory, &read)?.load(&self.directory, true);
        let read = self.read(load.ranges());
        load.sequence(&self.directory, tokens, &read)
    }
}

fn texts<S: AsRef<str>>(rows: &[Option<S>]) -> ArrayRef {
    Arc::new(rows.iter().map(Option::as_ref).collect::<LargeStringArray>())
}

fn arrays<S: AsRef<str>>(rows: &[Option<Vec<S>>]) -> ArrayRef {
    let mut builder = ListBuilder::new(LargeStringBuilder::new());
    for row in rows {
        match row {
            Some(texts) => builder.append_value(texts.iter().map(|t| Some(t.as_ref()))),
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}

/// Few words, so that rows and sequences have them in common; among them stop words, ones that are too
/// long, and what splits differently from tokenizer to tokenizer.
fn any_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => "[abc]{1,2}",
        2 => Just("the".to_owned()),
        2 => Just("jumping".to_owned()),
        1 => Just("incomprehensibilities".to_owned()),
        1 => Just("naïve-école".to_owned()),
        1 => Just("狐狸, fox".to_owned()),
    ];
    vec(word, 0..12).prop_map(|words| words.join(" "))
}

fn any_config() -> impl Strategy<Value = FullTextConfig> {
    let tokenizer = prop_oneof![
        Just(Tokenizer::WordV4),
        Just(Tokenizer::WordV0),
        Just(Tokenizer::WordV2),
        Just(Tokenizer::PreTokenizedArray)
    ];
    (tokenizer, any::<[bool; 4]>(), 7..40u32).prop_map(|(tokenizer, flags, max_token_length)| FullTextConfig {
        tokenizer,
        stemming: flags[0],
        remove_stopwords: flags[1],
        case_sensitive: flags[2],
        ascii_folding: flags[3],
        max_token_length,
        ..FullTextConfig::default()
    })
}

/// With the texts of each row.
fn any_column() -> impl Strategy<Value = (ArrayRef, Vec<Option<Vec<String>>>)> {
    let scalars = vec(option::weighted(0.9, any_text()), 0..30).prop_map(|rows| {
        let column = texts(&rows);
        (column, rows.into_iter().map(|row| row.map(|text| vec![text])).collect())
    });
    let lists = vec(option::weighted(0.9, vec(any_text(), 0..4)), 0..20).prop_map(|rows| (arrays(&rows), rows));
    prop_oneof![scalars, lists]
}

fn terms_of(index: &TextIndex) -> BTreeMap<&str, &[Posting]> {
    index.terms().collect()
}

fn assert_rows_equal(loaded: &TextIndex, full: &TextIndex) {
    assert_eq!(loaded.rows(), full.rows());
    assert_eq!(loaded.stats(), full.stats());
    assert!((0..full.rows() as u32).all(|row| loaded.length(row) == full.length(row)));
}

/// Rows in which the tokens stand at these distances, by looking at each place of each text.
fn rows_with_sequence(config: &FullTextConfig, rows: &[Option<Vec<String>>], wanted: &[(String, u32)]) -> Vec<usize> {
    let analyzer = Analyzer::new(config);
    let mut buffer = Buffer::new();
    let mut holds = |texts: &[&str]| {
        let mut at = BTreeMap::new();
        let keep = |token: &str, position: u32| {
            at.insert(position, token.to_owned());
        };
        analyzer.analyze_all(texts.iter().copied(), &mut buffer, keep);
        let end = at.keys().next_back().map_or(0, |p| p + 1);
        (0..end).any(|start| {
            let mut distances = wanted.iter().map(|(token, p)| (token, start + p - wanted[0].1));
            distances.all(|(token, p)| at.get(&p) == Some(token))
        })
    };
    let spans = config.tokenizer == Tokenizer::PreTokenizedArray;
    let mut row_holds = |texts: &Vec<String>| {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        match spans {
            true => holds(&texts),
            false => texts.iter().any(|text| holds(&[text])),
        }
    };
    let rows = rows.iter().enumerate();
    rows.filter(|(_, row)| row.as_ref().is_some_and(&mut row_holds))
        .map(|(row, _)| row)
        .collect()
}

proptest! {
    #[test]
    fn loaded_terms_equal_those_of_the_full_index(
        config in any_config(),
        (column, _) in any_column(),
        exact in vec("[abc]{1,2}|the|jump|absent", 0..4),
        prefixes in vec("[ab]{0,2}|jum|z", 0..3),
    ) {
        let full = TextIndex::build(&config, &column);
        let mut stored = Stored::of(&config, &column);
        prop_assert_eq!(stored.directory.stats(), full.stats());
        prop_assert_eq!(stored.directory.terms(), full.terms().count() as u64);
        let wanted: Vec<TermWanted> = exact.iter().cloned().map(TermWanted::Exact)
            .chain(prefixes.iter().cloned().map(TermWanted::Prefix)).collect();
        let loaded = stored.load(&config, &wanted).unwrap();
        assert_rows_equal(&loaded, &full);
        let mut expected = terms_of(&full);
        expected.retain(|term, _| exact.iter().any(|e| e == term) || prefixes.iter().any(|p| term.starts_with(p.as_str())));
        prop_assert_eq!(terms_of(&loaded), expected);
        prop_assert!(loaded.postings("absent").is_empty());
    }

    #[test]
    fn scores_are_those_of_the_full_index_to_the_bit(
        config in any_config(),
        (column, _) in any_column(),
        query in any_text(),
        last_as_prefix: bool,
    ) {
        let config = FullTextConfig { k1: 0.7, b: 0.3, ..config };
        let full = TextIndex::build(&config, &column);
        let query = match config.tokenizer {
            Tokenizer::PreTokenizedArray => TextQuery::Tokens(vec![query]),
            _ => TextQuery::Text(query),
        };
        let terms = query_terms(&config, "text", &query).unwrap();
        let prefix = crate::index::text::last_token(&config, &query).filter(|_| last_as_prefix);
        let wanted: Vec<TermWanted> = terms.iter().map(|t| TermWanted::Exact(t.token.clone()))
            .chain(prefix.iter().cloned().map(TermWanted::Prefix)).collect();
        let loaded = Stored::of(&config, &column).load(&config, &wanted).unwrap();
        let ids = IdColumn::UInt(UInt64Array::from_iter_values((0..column.len() as u64).rev()));
        let all = Bitset::full(column.len());
        let hits = |index: &TextIndex| {
            let scorer = Bm25::over(&config, terms.clone(), std::iter::once(index)).with_prefix(prefix.clone());
            let hits = search(&[(index, &all, &ids)], &scorer, 5);
            hits.iter().map(|h| (h.row, h.score.to_bits())).collect::<Vec<_>>()
        };
        prop_assert_eq!(hits(&loaded), hits(&full));
    }

    #[test]
    fn sequences_are_those_that_the_texts_have(
        config in any_config(),
        (column, rows) in any_column(),
        queries in vec(any_text(), 1..5),
    ) {
        let mut stored = Stored::of(&config, &column);
        for query in queries {
            // Pre-tokenized attributes are asked for several tokens.
            let words: Vec<&str> = match config.tokenizer {
                Tokenizer::PreTokenizedArray => query.split(' ').collect(),
                _ => vec![&query],
            };
            let mut tokens = Vec::new();
            Analyzer::new(&config).analyze_all(words.into_iter(), &mut Buffer::new(), |t, p| tokens.push((t.to_owned(), p)));
            if tokens.is_empty() {
                continue;
            }
            let found: Vec<usize> = stored.sequence(&tokens).unwrap().iter().collect();
            prop_assert_eq!(found, rows_with_sequence(&config, &rows, &tokens), "{:?}", tokens);
        }
    }

    #[test]
    fn damage_is_an_error_and_never_another_answer(
        config in any_config(), (column, _) in any_column(), at: usize, bit in 0..8u8, cut: bool, hot: bool,
    ) {
        let encoded = encode(&config, &column, true);
        let mut damaged = encoded.clone();
        let mut bytes = if hot { encoded.directory.to_vec() } else { encoded.pages.to_vec() };
        if bytes.is_empty() {
            return Ok(());
        }
        let at = at % bytes.len();
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] ^= 1 << bit,
        }
        match hot {
            true => damaged.directory = bytes.into(),
            false => damaged.pages = bytes.into(),
        }
        let all = [TermWanted::Prefix(String::new())];
        let Ok(mut stored) = Stored::open(&damaged, column.len()) else { return Ok(()) };
        let loaded = stored.load(&config, &all);
        let _ = stored.sequence(&[("a".into(), 0), ("b".into(), 1)]);
        // The directory's own checksum is that of the hot region.
        prop_assert!(hot || loaded.is_err() || stored.reads.iter().flatten().all(|r| r.end <= at as u64 || r.start > at as u64));
    }

    #[test]
    fn any_streams_are_read_without_panic(bytes in vec(any::<u8>(), 0..80), rows in 0..200u32, count in 0..200u32) {
        let mut out = Vec::new();
        let _ = read_postings(&bytes, count, 7, rows, &mut out);
        let mut reader = PlaceReader::new(&bytes, rows % 2 == 0);
        let mut places = Vec::new();
        for n in 0..count {
            if reader.row(n, &mut places).is_err() {
                break;
            }
        }
        let _ = TextDirectory::open(&bytes, rows, count.into());
        let plan = PagePlan::new(bytes.len() as u64, std::iter::once(0..bytes.len() as u64));
        let _ = plan.open(&[bytes.into()]);
    }

    #[test]
    fn numbers_come_back_from_their_bits(values in vec(any::<u32>(), 0..300), shift in 0..32) {
        let values: Vec<u32> = values.iter().map(|v| v >> shift).collect();
        let width = width(&values);
        let mut packed = vec![];
        pack(&mut packed, &values, width);
        prop_assert_eq!(packed.len(), packed_len(values.len(), width));
        let mut unpacked = vec![0; values.len()];
        unpack(&packed, width, &mut unpacked).unwrap();
        prop_assert_eq!(unpacked, values);
    }

    #[test]
    fn lists_come_back(
        rows in proptest::collection::btree_map(any::<u32>(), 1..2000u32, 0..700),
        places in proptest::collection::btree_set((0..3u32, any::<u32>()), 1..50),
    ) {
        let postings: Vec<Posting> = rows.into_iter().filter(|(row, _)| *row < u32::MAX)
            .map(|(row, frequency)| Posting { row, frequency }).collect();
        let tokens = postings.iter().map(|p| u64::from(p.frequency)).sum();
        let mut bytes = Vec::new();
        put_postings(&mut bytes, &postings);
        let mut read = Vec::new();
        read_postings(&bytes, postings.len() as u32, tokens, u32::MAX, &mut read).unwrap();
        prop_assert_eq!(&read, &postings);
        let places: Vec<Place> = places.into_iter().map(|(element, position)| Place { element, position }).collect();
        let mut bytes = Vec::new();
        put_places(&mut bytes, places.iter().copied(), true);
        let mut read = Vec::new();
        PlaceReader::new(&bytes, true).row(places.len() as u32, &mut read).unwrap();
        prop_assert_eq!(read, places);
    }
}

/// Every row has `common`, every 100th one of `rare`; each has a word of its own and some of a skewed
/// vocabulary.
fn large() -> Vec<Option<String>> {
    let word = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % 30_000;
    (0..40_000u64)
        .map(|i| {
            let skewed = (1..8)
                .map(|n| format!("w{}", word(i * 8 + n) / (n * n * n)))
                .collect::<Vec<_>>();
            Some(match i % 100 {
                0 => format!("common unique{i} rare {}", skewed.join(" ")),
                _ => format!("common unique{i} {}", skewed.join(" ")),
            })
        })
        .collect()
}

#[test]
fn terms_of_large_indexes_cost_two_rounds_of_few_bytes() {
    let config = FullTextConfig::default();
    let rows = large();
    let column = texts(&rows);
    let full = TextIndex::build(&config, &column);
    let mut stored = Stored::of(&config, &column);
    assert!(stored.directory.blocks.len() > 10, "{}", stored.directory.blocks.len());
    let exact = ["common", "rare", "unique39999", "w7", "absent"].map(|t| TermWanted::Exact(t.into()));
    let loaded = stored.load(&config, &exact).unwrap();
    assert_rows_equal(&loaded, &full);
    for term in ["common", "rare", "unique39999", "w7", "absent"] {
        assert_eq!(loaded.postings(term), full.postings(term), "{term}");
    }
    assert_eq!(stored.reads.len(), 2, "rounds");
    let pages_of = |ranges: &[Range<u64>]| ranges.iter().map(|r| (r.end - r.start) / 16_384).sum::<u64>();
    // Four dictionary blocks of two or three pages and lengths of 20 kB; then the postings.
    assert!(
        stored.reads[0].len() <= 6 && pages_of(&stored.reads[0]) <= 16,
        "{:?}",
        stored.reads[0]
    );
    assert!(
        stored.reads[1].len() <= 3 && pages_of(&stored.reads[1]) <= 6,
        "{:?}",
        stored.reads[1]
    );
    for round in &stored.reads {
        assert!(round.is_sorted_by(|a, b| a.end < b.start), "no page twice: {round:?}");
    }
    let everything = stored.load(&config, &[TermWanted::Prefix(String::new())]).unwrap();
    assert_eq!(terms_of(&everything), terms_of(&full));
    let nothing = stored.load(&config, &[]).unwrap();
    assert_rows_equal(&nothing, &full);
    assert!(
        stored.reads.last().unwrap().is_empty(),
        "no postings are read for no terms"
    );
    // 40,000 words of their own have two numbers each beside them, and postings of 320,000 others.
    let bytes_per_token = stored.pages.len() as f64 / full.stats().tokens as f64;
    assert!(bytes_per_token < 6.0, "{bytes_per_token}");
    assert!(encode(&config, &column, false).pages.len() < stored.pages.len());
    let sequence = stored.sequence(&[("common".into(), 0), ("rare".into(), 2)]).unwrap();
    assert_eq!(
        sequence.iter().collect::<Vec<_>>(),
        (0..40_000).step_by(100).collect::<Vec<_>>()
    );
}

#[test]
fn sequences_do_not_span_elements_unless_each_is_a_token() {
    let rows = [
        Some(vec!["quick brown", "fox"]),
        Some(vec!["quick", "a quick brown fox"]),
        Some(vec!["brown", "quick"]),
        None,
        Some(vec![]),
    ];
    let column = arrays(&rows);
    let tokens = |words: &[(&str, u32)]| words.iter().map(|(w, p)| ((*w).to_owned(), *p)).collect::<Vec<_>>();
    let mut stored = Stored::of(&FullTextConfig::default(), &column);
    let mut found = |words: &[(&str, u32)]| stored.sequence(&tokens(words)).unwrap().iter().collect::<Vec<_>>();
    assert_eq!(found(&[("brown", 0), ("fox", 1)]), [1]);
    assert_eq!(found(&[("quick", 4), ("fox", 6)]), [1]);
    assert_eq!(found(&[("quick", 0), ("fox", 2)]), [1]);
    assert_eq!(found(&[("quick", 0)]), [0, 1, 2]);
    assert_eq!(found(&[("quick", 0), ("absent", 1)]), [0usize; 0]);
    let config = FullTextConfig {
        tokenizer: Tokenizer::PreTokenizedArray,
        ..FullTextConfig::default()
    };
    let mut stored = Stored::of(&config, &column);
    let found = stored.sequence(&tokens(&[("quick brown", 0), ("fox", 1)])).unwrap();
    assert_eq!(found.iter().collect::<Vec<_>>(), [0]);
}

#[test]
fn other_tokens_or_another_analysis_are_not_served() {
    let config = FullTextConfig::default();
    let stored = Stored::of(&config, &texts(&[Some("a")]));
    assert!(stored.directory.serves(&FullTextConfig { k1: 2.0, ..config }));
    for other in [
        FullTextConfig {
            stemming: true,
            ..config
        },
        FullTextConfig {
            max_token_length: 40,
            ..config
        },
        FullTextConfig {
            tokenizer: Tokenizer::WordV3,
            ..config
        },
    ] {
        assert!(!stored.directory.serves(&other));
        assert_ne!(fingerprint(&config), fingerprint(&other));
    }
    assert_eq!(fingerprint(&config), fingerprint(&FullTextConfig { b: 0.1, ..config }));
}

#[test]
fn indexes_of_other_segments_and_without_places_are_refused() {
    let config = FullTextConfig::default();
    let column = texts(&[Some("a b"), None]);
    let encoded = encode(&config, &column, false);
    assert!(Stored::open(&encoded, 3).is_err());
    let mut stored = Stored::open(&encoded, 2).unwrap();
    assert!(!stored.directory.has_positions());
    assert!(stored.sequence(&[("a".into(), 0), ("b".into(), 1)]).is_err());
    assert_eq!(
        stored
            .load(&config, &[TermWanted::Exact("b".into())])
            .unwrap()
            .postings("b")
            .len(),
        1
    );
}

/// Written once; later builds must read it and write the same bytes.
#[test]
fn golden_indexes_are_read_and_written_alike() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/postings");
    let config = FullTextConfig {
        ascii_folding: true,
        ..FullTextConfig::default()
    };
    let text = texts(&[Some("The quick fox, the fox"), None, Some(""), Some("naïve foxes")]);
    let array = arrays(&[Some(vec!["red", "red fox"]), Some(vec![]), None]);
    for (name, column) in [("text", text), ("array", array)] {
        let golden = |part: &str| Bytes::from(std::fs::read(directory.join(format!("v1-{name}.{part}"))).unwrap());
        let (hot, pages) = (golden("directory"), golden("pages"));
        let encoded = encode(&config, &column, true);
        assert_eq!(encoded.directory, hot, "{name}");
        assert_eq!(encoded.pages, pages, "{name}");
        let stored = EncodedText { directory: hot, pages };
        let all = [TermWanted::Prefix(String::new())];
        let loaded = Stored::open(&stored, column.len())
            .unwrap()
            .load(&config, &all)
            .unwrap();
        assert_eq!(terms_of(&loaded), terms_of(&TextIndex::build(&config, &column)));
    }
}
