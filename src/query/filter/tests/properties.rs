//! All operators on random schemas and rows, against the oracle.

use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Value as Json, json};

use super::super::{bind, evaluate, evaluate_rows, matches_row};
use super::model::holds;
use crate::base::Bitset;
use crate::model::filter::{CompareOptions, EditDistance, FuzzyOptions, Operand};
use crate::model::schema::Tokenizer;
use crate::model::{Filter, FilterOp, FullTextConfig, Id, IdKind, Scalar, Schema, Value};
use crate::query::tests::support::{Rows, chunk_of, schema_of};
use crate::tail::Chunk;

fn any_scalar() -> impl Strategy<Value = Scalar> {
    prop::sample::select(vec![
        Scalar::String,
        Scalar::Int,
        Scalar::UInt,
        Scalar::Float,
        Scalar::Uuid,
        Scalar::Datetime,
        Scalar::Bool,
    ])
}

pub const UUIDS: [&str; 3] = [
    "00000000-0000-0000-0000-00000000000a",
    "00000000-0000-0000-0000-0000000000f0",
    "f0000000-0000-0000-0000-000000000000",
];

/// Few values per type, the edges of each among them, so that equal ones meet.
fn any_value(scalar: Scalar) -> BoxedStrategy<Value> {
    let one = |values: Vec<Value>| prop::sample::select(values).boxed();
    match scalar {
        Scalar::String => any_text().prop_map(Value::String).boxed(),
        Scalar::Int => one([i64::MIN, -1, 0, 2, 3, (1 << 53) + 1, i64::MAX].map(Value::Int).into()),
        Scalar::UInt => one([0, 1, 2, 3, (1 << 53) + 1, u64::MAX].map(Value::UInt).into()),
        Scalar::Float => one([-2.5, -0.0, 0.0, 2.0, 2.5, 9007199254740992.0, 1e300]
            .map(Value::Float)
            .into()),
        Scalar::Uuid => one(UUIDS.map(|u| Value::Uuid(u.parse().unwrap())).into()),
        Scalar::Datetime => one([-1, 0, 2, 86_400_000].map(Value::Datetime).into()),
        Scalar::Bool => one([false, true].map(Value::Bool).into()),
        Scalar::Bytes => unreachable!("not drawn"),
    }
}

fn any_operand(scalar: Scalar) -> BoxedStrategy<Json> {
    let one = |values: Vec<Json>| prop::sample::select(values).boxed();
    match scalar {
        Scalar::String => any_text().prop_map(Json::from).boxed(),
        Scalar::Int | Scalar::UInt | Scalar::Float => one(vec![
            json!(i64::MIN),
            json!(-2.5),
            json!(-1),
            json!(0),
            json!(-0.0),
            json!(2),
            json!(2.0),
            json!(2.5),
            json!(9007199254740992u64),
            json!(9007199254740993u64),
            json!(i64::MAX),
            json!(9_223_372_036_854_775_808.0),
            json!(u64::MAX),
            json!(1.8446744073709552e19),
            json!(1e300),
            json!(-1e300),
        ]),
        Scalar::Uuid => one(vec![json!(UUIDS[0]), json!(UUIDS[1].to_uppercase()), json!(UUIDS[2])]),
        Scalar::Datetime => one(vec![
            json!(0),
            json!("1970-01-02"),
            json!("1969-12-31T23:59:59.999Z"),
            json!(2),
        ]),
        Scalar::Bool => one(vec![json!(false), json!(true)]),
        Scalar::Bytes => unreachable!("not drawn"),
    }
}

fn any_list(scalar: Scalar) -> BoxedStrategy<Json> {
    // Longer than FEW now and then, so that both forms of a set are met.
    prop::collection::vec(any_operand(scalar), 0..14)
        .prop_map(Json::Array)
        .boxed()
}

/// Short texts of few letters, and texts of few words, so that patterns and tokens meet.
fn any_text() -> impl Strategy<Value = String> {
    let short = prop::sample::select(vec!["", "a", "b", "é", "É", "aa", "seab", "a b"]).prop_map(String::from);
    let words = prop::collection::vec(any_word(), 0..6).prop_map(|words| words.join(" "));
    prop_oneof![1 => short, 3 => words]
}

fn any_word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["sea", "Sea", "seal", "the", "of", "puffer", "fish", "été"])
}

/// An attribute: the type, and how its text is analysed.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    scalar: Scalar,
    pub array: bool,
    text: FullTextConfig,
}

impl Kind {
    /// Whether passages of it can be found.
    pub fn is_text(self) -> bool {
        self.scalar == Scalar::String && self.text.tokenizer != Tokenizer::PreTokenizedArray
    }
}

