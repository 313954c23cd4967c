//! What do segments cost to write and to keep, and how fast are queries on them?
//!
//! Data: 1 M rows from a seed (`SHOAL_BENCH_ROWS` for another number) with 30 attributes, all but a text filterable: ints,
//! uints, floats, strings of 10 to 1 M different values, datetimes, bools, arrays; about 400 logical bytes each. Encoded
//! as eight segments, as flushes do, then put together into one, as a merge does, and queried there, on local disk.
//! Cold: nothing is in the cache but what opening read. The operating system's page cache is warm in both cases.
//! Warm: the segment is in a memory tier of 1 GiB, as bytes; rows by id are others in each round. Two threads.
//! Baselines, where `target/peers/bin/python` (or `SHOAL_BENCH_PEERS`) has `benches/peers/requirements.txt`: DuckDB with
//! two threads on the same rows as Parquet, and SQLite for rows by id. They are warm, too, and in another process.
//! Reported: the first round, the best of 21 in ms, and its ratio to the baseline's best; for writes the time that the
//! thread had a processor.
//! Left out: the log, HTTP, JSON.   Run: cargo bench --bench segments, with a part of their names for some queries only
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, LargeStringArray,
    LargeStringBuilder, ListBuilder, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, TimestampMillisecondType};
use serde_json::json;
use shoal::base::{Bitset, CpuPool, Rng, Runtime};
use shoal::cache::{Cache, CacheOptions, ReadKind};
use shoal::model::query::{Aggregate, Aggregation, GroupKey, Projection, RankBy};
use shoal::model::{
    AttrType, Attribute, Column, Direction, Filter, FilterOp, IdColumn, IdKind, Limits, NamespaceName, OrgId, Query,
    Schema, Seq,
};
use shoal::query::{QueryResult, View, execute};
use shoal::segment::{EncodeOptions, Encoded, Rows, Segment, SegmentId, SegmentPart, encode};
use shoal::snapshot::Snapshot;
use shoal::store::Store;
use shoal::store::paths::{self, NsKey};
use ulid::Ulid;

const SEED: u64 = 42;
const FLUSHES: u64 = 8;
const ROUNDS: usize = 21;
const MEMORY_BYTES: u64 = 1 << 30;
const WORDS: [&str; 16] = [
    "puffer", "fish", "object", "storage", "vector", "search", "marine", "mammal", "deep", "water", "engine", "filter",
    "segment", "cache", "Lübeck", "harbour",
];
const ATTRIBUTES: [(&str, &str); 30] = [
    ("pct", "int"),
    ("i_two", "int"),
    ("i_ten", "int"),
    ("i_hundred", "int"),
    ("i_thousand", "int"),
    ("i_many", "int"),
    ("i_wide", "int"),
    ("u_small", "uint"),
    ("u_wide", "uint"),
    ("f_price", "float"),
    ("f_score", "float"),
    ("f_random", "float"),
    ("f_latitude", "float"),
    ("f_few", "float"),
    ("s_low", "string"),
    ("s_mid", "string"),
    ("s_many", "string"),
    ("s_unique", "string"),
    ("s_path", "string"),
    ("s_sparse", "string"),
    ("d_rising", "datetime"),
    ("d_random", "datetime"),
    ("d_day", "datetime"),
    ("b_half", "bool"),
    ("b_rare", "bool"),
    ("b_null", "bool"),
    ("a_tags", "[]string"),
    ("a_words", "[]string"),
    ("g", "uuid"),
    ("text", "string"),
];

