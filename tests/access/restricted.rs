//! What a key that is limited to some rows and attributes can learn of the others: one test for each way.
//!
//! That every query answers as if the others were not there is proved by properties in `query::view`.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::memory::InMemory;
use serde_json::{Value as Json, json};
use shoal::base::{CpuPool, Rng};
use shoal::config::{ModelConfig, ModelKind};
use shoal::error::{Error, ErrorKind};
use shoal::inference::Inference;
use shoal::model::access::{MandatoryFilter, Restriction};
use shoal::model::write::origin::OriginKind;
use shoal::model::{Filter, FilterOp, Id, SettingsChange, Value};
use shoal::namespace::{CopyFrom, Creation, EngineOptions, Progress, QueryOutcome, RecallOf, RecallRequest};
use shoal::query::{AggregateValue, QueryResult};

use super::support::engine::{Node, ids, name};
use super::support::models::{DIMS, Models};
use super::{bucket, node, query, read, restricted, said};

const FORBIDDEN: (ErrorKind, Option<&str>) = (ErrorKind::Forbidden, None);

/// Rows of two tenants: `a` has the even ids.
async fn filled(node: &Node) {
    let row = |id: u64| {
        let tenant = if id.is_multiple_of(2) { "a" } else { "b" };
        json!({
            "id": id, "tenant": tenant, "title": format!("otters swim {id}"), "secret": format!("classified {}", id % 5),
            "price": 100 - id, "vector": [id, 1.0], "face": [1.0, id], "tags": [tenant, "all"],
        })
    };
    let rows: Vec<Json> = (0..20).map(row).collect();
    let schema = json!({
        "title": {"type": "string", "full_text_search": true},
        "secret": {"type": "string", "full_text_search": true, "filterable": true},
        "vector": {"type": "[2]f32", "ann": true}, "face": {"type": "[2]f32", "ann": true},
    });
    let body = json!({"upsert_rows": rows, "schema": schema, "distance_metric": "euclidean_squared"});
    node.write("ns", body).await.expect("written");
}

fn tenant(tenant: &str) -> Arc<dyn MandatoryFilter> {
    Arc::new(Filter::compare("tenant", FilterOp::Eq, tenant))
}

/// Sees the rows of `a`, and not `secret` and `face`.
fn of_a() -> Restriction {
    Restriction {
        filters: vec![tenant("a")],
        exclude: vec!["secret".into(), "face".into()],
        ..Restriction::default()
    }
}

async fn world() -> (Node, Node) {
    let node = node(&bucket(1), 1);
    filled(&node).await;
    let caller = restricted(&node, of_a());
    (node, caller)
}

fn even(outcome: &QueryOutcome) -> bool {
    outcome.results.iter().all(|result| {
        let is_even = |row: &shoal::query::ResultRow| matches!(row.id, Id::UInt(id) if id.is_multiple_of(2));
        result.rows().iter().all(is_even)
    })
}

/// The messages of two errors; whatever the names, they must be alike.
async fn refusal(node: &Node, body: &Json) -> String {
    let error: Error = query(node, "ns", body).await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    error.message
}

