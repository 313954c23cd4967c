//! What was answered to requests with idempotency keys, so that one sent again is not carried out
//! twice.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Seq;
use super::write::Reply;

/// How long an answer is remembered, by the log's clock, in milliseconds.
const REMEMBERED_MS: u64 = 10 * 60 * 1000;
/// The most answers remembered; the oldest are forgotten first.
pub const REMEMBERED_MAX: usize = 10_000;

/// The answers of the newest entries, oldest first. A function of the log, so that every node
/// remembers the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    entries: VecDeque<Arc<Answers>>,
    len: usize,
}

/// An earlier request with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The entry that holds it.
    pub seq: Seq,
    /// Its number there.
    pub request: u128,
    pub reply: Reply,
}

/// What is remembered of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedEntry {
    pub seq: Seq,
    /// Its clock, milliseconds since the epoch.
    pub hlc_ms: u64,
    /// The answers by the numbers of their requests; at least one.
    pub replies: Vec<(u128, Reply)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Answers {
    seq: Seq,
    hlc_ms: u64,
    // Only looked up, never iterated: its order matters to nobody.
    by_request: HashMap<u128, Reply>,
}

impl Recent {
    /// The answer to the request of that number.
    pub fn get(&self, request: u128) -> Option<Remembered> {
        self.entries.iter().rev().find_map(|answers| {
            let reply = *answers.by_request.get(&request)?;
            Some(Remembered {
                seq: answers.seq,
                request,
                reply,
            })
        })
    }

    /// All that is remembered, by entry, oldest first; the requests of an entry by number.
    pub fn entries(&self) -> impl Iterator<Item = RememberedEntry> + '_ {
        self.entries.iter().map(|answers| {
            let mut replies: Vec<_> = answers.by_request.iter().map(|(n, reply)| (*n, *reply)).collect();
            replies.sort_unstable_by_key(|(number, _)| *number);
            RememberedEntry {
                seq: answers.seq,
                hlc_ms: answers.hlc_ms,
                replies,
            }
        })
    }

    /// What [`entries`](Self::entries) returned, remembered again.
    ///
    /// * `entries` — with replies, by ascending `seq`, together at most [`REMEMBERED_MAX`] replies
    pub fn from_entries(entries: impl IntoIterator<Item = RememberedEntry>) -> Self {
        let entries = entries.into_iter().map(|entry| {
            Arc::new(Answers {
                seq: entry.seq,
                hlc_ms: entry.hlc_ms,
                by_request: entry.replies.into_iter().collect(),
            })
        });
        let entries: VecDeque<_> = entries.collect();
        let len = entries.iter().map(|a| a.by_request.len()).sum();
        Self { entries, len }
    }

    /// The answers after an entry. Costs a clone of a list of entries when the entry has requests
    /// with keys or old ones are to be forgotten, else nothing.
    ///
    /// * `hlc_ms` — the entry's clock
    /// * `new` — its requests with keys, by number
    pub fn after(self: &Arc<Self>, seq: Seq, hlc_ms: u64, new: impl IntoIterator<Item = (u128, Reply)>) -> Arc<Self> {
        let new: HashMap<u128, Reply> = new.into_iter().collect();
        let is_old = |answers: &Answers| answers.hlc_ms.saturating_add(REMEMBERED_MS) < hlc_ms;
        if new.is_empty() && !self.entries.front().is_some_and(|a| is_old(a)) {
            return self.clone();
        }
        let mut after = Self::clone(self);
        if !new.is_empty() {
            after.len += new.len();
            after.entries.push_back(Arc::new(Answers {
                seq,
                hlc_ms,
                by_request: new,
            }));
        }
        while let Some(oldest) = after.entries.front()
            && (is_old(oldest) || after.len > REMEMBERED_MAX)
        {
            after.len -= oldest.by_request.len();
            after.entries.pop_front();
        }
        Arc::new(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::write::Counts;

    fn request(number: u128) -> (u128, Reply) {
        let reply = Reply {
            body: number + 1,
            counts: Counts::default(),
        };
        (number, reply)
    }

    #[test]
    fn answers_are_remembered_for_ten_minutes() {
        let recent = Arc::new(Recent::default()).after(Seq(1), 1_000, [request(7)]);
        assert_eq!(recent.get(7).map(|r| (r.seq, r.reply.body)), Some((Seq(1), 8)));
        assert_eq!(recent.get(0), None, "without a key there is nothing to remember");
        let later = recent.after(Seq(2), 1_000 + REMEMBERED_MS, []);
        assert!(later.get(7).is_some());
        let later = later.after(Seq(3), 1_001 + REMEMBERED_MS, []);
        assert_eq!(later.get(7), None);
        assert_eq!(later.len, 0);
    }

    #[test]
    fn what_is_taken_out_can_be_put_back() {
        let recent = Arc::new(Recent::default()).after(Seq(3), 1_000, [request(9), request(7)]);
        let recent = recent.after(Seq(8), 1_001, [request(1)]);
        let entries: Vec<_> = recent.entries().collect();
        assert_eq!(
            entries.iter().map(|e| (e.seq, e.hlc_ms)).collect::<Vec<_>>(),
            [(Seq(3), 1_000), (Seq(8), 1_001)]
        );
        assert_eq!(entries[0].replies, [request(7), request(9)]);
        let again = Recent::from_entries(entries);
        assert_eq!(again.len, 3);
        assert_eq!([1, 7, 9, 4].map(|n| again.get(n)), [1, 7, 9, 4].map(|n| recent.get(n)));
    }

    #[test]
    fn so_many_answers_are_remembered_and_no_more() {
        let mut recent = Arc::new(Recent::default());
        for n in 0..=REMEMBERED_MAX as u128 {
            recent = recent.after(Seq(n as u64 + 1), 5, [request(n)]);
        }
        assert_eq!(recent.get(0), None);
        assert!(recent.get(1).is_some() && recent.get(REMEMBERED_MAX as u128).is_some());
        assert_eq!(recent.len, REMEMBERED_MAX);
    }
}
