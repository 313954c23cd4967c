//! Passwords: Argon2id hashes of them, and how often somebody may try.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use base64_simd::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::{Control, Hidden, users::User};
use crate::base::Priority;
use crate::error::{Error, ErrorKind, Result};

/// The shortest and longest password, in bytes.
pub const PASSWORD_BYTES_MIN: usize = 8;
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// What one hash takes: KiB of memory, passes over it, lanes (the first choice of OWASP for Argon2id).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// Hashes at once on a node: what strangers can make us do.
const HASHES_MAX: usize = 4;
/// How often one may be wrong, in which time.
const FAILURES_MAX: usize = 5;
/// The same of one address with whatever names, so that nobody fills the memory below.
const FAILURES_OF_ADDRESS_MAX: usize = 100;
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// How many pairs of address and user are remembered.
const PAIRS_MAX: usize = 16 * 1024;

/// A password's hash, with what it was made with.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    /// Base64.
    salt: String,
    hash: String,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash")
    }
}

fn hash(password: &[u8], salt: &[u8], (memory_kib, passes, lanes): (u32, u32, u32)) -> Option<[u8; HASH_BYTES]> {
    let params = Params::new(memory_kib, passes, lanes, Some(HASH_BYTES)).ok()?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut out = [0; HASH_BYTES];
    argon.hash_password_into(password, salt, &mut out).ok()?;
    Some(out)
}

impl PasswordHash {
    /// Takes some tens of milliseconds and 19 MiB.
    fn of(password: &[u8], salt: [u8; SALT_BYTES]) -> Self {
        let hash = hash(password, &salt, (MEMORY_KIB, PASSES, LANES)).expect("the constants are legal parameters");
        Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: STANDARD_NO_PAD.encode_to_string(salt),
            hash: STANDARD_NO_PAD.encode_to_string(hash),
        }
    }

    fn verifies(&self, password: &[u8]) -> bool {
        let decode = |text: &str| STANDARD_NO_PAD.decode_to_vec(text.as_bytes()).ok();
        let (Some(salt), Some(expected)) = (decode(&self.salt), decode(&self.hash)) else {
            return false;
        };
        hash(password, &salt, (self.memory_kib, self.passes, self.lanes))
            .is_some_and(|found| bool::from(found.as_slice().ct_eq(&expected)))
    }

    /// What is compared with when there is no such user, so that it takes as long.
    fn of_nobody() -> Self {
        Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: STANDARD_NO_PAD.encode_to_string([0; SALT_BYTES]),
            hash: STANDARD_NO_PAD.encode_to_string([0; HASH_BYTES]),
        }
    }
}

/// Where an attempt came from, and whom it was for.
type Attempt = (Option<IpAddr>, String);

/// Who was wrong how often, on this node.
pub(super) struct Attempts {
    /// When, as time since boot, oldest first. Held to look or note.
    failed: Mutex<HashMap<Attempt, VecDeque<Duration>>>,
    hashing: Semaphore,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            failed: Mutex::default(),
            hashing: Semaphore::new(HASHES_MAX),
        }
    }
}

impl Attempts {
    /// Notes an attempt as failed before it is looked at, so that many at once do not pass; or says after
    /// which time to try again.
    ///
    /// * `who` — address and user; no user for all of the address
    fn begin(&self, who: &(Option<IpAddr>, String), now: Duration) -> Result<(), Duration> {
        let most = if who.1.is_empty() {
            FAILURES_OF_ADDRESS_MAX
        } else {
            FAILURES_MAX
        };
        let mut failed = self.failed.lock().unwrap_or_else(|e| e.into_inner());
        let is_recent = |at: &Duration| now.saturating_sub(*at) < WINDOW;
        if failed.len() >= PAIRS_MAX && !failed.contains_key(who) {
            failed.retain(|_, times| times.iter().any(is_recent));
            if failed.len() >= PAIRS_MAX {
                return Err(WINDOW);
            }
        }
        let times = failed.entry(who.clone()).or_default();
        times.retain(is_recent);
        match times.front() {
            Some(oldest) if times.len() >= most => Err((*oldest + WINDOW).saturating_sub(now)),
            _ => {
                times.push_back(now);
                Ok(())
            }
        }
    }

    /// The attempt was right: what went before is forgiven.
    fn succeeded(&self, who: &(Option<IpAddr>, String)) {
        self.failed.lock().unwrap_or_else(|e| e.into_inner()).remove(who);
    }

    /// The attempt was not looked at.
    fn take_back(&self, who: &(Option<IpAddr>, String)) {
        let mut failed = self.failed.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(times) = failed.get_mut(who) {
            times.pop_back();
            if times.is_empty() {
                failed.remove(who);
            }
        }
    }
}

/// Addresses that one party commands: a whole /64 of IPv6.
fn party(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
        },
    }
}

fn too_often(wait: Duration) -> Error {
    let sentence = "too many failed sign-ins; try again later";
    Error::new(ErrorKind::Overloaded, sentence)
        .coded("rate_limited")
        .after(wait)
}

