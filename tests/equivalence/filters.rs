//! Filters over whatever a namespace has.

use serde_json::{Value as Json, json};
use shoal::base::Rng;

use super::schema::{Kind, Shape, WORDS, sentence};
use super::{any, once_in};

/// Any filter, at most so deep.
pub fn filter(shape: &Shape, rng: &Rng, ids: u64, depth: u32) -> Json {
    if depth > 0 && once_in(rng, 2) {
        let parts = || -> Vec<Json> {
            (0..1 + rng.below(3))
                .map(|_| filter(shape, rng, ids, depth - 1))
                .collect()
        };
        return match rng.below(3) {
            0 => json!(["And", parts()]),
            1 => json!(["Or", parts()]),
            _ => json!(["Not", filter(shape, rng, ids, depth - 1)]),
        };
    }
    let mut testable = shape.filterable(rng, |kind| {
        !kind.is_vector() && !kind.is_text() && !matches!(kind, Kind::Raw | Kind::Tokens)
    });
    testable.extend(shape.searched());
    testable.extend(shape.names(|kind| kind == Kind::Tokens));
    let mut paths = shape.names(|kind| kind == Kind::Path);
    paths.retain(|(name, _)| ["glob", "regex", "fuzzy"].iter().any(|option| shape.has(name, option)));
    testable.extend(paths);
    if testable.is_empty() || once_in(rng, 8) {
        return by_id(shape, rng, ids);
    }
    let (name, kind) = *any(rng, &testable);
    test(shape, rng, name, kind)
}

fn by_id(shape: &Shape, rng: &Rng, ids: u64) -> Json {
    let id = || shape.ids.id(rng.below(ids + 2));
    match rng.below(3) {
        0 => json!(["id", any(rng, &["Eq", "NotEq", "Lt", "Lte", "Gt", "Gte"]), id()]),
        1 => json!(["id", "In", (0..rng.below(5)).map(|_| id()).collect::<Vec<_>>()]),
        _ => json!(["id", "NotIn", (0..rng.below(5)).map(|_| id()).collect::<Vec<_>>()]),
    }
}

fn test(shape: &Shape, rng: &Rng, name: &str, kind: Kind) -> Json {
    let value = || shape.value(kind, rng);
    if kind == Kind::Tokens {
        let operator = *any(rng, &["ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence"]);
        return json!([name, operator, value()]);
    }
    if kind.is_text() {
        let operator = *any(rng, &["ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence"]);
        let text = match once_in(rng, 2) {
            true => any(rng, WORDS).to_string(),
            false => sentence(rng),
        };
        return match operator != "ContainsTokenSequence" && once_in(rng, 3) {
            true => {
                let text: String = text.chars().take(2).collect();
                json!([name, operator, text, {"last_as_prefix": true}])
            }
            false => json!([name, operator, text]),
        };
    }
    let patterns_only = kind == Kind::Path && !shape.is_filterable(name);
    if !patterns_only && once_in(rng, 7) {
        return json!([name, any(rng, &["Eq", "NotEq"]), null]);
    }
    if kind.is_array() {
        let element = || shape.value(element(kind), rng);
        let numeric = ["AnyLt", "AnyLte", "AnyGt", "AnyGte"];
        let has_numbers = !matches!(kind, Kind::Strs | Kind::Uuids | Kind::Bools);
        return match rng.below(5) {
            0 => json!([name, any(rng, &["Eq", "NotEq"]), value()]),
            1 if has_numbers => json!([name, any(rng, &numeric), element()]),
            2 => json!([
                name,
                any(rng, &["ContainsAny", "NotContainsAny"]),
                [element(), element()]
            ]),
            3 => json!([name, any(rng, &["In", "NotIn"]), [element(), element()]]),
            _ => json!([name, any(rng, &["Contains", "NotContains"]), element()]),
        };
    }
    let patterns = ["glob", "regex", "fuzzy"].map(|option| kind == Kind::Path && shape.has(name, option));
    let pattern = match kind {
        Kind::Path if patterns_only || once_in(rng, 2) => {
            let on: Vec<u64> = (0..3).filter(|i| patterns[*i as usize]).collect();
            if on.is_empty() { 4 } else { *any(rng, &on) }
        }
        Kind::Path => 3 + rng.below(2),
        _ => rng.below(5),
    };
    match (kind, pattern) {
        (Kind::Path | Kind::Str, 0) => {
            let patterns = ["*e*", "*.rs", "/sea*/**", "?e?", "*[rs]", "{otter,sea}*", "*", "/W*"];
            json!([
                name,
                any(rng, &["Glob", "NotGlob", "IGlob", "NotIGlob"]),
                any(rng, &patterns)
            ])
        }
        (Kind::Path, 1) => json!([
            name,
            "Regex",
            any(rng, &["sea.*rs$", "^/w", "[aeiou]{2}", "ot+er", "x|md", ""])
        ]),
        (Kind::Path, 2) => json!([
            name, "Fuzzy", any(rng, &["walrs", "riber tide", "/otter/sea.md"]),
            {"max_edit_distance": [{"min_query_chars": 6, "distance": 1}, {"min_query_chars": 9, "distance": 2}],
             "case_sensitive": once_in(rng, 2)},
        ]),
        (Kind::Bool, _) => json!([name, any(rng, &["Eq", "NotEq"]), value()]),
        (_, 3) => json!([
            name,
            any(rng, &["In", "NotIn"]),
            (0..rng.below(4)).map(|_| value()).collect::<Vec<_>>()
        ]),
        _ => json!([name, any(rng, &["Eq", "NotEq", "Lt", "Lte", "Gt", "Gte"]), value()]),
    }
}

fn element(kind: Kind) -> Kind {
    match kind {
        Kind::Strs => Kind::Str,
        Kind::Ints => Kind::Int,
        Kind::Floats => Kind::Float,
        Kind::UInts => Kind::UInt,
        Kind::Uuids => Kind::Uuid,
        Kind::Bools => Kind::Bool,
        Kind::Dates => Kind::Date,
        scalar => scalar,
    }
}
