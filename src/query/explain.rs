//! What a query would do, in words.

use std::fmt::Write;
use std::sync::Arc;

use super::aggregate::Ways;
use super::budget::Budget;
use super::filter::{Prepared, Stored};
use super::key::Source;
use super::matching::prepare;
use super::plan::{Action, Plan};
use super::reader::Reader;
use super::{View, first};
use crate::base::{Bitset, CpuPool, Priority};
use crate::cache::ReadMeter;
use crate::error::Result;
use crate::model::query::{Midpoint, Score, TextQuery};
use crate::model::{Direction, Filter, Limits, Query, RankBy};
use crate::snapshot::Snapshot;
use crate::tail;

/// As much of an operand or a text as helps to recognise it.
const QUOTED_CHARS_MAX: usize = 64;
/// Longer descriptions of one expression or filter are cut off: they are for people.
const LINES_MAX: usize = 200;
/// Segments that are described.
const SEGMENTS_MAX: usize = 8;

/// Describes how a query is answered on a snapshot: a text of several lines for people, not for
/// programs. Nothing is executed but filters that the indexes of a segment answer for little.
///
/// Costs the requests for these indexes that are not in the cache.
///
/// # Errors
///
/// Those of the query itself; segments that cannot be read.
///
/// * `view` — of the snapshot's schema
pub async fn explain(
    snapshot: &Snapshot,
    view: &Arc<View>,
    query: &Query,
    cpu: &CpuPool,
    limits: &Limits,
) -> Result<String> {
    let plan = {
        let (view, query, limits) = (view.clone(), query.clone(), limits.clone());
        move || view.plan(&query, &limits)
    };
    let plan = cpu.run(Priority::Foreground, plan).await?;
    let mut text = Text::default();
    action(&mut text, query, &plan);
    match &query.filter {
        None => text.line(0, "filter: none"),
        Some(of) => {
            text.line(0, "filter: evaluated column by column, for every row");
            filter(&mut text, 1, of);
        }
    }
    match view.is_restricted() {
        // What it holds, and how many rows it leaves out, is not the caller's to know.
        true => text.line(0, "key: only rows and attributes that it may see"),
        false => {
            rows(&mut text, snapshot);
            segments(&mut text, snapshot, &plan, cpu).await?;
        }
    }
    let what = if query.aggregation.is_some() { "groups" } else { "rows" };
    let mut bounds = format!("limit: {} {what}", query.limit);
    if query.offset > 0 {
        let _ = write!(bounds, " after skipping {}", query.offset);
    }
    if let Some(per) = &query.per {
        let _ = write!(bounds, ", at most {} for each {}", per.limit, per.attributes.join(", "));
    }
    text.line(0, bounds);
    text.line(0, format!("attributes returned: {}", plan.projection.len()));
    Ok(text.done())
}

fn rows(text: &mut Text, snapshot: &Snapshot) {
    let rows: usize = snapshot.parts.iter().map(|p| p.chunk.len()).sum();
    let (parts, live) = (snapshot.parts.len(), tail::live_rows(&snapshot.parts));
    text.line(0, format!("rows scanned: {rows} in {parts} parts, {live} of them live"));
}

/// What is done in each segment.
async fn segments(text: &mut Text, snapshot: &Snapshot, plan: &Plan, cpu: &CpuPool) -> Result<()> {
    let prepared = match &plan.filter {
        Some(filter) => prepare(filter, snapshot, cpu).await,
        None => Prepared::default(),
    };
    let budget = Budget::default();
    for (number, part) in snapshot.segments.iter().enumerate() {
        if number == SEGMENTS_MAX {
            text.line(0, format!("and {} segments more", snapshot.segments.len() - number));
            break;
        }
        let reader = Reader {
            segment: &part.segment,
            schema: &snapshot.schema,
            cpu,
            budget: &budget,
        };
        let (rows, live) = (part.segment.rows(), part.live.count());
        text.line(0, format!("segment {}: {rows} rows, {live} of them live", number + 1));
        let stored = Stored(reader);
        let planned = stored.plan(&prepared).await?;
        let meter = ReadMeter::new();
        let describe = stored.describe(&planned, Bitset::clone(&part.live));
        let (lines, passing) = meter.observe(describe).await?;
        lines.iter().for_each(|(depth, line)| text.line(depth + 1, line));
        if let Some(passing) = passing {
            let counts = meter.counts();
            let at_hand = counts.memory_bytes + counts.disk_bytes;
            text.line(
                1,
                format!(
                    "rows that pass the filter: {passing}; read for it: {at_hand} bytes at hand, {} of the store",
                    counts.store_bytes
                ),
            );
        }
        if let Some(line) = rest(reader, plan, passing.unwrap_or(live), rows as usize).await? {
            text.line(1, line);
        }
    }
    Ok(())
}

/// What is done in a segment with the rows that pass the filter, and what that costs, about.
async fn rest(reader: Reader<'_>, plan: &Plan, passing: usize, rows: usize) -> Result<Option<String>> {
    let Action::Aggregate(asked) = &plan.action else {
        return first::describe(reader, plan, passing).await;
    };
    if asked.is_ungrouped() && asked.counts_rows() {
        return Ok(Some("aggregates: the number of these rows".to_owned()));
    }
    let ways = Ways::of(reader, asked, passing == rows).await?;
    let micros = |ways: &Ways| (ways.by_index / 1000, ways.by_column / 1000);
    Ok(Some(match ways.as_ref().map(micros) {
        Some((index, column)) if index <= column => {
            format!("aggregates: attribute indexes, about {index} µs; columns take {column} µs")
        }
        Some((index, column)) => format!("aggregates: columns, about {column} µs; attribute indexes take {index} µs"),
        None => {
            let bytes: u64 = asked
                .aggregated()
                .filter_map(Source::attribute)
                .map(|id| reader.column_bytes(id))
                .sum();
            let keys = asked.keys().count();
            format!(
                "aggregates: codes of {keys} keys where there are some, else their columns, and {bytes} bytes of columns"
            )
        }
    }))
}

