//! Synonym sets, presets and stop words: kept, listed, removed.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::{At, ok, parse_json};
use crate::api::Api;
use crate::api::door::Caller;
use crate::api::error::{Answer, ApiError};
use crate::api::handlers::read_body;
use crate::control::Control;
use crate::control::search_settings::{Preset, SETTING_BYTES_MAX, Setting, StopwordSet, Synonym, SynonymSet};
use crate::error::{Error, ErrorKind, Result};
use crate::model::NamespaceName;

/// What begins the names of sets that belong to one collection; no other set can have it.
const OF_COLLECTION: &str = "collections/";
/// The most items of a set.
const ITEMS_MAX: usize = 10_000;

/// A synonym set.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "TypesenseSynonymSet")]
pub struct SetInput {
    pub items: Vec<ItemInput>,
}

/// Synonyms of each other, or of `root` alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "TypesenseSynonym")]
pub struct ItemInput {
    /// Named by the path, where that has one.
    pub id: Option<String>,
    pub synonyms: Vec<String>,
    pub root: Option<String>,
    pub locale: Option<String>,
    pub symbols_to_index: Option<Vec<String>>,
}

/// Parameters of searches.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "TypesensePreset")]
pub struct PresetInput {
    #[schemars(with = "Map<String, Json>")]
    pub value: Json,
}

/// Words to leave out of queries.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "TypesenseStopwords")]
pub struct StopwordsInput {
    pub stopwords: Vec<String>,
    pub locale: Option<String>,
}

impl ItemInput {
    /// * `id` — of the path
    fn checked(self, id: Option<&str>) -> Result<Synonym> {
        let id = id.map(str::to_owned).or(self.id).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Error::invalid("Missing or invalid `id` field."))?;
        if self.synonyms.is_empty() || self.synonyms.iter().any(|s| s.trim().is_empty()) {
            return Err(Error::invalid("Could not find a valid string array of `synonyms`"));
        }
        Ok(Synonym {
            id,
            synonyms: self.synonyms,
            root: self.root.filter(|r| !r.is_empty()),
            locale: self.locale.filter(|l| !l.is_empty()),
            symbols_to_index: self.symbols_to_index,
        })
    }
}

/// The set of the synonyms that a collection has for itself.
pub fn set_of_collection(name: &NamespaceName) -> String {
    format!("{OF_COLLECTION}{name}")
}

/// Whether a set belongs to one collection.
pub fn is_of_collection(set: &str) -> bool {
    set.starts_with(OF_COLLECTION)
}

fn none<T: Setting>(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("There is no {} named `{name}`.", T::WHAT))
}

async fn read<T: serde::de::DeserializeOwned>(api: &Api, request: Request) -> Result<T, ApiError> {
    let (_, body) = read_body(api, request, SETTING_BYTES_MAX as u64).await?;
    Ok(parse_json(&body.bytes)?)
}

async fn get<T: Setting>(control: &Control, caller: &Caller, name: &str) -> Result<T> {
    let found = control.setting::<T>(&caller.org, name).await?;
    found.map(|v| T::clone(&v)).ok_or_else(|| none::<T>(name))
}

async fn remove<T: Setting>(control: &Control, caller: &Caller, name: &str) -> Result<T> {
    let removed = control.remove_setting::<T>(&caller.org, name).await?;
    removed.ok_or_else(|| none::<T>(name))
}

fn check_set_name(name: &str) -> Result<()> {
    match name.starts_with(OF_COLLECTION) {
        true => Err(Error::invalid(format!(
            "the name of a synonym set cannot begin with `{OF_COLLECTION}`"
        ))),
        false => Ok(()),
    }
}

/// `GET /synonym_sets`
pub async fn list_sets(State(api): State<Api>, caller: Caller) -> Answer {
    let mut sets = api.inner.control.settings::<SynonymSet>(&caller.org).await?;
    sets.retain(|set| !set.name.starts_with(OF_COLLECTION));
    Ok(ok(StatusCode::OK, &sets))
}

/// `GET /synonym_sets/{name}`
pub async fn get_set(State(api): State<Api>, at: At) -> Answer {
    let name = at.name("name");
    check_set_name(name)?;
    Ok(ok(
        StatusCode::OK,
        &get::<SynonymSet>(&api.inner.control, &at.caller, name).await?,
    ))
}

