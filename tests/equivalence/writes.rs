//! Writes of every kind.

use serde_json::{Map, Value as Json, json};
use shoal::base::Rng;

use super::filters::filter;
use super::schema::{Kind, Shape};
use super::{any, once_in};

/// How many different ids there are in a history with overwrites.
pub const IDS: u64 = 50;

fn row(shape: &Shape, rng: &Rng, id: u64) -> Json {
    let mut row = Map::from_iter([("id".to_owned(), shape.ids.id(id))]);
    for (name, kind) in &shape.attributes {
        // Vectors of all columns are wanted.
        if kind.is_vector() || !once_in(rng, 5) {
            row.insert((*name).to_owned(), shape.value(*kind, rng));
        }
    }
    Json::Object(row)
}

fn patch(shape: &Shape, rng: &Rng) -> Map<String, Json> {
    let mut patch = Map::new();
    for (name, kind) in shape.names(|kind| !kind.is_vector()) {
        match rng.below(6) {
            0 => drop(patch.insert(name.to_owned(), Json::Null)),
            1 | 2 => drop(patch.insert(name.to_owned(), shape.value(kind, rng))),
            _ => {}
        }
    }
    patch
}

fn patched(shape: &Shape, rng: &Rng, id: u64, columns: &Map<String, Json>) -> Json {
    let mut row: Map<String, Json> = columns
        .iter()
        .map(|(name, value)| {
            let kind = shape.attributes.iter().find(|(n, _)| n == name).map(|(_, kind)| *kind);
            let other = kind.filter(|_| once_in(rng, 2)).map(|kind| shape.value(kind, rng));
            (name.clone(), other.unwrap_or_else(|| value.clone()))
        })
        .collect();
    row.insert("id".to_owned(), shape.ids.id(id));
    Json::Object(row)
}

/// Rows that are new.
///
/// * `next` — the number of the first
pub fn append(shape: &Shape, rng: &Rng, next: &mut u64) -> Json {
    let count = 1 + rng.below(any(rng, &[3, 12, 60]) + 1);
    let rows: Vec<Json> = (*next..*next + count).map(|id| row(shape, rng, id)).collect();
    *next += count;
    json!({ "upsert_rows": rows })
}

fn condition(shape: &Shape, rng: &Rng) -> Json {
    let numbers = shape.filterable(rng, Kind::is_number);
    match numbers.is_empty() || once_in(rng, 2) {
        true => filter(shape, rng, IDS, 1),
        false => {
            let (name, _) = any(rng, &numbers);
            json!([name, any(rng, &["Lt", "Gte", "NotEq"]), {"$ref_new": name}])
        }
    }
}

/// A write of several operations at once.
pub fn mixed(shape: &Shape, rng: &Rng) -> Json {
    let mut free: Vec<u64> = (0..IDS).collect();
    let mut some = |most: u64| -> Vec<u64> {
        let mut take = || free.swap_remove(rng.below(free.len() as u64) as usize);
        (0..rng.below(most + 1)).map(|_| take()).collect()
    };
    let (upserts, patches, deletes) = (some(8), some(5), some(4));
    let mut body = Map::new();
    if !upserts.is_empty() {
        let rows: Vec<Json> = upserts.iter().map(|id| row(shape, rng, *id)).collect();
        body.insert("upsert_rows".to_owned(), rows.into());
        if once_in(rng, 4) {
            body.insert("upsert_condition".to_owned(), condition(shape, rng));
        }
    }
    let columns = patch(shape, rng);
    if !patches.is_empty() && !columns.is_empty() {
        let rows: Vec<Json> = patches.iter().map(|id| patched(shape, rng, *id, &columns)).collect();
        body.insert("patch_rows".to_owned(), rows.into());
        if once_in(rng, 3) {
            body.insert("patch_condition".to_owned(), condition(shape, rng));
        }
    }
    if !deletes.is_empty() {
        let ids: Vec<Json> = deletes.iter().map(|id| shape.ids.id(*id)).collect();
        body.insert("deletes".to_owned(), ids.into());
        if once_in(rng, 3) {
            body.insert("delete_condition".to_owned(), condition(shape, rng));
        }
    }
    if once_in(rng, 6) {
        body.insert("delete_by_filter".to_owned(), filter(shape, rng, IDS, 2));
    }
    let columns = patch(shape, rng);
    if once_in(rng, 5) && !columns.is_empty() {
        let by_filter = json!({"filters": filter(shape, rng, IDS, 2), "patch": columns});
        body.insert("patch_by_filter".to_owned(), by_filter);
    }
    if once_in(rng, 3) {
        body.insert("return_affected_ids".to_owned(), true.into());
    }
    Json::Object(body)
}
