//! The model: one row at a time, one value at a time.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::query::{Aggregate, GroupKey};
use crate::model::{Filter, Id, Query, Value};
use crate::query::{AggregateValue, Group, QueryResult};

pub type Row = (Id, Vec<(&'static str, Value)>);

fn value_of(row: &Row, name: &str) -> Value {
    match name {
        "id" => match &row.0 {
            Id::UInt(n) => Value::UInt(*n),
            _ => panic!("the tests have numbers"),
        },
        _ => row
            .1
            .iter()
            .find(|(n, _)| *n == name)
            .map_or(Value::Null, |(_, v)| v.clone()),
    }
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) | (Value::Datetime(a), Value::Datetime(b)) => a.cmp(b),
        (Value::UInt(a), Value::UInt(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).unwrap(),
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        other => panic!("{other:?}"),
    }
}

fn order_all(a: &[Value], b: &[Value]) -> Ordering {
    a.iter()
        .zip(b)
        .map(|(a, b)| order(a, b))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn distinct(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by(order);
    values.dedup_by(|a, b| order(a, b).is_eq());
    values
}

/// The values that a row adds to a tally.
fn tallied(row: &Row, name: &str) -> Vec<Value> {
    match value_of(row, name) {
        Value::Null => vec![],
        Value::Array(list) => distinct(list),
        one => vec![one],
    }
}

fn number(value: &Value) -> (i128, f64) {
    match value {
        Value::Int(n) => (i128::from(*n), 0.0),
        Value::UInt(n) => (i128::from(*n), 0.0),
        Value::Float(x) => (0, *x),
        other => panic!("{other:?}"),
    }
}

fn expected_value(aggregate: &Aggregate, rows: &[&Row]) -> AggregateValue {
    let present = |name: &str| -> Vec<Value> {
        let values = rows.iter().map(|r| value_of(r, name));
        values.filter(|v| *v != Value::Null).collect()
    };
    let sums = |values: &[Value]| values.iter().map(number).fold((0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
    AggregateValue::Value(match aggregate {
        Aggregate::Count => Value::UInt(rows.len() as u64),
        Aggregate::Sum(name) if name == "f" => Value::Float(sums(&present(name)).1),
        Aggregate::Sum(name) => match sums(&present(name)).0 {
            sum if sum <= i128::from(i64::MAX) => Value::Int(sum as i64),
            sum => Value::UInt(sum as u64),
        },
        Aggregate::Avg(name) => match present(name) {
            values if values.is_empty() => Value::Null,
            values => {
                let (ints, floats) = sums(&values);
                Value::Float((ints as f64 + floats) / values.len() as f64)
            }
        },
        Aggregate::Min(name) => present(name).into_iter().min_by(order).unwrap_or(Value::Null),
        Aggregate::Max(name) => present(name).into_iter().max_by(order).unwrap_or(Value::Null),
        Aggregate::CountDistinct(name) => {
            let all = rows.iter().flat_map(|r| tallied(r, name)).collect();
            Value::UInt(distinct(all).len() as u64)
        }
        Aggregate::Top { attribute, limit } => {
            let all: Vec<Value> = rows.iter().flat_map(|r| tallied(r, attribute)).collect();
            let count = |value: &Value| all.iter().filter(|v| order(v, value).is_eq()).count() as u64;
            let mut counted: Vec<(Value, u64)> = distinct(all.clone())
                .into_iter()
                .map(|v| (v.clone(), count(&v)))
                .collect();
            counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            counted.truncate(*limit);
            return AggregateValue::Top(counted);
        }
    })
}

/// The keys of the groups that a row is in.
fn keys_of(row: &Row, group_by: &[GroupKey]) -> Vec<Vec<Value>> {
    group_by.iter().fold(vec![vec![]], |keys, by| {
        let values = match by {
            GroupKey::Attribute(name) => vec![value_of(row, name)],
            GroupKey::Elements { attribute, .. } => match value_of(row, attribute) {
                Value::Array(list) => distinct(list),
                null => vec![null],
            },
        };
        let longer = |key: &Vec<Value>| -> Vec<Vec<Value>> {
            values.iter().map(|v| [key.clone(), vec![v.clone()]].concat()).collect()
        };
        keys.iter().flat_map(longer).collect()
    })
}

fn label_of(key: &GroupKey) -> Arc<str> {
    match key {
        GroupKey::Attribute(name) => Arc::from(name.as_str()),
        GroupKey::Elements { label, .. } => label.clone(),
    }
}

pub fn expected(asked: &Query, rows: &[Row]) -> QueryResult {
    let aggregation = asked.aggregation.as_ref().unwrap();
    let low = asked.filter.as_ref().map(|f| match f {
        Filter::Compare {
            operand: crate::model::filter::Operand::Value(operand),
            ..
        } => operand.as_i64().unwrap(),
        other => panic!("{other:?}"),
    });
    let passes = |row: &&Row| low.is_none_or(|low| matches!(value_of(row, "i"), Value::Int(i) if i >= low));
    let rows: Vec<&Row> = rows.iter().filter(passes).collect();
    let values = |rows: &[&Row]| -> Vec<(Arc<str>, AggregateValue)> {
        let aggregates = aggregation.aggregates.iter();
        aggregates
            .map(|(label, a)| (label.clone(), expected_value(a, rows)))
            .collect()
    };
    if aggregation.group_by.is_empty() {
        return QueryResult::Aggregations(values(&rows));
    }
    let mut groups: Vec<(Vec<Value>, Vec<&Row>)> = Vec::new();
    for row in rows {
        for key in keys_of(row, &aggregation.group_by) {
            match groups.iter_mut().find(|(k, _)| order_all(k, &key).is_eq()) {
                Some((_, members)) => members.push(row),
                None => groups.push((key, vec![row])),
            }
        }
    }
    groups.sort_by(|a, b| order_all(&a.0, &b.0));
    groups.truncate(asked.limit);
    let group = |(key, members): (Vec<Value>, Vec<&Row>)| Group {
        key: aggregation.group_by.iter().map(label_of).zip(key).collect(),
        values: values(&members),
    };
    QueryResult::Groups(groups.into_iter().map(group).collect())
}