fn main() {
    common::use_the_disk();
    let rows: u64 = std::env::var("SHOAL_BENCH_ROWS").map_or(1_000_000, |n| n.parse().expect("a number of rows"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let parts = Runtime {
        cpu: CpuPool::new(2),
        ..common::parts()
    };
    let tokio = common::tokio();
    let config = common::local(&dir.path().join("store"));
    let peers = peers_python();
    let peer_dir = dir.path().to_owned();
    common::on_worker(&tokio, async move {
        let store = common::open(&config, &parts).await;
        let world = World::new(parts, store);
        let merged = write(&world, rows, peers.is_some().then_some(peer_dir.as_path())).await;
        let baseline = peers.map(|python| run_peers(&python, &peer_dir)).unwrap_or_default();
        query(&world, &merged, rows, &baseline).await;
    });
}

struct World {
    runtime: Runtime,
    store: Store,
    ns: NsKey,
    schema: Arc<Schema>,
}

impl World {
    fn new(runtime: Runtime, store: Store) -> Self {
        let ns = NsKey::new(
            OrgId::parse("org").expect("a valid name"),
            NamespaceName::parse("bench").expect("a valid name"),
        );
        Self {
            runtime,
            store,
            ns,
            schema: Arc::new(schema()),
        }
    }

    fn cache(&self) -> Cache {
        Cache::new(
            self.store.clone(),
            &self.runtime,
            CacheOptions::memory_only(MEMORY_BYTES),
        )
    }

    async fn open(&self, encoded: &Encoded, cache: &Cache) -> Segment {
        let opened = Segment::open(encoded.meta.clone(), &self.ns, cache, &self.runtime.cpu).await;
        opened.expect("it was just written")
    }

    /// Encodes and uploads. Returns the seconds that encoding took.
    async fn write(&self, number: u128, rows: Rows) -> (Encoded, f64) {
        let options = EncodeOptions {
            level: 0,
            min_seq: Seq(1),
            max_seq: Seq(1),
        };
        let start = common::on_processor();
        let encoded = encode(SegmentId(Ulid(number)), &rows, &self.schema, &options);
        let took = common::on_processor() - start;
        let key = paths::segment(&self.ns, encoded.meta.id.0);
        let put = self.store.put(&key, encoded.bytes.clone()).await;
        put.expect("the disk has room");
        (encoded, took)
    }
}

/// Writes all rows as several segments and puts them together. Returns what was put together.
async fn write(world: &World, rows: u64, peers: Option<&Path>) -> Encoded {
    let rng = Rng::seeded(SEED);
    let mut tsv = peers.map(|dir| Tsv::create(dir, rows));
    let (mut flushed, mut encoding, mut stored, mut logical) = (Vec::new(), 0.0, 0, 0);
    for n in 0..FLUSHES {
        let range = n * rows / FLUSHES..(n + 1) * rows / FLUSHES;
        let rows = make(&rng, range, &world.schema);
        if let Some(tsv) = &mut tsv {
            tsv.write(&rows, &world.schema);
        }
        let (encoded, took) = world.write(u128::from(n), rows).await;
        encoding += took;
        stored += encoded.meta.len;
        logical += encoded.meta.logical_bytes;
        flushed.push(encoded.meta.clone());
    }
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{rows} rows, {} attributes, {:.0} logical MB",
        ATTRIBUTES.len(),
        mb(logical)
    );
    println!(
        "flush: {:.1} logical MB/s on one thread, {:.3} stored bytes per logical byte",
        mb(logical) / encoding,
        stored as f64 / logical as f64
    );
    let (cache, attributes) = (world.cache(), world.schema.attributes().cloned().collect::<Vec<_>>());
    let start = Instant::now();
    let mut pieces = Vec::new();
    for meta in flushed {
        let opened = Segment::open(meta, &world.ns, &cache, &world.runtime.cpu).await;
        let segment = opened.expect("it was just written");
        let all: Vec<u32> = (0..segment.rows()).collect();
        let fetched = segment.fetch(&all, &attributes, ReadKind::Scan).await;
        pieces.push(fetched.expect("it is whole"));
    }
    let reading = start.elapsed().as_secs_f64();
    let (merged, took) = world.write(u128::from(FLUSHES), concat(&pieces)).await;
    println!(
        "merge: rows read at {:.1} logical MB/s, written at {:.1}; {:.3} stored bytes per logical byte, {:.2} hot bytes \
         per row; {:.2} bytes written per logical byte by one flush and one merge",
        mb(logical) / reading,
        mb(logical) / took,
        merged.meta.len as f64 / logical as f64,
        f64::from(merged.meta.hot_len) / rows as f64,
        (stored + merged.meta.len) as f64 / logical as f64,
    );
    merged
}

fn concat(pieces: &[Rows]) -> Rows {
    let ids: Vec<ArrayRef> = pieces.iter().map(|p| p.ids.to_array()).collect();
    let join = |arrays: &[ArrayRef]| {
        let arrays: Vec<_> = arrays.iter().map(|a| a.as_ref()).collect();
        arrow::compute::concat(&arrays).expect("arrays of one type")
    };
    let column = |id| {
        let arrays: Vec<ArrayRef> = pieces
            .iter()
            .map(|p| match &p.columns[id] {
                Column::Values(array) => array.clone(),
                Column::Vectors(_) => unreachable!("there are no vectors"),
            })
            .collect();
        (*id, Column::Values(join(&arrays)))
    };
    Rows {
        ids: IdColumn::from_array(&join(&ids)).expect("ids"),
        columns: pieces[0].columns.keys().map(column).collect(),
    }
}

/// A query, another one in each round.
type Ask = Box<dyn Fn(usize) -> Query + Send + Sync>;

/// What is asked, of us and of the baselines.
fn queries(rows: u64) -> Vec<(String, Ask)> {
    let below = |n: i64| Filter::compare("pct", FilterOp::Lt, json!(n));
    let low = || Filter::compare("s_low", FilterOp::Eq, json!("low 3"));
    let count = |filter| Query {
        filter: Some(filter),
        ..aggregate(&[])
    };
    let first = |filter| Query {
        limit: 100,
        filter,
        rank_by: Some(RankBy::Order(vec![("i_wide".into(), Direction::Desc)])),
        ..Query::default()
    };
    let mut all: Vec<(String, Ask)> = Vec::new();
    let mut add = |name: &str, query: Query| all.push((name.into(), Box::new(move |_| query.clone())));
    for (share, n) in [("50 %", 500), ("10 %", 100), ("1 %", 10), ("0.1 %", 1)] {
        add(&format!("count, {share}"), count(below(n)));
    }
    add("count, 10 % and a string", count(Filter::And(vec![below(100), low()])));
    let either = || Filter::Or(vec![below(10), low()]);
    add("count, not 1 % or a string", count(Filter::Not(Box::new(either()))));
    add("first 100 by a unique int", first(None));
    add("first 100 by an int, 10 %", first(Some(below(100))));
    add("10 groups of strings", aggregate(&["s_low"]));
    add("1,000 groups of strings", aggregate(&["s_mid"]));
    let a_tenth = |query| Query {
        filter: Some(below(100)),
        ..query
    };
    add("10 groups of strings, 10 %", a_tenth(aggregate(&["s_low"])));
    add("1,000 groups, 10 % at random", a_tenth(aggregate(&["s_mid"])));
    add("10 x 100 groups", aggregate(&["s_low", "i_hundred"]));
    let sums = || {
        [
            Aggregate::Count,
            Aggregate::Sum("f_price".into()),
            Aggregate::Max("i_many".into()),
        ]
    };
    add("1,000 groups, float sums", computed(sums(), &["s_mid"]));
    add("10 x 100 groups, float sums", computed(sums(), &["s_low", "i_hundred"]));
    add(
        "float sums, 10 x 100, 10 %",
        a_tenth(computed(sums(), &["s_low", "i_hundred"])),
    );
    let totals = || {
        [
            Aggregate::Sum("f_price".into()),
            Aggregate::Avg("i_many".into()),
            Aggregate::Max("u_wide".into()),
        ]
    };
    add("sum, mean and maximum", computed(totals(), &[]));
    add("sum, mean and maximum, 10 %", a_tenth(computed(totals(), &[])));
    add(
        "distinct strings, 10 %",
        a_tenth(computed([Aggregate::CountDistinct("s_mid".into())], &[])),
    );
    for wanted in [10, 100, 1000] {
        let ids = ids(rows);
        let look_up = move |round: usize| {
            let ids: Vec<u64> = (0..wanted).map(|i| ids[(round * wanted + i) % ids.len()]).collect();
            Query {
                limit: wanted,
                filter: Some(Filter::compare("id", FilterOp::In, json!(ids))),
                include: Projection::All,
                ..Query::default()
            }
        };
        all.push((format!("{wanted} rows by id"), Box::new(look_up)));
    }
    all
}

fn aggregate(by: &[&str]) -> Query {
    computed([Aggregate::Count], by)
}

fn computed(aggregates: impl IntoIterator<Item = Aggregate>, by: &[&str]) -> Query {
    let labels = ["n", "m", "o"].map(Into::into);
    Query {
        limit: 10_000,
        aggregation: Some(Aggregation {
            aggregates: labels.into_iter().zip(aggregates).collect(),
            group_by: by.iter().map(|name| GroupKey::Attribute((*name).into())).collect(),
        }),
        ..Query::default()
    }
}

/// Some ids of rows, here and there.
fn ids(rows: u64) -> Vec<u64> {
    let rng = Rng::seeded(SEED + 1);
    (0..100_000).map(|_| rng.below(rows)).collect()
}

/// What opening costs, and what of memory is held by what is open: several at once, so that the difference can be seen.
async fn open(world: &World, merged: &Encoded, rows: u64) {
    const OPENED: usize = 16;
    let cache = world.cache();
    let mut times = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        world.open(merged, &cache).await;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let caches: Vec<Cache> = (0..OPENED).map(|_| world.cache()).collect();
    let before = common::resident();
    let mut opened = Vec::new();
    for cache in &caches {
        opened.push(snapshot(world.open(merged, cache).await, &world.schema));
    }
    let held = (common::resident() - before) / (OPENED as u64 * rows) as f64;
    println!(
        "open: cold {:.2} ms, warm {:.2} ms; holds {held:.2} bytes per row, with what the cache has of it ({:.2} by the \
         ledger)",
        times[0],
        times[1],
        opened[0].memory_bytes() as f64 / rows as f64
    );
}

async fn query(world: &World, merged: &Encoded, rows: u64, baseline: &HashMap<String, f64>) {
    let limits = Limits::default();
    let view = Arc::new(View::all(world.schema.clone()));
    open(world, merged, rows).await;
    for name in ["parquet bytes", "sqlite bytes"] {
        if let Some(bytes) = baseline.get(name) {
            println!(
                "{name}: {:.3} per logical byte",
                bytes / merged.meta.logical_bytes as f64
            );
        }
    }
    println!(
        "{:28} {:>9} {:>9} {:>11} {:>6}",
        "query", "first ms", "warm ms", "baseline ms", "ratio"
    );
    let part = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let is_asked = |name: &str| part.as_ref().is_none_or(|part| name.contains(part));
    for (name, query) in queries(rows).into_iter().filter(|(name, _)| is_asked(name)) {
        let cache = world.cache();
        let snapshot = snapshot(world.open(merged, &cache).await, &world.schema);
        let ask = async |round: usize| {
            let queries: Arc<[Query]> = Arc::new([query(round)]);
            let start = Instant::now();
            let answer = execute(&snapshot, &view, &queries, &world.runtime.cpu, &limits).await;
            let took = start.elapsed();
            (took, answer.expect("the query fits the schema").remove(0))
        };
        let (first, answer) = ask(0).await;
        let loaded = cache.load(snapshot.segments[0].segment.object(), ReadKind::Rows).await;
        loaded.expect("the segment is whole");
        let mut times = common::Times::default();
        for round in 0..ROUNDS {
            times.push(ask(round).await.0);
        }
        let warm = times.us(0) / 1e3;
        let (theirs, ratio) = match baseline.get(&name) {
            None => ("-".into(), "-".into()),
            Some(theirs) => (format!("{theirs:.2}"), format!("{:.2}", warm / theirs)),
        };
        println!(
            "{name:28} {:9.2} {warm:9.2} {theirs:>11} {ratio:>6}  {}",
            first.as_secs_f64() * 1e3,
            describe(&answer)
        );
    }
}

fn describe(answer: &QueryResult) -> String {
    let text = format!("{answer:?}");
    match answer.rows().len() {
        0 => text.chars().take(70).collect(),
        n => format!("{n} rows"),
    }
}

fn snapshot(segment: Segment, schema: &Arc<Schema>) -> Snapshot {
    let live = Arc::new(Bitset::full(segment.rows() as usize).into());
    let segment = Arc::new(segment);
    Snapshot {
        segments: Arc::new(vec![SegmentPart { segment, live }]),
        schema: schema.clone(),
        ..Snapshot::empty()
    }
}

fn schema() -> Schema {
    let mut schema = Schema::default();
    schema.id_kind = Some(IdKind::UInt);
    for (name, ty) in ATTRIBUTES {
        schema.put(Attribute {
            filterable: name != "text",
            full_text: (name == "text").then(Default::default),
            ..Attribute::new(
                schema.next_attribute_id(),
                name.into(),
                AttrType::parse(ty).expect("a type"),
            )
        });
    }
    schema
}

/// Rows of some ids.
fn make(rng: &Rng, ids: std::ops::Range<u64>, schema: &Schema) -> Rows {
    let all = || ids.clone();
    let word = || WORDS[rng.below(16) as usize];
    let words = |n: u64| (0..n).map(|_| word()).collect::<Vec<_>>().join(" ");
    let column = |name: &str| -> ArrayRef {
        let ints =
            |below: u64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(all().map(|_| rng.below(below) as i64))) };
        let floats = |f: &dyn Fn() -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(all().map(|_| f()))) };
        let strings =
            |f: &dyn Fn(u64) -> Option<String>| -> ArrayRef { Arc::new(LargeStringArray::from_iter(all().map(f))) };
        let times = |f: &dyn Fn(u64) -> i64| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::from_iter_values(all().map(f)).with_timezone("UTC"))
        };
        let lists = |f: &dyn Fn() -> String| -> ArrayRef {
            let field = Field::new_list_field(DataType::LargeUtf8, false);
            let mut lists = ListBuilder::new(LargeStringBuilder::new()).with_field(field);
            for _ in all() {
                (0..rng.below(4)).for_each(|_| lists.values().append_value(f()));
                lists.append(true);
            }
            Arc::new(lists.finish())
        };
        let day = 86_400_000;
        match name {
            "pct" | "i_thousand" => ints(1000),
            "i_two" => ints(2),
            "i_ten" => ints(10),
            "i_hundred" => ints(100),
            "i_many" => ints(100_000),
            "i_wide" => ints(1 << 40),
            "u_small" => Arc::new(UInt64Array::from_iter_values(all().map(|_| rng.below(50)))),
            "u_wide" => Arc::new(UInt64Array::from_iter_values(all().map(|_| rng.below(1 << 30)))),
            "f_price" => floats(&|| rng.below(100_000) as f64 / 100.0),
            "f_score" => floats(&|| rng.below(1000) as f64 / 1000.0),
            "f_random" => floats(&|| rng.below(1 << 50) as f64 / 7e12),
            "f_latitude" => floats(&|| rng.below(180_000_000) as f64 / 1e6 - 90.0),
            "f_few" => floats(&|| rng.below(20) as f64 / 4.0),
            "s_low" => strings(&|_| Some(format!("low {}", rng.below(10)))),
            "s_mid" => strings(&|_| Some(format!("category {:03}", rng.below(1000)))),
            "s_many" => strings(&|_| Some(format!("customer {:06}", rng.below(100_000)))),
            "s_unique" => strings(&|id| Some(format!("item-{:08}", (id * 7919) % 100_000_007))),
            "s_path" => strings(&|_| Some(format!("/{}/{}/{}.html", word(), word(), rng.below(1_000_000)))),
            "s_sparse" => strings(&|_| (rng.below(10) == 0).then(|| words(2))),
            "d_rising" => times(&|id| 1_700_000_000_000 + id as i64 * 250),
            "d_random" => times(&|_| 1_700_000_000_000 + rng.below(1000 * day) as i64),
            "d_day" => times(&|_| 1_700_006_400_000 + (rng.below(365) * day) as i64),
            "b_half" => Arc::new(BooleanArray::from_iter(all().map(|_| Some(rng.below(2) == 0)))),
            "b_rare" => Arc::new(BooleanArray::from_iter(all().map(|_| Some(rng.below(1000) == 0)))),
            "b_null" => Arc::new(BooleanArray::from_iter(
                all().map(|_| (rng.below(2) == 0).then_some(true)),
            )),
            "a_tags" => lists(&|| format!("tag{}", rng.below(50))),
            "a_words" => lists(&|| word().into()),
            "g" => {
                let value = |_| [rng.below(u64::MAX).to_le_bytes(), rng.below(u64::MAX).to_le_bytes()].concat();
                Arc::new(FixedSizeBinaryArray::try_from_iter(all().map(value)).expect("16 bytes each"))
            }
            _ => strings(&|_| Some(words(20))),
        }
    };
    Rows {
        ids: IdColumn::UInt(UInt64Array::from_iter_values(all())),
        columns: ATTRIBUTES
            .iter()
            .map(|(name, _)| {
                let id = schema.get(name).expect("put above").id;
                (id, Column::Values(column(name)))
            })
            .collect::<BTreeMap<_, _>>(),
    }
}

