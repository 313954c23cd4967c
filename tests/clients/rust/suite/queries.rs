//! Queries: neighbours, filters, rankings, computed values, aggregations, several at once.

use std::collections::BTreeMap;

use turbopuffer::ApiErrorKind;
use turbopuffer::serde_json::{Value, json};
use turbopuffer::types::*;

use crate::{Fresh, close, dists, ids, in_order, kind, matching, points};

#[tokio::test]
async fn queries_and_the_shape_of_their_answers() {
    let ns = Fresh::new("queries").await;
    points(&ns).await;
    let answer = ns
        .query()
        .rank_by(RankBy::ann("vector", [1.0, 0.75]))
        .limit(4)
        .await
        .unwrap();
    assert_eq!(ids(&answer.rows), [7, 10, 15, 16]);
    close(&dists(&answer.rows), &[0.0625, 0.0625, 0.8125, 0.8125]);
    assert!(
        answer
            .rows
            .iter()
            .all(|row| row.vector.is_none() && row.extra.len() == 1)
    );
    assert_eq!(
        (
            answer.performance.approx_namespace_size,
            answer.performance.exhaustive_search_count
        ),
        (4, 4)
    );
    assert!(answer.performance.query_execution_ms > 0 && answer.performance.server_total_ms > 0);
    assert!(["hot", "warm", "cold"].contains(&answer.performance.cache_temperature.as_str()));
    assert_eq!(answer.billing.billable_logical_bytes_queried, 256_000_000);
    assert_eq!(answer.billing.billable_logical_bytes_returned, 48);

    let exact = ns
        .query()
        .rank_by(RankBy::knn("vector", [1.5, 1.5]))
        .filters(Filter::lt("id", 15));
    let answer = exact.top_k(1).include_attributes(["name", "vector"]).await.unwrap();
    assert_eq!(
        json!(answer.rows),
        json!([{"id": 10, "$dist": 0.5, "name": "ten", "vector": [1.0, 1.0]}])
    );
    let encoded = ns.query().rank_by(in_order()).limit(1).exclude_attributes(["name"]);
    let answer = encoded.vector_encoding(VectorEncoding::Base64).offset(1).await.unwrap();
    assert_eq!(answer.rows[0].vector, Some(Vector::from("AACAPwAAgD8=")));
    for level in [
        QueryConfigConsistency::new(),
        QueryConfigConsistency::new().level("eventual"),
    ] {
        let answer = ns
            .query()
            .rank_by(RankBy::attributes([("id", "desc")]))
            .limit(2)
            .consistency(level)
            .await
            .unwrap();
        assert_eq!(ids(&answer.rows), [16, 15]);
    }
    let per = Limit::new(10).per(LimitPer::new(["name"], 1));
    let answer = ns
        .query()
        .rank_by(RankBy::attribute("id", "desc"))
        .limit(per)
        .await
        .unwrap();
    assert_eq!(ids(&answer.rows), [16, 10, 7]);

    let plan = ns.explain_query().rank_by(in_order()).limit(1).await.unwrap().plan_text;
    assert!(plan.is_some_and(|plan| !plan.trim().is_empty()));
    let recall = ns.recall().num(1).top_k(2).include_ground_truth(true).await.unwrap();
    assert_eq!(
        (recall.avg_recall, recall.avg_exhaustive_count, recall.avg_ann_count),
        (1.0, 2.0, 2.0)
    );
    assert_eq!(
        (
            recall.ground_truth.len(),
            recall.ground_truth[0].nearest_neighbors.len()
        ),
        (1, 2)
    );
    let recall = ns
        .recall()
        .rank_by(RankBy::ann("vector", [0.0, 0.0]))
        .top_k(3)
        .filters(Filter::gte("id", 10));
    assert_eq!(recall.await.unwrap().avg_ann_count, 3.0);
    ns.delete_all().await.unwrap();
}

