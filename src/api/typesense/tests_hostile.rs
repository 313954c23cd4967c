//! What somebody with one credential must not get: other rows, work without end, or use that nobody counts.

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use super::tests::Collection;
use crate::api::router;
use crate::api::tests::{api, app, request};
use crate::model::OrgId;

async fn send(app: &Router, key: Option<&str>, method: &str, path: &str, body: impl Into<Body>) -> (u16, Json) {
    let mut request = request(method, path, body);
    if let Some(key) = key {
        let value = format!("Bearer {key}").parse().expect("a header value");
        request.headers_mut().insert("authorization", value);
    }
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Json::Null))
}

async fn mint(app: &Router, key: Json) -> String {
    let (status, made) = send(app, None, "POST", "/keys", key.to_string()).await;
    assert_eq!(status, 201, "{made}");
    made["value"].as_str().expect("its value").to_owned()
}

fn scoped(parent: &str, parameters: &str) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, parent.as_bytes());
    let digest = aws_lc_rs::hmac::sign(&key, parameters.as_bytes());
    let base64 = base64_simd::STANDARD;
    let digest = base64.encode_to_string(digest.as_ref());
    base64.encode_to_string(format!("{digest}{}{parameters}", &parent[..4]))
}

/// "All of the words" of a value without words would be every row.
#[tokio::test]
async fn a_mandatory_filter_without_words_lets_nothing_pass() {
    let app = app().await;
    for (name, text_search) in [("plain", json!(true)), ("stopped", json!({"remove_stopwords": true}))] {
        let write = json!({
            "schema": {"owner": {"type": "string", "full_text_search": text_search}},
            "upsert_rows": [{"id": 1, "owner": "acme"}, {"id": 2, "owner": "the the"}],
        });
        let path = format!("/v2/namespaces/{name}");
        let (status, answer) = send(&app, None, "POST", &path, write.to_string()).await;
        assert_eq!(status, 200, "{answer}");
    }
    let parent = mint(
        &app,
        json!({"description": "", "actions": ["documents:search"], "collections": ["*"]}),
    )
    .await;
    for (name, filter, expected) in [
        ("plain", "owner: acme", 1),
        ("plain", "owner: --", 0),
        ("plain", "owner: `!?`", 0),
        ("plain", "owner: [--, acme]", 1),
        ("stopped", "owner: acme", 1),
        ("stopped", "owner: the", 0),
        ("stopped", "owner: the*", 0),
    ] {
        let key = scoped(&parent, &json!({ "filter_by": filter }).to_string());
        let path = format!("/collections/{name}/documents/search?q=*");
        let (status, answer) = send(&app, Some(&key), "GET", &path, "").await;
        assert_eq!(
            (status, &answer["found"]),
            (200, &json!(expected)),
            "{filter}: {answer}"
        );
    }
}

async fn notes() -> Collection {
    let notes = Collection::new(json!({"name": "notes", "fields": [{"name": "title", "type": "string"}]})).await;
    notes
        .add(json!({"id": "1", "title": "red coat and more words than the snippet shows"}))
        .await;
    notes
}

#[tokio::test]
async fn numbers_at_their_ends_are_no_crash() {
    let notes = notes().await;
    const MAX: &str = "18446744073709551615";
    for (query, expected) in [
        (
            format!("q=coat&query_by=title&snippet_threshold=0&highlight_affix_num_tokens={MAX}"),
            200,
        ),
        (format!("q=coat&query_by=title&snippet_threshold={MAX}"), 200),
        (
            format!("q=coat&query_by=title&max_facet_values={MAX}&facet_by=title"),
            200,
        ),
        (
            format!("q=coat&query_by=title&drop_tokens_threshold={MAX}&typo_tokens_threshold={MAX}"),
            200,
        ),
        (format!("q=*&offset={MAX}"), 422),
        (format!("q=*&page={MAX}"), 422),
        ("q=*&page=100".to_owned(), 200),
        (
            "q=coat&query_by=title&sort_by=_text_match:desc,title:asc&offset=20000".to_owned(),
            422,
        ),
        (format!("q=*&pinned_hits=1:{MAX}"), 400),
    ] {
        let path = format!("/collections/notes/documents/search?{query}");
        let (status, answer) = notes.send("GET", &path, "").await;
        assert_eq!(status, expected, "{query}: {answer}");
    }
}

/// Each name that is not known yet is a request to the store; and one collection's synonyms are not another's.
#[tokio::test]
async fn synonym_sets_are_few_and_not_of_other_collections() {
    let notes = notes().await;
    let body = json!({"synonyms": ["coat", "secretword"]}).to_string();
    let (status, answer) = notes.send("PUT", "/collections/other/synonyms/s", body).await;
    assert_eq!(status, 200, "{answer}");
    let search = |sets: String| {
        let body = json!({"searches": [{"collection": "notes", "q": "secretword", "query_by": "title",
            "num_typos": 0, "drop_tokens_threshold": 0, "synonym_sets": sets}]});
        let notes = &notes;
        async move { notes.send("POST", "/multi_search", body.to_string()).await.1["results"][0].clone() }
    };
    assert_eq!(search("collections/other".into()).await["found"], 0);
    let many: Vec<String> = (0..100).map(|i| format!("set{i}")).collect();
    assert_eq!(search(many.join(",")).await["code"], 400);
    assert_eq!(
        search("x".repeat(5000)).await["found"],
        0,
        "a name that no set can have"
    );
}

