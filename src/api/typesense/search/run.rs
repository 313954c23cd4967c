//! Runs a search: the engine is asked at one level after the other, and what it finds becomes pages.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::translate::{FOUND, Level, Order, Plan, TEXT_MATCH};
use crate::api::door::Caller;
use crate::api::metering;
use crate::api::typesense::document::attribute;
use crate::control::usage::Used;
use crate::error::Result;
use crate::model::query::Read;
use crate::model::value::to_json;
use crate::model::{Consistency, Direction, Filter, FilterOp, Id, NamespaceName, Query, Schema, Value};
use crate::namespace::Engine;
use crate::query::{AggregateValue, Computed, QueryResult, Rank, ResultRow};

/// What a search found.
pub struct Found {
    pub hits: Vec<Hit>,
    /// Of a grouped search, instead of hits: the groups of the page.
    pub groups: Option<Groups>,
    /// How many documents match.
    pub found: u64,
    pub out_of: u64,
    /// One per facet field.
    pub facets: Vec<QueryResult>,
    pub level: Level,
    /// The schema that was searched.
    pub schema: Arc<Schema>,
    pub hides_id: bool,
}

/// The groups of a page.
pub struct Groups {
    pub found: u64,
    pub page: Vec<Group>,
}

/// One group: its key, its first hits, and how many documents it has.
pub struct Group {
    pub key: Vec<Value>,
    pub hits: Vec<Hit>,
    pub found: u64,
}

/// One document that was found.
pub struct Hit {
    pub row: ResultRow,
    pub text_score: Option<f64>,
    pub distance: Option<f32>,
    /// Of a hybrid search.
    pub fused: Option<f64>,
    pub pinned: bool,
}

/// Whom to ask.
pub struct Asked<'a> {
    pub caller: &'a Caller,
    pub engine: &'a Engine,
    pub namespace: &'a NamespaceName,
    /// Of all reads of the search.
    pub used: Mutex<Used>,
}

/// Answers of one read, taken out one after the other.
struct Answers {
    results: std::vec::IntoIter<QueryResult>,
    schema: Arc<Schema>,
    hides_id: bool,
}

impl Answers {
    fn next(&mut self) -> QueryResult {
        self.results.next().unwrap_or_default()
    }

    fn count(&mut self) -> u64 {
        count(&self.next())
    }

    fn hits(&mut self) -> Vec<Hit> {
        self.next().into_rows().into_iter().map(Hit::of).collect()
    }
}

impl Hit {
    fn of(row: ResultRow) -> Self {
        let computed = row.computed.iter().find(|(name, _)| &**name == TEXT_MATCH);
        let text_score = match (row.rank, computed) {
            (Some(Rank::Score(score)), _) => Some(score),
            (_, Some((_, Computed::Score(score)))) => Some(*score),
            _ => None,
        };
        let distance = match row.rank {
            Some(Rank::Distance(distance)) => Some(distance),
            _ => None,
        };
        Self {
            row,
            text_score,
            distance,
            fused: None,
            pinned: false,
        }
    }

    /// The score as clients get it: an integer.
    pub fn text_match(&self) -> u64 {
        // Saturates, and scores are at least 0.
        (self.text_score.unwrap_or(0.0) * 1e6).round() as u64
    }
}

/// The number under a label of an aggregation without groups.
pub fn count(result: &QueryResult) -> u64 {
    let QueryResult::Aggregations(values) = result else {
        return 0;
    };
    values
        .iter()
        .find(|(label, _)| &**label == FOUND)
        .map_or(0, |(_, v)| number(v))
}

fn number(value: &AggregateValue) -> u64 {
    match value {
        AggregateValue::Value(Value::UInt(n)) => *n,
        AggregateValue::Value(Value::Int(n)) => u64::try_from(*n).unwrap_or(0),
        _ => 0,
    }
}

