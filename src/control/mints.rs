//! Keys and tokens that are asked for with an `Idempotency-Key`: whoever asks again, as after a broken connection,
//! gets the one that was made, without its secret.
//!
//! # What stays true
//!
//! - What is remembered belongs to an organization, a credential and a kind of thing: nobody learns by a key of their
//!   own what others made, and whether the credential may make it is asked before, each time.
//! - Neither a secret nor a request is stored: of the body a MAC under the deployment secret, of the thing its id.
//! - Of several at once, on any nodes, one makes it: whoever is second waits. Whoever was taken for dead and is not
//!   finds out when it wants to say what it made, and unmakes it.
//! - What is made carries the name of the attempt, so that whoever comes after a crash finds what was left.
//!
//! # Who touches it
//!
//! `api` begins and finishes; the sweep of keys forgets.

use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::Control;
use super::keys::sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::model::idempotency::KEY_BYTES_MAX;
use crate::store::paths::control as paths;
use crate::store::record::RecordError;

/// How long it is remembered what was made, in seconds.
const REMEMBERED: u64 = 600;
/// After how long an attempt that did not say how it ended is taken for dead, in seconds.
const ATTEMPT_MAX: u64 = 30;
/// How long, and how often, the second of two at once looks whether the first is done.
const PAUSE: Duration = Duration::from_millis(100);
const LOOKS: usize = 50;
/// After how long a record is deleted, by this node's clock, which may be wrong.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What is remembered of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mint {
    /// The MAC of what was asked for, in hexadecimal.
    body: String,
    /// Which attempt makes it, or made it.
    attempt: String,
    /// When that began, in seconds since the epoch.
    at: u64,
    /// What was made; absent while it is being made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// A request with an idempotency key.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub org: &'a OrgId,
    /// Kind and id of the credential that asks.
    pub actor: &'a str,
    /// What is to be made, such as `key`.
    pub what: &'a str,
    /// The client's key for this request.
    pub key: &'a [u8],
    /// All that tells one request of this kind from another.
    pub body: &'a [u8],
}

/// Leave to make something, until it is said what became of it.
#[derive(Debug)]
#[must_use = "others wait until it is said what became of it"]
pub struct Attempt {
    record: Path,
    /// Its name, for what is made to carry: 32 hexadecimal digits.
    pub name: String,
    /// The attempt before it, which was not heard of again; it may have made something.
    pub before: Option<String>,
}

/// What to do for a request.
#[derive(Debug)]
pub enum Begun {
    /// Make it.
    New(Attempt),
    /// It was made before; this is its id.
    Made(String),
}

/// What was found of a request.
enum Seen {
    Nothing,
    Other,
    Made(String),
    Pending,
    Left(String),
}

fn another() -> Error {
    Error::invalid(
        "this Idempotency-Key was used for another request within the last ten minutes; use a new key for every request",
    )
}

fn busy() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "a request with this Idempotency-Key is being carried out; try again",
    )
    .after(Duration::from_secs(1))
}

impl Attempt {
    /// The answer to somebody whose attempt was taken for dead: what it made has been unmade.
    pub fn overtaken(&self) -> Error {
        busy()
    }
}

