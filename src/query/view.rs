//! What of a snapshot a caller may see.
//!
//! The one place where mandatory filters meet queries. Every way of answering one, be it rows, scores,
//! aggregates, groups or passages, goes through [`View::plan`], which adds the mandatory filter to the
//! plan's own, and binds everything that the client wrote against a schema without what is hidden.
//!
//! # What stays true
//!
//! - An attribute that is hidden answers in every place as one that does not exist, error texts
//!   included.
//! - A mandatory filter is typed against the whole schema, before the query is looked at. One that
//!   does not fit lets nothing pass.
//! - The statistics of full-text scores alone are those of all rows.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::filter::{self, BoundFilter};
use super::plan::{Plan, plan};
use crate::error::Result;
use crate::model::access::{Restriction, forbidden};
use crate::model::query::{Aggregate, Aggregation, GroupKey};
use crate::model::{Invalid, Limits, Query, Schema};

/// The rows and attributes of a snapshot that a caller may see. Belongs to the schema it was made of.
#[derive(Clone, Debug)]
pub struct View {
    schema: Arc<Schema>,
    /// What holds for every row that may be seen.
    rows: Option<BoundFilter>,
    is_restricted: bool,
    hides_id: bool,
}

impl View {
    /// Everything.
    pub fn all(schema: Arc<Schema>) -> Self {
        Self {
            schema,
            rows: None,
            is_restricted: false,
            hides_id: false,
        }
    }

    /// What a restriction leaves.
    ///
    /// * `schema` — of the snapshot
    ///
    /// # Errors
    ///
    /// 403 when a mandatory filter does not fit the schema.
    pub fn restricted(schema: &Arc<Schema>, restriction: &Restriction) -> Result<Self> {
        let bind = |filter: BoundFilter, mandatory: BoundFilter| filter.and(mandatory);
        let bound = restriction.filters.iter().map(|mandatory| {
            let compiled = mandatory.compile(schema)?;
            filter::bind(&compiled, schema)
        });
        let bound: Result<Vec<BoundFilter>, Invalid> = bound.collect();
        let bound = bound.map_err(|e| {
            // What is wrong with it would tell what the key holds.
            forbidden("the filter of this key does not fit the namespace's schema").because(e)
        })?;
        Ok(Self {
            schema: visible(schema, restriction),
            rows: bound.into_iter().reduce(bind),
            is_restricted: true,
            hides_id: restriction.hides_id(),
        })
    }

    /// The schema as far as it may be seen.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Whether there may be more than can be seen, so that nothing is said of the whole.
    pub fn is_restricted(&self) -> bool {
        self.is_restricted
    }

    /// Whether results are to be shown without ids.
    pub fn hides_id(&self) -> bool {
        self.hides_id
    }

    /// Whether some rows cannot be seen.
    pub fn filters(&self) -> bool {
        self.rows.is_some()
    }

    /// Checks a query and decides how it is answered, of these rows and attributes.
    ///
    /// # Errors
    ///
    /// The sentence for the client.
    pub fn plan(&self, query: &Query, limits: &Limits) -> Result<Plan, Invalid> {
        if self.hides_id
            && let Some(aggregation) = &query.aggregation
        {
            check_without_id(aggregation)?;
        }
        let plan = plan(query, &self.schema, limits)?;
        Ok(match &self.rows {
            None => plan,
            Some(mandatory) => Plan {
                filter: Some(match plan.filter {
                    None => mandatory.clone(),
                    Some(asked) => asked.and(mandatory.clone()),
                }),
                ..plan
            },
        })
    }
}

/// The schema without what is hidden.
fn visible(schema: &Arc<Schema>, restriction: &Restriction) -> Arc<Schema> {
    let hidden = schema.attributes().filter(|a| restriction.hides(&a.name));
    let hidden: Vec<Arc<str>> = hidden.map(|a| a.name.clone()).collect();
    if hidden.is_empty() {
        return schema.clone();
    }
    let mut visible = Schema::clone(schema);
    hidden.iter().for_each(|name| visible.drop_attribute(name));
    Arc::new(visible)
}

/// That no result of an aggregation is an id.
fn check_without_id(asked: &Aggregation) -> Result<(), Invalid> {
    let aggregated = asked.aggregates.iter().filter_map(|(_, aggregate)| match aggregate {
        Aggregate::Count => None,
        Aggregate::Sum(name) | Aggregate::Min(name) | Aggregate::Max(name) => Some(name),
        Aggregate::Avg(name) | Aggregate::CountDistinct(name) => Some(name),
        Aggregate::Top { attribute, .. } => Some(attribute),
    });
    let grouped = asked.group_by.iter().map(|key| match key {
        GroupKey::Attribute(name) => name,
        GroupKey::Elements { attribute, .. } => attribute,
    });
    match aggregated.chain(grouped).any(|name| name == "id") {
        false => Ok(()),
        // As of any attribute that is not there.
        true => Schema::default().require("id").map(drop),
    }
}