#[tokio::test]
async fn every_filter_matches_exactly_the_right_rows() {
    let ns = Fresh::new("filters").await;
    let text = AttributeSchemaConfig::new("string").full_text_search(FullTextSearchConfig::new().stemming(true));
    ns.write()
        .schema([
            ("path", AttributeSchemaConfig::new("string").glob(true).regex(true)),
            ("city", AttributeSchemaConfig::new("string").fuzzy(true)),
            ("body", text),
            ("tags", AttributeSchemaConfig::new("[]string")),
            ("ns", AttributeSchemaConfig::new("[]int")),
        ])
        .upsert_rows([
            Row::new(1)
                .insert("path", "/src/a.ts")
                .insert("city", "lubeck")
                .insert("body", "large marine mammals")
                .insert("tags", ["a", "b"])
                .insert("ns", [1, 10])
                .insert("i", -2),
            Row::new(2)
                .insert("path", "/lib/B.ts")
                .insert("body", "marine ships")
                .insert("tags", ["c"])
                .insert("i", 7),
            Row::new(3).insert("ns", [5]),
        ])
        .await
        .unwrap();
    let fuzzy = || FuzzyParams::new([FuzzyMaxEditDistance::new(6, 1)]).case_sensitive(false);
    let all = || ContainsAllTokensFilterParams::new().last_as_prefix(true);
    let any = || ContainsAnyTokenFilterParams::new().last_as_prefix(true);
    let cases = [
        (Filter::eq("i", 7), vec![2]),
        (Filter::eq("i", Value::Null), vec![3]),
        (Filter::not_eq("i", 7), vec![1, 3]),
        (Filter::in_("i", [7, -2]), vec![1, 2]),
        (Filter::not_in("i", [7]), vec![1, 3]),
        (Filter::lt("i", 7), vec![1, 3]),
        (Filter::lte("i", -2), vec![1, 3]),
        (Filter::gt("i", -2), vec![2]),
        (Filter::gte("i", -2), vec![1, 2]),
        (Filter::contains("tags", "a"), vec![1]),
        (Filter::not_contains("tags", "a"), vec![2, 3]),
        (Filter::contains_any("tags", ["b", "c"]), vec![1, 2]),
        (Filter::not_contains_any("tags", ["b", "x"]), vec![2, 3]),
        (Filter::any_lt("ns", 5), vec![1]),
        (Filter::any_lte("ns", 5), vec![1, 3]),
        (Filter::any_gt("ns", 5), vec![1]),
        (Filter::any_gte("ns", 5), vec![1, 3]),
        (Filter::glob("path", "/src/*"), vec![1]),
        (Filter::not_glob("path", "/src/*"), vec![2, 3]),
        (Filter::iglob("path", "/LIB/b.*"), vec![2]),
        (Filter::not_iglob("path", "/LIB/b.*"), vec![1, 3]),
        (Filter::regex("path", "^/(src|lib)/[a-z]"), vec![1]),
        (Filter::fuzzy("city", "Lubexk", fuzzy()), vec![1]),
        (Filter::contains_all_tokens("body", "marine mammal"), vec![1]),
        (
            Filter::contains_all_tokens_with_params("body", "marine sh", all()),
            vec![2],
        ),
        (Filter::contains_any_token("body", ["mammal", "ship"]), vec![1, 2]),
        (
            Filter::contains_any_token_with_params("body", "large sh", any()),
            vec![1, 2],
        ),
        (Filter::contains_token_sequence("body", "marine mammals"), vec![1]),
        (
            Filter::and([Filter::gt("i", -5), Filter::contains("tags", "c")]),
            vec![2],
        ),
        (Filter::or([Filter::eq("i", -2), Filter::eq("id", 3)]), vec![1, 3]),
        (Filter::not(Filter::not(Filter::eq("i", 7))), vec![2]),
    ];
    for (filter, expected) in cases {
        let what = json!(filter);
        assert_eq!(matching(&ns, filter).await, expected, "{what}");
    }
    let refused = ns
        .query()
        .rank_by(in_order())
        .limit(1)
        .filters(Filter::eq("absent", 1))
        .await
        .unwrap_err();
    assert_eq!(kind(&refused), ApiErrorKind::BadRequest);
    assert!(refused.to_string().contains("attribute not found"), "{refused}");
    ns.delete_all().await.unwrap();
}

