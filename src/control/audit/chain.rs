//! One node's files of one organization: written one after the other, each bound to the one before.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{AuditLine, Writer, day_of};
use crate::control::Control;
use crate::control::own::{NotCreated, create_own};
use crate::error::Result;
use crate::model::OrgId;
use crate::store::paths::control as paths;
use crate::telemetry;

/// The hash before the first line, and before the first file.
pub(super) const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// SHA-256 in hexadecimal.
pub(super) fn hash(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A line on its way into a file.
pub(super) struct Waiting {
    pub line: AuditLine,
    /// Told whether it was written; `None` when nobody waits.
    pub done: Option<oneshot::Sender<Result<(), ()>>>,
}

/// What the name of a file says: `<ms of the newest line>-<stream>-<number>-<lines>-<hash of the file before>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub last_ms: u64,
    pub stream: String,
    /// Counts from 1 each day.
    pub number: u64,
    pub lines: u64,
    pub previous: String,
}

impl Name {
    pub fn text(&self) -> String {
        let Name {
            last_ms,
            stream,
            number,
            lines,
            previous,
        } = self;
        format!("{last_ms:013}-{stream}-{number:06}-{lines:05}-{previous}")
    }

    /// `None` for a foreign object.
    pub fn parse(key: &Path) -> Option<Self> {
        let text = key.as_ref().rsplit('/').next()?;
        let mut parts = text.split('-');
        let mut next = || parts.next();
        let name = Self {
            last_ms: next()?.parse().ok()?,
            stream: next()?.to_owned(),
            number: next()?.parse().ok()?,
            lines: next()?.parse().ok()?,
            previous: next()?.to_owned(),
        };
        (name.text() == text).then_some(name)
    }
}

/// How far a stream goes on a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub files: u64,
    /// Of the last file.
    pub hash: String,
    /// The deployment secret that sealed this, and the seal.
    pub secret: String,
    pub mac: String,
}

impl Head {
    /// What is sealed.
    pub fn message(&self, org: &OrgId, day: &str, stream: &str) -> Vec<u8> {
        format!("{}\0{day}\0{stream}\0{}\0{}", org.as_str(), self.files, self.hash).into_bytes()
    }
}

/// Where the next file goes.
pub(super) struct Chain {
    stream: String,
    at: Position,
    /// A file that may be there: nothing comes after it before that is known.
    unresolved: Option<File>,
    /// How far it went on each day, as far as that is not sealed.
    unsealed: BTreeMap<String, Head>,
}

#[derive(Clone)]
struct Position {
    day: String,
    files: u64,
    last_file: String,
    last_line: String,
}

struct File {
    key: Path,
    body: Bytes,
    after: Position,
    waiting: Vec<Waiting>,
    /// Whether it was sent before, so that it may still appear whatever is answered now.
    sent: bool,
}

impl Chain {
    pub fn new(stream: String) -> Self {
        Self {
            stream,
            at: Position::start_of(String::new()),
            unresolved: None,
            unsealed: BTreeMap::new(),
        }
    }

    /// Whether nothing will ever be added to it that has to follow what is there.
    pub fn is_done(&self, today: &str) -> bool {
        self.at.day != today && self.unresolved.is_none() && self.unsealed.is_empty()
    }

    /// The file of these lines, which are all of one day.
    fn file(&self, org: &OrgId, day: String, mut waiting: Vec<Waiting>) -> File {
        let before = match self.at.day == day {
            true => self.at.clone(),
            false => Position::start_of(day),
        };
        let mut body = Vec::new();
        let mut last_line = before.last_line.clone();
        for Waiting { line, .. } in &mut waiting {
            line.prev = last_line;
            let text = serde_json::to_vec(line).expect("a line is made of what JSON has");
            last_line = hash(&text);
            body.extend_from_slice(&text);
            body.push(b'\n');
        }
        let name = Name {
            last_ms: waiting.iter().map(|w| w.line.at).max().unwrap_or(0),
            stream: self.stream.clone(),
            number: before.files + 1,
            lines: waiting.len() as u64,
            previous: before.last_file,
        };
        File {
            key: paths::audit_file(org, &before.day, &name.text()),
            after: Position {
                day: before.day,
                files: name.number,
                last_file: hash(&body),
                last_line,
            },
            body: body.into(),
            waiting,
            sent: false,
        }
    }

