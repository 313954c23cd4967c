//! Searches through the whole router.

use serde_json::{Value as Json, json};

use crate::api::typesense::tests::Collection;

/// The ids of a search's hits.
fn ids(answer: &Json) -> Vec<&str> {
    let hits = answer["hits"].as_array().unwrap_or_else(|| panic!("no hits: {answer}"));
    hits.iter()
        .map(|h| h["document"]["id"].as_str().expect("an id"))
        .collect()
}

async fn shop() -> Collection {
    let collection = Collection::new(json!({"name": "shop", "default_sorting_field": "price", "fields": [
        {"name": "title", "type": "string"},
        {"name": "brand", "type": "string", "facet": true},
        {"name": "tags", "type": "string[]", "facet": true, "optional": true},
        {"name": "price", "type": "int32", "facet": true},
        {"name": "rating", "type": "float", "optional": true},
        {"name": "sold", "type": "bool", "optional": true},
    ]}))
    .await;
    for document in [
        json!({"id": "1", "title": "Red running shoes", "brand": "Acme", "tags": ["sale", "new"], "price": 50, "rating": 4.5, "sold": true}),
        json!({"id": "2", "title": "Blue running shirt", "brand": "Acme", "tags": ["new"], "price": 20, "rating": 3.5, "sold": false}),
        json!({"id": "3", "title": "Wireless headphones", "brand": "Boom", "price": 100}),
        json!({"id": "4", "title": "Red headphones case", "brand": "Boom & Co", "tags": ["sale"], "price": 10, "extra": {"a": 1}}),
    ] {
        collection.add(document).await;
    }
    collection
}

#[tokio::test]
async fn words_filters_sorts_and_pages() {
    let shop = shop().await;
    for (query, expected) in [
        ("q=*", vec!["3", "1", "2", "4"]),
        ("q=", vec!["3", "1", "2", "4"]),
        ("q=*&sort_by=price:asc", vec!["4", "2", "1", "3"]),
        ("q=*&sort_by=brand:asc,price:desc", vec!["1", "2", "3", "4"]),
        ("q=*&sort_by=price:asc&per_page=2&page=2", vec!["1", "3"]),
        ("q=*&sort_by=price:asc&offset=1&limit=2", vec!["2", "1"]),
        ("q=running&query_by=title&sort_by=price:asc", vec!["2", "1"]),
        ("q=running&query_by=title", vec!["1", "2"]),
        ("q=runn&query_by=title&sort_by=price:asc", vec!["2", "1"]),
        ("q=runn&query_by=title&prefix=false&num_typos=0", vec![]),
        ("q=red shoes&query_by=title", vec!["1"]),
        ("q=red acme&query_by=title,brand", vec!["1"]),
        (
            "q=acme&query_by=title,brand&sort_by=_text_match:desc,price:asc",
            vec!["2", "1"],
        ),
        ("q=\"running shirt\"&query_by=title", vec!["2"]),
        ("q=\"shirt running\"&query_by=title", vec![]),
        ("q=red -shoes&query_by=title", vec!["4"]),
        ("q=-red&query_by=title&sort_by=price:asc", vec!["2", "3"]),
        // A word too many is left out, a word with a typo is found.
        ("q=red nonsense&query_by=title", vec!["1", "4"]),
        ("q=red nonsense&query_by=title&drop_tokens_threshold=0", vec![]),
        ("q=headphnoes&query_by=title&sort_by=price:asc", vec!["4", "3"]),
        ("q=headphnoes&query_by=title&num_typos=0", vec![]),
        ("q=*&filter_by=price:[10..50]&sort_by=price:asc", vec!["4", "2", "1"]),
        ("q=*&filter_by=price:>20 %26%26 brand:=Boom", vec!["3"]),
        ("q=*&filter_by=brand:Boom&sort_by=price:asc", vec!["4", "3"]),
        ("q=*&filter_by=brand:=`Boom %26 Co`", vec!["4"]),
        (
            "q=*&filter_by=tags:=[sale] || price:=100&sort_by=price:asc",
            vec!["4", "1", "3"],
        ),
        ("q=*&filter_by=tags:!=sale&sort_by=price:asc", vec!["2", "3"]),
        ("q=*&filter_by=sold:true", vec!["1"]),
        ("q=*&filter_by=id:[1,3]&sort_by=price:asc", vec!["1", "3"]),
        ("q=*&filter_by=rating:<4", vec!["2"]),
        ("q=*&hidden_hits=3,1", vec!["2", "4"]),
        ("q=*&pinned_hits=4:1,2:3", vec!["4", "3", "2", "1"]),
        ("q=running&query_by=title&pinned_hits=3:2", vec!["1", "3", "2"]),
        ("q=*&pinned_hits=4:2&per_page=2&page=1", vec!["3", "4"]),
        ("q=*&pinned_hits=4:2&per_page=2&page=2", vec!["1", "2"]),
    ] {
        let query = query
            .replace(' ', "%20")
            .replace('"', "%22")
            .replace('`', "%60")
            .replace('|', "%7C");
        let query = query.replace('>', "%3E").replace('<', "%3C");
        let answer = shop.search(&query).await;
        assert_eq!(ids(&answer), expected, "{query}: {answer}");
    }
}

