//! Against a model that scores row by row, straight from the definitions, sharing no code with the
//! implementation.

use std::collections::BTreeMap;

use half::f16;
use proptest::prelude::*;
use serde_json::json;

use super::bind;
use crate::base::Bitset;
use crate::model::filter::Operand;
use crate::model::query::{Curve, Midpoint, Score, TextQuery};
use crate::model::value::Value;
use crate::model::{Filter, FilterOp, FullTextConfig, Id, IdKind, Limits, Schema};
use crate::query::tests::support::{Rows, schema_of, snapshot_of};
use crate::snapshot::Snapshot;

const WORDS: [&str; 6] = ["fo", "fox", "foxes", "dog", "do", "cat"];
const DIMENSIONS: [&str; 3] = ["a", "b", "12"];

/// A row, and whether it lives.
#[derive(Clone, Debug)]
pub struct Row {
    n: Option<i64>,
    u: Option<u64>,
    f: Option<f64>,
    d: Option<i64>,
    words: Option<Vec<&'static str>>,
    sparse: Option<BTreeMap<&'static str, f32>>,
    pub live: bool,
}

pub fn any_row() -> impl Strategy<Value = Row> {
    let word = || prop::sample::select(WORDS.to_vec());
    // Weights that f16 holds exactly.
    let weight = (-8i8..9).prop_map(|x| f32::from(x) / 4.0);
    let sparse = prop::collection::btree_map(prop::sample::select(DIMENSIONS.to_vec()), weight, 0..4);
    (
        prop::option::of(prop_oneof![-3i64..6, Just(i64::MIN), Just(i64::MAX)]),
        prop::option::of(prop_oneof![0u64..6, Just(u64::MAX)]),
        prop::option::of(prop_oneof![-2.0..5.0f64, Just(0.0), Just(-0.0), Just(1e300)]),
        prop::option::of(0i64..5000),
        prop::option::of(prop::collection::vec(word(), 0..6)),
        prop::option::of(sparse),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(n, u, f, d, words, sparse, live)| Row {
            n,
            u,
            f,
            d,
            words,
            sparse,
            live,
        })
}

impl Row {
    /// Its attributes that are not null, by name.
    pub fn values(&self) -> Vec<(&'static str, Value)> {
        let mut values: Vec<(&'static str, Value)> = Vec::new();
        values.extend(self.n.map(|x| ("n", Value::Int(x))));
        values.extend(self.u.map(|x| ("u", Value::UInt(x))));
        values.extend(self.f.map(|x| ("f", Value::Float(x))));
        values.extend(self.d.map(|x| ("d", Value::Datetime(x))));
        values.extend(self.words.as_ref().map(|w| ("t", Value::String(w.join(" ")))));
        let entry = |(n, w): (&&str, &f32)| (n.to_string(), f16::from_f32(*w));
        let sparse = self.sparse.as_ref();
        values.extend(sparse.map(|s| ("s", Value::SparseVector(s.iter().map(entry).collect()))));
        values
    }
}

fn any_parts() -> impl Strategy<Value = Vec<Vec<Row>>> {
    prop::collection::vec(prop::collection::vec(any_row(), 0..30), 1..4)
}

fn any_leaf() -> impl Strategy<Value = Score> {
    let words = prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..4);
    let weights = prop::collection::btree_map(prop::sample::select(vec!["12", "a", "b", "z"]), -2f32..2.0, 0..4);
    let compare = (prop::sample::select(vec![FilterOp::Gte, FilterOp::NotEq]), -3i64..6);
    let origin = prop_oneof![(-3i64..6).prop_map(|n| json!(n)), (-2.0..5.0f64).prop_map(|x| json!(x))];
    prop_oneof![
        3 => (words, any::<bool>()).prop_map(|(words, last_as_prefix)| Score::Text {
            attribute: "t".into(),
            query: TextQuery::Text(words.join(" ")),
            last_as_prefix,
        }),
        2 => weights.prop_map(|weights| Score::Sparse {
            attribute: "s".into(),
            query: weights.into_iter().map(|(n, w)| (n.to_owned(), w)).collect(),
        }),
        2 => compare.prop_map(|(op, operand)| Score::Filter(Filter::compare("n", op, json!(operand)))),
        2 => prop::sample::select(vec!["n", "u", "f"]).prop_map(|name| Score::Attribute(name.into())),
        2 => (prop::sample::select(vec!["n", "u", "f"]), origin)
            .prop_map(|(name, origin)| Score::Distance { attribute: name.into(), origin }),
        1 => (0i64..5000).prop_map(|ms| Score::Distance { attribute: "d".into(), origin: json!(ms) }),
    ]
}

