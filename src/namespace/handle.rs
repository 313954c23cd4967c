//! An open namespace: its state and the inboxes of its three tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::admission::Admission;
use super::commit::{CommitLoop, Committed, Failure, Submission, unknown};
use super::evaluate::Change;
use super::follow::{Follower, ProbeReply, run_follower, run_prober};
use super::manifests::Pace;
use super::state::{State, Trouble};
use crate::base::spawn::Task;
use crate::base::{Tenant, context};
use crate::error::{Error, ErrorKind};
use crate::manifest::Manifest;
use crate::model::Seq;
use crate::snapshot::Snapshot;

/// Requests that may wait for a commit before new ones get 429.
const COMMIT_QUEUE: usize = 4096;

/// An open namespace. Its tasks end when the last handle is dropped and what was accepted is done.
pub(super) struct Handle {
    state: Arc<State>,
    follower: Follower,
    /// The slots of its queries.
    pub admission: Admission,
    commits: mpsc::Sender<Box<Submission>>,
    probes: mpsc::Sender<ProbeReply>,
    last_used_ms: AtomicU64,
}

impl Handle {
    /// Starts the tasks of a namespace. Its log is read when somebody asks for its state.
    pub fn start(state: State) -> Self {
        let state = Arc::new(state);
        let (absorbs, absorb_inbox) = mpsc::channel(64);
        let (commits, commit_inbox) = mpsc::channel(COMMIT_QUEUE);
        let (probes, probe_inbox) = mpsc::channel(COMMIT_QUEUE);
        let follower = Follower {
            state: state.clone(),
            inbox: absorbs,
        };
        let spawner = &state.runtime.spawner;
        // What they have the CPU pool do takes its turn among the organization's other jobs.
        let tenant = Tenant::named(state.org.as_str());
        let spawn = |name, task: Task| spawner.spawn(name, Box::pin(context::for_tenant(tenant, task)));
        spawn("follower", Box::pin(run_follower(state.clone(), absorb_inbox)));
        spawn("prober", Box::pin(run_prober(follower.clone(), probe_inbox)));
        spawn(
            "commit",
            Box::pin(CommitLoop::new(follower.clone(), commit_inbox).run()),
        );
        let handle = Self {
            follower,
            admission: Admission::new(&state.options.limits),
            state,
            commits,
            probes,
            last_used_ms: AtomicU64::new(0),
        };
        handle.touch();
        handle
    }

    /// The newest state this node has applied.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.state.snapshot()
    }

    /// Whether the log was looked at, so that the snapshot is a state of it.
    pub fn is_proven(&self) -> bool {
        self.state.is_proven()
    }

    /// Whether entries are known to exist that are not applied.
    pub fn is_behind(&self) -> bool {
        self.state.is_behind()
    }

    /// How long ago the newest state was proved to be the newest.
    pub fn age(&self) -> Duration {
        self.state.age()
    }

    /// Notes a use, for eviction.
    pub fn touch(&self) {
        let now = self.state.runtime.clock.boot().as_millis();
        self.last_used_ms.store(now as u64, Ordering::Relaxed);
    }

    pub fn last_used_ms(&self) -> u64 {
        self.last_used_ms.load(Ordering::Relaxed)
    }

    /// Returns the end of the log at some moment after the call; the state holds it.
    ///
    /// One GET that finds nothing, shared by everybody who waits at the same time.
    pub async fn probe(&self) -> Result<Seq, Trouble> {
        let (reply, answer) = oneshot::channel();
        if self.probes.send(reply).await.is_err() {
            return Err(Trouble::Stale);
        }
        answer.await.unwrap_or(Err(Trouble::Stale))
    }

    /// See [`Follower::catch_up_partly`].
    pub async fn catch_up_partly(&self) -> Result<Seq, Trouble> {
        self.follower.catch_up_partly().await
    }

    /// Starts a probe for which nobody waits.
    pub fn probe_in_background(&self) {
        let (reply, _) = oneshot::channel();
        // A full inbox means that probes are under way already.
        let _ = self.probes.try_send(reply);
    }

    /// See [`Follower::adopt`]; nobody waits for it but whoever published it.
    pub async fn adopt(&self, manifest: &Manifest) -> Result<bool, Trouble> {
        self.follower.adopt(manifest, Pace::Warm).await
    }

    /// Takes over the newest manifest. Costs one GET when there is no newer one, and a LIST the first time.
    pub async fn look_for_manifest(&self) -> Result<(), Trouble> {
        self.follower.look_for_manifest(Pace::Now).await
    }

    /// See [`Follower::prove_index`].
    pub async fn prove_index(&self) -> Result<(), Trouble> {
        self.follower.prove_index().await
    }

    /// Takes over the newest manifest, because something that the one in use names is gone. False when there is no
    /// newer one.
    pub async fn move_on(&self) -> Result<bool, Trouble> {
        self.follower.move_on().await
    }

    /// Queues a change and returns when it is durable.
    ///
    /// Dropping the future does not take the change back.
    pub async fn commit(&self, change: Arc<Change>) -> Result<Committed, Failure> {
        let (reply, answer) = oneshot::channel();
        let since = self.state.now();
        let submission = Submission { change, reply, since };
        match self.commits.try_send(Box::new(submission)) {
            // Dropped without an answer: the loop panicked, perhaps after the entry was sent.
            Ok(()) => answer.await.unwrap_or_else(|_| Err(unknown().into())),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Failure::Stale),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Error::new(
                ErrorKind::Overloaded,
                format!("{COMMIT_QUEUE} writes to this namespace are waiting already; try again"),
            )
            .after(Duration::from_secs(1))
            .into()),
        }
    }

    /// Gives back the memory the tail is charged for, because the namespace is being closed: its
    /// tasks let go of it as soon as they have done what was accepted.
    pub fn release_memory(&self) {
        self.state.release_memory();
    }

    pub fn state(&self) -> &State {
        &self.state
    }
}