/// `PUT /synonym_sets/{name}`
pub async fn put_set(State(api): State<Api>, at: At, request: Request) -> Answer {
    let name = at.name("name");
    check_set_name(name)?;
    let input: SetInput = read(&api, request).await?;
    if input.items.len() > ITEMS_MAX {
        return Err(ApiError::invalid(format!(
            "a synonym set can have at most {ITEMS_MAX} items"
        )));
    }
    let items: Vec<Synonym> = input
        .items
        .into_iter()
        .map(|i| i.checked(None))
        .collect::<Result<_>>()?;
    let mut ids: Vec<&str> = items.iter().map(|i| i.id.as_str()).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ApiError::invalid(format!("two items have the id `{}`", pair[0])));
    }
    let set = SynonymSet {
        name: name.to_owned(),
        items,
    };
    api.inner.control.put_setting(&at.caller.org, name, set.clone()).await?;
    Ok(ok(StatusCode::OK, &set))
}

/// `DELETE /synonym_sets/{name}`
pub async fn delete_set(State(api): State<Api>, at: At) -> Answer {
    let name = at.name("name");
    check_set_name(name)?;
    remove::<SynonymSet>(&api.inner.control, &at.caller, name).await?;
    Ok(ok(StatusCode::OK, &json!({ "name": name })))
}

async fn item(api: &Api, at: &At, set: &str) -> Result<Synonym> {
    let found = api.inner.control.setting::<SynonymSet>(&at.caller.org, set).await?;
    let id = at.name("id");
    let item = found.and_then(|set| set.items.iter().find(|i| i.id == id).cloned());
    item.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("Could not find that `id`: there is no synonym `{id}`."),
        )
    })
}

/// * `make` — whether the set is made when there is none
async fn put_item_into(api: &Api, at: &At, set: &str, input: ItemInput, make: bool) -> Result<Synonym> {
    let item = input.checked(Some(at.name("id")))?;
    let control = &api.inner.control;
    control
        .change_setting::<SynonymSet>(&at.caller.org, set, |stored| {
            let mut stored = match (stored, make) {
                (Some(stored), _) => stored,
                (None, true) => SynonymSet {
                    name: set.to_owned(),
                    items: Vec::new(),
                },
                (None, false) => return Err(none::<SynonymSet>(set)),
            };
            match stored.items.iter().position(|i| i.id == item.id) {
                Some(at) => stored.items[at] = item.clone(),
                None if stored.items.len() >= ITEMS_MAX => {
                    return Err(Error::invalid(format!(
                        "a synonym set can have at most {ITEMS_MAX} items"
                    )));
                }
                None => stored.items.push(item.clone()),
            }
            Ok(Some(stored))
        })
        .await?;
    Ok(item)
}

async fn delete_item_from(api: &Api, at: &At, set: &str) -> Result<Json> {
    let id = at.name("id");
    let control = &api.inner.control;
    control
        .change_setting::<SynonymSet>(&at.caller.org, set, |stored| {
            let absent = || Error::new(ErrorKind::NotFound, "Could not find that `id`.");
            let mut stored = stored.ok_or_else(absent)?;
            let before = stored.items.len();
            stored.items.retain(|i| i.id != id);
            match stored.items.len() < before {
                true => Ok(Some(stored)),
                false => Err(absent()),
            }
        })
        .await?;
    Ok(json!({ "id": id }))
}

/// `GET /synonym_sets/{name}/items`
pub async fn list_items(State(api): State<Api>, at: At) -> Answer {
    let name = at.name("name");
    check_set_name(name)?;
    let set = get::<SynonymSet>(&api.inner.control, &at.caller, name).await?;
    Ok(ok(StatusCode::OK, &set.items))
}

/// `GET /synonym_sets/{name}/items/{id}`
pub async fn get_item(State(api): State<Api>, at: At) -> Answer {
    check_set_name(at.name("name"))?;
    Ok(ok(StatusCode::OK, &item(&api, &at, at.name("name")).await?))
}

/// `PUT /synonym_sets/{name}/items/{id}`
pub async fn put_item(State(api): State<Api>, at: At, request: Request) -> Answer {
    check_set_name(at.name("name"))?;
    let input: ItemInput = read(&api, request).await?;
    let item = put_item_into(&api, &at, at.name("name"), input, false).await?;
    Ok(ok(StatusCode::OK, &item))
}

/// `DELETE /synonym_sets/{name}/items/{id}`
pub async fn delete_item(State(api): State<Api>, at: At) -> Answer {
    check_set_name(at.name("name"))?;
    let deleted = delete_item_from(&api, &at, at.name("name")).await?;
    Ok(ok(StatusCode::OK, &deleted))
}