pub fn any_score() -> impl Strategy<Value = Score> {
    any_leaf().prop_recursive(3, 12, 3, |inner| {
        let curve = (0.1..4.0f64, prop::sample::select(vec![1.0, 0.5, 2.0])).prop_map(|(midpoint, exponent)| Curve {
            midpoint: Midpoint::Number(midpoint),
            exponent,
        });
        let list = prop::collection::vec(inner.clone(), 1..4);
        let constant = prop::option::of(-1.0..2.0f64);
        prop_oneof![
            list.clone().prop_map(Score::Sum),
            (list, constant).prop_map(|(mut list, constant)| {
                list.extend(constant.map(Score::Constant));
                Score::Max(list)
            }),
            (prop_oneof![Just(0.0), 0.0..3.0f64], inner.clone()).prop_map(|(weight, of)| Score::Product {
                weight,
                of: Box::new(of)
            }),
            (curve.clone(), inner.clone()).prop_map(|(curve, of)| Score::Saturate {
                of: Box::new(of),
                curve
            }),
            (curve, inner).prop_map(|(curve, of)| Score::Decay {
                of: Box::new(of),
                curve
            }),
        ]
    })
}

/// BM25 with the default parameters, from its definition. Deleted rows count in the statistics.
fn bm25(words: &[&str], query: &[&str], last_as_prefix: bool, all: &[&Row]) -> f64 {
    let texts: Vec<&Vec<&str>> = all.iter().filter_map(|r| r.words.as_ref()).collect();
    let count = |list: &[&str], word: &str| list.iter().filter(|w| **w == word).count() as f64;
    let average = texts.iter().map(|t| t.len()).sum::<usize>() as f64 / texts.len() as f64;
    let mut terms: Vec<&str> = Vec::new();
    query.iter().filter(|w| !w.is_empty()).for_each(|w| {
        if !terms.contains(w) {
            terms.push(w);
        }
    });
    let mut score = 0.0;
    for term in terms {
        let (tf, qf) = (count(words, term), count(query, term));
        let df = texts.iter().filter(|t| t.contains(&term)).count() as f64;
        let idf = (1.0 + (texts.len() as f64 - df + 0.5) / (df + 0.5)).ln();
        let norm = 1.2 * (1.0 - 0.75 + 0.75 * words.len() as f64 / average);
        if tf > 0.0 {
            score += idf * (tf * 2.2 / (tf + norm)) * (qf * 9.0 / (qf + 8.0));
        }
    }
    if let (true, Some(last)) = (last_as_prefix, query.last()) {
        let longer = |w: &&&str| w.len() > last.len() && w.starts_with(last) && words.contains(w);
        score += WORDS.iter().filter(longer).count() as f64;
    }
    score
}

fn number(row: &Row, name: &str) -> Option<f64> {
    match name {
        "n" => row.n.map(|x| x as f64),
        "u" => row.u.map(|x| x as f64),
        "f" => row.f,
        _ => row.d.map(|x| x as f64),
    }
}