impl Asked<'_> {
    /// What the search used so far: one query, however often the engine was asked.
    ///
    /// * `found` — what is returned of it
    pub fn used(&self, found: &Found) -> Used {
        let grouped = found
            .groups
            .iter()
            .flat_map(|g| &g.page)
            .map(|g| g.hits.len())
            .sum::<usize>();
        Used {
            queries: 1,
            rows_returned: (found.hits.len() + grouped) as u64,
            ..*self.used.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    async fn read(&self, queries: Vec<Query>) -> Result<Answers> {
        let read = Read {
            queries,
            rerank: None,
            consistency: Consistency::Strong,
        };
        let outcome = self.engine.query(&self.caller.org, self.namespace, read).await?;
        let used = metering::of_query(&outcome);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).add(&used);
        Ok(Answers {
            results: outcome.results.into_iter(),
            schema: outcome.schema,
            hides_id: outcome.hides_id,
        })
    }

    /// Runs a search. Costs one GET; two more when too little is found at the strictest level, and one more for
    /// groups.
    ///
    /// * `highlighted` — the fields that hits are highlighted in
    pub async fn run(&self, plan: &Plan, highlighted: &[String]) -> Result<Found> {
        match &plan.order {
            Order::Vector | Order::Hybrid => return self.by_vector(plan, highlighted).await,
            Order::Text(_) | Order::Fields(_) => {}
        }
        let levels = plan.levels();
        let strict = levels[0];
        let found = self.at(plan, strict, highlighted).await?;
        if levels.len() == 1 || found.found >= plan.enough(strict) {
            return Ok(found);
        }
        let looser = &levels[1..];
        let mut counts = self.read(looser.iter().map(|l| plan.count(*l)).collect()).await?;
        let mut best = (found.found, strict);
        for level in looser {
            let n = counts.count();
            if n > best.0 {
                best = (n, *level);
            }
            if best.0 >= plan.enough(*level) {
                break;
            }
        }
        match best.1 == strict {
            true => Ok(found),
            false => self.at(plan, best.1, highlighted).await,
        }
    }

    async fn at(&self, plan: &Plan, level: Level, highlighted: &[String]) -> Result<Found> {
        let search = &plan.search;
        let grouped = !search.group_by.is_empty();
        let pinned = plan.pinned(highlighted).filter(|_| !grouped);
        // As many others are needed less as there are pinned ones before them.
        let pins = if pinned.is_some() { search.pinned.len() } else { 0 };
        let from = search.offset.saturating_sub(pins);
        let wanted = search.offset + search.per_page - from;
        let hits = match grouped {
            true => plan.leaders(level, search.offset, search.per_page, highlighted),
            false => plan.hits(level, from, wanted, highlighted),
        };
        let mut queries = vec![hits, plan.count(level), Plan::out_of()];
        queries.extend(plan.facets(level));
        queries.extend(grouped.then(|| plan.groups(level)));
        queries.extend(pinned);
        let mut answers = self.read(queries).await?;
        let mut hits = answers.hits();
        let mut found = answers.count();
        let out_of = answers.count();
        let facets: Vec<QueryResult> = search.facet_by.iter().map(|_| answers.next()).collect();
        let groups = match grouped {
            true => {
                let counted = answers.next();
                Some(
                    self.groups(plan, level, std::mem::take(&mut hits), counted, highlighted)
                        .await?,
                )
            }
            false => None,
        };
        if plan.resorts() && !grouped {
            resort(&plan.order, &mut hits);
            hits = hits.into_iter().skip(from).take(wanted).collect();
        }
        if pins > 0 {
            let pinned = answers.hits();
            found += pinned.len() as u64;
            hits = with_pinned(plan, pinned, hits, from);
        }
        Ok(Found {
            hits,
            groups,
            found,
            out_of,
            facets,
            level,
            schema: answers.schema,
            hides_id: answers.hides_id,
        })
    }

    async fn groups(
        &self,
        plan: &Plan,
        level: Level,
        leaders: Vec<Hit>,
        counted: QueryResult,
        highlighted: &[String],
    ) -> Result<Groups> {
        let by = &plan.search.group_by;
        let key_of = |row: &ResultRow| -> Vec<Value> {
            let value = |name: &String| match name.as_str() {
                "id" => Value::String(row.id.to_string()),
                name => attribute(row, name).cloned().unwrap_or(Value::Null),
            };
            by.iter().map(value).collect()
        };
        // Values have no order or hash of their own; as text they have.
        let text_of = |key: &[Value]| -> String { serde_json::Value::from_iter(key.iter().map(to_json)).to_string() };
        let QueryResult::Groups(all) = counted else {
            return Ok(Groups {
                found: 0,
                page: Vec::new(),
            });
        };
        let sizes: HashMap<String, u64> = all
            .iter()
            .map(|group| {
                let key: Vec<Value> = group.key.iter().map(|(_, v)| v.clone()).collect();
                (text_of(&key), group.values.first().map_or(0, |(_, n)| number(n)))
            })
            .collect();
        let mut page: Vec<Group> = leaders
            .into_iter()
            .map(|leader| {
                let key = key_of(&leader.row);
                let found = sizes.get(&text_of(&key)).copied().unwrap_or(1);
                Group {
                    key,
                    hits: vec![leader],
                    found,
                }
            })
            .collect();
        if plan.search.group_limit > 1 && !page.is_empty() {
            let keys = page.iter().map(|group| {
                let same = by.iter().zip(&group.key);
                Filter::And(
                    same.map(|(name, v)| Filter::compare(name, FilterOp::Eq, to_json(v)))
                        .collect(),
                )
            });
            let mut members = self
                .read(vec![plan.members(level, keys.collect(), highlighted)])
                .await?;
            let places: HashMap<String, usize> = page.iter().enumerate().map(|(i, g)| (text_of(&g.key), i)).collect();
            page.iter_mut().for_each(|group| group.hits.clear());
            for hit in members.hits() {
                if let Some(group) = places.get(&text_of(&key_of(&hit.row))).and_then(|i| page.get_mut(*i)) {
                    group.hits.push(hit);
                }
            }
            page.retain(|group| !group.hits.is_empty());
        }
        Ok(Groups {
            found: sizes.len() as u64,
            page,
        })
    }

    /// All documents that are near enough, those of the text beside them in a hybrid search; then the page of them.
    async fn by_vector(&self, plan: &Plan, highlighted: &[String]) -> Result<Found> {
        let level = Level::default();
        let search = &plan.search;
        let text = plan.hybrid_text(highlighted).filter(|_| plan.order == Order::Hybrid);
        let hybrid = text.is_some();
        let mut queries: Vec<Query> = plan.nearest(highlighted).into_iter().collect();
        queries.push(Plan::out_of());
        queries.extend(text);
        queries.extend(plan.facets(level));
        let mut answers = self.read(queries).await?;
        let near = answers.hits();
        let out_of = answers.count();
        let by_text = if hybrid { answers.hits() } else { Vec::new() };
        let facets = search.facet_by.iter().map(|_| answers.next()).collect();
        let (threshold, alpha) = match &search.vector {
            Some(by) => (by.distance_threshold, by.alpha),
            None => (None, 0.0),
        };
        let is_near = |hit: &Hit| threshold.is_none_or(|max| hit.distance.is_some_and(|d| f64::from(d) <= max));
        let near: Vec<Hit> = near.into_iter().filter(is_near).collect();
        let all = match hybrid {
            true => fuse(near, by_text, alpha),
            false => near,
        };
        Ok(Found {
            found: all.len() as u64,
            hits: all.into_iter().skip(search.offset).take(search.per_page).collect(),
            groups: None,
            out_of,
            facets,
            level,
            schema: answers.schema,
            hides_id: answers.hides_id,
        })
    }
}

