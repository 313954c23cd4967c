//! What was answered to requests with idempotency keys, so that one sent again is not carried out
//! twice.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::model::Seq;
use crate::wal::{Reply, RequestEffects};

/// How long an answer is remembered, by the log's clock, in milliseconds.
const REMEMBERED_MS: u64 = 10 * 60 * 1000;
/// The most answers remembered; the oldest are forgotten first.
const REMEMBERED_MAX: usize = 10_000;

/// The answers of the newest entries, oldest first. A function of the log, so that every node
/// remembers the same.
#[derive(Clone, Debug, Default)]
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

#[derive(Debug)]
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

    /// The answers after an entry. Costs a clone of a list of entries when the entry has requests
    /// with keys or old ones are to be forgotten, else nothing.
    pub(super) fn after(self: &Arc<Self>, seq: Seq, hlc_ms: u64, requests: &[RequestEffects]) -> Arc<Self> {
        let new: HashMap<u128, Reply> = requests.iter().filter_map(|r| Some((r.request, r.reply?))).collect();
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

    fn request(number: u128) -> RequestEffects {
        RequestEffects {
            request: number,
            reply: Some(Reply {
                body: number + 1,
                counts: Counts::default(),
            }),
            ..RequestEffects::default()
        }
    }

    #[test]
    fn answers_are_remembered_for_ten_minutes() {
        let recent = Arc::new(Recent::default()).after(Seq(1), 1_000, &[request(7), RequestEffects::default()]);
        assert_eq!(recent.get(7).map(|r| (r.seq, r.reply.body)), Some((Seq(1), 8)));
        assert_eq!(recent.get(0), None, "without a key there is nothing to remember");
        let later = recent.after(Seq(2), 1_000 + REMEMBERED_MS, &[]);
        assert!(later.get(7).is_some());
        let later = later.after(Seq(3), 1_001 + REMEMBERED_MS, &[]);
        assert_eq!(later.get(7), None);
        assert_eq!(later.len, 0);
    }

    #[test]
    fn so_many_answers_are_remembered_and_no_more() {
        let mut recent = Arc::new(Recent::default());
        for n in 0..=REMEMBERED_MAX as u128 {
            recent = recent.after(Seq(n as u64 + 1), 5, &[request(n)]);
        }
        assert_eq!(recent.get(0), None);
        assert!(recent.get(1).is_some() && recent.get(REMEMBERED_MAX as u128).is_some());
        assert_eq!(recent.len, REMEMBERED_MAX);
    }
}
