//! What of a namespace is garbage: a pure function of a listing, the manifests and the holds.
//!
//! # What stays true
//!
//! - An object goes only if no retained manifest, hold or entry of the log names it, and it is older than the grace
//!   time. A manifest is retained as long as its *successor* is younger than the grace time or the retention: who uses
//!   an object that was merged away a moment ago has as long to notice as if it had been merged away at once.
//! - The newest manifest and the newest entry never go, nor do entries that a retained manifest does not have in
//!   segments. What is retained is always the newest part of the manifests and of the log, without gaps.
//! - What is not known to be garbage stays: foreign objects, and blobs while it is not known who names them.

use std::collections::BTreeSet;
use std::time::Duration;

use object_store::path::Path;
use ulid::Ulid;

use super::history::{Held, History};
use crate::manifest::Gen;
use crate::model::Seq;
use crate::store::paths::{NsObject, OperationPart};

/// An object in the directory of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub object: NsObject,
    pub key: Path,
    /// When it was written, by the store's clock, in milliseconds since the epoch.
    pub written_ms: u64,
    pub bytes: u64,
}

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How long objects stay after nothing needs them.
    pub grace: Duration,
    /// How long states of a namespace stay that it can be restored to.
    pub retention: Duration,
}

impl Keep {
    fn states(&self) -> Duration {
        // What can be had is kept a little longer: restoring it takes time.
        match self.retention.is_zero() {
            true => self.grace,
            false => self.grace.max(self.retention.saturating_add(self.grace / 2)),
        }
    }
}

/// Which manifests are retained: those from `oldest` to `newest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// 0: the state without a manifest, which is the log from its beginning.
    pub oldest: Gen,
    /// 0 when there is none.
    pub newest: Gen,
}

/// Everything that decides what goes.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// All objects of the namespace.
    pub listing: &'a [Found],
    /// What the retained manifests say.
    pub history: &'a History,
    /// All holds on its objects.
    pub pins: &'a [Held],
    /// The blobs that entries name which stay; `None` when it is not known, and then none goes.
    pub blobs: Option<&'a BTreeSet<Ulid>>,
    /// By the store's clock or this node's, whichever is behind.
    pub now_ms: u64,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Garbage, in the order in which it is to be deleted.
    pub doomed: Vec<Found>,
    /// Whether something else will be garbage without anything being published first.
    pub later: bool,
}

/// A retained manifest was not read, so that it is not known what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("manifest {0} is retained, and what it says is not known")]
pub struct Unread(pub Gen);

