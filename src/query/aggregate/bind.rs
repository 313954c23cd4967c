//! From an aggregation as written to one whose attributes are known and fit.

use std::sync::Arc;

use crate::model::query::{Aggregate, Aggregation, GroupKey};
use crate::model::{Invalid, Limits, Scalar, Schema};
use crate::query::key::Source;

/// An [`Aggregation`] that was checked against a schema.
pub struct BoundAggregation {
    pub(super) aggregates: Vec<BoundAggregate>,
    /// None: one answer over all rows.
    pub(super) keys: Vec<BoundKey>,
    /// How many groups at most.
    pub(super) limit: usize,
    pub(super) distinct_bytes_max: usize,
    pub(super) combinations_max: u64,
}

impl BoundAggregation {
    /// Whether all that is asked is how many rows there are, in all or in each group.
    pub(in crate::query) fn counts_rows(&self) -> bool {
        self.aggregates.iter().all(|a| a.function == Function::Count)
    }

    /// Whether there is one answer over all rows.
    pub(in crate::query) fn is_ungrouped(&self) -> bool {
        self.keys.is_empty()
    }

    /// Where the keys come from.
    pub(in crate::query) fn keys(&self) -> impl Iterator<Item = Source> {
        self.keys.iter().map(|k| k.source)
    }

    /// Where the values come from that are aggregated.
    pub(in crate::query) fn aggregated(&self) -> impl Iterator<Item = Source> {
        self.aggregates.iter().filter_map(|a| a.function.source())
    }

    /// Where all values come from.
    pub(in crate::query) fn sources(&self) -> impl Iterator<Item = Source> {
        self.keys().chain(self.aggregated())
    }
}

/// One aggregate under its label.
pub(super) struct BoundAggregate {
    pub label: Arc<str>,
    pub function: Function,
}

/// What is computed of the values of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Count,
    /// Of numbers.
    Sum(Source),
    /// Of numbers.
    Avg(Source),
    /// Of scalars.
    Min(Source),
    /// Of scalars.
    Max(Source),
    /// Of scalars or the elements of arrays.
    CountDistinct(Source),
    /// Of scalars or the elements of arrays; how many.
    Top(Source, usize),
}

impl Function {
    /// Where its values come from.
    pub fn source(self) -> Option<Source> {
        match self {
            Function::Count => None,
            Function::Sum(s) | Function::Avg(s) | Function::Min(s) | Function::Max(s) => Some(s),
            Function::CountDistinct(s) | Function::Top(s, _) => Some(s),
        }
    }
}

/// One part of a group's key. The source is an array when every distinct element has its group.
pub(super) struct BoundKey {
    pub label: Arc<str>,
    pub source: Source,
}

/// Checks an aggregation against a schema.
///
/// * `limit` — how many groups at most
///
/// # Errors
///
/// The sentence for the client.
pub fn bind(asked: &Aggregation, limit: usize, schema: &Schema, limits: &Limits) -> Result<BoundAggregation, Invalid> {
    let count = asked.aggregates.len();
    if count == 0 || count > limits.aggregates_max {
        return Err(Invalid::new(format!(
            "aggregate_by must have 1 to {} aggregates, got {count}",
            limits.aggregates_max
        )));
    }
    if asked.group_by.len() > limits.group_keys_max {
        return Err(Invalid::new(format!(
            "group_by may have at most {} elements, got {}",
            limits.group_keys_max,
            asked.group_by.len()
        )));
    }
    if limit > limits.groups_max {
        return Err(Invalid::new(format!(
            "limit must be at most {} groups, got {limit}",
            limits.groups_max
        )));
    }
    let aggregate = |(label, aggregate): &(Arc<str>, Aggregate)| {
        let function = function(aggregate, schema, limits);
        Ok(BoundAggregate {
            label: label.clone(),
            function: function.map_err(|e| Invalid::new(format!("aggregate_by {label:?}: {e}")))?,
        })
    };
    let key = |key: &GroupKey| bind_key(key, schema).map_err(|e| Invalid::new(format!("invalid group_by: {e}")));
    let bound = BoundAggregation {
        aggregates: asked.aggregates.iter().map(aggregate).collect::<Result<_, Invalid>>()?,
        keys: asked.group_by.iter().map(key).collect::<Result<_, _>>()?,
        limit,
        distinct_bytes_max: limits.distinct_bytes_max,
        combinations_max: limits.combinations_max,
    };
    check_labels(&bound)?;
    Ok(bound)
}

