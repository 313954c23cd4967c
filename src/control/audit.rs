//! The audit log of each organization: who changed what, and who was refused.
//!
//! What changes rights is written before the request is answered; refused calls are written once a minute. A file
//! holds what came while the file before it was written.
//!
//! # What stays true
//!
//! - A node's files of a day are a chain: each line has the SHA-256 of the line before it, each file's name that of
//!   the file before it and its number. Who removes or changes a line breaks the chain, and [`Control::verify_audit`]
//!   says where.
//! - How far the chains go is sealed every minute under the deployment secret, so that their ends cannot be cut off
//!   unnoticed, nor the whole be written anew.
//! - Lines are never written twice: a file whose fate is unknown is sent again, the same bytes under the same key,
//!   before the next one.
//!
//! # Cost
//!
//! One PUT per event; events that come together share one. Sealing: one LIST, GET and PUT per minute in which
//! something was written.

mod chain;
mod page;
mod verify;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;

use super::Control;
use crate::base::clock::wall_ms;
use crate::base::context;
use crate::error::{Error, ErrorKind, Result};
use crate::model::OrgId;
use crate::telemetry;
use chain::{Chain, Waiting};

pub use page::AuditPage;
pub use verify::AuditReport;

/// Refused calls of an organization that are remembered until they are written; further ones are counted.
const DENIED_MAX: usize = 256;
/// The most organizations whose events are remembered.
const WRITERS_MAX: usize = 4096;
/// How often the same refusal is written at most.
const SAMPLE: Duration = Duration::from_secs(60);

/// Something worth remembering.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened, in Turso's words, such as `db-create`; or ours, such as `key-delete`.
    pub code: &'static str,
    pub org: OrgId,
    /// The kind and id of the credential, never its value.
    pub actor: String,
    /// The user's name, if a user did it.
    pub author: Option<String>,
    pub ip: Option<IpAddr>,
    /// What it was done to, by name or id.
    pub target: String,
    /// Further facts; no secrets.
    pub data: Json,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditLine {
    pub code: String,
    /// Milliseconds since the epoch.
    pub at: u64,
    pub actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    pub target: String,
    pub data: Json,
    /// `X-Request-Id` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// `ok` or `denied`.
    #[serde(default)]
    pub result: String,
    /// SHA-256 of the line before in its node's chain; zeros for the first of a day.
    #[serde(default)]
    pub prev: String,
}

/// What this node has to write, by organization.
#[derive(Default)]
pub(super) struct Audits {
    /// Held to look up or add.
    writers: Mutex<HashMap<OrgId, Arc<Writer>>>,
}

/// What this node writes into the log of one organization.
struct Writer {
    /// What waits to be written. Held to add or take.
    queue: Mutex<Queue>,
    /// Held while a file is written: one at a time.
    chain: tokio::sync::Mutex<Chain>,
}

#[derive(Default)]
struct Queue {
    lines: Vec<Waiting>,
    /// How many of them nobody waits for.
    unawaited: usize,
    /// How many were too many.
    dropped: u64,
}

impl Writer {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Audits {
    fn writers(&self) -> MutexGuard<'_, HashMap<OrgId, Arc<Writer>>> {
        self.writers.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn all(&self) -> Vec<(OrgId, Arc<Writer>)> {
        let writers = self.writers();
        writers
            .iter()
            .map(|(org, writer)| (org.clone(), writer.clone()))
            .collect()
    }
}

fn unwritten() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the audit log cannot be written, so nothing more was done; look, then try again",
    )
}

impl Control {
    /// Writes an event before the request that caused it is answered. Costs one PUT, shared with the events that
    /// come while another one is written.
    ///
    /// # Errors
    ///
    /// 503 when the store cannot be reached; the line may still appear.
    pub async fn audit(&self, event: Event) -> Result<()> {
        let org = event.org.clone();
        let writer = self.writer(&org, true).ok_or_else(unwritten)?;
        let (done, mut is_done) = oneshot::channel();
        let line = self.line(event, "ok");
        writer.queue().lines.push(Waiting { line, done: Some(done) });
        let mut chain = writer.chain.lock().await;
        if let Ok(outcome) = is_done.try_recv() {
            return outcome.map_err(|()| unwritten());
        }
        self.flush_audit_of(&org, &writer, &mut chain).await;
        match is_done.try_recv() {
            Ok(Ok(())) => Ok(()),
            _ => Err(unwritten()),
        }
    }

