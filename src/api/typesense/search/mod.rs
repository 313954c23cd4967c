//! Searches in the words of Typesense's clients, on the engine of the other dialects.
//!
//! ```text
//! params (texts) → Search → words → translate → run → print
//! ```
//!
//! What a caller may see is not decided here: the engine's guard holds the filters and fields of scoped keys against
//! every query, and the schema that searches are translated by is the one that the caller may see.

mod highlight;
mod params;
mod print;
mod run;
#[cfg(test)]
mod tests;
mod translate;
mod words;

use axum::extract::{RawQuery, Request, State};
use axum::http::{Method, StatusCode};
use serde_json::{Map, Value as Json, json};

use super::{At, engine, ok, parse_json, require};
use crate::api::door::Caller;
use crate::api::error::{Answer, ApiError, status};
use crate::api::handlers::read_body;
use crate::api::needs::SEARCH_MANY;
use crate::api::{Api, metering};
use crate::auth::{Credential, Origin, Surface, TYPESENSE_KEY};
use crate::base::{Priority, Tenant, context};
use crate::control::Action;
use crate::control::search_settings::{Collection, Preset, StopwordSet, Synonym, SynonymSet};
use crate::error::{Error, ErrorKind, Result};
use crate::model::NamespaceName;
use crate::model::access::Access;
use std::sync::{Arc, Mutex};

use highlight::Highlighter;
use params::Search;

pub use params::{Params, of_query, split};
use run::Asked;
use translate::Plan;
use words::Words;

/// The most searches of one request.
const SEARCHES_MAX: usize = 50;
/// The most synonym sets of one search.
const SYNONYM_SETS_MAX: usize = 32;
/// How often a search is translated anew because the schema changed under it.
const ATTEMPTS: usize = 3;

/// `GET /collections/{collection}/documents/search`
pub async fn search(State(api): State<Api>, at: At, RawQuery(query): RawQuery) -> Answer {
    let params = params::of_query(query.as_deref().unwrap_or_default());
    let namespace = at.namespace()?;
    Ok(ok(StatusCode::OK, &one(&api, &at.caller, &namespace, params).await?))
}

