//! Queries of every kind.

use serde_json::{Value as Json, json};
use shoal::base::Rng;

use super::filters::filter;
use super::schema::{Kind, Shape, WORDS, floats, sentence};
use super::{any, once_in};

/// A query, and how much of its answer does not depend on where rows are.
#[derive(Clone, Debug)]
pub struct Asked {
    pub body: Json,
    /// Whether texts are scored: scores count deleted rows until they are merged away, so that after a deletion only
    /// which rows are found is the same.
    pub scored: bool,
}

/// Any query.
///
/// * `ids` — about how many rows there may be
/// * `exact` — whether scores of texts are the same to the last bit
pub fn query(shape: &Shape, rng: &Rng, ids: u64, exact: bool) -> Asked {
    if once_in(rng, 10) {
        let one = || single(shape, rng, ids, exact);
        let queries: Vec<Asked> = (0..2 + rng.below(2)).map(|_| one()).collect();
        let scored = queries.iter().any(|q| q.scored);
        let queries: Vec<Json> = queries.into_iter().map(|q| q.body).collect();
        return Asked {
            body: json!({ "queries": queries }),
            scored,
        };
    }
    single(shape, rng, ids, exact)
}

fn single(shape: &Shape, rng: &Rng, ids: u64, exact: bool) -> Asked {
    if once_in(rng, 4) {
        return aggregate(shape, rng, ids);
    }
    let rank = rank(shape, rng, ids);
    let mut body = json!({});
    let mut scored = false;
    let needs_filter = matches!(&rank, Some((rank, _)) if rank[1] == "kNN");
    if let Some((rank, is_scored)) = rank {
        (body["rank_by"], scored) = (rank, is_scored);
    }
    let no_rank = body.get("rank_by").is_none();
    if needs_filter || no_rank || !once_in(rng, 3) {
        body["filters"] = filter(shape, rng, ids, 2);
    }
    // What is cut off of rows with the same score is told by their ids.
    let cuts = exact || !scored;
    let total = match !cuts || once_in(rng, 2) {
        true => 10_000,
        false => rng.below(12),
    };
    body["limit"] = json!(total);
    if cuts && !no_rank && once_in(rng, 4) {
        body["offset"] = json!(rng.below(5));
    }
    let groups = shape.filterable(rng, Kind::is_scalar);
    if cuts && once_in(rng, 5) && !groups.is_empty() {
        let (name, _) = any(rng, &groups);
        let total = total.max(1);
        body["limit"] = json!({"total": total, "per": {"attributes": [name], "limit": 1 + rng.below(2)}});
    }
    match rng.below(3) {
        0 => body["include_attributes"] = json!(true),
        1 => {
            let names: Vec<_> = shape
                .names(|_| once_in(rng, 2))
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            body["include_attributes"] = json!(names);
        }
        _ => {}
    }
    if once_in(rng, 3) {
        let (compute, computed_scores) = compute(shape, rng, ids);
        scored |= computed_scores;
        body["compute_attributes"] = compute;
    }
    Asked { body, scored }
}

/// A ranking and whether texts are scored in it; `None` for a lookup.
fn rank(shape: &Shape, rng: &Rng, ids: u64) -> Option<(Json, bool)> {
    let vectors = shape.names(Kind::is_vector);
    match rng.below(6) {
        0 => None,
        1 | 2 if !vectors.is_empty() => Some((nearest(rng, any(rng, &vectors)), false)),
        3 | 4 => {
            let (score, scored) = score(shape, rng, ids, 2);
            Some((score, scored))
        }
        _ => Some((order(shape, rng), false)),
    }
}

fn order(shape: &Shape, rng: &Rng) -> Json {
    let mut keys = shape.filterable(rng, Kind::is_scalar);
    keys.push(("id", Kind::Int));
    let key = |keys: &mut Vec<(&'static str, Kind)>| {
        let at = rng.below(keys.len() as u64) as usize;
        json!([keys.swap_remove(at).0, any(rng, &["asc", "desc"])])
    };
    let first = key(&mut keys);
    match once_in(rng, 2) && !keys.is_empty() {
        true => json!([first, key(&mut keys)]),
        false => first,
    }
}

fn nearest(rng: &Rng, (name, kind): &(&str, Kind)) -> Json {
    let how = any(rng, &["ANN", "kNN"]);
    match kind {
        Kind::Vector => json!([name, how, floats(3, rng)]),
        Kind::Stored => json!([name, "kNN", floats(2, rng)]),
        Kind::Multi => json!([name, how, [floats(2, rng), floats(2, rng)]]),
        _ => json!([name, "SparseKNN", {*any(rng, WORDS): 1.0, *any(rng, WORDS): 0.5}]),
    }
}