    /// Remembers a refused call of the control plane, to be written within a minute.
    pub fn audit_denied(&self, event: Event) {
        let line = self.line(event.clone(), "denied");
        let Some(writer) = self.writer(&event.org, false) else {
            metrics::counter!(telemetry::AUDIT_DROPPED).increment(1);
            return;
        };
        let mut queue = writer.queue();
        if queue.unawaited >= DENIED_MAX {
            queue.dropped += 1;
            metrics::counter!(telemetry::AUDIT_DROPPED).increment(1);
            return;
        }
        queue.unawaited += 1;
        queue.lines.push(Waiting { line, done: None });
    }

    /// Remembers a refused call of the data plane, one of a minute for each credential and action.
    pub fn audit_denied_sample(&self, action: &str, event: impl FnOnce() -> Event, org: &OrgId, actor: &str) {
        if self.is_due(action, org.as_str(), actor, SAMPLE) {
            self.audit_denied(event());
        }
    }

    /// Writes what waits, and seals what was written. Called every minute, and before the node stops.
    ///
    /// Costs a PUT per organization with refused calls; a LIST, GET and PUT per organization with anything.
    pub async fn flush_audits(&self) {
        for (org, writer) in self.audits().all() {
            let mut chain = writer.chain.lock().await;
            self.flush_audit_of(&org, &writer, &mut chain).await;
            self.seal_audit_of(&org, &mut chain).await;
        }
        let today = day_of(wall_ms(self.runtime().clock.as_ref()));
        self.audits().writers().retain(|_, writer| {
            // Whoever holds another reference got it under the lock that is held here.
            let in_use = Arc::strong_count(writer) > 1 || !writer.queue().lines.is_empty();
            in_use || writer.chain.try_lock().map_or(true, |chain| !chain.is_done(&today))
        });
    }

    fn writer(&self, org: &OrgId, always: bool) -> Option<Arc<Writer>> {
        let mut writers = self.audits().writers();
        if let Some(writer) = writers.get(org) {
            return Some(writer.clone());
        }
        if writers.len() >= WRITERS_MAX && !always {
            return None;
        }
        let ulid = self.runtime().rng.ulid(wall_ms(self.runtime().clock.as_ref()));
        let writer = Arc::new(Writer {
            queue: Mutex::default(),
            chain: tokio::sync::Mutex::new(Chain::new(ulid.to_string().to_ascii_lowercase())),
        });
        writers.insert(org.clone(), writer.clone());
        Some(writer)
    }

    fn line(&self, event: Event, result: &str) -> AuditLine {
        AuditLine {
            code: event.code.to_owned(),
            at: wall_ms(self.runtime().clock.as_ref()),
            actor: event.actor,
            author: event.author,
            ip: event.ip,
            target: event.target,
            data: event.data,
            request_id: context::request_id().map(|id| id.to_string()),
            result: result.to_owned(),
            prev: String::new(),
        }
    }

    /// What waits in a queue, and a line that says how many were left out.
    fn take_queue(&self, writer: &Writer) -> Vec<Waiting> {
        let Queue { mut lines, dropped, .. } = std::mem::take(&mut *writer.queue());
        if dropped > 0 {
            let line = AuditLine {
                code: "auth-denied".into(),
                at: wall_ms(self.runtime().clock.as_ref()),
                actor: String::new(),
                author: None,
                ip: None,
                target: String::new(),
                data: json!({"dropped": dropped}),
                request_id: None,
                result: "denied".into(),
                prev: String::new(),
            };
            lines.push(Waiting { line, done: None });
        }
        lines
    }
}

/// `yyyy-mm-dd` of milliseconds since the epoch.
fn day_of(ms: u64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    time.unwrap_or_default().format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests;