    /// The file is there: the next one follows it.
    fn wrote(&mut self, file: File) {
        let head = Head {
            files: file.after.files,
            hash: file.after.last_file.clone(),
            ..Head::default()
        };
        self.unsealed.insert(file.after.day.clone(), head);
        self.at = file.after;
        tell(file.waiting, Ok(()));
    }
}

impl Position {
    fn start_of(day: String) -> Self {
        Self {
            day,
            files: 0,
            last_file: ZEROS.into(),
            last_line: ZEROS.into(),
        }
    }
}

fn tell(waiting: Vec<Waiting>, outcome: Result<(), ()>) {
    for done in waiting.into_iter().filter_map(|w| w.done) {
        // Whoever went away does not want to know.
        let _ = done.send(outcome);
    }
}

impl Control {
    /// Writes all that waits in a queue; whoever waits for it is told.
    pub(super) async fn flush_audit_of(&self, org: &OrgId, writer: &Writer, chain: &mut Chain) {
        if self.settle(chain).await.is_err() {
            // What may be there comes first; nobody has to wait longer to be told so.
            let mut queue = writer.queue();
            let (waited, left): (Vec<_>, Vec<_>) = queue.lines.drain(..).partition(|w| w.done.is_some());
            queue.lines = left;
            drop(queue);
            return tell(waited, Err(()));
        }
        let mut lines = self.take_queue(writer);
        while let Some(first) = lines.first() {
            let day = day_of(first.line.at);
            let others = lines
                .iter()
                .position(|w| day_of(w.line.at) != day)
                .unwrap_or(lines.len());
            let rest = lines.split_off(others);
            chain.unresolved = Some(chain.file(org, day, lines));
            lines = rest;
            if let Err(unwritten) = self.settle(chain).await {
                let (waited, left): (Vec<_>, Vec<_>) =
                    unwritten.into_iter().chain(lines).partition(|w| w.done.is_some());
                tell(waited, Err(()));
                let mut queue = writer.queue();
                queue.unawaited += left.len();
                queue.lines.splice(0..0, left);
                return;
            }
        }
    }

    /// Writes the file whose fate is unknown, if there is one. Not cancel safe in itself: a dropped future leaves it
    /// to the next call.
    ///
    /// # Errors
    ///
    /// The lines of a file that is surely not there; none when it may be.
    async fn settle(&self, chain: &mut Chain) -> Result<(), Vec<Waiting>> {
        let Some(file) = &mut chain.unresolved else {
            return Ok(());
        };
        let sent_before = std::mem::replace(&mut file.sent, true);
        let outcome = create_own(self.records().store(), &file.key, &file.body).await;
        if let Err(error) = &outcome {
            metrics::counter!(telemetry::FLUSH_FAILURES, "what" => "audit").increment(1);
            tracing::warn!(error = error as &dyn std::error::Error, "the audit log was not written");
        }
        match outcome {
            Ok(()) => {
                if let Some(file) = chain.unresolved.take() {
                    chain.wrote(file);
                }
                Ok(())
            }
            Err(NotCreated::Refused(_)) if !sent_before => {
                Err(chain.unresolved.take().map(|f| f.waiting).unwrap_or_default())
            }
            Err(_) => {
                tell(std::mem::take(&mut file.waiting), Err(()));
                Err(Vec::new())
            }
        }
    }

    /// Seals how far the chain goes.
    pub(super) async fn seal_audit_of(&self, org: &OrgId, chain: &mut Chain) {
        while let Some((day, head)) = chain.unsealed.first_key_value() {
            let secret = self.options().secrets.current();
            let mac = secret.mac("audit-head", &head.message(org, day, &chain.stream));
            let sealed = Head {
                secret: secret.id().to_owned(),
                mac: mac.iter().map(|b| format!("{b:02x}")).collect(),
                ..head.clone()
            };
            let record = paths::audit_head(org, day, &chain.stream);
            let outcome = self.records().update::<Head, _>(&record, |_| Ok(Some(sealed.clone())));
            if let Err(error) = outcome.await {
                metrics::counter!(telemetry::FLUSH_FAILURES, "what" => "audit").increment(1);
                tracing::warn!(%error, "the audit log was not sealed");
                return;
            }
            chain.unsealed.pop_first();
        }
    }
}