/// A score and whether texts are part of it.
fn score(shape: &Shape, rng: &Rng, ids: u64, depth: u32) -> (Json, bool) {
    if depth > 0 && once_in(rng, 3) {
        let parts: Vec<_> = (0..1 + rng.below(3))
            .map(|_| score(shape, rng, ids, depth - 1))
            .collect();
        let scored = parts.iter().any(|p| p.1);
        let parts: Vec<Json> = parts.into_iter().map(|p| p.0).collect();
        return match rng.below(3) {
            0 => (json!(["Sum", parts]), scored),
            1 => (json!(["Max", parts]), scored),
            _ => (json!(["Product", rng.below(5) as f64 / 2.0, parts[0]]), scored),
        };
    }
    let texts = shape.searched();
    let numbers = shape.filterable(rng, Kind::is_number);
    let dates = shape.filterable(rng, |kind| kind == Kind::Date);
    match rng.below(5) {
        0 | 1 if !texts.is_empty() => {
            let (name, _) = any(rng, &texts);
            (text(rng, name), true)
        }
        2 if !numbers.is_empty() => {
            let (name, _) = any(rng, &numbers);
            let attribute = json!(["Attribute", name]);
            let score = match rng.below(4) {
                0 => json!(["Max", 0, attribute]),
                1 => json!(["Saturate", attribute, {"midpoint": 1.5, "exponent": 2}]),
                2 => json!(["Decay", ["Dist", attribute, 1], {"midpoint": 2}]),
                _ => json!(["Dist", attribute, 0.5]),
            };
            (score, false)
        }
        3 if !dates.is_empty() => {
            let dist = json!(["Dist", ["Attribute", any(rng, &dates).0], "2024-01-03T12:00:00Z"]);
            (json!(["Decay", dist, {"midpoint": "2d"}]), false)
        }
        _ => (filter(shape, rng, ids, 1), false),
    }
}

fn text(rng: &Rng, name: &str) -> Json {
    match rng.below(3) {
        0 => json!([name, "BM25", any(rng, WORDS)]),
        1 => json!([name, "BM25", sentence(rng)]),
        _ => {
            let part: String = any(rng, WORDS).chars().take(2).collect();
            json!([name, "BM25", format!("{} {part}", any(rng, WORDS)), {"last_as_prefix": true}])
        }
    }
}

/// Computed attributes and whether texts are scored by them.
fn compute(shape: &Shape, rng: &Rng, ids: u64) -> (Json, bool) {
    let mut compute = json!({});
    let (a_score, mut scored) = (score(shape, rng, ids, 1), false);
    if once_in(rng, 2) {
        compute["filter"] = filter(shape, rng, ids, 1);
    }
    if once_in(rng, 2) {
        (compute["score"], scored) = a_score;
    }
    let vectors = shape.names(|kind| matches!(kind, Kind::Vector | Kind::Stored));
    if !vectors.is_empty() && once_in(rng, 2) {
        let (name, kind) = any(rng, &vectors);
        let dims = if *kind == Kind::Vector { 3 } else { 2 };
        compute["dist"] = json!([name, "VectorDist", floats(dims, rng)]);
    }
    let texts = shape.searched();
    if !texts.is_empty() && once_in(rng, 2) {
        let (name, _) = any(rng, &texts);
        let options = json!({
            "rank_fragments_by": ["$fragment", "BM25", any(rng, WORDS)], "include_offsets": "utf-8",
            "fragment_by": any(rng, &["none", "sentence", "word"]), "fragment_limit": 1 + rng.below(4),
        });
        compute["highlight"] = json!(["Highlight", name, options]);
    }
    if compute.as_object().is_none_or(|c| c.is_empty()) {
        compute["filter"] = filter(shape, rng, ids, 1);
    }
    (compute, scored)
}

fn aggregate(shape: &Shape, rng: &Rng, ids: u64) -> Asked {
    let (numbers, scalars, arrays) = (
        shape.filterable(rng, Kind::is_number),
        shape.filterable(rng, Kind::is_scalar),
        shape.filterable(rng, Kind::is_array),
    );
    let mut aggregates = json!({"rows": ["Count"]});
    if let (Some(_), true) = (numbers.first(), once_in(rng, 2)) {
        let (name, _) = any(rng, &numbers);
        aggregates["number"] = json!([any(rng, &["Sum", "Avg", "Min", "Max"]), name]);
        aggregates["sum"] = json!(["Sum", any(rng, &numbers).0]);
    }
    if let (Some(_), true) = (scalars.first(), once_in(rng, 2)) {
        let (name, _) = any(rng, &scalars);
        aggregates["least"] = json!([any(rng, &["Min", "Max", "CountDistinct"]), name]);
        aggregates["top"] = json!(["Top", any(rng, &scalars).0, 1 + rng.below(4)]);
    }
    if let (Some(_), true) = (arrays.first(), once_in(rng, 3)) {
        aggregates["elements"] = json!(["Top", any(rng, &arrays).0, 3]);
        aggregates["distinct"] = json!(["CountDistinct", any(rng, &arrays).0]);
    }
    let mut body = json!({ "aggregate_by": aggregates });
    if once_in(rng, 2) {
        body["filters"] = filter(shape, rng, ids, 2);
    }
    let mut keys = Vec::new();
    if !scalars.is_empty() && once_in(rng, 2) {
        // Groups of segments are found another way when all keys are single values, however many those are.
        let mut names: Vec<_> = (0..1 + rng.below(3)).map(|_| any(rng, &scalars).0).collect();
        names.sort_unstable();
        names.dedup();
        keys.extend(names.into_iter().map(|name| json!(name)));
    }
    if !arrays.is_empty() && once_in(rng, 4) {
        keys.push(json!({"each": ["ForEachUnique", any(rng, &arrays).0]}));
    }
    if !keys.is_empty() {
        body["group_by"] = json!(keys);
        body["limit"] = json!(if once_in(rng, 2) { 10_000 } else { rng.below(6) });
    }
    Asked { body, scored: false }
}
