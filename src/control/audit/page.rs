//! Reading the audit log: the lines of all nodes, newest first.

use std::collections::BinaryHeap;

use futures::{StreamExt, TryStreamExt, stream};

use super::AuditLine;
use super::chain::Name;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::model::OrgId;
use crate::store::StoreError;
use crate::store::paths::control as paths;
use crate::store::record::RecordError;

/// How far into the log pages reach, in lines.
pub const REACH_MAX: u64 = 10_000;
/// Files read at a time.
const READS: usize = 16;
/// A larger file was not written by a node.
const FILE_BYTES_MAX: usize = 16 << 20;

/// One page of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditPage {
    /// Newest first.
    pub lines: Vec<AuditLine>,
    /// Of all pages.
    pub total_rows: u64,
}

/// A line that is ordered by time, then by where it was found.
struct Ranked {
    rank: (u64, u64, u64),
    line: AuditLine,
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl Control {
    /// A page of an organization's log, newest line first.
    ///
    /// Costs one LIST per thousand files there are, and one GET per file of this page and of those before it.
    ///
    /// * `page` — counts from 1
    /// * `size` — lines per page
    ///
    /// # Errors
    ///
    /// 400 for pages beyond the newest `REACH_MAX` lines.
    pub async fn audit_page(&self, org: &OrgId, page: u64, size: u64) -> Result<AuditPage> {
        let end = page.saturating_mul(size);
        if page == 0 || size == 0 || end > REACH_MAX {
            return Err(Error::invalid(format!(
                "page and page_size must be at least 1 and reach no further than the newest {REACH_MAX} entries"
            )));
        }
        let read = self.newest_audit_lines(org, end);
        let (lines, total_rows) = read.await.map_err(|e| Error::from(RecordError::Store(e)))?;
        let start = usize::try_from(end - size).unwrap_or(usize::MAX);
        Ok(AuditPage {
            lines: lines.into_iter().skip(start).collect(),
            total_rows,
        })
    }

    /// The newest lines, and how many there are in all.
    async fn newest_audit_lines(&self, org: &OrgId, count: u64) -> Result<(Vec<AuditLine>, u64), StoreError> {
        let store = self.records().store();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut total = 0;
        let mut names = Vec::new();
        let mut listed = store.list(&paths::audit(org), None);
        while let Some(object) = listed.try_next().await? {
            let Some(name) = Name::parse(&object.location) else {
                continue;
            };
            total += name.lines;
            names.push((name.last_ms, name.stream, name.number, object.location));
            // Every file has a line at least, so that older ones cannot be needed.
            if names.len() >= 2 * count {
                keep_newest(&mut names, count);
            }
        }
        keep_newest(&mut names, count);
        let ends: Vec<u64> = names.iter().map(|(last_ms, ..)| *last_ms).collect();
        let bodies = names.into_iter().map(|(.., key)| async move { store.get(&key).await });
        let mut bodies = stream::iter(bodies).buffered(READS);
        let mut waiting = BinaryHeap::new();
        let mut lines = Vec::new();
        let mut files = 0;
        while lines.len() < count {
            // A line is the next one when no file that is not read yet can have a newer one.
            let newest: Option<&Ranked> = waiting.peek();
            let unread = ends.get(files).copied();
            if let Some(last_ms) = unread
                && newest.is_none_or(|n| n.rank.0 <= last_ms)
            {
                let body = bodies.try_next().await?.flatten().unwrap_or_default();
                waiting.extend(lines_of(&body, u64::MAX - files as u64));
                files += 1;
                continue;
            }
            match waiting.pop() {
                Some(Ranked { line, .. }) => lines.push(line),
                None => break,
            }
        }
        Ok((lines, total))
    }
}

fn keep_newest<T: Ord>(names: &mut Vec<T>, count: usize) {
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.truncate(count);
}

/// The lines of a file; damaged ones are left out, which is what `verify_audit` is for.
fn lines_of(body: &[u8], rank: u64) -> Vec<Ranked> {
    let body = if body.len() > FILE_BYTES_MAX { &[][..] } else { body };
    let texts = body.split(|b| *b == b'\n').enumerate();
    let parsed = texts.filter_map(|(n, text)| Some((n, serde_json::from_slice::<AuditLine>(text).ok()?)));
    parsed
        .map(|(n, line)| Ranked {
            rank: (line.at, rank, n as u64),
            line,
        })
        .collect()
}
