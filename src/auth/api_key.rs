//! API keys and scoped search keys, as callers.

use std::net::IpAddr;
use std::sync::Arc;

use super::embedded::Embedded;
use super::{CredentialKind, Principal, refused};
use crate::control::Control;
use crate::control::keys::scoped::Scoped;
use crate::control::keys::{LiveKey, MadeBy};
use crate::error::Error;
use crate::model::Restriction;

/// What is said of every key that does not count, whatever is the matter with it.
pub(super) fn not_valid() -> Error {
    refused("the api key is not valid")
}

/// Whoever has the API key of this value.
///
/// Costs as [`Control::key_of_value`].
pub(super) async fn recognise(
    control: &Control,
    value: &[u8],
    made_by: MadeBy,
    ip: Option<IpAddr>,
) -> Result<Principal, Error> {
    let key = control.key_of_value(value, made_by, ip).await?;
    Ok(principal(CredentialKind::ApiKey, &*key.ok_or_else(not_valid)?))
}

fn principal(kind: CredentialKind, key: &LiveKey) -> Principal {
    Principal {
        kind,
        id: key.id.to_string(),
        user: None,
        org: key.org.clone(),
        chain: vec![key.grant.clone()],
        embedded: None,
        restriction: key.restriction.clone(),
        token: None,
    }
}

/// Whoever has a scoped search key.
///
/// Costs as [`Control::parent_of`].
///
/// # Errors
///
/// 401 when nobody here signed it, or it embeds what this version does not know; 400 when an embedded parameter
/// has the wrong type.
pub(super) async fn recognise_scoped(
    control: &Control,
    scoped: &Scoped,
    ip: Option<IpAddr>,
) -> Result<Principal, Error> {
    let parent = control.parent_of(scoped, ip).await?.ok_or_else(not_valid)?;
    let embedded = Embedded::parse(scoped.parameters())?;
    let mut principal = principal(CredentialKind::ScopedKey, &parent);
    principal
        .chain
        .extend(embedded.grants(&parent.org).into_iter().map(Arc::new));
    let both = match (&parent.restriction, embedded.restriction) {
        (Some(ours), Some(theirs)) => Some(Arc::new(narrowed(ours, theirs))),
        (None, Some(theirs)) => Some(Arc::new(theirs)),
        (ours, None) => ours.clone(),
    };
    // Also without any filter it can search and nothing else.
    principal.restriction = both.or_else(|| Some(Arc::default()));
    principal.embedded = Some(Arc::new(embedded.parameters));
    Ok(principal)
}

/// What both let pass.
fn narrowed(ours: &Restriction, theirs: Restriction) -> Restriction {
    let include = match (&ours.include, theirs.include) {
        (Some(ours), Some(theirs)) => Some(theirs.into_iter().filter(|name| ours.contains(name)).collect()),
        (ours, theirs) => theirs.or_else(|| ours.clone()),
    };
    Restriction {
        filters: ours.filters.iter().cloned().chain(theirs.filters).collect(),
        include,
        exclude: ours.exclude.iter().cloned().chain(theirs.exclude).collect(),
        top_k_max: [ours.top_k_max, theirs.top_k_max].into_iter().flatten().min(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restrictions_only_narrow() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let of = |include: Option<&[&str]>, exclude: &[&str], top_k_max| Restriction {
            include: include.map(names),
            exclude: names(exclude),
            top_k_max,
            ..Restriction::default()
        };
        for (ours, theirs, expected) in [
            (of(None, &[], None), of(None, &[], None), of(None, &[], None)),
            (
                of(Some(&["a", "b"]), &[], Some(5)),
                of(None, &[], Some(9)),
                of(Some(&["a", "b"]), &[], Some(5)),
            ),
            (
                of(None, &["x"], None),
                of(Some(&["a"]), &["y"], Some(3)),
                of(Some(&["a"]), &["x", "y"], Some(3)),
            ),
            (
                of(Some(&["a", "b"]), &[], None),
                of(Some(&["b", "c"]), &[], None),
                of(Some(&["b"]), &[], None),
            ),
            (
                of(Some(&["a"]), &[], None),
                of(Some(&["c"]), &[], None),
                of(Some(&[]), &[], None),
            ),
        ] {
            let both = narrowed(&ours, theirs);
            assert_eq!(
                (both.include, both.exclude, both.top_k_max),
                (expected.include, expected.exclude, expected.top_k_max)
            );
        }
    }
}
