//! How fast are write bodies turned into typed columns, against just scanning their bytes?
//!
//! Data: 4,000 rows of 768 dimensions, deterministic; one core, best of five.
//! Baseline: checking the same bytes for valid UTF-8, the least that can be done with JSON.
//! Reported: MB of body per second, and how many times longer than the baseline it takes.
//! Left out: HTTP, decompression, the store.   Run: cargo bench --bench write_intake

use std::time::Instant;

use shoal::model::write::prepare;
use shoal::model::{Limits, Schema};

const ROWS: u32 = 4000;
const DIMS: u32 = 768;

#[allow(clippy::disallowed_methods, reason = "a measurement, not part of any simulated run")]
fn best_of_five(mut f: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn report(what: &str, body: &str) {
    let mb = body.len() as f64 / 1e6;
    let scan = best_of_five(|| assert!(simdutf8::basic::from_utf8(body.as_bytes()).is_ok()));
    let intake = best_of_five(|| {
        let write = prepare(body.as_bytes(), &Schema::default(), &Limits::default()).expect("a good body");
        assert_eq!(write.upserts.map(|u| u.len()), Some(ROWS as usize));
    });
    println!(
        "{what:>22}: {:>6.0} MB/s of {mb:.0} MB, {:>6.0} rows/s, {:.1} x a scan of its bytes",
        mb / intake,
        f64::from(ROWS) / intake,
        intake / scan
    );
}

fn vector(row: u32) -> Vec<f32> {
    (0..DIMS).map(|i| ((row * DIMS + i) as f32 * 0.618).sin()).collect()
}

fn base64(row: u32) -> String {
    let bytes: Vec<u8> = vector(row).iter().flat_map(|x| x.to_le_bytes()).collect();
    format!("{:?}", base64_simd::STANDARD.encode_to_string(&bytes))
}

fn numbers(row: u32) -> String {
    serde_json::to_string(&vector(row)).expect("finite numbers")
}

fn main() {
    for (name, encode) in [
        ("base64 rows", base64 as fn(u32) -> String),
        ("JSON number rows", numbers),
    ] {
        let rows: Vec<String> = (0..ROWS)
            .map(|id| format!(r#"{{"id": {id}, "vector": {}, "title": "row {id}"}}"#, encode(id)))
            .collect();
        let rows = rows.join(",");
        report(
            name,
            &format!(r#"{{"distance_metric": "cosine_distance", "upsert_rows": [{rows}]}}"#),
        );
    }
    let flat: Vec<String> = (0..ROWS)
        .map(|id| numbers(id).trim_matches(['[', ']']).to_owned())
        .collect();
    let ids: Vec<String> = (0..ROWS).map(|id| id.to_string()).collect();
    let (ids, flat) = (ids.join(","), flat.join(","));
    report(
        "flat number column",
        &format!(
            r#"{{"distance_metric": "cosine_distance", "upsert_columns": {{"id": [{ids}], "vector": [{flat}]}}}}"#
        ),
    );
}
