//! How much a query may load of segments, and how large its answer may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::{Error, ErrorKind, Result};

/// What all that the queries of one request load may take in memory, in bytes, much of which the cache holds anyway.
/// The columns of a hundred million rows fit; a column of long texts of as many does not.
const BYTES_MAX: u64 = 2 << 30;

/// Memory for what was loaded and is still held.
#[derive(Debug)]
pub(super) struct Budget {
    left: Arc<AtomicU64>,
    /// Held for writing by who works alone, for reading by all others.
    turn: RwLock<()>,
    /// Held by who analyses texts.
    analysis: Mutex<()>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

impl Budget {
    pub fn new(bytes: u64) -> Self {
        Self {
            left: Arc::new(AtomicU64::new(bytes)),
            turn: RwLock::new(()),
            analysis: Mutex::new(()),
        }
    }

    /// Waits until nobody else of the request analyses the texts of a segment. Who has the [`turn`](Self::turn) may wait.
    pub async fn analysis(&self) -> MutexGuard<'_, ()> {
        self.analysis.lock().await
    }

    /// Waits until nobody of the request works alone.
    pub async fn beside(&self) -> RwLockReadGuard<'_, ()> {
        self.turn.read().await
    }

    /// Waits until nobody else of the request works: what takes much memory for a while is done alone.
    pub async fn turn(&self) -> RwLockWriteGuard<'_, ()> {
        self.turn.write().await
    }

    /// Takes what was loaded out of the budget, for the rest of the query.
    ///
    /// # Errors
    ///
    /// It is more than is left.
    pub fn take(&self, bytes: usize) -> Result<()> {
        take(&self.left, bytes)
    }

    /// The same until the guard is dropped.
    pub fn borrow(&self, bytes: usize) -> Result<Borrowed> {
        self.take(bytes)?;
        Ok(Borrowed {
            left: self.left.clone(),
            bytes: bytes as u64,
        })
    }

    /// What may be taken still.
    #[cfg(test)]
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }
}

fn take(left: &AtomicU64, bytes: usize) -> Result<()> {
    let taken = |left: u64| left.checked_sub(bytes as u64);
    match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(
            ErrorKind::Overloaded,
            "this query looks at more data than a query may load at a time; add a filter, or split the query",
        )),
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
        self.left.take(bytes).map_err(|_| self.exceeded())
    }

    /// Looks whether so much will be left, before it is made.
    ///
    /// # Errors
    ///
    /// The answers would be larger than they may be.
    pub fn expect(&self, bytes: u64) -> Result<()> {
        match bytes <= self.bytes_max {
            true => Ok(()),
            false => Err(self.exceeded()),
        }
    }

    fn exceeded(&self) -> Error {
        Error::invalid(format!(
            "the rows of an answer may take at most {} bytes in memory, and these take more: ask for fewer rows, or \
             leave out large attributes with include_attributes or exclude_attributes",
            self.bytes_max
        ))
    }
}

/// Memory that goes back to its budget.
#[derive(Debug)]
pub(super) struct Borrowed {
    left: Arc<AtomicU64>,
    bytes: u64,
}

impl Borrowed {
    /// Takes more.
    ///
    /// # Errors
    ///
    /// It is more than is left; what was taken before stays so.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        take(&self.left, bytes)?;
        self.bytes += bytes as u64;
        Ok(())
    }

    /// Makes one of two of the same budget.
    pub fn join(&mut self, mut other: Borrowed) {
        debug_assert!(Arc::ptr_eq(&self.left, &other.left), "of one budget");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_borrowed_comes_back() {
        let budget = Budget::new(100);
        budget.take(60).unwrap();
        let mut borrowed = budget.borrow(30).unwrap();
        borrowed.grow(10).unwrap();
        assert_eq!(budget.take(1).unwrap_err().kind, ErrorKind::Overloaded);
        assert_eq!(borrowed.grow(1).unwrap_err().kind, ErrorKind::Overloaded);
        drop(borrowed);
        budget.take(40).unwrap();
    }
}