#[tokio::test(start_paused = true)]
async fn rows_of_others_are_found_by_no_order() {
    let (_, caller) = world().await;
    for (rank_by, filters) in [
        (json!(["id", "asc"]), None),
        (json!(["price", "desc"]), None),
        (json!(["vector", "ANN", [1.0, 1.0]]), None),
        (json!(["vector", "kNN", [1.0, 1.0]]), Some(json!(["price", "Gt", 0]))),
        (json!(["title", "BM25", "otters swim"]), None),
        (
            json!(["Sum", [["title", "BM25", "otters"], ["Attribute", "price"]]]),
            None,
        ),
        (json!(["id", "asc"]), Some(json!(["tenant", "Eq", "b"]))),
        (json!(["id", "asc"]), Some(json!(["Not", ["tenant", "Eq", "a"]]))),
        (
            json!(["id", "asc"]),
            Some(json!(["Or", [["tenant", "Eq", "b"], ["tenant", "Eq", "a"]]])),
        ),
        // By id, too.
        (json!(["id", "asc"]), Some(json!(["id", "In", [3, 4]]))),
    ] {
        let mut body = json!({"rank_by": rank_by, "limit": 100, "include_attributes": true});
        body.as_object_mut()
            .expect("an object")
            .extend(filters.map(|f| ("filters".to_owned(), f)));
        let outcome = query(&caller, "ns", &body).await.expect("answered");
        assert!(even(&outcome), "{body}: {outcome:?}");
        let expected = match body["filters"].to_string().as_str() {
            r#"["tenant","Eq","b"]"# | r#"["Not",["tenant","Eq","a"]]"# => 0,
            r#"["id","In",[3,4]]"# => 1,
            _ => 10,
        };
        assert_eq!(outcome.results[0].rows().len(), expected, "{body}");
        let names = outcome.results[0]
            .rows()
            .iter()
            .flat_map(|r| r.attributes.iter().map(|(n, _)| &**n));
        assert!(
            names
                .into_iter()
                .all(|n| ["tenant", "title", "price", "vector", "tags"].contains(&n))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn many_queries_and_their_fusion_see_no_more_than_one() {
    let (_, caller) = world().await;
    let one = json!({"rank_by": ["vector", "ANN", [3.0, 1.0]], "limit": 20});
    let two = json!({"rank_by": ["title", "BM25", "otters"], "limit": 20});
    let multi = query(&caller, "ns", &json!({"queries": [one, two]}))
        .await
        .expect("answered");
    assert!(even(&multi) && multi.results.iter().all(|r| r.rows().len() == 10));
    let fused = json!({"queries": [one, two], "rerank_by": ["RRF"]});
    let fused = query(&caller, "ns", &fused).await.expect("answered");
    assert!(even(&fused) && fused.results[0].rows().len() == 10);
    // A filter of the second is not one of the first.
    let filtered = json!({"rank_by": ["id", "asc"], "limit": 20, "filters": ["price", "Lt", 90]});
    let multi = query(&caller, "ns", &json!({"queries": [one, filtered]}))
        .await
        .expect("answered");
    assert!(even(&multi));
    assert_eq!((multi.results[0].rows().len(), multi.results[1].rows().len()), (10, 4));
    // Caps.
    let few = Restriction {
        top_k_max: Some(3),
        ..of_a()
    };
    let few = restricted(&caller, few);
    let fused = json!({"queries": [one, two], "rerank_by": ["RRF"], "limit": 20});
    for (body, counts) in [
        (json!({"queries": [one, two]}), vec![3, 3]),
        (one.clone(), vec![3]),
        (json!({"rank_by": ["id", "asc"], "limit": 2}), vec![2]),
        (fused, vec![3]),
    ] {
        let outcome = query(&few, "ns", &body).await.expect("answered");
        assert_eq!(
            outcome.results.iter().map(QueryResult::size).collect::<Vec<_>>(),
            counts,
            "{body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn aggregates_and_groups_are_of_ones_own_rows() {
    let (_, caller) = world().await;
    let body = json!({
        "aggregate_by": {"n": ["Count"], "least": ["Min", "price"], "most": ["Max", "price"], "all": ["Sum", "price"],
                         "who": ["CountDistinct", "tenant"], "tags": ["Top", "tags", 5]},
    });
    let outcome = query(&caller, "ns", &body).await.expect("answered");
    let QueryResult::Aggregations(values) = &outcome.results[0] else {
        panic!("{outcome:?}")
    };
    let values: BTreeMap<&str, &AggregateValue> = values.iter().map(|(n, v)| (&**n, v)).collect();
    let number = |name: &str| match values[name] {
        AggregateValue::Value(Value::Int(n)) => *n,
        AggregateValue::Value(Value::UInt(n)) => *n as i64,
        other => panic!("{other:?}"),
    };
    assert_eq!(["n", "least", "most", "all", "who"].map(number), [10, 82, 100, 910, 1]);
    let AggregateValue::Top(tags) = values["tags"] else {
        panic!("{values:?}")
    };
    let tags: Vec<_> = tags.iter().map(|(v, n)| (format!("{v:?}"), *n)).collect();
    assert_eq!(
        tags,
        [("String(\"a\")".to_owned(), 10), ("String(\"all\")".to_owned(), 10)]
    );
    for by in [json!(["tenant"]), json!([{"tag": ["ForEachUnique", "tags"]}])] {
        let body = json!({"aggregate_by": {"n": ["Count"]}, "group_by": by, "limit": 10});
        let outcome = query(&caller, "ns", &body).await.expect("answered");
        let QueryResult::Groups(groups) = &outcome.results[0] else {
            panic!("{outcome:?}")
        };
        let keys = groups.iter().map(|g| format!("{:?}", g.key[0].1));
        assert!(keys.into_iter().all(|k| !k.contains("\"b\"")), "{groups:?}");
    }
    // `limit.per` walks over one's own rows, too.
    let per =
        json!({"rank_by": ["price", "desc"], "limit": {"total": 10, "per": {"attributes": ["tenant"], "limit": 2}}});
    assert_eq!(ids(&query(&caller, "ns", &per).await.expect("answered")), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_counted_beyond_ones_own_rows() {
    let (whole, caller) = world().await;
    let body = json!({"rank_by": ["id", "asc"], "limit": 1});
    let seen = query(&whole, "ns", &body).await.expect("answered");
    assert_eq!((seen.approx_namespace_rows, seen.exhaustive_search_rows), (20, 20));
    // Also when nothing but attributes is hidden.
    let no_rows = Restriction {
        filters: Vec::new(),
        ..of_a()
    };
    for caller in [caller, restricted(&whole, no_rows)] {
        let seen = query(&caller, "ns", &body).await.expect("answered");
        assert_eq!((seen.approx_namespace_rows, seen.exhaustive_search_rows), (0, 0));
        let mut names: Vec<&str> = seen.schema.attributes().map(|a| &*a.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["price", "tags", "tenant", "title", "vector"]);
        let plan = caller
            .engine
            .explain(&caller.org, &name("ns"), &read(&caller, &body).queries[0])
            .await;
        let plan = plan.expect("explained");
        assert!(
            !plan.contains("20") && !plan.contains("10") && !plan.contains("scanned"),
            "{plan}"
        );
        assert!(!plan.contains("tenant") && !plan.contains("\"a\""), "{plan}");
    }
}

/// Wherever a hidden attribute is named, the answer is that of one that does not exist, to the letter.
#[tokio::test(start_paused = true)]
async fn a_hidden_attribute_does_not_exist() {
    let (_, caller) = world().await;
    let all = |extra: Json| {
        let mut body = json!({"rank_by": ["id", "asc"], "limit": 5});
        let extra = extra.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(extra);
        body
    };
    // Texts that stand for the name of an attribute.
    for shape in [
        all(json!({"rank_by": ["SECRET", "asc"]})),
        all(json!({"rank_by": [["price", "asc"], ["SECRET", "desc"]]})),
        all(json!({"rank_by": ["SECRET", "BM25", "classified"]})),
        all(json!({"rank_by": ["Sum", [["title", "BM25", "otters"], ["SECRET", "BM25", "classified"]]]})),
        all(json!({"rank_by": ["Sum", [["title", "BM25", "otters"], ["SECRET", "Eq", "classified 1"]]]})),
        all(json!({"rank_by": ["FACE", "ANN", [1.0, 2.0]]})),
        all(json!({"rank_by": ["FACE", "kNN", [1.0, 2.0]], "filters": ["price", "Gt", 0]})),
        all(json!({"rank_by": ["FACE", "ANN", ["Embed", "text"]]})),
        all(json!({"filters": ["SECRET", "Eq", "classified 1"]})),
        all(json!({"filters": ["SECRET", "Eq", null]})),
        all(json!({"filters": ["SECRET", "Glob", "classified*"]})),
        all(json!({"filters": ["SECRET", "ContainsAllTokens", "classified"]})),
        all(json!({"filters": ["Or", [["price", "Gt", 0], ["Not", ["SECRET", "Eq", "classified 1"]]]]})),
        all(json!({"include_attributes": ["title", "SECRET"]})),
        all(json!({"include_attributes": ["FACE"]})),
        all(
            json!({"compute_attributes": {"c": ["Highlight", "SECRET", {"rank_fragments_by": ["$fragment", "BM25", "classified"]}]}}),
        ),
        all(json!({"compute_attributes": {"c": ["FACE", "VectorDist", [1.0, 2.0]]}})),
        all(json!({"compute_attributes": {"c": ["SECRET", "Eq", "classified 1"]}})),
        all(json!({"compute_attributes": {"c": ["SECRET", "BM25", "classified"]}})),
        all(json!({"limit": {"total": 5, "per": {"attributes": ["SECRET"], "limit": 1}}})),
        json!({"aggregate_by": {"n": ["Min", "SECRET"]}}),
        json!({"aggregate_by": {"n": ["Max", "SECRET"]}}),
        json!({"aggregate_by": {"n": ["CountDistinct", "SECRET"]}}),
        json!({"aggregate_by": {"n": ["Top", "SECRET", 3]}}),
        json!({"aggregate_by": {"n": ["Count"]}, "group_by": ["SECRET"], "limit": 5}),
        json!({"aggregate_by": {"n": ["Count"]}, "group_by": [{"e": ["ForEachUnique", "SECRET"]}], "limit": 5}),
    ] {
        let named = |secret: &str, face: &str| -> Json {
            let text = shape.to_string().replace("SECRET", secret).replace("FACE", face);
            serde_json::from_str(&text).expect("still JSON")
        };
        let (hidden, absent) = (named("secret", "face"), named("absent", "lack"));
        let of_hidden = refusal(&caller, &hidden).await;
        let of_absent = refusal(&caller, &absent).await;
        assert!(of_absent.contains("attribute not found"), "{absent}: {of_absent}");
        let blank = |text: &str, names: [&str; 2]| text.replace(names[0], "…").replace(names[1], "…");
        assert_eq!(
            blank(&of_hidden, ["secret", "face"]),
            blank(&of_absent, ["absent", "lack"]),
            "{hidden}"
        );
        // Its plan is refused alike.
        if let [one] = &read(&caller, &hidden).queries[..] {
            let explained = caller.engine.explain(&caller.org, &name("ns"), one).await;
            assert_eq!(explained.expect_err("refused").message, of_hidden);
        }
    }
    // Where absent attributes are ignored, so are hidden ones; a name that is hidden is free.
    let except = all(json!({"exclude_attributes": ["secret", "price", "absent"]}));
    let computed = all(json!({"include_attributes": true, "compute_attributes": {"secret": ["price", "Gt", 95]}}));
    for body in [except, computed] {
        let outcome = query(&caller, "ns", &body).await.expect("answered");
        let rows = outcome.results[0].rows();
        assert!(
            rows.iter().all(|r| r.attributes.iter().all(|(n, _)| &**n != "secret")),
            "{rows:?}"
        );
    }
}

/// Errors are about what the caller wrote, not about what is stored.
#[tokio::test(start_paused = true)]
async fn errors_tell_no_values_and_no_names() {
    let (_, caller) = world().await;
    for body in [
        json!({"rank_by": ["absent", "asc"], "limit": 1}),
        json!({"rank_by": ["id", "asc"], "limit": 1, "filters": ["title", "Regex", "a"]}),
        json!({"rank_by": ["id", "asc"], "limit": 1, "filters": ["price", "Eq", "text"]}),
        json!({"rank_by": ["vector", "ANN", [1.0]], "limit": 1}),
        json!({"rank_by": ["title", "ANN", [1.0]], "limit": 1}),
        json!({"aggregate_by": {"n": ["Sum", "title"]}}),
    ] {
        let message = refusal(&caller, &body).await;
        for telling in ["secret", "face", "classified", "swim", "\"b\"", "tenant"] {
            assert!(!message.contains(telling), "{body}: {message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_does_not_fit_is_a_refusal_and_not_no_filter() {
    let node = node(&bucket(1), 1);
    node.write("ns", json!({"upsert_rows": [{"id": 1, "n": 1}]}))
        .await
        .expect("written");
    let caller = restricted(&node, of_a());
    let body = json!({"rank_by": ["id", "asc"], "limit": 1});
    let wrong = json!({"rank_by": ["absent", "asc"], "limit": 1});
    for body in [&body, &wrong] {
        let refused = query(&caller, "ns", body).await.expect_err("no such attribute");
        assert_eq!(refused.kind, ErrorKind::Forbidden);
        assert_eq!(
            refused.message,
            "the filter of this key does not fit the namespace's schema"
        );
    }
    let explained = caller
        .engine
        .explain(&caller.org, &name("ns"), &read(&caller, &body).queries[0])
        .await;
    assert_eq!(said(explained), FORBIDDEN);
    // By another node it comes to fit: the refusal was of the newest state.
    node.write("ns", json!({"upsert_rows": [{"id": 2, "tenant": "a"}]}))
        .await
        .expect("written");
    assert_eq!(ids(&query(&caller, "ns", &body).await.expect("it fits now")), [2]);
    assert_eq!(said(query(&caller, "missing", &body).await).0, ErrorKind::NotFound);
}

/// A filter that may be looked up in any schema, as those of other dialects are.
#[derive(Debug)]
struct FirstString(&'static str);

impl MandatoryFilter for FirstString {
    fn compile(&self, schema: &shoal::model::Schema) -> Result<Filter, shoal::model::Invalid> {
        let attribute = schema.require(self.0)?;
        Ok(Filter::compare(&*attribute.name, FilterOp::Eq, "a"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_mandatory_filter_can_be_made_of_the_schema() {
    let (node, _) = world().await;
    let of = |name| Restriction {
        filters: vec![Arc::new(FirstString(name))],
        // It sees what its holder does not.
        include: Some(vec!["price".into()]),
        ..Restriction::default()
    };
    let body = json!({"rank_by": ["id", "asc"], "limit": 100});
    let outcome = query(&restricted(&node, of("tenant")), "ns", &body)
        .await
        .expect("answered");
    assert!(even(&outcome) && outcome.results[0].rows().len() == 10);
    assert_eq!(
        said(query(&restricted(&node, of("absent")), "ns", &body).await),
        FORBIDDEN
    );
}

#[tokio::test(start_paused = true)]
async fn everything_but_searching_is_refused() {
    let (node, caller) = world().await;
    let (engine, org, ns, other) = (&caller.engine, &caller.org, name("ns"), name("other"));
    let recall = RecallRequest {
        of: RecallOf::Sampled(1),
        top_k: 1,
        filter: None,
        with_truth: true,
    };
    let page = read(&caller, &json!({"rank_by": ["id", "asc"], "limit": 1}));
    let copy = CopyFrom {
        kind: OriginKind::Copy,
        org: org.clone(),
        source: ns.clone(),
        guard: None,
        num_shards: None,
        create_namespace: None,
    };
    let progress = Progress::default();
    let row = json!({"upsert_rows": [{"id": 99, "tenant": "a"}]});
    let outcomes = [
        ("recall", engine.recall(org, &ns, &recall).await.map(drop)),
        ("export", engine.export(org, &ns, page).await.map(drop)),
        ("metadata", engine.metadata(org, &ns).await.map(drop)),
        ("schema", engine.schema(org, &ns).await.map(drop)),
        ("warm", engine.warm(org, &ns).await.map(drop)),
        ("purge", engine.purge(org, &ns).await.map(drop)),
        ("list", engine.list(org, "", None, 10).await.map(drop)),
        ("write", caller.write("ns", row.clone()).await.map(drop)),
        ("deletes", caller.write("ns", json!({"deletes": [0]})).await.map(drop)),
        (
            "update_schema",
            engine
                .update_schema(org, &ns, caller.body(&json!({"x": "int"})))
                .await
                .map(drop),
        ),
        (
            "update_settings",
            engine
                .update_settings(org, &ns, SettingsChange::default())
                .await
                .map(drop),
        ),
        (
            "create",
            engine.create(org, &other, Creation::default()).await.map(drop),
        ),
        ("copy", engine.copy(org, &other, &copy, &progress).await.map(drop)),
        (
            "start_copy",
            engine.start_copy(org, &other, copy.clone()).await.map(drop),
        ),
        (
            "operation",
            engine.operation(org, &ns, "01arz3ndektsv4rrffq69g5fav").await.map(drop),
        ),
        ("delete", engine.delete(org, &ns).await.map(drop)),
    ];
    for (method, outcome) in outcomes {
        assert_eq!(said(outcome), FORBIDDEN, "{method}");
    }
    // As the source of a copy, too.
    let guard = shoal::model::access::Guard {
        restriction: Some(Arc::new(of_a())),
        ..Default::default()
    };
    let copy = CopyFrom {
        guard: Some(Arc::new(guard)),
        ..copy
    };
    assert_eq!(said(node.engine.copy(org, &other, &copy, &progress).await), FORBIDDEN);
    assert_eq!(node.ids("ns").await.expect("readable").len(), 20, "nothing happened");
    assert_eq!(said(node.ids("other").await).0, ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn passages_are_of_visible_attributes_of_ones_own_rows() {
    let (_, caller) = world().await;
    let body = json!({
        "rank_by": ["title", "BM25", "otters"], "limit": 100,
        "compute_attributes": {"shown": ["Highlight", "title", {}]},
    });
    let outcome = query(&caller, "ns", &body).await.expect("answered");
    assert!(even(&outcome) && outcome.results[0].rows().len() == 10);
    assert!(outcome.results[0].rows().iter().all(|r| r.computed.len() == 1));
}

#[tokio::test(start_paused = true)]
async fn hidden_ids_leave_the_engine_blank() {
    let (node, _) = world().await;
    let restriction = Restriction {
        exclude: vec!["id".into()],
        ..of_a()
    };
    let caller = restricted(&node, restriction);
    let one =
        json!({"rank_by": ["id", "desc"], "limit": 3, "filters": ["id", "Gt", 4], "include_attributes": ["price"]});
    let fused = json!({"queries": [one, one], "rerank_by": ["RRF"]});
    for body in [one, fused] {
        let outcome = query(&caller, "ns", &body).await.expect("answered");
        assert!(outcome.hides_id);
        let rows = outcome.results[0].rows();
        assert!(rows.iter().all(|r| r.id == Id::String("".into())));
        let prices: Vec<_> = rows.iter().map(|r| r.attributes[0].1.clone()).collect();
        assert_eq!(
            prices,
            [82, 84, 86].map(Value::Int),
            "rows were told apart all the same"
        );
    }
    let text = shoal::api::response::query(
        &query(&caller, "ns", &json!({"rank_by": ["id", "asc"], "limit": 1}))
            .await
            .expect("answered"),
        false,
        shoal::api::query::VectorEncoding::Float,
        std::time::Duration::ZERO,
    );
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    assert!(text.starts_with(r#"{"rows":[{}],"#), "{text}");
}

/// A model that judges rows gets texts of visible attributes of one's own rows.
#[tokio::test]
async fn what_cannot_be_seen_is_not_judged() {
    let models = Models::start().await;
    let configs = [
        ModelConfig::new(
            "concepts",
            ModelKind::Embedding,
            &format!("{}/v1/embeddings", models.url),
            Some(DIMS as u32),
        ),
        ModelConfig::new("judge", ModelKind::Rerank, &format!("{}/rerank", models.url), None),
    ];
    let options = EngineOptions {
        inference: Inference::new(&configs, &Rng::seeded(1), &CpuPool::inline()).expect("valid models"),
        ..EngineOptions::default()
    };
    let node = Node::with(Arc::new(InMemory::new()), 1, options);
    filled(&node).await;
    let caller = restricted(&node, of_a());
    let body = |attribute: &str| {
        json!({
            "queries": [{"rank_by": ["id", "asc"], "limit": 50, "include_attributes": true}],
            "rerank_by": {"model": "judge", "attribute": attribute, "query": "otters"},
        })
    };
    let outcome = query(&caller, "ns", &body("title")).await.expect("answered");
    assert!(even(&outcome) && outcome.results[0].rows().len() == 10);
    let judged = models.take_texts();
    assert!(judged.iter().all(|text| !text.contains("swim 3")), "{judged:?}");
    let of_hidden = refusal(&caller, &body("secret")).await;
    let of_absent = refusal(&caller, &body("absent")).await;
    assert_eq!(of_hidden.replace("secret", "absent"), of_absent);
    assert!(models.take_texts().is_empty(), "nobody was asked");
    // At most so many rows are left of the judgement.
    let few = Restriction {
        top_k_max: Some(4),
        ..of_a()
    };
    let outcome = query(&restricted(&node, few), "ns", &body("title"))
        .await
        .expect("answered");
    assert_eq!(outcome.results[0].rows().len(), 4);
    // No text is embedded for a column that cannot be seen.
    models.take_texts();
    let near =
        |attribute: &str| json!({"rank_by": [attribute, "ANN", ["Embed", "cat", {"model": "concepts"}]], "limit": 3});
    let (hidden, absent) = (
        refusal(&caller, &near("face")).await,
        refusal(&caller, &near("lack")).await,
    );
    assert_eq!(hidden.replace("face", "lack"), absent);
    assert!(models.take_texts().is_empty());
}
