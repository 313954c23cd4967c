//! `shoal fsck`: whether what lies in the store is whole.

use clap::Args;
use futures::{StreamExt, stream};
use serde_json::{Value as Json, json};

use super::client::{Failure, print};
use super::{Options, on_runtime, place, table, with_causes};
use crate::base::Runtime;
use crate::config::Config;
use crate::maintenance::fsck::{self, Finding, FsckError, FsckOptions, PARTS, Report, Severity, namespaces};
use crate::model::OrgId;
use crate::store::paths::NsKey;

/// Namespaces that are looked at at the same time; of deep looks one, for its memory.
const LOOKS_AT_ONCE: usize = 8;

/// Nothing is written. A namespace may be in use meanwhile.
#[derive(Args, Debug)]
pub struct Fsck {
    /// Slug or id of an organization [default: all].
    org: Option<String>,
    /// A namespace of it [default: all].
    namespace: Option<String>,
    /// Read every byte, compare rows with all that was derived from them, and all ids with one another.
    #[arg(long)]
    deep: bool,
    /// One line of JSON for each namespace.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

/// Runs the command.
pub fn run(fsck: &Fsck) -> Result<(), Failure> {
    let config = place::config(&fsck.options)?;
    on_runtime(&config, |runtime, _| look(fsck, config.clone(), runtime))
}

async fn look(args: &Fsck, config: Config, runtime: Runtime) -> Result<(), Failure> {
    let store = place::store(&config, &runtime)?;
    let options = FsckOptions {
        deep: args.deep,
        ..FsckOptions::default()
    };
    let mut looks = Looks {
        fsck: fsck::Fsck::new(store.clone(), runtime.clone(), options),
        at_once: if args.deep { 1 } else { LOOKS_AT_ONCE },
        json: args.json,
        all: false,
        sum: Sum::default(),
    };
    match (&args.org, &args.namespace) {
        (Some(org), Some(name)) => {
            let ns = place::namespace(&store, &runtime, org, name).await?;
            looks.all = true;
            looks.take(vec![ns]).await?;
            if looks.sum.objects == 0 && looks.sum.unknown == 0 {
                let sentence = format!("there has never been a namespace {name} of organization {org}");
                return Err(Failure::Unknown(sentence));
            }
        }
        (org, _) => {
            let org = match org {
                Some(org) => Some(place::org(&store, &runtime, org).await?),
                None => None,
            };
            looks.everything(org.as_ref()).await?;
        }
    }
    looks.sum.outcome()
}

/// What was looked at so far.
#[derive(Default)]
struct Sum {
    namespaces: u64,
    damaged: u64,
    unknown: u64,
    objects: u64,
    orphans: u64,
    orphan_bytes: u64,
}

impl Sum {
    fn sentence(&self) -> String {
        let Sum {
            namespaces,
            damaged,
            unknown,
            orphans,
            orphan_bytes,
            ..
        } = self;
        format!(
            "namespaces: {namespaces}, damaged: {damaged}, not known: {unknown}; objects that wait for garbage collection: \
             {orphans}, of {orphan_bytes} bytes"
        )
    }

    fn outcome(&self) -> Result<(), Failure> {
        match (self.damaged, self.unknown) {
            (0, 0) => Ok(()),
            (0, unknown) => Err(Failure::Unknown(format!(
                "not known: {unknown} of {} namespaces",
                self.namespaces
            ))),
            (damaged, _) => Err(Failure::Failed(format!(
                "damaged: {damaged} of {} namespaces",
                self.namespaces
            ))),
        }
    }
}

struct Looks {
    fsck: fsck::Fsck,
    at_once: usize,
    json: bool,
    /// Whether a line is printed for namespaces that are whole, too.
    all: bool,
    sum: Sum,
}

impl Looks {
    /// Looks at a part of the namespaces after the other, so that not all their names are in memory at once.
    async fn everything(&mut self, org: Option<&OrgId>) -> Result<(), Failure> {
        for part in 0..PARTS {
            let part = u8::try_from(part).unwrap_or(u8::MAX);
            let found = namespaces(self.fsck.store(), part, org).await;
            let found = found.map_err(|e| Failure::Unknown(with_causes(&e)))?;
            self.take(found.into_iter().collect()).await?;
        }
        match self.json {
            true => Ok(()),
            false => print(&self.sum.sentence()),
        }
    }