/// Which manifests of a listing are retained.
pub fn retained(listing: &[Found], now_ms: u64, keep: Keep) -> Retained {
    let mut found: Vec<(Gen, u64)> = listing
        .iter()
        .filter_map(|f| match f.object {
            NsObject::Manifest(generation) => Some((generation, f.written_ms)),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    let Some((newest, _)) = found.last().copied() else {
        return Retained {
            oldest: Gen::ZERO,
            newest: Gen::ZERO,
        };
    };
    // The first manifest succeeds the state without one.
    let first = (found[0].0 == Gen(1)).then_some((Gen::ZERO, 0));
    let all: Vec<(Gen, u64)> = first.into_iter().chain(found).collect();
    let succeeded = all
        .windows(2)
        .find(|pair| is_young(pair[1].1, now_ms, keep.states()))
        .map(|pair| pair[0].0);
    Retained {
        oldest: succeeded.unwrap_or(newest),
        newest,
    }
}

/// The entries that stay: those after the first, and the second.
pub fn retained_log(listing: &[Found], history: &History, retained: Retained) -> Result<(Seq, Seq), Unread> {
    let newest = entries(listing).map(|(seq, _)| seq).max().unwrap_or(Seq::ZERO);
    let mut floor = match retained.oldest {
        Gen::ZERO => Seq::ZERO,
        oldest => history.indexed_seq(oldest).ok_or(Unread(oldest))?,
    };
    for generation in manifests(listing).filter(|g| *g >= retained.oldest) {
        floor = floor.min(history.indexed_seq(generation).ok_or(Unread(generation))?);
    }
    Ok((floor, newest))
}

/// Whether an entry is not among those that stay.
pub fn is_passed(seq: Seq, (floor, newest): (Seq, Seq)) -> bool {
    seq <= floor && seq != newest
}

/// What is garbage, and in which order it goes: manifests and entries oldest first, so that what is left has no gaps
/// wherever it stops, then what they named.
///
/// # Errors
///
/// When the history does not know a retained manifest.
pub fn plan(view: &View<'_>, keep: Keep) -> Result<Plan, Unread> {
    let retained = retained(view.listing, view.now_ms, keep);
    let log = retained_log(view.listing, view.history, retained)?;
    let is_old = |found: &Found| !is_young(found.written_ms, view.now_ms, keep.grace);
    let mut doomed = Vec::new();
    doomed.extend(oldest_first(view.listing, is_old, |object| match object {
        NsObject::Manifest(generation) if *generation < retained.oldest => Some(generation.0),
        _ => None,
    }));
    doomed.extend(oldest_first(view.listing, is_old, |object| match object {
        NsObject::Entry(seq) if is_passed(*seq, log) => Some(seq.0),
        _ => None,
    }));
    let held: BTreeSet<&NsObject> = view.pins.iter().flat_map(|pin| &pin.objects).collect();
    let named = |object: &NsObject, oldest| view.history.names(object, oldest) || held.contains(object);
    let ended = ended_operations(view.listing, view.now_ms, keep.grace);
    let is_garbage = |object: &NsObject| match object {
        NsObject::Segment(_) | NsObject::Deletions(_) => !named(object, retained.oldest),
        NsObject::Blob(id) => view.blobs.is_some_and(|blobs| !blobs.contains(id)),
        NsObject::Pin(id) => view.pins.iter().any(|pin| pin.id == *id && !pin.needed),
        NsObject::Operation(token, _) => ended.contains(token),
        NsObject::Entry(_)
        | NsObject::Manifest(_)
        | NsObject::Head
        | NsObject::Lease { .. }
        | NsObject::CollectionPlan(_) => false,
    };
    let mut rest: Vec<&Found> = view
        .listing
        .iter()
        .filter(|f| is_old(f) && is_garbage(&f.object))
        .collect();
    // Of an operation, how it ended goes last.
    rest.sort_by_key(|f| matches!(f.object, NsObject::Operation(_, OperationPart::Done)));
    doomed.extend(rest.into_iter().cloned());
    let later = will_be_garbage(view, retained.newest);
    Ok(Plan { doomed, later })
}

/// Whether anything is there that only the past needs.
fn will_be_garbage(view: &View<'_>, newest: Gen) -> bool {
    let indexed = view.history.indexed_seq(newest).unwrap_or(Seq::ZERO);
    let end = entries(view.listing).map(|(seq, _)| seq).max();
    view.listing.iter().any(|found| match &found.object {
        NsObject::Entry(seq) => *seq <= indexed && Some(*seq) != end,
        NsObject::Manifest(generation) => *generation < newest,
        // A hold may end at any time without anybody saying so here.
        NsObject::Pin(_) | NsObject::Operation(..) | NsObject::CollectionPlan(_) => true,
        NsObject::Segment(_) | NsObject::Deletions(_) => !view.history.names(&found.object, newest),
        // Those of entries that will go are counted with these.
        NsObject::Blob(id) => view.blobs.is_none_or(|blobs| !blobs.contains(id)),
        NsObject::Head | NsObject::Lease { .. } => false,
    })
}

/// Those that `number` numbers, oldest first, up to the first that is too young.
fn oldest_first<'a>(
    listing: &'a [Found],
    is_old: impl Fn(&Found) -> bool,
    number: impl Fn(&NsObject) -> Option<u64>,
) -> impl Iterator<Item = Found> + 'a {
    let mut found: Vec<(u64, &Found)> = listing.iter().filter_map(|f| Some((number(&f.object)?, f))).collect();
    found.sort_unstable_by_key(|(number, _)| *number);
    let old = found.iter().take_while(|(_, f)| is_old(f)).count();
    found.truncate(old);
    found.into_iter().map(|(_, f)| f.clone())
}

/// Copies by token nobody has written anything about for longer than the grace time.
fn ended_operations(listing: &[Found], now_ms: u64, grace: Duration) -> BTreeSet<Ulid> {
    let tokens = |wanted: fn(bool) -> bool| -> BTreeSet<Ulid> {
        let of = |f: &Found| match f.object {
            NsObject::Operation(token, _) if wanted(is_young(f.written_ms, now_ms, grace)) => Some(token),
            _ => None,
        };
        listing.iter().filter_map(of).collect()
    };
    let (young, old) = (tokens(|young| young), tokens(|young| !young));
    old.difference(&young).copied().collect()
}

fn is_young(written_ms: u64, now_ms: u64, span: Duration) -> bool {
    u128::from(now_ms.saturating_sub(written_ms)) <= span.as_millis()
}

fn entries(listing: &[Found]) -> impl Iterator<Item = (Seq, u64)> {
    listing.iter().filter_map(|f| match f.object {
        NsObject::Entry(seq) => Some((seq, f.written_ms)),
        _ => None,
    })
}

fn manifests(listing: &[Found]) -> impl Iterator<Item = Gen> {
    listing.iter().filter_map(|f| match f.object {
        NsObject::Manifest(generation) => Some(generation),
        _ => None,
    })
}