#[tokio::test]
async fn ranking_expressions_and_computed_attributes() {
    let ns = Fresh::new("ranking").await;
    let text = AttributeSchemaConfig::new("string").full_text_search(true);
    ns.write()
        .distance_metric(DistanceMetric::EuclideanSquared)
        .schema([
            ("u", AttributeSchemaConfig::new("uint")),
            ("text", text),
            (
                "terms",
                AttributeSchemaConfig::new("{}f16").sparse_knn(SparseKnn::new("dot_product")),
            ),
        ])
        .upsert_rows([
            Row::new(1)
                .vector([1.0, 0.0])
                .insert("u", 5)
                .insert("text", "The otter sleeps.")
                .insert("terms", json!({"a": 2.0})),
            Row::new(2)
                .vector([3.0, 4.0])
                .insert("u", 3)
                .insert("text", "An otter and an otter."),
            Row::new(3)
                .vector([0.0, 0.0])
                .insert("u", 9)
                .insert("text", "Snow.")
                .insert("terms", json!({"a": 0.5, "b": 1.0})),
        ])
        .await
        .unwrap();
    let u = || RankByText::attribute("u");
    let half = |weight| RankByText::product(weight, Filter::gte("u", 5));
    let cases: Vec<(RankBy, Vec<(u64, f64)>)> = vec![
        (u().into(), vec![(3, 9.0), (1, 5.0), (2, 3.0)]),
        (
            RankBy::saturate(u(), SaturateParams::new().midpoint(3)).into(),
            vec![(3, 0.75), (1, 0.625), (2, 0.5)],
        ),
        (
            RankBy::decay(RankBy::dist(u(), 5), DecayParams::new().midpoint(2)).into(),
            vec![(1, 1.0), (2, 0.5), (3, 1.0 / 3.0)],
        ),
        (
            RankBy::decay(RankBy::dist(u(), 5), DecayParams::new().midpoint(2).exponent(2.0)).into(),
            vec![(1, 1.0), (2, 0.5), (3, 0.2)],
        ),
        (
            RankBy::sum([half(2.0), RankByText::filter(Filter::eq("u", 9))]).into(),
            vec![(3, 3.0), (1, 2.0)],
        ),
        (
            RankBy::max([half(2.0), RankByText::filter(Filter::eq("u", 3))]).into(),
            vec![(1, 2.0), (3, 2.0), (2, 1.0)],
        ),
        (
            RankBy::sparse_knn("terms", [("a", 1.0), ("b", 0.25)]),
            vec![(1, 2.0), (3, 0.75)],
        ),
    ];
    for (rank_by, expected) in cases {
        let what = json!(rank_by);
        let rows = ns
            .query()
            .rank_by(rank_by)
            .limit(expected.len() as u64)
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}"))
            .rows;
        assert_eq!(
            ids(&rows),
            expected.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            "{what}"
        );
        close(
            &dists(&rows),
            &expected.iter().map(|(_, score)| *score).collect::<Vec<_>>(),
        );
    }
    let prefix = RankBy::bm25_with_params("text", "ott", Bm25ClauseParams::new().last_as_prefix(true));
    let rows = ns.query().rank_by(prefix).limit(9).await.unwrap().rows;
    assert_eq!((ids(&rows), dists(&rows)), (vec![1, 2], vec![1.0, 1.0]));

    let whole = HighlightConfigParams::new()
        .fragment_by(HighlightFragmentBy::None)
        .include_offsets("utf-8");
    let answer = ns
        .query()
        .rank_by(RankBy::bm25("text", "otter"))
        .limit(9)
        .filters(Filter::eq("id", 1))
        .compute_attributes([
            ("d", Expr::vector_dist("vector", [1.0, 1.0])),
            ("big", Expr::score(RankByText::filter(Filter::gte("u", 4)))),
            ("whole", Expr::highlight_with_config("text", whole)),
            ("parts", Expr::highlight("text")),
        ])
        .await
        .unwrap();
    let [row] = answer.rows.as_slice() else {
        panic!("{:?}", answer.rows)
    };
    assert_eq!(row.get("d"), Some(&json!(1.0)));
    assert_eq!(row.get("big"), Some(&json!(true)));
    let whole = json!([{"text": "The otter sleeps.", "fragment_range": [0, 17], "match_ranges": [[4, 9]]}]);
    assert_eq!(row.get("whole"), Some(&whole));
    assert_eq!(row.get("parts"), Some(&json!([{"text": "The otter sleeps."}])));
    ns.delete_all().await.unwrap();
}

