//! How much a query may load of segments, and how large its answer may be.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// What all that the queries of one request load may take in memory, in bytes, much of which the cache holds anyway.
/// The columns of a hundred million rows fit; a column of long texts of as many does not.
const BYTES_MAX: u64 = 2 << 30;

/// Memory for what was loaded and is still held.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

impl Budget {
    pub fn new(bytes: u64) -> Self {
        Self {
            left: AtomicU64::new(bytes),
        }
    }

    /// Takes what was loaded out of the budget, for the rest of the query.
    ///
    /// # Errors
    ///
    /// It is more than is left.
    pub fn take(&self, bytes: usize) -> Result<()> {
        let take = |left: u64| left.checked_sub(bytes as u64);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(
                ErrorKind::Overloaded,
                "this query looks at more data than a query may load at a time; add a filter, or split the query",
            )),
        }
    }

    /// The same until the guard is dropped.
    pub fn borrow(&self, bytes: usize) -> Result<Borrowed<'_>> {
        self.take(bytes)?;
        Ok(Borrowed {
            of: self,
            bytes: bytes as u64,
        })
    }
}

/// Memory for the rows of the answers to one request.
#[derive(Debug)]
pub(super) struct AnswerBudget {
    bytes_max: u64,
    left: Budget,
}

impl AnswerBudget {
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            left: Budget::new(bytes_max),
        }
    }

    /// Takes a row's memory.
    ///
    /// # Errors
    ///
    /// The answers are larger than they may be.
    pub fn take(&self, bytes: usize) -> Result<()> {
        self.left.take(bytes).map_err(|_| {
            Error::invalid(format!(
                "the rows of an answer may take at most {} bytes in memory, and these take more: ask for fewer rows, or \
                 leave out large attributes with include_attributes or exclude_attributes",
                self.bytes_max
            ))
        })
    }
}

/// Memory that goes back to its budget.
#[derive(Debug)]
pub(super) struct Borrowed<'a> {
    of: &'a Budget,
    bytes: u64,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.of.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_borrowed_comes_back() {
        let budget = Budget::new(100);
        budget.take(60).unwrap();
        let borrowed = budget.borrow(40).unwrap();
        assert_eq!(budget.take(1).unwrap_err().kind, ErrorKind::Overloaded);
        drop(borrowed);
        budget.take(40).unwrap();
    }
}