/// Lines of a description.
#[derive(Default)]
struct Text {
    lines: Vec<String>,
    /// Lines of the tree that is being written.
    in_tree: usize,
}

impl Text {
    fn line(&mut self, depth: usize, line: impl AsRef<str>) {
        self.in_tree = if depth == 0 { 0 } else { self.in_tree + 1 };
        match self.in_tree {
            n if n == LINES_MAX + 1 => self.lines.push("  …".to_owned()),
            n if n > LINES_MAX => {}
            _ => self.lines.push(format!("{}{}", "  ".repeat(depth), line.as_ref())),
        }
    }

    fn done(mut self) -> String {
        self.lines.push(String::new());
        self.lines.join("\n")
    }
}

fn action(text: &mut Text, query: &Query, plan: &Plan) {
    match (&plan.action, &query.rank_by) {
        (Action::ExactNearest { vectors }, Some(RankBy::Nearest { attribute, .. })) => {
            let (count, dims) = vectors.shape();
            let query = match count {
                1 => format!("a vector of {dims} dimensions"),
                n => format!("{n} vectors of {dims} dimensions"),
            };
            let metric = vectors.metric().name();
            text.line(
                0,
                format!("action: exact nearest neighbours of {query} in {attribute:?}, {metric}"),
            );
        }
        (Action::TextTopK { text: of }, Some(RankBy::Score(score_of))) => {
            let terms = of.terms().len();
            text.line(
                0,
                format!("action: text search, best score first, over the postings of {terms} terms"),
            );
            score(text, 1, score_of);
        }
        (Action::ScoreTopK { .. }, Some(RankBy::Score(of))) => {
            text.line(0, "action: every row is scored, best score first");
            score(text, 1, of);
        }
        (Action::OrderedScan { .. }, Some(RankBy::Order(keys))) => {
            let keys: Vec<String> = keys.iter().map(|(name, d)| format!("{name:?} {}", word(*d))).collect();
            text.line(0, format!("action: ordered scan by {}, then id", keys.join(", ")));
        }
        (Action::Lookup { direction }, _) => {
            text.line(0, format!("action: lookup in the order of id {}", word(*direction)));
        }
        (Action::Aggregate(_), _) => {
            let (aggregates, keys) = query
                .aggregation
                .as_ref()
                .map_or((0, 0), |a| (a.aggregates.len(), a.group_by.len()));
            text.line(0, format!("action: {aggregates} aggregates over groups by {keys} keys"));
        }
        _ => unreachable!("the planner makes an action of its query"),
    }
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Asc => "asc",
        Direction::Desc => "desc",
    }
}

fn score(text: &mut Text, depth: usize, of: &Score) {
    let (line, inner): (String, &[Score]) = match of {
        Score::Text {
            attribute,
            query,
            last_as_prefix,
        } => {
            let query = match query {
                TextQuery::Text(text) => quoted(text),
                TextQuery::Tokens(tokens) => format!("{} tokens", tokens.len()),
            };
            let prefix = if *last_as_prefix {
                ", last token as a prefix"
            } else {
                ""
            };
            (format!("BM25 of {attribute:?}: {query}{prefix}"), &[])
        }
        Score::Sparse { attribute, query } => (format!("SparseKNN of {attribute:?}: {} entries", query.len()), &[]),
        Score::Sum(list) => ("Sum".into(), list),
        Score::Max(list) => ("Max".into(), list),
        Score::Product { weight, of } => (format!("Product with {weight}"), std::slice::from_ref(of)),
        Score::Constant(x) => (format!("the number {x}"), &[]),
        Score::Filter(of) => {
            text.line(depth, "1 where a filter holds");
            return filter(text, depth + 1, of);
        }
        Score::Attribute(name) => (format!("the value of {name:?}"), &[]),
        Score::Distance { attribute, origin } => (
            format!("the distance of {attribute:?} to {}", cut(&origin.to_string())),
            &[],
        ),
        Score::Saturate { of, curve } => (curved("Saturate", curve), std::slice::from_ref(of)),
        Score::Decay { of, curve } => (curved("Decay", curve), std::slice::from_ref(of)),
    };
    text.line(depth, line);
    inner.iter().for_each(|s| score(text, depth + 1, s));
}

fn curved(name: &str, curve: &crate::model::query::Curve) -> String {
    let midpoint = match curve.midpoint {
        Midpoint::Number(x) => x.to_string(),
        Midpoint::Milliseconds(x) => format!("{x} ms"),
    };
    format!("{name} with midpoint {midpoint}, exponent {}", curve.exponent)
}

fn filter(text: &mut Text, depth: usize, of: &Filter) {
    let (line, inner): (String, &[Filter]) = match of {
        Filter::And(list) => ("And".into(), list),
        Filter::Or(list) => ("Or".into(), list),
        Filter::Not(inner) => ("Not".into(), std::slice::from_ref(inner)),
        condition => (cut(&format!("{condition:?}")), &[]),
    };
    text.line(depth, line);
    inner.iter().for_each(|f| filter(text, depth + 1, f));
}

fn quoted(text: &str) -> String {
    format!("{:?}", cut(text))
}

/// The beginning of a long text.
fn cut(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
