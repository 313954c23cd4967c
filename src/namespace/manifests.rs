//! Taking over newer manifests.
//!
//! A manifest is the state at an older entry. A node goes over to it by opening its segments and applying the entries
//! after it once more, which it keeps in memory; nobody waits meanwhile. Then the follower applies what came in
//! between and makes the new state visible. It says the same as the old one: that is checked.
//!
//! # What stays true
//!
//! - A node never goes back to an older generation.
//! - Only the follower replaces the state.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;

use super::branch;
use super::follow::{Follower, unavailable};
use super::state::{State, Trouble};
use crate::base::Priority;
use crate::manifest::Manifest;
use crate::model::{Gen, Seq};
use crate::snapshot::{BrokenChain, OpenError, Snapshot, Wanted, promote};
use crate::wal::{LogError, Logged};

/// Whether somebody waits until a newer manifest is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Somebody does.
    Now,
    /// Nobody does: what is pinned is brought to the cache first, so that queries go from warm to warm. Until then they
    /// are answered by the manifest in use and the log, which say the same.
    Warm,
}

/// How often a node that is suspended again and again tries to begin with the newest manifest.
const BEGINNINGS_MAX: usize = 4;

/// Why an entry could not be applied.
pub(super) enum NotApplied {
    /// A segment that the manifest in use names is gone, or its deletion bitmap: there must be a newer manifest.
    Missing(OpenError),
    Trouble(Trouble),
}

/// The state after one more entry, whose rows leave the segments first.
///
/// * `promoted` — the result of [`promote`] for this entry, if somebody had the time to do it before
pub(super) async fn advance(
    state: &State,
    base: &Snapshot,
    logged: &Arc<Logged>,
    promoted: Option<Snapshot>,
) -> Result<Snapshot, NotApplied> {
    let seq = logged.entry.seq;
    let cpu = &state.runtime.cpu;
    let ready = match promoted {
        _ if logged.entry.branch().is_some() => branch::begin(state, base, &logged.entry).await?,
        Some(promoted) => promoted,
        None if base.segments.is_empty() => base.clone(),
        None => {
            let promoted = promote(base, Wanted::by(&logged.entry), cpu).await;
            promoted.map_err(|error| match error.is_missing() {
                true => NotApplied::Missing(error.into()),
                false => NotApplied::Trouble(error.into()),
            })?
        }
    };
    let logged = logged.clone();
    let apply = cpu.run(Priority::Foreground, move || {
        ready.apply(&logged.entry, logged.digest, logged.bytes)
    });
    // An entry that cannot be applied must not be read and tried again for ever.
    let broken = match AssertUnwindSafe(apply).catch_unwind().await {
        Ok(Ok(snapshot)) => return Ok(snapshot),
        Ok(Err(broken)) => broken,
        Err(_) => BrokenChain {
            seq,
            why: "applying it failed",
        },
    };
    Err(NotApplied::Trouble(state.set_broken(broken)))
}

/// The state after all entries up to `upto`. Costs a GET for each that is not kept any more.
async fn replay(state: &State, mut snapshot: Snapshot, upto: Seq) -> Result<Snapshot, Trouble> {
    while snapshot.seq < upto {
        let seq = snapshot.seq.next();
        let logged = match state.kept(seq) {
            Some(kept) => kept,
            None => {
                let loaded = match state.log.load(seq).await {
                    Ok(loaded) => loaded,
                    Err(error) => return Err(unreadable(state, seq, error).await),
                };
                // Collected: the manifest has long been succeeded by another.
                Arc::new(loaded.ok_or(Trouble::Stale)?)
            }
        };
        snapshot = match advance(state, &snapshot, &logged, None).await {
            Ok(next) => next,
            Err(NotApplied::Missing(error)) => return Err(error.into()),
            Err(NotApplied::Trouble(trouble)) => return Err(trouble),
        };
    }
    Ok(snapshot)
}