/// `GET /collections/{collection}/synonyms`
pub async fn list_synonyms(State(api): State<Api>, at: At) -> Answer {
    let set = set_of_collection(&at.namespace()?);
    let found = api.inner.control.setting::<SynonymSet>(&at.caller.org, &set).await?;
    let items = found.map(|set| set.items.clone()).unwrap_or_default();
    Ok(ok(StatusCode::OK, &json!({ "synonyms": items })))
}

/// `GET /collections/{collection}/synonyms/{id}`
pub async fn get_synonym(State(api): State<Api>, at: At) -> Answer {
    let set = set_of_collection(&at.namespace()?);
    Ok(ok(StatusCode::OK, &item(&api, &at, &set).await?))
}

/// `PUT /collections/{collection}/synonyms/{id}`
pub async fn put_synonym(State(api): State<Api>, at: At, request: Request) -> Answer {
    let set = set_of_collection(&at.namespace()?);
    let input: ItemInput = read(&api, request).await?;
    Ok(ok(StatusCode::OK, &put_item_into(&api, &at, &set, input, true).await?))
}

/// `DELETE /collections/{collection}/synonyms/{id}`
pub async fn delete_synonym(State(api): State<Api>, at: At) -> Answer {
    let set = set_of_collection(&at.namespace()?);
    Ok(ok(StatusCode::OK, &delete_item_from(&api, &at, &set).await?))
}

/// `GET /presets`
pub async fn list_presets(State(api): State<Api>, caller: Caller) -> Answer {
    let presets = api.inner.control.settings::<Preset>(&caller.org).await?;
    Ok(ok(StatusCode::OK, &json!({ "presets": presets })))
}

/// `GET /presets/{name}`
pub async fn get_preset(State(api): State<Api>, at: At) -> Answer {
    let preset = get::<Preset>(&api.inner.control, &at.caller, at.name("name")).await?;
    Ok(ok(StatusCode::OK, &preset))
}

/// `PUT /presets/{name}`
pub async fn put_preset(State(api): State<Api>, at: At, request: Request) -> Answer {
    let input: PresetInput = read(&api, request).await?;
    if !input.value.is_object() {
        return Err(ApiError::invalid(
            "Bad JSON: `value` must be an object of search parameters.",
        ));
    }
    let preset = Preset {
        name: at.name("name").to_owned(),
        value: input.value,
    };
    api.inner
        .control
        .put_setting(&at.caller.org, at.name("name"), preset.clone())
        .await?;
    Ok(ok(StatusCode::OK, &preset))
}

/// `DELETE /presets/{name}`
pub async fn delete_preset(State(api): State<Api>, at: At) -> Answer {
    let removed = remove::<Preset>(&api.inner.control, &at.caller, at.name("name")).await?;
    Ok(ok(StatusCode::OK, &removed))
}

/// `GET /stopwords`
pub async fn list_stopwords(State(api): State<Api>, caller: Caller) -> Answer {
    let sets = api.inner.control.settings::<StopwordSet>(&caller.org).await?;
    Ok(ok(StatusCode::OK, &json!({ "stopwords": sets })))
}

/// `GET /stopwords/{name}`
pub async fn get_stopwords(State(api): State<Api>, at: At) -> Answer {
    let set = get::<StopwordSet>(&api.inner.control, &at.caller, at.name("name")).await?;
    Ok(ok(StatusCode::OK, &json!({ "stopwords": set })))
}

/// `PUT /stopwords/{name}`
pub async fn put_stopwords(State(api): State<Api>, at: At, request: Request) -> Answer {
    let input: StopwordsInput = read(&api, request).await?;
    if input.stopwords.is_empty() || input.stopwords.len() > ITEMS_MAX {
        return Err(ApiError::invalid(format!(
            "Parameter `stopwords` is required and must have 1 to {ITEMS_MAX} words."
        )));
    }
    let set = StopwordSet {
        id: at.name("name").to_owned(),
        stopwords: input.stopwords,
        locale: input.locale.filter(|l| !l.is_empty()),
    };
    api.inner
        .control
        .put_setting(&at.caller.org, at.name("name"), set.clone())
        .await?;
    Ok(ok(StatusCode::OK, &set))
}

/// `DELETE /stopwords/{name}`
pub async fn delete_stopwords(State(api): State<Api>, at: At) -> Answer {
    let removed = remove::<StopwordSet>(&api.inner.control, &at.caller, at.name("name")).await?;
    Ok(ok(StatusCode::OK, &json!({ "id": removed.id })))
}
