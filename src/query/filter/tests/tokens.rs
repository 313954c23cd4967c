use super::*;
use crate::model::FullTextConfig;
use crate::model::filter::{CompareOptions, Operand};
use crate::model::schema::Tokenizer;

fn searched(ty: &str, config: FullTextConfig) -> Schema {
    let mut schema = schema_of(IdKind::UInt, &[("t", ty)]);
    let mut attribute = schema.get("t").unwrap().clone();
    attribute.full_text = Some(config);
    attribute.filterable = false;
    schema.put(attribute);
    schema
}

fn rows_of(values: Vec<Value>) -> Rows {
    let row = |(i, value): (usize, Value)| (Id::UInt(i as u64), vec![("t", value)]);
    values.into_iter().enumerate().map(row).collect()
}

fn texts(texts: &[&str]) -> Rows {
    rows_of(texts.iter().map(|t| Value::String((*t).into())).collect())
}

fn array(texts: &[&str]) -> Value {
    Value::Array(texts.iter().map(|t| Value::String((*t).into())).collect())
}

/// The rows that pass, with and without text indexes, which must be the same.
fn found(schema: &Schema, rows: &Rows, filter: Filter) -> Vec<usize> {
    let bound = bind(&filter, schema).unwrap();
    let mut chunk = chunk_of(schema, rows);
    let found: Vec<usize> = evaluate(&bound, &chunk).iter().collect();
    chunk.text.clear();
    assert_eq!(evaluate(&bound, &chunk).iter().collect::<Vec<_>>(), found);
    found
}

fn sequence(operand: Json) -> Filter {
    test("t", FilterOp::ContainsTokenSequence, operand)
}

#[test]
fn operands_are_analysed_like_the_texts() {
    let stemmed = FullTextConfig {
        stemming: true,
        ascii_folding: true,
        ..FullTextConfig::default()
    };
    let schema = searched("string", stemmed);
    let rows = texts(&[
        "The marine mammal swims",
        "mammals of the sea",
        "Un été marin",
        "",
        "marines",
    ]);
    for (op, operand, expected) in [
        (FilterOp::ContainsAllTokens, json!("marine mammals"), vec![0]),
        (FilterOp::ContainsAllTokens, json!(["MAMMAL"]), vec![0, 1]),
        (FilterOp::ContainsAllTokens, json!("ete"), vec![2]),
        (FilterOp::ContainsAllTokens, json!("mammal mammal"), vec![0, 1]),
        (FilterOp::ContainsAllTokens, json!("absent mammal"), vec![]),
        // Of no tokens, every text has all and none has any.
        (FilterOp::ContainsAllTokens, json!(""), vec![0, 1, 2, 3, 4]),
        (FilterOp::ContainsAllTokens, json!([]), vec![0, 1, 2, 3, 4]),
        (FilterOp::ContainsAnyToken, json!("?!"), vec![]),
        (FilterOp::ContainsAnyToken, json!("absent marine"), vec![0, 2, 4]),
        (FilterOp::ContainsAnyToken, json!(["swimming", "ÉTÉ"]), vec![0, 2]),
        (FilterOp::ContainsTokenSequence, json!("marine mammals"), vec![0]),
        (FilterOp::ContainsTokenSequence, json!("mammal marine"), vec![]),
        (FilterOp::ContainsTokenSequence, json!(["swim"]), vec![0]),
        (FilterOp::ContainsTokenSequence, json!(""), vec![0, 1, 2, 3, 4]),
    ] {
        assert_eq!(
            found(&schema, &rows, test("t", op, operand.clone())),
            expected,
            "{op:?} {operand}"
        );
    }
}

#[test]
fn the_last_token_may_be_a_prefix() {
    let schema = searched("string", FullTextConfig::default());
    let rows = texts(&["object storage", "object store", "storing objects", "obj"]);
    for (op, operand, expected) in [
        (FilterOp::ContainsAllTokens, json!("object stor"), vec![0, 1]),
        (FilterOp::ContainsAllTokens, json!("obj"), vec![0, 1, 2, 3]),
        (FilterOp::ContainsAllTokens, json!("stor object"), vec![]),
        (FilterOp::ContainsAllTokens, json!(["store", "obj"]), vec![1]),
        (FilterOp::ContainsAllTokens, json!("obj obj"), vec![3]),
        (FilterOp::ContainsAllTokens, json!(""), vec![0, 1, 2, 3]),
        (FilterOp::ContainsAnyToken, json!("obj stori"), vec![2, 3]),
    ] {
        let filter = Filter::Compare {
            attribute: "t".into(),
            op,
            operand: Operand::Value(operand.clone()),
            options: CompareOptions::LastAsPrefix,
        };
        assert_eq!(found(&schema, &rows, filter.clone()), expected, "{op:?} {operand}");
        let bound = bind(&filter, &schema).unwrap();
        let chunk = chunk_of(&schema, &rows);
        let one_by_one = (0..rows.len()).filter(|row| matches_row(&bound, &chunk, *row as u32));
        assert_eq!(one_by_one.collect::<Vec<_>>(), expected, "{op:?} {operand}");
    }
}