/// The answer of an import has to have room before anything is written.
#[tokio::test]
async fn an_import_of_many_bad_lines_is_refused_whole() {
    let notes = notes().await;
    let (status, answer) = notes
        .send("POST", "/collections/notes/documents/import", "x\n".repeat(9_000_000))
        .await;
    assert_eq!(status, 429, "{answer}");
    let (status, answer) = notes
        .text("POST", "/collections/notes/documents/import", "x\n".repeat(3))
        .await;
    assert_eq!((status, answer.lines().count()), (200, 3));
}

#[tokio::test]
async fn an_import_repeats_an_id_so_often_and_no_more() {
    let notes = notes().await;
    let line = "{\"id\":\"7\",\"title\":\"a\"}\n";
    let path = "/collections/notes/documents/import?action=upsert";
    let (status, answer) = notes.text("POST", path, line.repeat(1003)).await;
    assert_eq!(status, 200);
    let refused = answer.lines().filter(|l| l.contains("came before")).count();
    assert_eq!((answer.lines().count(), refused), (1003, 2));
}

/// A key's own rate counts in the middle of a request, too, and so does the number of wrong ones.
#[tokio::test]
async fn keys_of_single_searches_have_their_own_limits() {
    let app = app().await;
    let create = json!({"name": "notes", "fields": [{"name": "title", "type": "string"}]}).to_string();
    assert_eq!(send(&app, None, "POST", "/collections", create).await.0, 201);
    let slow = json!({"description": "", "actions": ["documents:search"], "collections": ["*"],
        "limits": {"queries_per_second": 1}});
    let slow = mint(&app, slow).await;
    let search = json!({"collection": "notes", "q": "*", "x-typesense-api-key": slow});
    let many = json!({"searches": [search, search, search]}).to_string();
    let (status, answer) = send(&app, None, "POST", "/multi_search", many).await;
    assert_eq!(status, 429, "{answer}");
}

/// Or the budgets of plans would hold in one dialect only.
#[tokio::test]
async fn use_is_metered() {
    let api = api().await;
    let app = router(api.clone());
    let create = json!({"name": "notes", "fields": [{"name": "title", "type": "string"}]}).to_string();
    assert_eq!(send(&app, None, "POST", "/collections", create).await.0, 201);
    for (method, path, body) in [
        ("POST", "/collections/notes/documents", "{\"id\":\"1\",\"title\":\"a\"}"),
        (
            "POST",
            "/collections/notes/documents/import",
            "{\"id\":\"2\",\"title\":\"b\"}",
        ),
        ("GET", "/collections/notes/documents/search?q=*", ""),
        ("GET", "/collections/notes/documents/1", ""),
        ("GET", "/collections/notes/documents/export", ""),
    ] {
        let (status, answer) = send(&app, None, method, path, body).await;
        assert!(status < 300, "{path}: {answer}");
    }
    let control = &api.inner.control;
    control.flush_usage().await;
    let (first, last) = control.period(None, None).expect("now");
    control
        .roll_up_usage(&OrgId::default_org(), last)
        .await
        .expect("rolled up");
    let used = control.usage(&OrgId::default_org(), first, last).await.expect("usage");
    let total = used.sums.total();
    assert_eq!((total.writes, total.rows_written), (2, 2));
    assert_eq!(total.queries, 3);
    // A search, one document, and all of them.
    assert!(total.rows_returned >= 5, "{total:?}");
    assert!(used.stored_bytes() > 0);
}

/// A group's protection holds in whichever dialect its namespaces are deleted.
#[tokio::test]
async fn a_protected_groups_namespaces_cannot_be_deleted() {
    let app = app().await;
    let create = json!({"name": "notes", "fields": [{"name": "title", "type": "string"}]}).to_string();
    assert_eq!(send(&app, None, "POST", "/collections", create).await.0, 201);
    let configuration = "/v1/organizations/default/groups/default/configuration";
    let protect = |on: bool| json!({ "delete_protection": on }).to_string();
    let (status, answer) = send(&app, None, "PATCH", configuration, protect(true)).await;
    assert_eq!(status, 200, "{answer}");
    for path in ["/collections/notes", "/v1/namespaces/notes", "/v2/namespaces/notes"] {
        let (status, answer) = send(&app, None, "DELETE", path, "").await;
        assert_eq!(status, 409, "{path}: {answer}");
    }
    assert_eq!(send(&app, None, "PATCH", configuration, protect(false)).await.0, 200);
    assert_eq!(send(&app, None, "DELETE", "/collections/notes", "").await.0, 200);
}
