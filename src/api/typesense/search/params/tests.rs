//! What parameters mean, and which are refused.

use serde_json::json;

use super::*;

fn search(query: &str) -> Result<Search, String> {
    Search::parse(&of_query(query)).map_err(|e| e.message)
}

#[test]
fn parameters_have_their_defaults() {
    let search = search("q=a&query_by=x,y").expect("legal");
    assert_eq!((search.page, search.per_page, search.offset), (1, 10, 0));
    let names: Vec<_> = search
        .query_by
        .iter()
        .map(|f| (f.name.as_str(), f.weight, f.prefix))
        .collect();
    assert_eq!(names, [("x", 2.0, true), ("y", 1.0, true)]);
    assert_eq!(search.highlight.start_tag, "<mark>");
}

#[test]
fn pages_are_counted() {
    for (query, offset, per_page) in [
        ("q=*&page=3&per_page=20", 40, 20),
        ("q=*&page=3&limit=20", 40, 20),
        ("q=*&offset=7&limit=2", 7, 2),
        ("q=*&page=0", 0, 10),
    ] {
        let search = search(query).expect(query);
        assert_eq!((search.offset, search.per_page), (offset, per_page), "{query}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for (query, says) in [
        ("query_by=a", "`q` is required"),
        ("q=a&per_page=251", "Only upto 250"),
        ("q=a&per_page=x", "`per_page` must be"),
        ("q=a&sort_by=x", "malformed"),
        ("q=a&sort_by=x:up", "must be `asc` or `desc`"),
        ("q=a&sort_by=_eval(a:1):desc", "not supported"),
        ("q=a&sort_by=loc(1,2):asc", "not supported"),
        ("q=a&sort_by=a:asc,b:asc,c:asc,d:asc", "Only upto 3"),
        ("q=a&query_by=a,b&query_by_weights=1", "does not match"),
        ("q=a&query_by=a,b&prefix=true,false,true", "does not match"),
        ("q=a&pinned_hits=a", "`id:position`"),
        ("q=a&pinned_hits=a:0", "count from 1"),
        ("q=a&pinned_hits=a:18446744073709551615", "must be below"),
        ("q=a&offset=18446744073709551615", "within this range"),
        ("q=a&page=18446744073709551615", "within this range"),
        ("q=a&group_by=a,b,c,d,e,f,g,h,i", "at most 8"),
        ("q=a&vector_query=v:([])", "empty"),
        ("q=a&vector_query=v:([1,x])", "numbers"),
        ("q=a&vector_query=v", "expected"),
        ("q=a&vector_query=v:([1],queries:[a])", "not supported"),
        ("q=a&facet_by=price(Low:[0,10])", "not supported"),
        ("q=a&facet_query=brand", "format"),
        ("q=a&group_limit=0", "group_limit"),
        ("q=a&filter_by=x", "Could not parse"),
    ] {
        let error = search(query).expect_err(query);
        assert!(error.contains(says), "{query}: {error}");
    }
}

/// Each would be work or memory without an end: per row, per match or per value.
#[test]
fn what_is_repeated_is_short() {
    let long = "x".repeat(QUERY_BYTES_MAX + 1);
    let names = vec!["a"; NAMES_MAX + 1].join(",");
    for (query, says) in [
        (format!("q={long}"), "`q` can have"),
        (
            format!("q=a&highlight_start_tag={long}"),
            "highlight_start_tag can have",
        ),
        (format!("q=a&highlight_end_tag={long}"), "highlight_end_tag can have"),
        (format!("q=a&facet_by=b&facet_query=b:{long}"), "Facet query can have"),
        (format!("q=a&synonym_sets={names}"), "synonym_sets takes"),
        (format!("q=a&highlight_fields={names}"), "highlight_fields takes"),
        (format!("q=a&include_fields={names}"), "include_fields takes"),
    ] {
        let error = search(&query).expect_err(says);
        assert!(error.contains(says), "{error}");
    }
}

/// A request that says the same by another name does not get around what a key embeds.
#[test]
fn embedded_pages_replace_whatever_they_are_called() {
    for (request, embedded, expected) in [
        ("q=a&per_page=250", json!({"limit": 2}), (0, 2)),
        ("q=a&limit=250", json!({"per_page": 2}), (0, 2)),
        ("q=a&offset=90", json!({"page": 1}), (0, 10)),
    ] {
        let mut params = of_query(request);
        embed(&mut params, embedded.as_object().expect("an object"));
        let search = Search::parse(&params).expect("legal");
        assert_eq!((search.offset, search.per_page), expected, "{request}");
    }
}

#[test]
fn vectors_are_read() {
    let search = search("q=*&vector_query=emb:([0.5,-1], k: 7, distance_threshold:0.3,alpha:0.8)").expect("legal");
    let expected = VectorBy {
        field: "emb".into(),
        vector: vec![0.5, -1.0],
        k: Some(7),
        distance_threshold: Some(0.3),
        alpha: 0.8,
    };
    assert_eq!(search.vector, Some(expected));
}

#[test]
fn embedded_parameters_replace_and_presets_do_not() {
    let mut params = of_query("q=a&per_page=5&filter_by=mine");
    let embedded =
        json!({"per_page": 2, "filter_by": "theirs", "expires_at": 5, "query_by": ["a", "b"], "prefix": false});
    embed(&mut params, embedded.as_object().expect("an object"));
    preset(&mut params, &json!({"per_page": 9, "sort_by": "n:asc"}));
    let expected = of_query("q=a&per_page=2&filter_by=mine&query_by=a,b&prefix=false&sort_by=n:asc");
    assert_eq!(params, expected);
}
