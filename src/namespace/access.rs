//! What callers may do with a namespace, checked on its newest state.

use std::sync::Arc;

use super::Engine;
use super::commit::Failure;
use super::evaluate::{Change, What, not_found};
use super::handle::Handle;
use crate::base::Priority;
use crate::error::Result;
use crate::model::access::{Access, Guard, Target, check, forbidden};
use crate::model::query::{Read, Rerank};
use crate::model::{NamespaceName, Query};
use crate::query::View;
use crate::snapshot::Snapshot;

impl Engine {
    /// The same engine for a caller who may do what `guard` says, in every method. Costs nothing.
    ///
    /// An engine without a guard is for the deployment's own work: it heeds what the settings of a
    /// namespace block, and not from where requests may come.
    pub fn guarded(&self, guard: Arc<Guard>) -> Self {
        Self {
            inner: self.inner.clone(),
            guard: Some(guard),
        }
    }

    /// A change on behalf of this engine's caller.
    pub(super) fn change(&self, what: What) -> Arc<Change> {
        Arc::new(Change {
            guard: self.guard.clone(),
            what,
        })
    }

    /// Checks a request against the state that it uses.
    pub(super) fn check(&self, access: Access, name: &NamespaceName, snapshot: &Snapshot) -> Result<()> {
        let target = Target {
            name,
            exists: snapshot.exists(),
            id: snapshot.database_id(),
            settings: &snapshot.settings,
        };
        check(self.guard.as_deref(), access, &target)
    }

    /// Checks a write before anything is done for it, which is decided again under its slot. A refusal rests on
    /// the newest state, a pass on what this node knows.
    ///
    /// Costs nothing when it passes, else one GET, shared.
    pub(super) async fn check_early(&self, handle: &Handle, name: &NamespaceName) -> Result<(), Failure> {
        if self.guard.is_none() || self.check(Access::Write, name, &handle.snapshot()).is_ok() {
            return Ok(());
        }
        self.check_newest(handle, Access::Write, name).await
    }

    /// Checks a request against the newest state. Costs one GET, shared.
    pub(super) async fn check_newest(
        &self,
        handle: &Handle,
        access: Access,
        name: &NamespaceName,
    ) -> Result<(), Failure> {
        handle.probe().await?;
        Ok(self.check(access, name, &handle.snapshot())?)
    }

    /// That requests which name no namespace, or no state of it, may be made.
    ///
    /// # Errors
    ///
    /// 403 for callers that are limited to some rows or by a token to some namespaces.
    pub(super) fn check_unbound(&self) -> Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        guard.check_restriction(Access::Manage)?;
        match guard.token {
            Some(_) => Err(forbidden("this token is for the data of some namespaces only")),
            None => Ok(()),
        }
    }

    /// What the caller may see of a snapshot.
    ///
    /// # Errors
    ///
    /// As [`check`]; 404 without the namespace; 403 when a filter that is mandatory for the caller does not fit the
    /// schema.
    pub(super) async fn view(&self, name: &NamespaceName, snapshot: &Snapshot) -> Result<Arc<View>> {
        self.check(Access::Search, name, snapshot)?;
        if !snapshot.exists() {
            return Err(not_found(name));
        }
        let restriction = self.guard.as_ref().and_then(|g| g.restriction.clone());
        let schema = snapshot.schema.clone();
        let view = match restriction {
            None => View::all(schema),
            Some(restriction) => {
                let of = move || View::restricted(&schema, &restriction);
                self.inner.runtime.cpu.run(Priority::Foreground, of).await?
            }
        };
        Ok(Arc::new(view))
    }

    /// Caps what a query may ask for.
    pub(super) fn cap(&self, query: &mut Query) {
        if let Some(max) = self.rows_max() {
            query.limit = query.limit.min(max);
        }
    }

    /// Caps what a read may ask for, before and after its answers become one.
    pub(super) fn cap_read(&self, read: &mut Read) {
        let Some(max) = self.rows_max() else { return };
        read.queries.iter_mut().for_each(|query| self.cap(query));
        match &mut read.rerank {
            None => {}
            Some(Rerank::Fusion { limit, .. }) => *limit = max.min(*limit),
            Some(Rerank::Model { limit, .. }) => *limit = Some(limit.map_or(max, |l| l.min(max))),
        }
    }

    fn rows_max(&self) -> Option<usize> {
        let restriction = self.guard.as_ref()?.restriction.as_ref()?;
        restriction.top_k_max
    }
}
