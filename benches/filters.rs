//! What does a filter cost per row, and how close is it to Arrow's own kernels?
//!
//! Data: 1 M rows from a seed, one chunk: an int, a float, a bool, a string of about 20 bytes, an array of
//! three ints, a text of eight words with full-text search. One row in ten is null in each column.
//! Warm: the rows are in memory and have been read before. One thread.
//! Baseline: the kernel of arrow-ord or arrow-string for the same predicate, in the same run, with the
//! same number of rows found; several kernels and an `or` where Arrow has none. A dash: Arrow has nothing
//! like it.
//! Reported: best of 5 rounds in ms, nanoseconds per row, and the ratio to the baseline; below 1 is
//! faster. Then parsing and binding: best of 5 rounds in microseconds.
//! Left out: the thread pool, the rows' way into an answer.   Run: cargo bench --bench filters
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::types::Int64Type;
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray, ListArray, Scalar, UInt64Array,
};
use arrow::compute::kernels::{cmp, comparison};
use arrow::compute::{and, ilike, like, or, starts_with};
use serde_json::{Value as Json, json};
use shoal::base::Rng;
use shoal::model::filter::{self, References};
use shoal::model::{AttrType, Attribute, Column, IdColumn, IdKind, Limits, Schema};
use shoal::query::filter::{bind, evaluate};
use shoal::tail::Chunk;

const SEED: u64 = 42;
const ROWS: usize = 1_000_000;
const ROUNDS: usize = 5;
const WORDS: [&str; 16] = [
    "puffer", "fish", "object", "storage", "vector", "search", "marine", "mammal", "deep", "water", "engine", "filter",
    "segment", "cache", "Lübeck", "harbour",
];

fn main() {
    let rows = Rows::new();
    let schema = schema();
    let chunk = rows.chunk(&schema);
    println!("{ROWS} rows, one thread");
    println!(
        "{:44} {:>9} {:>7} {:>9} {:>6}",
        "filter", "ms", "ns/row", "arrow ms", "ratio"
    );
    for (filter, baseline) in rows.predicates() {
        report(&filter, &schema, &chunk, baseline.as_deref());
    }
    println!();
    println!("{:44} {:>9} {:>9}", "filter", "parse us", "bind us");
    for (name, filter) in [
        ("one comparison", json!(["n", "Eq", 5])),
        ("worked example of the reference", worked_example()),
        (
            "In with 100,000 ints",
            json!(["n", "In", (0..100_000).collect::<Vec<i64>>()]),
        ),
        (
            "a regular expression",
            json!(["s", "Regex", r"(?i)^(puffer|fish)\s\w+\s\d+$"]),
        ),
    ] {
        report_parsing(name, &filter, &schema);
    }
}

fn worked_example() -> Json {
    json!([
        "And",
        [
            ["s", "In", ["en", "de"]],
            ["Not", ["a", "ContainsAny", [1, 2]]],
            [
                "Or",
                [
                    ["s", "IGlob", "*puffer*"],
                    ["t", "ContainsTokenSequence", "object storage"]
                ]
            ]
        ]
    ])
}

type Baseline<'a> = Box<dyn Fn() -> BooleanArray + 'a>;

/// The columns, as the chunk has them.
struct Rows {
    n: Int64Array,
    f: Float64Array,
    b: BooleanArray,
    s: LargeStringArray,
    a: ListArray,
    t: LargeStringArray,
}

impl Rows {
    fn new() -> Self {
        let rng = Rng::seeded(SEED);
        let null = || rng.below(10) == 0;
        let word = || WORDS[rng.below(WORDS.len() as u64) as usize];
        let words = |n: usize| (0..n).map(|_| word()).collect::<Vec<_>>().join(" ");
        Self {
            n: (0..ROWS).map(|_| (!null()).then(|| rng.below(1000) as i64)).collect(),
            f: (0..ROWS)
                .map(|_| (!null()).then(|| rng.below(1000) as f64 / 8.0))
                .collect(),
            b: (0..ROWS).map(|_| (!null()).then(|| rng.below(2) == 0)).collect(),
            s: (0..ROWS)
                .map(|_| (!null()).then(|| format!("{} {} {}", word(), word(), rng.below(100_000))))
                .collect(),
            a: ListArray::from_iter_primitive::<Int64Type, _, _>(
                (0..ROWS).map(|_| (!null()).then(|| (0..3).map(|_| Some(rng.below(100) as i64)).collect::<Vec<_>>())),
            ),
            t: (0..ROWS).map(|_| (!null()).then(|| words(8))).collect(),
        }
    }