/// The value of an expression for a row, if it has one.
fn value(score: &Score, row: &Row, all: &[&Row]) -> Option<f64> {
    let present = |list: &[Score]| -> Vec<f64> { list.iter().filter_map(|s| value(s, row, all)).collect() };
    Some(match score {
        Score::Text {
            query: TextQuery::Text(query),
            last_as_prefix,
            ..
        } => match &row.words {
            Some(words) => bm25(
                words,
                &query.split_whitespace().collect::<Vec<_>>(),
                *last_as_prefix,
                all,
            ),
            None => 0.0,
        },
        Score::Text { .. } => unreachable!("the strategy makes texts"),
        Score::Sparse { query, .. } => {
            let stored = |name: &str| row.sparse.as_ref().and_then(|s| s.get(name).copied()).unwrap_or(0.0);
            query
                .iter()
                .map(|(name, w)| f64::from(*w) * f64::from(stored(name)))
                .sum()
        }
        Score::Sum(list) => {
            let list = present(list);
            (!list.is_empty()).then(|| list.iter().sum::<f64>().clamp(f64::MIN, f64::MAX))?
        }
        Score::Max(list) => {
            let constants = list
                .iter()
                .filter_map(|s| if let Score::Constant(x) = s { Some(*x) } else { None });
            let list: Vec<f64> = present(list);
            let max = list.iter().copied().reduce(f64::max)?;
            constants.fold(max, f64::max)
        }
        Score::Product { weight, of } => (weight * value(of, row, all)?).clamp(f64::MIN, f64::MAX),
        Score::Constant(_) => None?,
        Score::Filter(Filter::Compare {
            op: FilterOp::Gte,
            operand: Operand::Value(operand),
            ..
        }) => f64::from(row.n.is_some_and(|n| n >= operand.as_i64().unwrap())),
        Score::Filter(Filter::Compare {
            operand: Operand::Value(operand),
            ..
        }) => f64::from(row.n != operand.as_i64()),
        Score::Filter(_) => unreachable!("the strategy makes comparisons"),
        Score::Attribute(name) => number(row, name)?.max(0.0),
        Score::Distance { attribute, origin } => {
            let exact = match (attribute.as_str(), origin.as_i64()) {
                ("n", Some(origin)) => row.n.map(|x| (i128::from(x) - i128::from(origin)).abs() as f64),
                ("u", Some(origin)) => row.u.map(|x| (i128::from(x) - i128::from(origin)).abs() as f64),
                _ => None,
            };
            exact.or(number(row, attribute).map(|x| (x - origin.as_f64().unwrap()).abs()))?
        }
        Score::Saturate { of, curve } => {
            let (x, m) = powers(value(of, row, all)?, curve);
            if x.is_infinite() { 1.0 } else { x / (x + m) }
        }
        Score::Decay { of, curve } => {
            let (x, m) = powers(value(of, row, all)?, curve);
            m / (x + m)
        }
    })
}

fn powers(x: f64, curve: &Curve) -> (f64, f64) {
    let Midpoint::Number(midpoint) = curve.midpoint else {
        unreachable!("the strategy makes numbers");
    };
    (x.max(0.0).powf(curve.exponent), midpoint.powf(curve.exponent))
}

/// The scores that a query returns, by id.
fn model(score: &Score, parts: &[Vec<Row>]) -> BTreeMap<u64, f64> {
    let all: Vec<&Row> = parts.iter().flatten().collect();
    let mut of_field = score;
    while let Score::Saturate { of, .. } | Score::Decay { of, .. } = of_field {
        of_field = of;
    }
    let zero = matches!(of_field, Score::Attribute(_) | Score::Distance { .. });
    let rows = all.iter().enumerate().filter(|(_, row)| row.live);
    rows.filter_map(|(i, row)| Some((id_of(i), value(score, row, &all)?)))
        .filter(|(_, x)| *x > 0.0 || zero)
        .collect()
}

/// Ids that do not ascend with the rows.
fn id_of(i: usize) -> u64 {
    (i as u64 * 37 + 5) % 101
}

fn schema() -> Schema {
    let mut schema = schema_of(
        IdKind::UInt,
        &[
            ("n", "int"),
            ("u", "uint"),
            ("f", "float"),
            ("d", "datetime"),
            ("t", "string"),
            ("s", "{}f16"),
        ],
    );
    let mut text = schema.get("t").unwrap().clone();
    text.full_text = Some(FullTextConfig::default());
    schema.put(text);
    schema
}

fn snapshot(parts: &[Vec<Row>]) -> Snapshot {
    let mut i = 0;
    let mut row = |row: &Row| {
        i += 1;
        (Id::UInt(id_of(i - 1)), row.values())
    };
    let parts: Vec<(Rows, Vec<bool>)> = parts
        .iter()
        .map(|rows| {
            (
                rows.iter().map(&mut row).collect(),
                rows.iter().map(|r| r.live).collect(),
            )
        })
        .collect();
    snapshot_of(&schema(), &parts)
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-300)
}

