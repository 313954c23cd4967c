//! How close does an exact scan come to the memory bandwidth of the machine?
//!
//! Data: 100 k rows, 768 dimensions, from a seed: 307 MB as f32, 154 MB as f16, 77 MB as i8.
//! Every row is eligible, k = 10, so recall is 1 by construction.
//! Warm: the rows are in memory and have been read before. There is no cold case without a store.
//! Baseline: the sum of all 64-bit words of the same buffer, by as many threads, in the same run.
//! Reported: best of 7 rounds in ms, GB/s, and the ratio of scan to baseline; 1 is the bandwidth.
//! Where the last-level cache holds the smaller buffers, their baseline is the cache's bandwidth.
//! Left out: decompression, filters, the thread pool.   Run: cargo bench --bench knn_scan
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use arrow::array::UInt64Array;
use arrow::buffer::Buffer;
use shoal::base::{Bitset, Rng};
use shoal::index::vector::kernels::kernels;
use shoal::index::vector::{Cutoff, Part, PreparedQuery, TopK, merge, scan_rows};
use shoal::model::{Element, IdColumn, Metric, VectorColumn};

const SEED: u64 = 42;
const ROWS: usize = 100_000;
const DIMS: usize = 768;
const K: usize = 10;
const ROUNDS: usize = 7;

fn main() {
    let query: Vec<f32> = (0..DIMS).map(|i| (i as f32 * 0.37).sin()).collect();
    let ids = IdColumn::UInt(UInt64Array::from_iter_values(0..ROWS as u64));
    let eligible = Bitset::full(ROWS);
    println!("{ROWS} rows x {DIMS} dims, kernels: {}", kernels().name);
    println!("element metric             threads  scan ms  GB/s  baseline ms  GB/s  ratio");
    for element in [Element::F32, Element::F16, Element::I8] {
        let column = column(element);
        let part = Part {
            number: 0,
            column: &column,
            ids: &ids,
            eligible: &eligible,
        };
        for metric in [Metric::CosineDistance, Metric::EuclideanSquared] {
            let query = PreparedQuery::new(metric, &query);
            for threads in [1, 2] {
                report(&query, &part, element, metric, threads);
            }
        }
    }
}

fn report(query: &PreparedQuery, part: &Part, element: Element, metric: Metric, threads: usize) {
    let (mut scan, mut baseline) = (Duration::MAX, Duration::MAX);
    // Alternating, so that a noisy neighbour meets both.
    for _ in 0..ROUNDS {
        baseline = baseline.min(timed(|| read_all(&part.column.data, threads)));
        scan = scan.min(timed(|| nearest(query, part, threads)));
    }
    let rate = |took: Duration| part.column.data.len() as f64 / took.as_secs_f64() / 1e9;
    println!(
        "{:7} {:18} {threads:7} {:8.2} {:5.1} {:12.2} {:5.1} {:6.2}",
        element.name(),
        metric.name(),
        scan.as_secs_f64() * 1e3,
        rate(scan),
        baseline.as_secs_f64() * 1e3,
        rate(baseline),
        scan.as_secs_f64() / baseline.as_secs_f64(),
    );
}

fn timed<T>(f: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(f());
    start.elapsed()
}

fn nearest(query: &PreparedQuery, part: &Part, threads: usize) -> usize {
    let cutoff = Cutoff::none();
    let share = ROWS.div_ceil(threads).next_multiple_of(64);
    let job = |from: usize| {
        let mut best = TopK::new(K);
        scan_rows(query, part, from..(from + share).min(ROWS), &cutoff, &mut best);
        best.into_hits()
    };
    let found = parallel((0..ROWS).step_by(share), job);
    merge(found, |_| part.ids, K).len()
}

fn read_all(data: &[u8], threads: usize) -> u64 {
    let share = data.len().div_ceil(threads).next_multiple_of(64);
    parallel(data.chunks(share), sum).into_iter().fold(0, u64::wrapping_add)
}

/// Eight independent sums: the compiler makes them vectors, and memory is the only limit.
fn sum(data: &[u8]) -> u64 {
    let mut sums = [0u64; 8];
    for line in data.chunks_exact(64) {
        for (sum, word) in sums.iter_mut().zip(line.chunks_exact(8)) {
            *sum = sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("chunks of 8 bytes")));
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

fn parallel<I: Send, T: Send>(inputs: impl Iterator<Item = I>, job: impl Fn(I) -> T + Sync) -> Vec<T> {
    let job = &job;
    std::thread::scope(|scope| {
        let running: Vec<_> = inputs.map(|input| scope.spawn(move || job(input))).collect();
        running
            .into_iter()
            .map(|t| t.join().expect("jobs do not panic"))
            .collect()
    })
}

fn column(element: Element) -> VectorColumn {
    let rng = Rng::seeded(SEED);
    let mut data = Vec::with_capacity(ROWS * DIMS * element.bytes());
    for _ in 0..ROWS * DIMS {
        let x = rng.below(255) as i8 as f32;
        match element {
            Element::F32 => data.extend((x / 127.0).to_le_bytes()),
            Element::F16 => data.extend(half::f16::from_f32(x / 127.0).to_le_bytes()),
            Element::I8 => data.push(x as i8 as u8),
        }
    }
    VectorColumn {
        dims: DIMS as u32,
        element,
        data: Buffer::from_vec(data),
        nulls: None,
    }
}
