use std::convert::Infallible;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;

use super::*;
use crate::base::TokioClock;

const MAX: u64 = 1 << 20;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).expect("a Vec");
    encoder.finish().expect("a Vec")
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(k, v)| (k.parse().expect("a name"), v.parse().expect("a value")))
        .collect()
}

async fn read_with(pairs: &[(&'static str, &str)], body: HttpBody, memory: &Ledger) -> Result<Body, ApiError> {
    read(&headers(pairs), body, MAX, memory, &TokioClock::new(Duration::ZERO)).await
}

async fn status(pairs: &[(&'static str, &str)], body: impl Into<HttpBody>) -> u16 {
    let memory = Ledger::new(8 << 20, 0);
    let outcome = read_with(pairs, body.into(), &memory).await.map(|_| ());
    assert_eq!(memory.used_bytes(MemoryShare::Bodies), 0, "charges are given back");
    outcome.map_or_else(|e| e.status().as_u16(), |()| 200)
}

const GZIP: (&str, &str) = ("content-encoding", "gzip");

#[tokio::test(start_paused = true)]
async fn bodies_are_read_plain_and_inflated_and_charged_for() {
    let memory = Ledger::new(8 << 20, 0);
    let text = b"{\"a\": 1}".repeat(1000);
    let two_members = [gzip(&text[..5]), gzip(&text[5..])].concat();
    for (pairs, sent) in [
        (&[][..], text.clone()),
        (&[GZIP][..], gzip(&text)),
        (&[GZIP][..], two_members),
    ] {
        let body = read_with(pairs, sent.into(), &memory).await.expect("valid");
        assert_eq!(body.bytes, text);
        assert_eq!(body.charge.bytes(), text.len() as u64);
        assert_eq!(memory.used_bytes(MemoryShare::Bodies), text.len() as u64);
    }
    for (pairs, sent) in [(&[][..], ""), (&[][..], " \n"), (&[GZIP][..], "")] {
        assert_eq!(
            &read_with(pairs, sent.into(), &memory).await.expect("empty").bytes[..],
            b"{}"
        );
    }
    let body = read_with(&[("content-length", "8000")], text.clone().into(), &memory)
        .await
        .expect("valid");
    assert_eq!(body.charge.bytes(), text.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn bad_bodies_get_the_documented_status() {
    let bomb = gzip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 128 << 10);
    assert_eq!(status(&[GZIP], bomb).await, 413);
    assert_eq!(status(&[], vec![b' '; MAX as usize + 1]).await, 413);
    assert_eq!(status(&[], vec![b' '; MAX as usize]).await, 200);
    assert_eq!(status(&[("content-length", "1048577")], "").await, 413);
    assert_eq!(status(&[("content-length", "18446744073709551615")], "").await, 413);
    let whole = gzip(b"{\"a\":1}");
    for end in 1..whole.len() {
        assert_eq!(status(&[GZIP], whole[..end].to_vec()).await, 400, "cut at {end}");
    }
    let mut wrong_sum = whole.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    assert_eq!(status(&[GZIP], wrong_sum).await, 400);
    assert_eq!(status(&[GZIP], "{\"a\":1}").await, 400);
    assert_eq!(status(&[GZIP], [whole, b"garbage".to_vec()].concat()).await, 400);
    for encoding in ["br", "zstd", "deflate", "gzip, gzip"] {
        assert_eq!(status(&[("content-encoding", encoding)], "x").await, 415, "{encoding}");
    }
    assert_eq!(status(&[GZIP, GZIP], "x").await, 415);
    let broken = futures::stream::iter([Ok(Bytes::from_static(b"{")), Err(io::Error::other("reset"))]);
    assert_eq!(status(&[], HttpBody::from_stream(broken)).await, 400);
}

#[tokio::test(start_paused = true)]
async fn used_up_memory_is_429_before_and_while_reading() {
    let memory = Ledger::new(100_000, 0);
    let held = memory.charge(MemoryShare::Bodies, 50_000).expect("fits");
    for (pairs, sent) in [
        (&[("content-length", "60000")][..], vec![]),
        (&[][..], vec![b'x'; 60_000]),
        (&[GZIP][..], gzip(&[b'x'; 60_000])),
    ] {
        let error = read_with(pairs, sent.into(), &memory)
            .await
            .map(|_| ())
            .expect_err("no memory");
        assert_eq!(error.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(error.message().contains("memory"));
        assert_eq!(memory.used_bytes(MemoryShare::Bodies), held.bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_below_the_least_rate_is_cut_off() {
    // One KiB a second: after ten seconds far below 16 KiB/s.
    let drip = futures::stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, Infallible>(Bytes::from(vec![b'x'; 1024]))
    });
    let start = tokio::time::Instant::now();
    assert_eq!(status(&[], HttpBody::from_stream(drip)).await, 408);
    assert!((10..12).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let steady = futures::stream::iter(0..20).then(|_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, Infallible>(Bytes::from(vec![b'x'; 20 * 1024]))
    });
    assert_eq!(status(&[], HttpBody::from_stream(steady)).await, 200);
    let silent = futures::stream::pending::<Result<Bytes, Infallible>>();
    assert_eq!(status(&[], HttpBody::from_stream(silent)).await, 408);
}