/// `POST /multi_search`
pub async fn multi_search(
    State(api): State<Api>,
    caller: Caller,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answer {
    let common = params::of_query(query.as_deref().unwrap_or_default());
    let (_, body) = read_body(&api, request, api.inner.engine.limits().query_body_bytes_max).await?;
    let mut body: Map<String, Json> = parse_json(&body.bytes)?;
    if body
        .get("union")
        .is_some_and(|u| *u == json!(true) || *u == json!("true"))
    {
        return Err(ApiError::invalid(
            "union searches are not supported by this server; send the searches without union and merge their hits",
        ));
    }
    if !body.contains_key("searches")
        && let Some(name) = common.get("preset")
        && let Some(preset) = api.inner.control.setting::<Preset>(&caller.org, name).await?
        && let Some(searches) = preset.value.get("searches")
    {
        body.insert("searches".to_owned(), searches.clone());
    }
    let Some(Json::Array(searches)) = body.remove("searches") else {
        return Err(ApiError::invalid("Missing `searches` array."));
    };
    let max = searches_max(&caller, &common);
    check_searches(searches.len(), max)?;
    // Everything is authorised before anything is searched.
    let mut asked = Vec::with_capacity(searches.len());
    for search in &searches {
        asked.push(authorised(&api, &caller, &common, search).await?);
    }
    // A search may bring a key of its own, which limits those that are made with it.
    for (of_one, _, _) in &asked {
        let with_it = asked
            .iter()
            .filter(|(c, _, _)| c.principal.id == of_one.principal.id && c.org == of_one.org);
        check_searches(with_it.count(), searches_max(of_one, &common))?;
    }
    let mut results = Vec::with_capacity(asked.len());
    for (caller, namespace, params) in asked {
        context::set_tenant(Tenant::named(caller.org.as_str()));
        results.push(match one(&api, &caller, &namespace, params).await {
            Ok(answer) => answer,
            Err(error) if matches!(error.kind, ErrorKind::Unauthenticated | ErrorKind::Forbidden) => {
                return Err(error.into());
            }
            Err(error) => json!({"code": status(error.kind).as_u16(), "error": error.message}),
        });
    }
    Ok(ok(StatusCode::OK, &json!({ "results": results })))
}

fn check_searches(count: usize, max: usize) -> Result<()> {
    match count > max {
        true => Err(Error::invalid(format!(
            "Number of multi searches exceeds `limit_multi_searches` parameter: at most {max}."
        ))),
        false => Ok(()),
    }
}

/// How many searches a caller may send in a request: the least of what its key, the request and we say.
fn searches_max(caller: &Caller, common: &Params) -> usize {
    let embedded = caller.principal.embedded.as_ref();
    let embedded = embedded
        .and_then(|e| e.get("limit_multi_searches"))
        .and_then(Json::as_u64);
    let asked = common.get("limit_multi_searches").and_then(|n| n.parse::<u64>().ok());
    let least = [embedded, asked].into_iter().flatten().min().unwrap_or(u64::MAX);
    usize::try_from(least).unwrap_or(usize::MAX).min(SEARCHES_MAX)
}

/// Who searches what, with which parameters.
async fn authorised(
    api: &Api,
    caller: &Caller,
    common: &Params,
    search: &Json,
) -> Result<(Caller, NamespaceName, Params)> {
    let object = search
        .as_object()
        .ok_or_else(|| Error::invalid("Each element of `searches` must be an object."))?;
    let mut params = params::of_json(object);
    let key = params.remove(TYPESENSE_KEY);
    for (name, value) in common
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case(TYPESENSE_KEY))
    {
        params.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let caller = match key {
        None => caller.clone(),
        Some(key) => {
            let credential = Credential::new(key.as_bytes())?;
            let origin = Origin {
                ip: caller.ip,
                org: None,
            };
            let known = api.inner.auth.authenticate(&credential, Surface::Search, origin).await;
            // As if it had come alone: failures count for the address, and what the key may use is its own.
            let principal = known.map_err(|e| metering::unknown(api, caller.ip, e))?;
            let other = Caller {
                org: principal.org.clone(),
                principal: Arc::new(principal),
                ..caller.clone()
            };
            metering::admit(api, SEARCH_MANY, &Method::POST, &other).await?;
            other
        }
    };
    let embedded = caller.principal.embedded.as_ref();
    let embedded = embedded.and_then(|e| e.get("collection")).and_then(Json::as_str);
    let named = params.remove("collection").or_else(|| embedded.map(str::to_owned));
    let named = match named {
        Some(name) => name,
        None => preset_of(api, &caller, &params)
            .await?
            .and_then(|p| Some(p.value.get("collection")?.as_str()?.to_owned()))
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "Not found."))?,
    };
    require(&caller, Action::DocumentsSearch, &named)?;
    Ok((caller, NamespaceName::parse(&named)?, params))
}

async fn preset_of(api: &Api, caller: &Caller, params: &Params) -> Result<Option<Arc<Preset>>> {
    match params.get("preset") {
        None => Ok(None),
        Some(name) => api.inner.control.setting::<Preset>(&caller.org, name).await,
    }
}