/// Reciprocal ranks, weighted: `alpha` for the vector, the rest for the text.
fn fuse(near: Vec<Hit>, by_text: Vec<Hit>, alpha: f64) -> Vec<Hit> {
    let mut all: Vec<Hit> = Vec::with_capacity(near.len() + by_text.len());
    let mut places: HashMap<Id, usize> = HashMap::new();
    for (rank, mut hit) in near.into_iter().enumerate() {
        hit.fused = Some(alpha / (rank + 1) as f64);
        places.insert(hit.row.id.clone(), all.len());
        all.push(hit);
    }
    for (rank, mut hit) in by_text.into_iter().enumerate() {
        let score = (1.0 - alpha) / (rank + 1) as f64;
        match places.get(&hit.row.id).and_then(|i| all.get_mut(*i)) {
            Some(known) => {
                known.fused = known.fused.map(|f| f + score);
                known.text_score = hit.text_score;
            }
            None => {
                hit.fused = Some(score);
                all.push(hit);
            }
        }
    }
    let score = |hit: &Hit| hit.fused.unwrap_or(0.0);
    all.sort_by(|a, b| score(b).total_cmp(&score(a)).then_with(|| a.row.id.cmp(&b.row.id)));
    all
}

/// Sorts hits with the same text match by what comes after it.
fn resort(order: &Order, hits: &mut [Hit]) {
    let Order::Text(keys) = order else { return };
    hits.sort_by(|a, b| {
        let by_text = b.text_match().cmp(&a.text_match());
        let by_keys = keys.iter().map(|(name, direction)| {
            if name == "id" {
                let ordering = a.row.id.cmp(&b.row.id);
                return if *direction == Direction::Asc {
                    ordering
                } else {
                    ordering.reverse()
                };
            }
            compare(attribute(&a.row, name), attribute(&b.row, name), *direction)
        });
        by_keys
            .fold(by_text, Ordering::then)
            .then_with(|| a.row.id.cmp(&b.row.id))
    });
}