    fn chunk(&self, schema: &Schema) -> Chunk {
        let arrays: [(&str, ArrayRef); 6] = [
            ("n", Arc::new(self.n.clone())),
            ("f", Arc::new(self.f.clone())),
            ("b", Arc::new(self.b.clone())),
            ("s", Arc::new(self.s.clone())),
            ("a", Arc::new(self.a.clone())),
            ("t", Arc::new(self.t.clone())),
        ];
        let id = |name: &str| schema.get(name).expect("the schema has every column").id;
        let columns: BTreeMap<_, _> = arrays.map(|(name, array)| (id(name), Column::Values(array))).into();
        Chunk::build(
            IdColumn::UInt(UInt64Array::from_iter_values(0..ROWS as u64)),
            columns,
            schema,
        )
    }

    fn predicates(&self) -> Vec<(Json, Option<Baseline<'_>>)> {
        let int = Int64Array::new_scalar;
        let text = |s: &str| Scalar::new(LargeStringArray::from_iter_values([s]));
        let (n, f, s, t) = (&self.n, &self.f, &self.s, &self.t);
        let equal = move |x: i64| cmp::eq(n, &int(x)).expect("ints");
        let any_equal = move |list: std::ops::Range<i64>| {
            list.map(equal)
                .reduce(|a, b| or(&a, &b).expect("as long"))
                .expect("not empty")
        };
        let none = || None::<Baseline<'_>>;
        vec![
            (json!(["n", "Eq", 5]), Some(Box::new(move || equal(5)))),
            (json!(["n", "Lt", 500]), none()),
            (
                json!(["n", "Gte", 500]),
                Some(Box::new(move || cmp::gt_eq(n, &int(500)).expect("ints"))),
            ),
            (
                json!(["n", "In", [1, 2, 3, 4]]),
                Some(Box::new(move || any_equal(1..5))),
            ),
            (
                json!(["n", "In", (0..100).collect::<Vec<i64>>()]),
                Some(Box::new(move || any_equal(0..100))),
            ),
            (
                json!(["f", "Gt", 62.5]),
                Some(Box::new(move || {
                    cmp::gt(f, &Float64Array::new_scalar(62.5)).expect("floats")
                })),
            ),
            (
                json!(["b", "Eq", true]),
                Some(Box::new(|| {
                    cmp::eq(&self.b, &BooleanArray::new_scalar(true)).expect("bools")
                })),
            ),
            (json!(["id", "Gt", 500_000]), none()),
            (
                json!(["And", [["n", "Gte", 200], ["f", "Gt", 100]]]),
                Some(Box::new(move || {
                    let (n, f) = (cmp::gt_eq(n, &int(200)), cmp::gt(f, &Float64Array::new_scalar(100.0)));
                    and(&n.expect("ints"), &f.expect("floats")).expect("as long")
                })),
            ),
            (
                json!(["s", "Eq", "puffer fish 5"]),
                Some(Box::new(move || cmp::eq(s, &text("puffer fish 5")).expect("texts"))),
            ),
            (
                json!(["s", "Gt", "m"]),
                Some(Box::new(move || cmp::gt(s, &text("m")).expect("texts"))),
            ),
            (
                json!(["s", "Glob", "puffer*"]),
                Some(Box::new(move || starts_with(s, &text("puffer")).expect("texts"))),
            ),
            (
                json!(["s", "Glob", "*fish*"]),
                Some(Box::new(move || like(s, &text("%fish%")).expect("texts"))),
            ),
            (
                json!(["s", "Glob", "p*f?sh*1"]),
                Some(Box::new(move || like(s, &text("p%f_sh%1")).expect("texts"))),
            ),
            (
                json!(["s", "IGlob", "*FISH*"]),
                Some(Box::new(move || ilike(s, &text("%FISH%")).expect("texts"))),
            ),
            (
                json!(["s", "Regex", r"fish \d+1$"]),
                Some(Box::new(move || regexp(s, r"fish \d+1$"))),
            ),
            (
                json!(["s", "Regex", r"(?i)^(puffer|fish)"]),
                Some(Box::new(move || regexp(s, r"(?i)^(puffer|fish)"))),
            ),
            (fuzzy("pufer fish", false), none()),
            (fuzzy("pufer fish", true), none()),
            (json!(["a", "Contains", 7]), none()),
            (json!(["a", "ContainsAny", [7, 8, 9]]), none()),
            (json!(["a", "AnyGt", 95]), none()),
            (
                json!(["t", "ContainsAllTokens", "object storage"]),
                Some(Box::new(move || {
                    let (a, b) = (like(t, &text("%object%")), like(t, &text("%storage%")));
                    and(&a.expect("texts"), &b.expect("texts")).expect("as long")
                })),
            ),
            (
                json!(["t", "ContainsAnyToken", "object stor", {"last_as_prefix": true}]),
                none(),
            ),
            (
                json!(["t", "ContainsTokenSequence", "object storage"]),
                Some(Box::new(move || like(t, &text("%object storage%")).expect("texts"))),
            ),
        ]
    }
}