proptest! {
    #[test]
    fn every_expression_equals_the_row_by_row_model(parts in any_parts(), score in any_score()) {
        let snapshot = snapshot(&parts);
        let weighed = bind(&score, &snapshot.schema, &Limits::default()).unwrap().weigh(&snapshot.parts, &snapshot.parts);
        let mut found = BTreeMap::new();
        for (number, part) in snapshot.parts.iter().enumerate() {
            for (row, score) in weighed.evaluate(number, 0..part.chunk.len(), &part.live) {
                let Id::UInt(id) = part.chunk.ids.get(row as usize) else { panic!() };
                found.insert(id, score);
            }
        }
        let expected = model(&score, &parts);
        // Values within rounding of 0 may be left out by either.
        let sizeable = |scores: &BTreeMap<u64, f64>| -> BTreeMap<u64, f64> {
            scores.iter().filter(|(_, x)| **x == 0.0 || x.abs() > 1e-12).map(|(id, x)| (*id, *x)).collect()
        };
        let (found, expected) = (sizeable(&found), sizeable(&expected));
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{:?} {:?}", found, expected);
        for (id, x) in &found {
            prop_assert!(close(*x, expected[id]), "{id}: {x} is not {}", expected[id]);
        }
    }

    #[test]
    fn a_row_alone_and_any_range_have_the_same_bits(
        parts in any_parts(), score in any_score(), cut in 0usize..30, chosen in any::<u64>(),
    ) {
        let snapshot = snapshot(&parts);
        let weighed = bind(&score, &snapshot.schema, &Limits::default()).unwrap().weigh(&snapshot.parts, &snapshot.parts);
        for (number, part) in snapshot.parts.iter().enumerate() {
            let rows = part.chunk.len();
            let cut = cut.min(rows);
            let eligible = |range: std::ops::Range<usize>| Bitset::from_fn(range.len(), |i| chosen >> (range.start + i) & 1 == 1);
            let whole = weighed.evaluate(number, 0..rows, &eligible(0..rows));
            let mut halves = weighed.evaluate(number, 0..cut, &eligible(0..cut));
            halves.extend(weighed.evaluate(number, cut..rows, &eligible(cut..rows)));
            prop_assert_eq!(&whole, &halves);
            for (row, score) in whole {
                prop_assert!(chosen >> row & 1 == 1);
                prop_assert_eq!(weighed.row(number, row).to_bits(), score.to_bits());
            }
        }
    }
}

fn one_row() -> Snapshot {
    let row = |n: Option<i64>, f: Option<f64>| Row {
        n,
        u: None,
        f,
        d: Some(7_200_000),
        words: None,
        sparse: None,
        live: true,
    };
    snapshot(&[vec![row(Some(-4), Some(1e308)), row(None, None)]])
}

fn rows_and_scores(score: &Score) -> Vec<(u32, f64)> {
    let snapshot = one_row();
    let bound = bind(score, &snapshot.schema, &Limits::default()).unwrap_or_else(|e| panic!("{score:?}: {e}"));
    bound
        .weigh(&snapshot.parts, &snapshot.parts)
        .evaluate(0, 0..2, &Bitset::full(2))
}

fn curve(of: Score, rising: bool, midpoint: Midpoint, exponent: f64) -> Score {
    let (of, curve) = (Box::new(of), Curve { midpoint, exponent });
    match rising {
        true => Score::Saturate { of, curve },
        false => Score::Decay { of, curve },
    }
}

#[test]
fn zeros_of_attributes_and_distances_are_returned_and_other_zeros_are_not() {
    let n = || Score::Attribute("n".into());
    let at_n = || Score::Distance {
        attribute: "n".into(),
        origin: json!(-4),
    };
    let ten = Midpoint::Number(10.0);
    assert_eq!(rows_and_scores(&n()), [(0, 0.0)], "below 0 is 0, null is left out");
    assert_eq!(rows_and_scores(&at_n()), [(0, 0.0)]);
    assert_eq!(rows_and_scores(&curve(n(), true, ten, 1.0)), [(0, 0.0)]);
    assert_eq!(
        rows_and_scores(&curve(at_n(), false, ten, 1.0)),
        [(0, 1.0)],
        "null is not the origin"
    );
    assert_eq!(rows_and_scores(&Score::Max(vec![Score::Constant(0.0), n()])), []);
    assert_eq!(
        rows_and_scores(&Score::Max(vec![Score::Constant(2.0), n()])),
        [(0, 2.0)]
    );
    assert_eq!(rows_and_scores(&Score::Sum(vec![n(), at_n()])), []);
    assert_eq!(rows_and_scores(&Score::Filter(Filter::Or(vec![]))), []);
    let null = Filter::compare("n", FilterOp::Eq, json!(null));
    assert_eq!(rows_and_scores(&Score::Filter(null.clone())), [(1, 1.0)]);
    assert_eq!(
        rows_and_scores(&Score::Product {
            weight: 0.0,
            of: Box::new(Score::Filter(null.clone()))
        }),
        []
    );
    assert_eq!(rows_and_scores(&Score::Sum(vec![n(), Score::Filter(null)])), [(1, 1.0)]);
}

