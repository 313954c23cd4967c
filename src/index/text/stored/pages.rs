//! A stream of bytes in pages, each with a checksum: any range of it can be read and checked without
//! the rest.

use std::ops::Range;

use bytes::Bytes;

use crate::base::coding::FormatError;

/// Bytes of a page, checksum included.
pub(super) const PAGE_BYTES: usize = 16 * 1024;
const CHECKSUM_LEN: usize = 4;
const BODY_BYTES: usize = PAGE_BYTES - CHECKSUM_LEN;

/// Cuts a stream into pages; the last one may be shorter.
pub(super) fn encode(parts: &[&[u8]]) -> Vec<u8> {
    let stream = parts.concat();
    let mut out = Vec::with_capacity(paged_len(stream.len() as u64) as usize);
    for body in stream.chunks(BODY_BYTES) {
        out.extend_from_slice(body);
        out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }
    out
}

/// How many bytes a stream takes in pages.
pub(super) fn paged_len(stream_len: u64) -> u64 {
    stream_len.saturating_add(stream_len.div_ceil(BODY_BYTES as u64) * CHECKSUM_LEN as u64)
}

/// Which pages some ranges of a stream are in.
#[derive(Clone, Debug)]
pub(super) struct PagePlan {
    /// Runs of pages, ascending, with gaps between them.
    runs: Vec<Range<u64>>,
    stream_len: u64,
}

impl PagePlan {
    /// * `ranges` — within the stream, in any order; they may overlap
    pub(super) fn new(stream_len: u64, ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let page_of = |offset: u64| offset / BODY_BYTES as u64;
        let mut pages: Vec<Range<u64>> = ranges
            .into_iter()
            .filter(|r| r.start < r.end)
            .map(|r| page_of(r.start)..page_of(r.end - 1) + 1)
            .collect();
        pages.sort_unstable_by_key(|r| r.start);
        let mut runs: Vec<Range<u64>> = Vec::new();
        for range in pages {
            match runs.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => runs.push(range),
            }
        }
        Self { runs, stream_len }
    }

    /// The ranges of paged bytes to be read, ascending and disjoint.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        let end = paged_len(self.stream_len);
        let at = |page: u64| (page * PAGE_BYTES as u64).min(end);
        self.runs.iter().map(|run| at(run.start)..at(run.end)).collect()
    }

    /// Checks the pages that were read, one run per range.
    pub(super) fn open(&self, read: &[Bytes]) -> Result<PagedBytes, FormatError> {
        let ranges = self.ranges();
        if read.len() != ranges.len() {
            return Err(FormatError::corrupt("pages are missing"));
        }
        let mut runs = Vec::with_capacity(read.len());
        for ((run, range), bytes) in self.runs.iter().zip(&ranges).zip(read) {
            if bytes.len() as u64 != range.end - range.start {
                return Err(FormatError::corrupt("a run of pages has another length"));
            }
            let mut body = Vec::with_capacity(bytes.len());
            for (page, bytes) in (run.start..).zip(bytes.chunks(PAGE_BYTES)) {
                body.extend_from_slice(checked(page, bytes)?);
            }
            runs.push((run.start * BODY_BYTES as u64, body));
        }
        Ok(PagedBytes { runs })
    }
}

fn checked(page: u64, bytes: &[u8]) -> Result<&[u8], FormatError> {
    let (body, checksum) = bytes
        .split_last_chunk::<CHECKSUM_LEN>()
        .ok_or_else(|| FormatError::corrupt(format!("page {page} is too short")))?;
    match crc32c::crc32c(body) == u32::from_le_bytes(*checksum) {
        true => Ok(body),
        false => Err(FormatError::corrupt(format!("page {page} has another checksum"))),
    }
}

/// Parts of a stream.
#[derive(Debug)]
pub(super) struct PagedBytes {
    /// Where in the stream each begins, ascending.
    runs: Vec<(u64, Vec<u8>)>,
}

impl PagedBytes {
    /// The bytes of a range that was planned.
    pub(super) fn get(&self, range: &Range<u64>) -> Result<&[u8], FormatError> {
        if range.start >= range.end {
            return Ok(&[]);
        }
        let run = self
            .runs
            .partition_point(|(start, _)| *start <= range.start)
            .checked_sub(1);
        let bytes = run.map(|run| &self.runs[run]).and_then(|(start, body)| {
            let from = usize::try_from(range.start - start).ok()?;
            let to = usize::try_from(range.end - start).ok()?;
            body.get(from..to)
        });
        bytes.ok_or_else(|| FormatError::corrupt("a range lies outside of the pages that were read"))
    }
}