fn fuzzy(query: &str, case_sensitive: bool) -> Json {
    let distances = json!([{"min_query_chars": 6, "distance": 1}]);
    json!(["s", "Fuzzy", query, {"max_edit_distance": distances, "case_sensitive": case_sensitive}])
}

fn regexp(s: &LargeStringArray, regex: &str) -> BooleanArray {
    comparison::regexp_is_match_scalar(s, regex, None).expect("a valid expression")
}

fn schema() -> Schema {
    let mut schema = Schema::default();
    schema.id_kind = Some(IdKind::UInt);
    for (name, ty) in [
        ("n", "int"),
        ("f", "float"),
        ("b", "bool"),
        ("s", "string"),
        ("a", "[]int"),
        ("t", "string"),
    ] {
        schema.put(Attribute {
            filterable: true,
            full_text: (name == "t").then(Default::default),
            regex: name == "s",
            fuzzy: name == "s",
            ..Attribute::new(
                schema.next_attribute_id(),
                name.into(),
                AttrType::parse(ty).expect("a type"),
            )
        });
    }
    schema
}

fn report(filter: &Json, schema: &Schema, chunk: &Chunk, baseline: Option<&(dyn Fn() -> BooleanArray + '_)>) {
    let parsed = filter::parse(filter.clone(), References::Forbidden, &Limits::default()).expect("a filter");
    let bound = bind(&parsed, schema).expect("it fits the schema");
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    // Alternating, so that a noisy neighbour meets both.
    for _ in 0..ROUNDS {
        let (took, found) = timed(|| evaluate(&bound, chunk));
        ours = ours.min(took);
        if let Some(baseline) = baseline {
            let (took, expected) = timed(baseline);
            theirs = theirs.min(took);
            assert_eq!(found.count(), expected.true_count(), "{filter}");
        }
    }
    let ms = ours.as_secs_f64() * 1e3;
    let (arrow, ratio) = match baseline {
        None => ("-".into(), "-".into()),
        Some(_) => {
            let theirs = theirs.as_secs_f64() * 1e3;
            (format!("{theirs:.2}"), format!("{:.2}", ms / theirs))
        }
    };
    let mut name = filter.to_string();
    if name.len() > 44 {
        name = name.chars().take(43).chain(['…']).collect();
    }
    println!(
        "{name:44} {ms:9.2} {:7.1} {arrow:>9} {ratio:>6}",
        ms * 1e6 / ROWS as f64
    );
}

fn report_parsing(name: &str, filter: &Json, schema: &Schema) {
    let text = filter.to_string();
    let (mut parsing, mut binding) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let (took, parsed) = timed(|| {
            let json = serde_json::from_str(&text).expect("it was printed");
            filter::parse(json, References::Forbidden, &Limits::default()).expect("a filter")
        });
        parsing = parsing.min(took);
        let (took, _) = timed(|| bind(&parsed, schema).expect("it fits the schema"));
        binding = binding.min(took);
    }
    println!(
        "{name:44} {:9.2} {:9.2}",
        parsing.as_secs_f64() * 1e6,
        binding.as_secs_f64() * 1e6
    );
}

fn timed<T>(f: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let made = black_box(f());
    (start.elapsed(), made)
}
