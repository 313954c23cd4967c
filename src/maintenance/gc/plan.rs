//! What of a namespace is garbage: a pure function of a listing, the oldest retained manifest and the holds.
//!
//! # What stays true
//!
//! - An object goes only if no retained manifest, hold or entry of the log names it, and it is older than the grace
//!   time. A manifest is retained as long as its *successor* is younger than the grace time or the retention: who uses
//!   an object that was merged away a moment ago has as long to notice as if it had been merged away at once.
//! - The newest manifest and the newest entry never go, nor do entries that a retained manifest does not have in
//!   segments. What is retained is always the newest part of the manifests and of the log, without gaps.
//! - What is not known to be garbage stays: foreign objects, and blobs while it is not known who names them.
//!
//! # Why the oldest retained manifest is enough
//!
//! `indexed_seq` never falls, so that manifest has the least of the log in segments: entries after it stay. What it names
//! stays. What it does not name and a later one does was published after it; and what is published was uploaded within the
//! grace time before, because jobs give up after half of it and no request takes effect later than the other half. So all
//! that is older than the grace time before the *next* manifest, and that the oldest does not name, is named by none that
//! is retained. (A branch may name again what was once given up; until the manifest that says so is the oldest, a hold
//! keeps that.) Reading one manifest instead of all, thousands a day where rows are written all the time, costs this
//! much: there, objects that lived for less than the grace time stay for up to twice as long.

use std::collections::BTreeSet;
use std::time::Duration;

use ulid::Ulid;

use super::history::{Held, Oldest};
use crate::manifest::Gen;
use crate::model::Seq;
use crate::store::paths::{NsObject, OperationPart};

/// An object in the directory of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub object: NsObject,
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
    /// What was uploaded longer than the grace time before this is named by none after `oldest`, in milliseconds since the
    /// epoch.
    pub named_after_ms: u64,
}

/// Everything that decides what goes.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// All objects of the namespace; of the entries that stay, the newest one is enough.
    pub listing: &'a [Found],
    /// What the oldest retained manifest says.
    pub oldest: &'a Oldest,
    /// All holds on its objects.
    pub pins: &'a [Held],
    pub blobs: Blobs<'a>,
    /// By the store's clock or this node's, whichever is behind.
    pub now_ms: u64,
}

/// Which blobs the entries name that stay.
#[derive(Clone, Copy, Debug)]
pub enum Blobs<'a> {
    /// These.
    Named(&'a BTreeSet<Ulid>),
    /// Only such as were uploaded at this time or later, in milliseconds since the epoch; 0: any.
    Since(u64),
}

impl Blobs<'_> {
    /// Whether none of these entries names a blob.
    fn lack(&self, id: Ulid, written_ms: u64) -> bool {
        match self {
            Self::Named(named) => !named.contains(&id),
            Self::Since(since_ms) => written_ms < *since_ms,
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Garbage, in the order in which it is to be deleted.
    pub doomed: Vec<Found>,
    /// Whether something else will be garbage without anything being published first.
    pub later: bool,
}

/// The oldest retained manifest was not read, so that it is not known what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("manifest {0} is the oldest retained, and what it says is not known")]
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
    // The first manifest succeeds the state without one.
    if found.first().is_none_or(|first| first.0 == Gen(1)) {
        found.insert(0, (Gen::ZERO, 0));
    }
    let newest = found.last().map_or(Gen::ZERO, |(newest, _)| *newest);
    let succeeded = found.windows(2).find(|pair| is_young(pair[1].1, now_ms, keep.states()));
    match succeeded {
        // Whatever comes next is published from now on.
        None => Retained {
            oldest: newest,
            newest,
            named_after_ms: now_ms,
        },
        Some(pair) => Retained {
            oldest: pair[0].0,
            newest,
            named_after_ms: match pair[0].0.next() == pair[1].0 {
                true => pair[1].1,
                // A collection stopped in between: when the next one was published is not known.
                false => pair[0].1,
            },
        },
    }
}

