//! Reads of a segment object, checked.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::wire::FormatError;
use super::{SegmentError, SegmentMeta};
use crate::base::{CpuPool, Priority};
use crate::cache::{Cache, ObjectRef, ReadKind};

/// Up to so many bytes are decoded where they were read; more goes to the CPU pool.
pub const SMALL_BYTES: usize = 64 * 1024;

/// A segment's object, or its bytes in the manifest. Clone = share.
#[derive(Clone)]
pub struct Source {
    pub object: ObjectRef,
    pub cache: Cache,
    inline: Option<Bytes>,
    cpu: CpuPool,
}

impl Source {
    /// The source of a segment.
    ///
    /// * `object` — as long as `meta` says
    pub fn new(meta: &SegmentMeta, object: ObjectRef, cache: &Cache, cpu: &CpuPool) -> Self {
        Self {
            object,
            cache: cache.clone(),
            inline: meta.inline.clone(),
            cpu: cpu.clone(),
        }
    }

    /// The pool for what takes long.
    pub fn cpu(&self) -> &CpuPool {
        &self.cpu
    }

    /// Whether its bytes are in the manifest.
    pub fn is_inline(&self) -> bool {
        self.inline.is_some()
    }

    /// The error for an object that is not what it should be.
    pub fn damaged(&self, why: &FormatError) -> SegmentError {
        let key = self.object.key.to_string();
        match why {
            FormatError::Newer(what) => SegmentError::Newer {
                key,
                what: what.clone(),
            },
            FormatError::Corrupt(_) => SegmentError::Damaged {
                key,
                why: why.to_string(),
            },
        }
    }

    /// Runs what takes long on the CPU pool.
    pub async fn compute<T: Send + 'static>(&self, kind: ReadKind, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.cpu.run(priority(kind), f).await
    }

    /// Reads ranges of the object and decodes them. Bytes that do not decode are read once more, from the store.
    ///
    /// * `decode` — gets the bytes of each range
    ///
    /// # Errors
    ///
    /// [`SegmentError::Damaged`] when they do not decode the second time either.
    pub async fn read<T, F>(&self, ranges: Vec<Range<u64>>, kind: ReadKind, decode: F) -> Result<T, SegmentError>
    where
        T: Send + 'static,
        F: Fn(&[Bytes]) -> Result<T, FormatError> + Send + Sync + 'static,
    {
        let mut decoded = self.read_shares(ranges, kind, 1, move |_, bytes| decode(bytes)).await?;
        Ok(decoded.pop().expect("one share is one result"))
    }

    /// The same, decoded in shares side by side. Returns what each share gave.
    ///
    /// * `decode` — gets the number of the share and the bytes of each range
    pub async fn read_shares<T, F>(
        &self,
        ranges: Vec<Range<u64>>,
        kind: ReadKind,
        shares: usize,
        decode: F,
    ) -> Result<Vec<T>, SegmentError>
    where
        T: Send + 'static,
        F: Fn(usize, &[Bytes]) -> Result<T, FormatError> + Send + Sync + 'static,
    {
        let decode = Arc::new(decode);
        match self.attempt(&ranges, kind, shares, decode.clone()).await? {
            Ok(decoded) => return Ok(decoded),
            Err(error) if self.inline.is_some() => return Err(self.damaged(&error)),
            Err(FormatError::Corrupt(why)) => {
                tracing::warn!(key = %self.object.key, why, "bytes of a segment are damaged; reading them again");
                self.cache.purge(std::slice::from_ref(&self.object));
            }
            Err(error @ FormatError::Newer(_)) => return Err(self.damaged(&error)),
        }
        let again = self.attempt(&ranges, kind, shares, decode).await?;
        again.map_err(|e| self.damaged(&e))
    }

    async fn attempt<T, F>(
        &self,
        ranges: &[Range<u64>],
        kind: ReadKind,
        shares: usize,
        decode: Arc<F>,
    ) -> Result<Result<Vec<T>, FormatError>, SegmentError>
    where
        T: Send + 'static,
        F: Fn(usize, &[Bytes]) -> Result<T, FormatError> + Send + Sync + 'static,
    {
        let bytes = match &self.inline {
            Some(object) => match slices(object, ranges) {
                Some(bytes) => bytes,
                None => return Ok(Err(FormatError::corrupt("it is shorter than announced"))),
            },
            None => self.fetch(ranges, kind).await?,
        };
        if shares == 1 && bytes.iter().map(Bytes::len).sum::<usize>() <= SMALL_BYTES {
            return Ok(decode(0, &bytes).map(|decoded| vec![decoded]));
        }
        let bytes: Arc<[Bytes]> = bytes.into();
        let jobs = (0..shares).map(|share| {
            let (decode, bytes) = (decode.clone(), bytes.clone());
            move || decode(share, &bytes)
        });
        let decoded = self.cpu.run_all(priority(kind), jobs.collect()).await;
        Ok(decoded.into_iter().collect())
    }

    /// Empty ranges are not asked for.
    async fn fetch(&self, ranges: &[Range<u64>], kind: ReadKind) -> Result<Vec<Bytes>, SegmentError> {
        let asked: Vec<Range<u64>> = ranges.iter().filter(|r| !r.is_empty()).cloned().collect();
        let read = match asked.is_empty() {
            true => Vec::new(),
            false => self.cache.read(&self.object, &asked, kind).await?,
        };
        let mut read = read.into_iter();
        let bytes = |r: &Range<u64>| if r.is_empty() { Some(Bytes::new()) } else { read.next() };
        let bytes: Option<Vec<Bytes>> = ranges.iter().map(bytes).collect();
        Ok(bytes.expect("a read returns as many pieces as it was asked for"))
    }
}

fn priority(kind: ReadKind) -> Priority {
    match kind {
        ReadKind::Scan => Priority::Background,
        ReadKind::Hot | ReadKind::Index | ReadKind::Rows | ReadKind::Vectors => Priority::Foreground,
    }
}

fn slices(object: &Bytes, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
    let inside = |r: &Range<u64>| r.start <= r.end && r.end <= object.len() as u64;
    let slice = |r: &Range<u64>| inside(r).then(|| object.slice(r.start as usize..r.end as usize));
    ranges.iter().map(slice).collect()
}
