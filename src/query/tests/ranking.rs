//! Scores, several vectors and plans, through whole queries.

use proptest::prelude::*;
use serde_json::json;

use super::support::{Rows, schema_of, snapshot_of};
use super::*;
use crate::model::query::{Curve, Midpoint};

fn english(rows: &[(u64, &'static str)]) -> Snapshot {
    let mut schema = schema_of(IdKind::UInt, &[("content", "string")]);
    let mut text = schema.get("content").unwrap().clone();
    text.full_text = Some(FullTextConfig {
        stemming: true,
        remove_stopwords: true,
        ..FullTextConfig::default()
    });
    schema.put(text);
    let row = |(id, text): &(u64, &str)| (Id::UInt(*id), vec![("content", Value::String((*text).to_owned()))]);
    // Two parts, as after two writes.
    let (first, second) = rows.split_at(rows.len() / 2);
    let part = |rows: &[(u64, &str)]| -> (Rows, Vec<bool>) { (rows.iter().map(row).collect(), vec![true; rows.len()]) };
    snapshot_of(&schema, &[part(first), part(second)])
}

fn text(attribute: &str, query: &str, last_as_prefix: bool) -> Score {
    Score::Text {
        attribute: attribute.into(),
        query: TextQuery::Text(query.into()),
        last_as_prefix,
    }
}

fn best(snapshot: &Snapshot, score: Score, limit: usize) -> Vec<ResultRow> {
    ask(snapshot, query(Some(RankBy::Score(score)), limit), &CpuPool::inline()).unwrap()
}

#[test]
fn the_known_orders_of_text_scores_hold() {
    let content = |query: &str| text("content", query, false);
    let sum = |queries: &[&str]| Score::Sum(queries.iter().map(|q| content(q)).collect());
    let mut rows = vec![
        (1, "the fox is quick and brown"),
        (2, "fox jumped over the lazy dog"),
        (3, "the dog is lazy and brown"),
        (4, "the walrus is a slow and heavy animal"),
    ];
    assert_eq!(ids(&best(&english(&rows), content("fox jumping"), 10)), [2, 1]);
    rows.push((7, "walruses can live up to 40 years"));
    assert_eq!(
        ids(&best(&english(&rows), sum(&["walrus slow", "jumping fox"]), 2)),
        [4, 2]
    );
    let weighted = |of: &str, weight| Score::Product {
        weight,
        of: Box::new(content(of)),
    };
    let doubled = Score::Sum(vec![weighted("walrus slow", 0.1), weighted("jumping fox", 2.0)]);
    assert_eq!(ids(&best(&english(&rows), doubled, 10)), [2, 1, 4, 7]);
    rows.push((8, "row based upsert"));
    rows.push((
        9,
        "a row is based on an upsert among many other words that make this text a long one",
    ));
    assert_eq!(ids(&best(&english(&rows), content("row based upsert"), 10)), [8, 9]);
    let walruses = [
        (1, "walruses have large tusks and whiskers"),
        (2, "they live in the cold arctic"),
        (3, "mollusks are what most of their diet is made of"),
        (4, "large tusks help to find the mollusks of their diet"),
        (5, "they rest on ice"),
    ];
    assert_eq!(
        ids(&best(&english(&walruses), sum(&["large tusk", "mollusk diet"]), 10)),
        [4, 1, 3]
    );
}

#[test]
fn a_prefix_adds_one_for_each_longer_token() {
    let rows: Vec<(u64, &str)> = vec![
        (1, "pine"),
        (2, "pin pineapple pinball pineapple"),
        (3, "spin"),
        (4, "cat pi"),
    ];
    let mut snapshot = english(&rows);
    let mut schema = (*snapshot.schema).clone();
    let mut attribute = schema.get("content").unwrap().clone();
    attribute.full_text = Some(FullTextConfig::default());
    schema.put(attribute);
    let part = |rows: &[(u64, &'static str)]| {
        let row = |r: &(u64, &str)| (Id::UInt(r.0), vec![("content", Value::String(r.1.into()))]);
        (rows.iter().map(row).collect(), vec![true; rows.len()])
    };
    snapshot.parts = snapshot_of(&schema, &[part(&rows)]).parts;
    snapshot.schema = Arc::new(schema);
    let scores = |query: &str, prefix| -> Vec<(u64, f64)> {
        let rows = best(&snapshot, text("content", query, prefix), 10);
        rows.iter()
            .zip(ids(&rows))
            .map(|(r, id)| {
                if let Some(Rank::Score(s)) = r.rank {
                    (id, s)
                } else {
                    panic!()
                }
            })
            .collect()
    };
    // pineapple and pinball; pine.
    let pin = scores("pin", false)[0].1;
    assert_eq!(scores("pin", true), [(2, pin + 2.0), (1, 1.0)]);
    // Only the last token is a prefix.
    let cat = scores("cat", false)[0].1;
    assert_eq!(scores("pi cat", true)[0].0, 4);
    assert_eq!(scores("cat pinea", true), [(4, cat), (2, 1.0)]);
    assert_eq!(scores("", true), []);
}

proptest! {
    #[test]
    fn a_lone_text_clause_has_the_same_bits_by_postings_and_by_rows(
        parts in any_rows(), prefix in any::<bool>(), limit in 1usize..50, low in -2i64..3,
        words in prop::collection::vec(prop::sample::select(vec!["fox", "do", "cat", "f"]), 0..4),
    ) {
        let (snapshot, _) = small_snapshot(&parts);
        let clause = text("s", &words.join(" "), prefix);
        let asked = |score| {
            let mut query = query(Some(RankBy::Score(score)), limit);
            query.filter = Some(Filter::compare("n", FilterOp::Lte, json!(low)));
            ask(&snapshot, query, &CpuPool::inline()).unwrap()
        };
        let bits = |rows: &[ResultRow]| -> Vec<(u64, u64)> {
            rows.iter().zip(ids(rows)).map(|(r, id)| match r.rank {
                Some(Rank::Score(s)) => (id, s.to_bits()),
                _ => panic!("a score"),
            }).collect()
        };
        let (by_postings, by_rows) = (asked(clause.clone()), asked(Score::Sum(vec![clause])));
        prop_assert_eq!(bits(&by_postings), bits(&by_rows));
    }

    #[test]
    fn late_interaction_equals_its_definition(
        rows in prop::collection::vec(prop::option::of(prop::collection::vec((-3i8..4, -3i8..4), 0..4)), 0..20),
        asked in prop::collection::vec((-3i8..4, -3i8..4), 1..4),
        limit in 1usize..25, cosine in any::<bool>(),
    ) {
        let point = |p: &(i8, i8)| vec![f32::from(p.0), f32::from(p.1)];
        let schema = schema_of(IdKind::UInt, &[("m", "[][2]f32")]);
        let row = |(i, vectors): (usize, &Option<Vec<(i8, i8)>>)| {
            let value = vectors.as_ref().map(|v| Value::MultiVector { dims: 2, elements: v.iter().flat_map(point).collect() });
            (Id::UInt(100 - i as u64), value.map(|v| ("m", v)).into_iter().collect())
        };
        let (first, second) = rows.split_at(rows.len() / 3);
        let part = |from: usize, rows: &[Option<Vec<_>>]| -> (Rows, Vec<bool>) {
            (rows.iter().enumerate().map(|(i, r)| row((from + i, r))).collect(), vec![true; rows.len()])
        };
        let snapshot = snapshot_of(&schema, &[part(0, first), part(first.len(), second)]);
        let rank_by = RankBy::Nearest {
            attribute: "m".into(),
            query: VectorQuery::Many(asked.iter().map(point).collect()),
            exact: false,
        };
        let mut query = query(Some(rank_by), limit);
        query.distance_metric = Some(if cosine { Metric::CosineDistance } else { Metric::EuclideanSquared });
        let found = ask(&snapshot, query, &CpuPool::new(2)).unwrap();

        let similarity = |a: &(i8, i8), b: &(i8, i8)| -> f64 {
            let [ax, ay, bx, by] = [a.0, a.1, b.0, b.1].map(f64::from);
            let norms = (ax * ax + ay * ay).sqrt() * (bx * bx + by * by).sqrt();
            match cosine {
                true if norms == 0.0 => 0.0,
                true => (ax * bx + ay * by) / norms,
                false => -((ax - bx).powi(2) + (ay - by).powi(2)),
            }
        };
        let max_sim = |row: &[(i8, i8)]| -> f64 {
            asked.iter().map(|q| row.iter().map(|x| similarity(q, x)).fold(f64::NEG_INFINITY, f64::max)).sum()
        };
        let offset = if cosine { asked.len() as f64 } else { 0.0 };
        let with_vectors = rows.iter().enumerate().filter_map(|(i, r)| Some((100 - i as u64, r.as_ref()?)));
        let expected: std::collections::BTreeMap<u64, f64> =
            with_vectors.filter(|(_, r)| !r.is_empty()).map(|(id, r)| (id, offset - max_sim(r))).collect();
        prop_assert_eq!(found.len(), limit.min(expected.len()));
        let mut worst = (f32::NEG_INFINITY, 0);
        for (row, id) in found.iter().zip(ids(&found)) {
            let Some(Rank::Distance(distance)) = row.rank else { panic!("a distance") };
            prop_assert!((f64::from(distance) - expected[&id]).abs() < 1e-5, "{distance} is not {}", expected[&id]);
            prop_assert!((distance, id) > worst, "not in order");
            worst = (distance, id);
        }
        let found = ids(&found);
        for (id, distance) in expected {
            prop_assert!(found.contains(&id) || distance > f64::from(worst.0) - 1e-5, "{id} is nearer");
        }
    }
}

#[test]
fn scores_of_many_rows_are_the_same_on_any_pool() {
    let words = ["fox", "dog fox", "cat dog", "foxes and cats", ""];
    let part = |from: u64, count: u64| -> (Rows, Vec<bool>) {
        let row = |i: u64| {
            let point = Vector::F32(vec![(i * 7919 % 1009) as f32, (i % 13) as f32]);
            let mut values = vec![
                ("s", Value::String(words[(i % 5) as usize].into())),
                ("v", Value::Vector(point)),
            ];
            values.extend((!i.is_multiple_of(3)).then_some(("n", Value::Int((i % 10) as i64))));
            (Id::UInt(i * 7919 % 20_011), values)
        };
        let rows = (from..from + count).map(row).collect();
        (rows, (0..count).map(|i| i % 7 != 0).collect())
    };
    let snapshot = snapshot_of(
        &small_schema(),
        &[part(0, 70), part(70, 11_001), part(11_071, 1), part(11_072, 4_500)],
    );
    let n = || Score::Attribute("n".into());
    let curve = Curve {
        midpoint: Midpoint::Number(3.0),
        exponent: 2.0,
    };
    let scores = [
        text("s", "fox cat", true),
        Score::Sum(vec![
            text("s", "fox", false),
            Score::Product {
                weight: 0.25,
                of: Box::new(n()),
            },
        ]),
        Score::Saturate {
            of: Box::new(n()),
            curve,
        },
        Score::Max(vec![
            Score::Decay {
                of: Box::new(Score::Distance {
                    attribute: "n".into(),
                    origin: json!(4),
                }),
                curve,
            },
            text("s", "dog", false),
        ]),
    ];
    for score in scores {
        for limit in [1, 100, 10_000] {
            let query = query(Some(RankBy::Score(score.clone())), limit);
            let one = ask(&snapshot, query.clone(), &CpuPool::inline()).unwrap();
            for threads in [2, 5] {
                assert_eq!(one, ask(&snapshot, query.clone(), &CpuPool::new(threads)).unwrap());
            }
            assert!(!one.is_empty());
        }
    }
}

#[test]
fn an_explanation_names_what_is_done() {
    let (snapshot, _) = small_snapshot(&[
        vec![(Some(1), Some("fox"), None, true), (None, None, None, false)],
        vec![],
    ]);
    let said = |query: &Query| described(&snapshot, query).unwrap();
    let mut score = query(
        Some(RankBy::Score(Score::Sum(vec![
            text("s", "quick fox", true),
            Score::Product {
                weight: 2.5,
                of: Box::new(Score::Filter(Filter::Not(Box::new(Filter::And(vec![]))))),
            },
        ]))),
        7,
    );
    score.filter = Some(Filter::compare("n", FilterOp::Gte, json!(3)));
    let plan = said(&score);
    for part in [
        "every row is scored",
        "  Sum\n    BM25 of \"s\": \"quick fox\", last token as a prefix\n    Product with 2.5\n",
        "1 where a filter holds\n        Not\n          And\n",
        "filter: evaluated column by column",
        "Gte",
        "rows scanned: 2 in 2 parts, 1 of them live\n",
        "limit: 7 rows\n",
    ] {
        assert!(plan.contains(part), "{plan} lacks {part}");
    }
    let nearest = |vector| RankBy::Nearest {
        attribute: "v".into(),
        query: VectorQuery::One(vector),
        exact: false,
    };
    for (rank_by, part) in [
        (None, "lookup in the order of id asc"),
        (
            Some(nearest(vec![1.0, 2.0])),
            "exact nearest neighbours of a vector of 2 dimensions in \"v\", euclidean_squared",
        ),
        (
            Some(RankBy::Score(text("s", "fox fox", false))),
            "over the postings of 1 terms",
        ),
        (
            Some(RankBy::Order(vec![("n".into(), Direction::Desc)])),
            "ordered scan by \"n\" desc, then id",
        ),
    ] {
        let plan = said(&query(rank_by, 1));
        assert!(
            plan.contains(part) && plan.contains("filter: none"),
            "{plan} lacks {part}"
        );
    }
    assert!(described(&snapshot, &query(Some(nearest(vec![1.0])), 1)).is_err());
    // Long filters are cut off.
    let mut long = query(None, 1);
    long.filter = Some(Filter::Or(vec![Filter::And(vec![]); 1000]));
    assert!(said(&long).lines().count() < 220);
}

#[test]
fn vectors_of_another_form_are_refused() {
    let mut schema = schema_of(
        IdKind::UInt,
        &[("v", "[2]f32"), ("m", "[][2]f32"), ("plain", "[][2]f32"), ("n", "int")],
    );
    let mut plain = schema.get("plain").unwrap().clone();
    (plain.ann, plain.metric, plain.late_interaction) = (None, None, false);
    schema.put(plain);
    let snapshot = snapshot_of(&schema, &[]);
    let embed = || VectorQuery::Embed {
        text: "x".into(),
        model: None,
    };
    for (attribute, of, exact, part) in [
        (
            "v",
            VectorQuery::Many(vec![vec![1.0, 2.0]]),
            false,
            "compared with one vector",
        ),
        (
            "m",
            VectorQuery::One(vec![1.0, 2.0]),
            false,
            "an array of vectors, not with one",
        ),
        (
            "m",
            VectorQuery::Many(vec![vec![1.0, 2.0], vec![1.0]]),
            false,
            "has 1 dimensions, and \"m\" has 2",
        ),
        ("m", VectorQuery::Many(vec![]), false, "no vectors"),
        (
            "m",
            VectorQuery::Many(vec![vec![1.0, 2.0]; 1025]),
            false,
            "at most 1024 vectors",
        ),
        ("m", VectorQuery::Many(vec![vec![1.0, f32::NAN]]), false, "range of f32"),
        (
            "plain",
            VectorQuery::Many(vec![vec![1.0, 2.0]]),
            false,
            "late_interaction",
        ),
        (
            "plain",
            VectorQuery::Many(vec![vec![1.0, 2.0]]),
            true,
            "distance_metric is required",
        ),
        ("v", embed(), false, "no embedding model configured"),
        ("n", embed(), false, "need a vector attribute"),
    ] {
        let mut query = query(
            Some(RankBy::Nearest {
                attribute: attribute.into(),
                query: of,
                exact,
            }),
            1,
        );
        query.filter = Some(Filter::And(vec![]));
        let error = ask(&snapshot, query, &CpuPool::inline()).unwrap_err();
        assert!(error.message.contains(part), "{} lacks {part}", error.message);
    }
    let mut query = query(
        Some(RankBy::Nearest {
            attribute: "plain".into(),
            query: VectorQuery::Many(vec![vec![1.0, 2.0]]),
            exact: true,
        }),
        1,
    );
    query.filter = Some(Filter::And(vec![]));
    query.distance_metric = Some(Metric::CosineDistance);
    assert!(ask(&snapshot, query, &CpuPool::inline()).unwrap().is_empty());
}