/// What it means that an entry, or what it names, cannot be read. Nothing is wrong with a log whose newest manifest has
/// the entry in segments: it was collected a moment ago, and what this node goes by is old. Costs a LIST and a GET, unless
/// the store cannot be reached.
pub(super) async fn unreadable(state: &State, seq: Seq, error: LogError) -> Trouble {
    if matches!(error, LogError::Store(_)) {
        return state.unreadable(seq, error);
    }
    match is_covered(state, seq).await {
        Ok(false) => state.unreadable(seq, error),
        Ok(true) => {
            tracing::info!(namespace = %state.name, %seq, %error, "what was collected is looked for in a newer manifest");
            Trouble::Stale
        }
        Err(trouble) => trouble,
    }
}

/// Whether the newest manifest has an entry in segments, so that nobody needs the entry. Costs a LIST and a GET.
pub(super) async fn is_covered(state: &State, seq: Seq) -> Result<bool, Trouble> {
    let newest = state.manifests.listed().await?;
    Ok(newest.is_some_and(|(manifest, _)| manifest.indexed_seq >= seq))
}

/// The state of a manifest, with the entries applied that are known to come after it. One that could not be had is not
/// tried again for a while.
async fn rebuild(state: &State, manifest: &Manifest) -> Result<Snapshot, Trouble> {
    let now = || state.runtime.clock.boot();
    if let Some(why) = state.refused.get(manifest.generation, now()) {
        return Err(why);
    }
    let rebuilt = try_rebuild(state, manifest).await;
    if let Err(why) = &rebuilt {
        state.refused.note(manifest.generation, why, now());
    }
    rebuilt
}

async fn try_rebuild(state: &State, manifest: &Manifest) -> Result<Snapshot, Trouble> {
    let now = state.snapshot();
    if now.namespace.is_some_and(|known| known != manifest.namespace) {
        return Err(disagrees(state, manifest.generation, "it belongs to another namespace"));
    }
    if let Some(kept) = state.kept(manifest.indexed_seq)
        && kept.digest != manifest.indexed_digest
    {
        return Err(state.set_broken(BrokenChain {
            seq: manifest.indexed_seq,
            why: "a manifest knows another entry by this number",
        }));
    }
    let opened = match open(state, manifest).await {
        // It was succeeded long ago: begin with the newest.
        Err(error) if error.is_missing() && is_succeeded(state, manifest).await? => return Err(Trouble::Stale),
        opened => opened?,
    };
    replay(state, opened, now.seq).await
}

/// Whether there is a newer manifest. If not, this one is damaged when it names what is gone, and the state in use, which
/// says the same, is better than none. Costs a LIST and a GET.
async fn is_succeeded(state: &State, manifest: &Manifest) -> Result<bool, Trouble> {
    let newest = state.manifests.listed().await?;
    Ok(newest.is_some_and(|(newest, _)| newest.generation > manifest.generation))
}

/// Opens a manifest; segments that are open already are used again.
pub(super) async fn open(state: &State, manifest: &Manifest) -> Result<Snapshot, OpenError> {
    let known = state.snapshot().segments.clone();
    Snapshot::open(manifest, &state.manifests, &known, &state.cache, &state.runtime.cpu).await
}

/// Makes a rebuilt state visible, with the entries that came since. The follower's.
pub(super) async fn take_over(state: &State, rebuilt: Snapshot) -> Result<Arc<Snapshot>, Trouble> {
    state.check()?;
    let now = state.snapshot();
    if rebuilt.generation <= now.generation {
        return Ok(now);
    }
    let next = replay(state, rebuilt, now.seq).await?;
    let generation = next.generation;
    if next.seq == now.seq {
        let differs = match () {
            () if next.digest != now.digest => Some("it ends in another entry"),
            () if next.rows() != now.rows() => Some("it has another number of rows"),
            () if next.incarnation != now.incarnation || next.schema != now.schema => Some("it has another schema"),
            () => None,
        };
        if let Some(why) = differs {
            let trouble = disagrees(state, generation, why);
            state.refused.note(generation, &trouble, state.runtime.clock.boot());
            return Err(trouble);
        }
    }
    state.refused.forget(generation);
    Ok(state.supersede(next))
}

