//! What a node does every minute: write what it keeps in memory, and learn its share of the limits.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use super::Control;
use super::usage::Month;
use crate::model::OrgId;

/// How often. A crash loses what was metered, and refused calls that were noted, since the last time.
const EVERY: Duration = Duration::from_secs(60);
/// Every how many times usage is rolled up; that of organizations with budgets each time.
const ROUNDS_PER_ROLL_UP: u32 = 5;

impl Control {
    /// Writes usage and audit logs every minute until `stop` resolves, and then once more.
    pub async fn keep_up_until(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut due = BTreeSet::new();
        for round in 1_u32.. {
            // Not all nodes at once.
            let pause = self.runtime().rng.jitter(EVERY);
            let is_last = tokio::select! {
                () = stop.as_mut() => true,
                () = tokio::time::sleep(pause) => false,
            };
            self.flush_audits().await;
            due.extend(self.flush_usage().await);
            if is_last {
                return;
            }
            self.learn_share().await;
            self.roll_up_due(&mut due, round.is_multiple_of(ROUNDS_PER_ROLL_UP))
                .await;
        }
    }

    /// Rolls up what is due: all of it, or that of organizations with budgets. What fails stays due.
    pub(super) async fn roll_up_due(&self, due: &mut BTreeSet<(OrgId, Month)>, all: bool) {
        let mut reviews = self.usages().take_reviews();
        for (org, month) in std::mem::take(due) {
            let known = self.organization(&org).await;
            let is_budgeted = matches!(&known, Ok(Some(known)) if self.is_budgeted(known));
            if !all && !is_budgeted {
                due.insert((org, month));
                continue;
            }
            if let Err(error) = self.roll_up_usage(&org, month).await {
                tracing::warn!(%org, %month, %error, "usage was not rolled up");
                due.insert((org.clone(), month));
            }
            if is_budgeted {
                reviews.insert(org);
            }
        }
        for org in reviews {
            if let Err(error) = self.review_budget(&org).await {
                tracing::warn!(%org, %error, "a budget was not reviewed");
            }
        }
    }

    /// Nodes share the limits. Costs nothing where no plan has any.
    async fn learn_share(&self) {
        if !self.has_limited_plans() {
            return;
        }
        match self.live_nodes().await {
            Ok(nodes) => self.share_limits(nodes.len()),
            Err(error) => tracing::debug!(%error, "the live nodes are not known; limits are shared as before"),
        }
    }
}