/// The rows for the baselines.
struct Tsv(std::io::BufWriter<std::fs::File>);

impl Tsv {
    fn create(dir: &Path, rows: u64) -> Self {
        let mut wanted = String::new();
        ids(rows)
            .iter()
            .for_each(|id| writeln!(wanted, "{id}").expect("memory takes it"));
        std::fs::write(dir.join("ids.txt"), wanted).expect("the disk has room");
        let file = std::fs::File::create(dir.join("rows.tsv")).expect("the disk has room");
        let mut file = std::io::BufWriter::new(file);
        let names: Vec<_> = std::iter::once("id")
            .chain(ATTRIBUTES.iter().map(|(name, _)| *name))
            .collect();
        writeln!(file, "{}", names.join("\t")).expect("the disk has room");
        Self(file)
    }

    fn write(&mut self, rows: &Rows, schema: &Schema) {
        use arrow::util::display::{ArrayFormatter, FormatOptions};
        let options = FormatOptions::default();
        let ids = rows.ids.to_array();
        let columns =
            ATTRIBUTES.iter().map(
                |(name, _)| match &rows.columns[&schema.get(name).expect("put above").id] {
                    Column::Values(array) => array.clone(),
                    Column::Vectors(_) => unreachable!("there are no vectors"),
                },
            );
        let columns: Vec<ArrayRef> = std::iter::once(ids).chain(columns).map(without_zone).collect();
        let format = |array| ArrayFormatter::try_new(array, &options).expect("every type has a form");
        let formats: Vec<_> = columns.iter().map(|array| format(array)).collect();
        for row in 0..rows.ids.len() {
            let values: Vec<_> = formats.iter().map(|f| f.value(row).to_string()).collect();
            writeln!(self.0, "{}", values.join("\t")).expect("the disk has room");
        }
        self.0.flush().expect("the disk has room");
    }
}

/// Without a database of time zones Arrow does not print any.
fn without_zone(array: ArrayRef) -> ArrayRef {
    match array.as_primitive_opt::<TimestampMillisecondType>() {
        Some(times) => Arc::new(times.clone().with_timezone_opt(None::<Arc<str>>)),
        None => array,
    }
}

fn peers_python() -> Option<PathBuf> {
    let default = || {
        Path::new(env!("CARGO_TARGET_TMPDIR"))
            .with_file_name("peers")
            .join("bin/python")
    };
    let python = std::env::var_os("SHOAL_BENCH_PEERS").map_or_else(default, PathBuf::from);
    let is_there = python.exists();
    if !is_there {
        println!("no baselines: {} is not there", python.display());
    }
    is_there.then_some(python)
}

/// Milliseconds, or bytes, by name.
fn run_peers(python: &Path, dir: &Path) -> HashMap<String, f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/segments.py");
    let output = Command::new(python)
        .arg(script)
        .arg(dir)
        .arg(ROUNDS.to_string())
        .output();
    let output = output.expect("the program starts");
    if !output.status.success() {
        println!("no baselines: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |line: &str| {
        let mut fields = line.split('\t');
        Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}
