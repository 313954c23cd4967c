//! The listing markers: which namespaces an organization has.
//!
//! A marker `cat/<org>/<namespace>/<genesis>` stands for one incarnation. It is created together
//! with the incarnation's first entry, which is acknowledged only when both exist, and removed
//! after the namespace's deletion is in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;

use super::NamespacePage;
use super::follow::unavailable;
use super::state::State;
use crate::error::{Error, Result};
use crate::model::{NamespaceName, OrgId, Seq};
use crate::store::paths::{self, NsKey};
use crate::store::{Store, StoreError};

/// How long to wait before a dirty marker is written again that the store did not take; doubled each time.
const MARK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Makes sure that the marker of an incarnation exists. Costs one PUT.
///
/// False when the store did not take it within its retries: the write stands, and the next write
/// tries again.
pub(super) async fn add(state: &State, genesis: Seq) -> bool {
    let key = paths::catalog_marker(state.log.key(), genesis);
    let body = serde_json::json!({ "namespace": state.name.as_str() }).to_string();
    match state.log.store().put(&key, body).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(namespace = %state.name, %error, "listing marker was not written");
            false
        }
    }
}

/// Marks a namespace as one that has entries which are not in segments. Costs one PUT, repeated until the deadline of a
/// write: then whoever opens the namespace next finds what is to be indexed.
pub(super) async fn mark_dirty(state: &State) {
    let key = paths::dirty_marker(state.log.key());
    let put = async {
        let mut wait = MARK_AGAIN_AFTER;
        while let Err(error) = state.log.store().put(&key, Vec::new()).await {
            tracing::warn!(namespace = %state.name, %error, "dirty marker was not written");
            tokio::time::sleep(state.runtime.rng.jitter(wait)).await;
            wait *= 2;
        }
    };
    let _ = tokio::time::timeout(state.options.write_deadline, put).await;
}

/// Removes the marker of an incarnation that was begun and lost its slot. Costs one DELETE.
pub(super) async fn retract(state: &State, genesis: Seq) {
    let key = paths::catalog_marker(state.log.key(), genesis);
    if let Err(error) = state.log.store().delete(&key).await {
        tracing::warn!(namespace = %state.name, %error, "listing marker was not removed");
    }
}

/// Removes the markers of all incarnations up to a deletion. Costs one LIST and a DELETE each.
pub(super) async fn remove(state: &State, tombstone: Seq) {
    if let Err(error) = try_remove(state, tombstone).await {
        // The namespace is deleted all the same; a repeated deletion tries again.
        tracing::warn!(namespace = %state.name, %error, "listing marker was not removed");
    }
}

async fn try_remove(state: &State, tombstone: Seq) -> Result<(), StoreError> {
    let store = state.log.store();
    let prefix = paths::catalog_markers(state.log.key());
    let markers: Vec<_> = store.list(&prefix, None).try_collect().await?;
    for marker in markers {
        if paths::marker_genesis(&marker.location).is_some_and(|genesis| genesis <= tombstone) {
            store.delete(&marker.location).await?;
        }
    }
    Ok(())
}

/// One page of an organization's namespaces whose names begin with `prefix`, in the order of their
/// markers' keys, which is by lower-cased name; only those that are covered. Costs one LIST per thousand markers from the cursor
/// on, where the store lists in order; else of all the organization's markers.
pub(super) async fn list(
    store: &Store,
    org: &OrgId,
    prefix: &str,
    cursor: Option<&str>,
    page_size: usize,
    covers: &(dyn Fn(&NamespaceName) -> bool + Sync),
) -> Result<NamespacePage> {
    let prefix_key = paths::catalog_name_prefix(org, prefix);
    let mut from = prefix_key.clone();
    if let Some(cursor) = cursor {
        let last = NamespaceName::parse(cursor).map_err(|_| Error::invalid("cursor was not made by this server"))?;
        // Sequence number 0 has the last key of all markers of that name.
        from = from.max(paths::catalog_marker(&NsKey::new(org.clone(), last), Seq::ZERO));
    }
    let mut markers = store.list(&paths::catalog(org), Some(&from));
    let mut found: BTreeMap<String, NamespaceName> = BTreeMap::new();
    while let Some(marker) = markers.try_next().await.map_err(unavailable)? {
        let key = marker.location.as_ref();
        let in_range = key.starts_with(prefix_key.as_ref());
        if store.lists_in_order() && (!in_range || found.len() > page_size) {
            break;
        }
        let (Some((directory, _)), true) = (key.rsplit_once('/'), in_range && key > from.as_ref()) else {
            continue;
        };
        match paths::marker_namespace(&marker.location) {
            // Keys are lower-cased, so the prefix is only right up to case.
            Some(name) if name.as_str().starts_with(prefix) && covers(&name) => {
                found.insert(format!("{directory}/"), name);
            }
            Some(_) => {}
            None => tracing::warn!(key, "not a listing marker"),
        }
    }
    let more = found.len() > page_size;
    let names: Vec<NamespaceName> = found.into_values().take(page_size).collect();
    let next_cursor = names.last().filter(|_| more).map(|last| last.as_str().to_owned());
    Ok(NamespacePage { names, next_cursor })
}
