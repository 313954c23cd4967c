//! `aggregate_by` and `group_by`.

use std::sync::Arc;

use serde_json::Value as Json;

use super::object::Entries;
use super::{Single, limit};
use crate::model::query::{Aggregate, Aggregation, GroupKey};
use crate::model::{Invalid, Limits, Query};

const AGGREGATES: &str = "[\"Count\"], [\"Sum\", attribute], [\"Min\", attribute], [\"Max\", attribute], \
                          [\"Avg\", attribute], [\"CountDistinct\", attribute] or [\"Top\", attribute, how many]";
const KEYS: &str = "group_by must be an array of attribute names and of \
                    {\"label\": [\"ForEachUnique\", array attribute]}";
/// The longest name of a result.
const LABEL_BYTES_MAX: usize = 128;

/// Parses a query that asks for aggregates instead of rows.
pub fn query(single: Single, limits: &Limits) -> Result<Query, Invalid> {
    nothing_of_rows(&single)?;
    let Some(Entries(aggregates)) = single.aggregate_by else {
        return Err(Invalid::new("group_by needs aggregate_by"));
    };
    if aggregates.is_empty() || aggregates.len() > limits.aggregates_max {
        return Err(Invalid::new(format!(
            "aggregate_by must have 1 to {} aggregates, got {}",
            limits.aggregates_max,
            aggregates.len()
        )));
    }
    let limit = match limit::parse(single.top_k, single.limit, limits.groups_max)? {
        Some(limit) if limit.per.is_some() => return Err(Invalid::new("limit.per cannot be used with aggregate_by")),
        Some(limit) => limit.total,
        None => limits.groups_max,
    };
    let aggregates = aggregates.into_iter().map(|(label, json)| {
        check_label(&label)?;
        let aggregate = aggregate(json).map_err(|e| Invalid::new(format!("aggregate_by {label:?}: {e}")))?;
        Ok((Arc::from(label), aggregate))
    });
    Ok(Query {
        limit,
        filter: super::filter(single.filters, limits)?,
        aggregation: Some(Aggregation {
            aggregates: aggregates.collect::<Result<_, Invalid>>()?,
            group_by: single.group_by.map(group_by).transpose()?.unwrap_or_default(),
        }),
        ..Query::default()
    })
}

fn nothing_of_rows(single: &Single) -> Result<(), Invalid> {
    let includes = |include: &Json| *include != Json::Bool(false);
    let given = [
        ("rank_by", single.rank_by.is_some()),
        (
            "include_attributes",
            single.include_attributes.as_ref().is_some_and(includes),
        ),
        ("exclude_attributes", single.exclude_attributes.is_some()),
        ("compute_attributes", single.compute_attributes.is_some()),
        ("distance_metric", single.distance_metric.is_some()),
        ("offset", single.offset.is_some_and(|n| n > 0)),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => Err(Invalid::new(format!(
            "{name} cannot be used with aggregate_by, whose answer has no rows"
        ))),
    }
}

fn check_label(label: &str) -> Result<(), Invalid> {
    match label.len() {
        1..=LABEL_BYTES_MAX => Ok(()),
        _ => Err(Invalid::new(format!(
            "the names of results in aggregate_by and group_by must have 1 to {LABEL_BYTES_MAX} bytes"
        ))),
    }
}

fn aggregate(json: Json) -> Result<Aggregate, Invalid> {
    let wrong = || Invalid::new(format!("an aggregate must be {AGGREGATES}"));
    let Json::Array(items) = json else {
        return Err(wrong());
    };
    let texts: Vec<Option<&str>> = items.iter().map(Json::as_str).collect();
    match texts.as_slice() {
        [Some("Count")] | [Some("Count"), Some("id")] => Ok(Aggregate::Count),
        [Some("Count"), ..] => Err(Invalid::new("Count counts rows and takes no attribute but id")),
        [Some("Sum"), Some(name)] => Ok(Aggregate::Sum((*name).into())),
        [Some("Min"), Some(name)] => Ok(Aggregate::Min((*name).into())),
        [Some("Max"), Some(name)] => Ok(Aggregate::Max((*name).into())),
        [Some("Avg"), Some(name)] => Ok(Aggregate::Avg((*name).into())),
        [Some("CountDistinct"), Some(name)] => Ok(Aggregate::CountDistinct((*name).into())),
        [Some("Top"), Some(name), None] => {
            let limit = items[2].as_u64().and_then(|n| usize::try_from(n).ok());
            Ok(Aggregate::Top {
                attribute: (*name).into(),
                limit: limit.ok_or_else(|| Invalid::new("Top takes an attribute and how many values, an integer"))?,
            })
        }
        [Some("Top"), ..] => Err(Invalid::new("Top takes an attribute and how many values, an integer")),
        [Some(function @ ("Sum" | "Min" | "Max" | "Avg" | "CountDistinct")), ..] => {
            Err(Invalid::new(format!("{function} takes one attribute name")))
        }
        [Some(other), ..] => Err(Invalid::new(format!(
            "unknown function {other:?}; an aggregate must be {AGGREGATES}"
        ))),
        _ => Err(wrong()),
    }
}

