//! Reads request bodies: bounded in size, memory and patience.
//!
//! # What stays true
//!
//! - No more is held than was charged to the ledger; the charge lives as long as the body.
//! - Both the bytes on the wire and the inflated bytes are counted; inflation stops at the limit,
//!   whatever the ratio.

use std::io::{self, Write};
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;

use super::error::ApiError;
use crate::base::{Charge, Clock, Ledger, MemoryShare};
use crate::error::{Error, ErrorKind};
use crate::namespace::{Body, bodies_used_up};

/// A client may take this long whatever it sends.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a client must send per second after that, in bytes.
const RATE_MIN: u64 = 16 * 1024;
/// Memory is charged in steps of at least this.
const CHARGE_STEP: u64 = 64 * 1024;
/// Compressed bytes that are inflated at once: at most about 2 MB come out, some milliseconds.
const INFLATE_STEP: usize = 2 * 1024;
/// Inflated bytes after which other tasks get their turn.
const YIELD_BYTES: u64 = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
}

/// Reads a whole body, inflated if need be. An empty one is `{}`, as some clients send it.
///
/// # Errors
///
/// 413 above `bytes_max` (on the wire or inflated), 429 when memory for bodies is used up, 400 for
/// broken gzip or a body that ends early, 408 for a client that is too slow, 415 for other encodings.
pub async fn read(
    headers: &HeaderMap,
    mut body: HttpBody,
    bytes_max: u64,
    memory: &Ledger,
    clock: &dyn Clock,
) -> Result<Body, ApiError> {
    let encoding = encoding(headers)?;
    let declared = declared(headers).unwrap_or(0);
    if declared > bytes_max {
        return Err(too_large(bytes_max));
    }
    let charge = memory.charge(MemoryShare::Bodies, declared).map_err(|_| used_up())?;
    let mut inlet = Inlet::new(encoding, Sink::new(charge, bytes_max));
    let (start, mut received) = (clock.boot(), 0);
    loop {
        let allowed = PATIENCE + Duration::from_millis(received * 1000 / RATE_MIN);
        let left = allowed.saturating_sub(clock.boot().saturating_sub(start));
        let frame = tokio::time::timeout(left, body.frame()).await.map_err(|_| too_slow())?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::invalid("the request body ended before its declared length"))?;
        let Ok(data) = frame.into_data() else { continue };
        received += data.len() as u64;
        if received > bytes_max {
            return Err(too_large(bytes_max));
        }
        inlet.take(&data).await?;
    }
    inlet.finish(received)
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let first = values.next().map(|v| v.as_bytes().trim_ascii().to_ascii_lowercase());
    match (first.as_deref(), values.next()) {
        (None | Some(b"" | b"identity"), None) => Ok(Encoding::Identity),
        (Some(b"gzip" | b"x-gzip"), None) => Ok(Encoding::Gzip),
        _ => Err(ApiError::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-encoding must be gzip or identity",
        )),
    }
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

enum Inlet {
    Plain(Sink),
    // Boxed: the decoder's state is much larger than a sink.
    Gzip(Box<MultiGzDecoder<Sink>>),
}

impl Inlet {
    fn new(encoding: Encoding, sink: Sink) -> Self {
        match encoding {
            Encoding::Identity => Self::Plain(sink),
            Encoding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(sink))),
        }
    }

    async fn take(&mut self, data: &[u8]) -> Result<(), ApiError> {
        match self {
            Self::Plain(sink) => sink.write_all(data).map_err(|e| sink.explain(&e)),
            Self::Gzip(decoder) => {
                let mut turn = decoder.get_ref().len();
                for step in data.chunks(INFLATE_STEP) {
                    if let Err(e) = decoder.write_all(step) {
                        return Err(decoder.get_ref().explain(&e));
                    }
                    if decoder.get_ref().len() - turn >= YIELD_BYTES {
                        turn = decoder.get_ref().len();
                        tokio::task::yield_now().await;
                    }
                }
                Ok(())
            }
        }
    }

    fn finish(self, received: u64) -> Result<Body, ApiError> {
        let sink = match self {
            Self::Plain(sink) => sink,
            Self::Gzip(mut decoder) => {
                if received > 0
                    && let Err(e) = decoder.try_finish()
                {
                    return Err(decoder.get_ref().explain(&e));
                }
                if received > 0 {
                    decoder.finish().map_err(|_| broken_gzip())?
                } else {
                    std::mem::replace(decoder.get_mut(), Sink::empty())
                }
            }
        };
        sink.into_body()
    }
}

/// Takes the inflated bytes and charges for them.
struct Sink {
    bytes: Vec<u8>,
    charge: Option<Charge>,
    bytes_max: u64,
    stop: Option<Stop>,
}

/// Why a sink takes no more.
#[derive(Clone, Copy, Debug)]
enum Stop {
    TooLarge,
    UsedUp,
}

impl Sink {
    fn new(charge: Charge, bytes_max: u64) -> Self {
        Self {
            bytes: Vec::new(),
            charge: Some(charge),
            bytes_max,
            stop: None,
        }
    }

    fn empty() -> Self {
        Self {
            bytes: Vec::new(),
            charge: None,
            bytes_max: 0,
            stop: None,
        }
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Makes room for `more` bytes, charged before they are allocated.
    fn reserve(&mut self, more: usize) -> Result<(), Stop> {
        let needed = self.len() + more as u64;
        if needed > self.bytes_max {
            return Err(Stop::TooLarge);
        }
        if needed <= self.bytes.capacity() as u64 {
            return Ok(());
        }
        let charge = self.charge.as_mut().ok_or(Stop::UsedUp)?;
        let capacity = needed
            .max((self.bytes.len() as u64).saturating_mul(2))
            .max(CHARGE_STEP)
            .min(self.bytes_max)
            .max(needed);
        // What was declared is charged already: it is the best guess at the size.
        let capacity = if charge.bytes() >= needed {
            charge.bytes()
        } else {
            capacity
        };
        if capacity > charge.bytes() {
            charge.grow(capacity - charge.bytes()).map_err(|_| Stop::UsedUp)?;
        }
        self.bytes.reserve_exact(capacity as usize - self.bytes.len());
        Ok(())
    }

    fn explain(&self, error: &io::Error) -> ApiError {
        match self.stop {
            Some(Stop::TooLarge) => too_large(self.bytes_max),
            Some(Stop::UsedUp) => used_up(),
            None => {
                tracing::debug!(%error, "a request body is not valid gzip");
                broken_gzip()
            }
        }
    }

    fn into_body(mut self) -> Result<Body, ApiError> {
        let mut charge = self.charge.take().ok_or_else(used_up)?;
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            self.bytes = b"{}".to_vec();
        }
        self.bytes.shrink_to_fit();
        charge.shrink_to(self.bytes.len() as u64);
        Ok(Body {
            bytes: Bytes::from(self.bytes),
            charge,
        })
    }
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if let Err(stop) = self.reserve(data.len()) {
            self.stop = Some(stop);
            return Err(io::Error::other("stopped"));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_large(bytes_max: u64) -> ApiError {
    Error::new(
        ErrorKind::TooLarge,
        format!("the request body is larger than the limit of {bytes_max} bytes"),
    )
    .into()
}

fn used_up() -> ApiError {
    bodies_used_up().into()
}

fn too_slow() -> ApiError {
    Error::new(ErrorKind::ClientTimeout, "the request body arrived too slowly").into()
}

fn broken_gzip() -> ApiError {
    ApiError::invalid("the request body is not valid gzip")
}

#[cfg(test)]
mod tests;
