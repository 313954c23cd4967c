//! The order of rows by a model's judgement of one of their texts.

use std::collections::HashMap;

use super::Engine;
use super::read::QueryOutcome;
use crate::error::Result;
use crate::model::query::{Projection, Read, Rerank};
use crate::model::{AttrType, Id, Invalid, Scalar, Value};
use crate::query::{QueryResult, Rank, ResultRow};

/// Most rows of one request that a model judges: each is a text to it.
pub const RERANKED_ROWS_MAX: usize = 1000;

/// What a model is asked about the rows of an answer.
pub(super) struct Judgement {
    model: String,
    attribute: String,
    query: String,
    limit: Option<usize>,
    offset: usize,
}

impl Judgement {
    /// Checks what a read asks of a model; `None` when nothing.
    pub fn of(read: &Read, engine: &Engine) -> Result<Option<Self>, Invalid> {
        let Some(Rerank::Model {
            model,
            attribute,
            query,
            limit,
            offset,
        }) = &read.rerank
        else {
            return Ok(None);
        };
        engine.inner.options.inference.check_rerank(model)?;
        if query.trim().is_empty() {
            return Err(Invalid::new("rerank_by.query must not be blank"));
        }
        for asked in &read.queries {
            if asked.aggregation.is_some() {
                return Err(Invalid::new(
                    "rerank_by does not go with aggregate_by: there are no rows",
                ));
            }
            let included = match &asked.include {
                Projection::None => false,
                Projection::All => true,
                Projection::Only(names) => names.contains(attribute),
                Projection::Except(names) => !names.contains(attribute),
            };
            if !included {
                return Err(Invalid::new(format!(
                    "rerank_by.attribute {attribute:?} must be in include_attributes of every query"
                )));
            }
        }
        Ok(Some(Self {
            model: model.clone(),
            attribute: attribute.clone(),
            query: query.clone(),
            limit: *limit,
            offset: *offset,
        }))
    }
}

impl Engine {
    /// Puts the rows of all results into one, best first by a model's judgement, which becomes their
    /// `$dist`. Ties by id. Rows without a text come last, without `$dist`.
    pub(super) async fn rerank(&self, outcome: &mut QueryOutcome, judgement: &Judgement) -> Result<()> {
        let attribute = outcome.schema.require(&judgement.attribute)?;
        if attribute.ty != AttrType::Scalar(Scalar::String) {
            return Err(Invalid::new(format!(
                "rerank_by.attribute {:?} must be a string, not {}",
                judgement.attribute, attribute.ty
            ))
            .into());
        }
        let rows = union(std::mem::take(&mut outcome.results));
        if rows.len() > RERANKED_ROWS_MAX {
            return Err(Invalid::new(format!(
                "rerank_by: the queries found {} rows, and at most {RERANKED_ROWS_MAX} can be judged by a model; lower \
                 their limits",
                rows.len()
            ))
            .into());
        }
        let (mut judged, mut silent): (Vec<ResultRow>, Vec<ResultRow>) = rows
            .into_iter()
            .partition(|row| text(row, &judgement.attribute).is_some());
        let documents: Vec<&str> = judged
            .iter()
            .filter_map(|row| text(row, &judgement.attribute))
            .collect();
        let inference = &self.inner.options.inference;
        let scores = inference.rerank(&judgement.model, &judgement.query, &documents).await?;
        for (row, score) in judged.iter_mut().zip(&scores) {
            row.rank = Some(Rank::Score(*score));
        }
        let mut scored: Vec<(f64, ResultRow)> = scores.into_iter().zip(judged).collect();
        scored.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.id.cmp(&y.id)));
        silent.sort_by(|a, b| a.id.cmp(&b.id));
        silent.iter_mut().for_each(|row| row.rank = None);
        let ordered = scored.into_iter().map(|(_, row)| row).chain(silent);
        let ordered = ordered
            .skip(judgement.offset)
            .take(judgement.limit.unwrap_or(usize::MAX));
        outcome.results = vec![QueryResult::Rows(ordered.collect())];
        Ok(())
    }
}

/// Every row once, with the attributes of all queries that found it.
fn union(results: Vec<QueryResult>) -> Vec<ResultRow> {
    let mut rows: Vec<ResultRow> = Vec::new();
    // Only looked up, never iterated: its order matters to nobody.
    let mut places: HashMap<Id, usize> = HashMap::new();
    for result in results {
        let QueryResult::Rows(found) = result else { continue };
        for row in found {
            match places.get(&row.id) {
                None => {
                    places.insert(row.id.clone(), rows.len());
                    rows.push(row);
                }
                Some(at) => join(&mut rows[*at], row),
            }
        }
    }
    rows
}

fn join(row: &mut ResultRow, other: ResultRow) {
    for (name, value) in other.attributes {
        if row.attributes.iter().all(|(known, _)| *known != name) {
            row.attributes.push((name, value));
        }
    }
    row.attributes.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, value) in other.computed {
        if row.computed.iter().all(|(known, _)| *known != name) {
            row.computed.push((name, value));
        }
    }
}

fn text<'a>(row: &'a ResultRow, attribute: &str) -> Option<&'a str> {
    let found = row.attributes.iter().find(|(name, _)| **name == *attribute);
    match found {
        Some((_, Value::String(text))) if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}