#[test]
fn dropped_tokens_keep_their_places_in_a_sequence() {
    let config = FullTextConfig {
        remove_stopwords: true,
        max_token_length: 6,
        ..FullTextConfig::default()
    };
    let schema = searched("string", config);
    let rows = texts(&[
        "wizard of oz",
        "wizard oz",
        "wizard and the oz",
        "wizard in oz",
        "wizard hyperbole oz",
        "oz wizard",
    ]);
    for (operand, expected) in [
        (json!("wizard of oz"), vec![0, 3, 4]),
        (json!("wizard oz"), vec![1]),
        (json!("the wizard of the oz"), vec![2]),
        (json!("of the wizard"), vec![0, 1, 2, 3, 4, 5]),
        (json!("the of"), vec![0, 1, 2, 3, 4, 5]),
        (json!(["wizard", "oz"]), vec![1]),
    ] {
        assert_eq!(found(&schema, &rows, sequence(operand.clone())), expected, "{operand}");
    }
}

#[test]
fn no_sequence_spans_two_elements_of_an_array_unless_elements_are_tokens() {
    let rows = rows_of(vec![
        array(&["object storage", "engine"]),
        array(&["object", "storage"]),
        array(&["the object", "an object storage engine"]),
        array(&[]),
        Value::Null,
    ]);
    let words = searched("[]string", FullTextConfig::default());
    for (operand, expected) in [
        (json!("object storage"), vec![0, 2]),
        (json!(["object", "storage"]), vec![0, 2]),
        (json!("storage engine"), vec![2]),
        (json!("object"), vec![0, 1, 2]),
        (json!(""), vec![0, 1, 2, 3]),
    ] {
        assert_eq!(found(&words, &rows, sequence(operand.clone())), expected, "{operand}");
    }
    let all = |t| test("t", FilterOp::ContainsAllTokens, json!(t));
    assert_eq!(found(&words, &rows, all("storage engine")), [0, 2]);
    let config = FullTextConfig {
        tokenizer: Tokenizer::PreTokenizedArray,
        case_sensitive: true,
        ..FullTextConfig::default()
    };
    let tokens = searched("[]string", config);
    assert_eq!(found(&tokens, &rows, sequence(json!(["object", "storage"]))), [1]);
    assert_eq!(
        found(&tokens, &rows, sequence(json!(["object storage", "engine"]))),
        [0]
    );
    let error = bind(&all("object"), &tokens).unwrap_err().message;
    let text = "filter error in key `t`: type mismatch, ContainsAllTokens expects []string, but got string";
    assert!(error.contains(text), "{error}");
}

/// More places than a word has bits, with repetitions that make every place a candidate.
#[test]
fn long_sequences_are_found() {
    let schema = searched("string", FullTextConfig::default());
    let repeated = |n: usize, end: &str| format!("{}{end}", "a ".repeat(n));
    let rows = texts(&[
        &repeated(500, "b c"),
        &repeated(150, "b"),
        &repeated(149, "b"),
        &repeated(500, ""),
    ]);
    assert_eq!(found(&schema, &rows, sequence(json!(repeated(150, "b")))), [0, 1]);
    assert_eq!(found(&schema, &rows, sequence(json!(repeated(150, "")))), [0, 1, 3]);
    assert_eq!(
        found(&schema, &rows, sequence(json!(repeated(150, "c")))),
        Vec::<usize>::new()
    );
    let numbers = |range: std::ops::Range<u32>| range.map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    let rows = texts(&[
        &numbers(0..300),
        &numbers(100..299),
        &format!("{} x {}", numbers(0..200), numbers(200..300)),
    ]);
    assert_eq!(found(&schema, &rows, sequence(json!(numbers(100..299)))), [0, 1]);
    assert_eq!(found(&schema, &rows, sequence(json!(numbers(99..299)))), [0]);
    assert_eq!(found(&schema, &rows, sequence(json!(numbers(200..300)))), [0, 2]);
}
