//! Budgets: an organization that has used up its plan is stopped until the next month, or a larger plan.

use std::sync::Arc;

use super::{Month, OrgUsage};
use crate::config::Quotas;
use crate::control::{Control, Organization};
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::store::paths::control as paths;

/// What an organization may not do for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    pub reads: bool,
    pub writes: bool,
}

/// What a plan's budgets say of what was used this month.
fn judge(quotas: &Quotas, overages: bool, usage: &OrgUsage) -> Blocked {
    if overages {
        return Blocked::default();
    }
    let total = usage.sums.total();
    let over = |budget: Option<u64>, used: u64| budget.is_some_and(|budget| used >= budget);
    Blocked {
        reads: over(quotas.rows_read, total.rows_read) || over(quotas.bytes_queried, total.bytes_queried),
        writes: over(quotas.rows_written, total.rows_written)
            || over(quotas.bytes_written, total.bytes_written)
            || over(quotas.storage, usage.stored_bytes()),
    }
}

/// Whether a plan has budgets that usage is held against.
fn has_budgets(quotas: &Quotas) -> bool {
    let Quotas {
        rows_read,
        rows_written,
        bytes_queried,
        bytes_written,
        storage,
        ..
    } = quotas;
    [rows_read, rows_written, bytes_queried, bytes_written, storage]
        .iter()
        .any(|budget| budget.is_some())
}

impl Control {
    /// Whether requests have to be held against the organization's plan at all.
    pub fn has_limited_plans(&self) -> bool {
        let limits = |q: &Quotas| has_budgets(q) || q.queries_per_second.is_some() || q.writes_per_second.is_some();
        self.plans().iter().any(|plan| limits(&plan.quotas))
    }

    /// Whether an organization's plan has budgets.
    pub(in crate::control) fn is_budgeted(&self, org: &Organization) -> bool {
        has_budgets(&self.plan(org).quotas)
    }

    /// Fails when the organization has used up a budget. Costs nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::QuotaExceeded`] with the code `blocked_reads` or `blocked_writes`.
    pub fn check_budget(&self, org: &Organization, is_write: bool) -> Result<()> {
        let is_blocked = if is_write {
            org.blocked_writes
        } else {
            org.blocked_reads
        };
        // A larger plan counts at once; the flag is lifted by the next review.
        if !is_blocked || org.overages || !self.is_budgeted(org) {
            return Ok(());
        }
        let (what, code) = match is_write {
            true => ("writes", "blocked_writes"),
            false => ("reads", "blocked_reads"),
        };
        if let Ok(id) = org.org_id() {
            // It may be another month by now.
            self.usages().ask_for_review(&id);
        }
        let sentence = format!(
            "{what} are blocked: the organization has used up its plan for this month; an owner can change the plan \
             or allow overages"
        );
        Err(Error::new(ErrorKind::QuotaExceeded, sentence).coded(code))
    }

    /// Holds what an organization used this month against its plan, and notes what it may not do. Called after
    /// roll-ups, for organizations that were refused, and whenever a plan changes.
    ///
    /// Costs what [`Control::usage`] costs; two LISTs, two GETs and two PUTs more when something changes.
    pub async fn review_budget(&self, org: &OrgId) -> Result<Blocked> {
        let Some(known) = self.organization(org).await? else {
            return Ok(Blocked::default());
        };
        let blocked = match self.is_budgeted(&known) && !known.overages {
            true => {
                let month: Month = self.month();
                judge(
                    &self.plan(&known).quotas,
                    known.overages,
                    &self.usage(org, month, month).await?,
                )
            }
            false => Blocked::default(),
        };
        let before = Blocked {
            reads: known.blocked_reads,
            writes: known.blocked_writes,
        };
        if before != blocked {
            self.note_blocked(org, &known, blocked).await?;
        }
        Ok(blocked)
    }

    async fn note_blocked(&self, org: &OrgId, known: &Arc<Organization>, blocked: Blocked) -> Result<()> {
        let change = |record: Option<Organization>| {
            // Only the organization that exists without a record is made one.
            let is_implied = known.id == super::super::organization::DEFAULT;
            let record = record.or_else(|| is_implied.then(|| (**known).clone()));
            let gone = || Error::new(ErrorKind::NotFound, "organization not found");
            Ok(Some(Organization {
                blocked_reads: blocked.reads,
                blocked_writes: blocked.writes,
                ..record.ok_or_else(gone)?
            }))
        };
        self.records().update(&paths::org(org), change).await?;
        self.cache().changed(org).await?;
        tracing::info!(%org, reads = blocked.reads, writes = blocked.writes, "the budget of an organization was reviewed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Stored, Sums, Used};
    use super::*;

    #[test]
    fn a_budget_is_used_up_at_its_limit() {
        let used = Used {
            rows_read: 10,
            rows_written: 20,
            bytes_queried: 30,
            bytes_written: 40,
            ..Used::default()
        };
        let stored = |bytes| Stored {
            bytes,
            ..Stored::default()
        };
        let usage = OrgUsage {
            sums: Sums {
                namespaces: [("a".to_owned(), used)].into(),
                ..Sums::default()
            },
            stored: [("a".to_owned(), stored(30)), ("b".to_owned(), stored(20))].into(),
        };
        let quotas = Quotas::default();
        type Set = fn(&mut Quotas, Option<u64>);
        let budgets: [(Set, u64, bool); 5] = [
            (|q, n| q.rows_read = n, 10, true),
            (|q, n| q.bytes_queried = n, 30, true),
            (|q, n| q.rows_written = n, 20, false),
            (|q, n| q.bytes_written = n, 40, false),
            (|q, n| q.storage = n, 50, false),
        ];
        assert_eq!(judge(&quotas, false, &usage), Blocked::default());
        for (set, limit, reads) in budgets {
            let mut quotas = quotas;
            set(&mut quotas, Some(limit));
            let blocked = judge(&quotas, false, &usage);
            assert_eq!((blocked.reads, blocked.writes), (reads, !reads), "{limit}");
            assert_eq!(judge(&quotas, true, &usage), Blocked::default());
            set(&mut quotas, Some(limit + 1));
            assert_eq!(judge(&quotas, false, &usage), Blocked::default(), "{limit}");
        }
    }
}