pub fn any_kind() -> impl Strategy<Value = Kind> {
    let plain = FullTextConfig::default();
    let texts = vec![
        plain,
        FullTextConfig {
            remove_stopwords: true,
            ..plain
        },
        FullTextConfig {
            case_sensitive: true,
            max_token_length: 5,
            ..plain
        },
        FullTextConfig {
            tokenizer: Tokenizer::PreTokenizedArray,
            case_sensitive: true,
            ..plain
        },
    ];
    let scalar = prop_oneof![any_scalar(), Just(Scalar::String)];
    (scalar, any::<bool>(), prop::sample::select(texts)).prop_map(|(scalar, array, text)| {
        // Only arrays can be tokens already.
        let text = if array || text.tokenizer == Tokenizer::WordV4 {
            text
        } else {
            FullTextConfig::default()
        };
        Kind { scalar, array, text }
    })
}

pub const NAMES: [&str; 3] = ["a", "b", "c"];

pub fn schema_with(kinds: &[Kind]) -> Schema {
    let named: Vec<(&str, String)> = kinds
        .iter()
        .zip(NAMES)
        .map(|(k, name)| (name, format!("{}{}", if k.array { "[]" } else { "" }, k.scalar.name())))
        .collect();
    let named: Vec<(&str, &str)> = named.iter().map(|(name, ty)| (*name, ty.as_str())).collect();
    let mut schema = schema_of(IdKind::UInt, &named);
    for (kind, name) in kinds.iter().zip(NAMES).filter(|(k, _)| k.scalar == Scalar::String) {
        let mut attribute = schema.get(name).unwrap().clone();
        (attribute.regex, attribute.glob, attribute.fuzzy) = (true, true, true);
        attribute.full_text = Some(kind.text);
        schema.put(attribute);
    }
    schema
}

pub fn any_of_kind(kind: Kind) -> BoxedStrategy<Value> {
    let value = match kind.array {
        false => any_value(kind.scalar),
        true => prop::collection::vec(any_value(kind.scalar), 0..3)
            .prop_map(Value::Array)
            .boxed(),
    };
    prop_oneof![1 => Just(Value::Null), 4 => value].boxed()
}

fn fits(kind: Kind, op: FilterOp) -> bool {
    use FilterOp::*;
    match op {
        Eq | NotEq | In | NotIn => true,
        Lt | Lte | Gt | Gte => !kind.array && kind.scalar != Scalar::Bool,
        Contains | NotContains | ContainsAny | NotContainsAny => kind.array,
        AnyLt | AnyLte | AnyGt | AnyGte => {
            kind.array
                && matches!(
                    kind.scalar,
                    Scalar::Int | Scalar::UInt | Scalar::Float | Scalar::Datetime
                )
        }
        Glob
        | NotGlob
        | IGlob
        | NotIGlob
        | Regex
        | Fuzzy
        | ContainsAllTokens
        | ContainsAnyToken
        | ContainsTokenSequence => kind.scalar == Scalar::String,
    }
}

fn any_glob() -> impl Strategy<Value = Json> {
    let piece = prop::sample::select(vec![
        "*",
        "*",
        "?",
        "a",
        "é",
        "É",
        "[ab]",
        "[!a]",
        "[a-f]",
        "[É]",
        "{a,sea}",
        "{fish,é*}",
        "sea",
        "fish",
        " ",
    ]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| json!(pieces.concat()))
}

fn any_fuzzy() -> impl Strategy<Value = (Json, CompareOptions)> {
    let typo = prop::sample::select(vec!["", "x", "a", "É", "e"]);
    let query = (any_text(), 0..20usize, typo).prop_map(|(text, at, typo)| {
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.min(chars.len());
        chars.splice(at..(at + 1).min(chars.len()), typo.chars());
        Json::from(chars.into_iter().collect::<String>())
    });
    let entry = |min_query_chars, distance| EditDistance {
        min_query_chars,
        distance,
    };
    let distances = prop::sample::select(vec![
        vec![entry(3, 0), entry(6, 1), entry(9, 2)],
        vec![entry(7, 0)],
        vec![entry(6, 1)],
    ]);
    (query, distances, any::<bool>()).prop_map(|(query, max_edit_distance, case_sensitive)| {
        (
            query,
            CompareOptions::Fuzzy(FuzzyOptions {
                max_edit_distance,
                case_sensitive,
            }),
        )
    })
}

fn any_tokens(kind: Kind, op: FilterOp) -> BoxedStrategy<(Json, CompareOptions)> {
    let list = prop::collection::vec(any_text(), 0..3).prop_map(|l| json!(l));
    let words = prop::collection::vec(any_word(), 0..4).prop_map(|l| json!(l));
    let operand = match kind.text.tokenizer {
        Tokenizer::PreTokenizedArray => prop_oneof![list, words].boxed(),
        _ => prop_oneof![2 => any_text().prop_map(Json::from), 1 => list, 1 => words].boxed(),
    };
    let options = match op {
        FilterOp::ContainsTokenSequence => vec![CompareOptions::None],
        _ => vec![CompareOptions::None, CompareOptions::LastAsPrefix],
    };
    (operand, prop::sample::select(options)).boxed()
}

