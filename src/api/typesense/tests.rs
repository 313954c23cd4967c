//! Collections and documents through the whole router.

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use crate::api::tests::{app, request};

/// A server with one collection.
pub struct Collection {
    app: Router,
    name: String,
}

impl Collection {
    pub async fn new(definition: Json) -> Self {
        let collection = Self {
            app: app().await,
            name: definition["name"].as_str().expect("a name").to_owned(),
        };
        let (status, answer) = collection.send("POST", "/collections", definition.to_string()).await;
        assert_eq!(status, 201, "{answer}");
        collection
    }

    pub async fn text(&self, method: &str, path: &str, body: impl Into<Body>) -> (u16, String) {
        let response = self
            .app
            .clone()
            .oneshot(request(method, path, body))
            .await
            .expect("infallible");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    pub async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> (u16, Json) {
        let (status, text) = self.text(method, path, body).await;
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")),
        )
    }

    fn path(&self, rest: &str) -> String {
        format!("/collections/{}{rest}", self.name)
    }

    pub async fn add(&self, document: Json) {
        let (status, answer) = self.send("POST", &self.path("/documents"), document.to_string()).await;
        assert_eq!(status, 201, "{answer}");
    }

    pub async fn search(&self, query: &str) -> Json {
        let (status, answer) = self
            .send("GET", &self.path(&format!("/documents/search?{query}")), "")
            .await;
        assert_eq!(status, 200, "{query}: {answer}");
        answer
    }
}

async fn books() -> Collection {
    Collection::new(json!({"name": "books", "fields": [
        {"name": "title", "type": "string"}, {"name": "pages", "type": "int32", "optional": true},
        {"name": "topics", "type": "string[]", "optional": true, "facet": true},
    ]}))
    .await
}