/// The entries that stay: those after the first, and the second.
pub fn retained_log(listing: &[Found], oldest: &Oldest) -> (Seq, Seq) {
    let newest = entries(listing).map(|(seq, _)| seq).max().unwrap_or(Seq::ZERO);
    (oldest.indexed_seq, newest)
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
/// When another manifest is the oldest retained than the one that was read.
pub fn plan(view: &View<'_>, keep: Keep) -> Result<Plan, Unread> {
    let retained = retained(view.listing, view.now_ms, keep);
    if view.oldest.generation != retained.oldest {
        return Err(Unread(retained.oldest));
    }
    let log = retained_log(view.listing, view.oldest);
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
    let named = |found: &Found| {
        view.oldest.names(&found.object)
            || held.contains(&found.object)
            || is_young(found.written_ms, retained.named_after_ms, keep.grace)
    };
    let ended = ended_operations(view.listing, view.now_ms, keep.grace);
    let begun = operations(view.listing, |_, part| part != OperationPart::Done);
    let is_garbage = |found: &Found| match &found.object {
        NsObject::Segment(_) | NsObject::Deletions(_) => !named(found),
        NsObject::Blob(id) => view.blobs.lack(*id, found.written_ms),
        NsObject::Pin(id) => view.pins.iter().any(|pin| pin.id == *id && !pin.needed),
        // How it ended goes when the rest is gone: what seems to have begun and not ended would be done again.
        NsObject::Operation(token, OperationPart::Done) => ended.contains(token) && !begun.contains(token),
        NsObject::Operation(token, _) => ended.contains(token),
        NsObject::Entry(_)
        | NsObject::Manifest(_)
        | NsObject::Head
        | NsObject::Lease { .. }
        | NsObject::CollectionPlan(_) => false,
    };
    let rest = view.listing.iter().filter(|f| is_old(f) && is_garbage(f));
    doomed.extend(rest.cloned());
    let later = will_be_garbage(view, retained);
    Ok(Plan { doomed, later })
}

/// When the first object of a namespace gets so old that it, or what it keeps alive, may be garbage, in milliseconds since
/// the epoch, if nothing is published until then. `None` when that may be at any time.
pub fn next_change_ms(listing: &[Found], now_ms: u64, keep: Keep) -> Option<u64> {
    let spans = [keep.grace, keep.states()].map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let mut next: Option<u64> = None;
    for found in listing {
        match found.object {
            // A hold may end at any time without anybody saying so here.
            NsObject::Pin(_) | NsObject::Operation(..) | NsObject::CollectionPlan(_) => return None,
            NsObject::Head | NsObject::Lease { .. } => {}
            _ => {
                let old_at = spans.map(|span| found.written_ms.saturating_add(span).saturating_add(1));
                let first = old_at.into_iter().filter(|at| *at > now_ms).min();
                next = [next, first].into_iter().flatten().min();
            }
        }
    }
    next
}

/// Whether anything is there that only the past needs.
fn will_be_garbage(view: &View<'_>, retained: Retained) -> bool {
    if retained.oldest < retained.newest {
        return true;
    }
    let newest = view.oldest;
    let end = entries(view.listing).map(|(seq, _)| seq).max();
    view.listing.iter().any(|found| match &found.object {
        NsObject::Entry(seq) => *seq <= newest.indexed_seq && Some(*seq) != end,
        NsObject::Manifest(generation) => *generation < newest.generation,
        // A hold may end at any time without anybody saying so here.
        NsObject::Pin(_) | NsObject::Operation(..) | NsObject::CollectionPlan(_) => true,
        NsObject::Segment(_) | NsObject::Deletions(_) => !newest.names(&found.object),
        // Those of entries that will go are counted with these.
        NsObject::Blob(id) => match view.blobs {
            Blobs::Named(named) => !named.contains(id),
            Blobs::Since(_) => true,
        },
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
    let is_of_age = |young: bool| move |f: &Found, _| is_young(f.written_ms, now_ms, grace) == young;
    let (young, old) = (
        operations(listing, is_of_age(true)),
        operations(listing, is_of_age(false)),
    );
    old.difference(&young).copied().collect()
}

/// The copies by token of which there is such an object.
fn operations(listing: &[Found], wanted: impl Fn(&Found, OperationPart) -> bool) -> BTreeSet<Ulid> {
    let of = |f: &Found| match f.object {
        NsObject::Operation(token, part) if wanted(f, part) => Some(token),
        _ => None,
    };
    listing.iter().filter_map(of).collect()
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