/// Labels are the keys of one JSON object.
fn check_labels(bound: &BoundAggregation) -> Result<(), Invalid> {
    let keys = bound.keys.iter().map(|k| &k.label);
    let mut labels: Vec<_> = keys.chain(bound.aggregates.iter().map(|a| &a.label)).collect();
    labels.sort_unstable();
    match labels.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Invalid::new(format!(
            "two results of the aggregation have the name {:?}",
            pair[0]
        ))),
    }
}

fn bind_key(key: &GroupKey, schema: &Schema) -> Result<BoundKey, Invalid> {
    let (label, name, wants_array) = match key {
        GroupKey::Attribute(name) => (Arc::from(name.as_str()), name, false),
        GroupKey::Elements { label, attribute } => (label.clone(), attribute, true),
    };
    let source = Source::find(name, schema)?;
    match (wants_array, source.is_array) {
        (false, true) => {
            return Err(Invalid::new(format!(
                "{name:?} is {}; group by its elements with {{\"label\": [\"ForEachUnique\", {name:?}]}}",
                source.type_name()
            )));
        }
        (true, false) => {
            return Err(Invalid::new(format!(
                "ForEachUnique needs an array attribute, and {name:?} is {}",
                source.type_name()
            )));
        }
        _ => source.check_short(name)?,
    }
    Ok(BoundKey { label, source })
}

fn function(aggregate: &Aggregate, schema: &Schema, limits: &Limits) -> Result<Function, Invalid> {
    match aggregate {
        Aggregate::Count => Ok(Function::Count),
        Aggregate::Sum(name) => number(name, "Sum", schema).map(Function::Sum),
        Aggregate::Avg(name) => number(name, "Avg", schema).map(Function::Avg),
        Aggregate::Min(name) => scalar(name, "Min", schema).map(Function::Min),
        Aggregate::Max(name) => scalar(name, "Max", schema).map(Function::Max),
        Aggregate::CountDistinct(name) => any(name, schema).map(Function::CountDistinct),
        Aggregate::Top { attribute, limit } => {
            if !(1..=limits.top_values_max).contains(limit) {
                return Err(Invalid::new(format!(
                    "Top gives 1 to {} values, got {limit}",
                    limits.top_values_max
                )));
            }
            Ok(Function::Top(any(attribute, schema)?, *limit))
        }
    }
}

fn number(name: &str, function: &str, schema: &Schema) -> Result<Source, Invalid> {
    let source = Source::find(name, schema)?;
    let is_number = matches!(source.scalar, Scalar::Int | Scalar::UInt | Scalar::Float);
    match is_number && !source.is_array {
        true => Ok(source),
        false => Err(Invalid::new(format!(
            "{function} needs an int, uint or float attribute, and {name:?} is {}",
            source.type_name()
        ))),
    }
}

fn scalar(name: &str, function: &str, schema: &Schema) -> Result<Source, Invalid> {
    let source = any(name, schema)?;
    match source.is_array {
        false => Ok(source),
        true => Err(Invalid::new(format!(
            "{function} needs an attribute of single values, and {name:?} is {}",
            source.type_name()
        ))),
    }
}

fn any(name: &str, schema: &Schema) -> Result<Source, Invalid> {
    let source = Source::find(name, schema)?;
    source.check_short(name)?;
    Ok(source)
}
