//! `limit`, which is also `top_k`, with its `per`; and `offset`.

use serde_json::Value as Json;

use crate::model::query::LimitPer;
use crate::model::{Invalid, Limits};

/// How many rows or groups, and how many that agree.
#[derive(Debug, PartialEq)]
pub struct Limit {
    pub total: usize,
    pub per: Option<LimitPer>,
}

/// The limit under either of its names; `None` when there is none.
///
/// * `max` — the most that may be asked
pub fn parse(top_k: Option<u64>, limit: Option<Json>, max: usize) -> Result<Option<Limit>, Invalid> {
    let limit = limit.map(limit_of).transpose()?;
    let (total, per) = match (top_k, limit) {
        (None, None) => return Ok(None),
        (Some(a), Some((b, _))) if a != b => {
            return Err(Invalid::new(format!(
                "top_k and limit are the same setting, but top_k is {a} and limit is {b}"
            )));
        }
        (_, Some(limit)) => limit,
        (Some(total), None) => (total, None),
    };
    match usize::try_from(total) {
        Ok(total) if total <= max => Ok(Some(Limit { total, per })),
        _ => Err(Invalid::new(format!("limit must be at most {max}, got {total}"))),
    }
}

/// How many rows are skipped; `limit` is how many follow.
pub fn offset(offset: Option<u64>, limit: usize, limits: &Limits) -> Result<usize, Invalid> {
    let offset = usize::try_from(offset.unwrap_or(0)).unwrap_or(usize::MAX);
    match offset.saturating_add(limit) <= limits.ranked_rows_max {
        true => Ok(offset),
        false => Err(Invalid::new(format!(
            "offset and limit together must be at most {}",
            limits.ranked_rows_max
        ))),
    }
}

fn limit_of(limit: Json) -> Result<(u64, Option<LimitPer>), Invalid> {
    let wrong = || Invalid::shape("limit must be an integer of at least 0, or an object with the keys total and per");
    let mut object = match limit {
        Json::Object(object) => object,
        number => return Ok((number.as_u64().ok_or_else(wrong)?, None)),
    };
    let total = object.remove("total").and_then(|t| t.as_u64()).ok_or_else(wrong)?;
    let per = match object.remove("per") {
        None | Some(Json::Null) => None,
        Some(per) => Some(per_of(per)?),
    };
    match object.keys().next() {
        None => Ok((total, per)),
        Some(key) => Err(Invalid::shape(format!(
            "unknown key {key:?} in limit, expected total and per"
        ))),
    }
}

fn per_of(per: Json) -> Result<LimitPer, Invalid> {
    let wrong = || {
        Invalid::shape(
            "limit.per must be an object of attributes, an array of attribute names, and limit, an integer of at least 1",
        )
    };
    let Json::Object(mut per) = per else {
        return Err(wrong());
    };
    let Some(Json::Array(names)) = per.remove("attributes") else {
        return Err(wrong());
    };
    let name = |name| match name {
        Json::String(name) => Ok(name),
        _ => Err(wrong()),
    };
    let attributes: Vec<String> = names.into_iter().map(name).collect::<Result<_, _>>()?;
    let limit = per.remove("limit").and_then(|l| l.as_u64()).ok_or_else(wrong)?;
    if let Some(key) = per.keys().next() {
        return Err(Invalid::shape(format!(
            "unknown key {key:?} in limit.per, expected attributes and limit"
        )));
    }
    if attributes.is_empty() {
        return Err(Invalid::new("limit.per needs at least one attribute"));
    }
    match usize::try_from(limit).unwrap_or(usize::MAX) {
        0 => Err(Invalid::new("the limit of limit.per must be at least 1")),
        limit => Ok(LimitPer { attributes, limit }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::InvalidKind::{Semantic, Shape};

    #[test]
    fn both_names_and_both_forms_are_the_same_limit() {
        let plain = |total| Some(Limit { total, per: None });
        for (top_k, limit, expected) in [
            (None, None, None),
            (Some(3), None, plain(3)),
            (None, Some(json!(3)), plain(3)),
            (Some(3), Some(json!(3)), plain(3)),
            (Some(3), Some(json!({"total": 3})), plain(3)),
            (None, Some(json!({"total": 0, "per": null})), plain(0)),
            (None, Some(json!(10)), plain(10)),
        ] {
            assert_eq!(parse(top_k, limit, 10), Ok(expected));
        }
        let capped = json!({"total": 4, "per": {"attributes": ["a", "b"], "limit": 2}});
        let per = Some(LimitPer {
            attributes: vec!["a".into(), "b".into()],
            limit: 2,
        });
        assert_eq!(parse(Some(4), Some(capped), 10), Ok(Some(Limit { total: 4, per })));
    }

    #[test]
    fn other_limits_are_refused() {
        for (limit, kind, part) in [
            (json!(11), Semantic, "at most 10"),
            (json!("1"), Shape, "an integer"),
            (
                json!({"per": {"attributes": ["a"], "limit": 1}}),
                Shape,
                "keys total and per",
            ),
            (json!({"total": 1, "per": 1}), Shape, "limit.per must be"),
            (json!({"total": 1, "per": []}), Shape, "limit.per must be"),
            (json!({"total": 1, "per": {}}), Shape, "limit.per must be"),
            (
                json!({"total": 1, "per": {"attributes": "a", "limit": 1}}),
                Shape,
                "limit.per must be",
            ),
            (
                json!({"total": 1, "per": {"attributes": [1], "limit": 1}}),
                Shape,
                "limit.per must be",
            ),
            (
                json!({"total": 1, "per": {"attributes": ["a"], "limit": -1}}),
                Shape,
                "limit.per must be",
            ),
            (
                json!({"total": 1, "per": {"attributes": ["a"], "limit": 1, "x": 1}}),
                Shape,
                "\"x\"",
            ),
            (
                json!({"total": 1, "per": {"attributes": ["a"], "limit": 0}}),
                Semantic,
                "at least 1",
            ),
            (
                json!({"total": 1, "per": {"attributes": [], "limit": 1}}),
                Semantic,
                "at least one attribute",
            ),
        ] {
            let error = parse(None, Some(limit.clone()), 10).expect_err(&limit.to_string());
            assert_eq!(error.kind, kind, "{limit}");
            assert!(error.message.contains(part), "{limit}: {}", error.message);
        }
        assert!(parse(Some(1), Some(json!(2)), 10).is_err());
        let limits = Limits::default();
        assert_eq!(offset(Some(99_990), 10, &limits), Ok(99_990));
        assert_eq!(offset(None, 10_000, &limits), Ok(0));
        assert!(offset(Some(99_991), 10, &limits).is_err());
        assert!(offset(Some(u64::MAX), 10, &limits).is_err());
    }
}