fn group_by(json: Json) -> Result<Vec<GroupKey>, Invalid> {
    match json {
        Json::Array(keys) if keys.is_empty() => Err(Invalid::new("group_by must not be empty")),
        Json::Array(keys) => keys.into_iter().map(group_key).collect(),
        _ => Err(Invalid::shape(KEYS)),
    }
}

fn group_key(json: Json) -> Result<GroupKey, Invalid> {
    let wrong = || Invalid::new(KEYS);
    let object = match json {
        Json::String(name) => return Ok(GroupKey::Attribute(name)),
        Json::Object(object) => object,
        _ => return Err(wrong()),
    };
    let mut entries = object.into_iter();
    let (Some((label, function)), None) = (entries.next(), entries.next()) else {
        return Err(wrong());
    };
    check_label(&label)?;
    let Json::Array(items) = function else {
        return Err(wrong());
    };
    match <[Json; 2]>::try_from(items) {
        Ok([Json::String(function), Json::String(attribute)]) if function == "ForEachUnique" => {
            Ok(GroupKey::Elements {
                label: label.into(),
                attribute,
            })
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use crate::api::query::parse;
    use crate::model::InvalidKind::{self, Semantic, Shape};
    use crate::model::query::Aggregate::{Avg, Count, CountDistinct, Max, Min, Sum, Top};

    use super::*;

    fn only(body: &str) -> Query {
        let mut request = parse(body.as_bytes(), &Limits::default()).expect(body);
        assert_eq!(request.read.queries.len(), 1);
        request.read.queries.remove(0)
    }

    #[test]
    fn every_function_and_every_key_is_understood_in_the_order_of_the_request() {
        let query = only(
            r#"{"aggregate_by": {"z": ["Count"], "a": ["Count", "id"], "s": ["Sum", "x"], "i": ["Min", "x"],
                "m": ["Max", "x"], "v": ["Avg", "x"], "d": ["CountDistinct", "x"], "t": ["Top", "x", 3]},
                "group_by": ["shop", {"tag": ["ForEachUnique", "tags"]}], "filters": ["sold", "Eq", true],
                "top_k": 7, "include_attributes": false, "offset": 0, "disable_cache": true}"#,
        );
        let aggregation = query.aggregation.as_ref().expect("an aggregation");
        let labels: Vec<&str> = aggregation.aggregates.iter().map(|(l, _)| &**l).collect();
        assert_eq!(labels, ["z", "a", "s", "i", "m", "v", "d", "t"]);
        let functions: Vec<_> = aggregation.aggregates.iter().map(|(_, a)| a.clone()).collect();
        let x = || "x".to_owned();
        let top = Top {
            attribute: x(),
            limit: 3,
        };
        let expected = [
            Count,
            Count,
            Sum(x()),
            Min(x()),
            Max(x()),
            Avg(x()),
            CountDistinct(x()),
            top,
        ];
        assert_eq!(functions, expected);
        let tag = GroupKey::Elements {
            label: "tag".into(),
            attribute: "tags".into(),
        };
        assert_eq!(aggregation.group_by, [GroupKey::Attribute("shop".into()), tag]);
        assert!(query.filter.is_some() && query.limit == 7 && query.rank_by.is_none());
        // Without a limit there are as many groups as there may be.
        let query = only(r#"{"aggregate_by": {"n": ["Count"]}, "group_by": null}"#);
        assert_eq!(query.limit, 10_000);
        assert_eq!(query.aggregation.map(|a| a.group_by), Some(vec![]));
        // Repeated names are seen, and refused when the names are compared with those of the groups.
        let twice = only(r#"{"aggregate_by": {"n": ["Count"], "n": ["Sum", "a"]}}"#);
        assert_eq!(twice.aggregation.map(|a| a.aggregates.len()), Some(2));
    }

    #[test]
    fn other_aggregations_are_refused() {
        const BAD: &[(&str, InvalidKind, &str)] = &[
            (r#""aggregate_by": {}"#, Semantic, "1 to 32 aggregates, got 0"),
            (r#""aggregate_by": ["Count"]"#, Shape, "expected an object"),
            (r#""aggregate_by": "Count""#, Shape, "expected an object"),
            (r#""aggregate_by": {"n": "Count"}"#, Semantic, "an aggregate must be"),
            (r#""aggregate_by": {"n": []}"#, Semantic, "an aggregate must be"),
            (r#""aggregate_by": {"n": [1]}"#, Semantic, "an aggregate must be"),
            (r#""aggregate_by": {"n": null}"#, Semantic, "an aggregate must be"),
            (
                r#""aggregate_by": {"n": ["Median", "a"]}"#,
                Semantic,
                "unknown function \"Median\"",
            ),
            (
                r#""aggregate_by": {"n": ["Count", "a"]}"#,
                Semantic,
                "no attribute but id",
            ),
            (
                r#""aggregate_by": {"n": ["Count", "id", "id"]}"#,
                Semantic,
                "no attribute but id",
            ),
            (
                r#""aggregate_by": {"n": ["Sum"]}"#,
                Semantic,
                "Sum takes one attribute name",
            ),
            (
                r#""aggregate_by": {"n": ["Sum", 1]}"#,
                Semantic,
                "Sum takes one attribute name",
            ),
            (
                r#""aggregate_by": {"n": ["Max", "a", "b"]}"#,
                Semantic,
                "Max takes one attribute name",
            ),
            (r#""aggregate_by": {"n": ["Top", "a"]}"#, Semantic, "how many values"),
            (
                r#""aggregate_by": {"n": ["Top", "a", "3"]}"#,
                Semantic,
                "how many values",
            ),
            (
                r#""aggregate_by": {"n": ["Top", "a", -3]}"#,
                Semantic,
                "how many values",
            ),
            (
                r#""aggregate_by": {"n": ["Top", "a", 2.5]}"#,
                Semantic,
                "how many values",
            ),
            (r#""aggregate_by": {"": ["Count"]}"#, Semantic, "1 to 128 bytes"),
            (
                r#""aggregate_by": {"n": ["Count"]}, "group_by": "a""#,
                Shape,
                "group_by must be an array",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "group_by": []"#,
                Semantic,
                "must not be empty",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "group_by": [1]"#,
                Semantic,
                "group_by must be",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "group_by": [["a"]]"#,
                Semantic,
                "group_by must be",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "group_by": [{}]"#,
                Semantic,
                "group_by must be",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "group_by": [{"x": "a"}]"#,
                Semantic,
                "group_by must be",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "group_by": [{"x": ["ForEach", "a"]}]"#,
                Semantic,
                "group_by must be",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "group_by": [{"x": ["ForEachUnique"]}]"#,
                Semantic,
                "group_by must be",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "group_by": [{"x": ["ForEachUnique", "a"], "y": ["ForEachUnique", "a"]}]"#,
                Semantic,
                "group_by must be",
            ),
            (r#""group_by": ["a"]"#, Semantic, "group_by needs aggregate_by"),
            (
                r#""aggregate_by": {"n": ["Count"]}, "rank_by": ["id", "asc"]"#,
                Semantic,
                "rank_by cannot be used",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "include_attributes": true"#,
                Semantic,
                "include_attributes cannot",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "include_attributes": ["a"]"#,
                Semantic,
                "include_attributes cannot",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "exclude_attributes": ["a"]"#,
                Semantic,
                "exclude_attributes cannot",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "compute_attributes": {}"#,
                Semantic,
                "compute_attributes cannot",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "offset": 1"#,
                Semantic,
                "offset cannot be used",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "distance_metric": "cosine_distance""#,
                Semantic,
                "distance_metric cannot",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "limit": 10001"#,
                Semantic,
                "at most 10000",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "limit": {"total": 1, "per": {"attributes": ["a"], "limit": 1}}"#,
                Semantic,
                "limit.per cannot be used",
            ),
            (
                r#""aggregate_by": {"n": ["Count"]}, "rerank_by": ["RRF"]"#,
                Semantic,
                "aggregations have none",
            ),
        ];
        for (fields, kind, part) in BAD {
            let error = parse(format!("{{{fields}}}").as_bytes(), &Limits::default()).expect_err(fields);
            assert_eq!(error.kind, *kind, "{fields}: {}", error.message);
            assert!(error.message.contains(part), "{fields}: {}", error.message);
        }
        let many: Vec<String> = (0..33).map(|i| format!("\"{i}\": [\"Count\"]")).collect();
        let body = format!("{{\"aggregate_by\": {{{}}}}}", many.join(","));
        assert!(
            parse(body.as_bytes(), &Limits::default())
                .expect_err("33")
                .message
                .contains("got 33")
        );
    }
}