/// Answers one search of a caller who may search the namespace.
async fn one(api: &Api, caller: &Caller, namespace: &NamespaceName, mut params: Params) -> Result<Json> {
    let start = api.inner.runtime.clock.boot();
    if let Some(embedded) = &caller.principal.embedded {
        params::embed(&mut params, embedded);
    }
    if let Some(preset) = preset_of(api, caller, &params).await? {
        params::preset(&mut params, &preset.value);
    }
    let search = Search::parse(&params)?;
    let control = &api.inner.control;
    let collection = control.setting::<Collection>(&caller.org, namespace.as_str()).await?;
    let stopwords = match &search.stopwords {
        None => None,
        Some(name) => {
            let found = control.setting::<StopwordSet>(&caller.org, name).await?;
            Some(found.ok_or_else(|| params::unknown(format!("Could not find the stopword set named `{name}`.")))?)
        }
    };
    let sets = synonym_sets(api, caller, namespace, &search, collection.as_deref()).await?;
    let words = match search.is_wildcard() {
        true => Words::default(),
        false => {
            let q = search.q.clone();
            // Sets may have ten thousand synonyms, all of which are looked at.
            let take_apart = move || {
                let groups: Vec<&Synonym> = sets.iter().flat_map(|set| &set.items).collect();
                let stop = stopwords.as_ref().map(|s| s.stopwords.as_slice()).unwrap_or_default();
                Words::of(&q, stop, &groups)
            };
            api.inner.runtime.cpu.run(Priority::Foreground, take_apart).await
        }
    };
    let engine = engine(api, caller, namespace);
    let asked = Asked {
        caller,
        engine: &engine,
        namespace,
        used: Mutex::default(),
    };
    let default_sort = collection.as_ref().map(|c| c.default_sorting_field.as_str());
    let mut attempt = 0;
    let (plan, found) = loop {
        attempt += 1;
        let glance = engine.glance(&caller.org, namespace, Access::Search, attempt > 1).await;
        let glance = glance.map_err(not_found)?;
        let outcome = match Plan::new(search.clone(), words.clone(), default_sort, glance.schema.clone()) {
            Ok(plan) => {
                let highlighted = highlighted(&plan);
                asked.run(&plan, &highlighted).await.map(|found| (plan, found))
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok((plan, found)) if attempt >= ATTEMPTS || found.schema == plan.schema => break (plan, found),
            Ok(_) => {}
            // What does not fit an old schema may fit the newest.
            Err(error)
                if attempt == 1
                    && matches!(error.kind, ErrorKind::Invalid | ErrorKind::NotFound)
                    && !engine
                        .glance(&caller.org, namespace, Access::Search, true)
                        .await
                        .is_ok_and(|newest| newest.schema == glance.schema) => {}
            Err(error) => return Err(not_found(error)),
        }
    };
    api.meter(caller, namespace, &asked.used(&found));
    let elapsed = api.inner.runtime.clock.boot().saturating_sub(start);
    let collection = namespace.as_str().to_owned();
    let print = move || {
        let mut highlighter = Highlighter::new(
            &plan.search,
            &plan.words_at(found.level),
            found.level.typos,
            &plan.schema,
        );
        let request = print::Request {
            search: &plan.search,
            collection: &collection,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            words: plan.words.own().len() + plan.words.phrases.len(),
        };
        print::answer(&request, &found, &mut highlighter)
    };
    Ok(api.inner.runtime.cpu.run(Priority::Foreground, print).await)
}

fn highlighted(plan: &Plan) -> Vec<String> {
    let highlighter = Highlighter::new(&plan.search, &plan.words, false, &plan.schema);
    highlighter.needs().map(str::to_owned).collect()
}

/// A collection that does not exist, in Typesense's words.
fn not_found(error: Error) -> Error {
    match error.kind == ErrorKind::NotFound && error.message.starts_with("namespace ") {
        true => Error::new(ErrorKind::NotFound, "Not found."),
        false => error,
    }
}

/// The synonym sets that apply to a search.
async fn synonym_sets(
    api: &Api,
    caller: &Caller,
    namespace: &NamespaceName,
    search: &Search,
    collection: Option<&Collection>,
) -> Result<Vec<Arc<SynonymSet>>> {
    if !search.enable_synonyms || search.is_wildcard() {
        return Ok(Vec::new());
    }
    let of_collection = collection.map(|c| c.synonym_sets.as_slice()).unwrap_or_default();
    let asked = search.synonym_sets.as_deref().unwrap_or_default();
    let own = super::settings::set_of_collection(namespace);
    let mut names: Vec<&str> = of_collection.iter().chain(asked).map(String::as_str).collect();
    // Those of one collection are for nobody who may search another.
    names.retain(|name| !super::settings::is_of_collection(name));
    names.push(&own);
    names.sort_unstable();
    names.dedup();
    // Each that is not known yet costs a request to the store.
    if names.len() > SYNONYM_SETS_MAX {
        return Err(Error::invalid(format!(
            "at most {SYNONYM_SETS_MAX} synonym sets can apply to a search"
        )));
    }
    let mut sets = Vec::new();
    for name in names {
        sets.extend(api.inner.control.setting::<SynonymSet>(&caller.org, name).await?);
    }
    Ok(sets)
}