#[tokio::test]
async fn collections_are_made_described_changed_and_deleted() {
    let books = books().await;
    let (status, answer) = books.send("GET", "/collections/books", "").await;
    assert_eq!(status, 200);
    assert_eq!(answer["name"], "books");
    assert_eq!(answer["num_documents"], 0);
    assert!(answer["created_at"].as_u64().is_some_and(|at| at > 1_600_000_000));
    let names = |answer: &Json| -> Vec<String> {
        let fields = answer["fields"].as_array().expect("fields").iter();
        fields.map(|f| f["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&answer), ["title", "pages", "topics"]);
    assert_eq!(answer["fields"][1]["type"], "int32");
    assert_eq!(answer["fields"][2]["facet"], true);
    let (status, again) = books
        .send(
            "POST",
            "/collections",
            r#"{"name":"books","fields":[{"name":"a","type":"bool"}]}"#,
        )
        .await;
    assert_eq!(
        (status, again),
        (
            409,
            json!({"message": "A collection with name `books` already exists."})
        )
    );
    let (_, listed) = books.send("GET", "/collections?exclude_fields=fields", "").await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert!(listed[0].get("fields").is_none());
    books.add(json!({"id": "1", "title": "a", "pages": 5})).await;
    for (change, status, says) in [
        (
            json!({"fields": [{"name": "x", "type": "int32"}]}),
            400,
            "optional: true",
        ),
        (
            json!({"fields": [{"name": "title", "type": "string"}]}),
            400,
            "already part",
        ),
        (json!({"fields": [{"name": "nope", "drop": true}]}), 400, "not part"),
        (json!({}), 400, "fields"),
    ] {
        let (got, answer) = books.send("PATCH", "/collections/books", change.to_string()).await;
        assert_eq!(got, status, "{answer}");
        assert!(answer["message"].as_str().is_some_and(|m| m.contains(says)), "{answer}");
    }
    let change =
        json!({"fields": [{"name": "pages", "drop": true}, {"name": "year", "type": "int64", "optional": true}]});
    let (status, answer) = books.send("PATCH", "/collections/books", change.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let (_, answer) = books.send("GET", "/collections/books", "").await;
    assert_eq!(names(&answer), ["title", "topics", "year"]);
    assert_eq!(answer["num_documents"], 1);
    let (status, deleted) = books.send("DELETE", "/collections/books", "").await;
    assert_eq!((status, &deleted["name"]), (200, &json!("books")));
    let (status, gone) = books.send("GET", "/collections/books", "").await;
    assert_eq!(
        (status, gone),
        (404, json!({"message": "No collection with name `books` found."}))
    );
}

#[tokio::test]
async fn collections_that_cannot_be_are_refused() {
    let books = books().await;
    for (definition, says) in [
        (json!({"name": "x", "fields": []}), "`fields`"),
        (json!({"name": "x"}), "Bad JSON"),
        (
            json!({"name": "a b", "fields": [{"name": "a", "type": "bool"}]}),
            "namespace name",
        ),
        (
            json!({"name": "x", "fields": [{"name": "a", "type": "object"}]}),
            "not supported",
        ),
        (
            json!({"name": "x", "fields": [{"name": "a", "type": "bool"}, {"name": "a", "type": "bool"}]}),
            "duplicate",
        ),
        (
            json!({"name": "x", "fields": [{"name": "a", "type": "bool"}], "default_sorting_field": "a"}),
            "numerical",
        ),
        (
            json!({"name": "x", "fields": [{"name": "a", "type": "bool"}], "default_sorting_field": "b"}),
            "not found",
        ),
    ] {
        let (status, answer) = books.send("POST", "/collections", definition.to_string()).await;
        assert_eq!(status, 400, "{definition}");
        assert!(
            answer["message"].as_str().is_some_and(|m| m.contains(says)),
            "{definition}: {answer}"
        );
    }
    assert_eq!(
        books.send("POST", "/collections", "{").await,
        (400, json!({"message": "Bad JSON."}))
    );
}

#[tokio::test]
async fn documents_are_written_in_four_ways() {
    let books = books().await;
    let put = async |action: &str, document: Json| {
        let path = format!("/collections/books/documents?action={action}");
        books.send("POST", &path, document.to_string()).await
    };
    let whole = json!({"id": "1", "title": "a", "pages": 5, "more": {"x": 1}});
    assert_eq!(put("create", whole.clone()).await, (201, whole.clone()));
    let exists = json!({"message": "A document with id 1 already exists."});
    assert_eq!(put("create", whole.clone()).await, (409, exists));
    assert_eq!(
        books.send("GET", "/collections/books/documents/1", "").await,
        (200, whole)
    );
    let (status, _) = put("upsert", json!({"id": "1", "title": "b", "topics": ["t"]})).await;
    assert_eq!(status, 201);
    assert_eq!(
        books.send("GET", "/collections/books/documents/1", "").await.1,
        json!({"id": "1", "title": "b", "topics": ["t"]})
    );
    assert_eq!(put("update", json!({"id": "1", "pages": 7, "y": 2})).await.0, 201);
    assert_eq!(put("update", json!({"id": "1", "z": 3})).await.0, 201);
    let missing = json!({"message": "Could not find a document with id: 9"});
    assert_eq!(
        put("update", json!({"id": "9", "pages": 7})).await,
        (404, missing.clone())
    );
    assert_eq!(put("emplace", json!({"id": "1", "title": "c"})).await.0, 201);
    assert_eq!(put("emplace", json!({"id": "2", "title": "new"})).await.0, 201);
    assert_eq!(put("emplace", json!({"id": "3", "pages": 1})).await.0, 400);
    assert_eq!(
        books.send("GET", "/collections/books/documents/1", "").await.1,
        json!({"id": "1", "title": "c", "topics": ["t"], "pages": 7, "y": 2, "z": 3})
    );
    let path = "/collections/books/documents/1?include_fields=title,y";
    assert_eq!(books.send("GET", path, "").await.1, json!({"title": "c", "y": 2}));
    assert_eq!(put("replace", json!({"id": "1"})).await.0, 400);
    let (status, made) = put("create", json!({"title": "without id"})).await;
    assert_eq!(status, 201);
    assert!(made["id"].as_str().is_some_and(|id| id.len() > 10));
    let (status, changed) = books
        .send(
            "PATCH",
            "/collections/books/documents/1",
            r#"{"pages": 8, "topics": null}"#,
        )
        .await;
    assert_eq!((status, changed), (200, json!({"id": "1", "pages": 8, "topics": null})));
    let (status, deleted) = books.send("DELETE", "/collections/books/documents/1", "").await;
    assert_eq!(status, 200);
    assert_eq!(deleted, json!({"id": "1", "title": "c", "pages": 8, "y": 2, "z": 3}));
    assert_eq!(
        books.send("DELETE", "/collections/books/documents/9", "").await,
        (404, missing)
    );
    let (status, answer) = books.send("POST", "/collections/none/documents", r#"{"id":"1"}"#).await;
    assert_eq!(
        (status, answer),
        (404, json!({"message": "No collection with name `none` found."}))
    );
}

#[tokio::test]
async fn documents_are_changed_and_deleted_by_filter() {
    let books = books().await;
    for i in 1..=5 {
        books.add(json!({"id": i.to_string(), "title": "t", "pages": i})).await;
    }
    let path = "/collections/books/documents?filter_by=pages:%3E3";
    assert_eq!(
        books.send("PATCH", path, r#"{"title": "long"}"#).await,
        (200, json!({"num_updated": 2}))
    );
    assert_eq!(books.search("q=long&query_by=title").await["found"], 2);
    assert_eq!(books.send("PATCH", path, r#"{"undeclared": 1}"#).await.0, 400);
    assert_eq!(books.send("DELETE", path, "").await, (200, json!({"num_deleted": 2})));
    assert_eq!(books.send("DELETE", "/collections/books/documents", "").await.0, 400);
    let all = "/collections/books/documents?truncate=true";
    assert_eq!(books.send("DELETE", all, "").await, (200, json!({"num_deleted": 3})));
}

#[tokio::test]
async fn documents_are_imported_and_exported_by_lines() {
    let books = books().await;
    let lines = [
        r#"{"id":"b","title":"two","pages":2}"#,
        r#"{"id":"a","title":"one","pages":"1"}"#,
        r#"{"id":"a","title":"one again"}"#,
        r#"{"id":"c","pages":3}"#,
        "not json",
        r#"{"id":"d","title":"x","topics":["t"],"free":[1]}"#,
    ];
    let (status, answer) = books
        .text(
            "POST",
            "/collections/books/documents/import?return_id=true",
            lines.join("\n"),
        )
        .await;
    assert_eq!(status, 200);
    let outcomes: Vec<Json> = answer.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let success = |id: &str| json!({"success": true, "id": id});
    assert_eq!(outcomes[0], success("b"));
    assert_eq!(outcomes[1], success("a"));
    assert_eq!(
        (&outcomes[2]["code"], &outcomes[2]["success"]),
        (&json!(409), &json!(false))
    );
    assert_eq!(outcomes[2]["document"], lines[2]);
    assert_eq!(
        outcomes[3]["error"],
        "Field `title` has been declared in the schema, but is not found in the document."
    );
    assert_eq!(outcomes[4]["code"], 400);
    assert_eq!(outcomes[5], success("d"));
    let (status, exported) = books.text("GET", "/collections/books/documents/export", "").await;
    assert_eq!(status, 200);
    assert_eq!(
        exported,
        "{\"id\":\"a\",\"pages\":1,\"title\":\"one\"}\n{\"id\":\"b\",\"pages\":2,\"title\":\"two\"}\n\
         {\"free\":[1],\"id\":\"d\",\"title\":\"x\",\"topics\":[\"t\"]}"
    );
    let path = "/collections/books/documents/export?filter_by=pages:%3C2&include_fields=id";
    assert_eq!(books.text("GET", path, "").await, (200, "{\"id\":\"a\"}".to_owned()));
    let more: Vec<String> = (0..2500)
        .map(|i| format!(r#"{{"id":"m{i:04}","title":"m"}}"#))
        .collect();
    let (_, answer) = books
        .text(
            "POST",
            "/collections/books/documents/import?action=upsert",
            more.join("\n"),
        )
        .await;
    assert_eq!(answer.lines().filter(|l| *l == r#"{"success":true}"#).count(), 2500);
    let (_, exported) = books
        .text("GET", "/collections/books/documents/export?filter_by=title:=m", "")
        .await;
    assert_eq!(exported.lines().count(), 2500);
}

#[tokio::test]
async fn a_document_that_the_engine_refuses_fails_alone() {
    let books = books().await;
    let long = "x".repeat(5000);
    let lines = format!(
        "{{\"id\":\"1\",\"title\":\"a\"}}\n{{\"id\":\"2\",\"title\":\"{long}\"}}\n{{\"id\":\"3\",\"title\":\"c\"}}"
    );
    let (_, answer) = books.text("POST", "/collections/books/documents/import", lines).await;
    let ok: Vec<bool> = answer.lines().map(|l| l == r#"{"success":true}"#).collect();
    assert_eq!(ok, [true, false, true], "{answer}");
}

#[tokio::test]
async fn namespaces_of_other_dialects_are_collections() {
    let books = books().await;
    let write = r#"{"upsert_rows": [{"id": 7, "name": "otter", "n": 3}], "schema": {"name": {"type": "string", "full_text_search": true}}}"#;
    let (status, _) = books.send("POST", "/v2/namespaces/native", write).await;
    assert_eq!(status, 200);
    let (_, answer) = books.send("GET", "/collections/native", "").await;
    assert_eq!(answer["num_documents"], 1);
    assert_eq!(answer["fields"][1]["type"], "string");
    let (_, answer) = books
        .send("GET", "/collections/native/documents/search?q=otter&query_by=name", "")
        .await;
    assert_eq!(
        answer["hits"][0]["document"],
        json!({"id": "7", "name": "otter", "n": 3})
    );
    let (status, _) = books
        .send(
            "POST",
            "/collections/native/documents",
            r#"{"id": "8", "name": "seal", "n": 4}"#,
        )
        .await;
    assert_eq!(status, 201);
    assert_eq!(
        books.send("GET", "/collections/native/documents/8", "").await.1["name"],
        "seal"
    );
    assert_eq!(books.send("GET", "/collections/native/documents/x", "").await.0, 404);
}

#[tokio::test]
async fn search_settings_are_kept() {
    let books = books().await;
    for (path, body, kept) in [
        (
            "/presets/p",
            json!({"value": {"q": "*"}}),
            json!({"name": "p", "value": {"q": "*"}}),
        ),
        (
            "/stopwords/s",
            json!({"stopwords": ["a"], "locale": "en"}),
            json!({"id": "s", "stopwords": ["a"], "locale": "en"}),
        ),
        (
            "/synonym_sets/y",
            json!({"items": [{"id": "1", "synonyms": ["a", "b"], "root": "c"}]}),
            json!({"name": "y", "items": [{"id": "1", "synonyms": ["a", "b"], "root": "c"}]}),
        ),
        (
            "/synonym_sets/y/items/2",
            json!({"synonyms": ["d", "e"]}),
            json!({"id": "2", "synonyms": ["d", "e"]}),
        ),
        (
            "/collections/books/synonyms/own",
            json!({"synonyms": ["f", "g"]}),
            json!({"id": "own", "synonyms": ["f", "g"]}),
        ),
    ] {
        assert_eq!(
            books.send("PUT", path, body.to_string()).await,
            (200, kept.clone()),
            "{path}"
        );
        let (_, got) = books.send("GET", path, "").await;
        match path {
            "/stopwords/s" => assert_eq!(got, json!({ "stopwords": kept })),
            "/synonym_sets/y" | "/presets/p" => assert_eq!(got, kept),
            _ => assert_eq!(got, kept),
        }
    }
    let (_, sets) = books.send("GET", "/synonym_sets", "").await;
    assert_eq!(sets.as_array().map(Vec::len), Some(1), "{sets}");
    let (_, items) = books.send("GET", "/synonym_sets/y/items", "").await;
    assert_eq!(items.as_array().map(Vec::len), Some(2));
    let (_, own) = books.send("GET", "/collections/books/synonyms", "").await;
    assert_eq!(own, json!({"synonyms": [{"id": "own", "synonyms": ["f", "g"]}]}));
    for (path, gone) in [
        ("/presets/p", json!({"name": "p", "value": {"q": "*"}})),
        ("/stopwords/s", json!({"id": "s"})),
        ("/synonym_sets/y/items/2", json!({"id": "2"})),
        ("/collections/books/synonyms/own", json!({"id": "own"})),
        ("/synonym_sets/y", json!({"name": "y"})),
    ] {
        assert_eq!(books.send("DELETE", path, "").await, (200, gone), "{path}");
        assert_eq!(books.send("GET", path, "").await.0, 404, "{path}");
        assert_eq!(books.send("DELETE", path, "").await.0, 404, "{path}");
    }
    for (path, body) in [
        ("/presets/p", json!({"value": 5})),
        ("/stopwords/s", json!({"stopwords": []})),
        ("/synonym_sets/y", json!({"items": [{"synonyms": ["a"]}]})),
        ("/synonym_sets/y", json!({"items": [{"id": "1", "synonyms": []}]})),
        ("/synonym_sets/collections%2Fbooks", json!({"items": []})),
    ] {
        assert_eq!(books.send("PUT", path, body.to_string()).await.0, 400, "{path} {body}");
    }
}

#[tokio::test]
async fn operators_see_figures_without_names() {
    let books = books().await;
    books.add(json!({"id": "1", "title": "Otters"})).await;
    let (status, figures) = books.send("GET", "/metrics.json", "").await;
    assert_eq!(status, 200, "{figures}");
    let figures = figures.as_object().expect("an object");
    assert!(
        figures
            .values()
            .all(|v| v.as_str().is_some_and(|v| v.parse::<f64>().is_ok())),
        "{figures:?}"
    );
    #[cfg(target_os = "linux")]
    for name in [
        "system_cpu_active_percentage",
        "system_memory_used_bytes",
        "typesense_memory_resident_bytes",
    ] {
        assert!(figures.contains_key(name), "{name}: {figures:?}");
    }
    let (status, text) = books.text("GET", "/stats.json", "").await;
    assert_eq!(status, 200, "{text}");
    let stats: Json = serde_json::from_str(&text).expect("JSON");
    assert_eq!(stats["pending_write_batches"], 0);
    assert!(
        stats["requests_per_second"].is_object() && stats["search_latency_ms"].is_number(),
        "{stats}"
    );
    assert!(!text.contains("books"), "{text}");
    // A key without the actions learns nothing.
    let key = json!({"description": "", "actions": ["documents:*", "debug:list"], "collections": ["*"]});
    let (_, key) = books.send("POST", "/keys", key.to_string()).await;
    let key = key["value"].as_str().expect("shown once").to_owned();
    for (path, expected) in [("/metrics.json", 401), ("/stats.json", 401), ("/debug", 200)] {
        let request = axum::http::Request::get(path).header("x-typesense-api-key", &key);
        let request = request.body(Body::empty()).expect("valid");
        let response = books.app.clone().oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), expected, "{path}");
    }
}
