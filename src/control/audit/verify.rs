//! Whether a day's audit log is as it was written.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::AuditLine;
use super::chain::{Head, Name, ZEROS, hash};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::model::OrgId;
use crate::store::paths::control as paths;
use crate::store::record::RecordError;

/// Files read at a time.
const READS: usize = 16;

/// What a day's log holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    pub files: u64,
    pub lines: u64,
    /// Files after the last seal of their node: that some of those were removed would not be noticed. None a
    /// minute after they were written.
    pub unsealed: u64,
    /// One sentence for each thing that was removed, added or changed; empty when all is as it was written.
    pub problems: Vec<String>,
}

/// The files of a stream by number: name and bytes.
type Files = BTreeMap<u64, (Name, Vec<u8>)>;

impl Control {
    /// Checks one day of an organization's log, `yyyy-mm-dd`.
    ///
    /// Costs two LISTs, one GET per file and one per node that wrote.
    pub async fn verify_audit(&self, org: &OrgId, day: &str) -> Result<AuditReport> {
        let mut report = AuditReport::default();
        // What is sealed first: files that are written meanwhile come after it.
        let heads = self.records().values::<Head>(&paths::audit_heads(org, day)).await?;
        let mut streams = self.audit_files(org, day, &mut report).await?;
        for (key, head) in heads {
            let Some(stream) = paths::parse_audit_head(&key) else {
                report.problems.push("there is a foreign object among the seals".into());
                continue;
            };
            if !self.is_sealed(org, day, stream, &head) {
                report.problems.push(format!("the seal of stream {stream} is not ours"));
            }
            let files = streams.remove(stream).unwrap_or_default();
            check(stream, &files, Some(&head), &mut report);
        }
        for (stream, files) in &streams {
            check(stream, files, None, &mut report);
        }
        Ok(report)
    }

    async fn audit_files(&self, org: &OrgId, day: &str, report: &mut AuditReport) -> Result<BTreeMap<String, Files>> {
        let store = self.records().store();
        let directory = paths::audit_day(org, day);
        let read = async {
            let listed: Vec<ObjectMeta> = store.list(&directory, None).try_collect().await?;
            let keys: Vec<Path> = listed.into_iter().map(|o| o.location).collect();
            let bodies = keys
                .into_iter()
                .map(|key| async move { Ok((store.get(&key).await?, key)) });
            stream::iter(bodies).buffered(READS).try_collect::<Vec<_>>().await
        };
        let found = read.await.map_err(|e| Error::from(RecordError::Store(e)))?;
        let mut streams: BTreeMap<String, Files> = BTreeMap::new();
        for (body, key) in found {
            let Some(name) = Name::parse(&key) else {
                report.problems.push("there is a foreign object among the files".into());
                continue;
            };
            let Some(body) = body else { continue };
            report.files += 1;
            let files = streams.entry(name.stream.clone()).or_default();
            if let Some((twin, _)) = files.insert(name.number, (name, body.to_vec())) {
                let Name { stream, number, .. } = twin;
                report
                    .problems
                    .push(format!("there are two files {number} of stream {stream}"));
            }
        }
        Ok(streams)
    }

    fn is_sealed(&self, org: &OrgId, day: &str, stream: &str, head: &Head) -> bool {
        let Some(secret) = self.options().secrets.by_id(&head.secret) else {
            return false;
        };
        let mac: String = secret
            .mac("audit-head", &head.message(org, day, stream))
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        mac == head.mac
    }
}

fn check(stream: &str, files: &Files, head: Option<&Head>, report: &mut AuditReport) {
    let sealed = head.map_or(0, |head| head.files);
    let last = files.last_key_value().map_or(0, |(number, _)| *number);
    report.unsealed += last.saturating_sub(sealed);
    let (mut last_file, mut last_line) = (ZEROS.to_owned(), ZEROS.to_owned());
    for number in 1..=last.max(sealed) {
        let mut say = |what: &str| report.problems.push(format!("file {number} of stream {stream} {what}"));
        let Some((name, body)) = files.get(&number) else {
            say("is missing");
            // One sentence for a hole, whatever its size.
            if last < number {
                return;
            }
            (last_file, last_line) = (String::new(), String::new());
            continue;
        };
        if name.previous != last_file && !last_file.is_empty() {
            say("does not follow the file before it");
        }
        let mut lines = 0;
        let mut newest = 0;
        for text in body.split_inclusive(|b| *b == b'\n') {
            lines += 1;
            let text = text.strip_suffix(b"\n").unwrap_or_else(|| {
                say("ends early");
                text
            });
            match serde_json::from_slice::<AuditLine>(text) {
                Ok(line) if line.prev == last_line || last_line.is_empty() => newest = newest.max(line.at),
                Ok(_) => say(&format!("has a line {lines} that does not follow the line before it")),
                Err(_) => say(&format!("has a line {lines} that is damaged")),
            }
            last_line = hash(text);
        }
        if lines != name.lines || newest != name.last_ms {
            say("has other lines than its name says");
        }
        last_file = hash(body);
        if head.is_some_and(|head| head.files == number && head.hash != last_file) {
            say("is not the one that was sealed");
        }
        report.lines += lines;
    }
}