#[tokio::test]
async fn aggregations_and_several_queries_at_once() {
    let ns = Fresh::new("aggregations").await;
    ns.write()
        .upsert_rows([
            Row::new(1)
                .insert("shop", "a")
                .insert("price", 10)
                .insert("tags", ["new", "sale"]),
            Row::new(2)
                .insert("shop", "a")
                .insert("price", 20)
                .insert("tags", ["new"]),
            Row::new(3)
                .insert("shop", "b")
                .insert("price", -5)
                .insert("tags", ["sale"]),
        ])
        .await
        .unwrap();
    let answer = ns
        .query()
        .aggregate_by([("n", AggregateBy::count()), ("total", AggregateBy::sum("price"))])
        .await
        .unwrap();
    assert_eq!(json!(answer.aggregations), json!({"n": 3, "total": 25}));
    assert!(answer.rows.is_empty() && answer.aggregation_groups.is_empty());
    let groups = ns
        .query()
        .aggregate_by([("n", AggregateBy::count())])
        .group_by(["shop"])
        .limit(9)
        .await
        .unwrap();
    assert_eq!(
        json!(groups.aggregation_groups),
        json!([{"shop": "a", "n": 2}, {"shop": "b", "n": 1}])
    );
    let by_tag = GroupBy::expr([("tag", GroupByFunction::for_each_unique("tags"))]);
    let groups = ns
        .query()
        .aggregate_by([("total", AggregateBy::sum("price"))])
        .group_by([by_tag])
        .limit(9)
        .await
        .unwrap();
    assert_eq!(
        json!(groups.aggregation_groups),
        json!([{"tag": "new", "total": 30}, {"tag": "sale", "total": 5}])
    );

    let asc = || Query::new().rank_by(in_order()).limit(2);
    let desc = || {
        Query::new()
            .rank_by(RankBy::attribute("id", "desc"))
            .limit(2)
            .include_attributes(["shop"])
    };
    let count = Query::new()
        .aggregate_by([("n", AggregateBy::count())])
        .filters(Filter::eq("shop", "a"));
    let answer = ns.multi_query([asc(), desc(), count]).await.unwrap();
    assert_eq!(
        answer
            .results
            .iter()
            .map(|result| ids(&result.rows))
            .collect::<Vec<_>>(),
        [vec![1, 2], vec![3, 2], vec![]]
    );
    assert_eq!(
        answer.results[2].aggregations,
        BTreeMap::from([("n".to_owned(), json!(2))])
    );
    assert!(answer.performance.server_total_ms > 0 && answer.billing.billable_logical_bytes_returned > 0);
    let fused = ns
        .multi_query([asc(), desc()])
        .rerank_by(RerankBy::rrf())
        .limit(10)
        .await
        .unwrap();
    assert_eq!(fused.results.len(), 1);
    assert_eq!(ids(&fused.results[0].rows), [2, 1, 3]);
    close(&dists(&fused.results[0].rows), &[2.0 / 62.0, 1.0 / 61.0, 1.0 / 61.0]);
    let params = RrfParams::new().rank_constant(1).weights([1.0, 4.0]);
    let fused = ns
        .multi_query([asc(), desc()])
        .rerank_by(RerankBy::rrf_with_params(params))
        .limit(2)
        .offset(1);
    let fused = fused.await.unwrap();
    close(&dists(&fused.results[0].rows), &[5.0 / 3.0, 0.5]);
    assert_eq!(ids(&fused.results[0].rows), [2, 1]);
    ns.delete_all().await.unwrap();
}

#[tokio::test]
async fn late_interaction_and_half_precision() {
    let ns = Fresh::new("late").await;
    let ann = AnnConfig::new()
        .distance_metric(DistanceMetric::CosineDistance)
        .late_interaction(true);
    ns.write()
        .schema([("pages", AttributeSchemaConfig::new("[][2]f32").ann(ann))])
        .upsert_rows([
            Row::new(1).insert("pages", [[-1.0, 0.0]]),
            Row::new(2).insert("pages", [[1.0, 0.0], [0.0, 1.0]]),
        ])
        .await
        .unwrap();
    let rank_by = RankBy::ann("pages", [[1.0, 0.0], [0.0, 1.0]]);
    assert_eq!(ids(&ns.query().rank_by(rank_by).limit(2).await.unwrap().rows), [2, 1]);
    ns.delete_all().await.unwrap();
    let half = AttributeSchemaConfig::new("[2]f16").ann(AnnConfig::new().distance_metric("euclidean_squared"));
    // Sent as base64 of f32, stored as f16.
    ns.write()
        .schema([("vector", half)])
        .upsert_rows([Row::new(1).vector([0.1, 1.0])])
        .await
        .unwrap();
    let rows = ns
        .query()
        .rank_by(in_order())
        .limit(1)
        .include_attributes(true)
        .vector_encoding("base64")
        .await
        .unwrap()
        .rows;
    assert_eq!(rows[0].vector, Some(Vector::from("Zi4APA==")));
    ns.delete_all().await.unwrap();
}