/// Takes over the newest manifest at once, because something that the one in use names is gone. The follower's.
///
/// # Errors
///
/// Also when there is no newer one: then it should be there.
pub(super) async fn move_on(state: &State, missing: OpenError) -> Result<Arc<Snapshot>, Trouble> {
    let start = state.now();
    let Some(manifest) = listed_newer(state).await? else {
        alarm(state, &missing);
        return Err(missing.into());
    };
    let rebuilt = rebuild(state, &manifest).await?;
    let now = take_over(state, rebuilt).await?;
    state.indexed(start);
    Ok(now)
}

/// The newest manifest, if it is newer than the one in use. Costs a LIST and a GET.
async fn listed_newer(state: &State) -> Result<Option<Manifest>, Trouble> {
    let known = state.snapshot().generation;
    let newest = state.manifests.listed().await?.map(|(manifest, _)| manifest);
    Ok(newest.filter(|manifest| manifest.generation > known))
}

/// Says that an object is gone that must be there.
pub(super) fn alarm(state: &State, missing: &(dyn std::error::Error + 'static)) {
    tracing::error!(
        org = %state.org, namespace = %state.name, error = missing,
        "an object that the newest manifest names is gone"
    );
}

fn disagrees(state: &State, generation: Gen, why: &'static str) -> Trouble {
    tracing::error!(
        org = %state.org, namespace = %state.name, %generation, why,
        "a manifest does not say what the log says; it is not used"
    );
    Trouble::Damaged(Arc::new(Disagreement { generation, why }))
}

/// A manifest does not say what the log says.
#[derive(Debug, thiserror::Error)]
#[error("manifest {generation} does not say what the log says: {why}")]
struct Disagreement {
    generation: Gen,
    why: &'static str,
}

impl Follower {
    /// Takes over a manifest, unless the one in use is as new. False when it is older and stays, because the log was
    /// not looked at yet: what is not open will begin with the newest manifest anyway. Costs what opening its new
    /// segments costs, and bringing them where they are pinned and there is time.
    pub async fn adopt(&self, manifest: &Manifest, pace: Pace) -> Result<bool, Trouble> {
        let state = &self.state;
        state.check()?;
        if manifest.generation <= state.snapshot().generation {
            return Ok(true);
        }
        if !state.is_proven() {
            return Ok(false);
        }
        let mut rebuilt = rebuild(state, manifest).await?;
        let mut ahead = match pace {
            Pace::Now => None,
            Pace::Warm => state.bring_ahead(&rebuilt),
        };
        if let Some(ahead) = &mut ahead {
            ahead.brought().await;
            // What was written meanwhile: else everybody would wait for it while the state is taken over.
            rebuilt = replay(state, rebuilt, state.snapshot().seq).await?;
        }
        self.take_over(rebuilt).await?;
        Ok(true)
    }

    /// Looks for a newer manifest and takes it over. Costs one GET when there is none; one LIST and one GET the first time,
    /// and when this node's knowledge is too old to count on generations one after the other.
    pub async fn look_for_manifest(&self, pace: Pace) -> Result<(), Trouble> {
        let state = &self.state;
        let start = state.now();
        let known = state.snapshot().generation;
        let counts = state.index_proven.load(Ordering::Relaxed) && state.index_age() <= state.options.grace / 2;
        let found = match counts {
            true => state.manifests.newer_than(known).await?,
            false => state.manifests.listed().await?,
        };
        let is_newest = match found {
            Some((manifest, _)) => self.adopt(&manifest, pace).await?,
            None => true,
        };
        if is_newest {
            state.indexed(start);
        }
        Ok(())
    }

    /// Makes sure that what the manifest in use names cannot have been collected. Costs nothing unless this node has
    /// not looked for very long.
    pub async fn refresh_stale_index(&self) -> Result<(), Trouble> {
        match self.state.is_index_stale() {
            true => self.look_for_manifest(Pace::Now).await,
            false => Ok(()),
        }
    }

    /// Takes over the newest manifest, because something that the one in use names is gone. False when there is no
    /// newer one.
    pub async fn move_on(&self) -> Result<bool, Trouble> {
        let start = self.state.now();
        let newer = listed_newer(&self.state).await?;
        let Some(manifest) = &newer else {
            return Ok(false);
        };
        if self.adopt(manifest, Pace::Now).await? {
            self.state.indexed(start);
        }
        Ok(true)
    }

    /// Looks for a newer manifest while nobody waits for it, when there are rows outside of segments and this node has
    /// not looked lately, or when the log names a newer one. Not so soon again after one was found that cannot be used.
    pub fn look_behind(&self) {
        let state = &self.state;
        let snapshot = state.snapshot();
        let due = snapshot.seq > snapshot.indexed_seq && state.index_age() > state.options.manifest_refresh;
        let refused = || state.refused.waits(state.runtime.clock.boot());
        if !state.is_proven() || !(due || state.is_index_behind()) || refused() {
            return;
        }
        let Some(looking) = Looking::begin(state) else {
            return;
        };
        let this = self.clone();
        let look = async move {
            // Given back whatever happens, or nobody would ever look again.
            let _looking = looking;
            if let Err(trouble) = this.look_for_manifest(Pace::Warm).await {
                tracing::debug!(namespace = %this.state.name, ?trouble, "no newer manifest was taken over");
            }
        };
        state.runtime.spawner.spawn("manifest", Box::pin(look));
    }

    /// The first time that a log is looked at: the newest manifest that its listing fits.
    ///
    /// Reads the hint while `list` runs. Returns the newest entry and what was listed.
    ///
    /// A hint may be too old, and then entries after it are gone; or it is newer than the listing. Then the newest
    /// manifest is listed, and the log again. What does not fit then never will, unless it took so long that more was
    /// collected meanwhile.
    pub async fn begin(&self) -> Result<Begun, Trouble> {
        let state = &self.state;
        let start = state.now();
        let (hint, listing) = tokio::join!(state.manifests.hint(), state.log.list());
        let mut listing = listing.map_err(unavailable)?;
        let mut manifest = hint?.map(|(manifest, _)| manifest);
        let broken = match self.begin_with(manifest.as_ref(), &listing).await? {
            Ok(begun) => return Ok(begun.at(start)),
            Err(broken) => broken,
        };
        let hinted = manifest.as_ref().map(|m| m.generation);
        let mut broken = broken;
        for _ in 0..BEGINNINGS_MAX {
            let start = state.now();
            let known = manifest.as_ref().map(|m| m.generation);
            if let Some((newest, _)) = state.manifests.listed().await? {
                tracing::info!(namespace = %state.name, generation = %newest.generation, %broken, "a manifest was no use");
                if known.is_none_or(|known| newest.generation >= known) {
                    manifest = Some(newest);
                }
            }
            listing = state.log.list().await.map_err(unavailable)?;
            broken = match self.begin_with(manifest.as_ref(), &listing).await? {
                Ok(begun) => {
                    self.hint_behind(manifest.filter(|m| hinted.is_none_or(|h| m.generation > h)));
                    return Ok(begun.at(start));
                }
                Err(broken) => broken,
            };
            // The newest manifest of a moment ago has no successor that was collected for: it fits, or never will.
            if start.age(state.runtime.clock.as_ref()) <= state.options.grace / 2 {
                return Err(state.set_broken(broken));
            }
        }
        Err(Trouble::Stale)
    }

    /// Leaves a hint at a manifest that was found without, while nobody waits for it.
    fn hint_behind(&self, listed: Option<Manifest>) {
        let Some(listed) = listed else { return };
        let manifests = self.state.manifests.clone();
        let hint = async move { manifests.hint_at(&listed).await };
        self.state.runtime.spawner.spawn("hint", Box::pin(hint));
    }

    /// Begins with a manifest, or with nothing, if the entries after it are all there and continue it.
    async fn begin_with(
        &self,
        manifest: Option<&Manifest>,
        listing: &[(Seq, u64)],
    ) -> Result<Result<Begun, BrokenChain>, Trouble> {
        let state = &self.state;
        let from = manifest.map_or(Seq::ZERO, |m| m.indexed_seq);
        let begun = match self.contiguous(listing, from).await? {
            Ok(begun) => begun,
            Err(broken) => return Ok(Err(broken)),
        };
        let Some(manifest) = manifest else {
            return Ok(Ok(begun));
        };
        // The first entries after it, or else the last one in it: they say whether the log continues the manifest.
        let at_once = begun
            .at_once
            .min((state.piece_bytes() / begun.entry_bytes.max(1)).max(1));
        let last = begun.newest.0.min(from.0 + at_once);
        let first = if last > from.0 { from.0 + 1 } else { from.0 };
        let wanted: Vec<Seq> = (first..=last.max(from.0)).map(Seq).collect();
        let entries = futures::future::join_all(wanted.iter().map(|seq| state.log.get(*seq)));
        let (opened, entries) = tokio::join!(open(state, manifest), entries);
        let opened = match opened {
            Err(error) if error.is_missing() => {
                let why = "a manifest names an object that does not exist";
                tracing::warn!(namespace = %state.name, generation = %manifest.generation, %error, why);
                return Ok(Err(BrokenChain { seq: from, why }));
            }
            opened => opened?,
        };
        let mut logged = Vec::with_capacity(entries.len());
        for (entry, seq) in entries.into_iter().zip(wanted) {
            match entry.map_err(|e| state.unreadable(seq, e))? {
                Some(entry) => logged.push(entry),
                None => {
                    let why = "it was listed and is not there";
                    return Ok(Err(BrokenChain { seq, why }));
                }
            }
        }
        let continues = logged.first().is_some_and(|first| match first.entry.seq == from {
            true => first.digest == manifest.indexed_digest,
            false => first.entry.prev_digest == manifest.indexed_digest,
        });
        if !continues {
            let why = "it does not continue the manifest";
            return Ok(Err(BrokenChain { seq: Seq(first), why }));
        }
        self.take_over(opened).await?;
        for logged in logged.into_iter().filter(|l| l.entry.seq > from) {
            if !state.has_room_for(logged.bytes) {
                // Whoever wants more of the log is told so.
                break;
            }
            self.absorb_whole(logged).await?;
        }
        Ok(Ok(begun))
    }
}

/// That somebody looks for a newer manifest, until it is dropped.
struct Looking(Arc<State>);

impl Looking {
    /// `None` when somebody looks already.
    fn begin(state: &Arc<State>) -> Option<Self> {
        let is_first = !state.looking.swap(true, Ordering::AcqRel);
        is_first.then(|| Self(state.clone()))
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.looking.store(false, Ordering::Release);
    }
}

/// What the first look at a log found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    /// The newest entry up to which there is no gap.
    pub newest: Seq,
    /// Whether that is the newest listed.
    pub is_end: bool,
    /// How many entries of this log may be held in memory while they wait to be applied.
    pub at_once: u64,
    /// How many bytes an entry has on the average that is not in segments.
    pub entry_bytes: u64,
    /// When the listing began.
    pub start: super::state::Moment,
}

impl Begun {
    fn at(self, start: super::state::Moment) -> Self {
        Self { start, ..self }
    }
}

#[cfg(test)]
mod tests;