fn any_comparison(name: &'static str, kind: Kind) -> BoxedStrategy<Filter> {
    use FilterOp::*;
    let ops: Vec<FilterOp> = FilterOp::ALL
        .iter()
        .map(|(op, _)| *op)
        .filter(|op| fits(kind, *op))
        .collect();
    prop::sample::select(ops)
        .prop_flat_map(move |op| {
            let plain = |s: BoxedStrategy<Json>| s.prop_map(|json| (json, CompareOptions::None)).boxed();
            let one = || any_operand(kind.scalar);
            let with = match op {
                In | NotIn => plain(
                    prop_oneof![
                        4 => any_list(kind.scalar),
                        1 => any_list(kind.scalar).prop_map(|mut l| {
                            l.as_array_mut().unwrap().push(Json::Null);
                            l
                        }),
                    ]
                    .boxed(),
                ),
                ContainsAny | NotContainsAny => plain(any_list(kind.scalar)),
                Contains | NotContains | AnyLt | AnyLte | AnyGt | AnyGte => plain(one()),
                Glob | NotGlob | IGlob | NotIGlob => plain(any_glob().boxed()),
                Regex => plain(
                    prop::sample::select(vec![
                        json!("^sea"),
                        json!("a$"),
                        json!("(?i)SEA|é"),
                        json!("^$"),
                        json!("f.*h"),
                        json!("[^a-z ]"),
                        json!(r"\bof\b"),
                        json!("(sea){2}"),
                        json!(""),
                    ])
                    .boxed(),
                ),
                Fuzzy => any_fuzzy().boxed(),
                ContainsAllTokens | ContainsAnyToken | ContainsTokenSequence => any_tokens(kind, op),
                Eq | NotEq if kind.array => plain(
                    prop_oneof![
                        1 => Just(Json::Null),
                        6 => prop::collection::vec(one(), 0..3).prop_map(Json::Array),
                    ]
                    .boxed(),
                ),
                _ => plain(prop_oneof![1 => Just(Json::Null), 6 => one()].boxed()),
            };
            with.prop_map(move |(operand, options)| Filter::Compare {
                attribute: name.into(),
                op,
                operand: Operand::Value(operand),
                options,
            })
        })
        .boxed()
}

/// A filter on any of some attributes and the id.
pub fn any_filter(kinds: &[Kind]) -> BoxedStrategy<Filter> {
    let id = Kind {
        scalar: Scalar::UInt,
        array: false,
        text: FullTextConfig::default(),
    };
    let mut comparisons = vec![(1, any_comparison("id", id))];
    let named = kinds.iter().zip(NAMES);
    comparisons.extend(named.map(|(kind, name)| (4, any_comparison(name, *kind))));
    let one = Union::new_weighted(comparisons);
    let nested = one.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            2 => prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            1 => inner.prop_map(|f| Filter::Not(Box::new(f))),
        ]
    });
    nested.boxed()
}

/// Some attributes, some rows of them, and a filter on any of them and the id.
fn any_case() -> impl Strategy<Value = (Vec<Kind>, Vec<Vec<Value>>, Filter)> {
    prop::collection::vec(any_kind(), 1..=3).prop_flat_map(|kinds| {
        let filter = any_filter(&kinds);
        let row: Vec<BoxedStrategy<Value>> = kinds.iter().map(|k| any_of_kind(*k)).collect();
        (Just(kinds), prop::collection::vec(row, 0..150), filter)
    })
}

fn chunk_with(schema: &Schema, rows: &[Vec<Value>]) -> Chunk {
    let named = |values: &Vec<Value>| NAMES.into_iter().zip(values.iter().cloned()).collect();
    let rows: Rows = rows
        .iter()
        .enumerate()
        .map(|(i, v)| (Id::UInt(i as u64), named(v)))
        .collect();
    chunk_of(schema, &rows)
}

proptest! {
    #[test]
    fn a_column_at_a_time_equals_the_oracle_row_by_row((kinds, rows, filter) in any_case(), cut in 0usize..150) {
        let schema = schema_with(&kinds);
        let chunk = chunk_with(&schema, &rows);
        let bound = bind(&filter, &schema).unwrap();
        let expected = Bitset::from_fn(rows.len(), |i| {
            holds(&filter, &schema, &|name| match NAMES.iter().position(|n| *n == name) {
                None => Value::UInt(i as u64),
                Some(at) => rows[i][at].clone(),
            })
        });
        prop_assert_eq!(&evaluate(&bound, &chunk), &expected);
        for row in 0..rows.len() {
            prop_assert_eq!(matches_row(&bound, &chunk, row as u32), expected.contains(row));
        }
        // Any range of rows gives the same bits, also one that starts inside of a byte.
        let cut = cut.min(rows.len());
        let rest = evaluate_rows(&bound, &chunk, cut..rows.len());
        prop_assert_eq!(rest, Bitset::from_fn(rows.len() - cut, |i| expected.contains(cut + i)));
        // Without text indexes the answers are the same.
        let mut plain = chunk.clone();
        plain.text.clear();
        prop_assert_eq!(&evaluate(&bound, &plain), &expected);
        let not = bind(&Filter::Not(Box::new(filter)), &schema).unwrap();
        let mut complement = expected;
        complement.invert();
        prop_assert_eq!(evaluate(&not, &chunk), complement);
    }
}
