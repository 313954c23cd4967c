//! Routes that look at the database instead of using it: recall, plans, caches.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::error::{Answer, ApiError};
use super::handlers::{self, Target, json, read_body};
use super::openapi::expressions::{Filter, RankBy};
use super::query::object::{Named, Object};
use super::{Api, query, response};
use crate::model::{Invalid, Limits};
use crate::namespace::{RecallOf, RecallRequest};

/// Queries of a measurement, and rows of each, that does not say how many.
const NUM: usize = 25;
const TOP_K: usize = 10;

/// The body of a measurement of recall.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct RecallBody {
    /// How many stored vectors to draw as queries: 25 if absent. With `rank_by`: 1, or absent.
    #[schemars(range(min = 1, max = 1000))]
    num: Option<u64>,
    /// How many neighbours each query asks for: 10 if absent.
    #[schemars(range(min = 1, max = 10000))]
    top_k: Option<u64>,
    #[schemars(with = "Option<Filter>")]
    filters: Option<Json>,
    /// Whether the exact answers are returned too; `num` times `top_k` may be 10,000 then.
    include_ground_truth: Option<bool>,
    /// Measures this ANN query instead of stored vectors.
    #[schemars(with = "Option<RankBy>")]
    rank_by: Option<Json>,
    /// Queries instead of stored vectors, one after the other in one array.
    queries: Option<Vec<f32>>,
}

impl Named for RecallBody {
    const NAME: &'static str = "Recall";
}

/// The query string of a measurement of recall, as very old clients send it.
#[derive(Deserialize, JsonSchema)]
pub struct RecallOptions {
    /// How many stored vectors to draw as queries.
    #[schemars(range(min = 1, max = 1000))]
    num: Option<u64>,
    /// How many neighbours each query asks for.
    #[schemars(range(min = 1, max = 10000))]
    top_k: Option<u64>,
}

/// `POST /v1/namespaces/{namespace}/_debug/recall`
pub async fn recall(State(api): State<Api>, target: Target, request: Request) -> Answer {
    let limits = api.inner.engine.limits();
    let (_, body) = read_body(&api, request, limits.query_body_bytes_max).await?;
    let Object(asked): Object<RecallBody> = serde_json::from_slice(&body.bytes).map_err(|e| query::not_a_query(&e))?;
    measure(&api, &target, asked).await
}

/// `GET /v1/namespaces/{namespace}/_debug/recall`
pub async fn recall_by_query_string(
    State(api): State<Api>,
    target: Target,
    options: Result<Query<RecallOptions>, QueryRejection>,
) -> Answer {
    let wrong = |_| ApiError::invalid("num and top_k must be integers of at least 1");
    let Query(RecallOptions { num, top_k }) = options.map_err(wrong)?;
    let asked = RecallBody {
        num,
        top_k,
        ..RecallBody::default()
    };
    measure(&api, &target, asked).await
}

async fn measure(api: &Api, target: &Target, asked: RecallBody) -> Answer {
    let engine = target.engine(api)?;
    let asked = checked(asked, engine.limits())?;
    let measured = engine.recall(&target.caller.org, &target.namespace, &asked).await?;
    Ok(json(StatusCode::OK, response::recall(&measured)))
}

fn checked(asked: RecallBody, limits: &Limits) -> Result<RecallRequest, Invalid> {
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let top_k = asked.top_k.map_or(TOP_K, count);
    let parsed = parse_query(asked.rank_by, asked.filters, top_k, limits)?;
    let of = match (parsed.rank_by, asked.queries, asked.num) {
        (Some(_), Some(_), _) => return Err(Invalid::new("rank_by and queries exclude each other")),
        (Some(ranking), None, None | Some(1)) => RecallOf::Ranking(ranking),
        (Some(_), None, Some(_)) => return Err(Invalid::new("num must be 1 or absent with rank_by")),
        (None, Some(queries), _) if queries.iter().all(|x| x.is_finite()) => RecallOf::Flat(queries),
        (None, Some(_), _) => return Err(Invalid::new("queries must consist of numbers in the range of f32")),
        (None, None, num) => RecallOf::Sampled(num.map_or(NUM, count)),
    };
    Ok(RecallRequest {
        of,
        top_k,
        filter: parsed.filter,
        with_truth: asked.include_ground_truth.unwrap_or(false),
    })
}

/// Ranking and filter by way of the parser of queries, so that there is one.
fn parse_query(
    rank_by: Option<Json>,
    filters: Option<Json>,
    top_k: usize,
    limits: &Limits,
) -> Result<crate::model::Query, Invalid> {
    if rank_by.is_none() && filters.is_none() {
        return Ok(crate::model::Query::default());
    }
    let mut body = Map::new();
    body.insert("limit".into(), top_k.into());
    body.extend(rank_by.map(|r| ("rank_by".to_owned(), r)));
    body.extend(filters.map(|f| ("filters".to_owned(), f)));
    let request = query::parse(Json::Object(body).to_string().as_bytes(), limits)?;
    Ok(request.read.queries.into_iter().next().unwrap_or_default())
}

/// `POST /v2/namespaces/{namespace}/explain_query`
pub async fn explain(State(api): State<Api>, target: Target, request: Request) -> Answer {
    let engine = target.engine(&api)?;
    let (_, body) = read_body(&api, request, engine.limits().query_body_bytes_max).await?;
    let request = handlers::parse_query(&api, &body).await?;
    let [asked] = &request.read.queries[..] else {
        return Err(ApiError::invalid(
            "a plan is made of one query; explain each of queries by itself",
        ));
    };
    let plan = engine.explain(&target.caller.org, &target.namespace, asked).await?;
    Ok(json(StatusCode::OK, response::plan(&plan)))
}

/// `GET /v1/namespaces/{namespace}/_debug/warm_cache`: always 200, for the Go client sends 409 again.
pub async fn warm_cache(State(api): State<Api>, target: Target) -> Answer {
    let was_warm = target.engine(&api)?.warm(&target.caller.org, &target.namespace).await?;
    Ok(json(StatusCode::OK, response::warmed(was_warm)))
}

/// `GET /v1/namespaces/{namespace}/_debug/purge_cache`
pub async fn purge_cache(State(api): State<Api>, target: Target) -> Answer {
    target
        .engine(&api)?
        .purge(&target.caller.org, &target.namespace)
        .await?;
    Ok(json(StatusCode::OK, response::purged()))
}

/// `POST /v2/namespaces/{namespace}/read_only_optimize`: nothing has to be prepared for reading here.
pub async fn read_only_optimize(State(api): State<Api>, target: Target) -> Answer {
    target
        .engine(&api)?
        .schema(&target.caller.org, &target.namespace)
        .await?;
    Ok(json(StatusCode::OK, response::ok()))
}
