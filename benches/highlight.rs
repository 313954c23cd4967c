//! What does highlighting cost beyond the analysis that it cannot do without?
//!
//! Data: 2,000 texts of about 2 kB in sentences and paragraphs: 20,000 made-up words of Zipfian frequency, from SEED.
//! Asked: the three best fragments for three words, with offsets in UTF-16, for every text.
//! Baseline: analysis of the same texts with the same analyser, which counts the tokens, in the same round.
//! Reported: MB/s of both, one thread, best of ROUNDS; their ratio, 1 being free; fragments found per text.
//! Left out: finding the rows, JSON. Cold and warm are the same, because rows are in memory.
//! Run: cargo bench --bench highlight
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, LargeStringArray};
use shoal::base::Rng;
use shoal::index::text::{Analyzer, Buffer, TextIndex};
use shoal::model::query::{FragmentBy, Highlight, OffsetUnit, Score, TextQuery};
use shoal::model::schema::Tokenizer;
use shoal::model::{AttrType, Attribute, FullTextConfig, Schema};
use shoal::query::highlight::{self, Scratch};

const SEED: u64 = 42;
const TEXTS: usize = 2000;
const TEXT_BYTES: usize = 2000;
const WORDS: u64 = 20_000;
const ROUNDS: usize = 7;

fn main() {
    let rng = Rng::seeded(SEED);
    let words: Vec<String> = (0..WORDS).map(|_| word(&rng)).collect();
    let texts: Vec<String> = (0..TEXTS).map(|_| text(&rng, &words)).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    println!("{TEXTS} texts, {:.1} MB", bytes as f64 / 1e6);
    println!("tokenizer stemming fragment_by  words  analysis MB/s  highlight MB/s  ratio  fragments");
    for (tokenizer, stemming) in [
        (Tokenizer::WordV4, false),
        (Tokenizer::WordV4, true),
        (Tokenizer::WordV2, false),
    ] {
        let config = FullTextConfig {
            tokenizer,
            stemming,
            ..FullTextConfig::default()
        };
        for fragment_by in [
            FragmentBy::Nothing,
            FragmentBy::Sentence,
            FragmentBy::Paragraph,
            FragmentBy::Word,
        ] {
            // Ranks of the words that are looked for. Short words have several ranks, so all of them are found often.
            for of in [[2000, 3000, 4000], [100, 200, 300], [0, 1, 2]] {
                let query = of.map(|n| words[n].as_str()).join(" ");
                measure(&config, fragment_by, (of[0], &query), &texts, bytes);
            }
        }
    }
}

fn measure(config: &FullTextConfig, fragment_by: FragmentBy, query: (usize, &str), texts: &[String], bytes: usize) {
    let column: ArrayRef = Arc::new(LargeStringArray::from_iter_values(texts));
    let index = TextIndex::build(config, &column);
    let highlighter = highlight::bind(&asked(fragment_by, query.1), None, &schema(config))
        .expect("the query fits the schema")
        .weigh(std::iter::once(&index));
    let analyzer = Analyzer::new(config);
    let (mut buffer, mut scratch) = (Buffer::new(), Scratch::default());
    let (mut analysis, mut highlighting, mut found) = (Duration::MAX, Duration::MAX, 0);
    for _ in 0..ROUNDS {
        analysis = analysis.min(timed(|| {
            let mut tokens = 0u64;
            for text in texts {
                analyzer.analyze(text, &mut buffer, |_, _| tokens += 1);
            }
            black_box(tokens);
        }));
        highlighting = highlighting.min(timed(|| {
            found = 0;
            for text in texts {
                found += black_box(highlighter.fragments(&[text], &mut scratch)).len();
            }
        }));
    }
    let rate = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    println!(
        "{:<9} {:<8} {:<11} {:>6}  {:>13.1}  {:>14.1}  {:>5.2}  {:>9.2}",
        format!("{:?}", config.tokenizer),
        config.stemming,
        format!("{fragment_by:?}"),
        query.0,
        rate(analysis),
        rate(highlighting),
        analysis.as_secs_f64() / highlighting.as_secs_f64(),
        found as f64 / texts.len() as f64,
    );
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn asked(fragment_by: FragmentBy, query: &str) -> Highlight {
    Highlight {
        attribute: "t".into(),
        fragment_by,
        fragment_limit: 3,
        include_offsets: Some(OffsetUnit::Utf16),
        rank_fragments_by: Some(Score::Text {
            attribute: "$fragment".into(),
            query: TextQuery::Text(query.into()),
            last_as_prefix: false,
        }),
    }
}

fn schema(config: &FullTextConfig) -> Schema {
    let mut schema = Schema::default();
    schema.put(Attribute {
        full_text: Some(*config),
        ..Attribute::new(
            schema.next_attribute_id(),
            "t".into(),
            AttrType::parse("string").expect("a type"),
        )
    });
    schema
}

fn word(rng: &Rng) -> String {
    const SYLLABLES: [&str; 12] = [
        "ta", "ri", "ne", "mo", "sul", "ver", "ing", "ed", "con", "pla", "té", "ku",
    ];
    let syllables = 1 + rng.below(4);
    (0..syllables)
        .map(|_| SYLLABLES[rng.below(SYLLABLES.len() as u64) as usize])
        .collect()
}

/// Sentences of 5 to 24 words, six to a paragraph.
fn text(rng: &Rng, words: &[String]) -> String {
    let mut text = String::new();
    let mut sentences = 0;
    while text.len() < TEXT_BYTES {
        // A full stop before a small letter ends no sentence.
        text.push_str("So");
        for _ in 0..4 + rng.below(20) {
            text.push(' ');
            text.push_str(&words[zipf(rng)]);
        }
        sentences += 1;
        text.push_str(if sentences % 6 == 0 { ".\n\n" } else { ". " });
    }
    text
}

/// Word `n` with a probability in proportion to about 1 / n.
fn zipf(rng: &Rng) -> usize {
    let uniform = (rng.u64() >> 11) as f64 / (1u64 << 53) as f64;
    ((WORDS as f64).powf(uniform) as usize).saturating_sub(1)
}