    async fn take(&mut self, namespaces: Vec<NsKey>) -> Result<(), Failure> {
        let fsck = &self.fsck;
        let look = |ns: NsKey| async move {
            let report = fsck.look(&ns).await;
            (ns, report)
        };
        let mut looks = stream::iter(namespaces).map(look).buffered(self.at_once);
        while let Some((ns, looked)) = looks.next().await {
            self.sum.namespaces += 1;
            let text = match looked {
                Ok(report) => {
                    let is_whole = report.is_whole();
                    self.sum.damaged += u64::from(!is_whole);
                    self.sum.objects += report.objects;
                    self.sum.orphans += report.orphans;
                    self.sum.orphan_bytes += report.orphan_bytes;
                    match self.json {
                        // Of what was never there, nothing is whole.
                        _ if report.objects == 0 => None,
                        true => Some(report_json(&report).to_string()),
                        false if self.all || !report.findings.is_empty() => Some(report_text(&report)),
                        false => None,
                    }
                }
                Err(error) => {
                    self.sum.unknown += 1;
                    Some(match self.json {
                        true => unknown_json(&ns, &error).to_string(),
                        false => format!("{}: not known: {}", name_of(&ns), table::clean(&with_causes(&error))),
                    })
                }
            };
            if let Some(text) = text {
                print(&text)?;
            }
        }
        Ok(())
    }
}

fn name_of(ns: &NsKey) -> String {
    format!("{}/{}", ns.org(), ns.namespace())
}

fn report_text(report: &Report) -> String {
    let verdict = match report.damages() {
        0 => "whole".to_owned(),
        n => format!("DAMAGED ({n})"),
    };
    let mut lines = vec![format!(
        "{}: {verdict}; rows: {}, segments: {}, manifests: {}, entries: {}, objects: {}, of {} bytes",
        name_of(&report.namespace),
        report.rows,
        report.segments,
        report.manifests,
        report.entries,
        report.objects,
        report.bytes,
    )];
    lines.extend(report.findings.iter().map(finding_text));
    if report.is_cut {
        lines.push("  there are more findings than are listed".into());
    }
    if report.orphans > 0 {
        let (count, bytes) = (report.orphans, report.orphan_bytes);
        lines.push(format!(
            "  {count} objects of {bytes} bytes wait for garbage collection"
        ));
    }
    if report.foreign > 0 {
        lines.push(format!("  objects that are not Shoal's: {}", report.foreign));
    }
    lines.join("\n")
}

fn finding_text(finding: &Finding) -> String {
    let word = match finding.kind.severity() {
        Severity::Damage => "damage",
        Severity::Notice => "notice",
    };
    let (kind, advice) = (finding.kind.name(), finding.kind.advice());
    let (object, what) = (table::clean(&finding.object), table::clean(&finding.what));
    format!("  {word} {kind}: {object}: {what}. To do: {advice}")
}

fn report_json(report: &Report) -> Json {
    let findings: Vec<Json> = report.findings.iter().map(finding_json).collect();
    json!({
        "org": report.namespace.org().as_str(), "namespace": report.namespace.namespace().as_str(),
        "verdict": if report.is_whole() { "whole" } else { "damaged" },
        "findings": findings, "has_more_findings": report.is_cut,
        "rows": report.rows, "segments": report.segments, "manifests": report.manifests, "entries": report.entries,
        "objects": report.objects, "bytes": report.bytes,
        "orphans": report.orphans, "orphan_bytes": report.orphan_bytes, "foreign": report.foreign,
    })
}

fn finding_json(finding: &Finding) -> Json {
    let severity = match finding.kind.severity() {
        Severity::Damage => "damage",
        Severity::Notice => "notice",
    };
    json!({
        "kind": finding.kind.name(), "severity": severity, "object": finding.object, "what": finding.what,
        "advice": finding.kind.advice(),
    })
}

fn unknown_json(ns: &NsKey, error: &FsckError) -> Json {
    json!({
        "org": ns.org().as_str(), "namespace": ns.namespace().as_str(), "verdict": "unknown",
        "error": with_causes(error),
    })
}