impl Control {
    /// The hash of a new password. Takes some tens of milliseconds on the CPU pool.
    ///
    /// # Errors
    ///
    /// 400 when it is too short or too long; 429 when too many are being made.
    pub async fn hash_password(&self, password: Hidden) -> Result<PasswordHash> {
        let length = password.reveal().len();
        if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&length) {
            return Err(Error::invalid(format!(
                "password must have {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes"
            )));
        }
        let _slot = self.hashing()?;
        let salt = self.runtime().rng.u128().to_le_bytes();
        let work = move || PasswordHash::of(password.reveal().as_bytes(), salt);
        Ok(self.runtime().cpu.run(Priority::Foreground, work).await)
    }

    fn hashing(&self) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let busy = || {
            let error = Error::new(ErrorKind::Overloaded, "too many sign-ins at once; try again");
            error.coded("rate_limited").after(Duration::from_secs(1))
        };
        self.attempts().hashing.try_acquire().map_err(|_| busy())
    }

    /// The user who has this name (or e-mail address) and password.
    ///
    /// Costs a hash, and two LISTs and two GETs cold, whether there is such a user or not.
    ///
    /// # Errors
    ///
    /// 401 without saying which was wrong; 429 after five failures of a user from an address in 15 minutes, or
    /// when too many sign in at once.
    pub async fn sign_in(&self, name: &str, password: Hidden, ip: Option<IpAddr>) -> Result<User> {
        let name: String = name.to_ascii_lowercase().chars().take(256).collect();
        if name.is_empty() {
            return Err(Error::invalid("username must not be empty"));
        }
        let who = (ip.map(party), name.clone());
        let address = (who.0, String::new());
        let now = self.runtime().clock.boot();
        let attempts = self.attempts();
        if ip.is_some() {
            attempts.begin(&address, now).map_err(too_often)?;
        }
        if let Err(wait) = attempts.begin(&who, now) {
            attempts.take_back(&address);
            return Err(too_often(wait));
        }
        let looked_at = async {
            let _slot = self.hashing()?;
            let user = self.user_named(&name).await?;
            let hash = user.as_ref().and_then(|u| u.password.clone());
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(PasswordHash::of_nobody);
            let work =
                move || password.reveal().len() <= PASSWORD_BYTES_MAX && hash.verifies(password.reveal().as_bytes());
            let right = self.runtime().cpu.run(Priority::Foreground, work).await;
            Ok::<_, Error>(user.filter(|_| known && right))
        };
        match looked_at.await {
            Ok(Some(user)) => {
                attempts.succeeded(&who);
                attempts.take_back(&address);
                Ok(User::clone(&user))
            }
            Ok(None) => Err(Error::new(ErrorKind::Unauthenticated, "username or password is wrong")),
            Err(error) => {
                attempts.take_back(&who);
                attempts.take_back(&address);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_verifies() {
        let hash = PasswordHash::of(b"correct horse", [3; 16]);
        assert!(hash.verifies(b"correct horse"));
        for bad in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!hash.verifies(bad.as_bytes()), "{bad:?}");
        }
        let stored = serde_json::to_string(&hash).expect("JSON");
        assert!(!stored.contains("horse") && !format!("{hash:?}").contains("hash:"));
        assert!(!PasswordHash::of_nobody().verifies(b""));
        let damaged = PasswordHash {
            passes: 0,
            ..hash.clone()
        };
        assert!(!damaged.verifies(b"correct horse"));
        assert_ne!(hash, PasswordHash::of(b"correct horse", [4; 16]));
    }

    #[test]
    fn five_failures_are_enough_for_a_quarter_of_an_hour() {
        let attempts = Attempts::default();
        let at = |seconds: u64| Duration::from_secs(1000 + seconds);
        let who = |ip: &str, name: &str| (Some(party(ip.parse().expect("an address"))), name.to_owned());
        let ana = who("192.0.2.1", "ana");
        for second in 0..5 {
            assert!(attempts.begin(&ana, at(second)).is_ok());
        }
        assert_eq!(attempts.begin(&ana, at(10)), Err(Duration::from_secs(890)));
        // Others, and the same from elsewhere, are not concerned.
        assert!(attempts.begin(&who("192.0.2.1", "bob"), at(10)).is_ok());
        assert!(attempts.begin(&who("192.0.2.2", "ana"), at(10)).is_ok());
        assert!(attempts.begin(&ana, at(900)).is_ok(), "the first has passed");
        assert!(attempts.begin(&ana, at(900)).is_err());
        attempts.succeeded(&ana);
        for _ in 0..5 {
            assert!(attempts.begin(&ana, at(901)).is_ok());
            attempts.take_back(&ana);
        }
        assert!(attempts.begin(&ana, at(901)).is_ok());
        assert_eq!(who("2001:db8::1", "x"), who("2001:db8::ffff", "x"));
        assert_ne!(who("2001:db8::1", "x"), who("2001:db8:0:1::1", "x"));
        assert_eq!(who("::ffff:192.0.2.1", "x"), who("192.0.2.1", "x"));
    }

    #[test]
    fn strangers_cannot_fill_the_memory() {
        let attempts = Attempts::default();
        let now = Duration::from_secs(1);
        for i in 0..PAIRS_MAX {
            assert!(attempts.begin(&(None, i.to_string()), now).is_ok());
        }
        assert!(attempts.begin(&(None, "more".into()), now).is_err());
        let later = now + WINDOW;
        assert!(attempts.begin(&(None, "more".into()), later).is_ok());
        assert_eq!(attempts.failed.lock().expect("not poisoned").len(), 1);
    }
}