#[tokio::test]
async fn the_answer_has_typesenses_shape() {
    let shop = shop().await;
    let mut answer = shop
        .search("q=shoes&query_by=title&facet_by=brand,price,tags&per_page=5&exclude_fields=tags,sold,rating")
        .await;
    let time = answer["search_time_ms"].take();
    assert!(time.is_u64());
    let hit = &mut answer["hits"][0];
    assert!(hit["text_match"].take().is_u64());
    assert_eq!(hit["text_match_info"].take()["fields_matched"], 1);
    let highlight = json!({"matched_tokens": ["shoes"], "snippet": "Red running <mark>shoes</mark>"});
    let mut listed = highlight.clone();
    listed["field"] = "title".into();
    let count = |value: &str| json!({"count": 1, "highlighted": value, "value": value});
    let expected = json!({
        "facet_counts": [
            {"counts": [count("Acme")], "field_name": "brand", "sampled": false, "stats": {"total_values": 1}},
            {"counts": [count("50")], "field_name": "price", "sampled": false,
             "stats": {"avg": 50.0, "max": 50, "min": 50, "sum": 50, "total_values": 1}},
            {"counts": [count("new"), count("sale")], "field_name": "tags", "sampled": false, "stats": {"total_values": 2}},
        ],
        "found": 1,
        "out_of": 4,
        "page": 1,
        "request_params": {"collection_name": "shop", "first_q": "shoes", "per_page": 5, "q": "shoes"},
        "search_cutoff": false,
        "search_time_ms": null,
        "hits": [{
            "document": {"id": "1", "title": "Red running shoes", "brand": "Acme", "price": 50},
            "highlight": {"title": highlight},
            "highlights": [listed],
            "text_match": null,
            "text_match_info": null,
        }],
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn facets_are_narrowed_and_groups_are_paged() {
    let shop = shop().await;
    let answer = shop
        .search("q=*&facet_by=brand&facet_query=brand:bo&max_facet_values=1")
        .await;
    let counts = &answer["facet_counts"][0]["counts"];
    assert_eq!(
        *counts,
        json!([{"count": 1, "highlighted": "<mark>Bo</mark>om", "value": "Boom"}])
    );
    let answer = shop
        .search("q=*&group_by=brand&group_limit=2&sort_by=price:desc&include_fields=id&per_page=2")
        .await;
    assert_eq!((&answer["found"], &answer["found_docs"]), (&json!(3), &json!(4)));
    let groups: Vec<(Json, Vec<&str>, Json)> = answer["grouped_hits"]
        .as_array()
        .expect("groups")
        .iter()
        .map(|g| (g["group_key"].clone(), ids(g), g["found"].clone()))
        .collect();
    assert_eq!(
        groups,
        [
            (json!(["Boom"]), vec!["3"], json!(1)),
            (json!(["Acme"]), vec!["1", "2"], json!(2))
        ]
    );
}

#[tokio::test]
async fn undeclared_fields_are_shown() {
    let shop = shop().await;
    let answer = shop.search("q=*&filter_by=id:4&include_fields=extra,price").await;
    assert_eq!(answer["hits"][0]["document"], json!({"extra": {"a": 1}, "price": 10}));
}

#[tokio::test]
async fn what_cannot_be_searched_is_said() {
    let shop = shop().await;
    for (query, status, says) in [
        ("query_by=title", 400, "`q` is required"),
        ("q=a", 400, "No search fields"),
        (
            "q=a&query_by=nope",
            404,
            "Could not find a field named `nope` in the schema.",
        ),
        ("q=a&query_by=price", 400, "should be a string"),
        (
            "q=*&filter_by=nope:1",
            404,
            "Could not find a filter field named `nope`",
        ),
        ("q=*&filter_by=price:x", 400, "must be integers"),
        ("q=*&sort_by=nope:asc", 404, "for sorting"),
        ("q=*&facet_by=nope", 404, "facet field named `nope`"),
        ("q=*&per_page=251", 422, "Only upto 250"),
        ("q=*&stopwords=nope", 404, "stopword set"),
        ("q=*&vector_query=price:([1])", 400, "vector"),
    ] {
        let path = format!("/collections/shop/documents/search?{query}");
        let (got, answer) = shop.send("GET", &path, "").await;
        assert_eq!(got, status, "{query}: {answer}");
        assert!(
            answer["message"].as_str().is_some_and(|m| m.contains(says)),
            "{query}: {answer}"
        );
    }
    let (status, answer) = shop.send("GET", "/collections/none/documents/search?q=*", "").await;
    assert_eq!((status, answer), (404, json!({"message": "Not found."})));
}

#[tokio::test]
async fn many_searches_are_answered_one_by_one() {
    let shop = shop().await;
    let body = json!({"searches": [
        {"collection": "shop", "q": "*", "per_page": 1},
        {"collection": "shop", "q": "*", "filter_by": "nope:1"},
        {"collection": "gone", "q": "*"},
        {"collection": "shop", "q": "shirt", "query_by": ["title", "brand"], "x-typesense-api-key": crate::api::tests::KEY},
    ], "union": false});
    let (status, answer) = shop
        .send("POST", "/multi_search?sort_by=price:asc", body.to_string())
        .await;
    assert_eq!(status, 200);
    let results = answer["results"].as_array().expect("results");
    assert_eq!(ids(&results[0]), ["4"]);
    assert_eq!(results[1]["code"], 404);
    assert_eq!(results[2], json!({"code": 404, "error": "Not found."}));
    assert_eq!(ids(&results[3]), ["2"]);
    for (body, says) in [
        (json!({"searches": [], "union": true}), "union"),
        (json!({}), "Missing `searches`"),
        (json!({"searches": vec![json!({}); 51]}), "at most 50"),
    ] {
        let (status, answer) = shop.send("POST", "/multi_search", body.to_string()).await;
        assert_eq!(status, 400);
        assert!(answer["message"].as_str().is_some_and(|m| m.contains(says)), "{answer}");
    }
    // One key that is not valid refuses the whole.
    let body = json!({"searches": [{"collection": "shop", "q": "*"}, {"collection": "shop", "q": "*", "x-typesense-api-key": "nobodys"}]});
    let (status, _) = shop.send("POST", "/multi_search", body.to_string()).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn presets_stop_words_and_synonyms_apply() {
    let shop = shop().await;
    let put = async |path: &str, body: Json| {
        let (status, answer) = shop.send("PUT", path, body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    put(
        "/presets/cheap",
        json!({"value": {"filter_by": "price:<30", "sort_by": "price:asc", "q": "no"}}),
    )
    .await;
    assert_eq!(ids(&shop.search("q=*&preset=cheap").await), ["4", "2"]);
    put("/stopwords/common", json!({"stopwords": ["the", "running"]})).await;
    assert_eq!(
        ids(&shop
            .search("q=the%20Shirt%20running&query_by=title&stopwords=common")
            .await),
        ["2"]
    );
    put(
        "/synonym_sets/words",
        json!({"items": [{"id": "a", "synonyms": ["sneakers", "shoes"]}, {"id": "b", "root": "earphones", "synonyms": ["headphones"]}]}),
    )
    .await;
    let none = shop.search("q=sneakers&query_by=title&num_typos=0").await;
    assert_eq!(none["found"], 0);
    let (status, _) = shop
        .send(
            "PATCH",
            "/collections/shop",
            json!({"synonym_sets": ["words"]}).to_string(),
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(ids(&shop.search("q=sneakers&query_by=title&num_typos=0").await), ["1"]);
    assert_eq!(ids(&shop.search("q=red%20earphones&query_by=title").await), ["4"]);
    let off = shop
        .search("q=sneakers&query_by=title&num_typos=0&enable_synonyms=false")
        .await;
    assert_eq!(off["found"], 0);
    put("/collections/shop/synonyms/own", json!({"synonyms": ["cover", "case"]})).await;
    assert_eq!(ids(&shop.search("q=cover&query_by=title&num_typos=0").await), ["4"]);
}

#[tokio::test]
async fn vectors_are_searched_alone_and_with_text() {
    let collection = Collection::new(json!({"name": "shop", "fields": [
        {"name": "title", "type": "string"}, {"name": "emb", "type": "float[]", "num_dim": 2},
    ]}))
    .await;
    for (id, title, x, y) in [
        ("1", "red", 1.0, 0.0),
        ("2", "red blue", 0.8, 0.6),
        ("3", "blue", 0.0, 1.0),
    ] {
        collection.add(json!({"id": id, "title": title, "emb": [x, y]})).await;
    }
    let answer = collection
        .search("q=*&vector_query=emb:([0.0,1.0],k:2)&exclude_fields=emb")
        .await;
    assert_eq!(ids(&answer), ["3", "2"]);
    assert_eq!(answer["found"], 2);
    let hit = &answer["hits"][1];
    assert!((hit["vector_distance"].as_f64().expect("a distance") - 0.4).abs() < 1e-6);
    assert_eq!(hit["document"], json!({"id": "2", "title": "red blue"}));
    let near = collection
        .search("q=*&vector_query=emb:([0.0,1.0],distance_threshold:0.1)")
        .await;
    assert_eq!(ids(&near), ["3"]);
    assert_eq!(near["hits"][0]["document"]["emb"], json!([0.0, 1.0]));
    let hybrid = collection
        .search("q=red&query_by=title&vector_query=emb:([0.0,1.0],alpha:0.2)")
        .await;
    assert_eq!(ids(&hybrid), ["1", "2", "3"]);
    assert!(hybrid["hits"][0]["hybrid_search_info"]["rank_fusion_score"].is_f64());
}