/// Missing values come last in either direction.
fn compare(a: Option<&Value>, b: Option<&Value>, direction: Direction) -> Ordering {
    let ordering = match (a, b) {
        (None, None) => return Ordering::Equal,
        (None, Some(_)) => return Ordering::Greater,
        (Some(_), None) => return Ordering::Less,
        (Some(a), Some(b)) => match (a, b) {
            (Value::Int(a), Value::Int(b)) | (Value::Datetime(a), Value::Datetime(b)) => a.cmp(b),
            (Value::UInt(a), Value::UInt(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
            _ => Ordering::Equal,
        },
    };
    match direction {
        Direction::Asc => ordering,
        Direction::Desc => ordering.reverse(),
    }
}

/// Puts pinned hits at their places.
///
/// * `others` — of the order without pinned ones, from the `from`-th on
fn with_pinned(plan: &Plan, pinned: Vec<Hit>, others: Vec<Hit>, from: usize) -> Vec<Hit> {
    let search = &plan.search;
    let mut by_id: HashMap<String, Hit> = pinned.into_iter().map(|h| (h.row.id.to_string(), h)).collect();
    let mut places: HashMap<usize, Hit> = HashMap::new();
    for (at, id) in &search.pinned {
        if let Some(mut hit) = by_id.remove(id) {
            hit.pinned = true;
            // Two for one place stand one after the other.
            let mut at = at - 1;
            while places.contains_key(&at) {
                at += 1;
            }
            places.insert(at, hit);
        }
    }
    let before = places.keys().filter(|at| **at < search.offset).count();
    let mut others = others
        .into_iter()
        .skip(search.offset.saturating_sub(before).saturating_sub(from));
    let mut page = Vec::with_capacity(search.per_page);
    for at in search.offset..search.offset + search.per_page {
        page.extend(places.remove(&at).or_else(|| others.next()));
    }
    // Pinned behind the last hit: at the end of the last page.
    if page.len() < search.per_page {
        let mut left: Vec<(usize, Hit)> = places
            .into_iter()
            .filter(|(at, _)| *at >= search.offset + search.per_page)
            .collect();
        left.sort_by_key(|(at, _)| *at);
        page.extend(left.into_iter().map(|(_, hit)| hit).take(search.per_page - page.len()));
    }
    page
}