impl Control {
    /// Says whether a request is to be carried out, or was. Waits up to five seconds for another one with the same
    /// key.
    ///
    /// Costs one LIST and one PUT, one GET more for what was made before.
    ///
    /// # Errors
    ///
    /// 400 for a key that is empty or too long, or was used for another request; 503 while the other one goes on.
    pub async fn begin_mint(&self, wanted: Wanted<'_>) -> Result<Begun> {
        let Wanted {
            org,
            actor,
            what,
            key,
            body,
        } = wanted;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Error::invalid(format!(
                "Idempotency-Key must have 1 to {KEY_BYTES_MAX} characters, got {}",
                key.len()
            )));
        }
        let scope = [what.as_bytes(), actor.as_bytes(), key].join(&0);
        let record = paths::mint(org, &sha256(&scope));
        let mac = self.options().secrets.current().mac("mint-body", body);
        let mac: String = mac.iter().map(|b| format!("{b:02x}")).collect();
        let name = format!("{:032x}", self.runtime().rng.u128());
        for _ in 0..LOOKS {
            let now = self.now();
            let mut seen = Seen::Nothing;
            let change = |found: Option<Mint>| {
                seen = look(found, &mac, now);
                match seen {
                    Seen::Nothing | Seen::Left(_) => Ok(Some(Mint {
                        body: mac.clone(),
                        attempt: name.clone(),
                        at: now,
                        id: None,
                    })),
                    Seen::Other | Seen::Made(_) | Seen::Pending => Err(busy()),
                }
            };
            let changed = self.records().update(&record, change).await;
            let before = match seen {
                Seen::Other => return Err(another()),
                Seen::Made(id) => return Ok(Begun::Made(id)),
                Seen::Pending => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Seen::Nothing => None,
                Seen::Left(before) => Some(before),
            };
            changed?;
            return Ok(Begun::New(Attempt { record, name, before }));
        }
        Err(busy())
    }

    /// Notes what an attempt made; false when somebody else has begun anew meanwhile, so that it has to be unmade.
    /// Costs one LIST, one GET and one PUT.
    pub async fn finish_mint(&self, attempt: &Attempt, id: &str) -> Result<bool> {
        let made = |mint: Mint| Mint {
            id: Some(id.to_owned()),
            ..mint
        };
        self.settle_mint(attempt, |mint| Some(made(mint))).await
    }

    /// Notes that an attempt made nothing. What goes wrong here only keeps the next one waiting. Costs as
    /// [`finish_mint`](Self::finish_mint).
    pub async fn abandon_mint(&self, attempt: &Attempt) {
        if let Err(error) = self.settle_mint(attempt, |_| None).await {
            tracing::debug!(%error, "an attempt to make a key was not given up");
        }
    }

    /// Changes what an attempt began, if it is still that one's.
    async fn settle_mint(&self, attempt: &Attempt, change: impl Fn(Mint) -> Option<Mint>) -> Result<bool> {
        let mut lost = false;
        let revise = |found: Option<Mint>| match found.filter(|mint| mint.attempt == attempt.name && mint.id.is_none())
        {
            Some(mint) => {
                lost = false;
                Ok(change(mint))
            }
            None => {
                lost = true;
                Err(busy())
            }
        };
        match self.records().update(&attempt.record, revise).await {
            Ok(_) => Ok(true),
            Err(_) if lost => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes what is remembered of requests of more than a day ago. Costs one LIST per thousand of an organization,
    /// and a deletion for each.
    pub(super) async fn forget_mints(&self, org: &OrgId) -> Result<u64> {
        let store = self.records().store();
        let listed: Vec<_> = store
            .list(&paths::mints(org), None)
            .try_collect()
            .await
            .map_err(RecordError::from)?;
        let now = self.runtime().clock.wall();
        let mut forgotten = 0;
        for object in listed {
            let at = u64::try_from(object.last_modified.timestamp()).unwrap_or(0);
            if now.saturating_sub(Duration::from_secs(at)) > FORGOTTEN_AFTER {
                store.delete(&object.location).await.map_err(RecordError::from)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }
}

fn look(found: Option<Mint>, body: &str, now: u64) -> Seen {
    let Some(mint) = found else { return Seen::Nothing };
    let age = now.saturating_sub(mint.at);
    match mint.id {
        Some(_) if age > REMEMBERED => Seen::Nothing,
        _ if age > REMEMBERED => Seen::Left(mint.attempt),
        _ if mint.body != body => Seen::Other,
        Some(id) => Seen::Made(id),
        None if age > ATTEMPT_MAX => Seen::Left(mint.attempt),
        None => Seen::Pending,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::control::testing::{control_with_tokio_clock, second_node};

    fn wanted<'a>(org: &'a OrgId, actor: &'a str, key: &'a str, body: &'a str) -> Wanted<'a> {
        Wanted {
            org,
            actor,
            what: "key",
            key: key.as_bytes(),
            body: body.as_bytes(),
        }
    }

    fn new(begun: Begun) -> Attempt {
        match begun {
            Begun::New(attempt) => attempt,
            Begun::Made(id) => panic!("{id} was made before"),
        }
    }

    async fn made(control: &Control, wanted: Wanted<'_>) -> Option<String> {
        match control.begin_mint(wanted).await.expect("begun") {
            Begun::Made(id) => Some(id),
            Begun::New(attempt) => {
                control.abandon_mint(&attempt).await;
                None
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_made_is_known_for_ten_minutes_on_every_node() {
        let first = control_with_tokio_clock(1);
        let second = second_node(&first, 2);
        let org = OrgId::default_org();
        let want = wanted(&org, "bootstrap:1", "k", "{}");
        let attempt = new(first.begin_mint(want).await.expect("begun"));
        assert!(first.finish_mint(&attempt, "7").await.expect("noted"));
        for node in [&first, &second] {
            assert_eq!(made(node, want).await.as_deref(), Some("7"));
            let other = node.begin_mint(wanted(&org, "bootstrap:1", "k", "{ }")).await;
            assert_eq!(other.expect_err("another body").kind, ErrorKind::Invalid);
            // Another credential, organization, kind or key has nothing to do with it.
            assert_eq!(made(node, wanted(&org, "api_key:1", "k", "{}")).await, None);
            let acme = OrgId::parse("org_acme").expect("legal");
            assert_eq!(made(node, wanted(&acme, "bootstrap:1", "k", "{}")).await, None);
            assert_eq!(made(node, Wanted { what: "token", ..want }).await, None);
            assert_eq!(made(node, wanted(&org, "bootstrap:1", "l", "{}")).await, None);
        }
        tokio::time::advance(Duration::from_secs(REMEMBERED)).await;
        assert_eq!(made(&second, want).await.as_deref(), Some("7"));
        tokio::time::advance(Duration::from_secs(1)).await;
        let again = new(second
            .begin_mint(wanted(&org, "bootstrap:1", "k", "[]"))
            .await
            .expect("begun"));
        assert_eq!(again.before, None);
        for bad in ["", &"x".repeat(256)] {
            let error = first
                .begin_mint(wanted(&org, "a", bad, ""))
                .await
                .expect_err("a bad key");
            assert_eq!(error.kind, ErrorKind::Invalid);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_at_once_one_makes_it() {
        let first = control_with_tokio_clock(1);
        let nodes: Vec<Control> = (2..6).map(|seed| second_node(&first, seed)).collect();
        let org = OrgId::default_org();
        let count = AtomicUsize::new(0);
        let ask = async |node: &Control| match node.begin_mint(wanted(&org, "a", "k", "{}")).await.expect("begun") {
            Begun::Made(id) => id,
            Begun::New(attempt) => {
                let id = count.fetch_add(1, Ordering::Relaxed).to_string();
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(node.finish_mint(&attempt, &id).await.expect("noted"));
                id
            }
        };
        let found = futures::future::join_all(nodes.iter().chain([&first]).map(ask)).await;
        assert_eq!((found, count.into_inner()), (vec!["0".to_owned(); 5], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_not_heard_of_is_followed_and_finds_out() {
        let control = control_with_tokio_clock(1);
        let org = OrgId::default_org();
        let want = wanted(&org, "a", "k", "{}");
        let slow = new(control.begin_mint(want).await.expect("begun"));
        let error = control.begin_mint(want).await.expect_err("it goes on");
        assert_eq!(error.kind, ErrorKind::Unavailable);
        tokio::time::advance(Duration::from_secs(ATTEMPT_MAX)).await;
        let next = new(control.begin_mint(want).await.expect("taken for dead"));
        assert_eq!(next.before.as_ref(), Some(&slow.name));
        assert!(
            !control.finish_mint(&slow, "1").await.expect("read"),
            "it comes too late"
        );
        control.abandon_mint(&slow).await;
        assert!(control.finish_mint(&next, "2").await.expect("noted"));
        assert_eq!(made(&control, want).await.as_deref(), Some("2"));
        // What was given up may be begun at once.
        let want = wanted(&org, "a", "l", "{}");
        let attempt = new(control.begin_mint(want).await.expect("begun"));
        control.abandon_mint(&attempt).await;
        let attempt = new(control.begin_mint(want).await.expect("begun"));
        assert_eq!(attempt.before, None);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_day_nothing_is_left() {
        let control = control_with_tokio_clock(1);
        let org = OrgId::default_org();
        let attempt = new(control.begin_mint(wanted(&org, "a", "k", "{}")).await.expect("begun"));
        assert!(control.finish_mint(&attempt, "1").await.expect("noted"));
        assert_eq!(control.forget_mints(&org).await.expect("swept"), 0);
        tokio::time::advance(Duration::from_secs(100 * 365 * 86_400)).await;
        assert_eq!(control.forget_mints(&org).await.expect("swept"), 2);
        assert!(
            control
                .records()
                .list(&paths::mints(&org))
                .await
                .expect("listed")
                .is_empty()
        );
    }
}
