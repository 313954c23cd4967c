//! Ranking on real collections against runs made by an independent implementation. The collections
//! may not be redistributed, so they lie beside the repository and the test is silent without them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use serde_json::Value;

use super::super::{Bm25, TextIndex, query_terms, search};
use super::{pre_tokenized, token_column};
use crate::base::Bitset;
use crate::model::query::TextQuery;
use crate::model::{FullTextConfig, IdColumn};

fn directory(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if !path.exists() {
        eprintln!("skipped: no collection {name} beside the repository");
        return None;
    }
    Some(path)
}

fn lines(path: &Path) -> Vec<Value> {
    let file = File::open(path).unwrap();
    let read: Box<dyn Read> = match path.extension().is_some_and(|e| e == "gz") {
        true => Box::new(flate2::read::GzDecoder::new(file)),
        false => Box::new(file),
    };
    let parse = |line: std::io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
    BufReader::new(read).lines().map(parse).collect()
}

fn reference_tokens(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    words.map(str::to_lowercase).collect()
}

/// A document's id is its number, `first_id` that of the first.
fn overlap_at_10(directory: &Path, first_id: usize, text_of: impl Fn(&Value) -> String) -> f64 {
    let config = FullTextConfig {
        // No saturation, and tokens of any length: as the reference has it.
        k3: 1e12,
        max_token_length: 254,
        ..pre_tokenized()
    };
    let docs = lines(&directory.join("docs.jsonl.gz"));
    let index = TextIndex::build(
        &config,
        &token_column(docs.iter().map(|d| Some(reference_tokens(&text_of(d))))),
    );
    let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..docs.len() as u64));
    let ids = IdColumn::from_array(&numbers).unwrap();
    let all = Bitset::full(docs.len());
    let runs = lines(&directory.join("run_bm25_plain_exact.jsonl.gz"));
    let queries = lines(&directory.join("queries.jsonl"));
    let mut shared = 0.0;
    for run in &runs {
        let query = queries.iter().find(|q| q["id"] == run["query_id"]).unwrap();
        let tokens = TextQuery::Tokens(reference_tokens(query["text"].as_str().unwrap()));
        let scorer = Bm25::over(
            &config,
            query_terms(&config, "text", &tokens).unwrap(),
            std::iter::once(&index),
        );
        let hits = search(&[(&index, &all, &ids)], &scorer, 10);
        let reference = &run["hits"].as_array().unwrap()[..10];
        let expected: HashSet<usize> = reference.iter().map(|hit| number(&hit[0]) - first_id).collect();
        shared += hits.iter().filter(|h| expected.contains(&(h.row as usize))).count() as f64 / expected.len() as f64;
        let best = reference[0][1].as_f64().unwrap();
        assert!(
            (hits[0].score - best).abs() < 1e-3,
            "{} scores {}, not {best}",
            run["query_id"],
            hits[0].score
        );
    }
    shared / runs.len() as f64
}

fn number(id: &Value) -> usize {
    match id {
        Value::String(s) => s.parse().unwrap(),
        other => other.as_u64().unwrap() as usize,
    }
}

fn string<'a>(doc: &'a Value, field: &str) -> &'a str {
    doc[field].as_str().unwrap()
}

#[test]
fn cranfield_ranks_as_the_exact_reference() {
    let Some(directory) = directory("text/cranfield") else {
        return;
    };
    let overlap = overlap_at_10(&directory, 1, |doc| match string(doc, "title") {
        "" => string(doc, "text").to_owned(),
        title => format!("{title} {}", string(doc, "text")),
    });
    assert!(overlap >= 0.99, "overlap@10 is {overlap}");
}

#[test]
fn debian_ranks_as_the_exact_reference() {
    let Some(directory) = directory("debian") else { return };
    let overlap = overlap_at_10(&directory, 0, |doc| string(doc, "text").to_owned());
    assert!(overlap >= 0.99, "overlap@10 is {overlap}");
}