#[test]
fn curves_have_their_values_and_sums_stay_finite() {
    let d = |origin| Score::Distance {
        attribute: "d".into(),
        origin,
    };
    let hours = |h: f64| Midpoint::Milliseconds(h * 3_600_000.0);
    let both = |x: f64| [(0, x), (1, x)];
    assert_eq!(rows_and_scores(&d(json!("1970-01-01T00:00:00Z"))), both(7_200_000.0));
    assert_eq!(rows_and_scores(&curve(d(json!(0)), false, hours(2.0), 3.0)), both(0.5));
    assert_eq!(rows_and_scores(&curve(d(json!(0)), true, hours(1.0), 2.0)), both(0.8));
    let f = || Score::Attribute("f".into());
    assert_eq!(rows_and_scores(&Score::Sum(vec![f(), f(), f()])), [(0, f64::MAX)]);
    assert_eq!(
        rows_and_scores(&Score::Product {
            weight: 1e300,
            of: Box::new(f())
        }),
        [(0, f64::MAX)]
    );
    assert_eq!(
        rows_and_scores(&curve(f(), true, Midpoint::Number(1e-300), 5.0)),
        [(0, 1.0)]
    );
    let far = Score::Distance {
        attribute: "n".into(),
        origin: json!(u64::MAX),
    };
    assert_eq!(rows_and_scores(&far), [(0, 18_446_744_073_709_551_619.0)]);
}

#[test]
fn refusals_say_what_is_needed() {
    let schema = schema();
    let number = Midpoint::Number(1.0);
    let n = || Score::Attribute("n".into());
    let text = |attribute: &str| Score::Text {
        attribute: attribute.into(),
        query: TextQuery::Text("x".into()),
        last_as_prefix: true,
    };
    let sparse = |attribute: &str, query: Vec<(String, f32)>| Score::Sparse {
        attribute: attribute.into(),
        query,
    };
    let distance = |attribute: &str, origin| Score::Distance {
        attribute: attribute.into(),
        origin,
    };
    let product = |weight| Score::Product {
        weight,
        of: Box::new(n()),
    };
    for (score, part) in [
        (Score::Sum(vec![]), "at least one"),
        (Score::Max(vec![Score::Constant(1.0)]), "besides numbers"),
        (Score::Max(vec![Score::Constant(f64::NAN), n()]), "NaN cannot"),
        (Score::Constant(1.0), "of Max only"),
        (product(-1.0), "at least 0"),
        (product(f64::INFINITY), "at least 0"),
        (Score::Attribute("gone".into()), "attribute not found"),
        (Score::Attribute("t".into()), "type int, uint or float"),
        (Score::Attribute("d".into()), "use [\"Dist\""),
        (
            distance("t", json!(1)),
            "needs an attribute of type int, uint, float or datetime",
        ),
        (distance("n", json!("2024-01-01")), "must be a number"),
        (distance("d", json!("soon")), "ISO-8601"),
        (distance("d", json!(1.5)), "ISO-8601"),
        (distance("gone", json!(1)), "attribute not found"),
        (text("n"), "only string and []string"),
        (text("gone"), "attribute not found"),
        (sparse("n", vec![]), "only {}f16"),
        (sparse("gone", vec![]), "attribute not found"),
        (sparse("s", vec![("a".into(), f32::NAN)]), "range of f32"),
        (sparse("s", vec![("a".into(), 1.0); 1025]), "at most 1024 entries"),
        (
            curve(n(), true, Midpoint::Milliseconds(1.0), 1.0),
            "only for Dist of a datetime",
        ),
        (
            curve(n(), true, Midpoint::Number(0.0), 1.0),
            "midpoint of Saturate must be above 0",
        ),
        (curve(n(), false, number, f64::NAN), "exponent of Decay must be above 0"),
        (
            Score::Filter(Filter::compare("gone", FilterOp::Eq, json!(1))),
            "attribute not found",
        ),
        (
            (0..33).fold(n(), |of, _| Score::Product {
                weight: 1.0,
                of: Box::new(of),
            }),
            "32 deep",
        ),
        (Score::Sum(vec![n(); 1024]), "at most 1024 expressions"),
    ] {
        let error = bind(&score, &schema, &Limits::default())
            .err()
            .unwrap_or_else(|| panic!("{score:?}"));
        assert!(error.message.contains(part), "{} lacks {part}", error.message);
    }
}
