package suite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static suite.Server.dist;
import static suite.Server.ids;
import static suite.Server.inOrder;
import static suite.Server.matching;
import static suite.Server.plain;
import static suite.Server.row;
import static suite.Server.upsert;

import com.turbopuffer.client.Namespace;
import com.turbopuffer.core.JsonValue;
import com.turbopuffer.errors.BadRequestException;
import com.turbopuffer.errors.UnprocessableEntityException;
import com.turbopuffer.models.namespaces.AggregateBy;
import com.turbopuffer.models.namespaces.AttributeSchemaConfig;
import com.turbopuffer.models.namespaces.Bm25ClauseParams;
import com.turbopuffer.models.namespaces.ContainsAllTokensFilterParams;
import com.turbopuffer.models.namespaces.DistanceMetric;
import com.turbopuffer.models.namespaces.Filter;
import com.turbopuffer.models.namespaces.FullTextSearchConfig;
import com.turbopuffer.models.namespaces.NamespaceExplainQueryParams;
import com.turbopuffer.models.namespaces.NamespaceMultiQueryParams;
import com.turbopuffer.models.namespaces.NamespaceMultiQueryResponse;
import com.turbopuffer.models.namespaces.NamespaceQueryParams;
import com.turbopuffer.models.namespaces.NamespaceQueryResponse;
import com.turbopuffer.models.namespaces.NamespaceRecallParams;
import com.turbopuffer.models.namespaces.NamespaceRecallResponse;
import com.turbopuffer.models.namespaces.NamespaceWriteParams;
import com.turbopuffer.models.namespaces.Query;
import com.turbopuffer.models.namespaces.RankBy;
import com.turbopuffer.models.namespaces.RankByAttributeOrder;
import com.turbopuffer.models.namespaces.RankByText;
import com.turbopuffer.models.namespaces.Row;
import com.turbopuffer.models.namespaces.Schema;
import com.turbopuffer.models.namespaces.VectorEncoding;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Queries: neighbours, order, filters, text, aggregations, several at once, and the shape of answers. */
class QueryTest {
    private Server server;
    private Namespace ns;

    @BeforeEach
    void open() {
        server = new Server();
        ns = server.fresh();
    }

    @AfterEach
    void close() {
        server.close();
    }

    private static NamespaceQueryParams.Builder nearest(int k, Float... point) {
        return NamespaceQueryParams.builder().rankBy(RankBy.vector("vector", List.of(point))).topK(k);
    }

    private static NamespaceQueryParams.Builder ranked(RankBy rankBy) {
        return NamespaceQueryParams.builder().rankBy(rankBy).topK(10);
    }

    private void points() {
        ns.write(NamespaceWriteParams.builder()
                .upsertRows(List.of(
                        row("id", 7, "vector", List.of(0.7, 0.7), "hello", "world", "n", 7),
                        row("id", 10, "vector", List.of(1, 1), "n", 10),
                        row("id", 16, "vector", List.of(1.5, 1.5), "n", 1),
                        row("id", 15, "vector", List.of(1.5, 1.5), "n", 1)))
                .distanceMetric(DistanceMetric.EUCLIDEAN_SQUARED)
                .build());
    }

    @Test
    void neighboursProjectionPerformanceAndBilling() {
        points();
        NamespaceQueryResponse answer = ns.query(nearest(4, 0.8f, 0.7f).build());
        List<Row> rows = answer.rows().orElseThrow();
        assertEquals(List.of(7L, 10L, 15L, 16L), ids(rows));
        double[] expected = {0.01, 0.13, 1.13, 1.13};
        for (int i = 0; i < 4; i++) {
            assertEquals(expected[i], dist(rows.get(i)), 1e-5);
            assertEquals(2, rows.get(i).size());
        }
        assertEquals(4, answer.performance().approxNamespaceSize());
        assertEquals(4, answer.performance().exhaustiveSearchCount());
        assertTrue(answer.performance().cacheHitRatio() >= 0 && answer.performance().cacheHitRatio() <= 1);
        assertTrue(List.of("hot", "warm", "cold").contains(answer.performance().cacheTemperature()));
        assertTrue(answer.performance().queryExecutionMs() > 0);
        assertTrue(answer.performance().serverTotalMs() > 0);
        assertEquals(256_000_000, answer.billing().billableLogicalBytesQueried());
        assertEquals(24, ns.query(nearest(2, 0.8f, 0.7f).build()).billing().billableLogicalBytesReturned());
        assertTrue(answer.aggregations().isEmpty() && answer.aggregationGroups().isEmpty());

        Row only = ns.query(nearest(1, 0.7f, 0.7f).includeAttributes("vector", "hello").build()).rows().orElseThrow().get(0);
        assertEquals(Map.of("id", 7, "$dist", 0.0, "vector", List.of(0.7, 0.7), "hello", "world"), plain(only));
        List<Row> ordered = ns.query(ranked(RankBy.attribute("n", RankByAttributeOrder.DESC))
                        .excludeAttributes(List.of("vector", "hello"))
                        .build())
                .rows()
                .orElseThrow();
        assertEquals(Map.of("id", 10, "n", 10), plain(ordered.get(0)));
        assertEquals(List.of(10L, 7L, 15L, 16L), ids(ordered));
        Row encoded = ns.query(nearest(1, 1f, 1f).includeAttributes("vector").vectorEncoding(VectorEncoding.BASE64).build())
                .rows()
                .orElseThrow()
                .get(0);
        assertEquals("AACAPwAAgD8=", encoded.get("vector").convert(String.class));
    }

    @Test
    void bothLevelsOfConsistencyAndNoOther() {
        points();
        for (NamespaceQueryParams.Consistency.Level level :
                List.of(NamespaceQueryParams.Consistency.Level.STRONG, NamespaceQueryParams.Consistency.Level.EVENTUAL)) {
            NamespaceQueryParams.Consistency consistency =
                    NamespaceQueryParams.Consistency.builder().level(level).build();
            assertEquals(List.of(7L, 10L, 15L, 16L), ids(ns.query(inOrder().consistency(consistency).build())));
        }
        UnprocessableEntityException refused = assertThrows(
                UnprocessableEntityException.class,
                () -> ns.query(inOrder()
                        .putAdditionalBodyProperty("consistency", JsonValue.from(Map.of("level", "nonexistentvalue")))
                        .build()));
        assertTrue(
                refused.getMessage().contains("unknown variant `nonexistentvalue`, expected `strong` or `eventual`"),
                refused.getMessage());
    }

    @Test
    void everyFilterMatchesExactlyTheRightRows() {
        ns.write(NamespaceWriteParams.builder()
                .upsertRows(List.of(
                        row("id", 1, "i", -2, "path", "/src/a.ts", "tags", List.of("a", "b"), "ns", List.of(1, 10), "body", "large marine mammals"),
                        row("id", 2, "i", 7, "path", "/lib/B.ts", "tags", List.of("c"), "ns", List.of(5), "body", "marine ships"),
                        row("id", 3)))
                .schema(Schema.builder()
                        .put("i", AttributeSchemaConfig.builder().type("int").build())
                        .put("path", AttributeSchemaConfig.builder().type("string").regex(true).filterable(true).build())
                        .put("tags", AttributeSchemaConfig.builder().type("[]string").build())
                        .put("ns", AttributeSchemaConfig.builder().type("[]int").build())
                        .put("body", AttributeSchemaConfig.builder()
                                .type("string")
                                .fullTextSearch(FullTextSearchConfig.builder().stemming(true).build())
                                .build())
                        .build())
                .build());
        Map<Filter, List<Long>> cases = new LinkedHashMap<>();
        cases.put(Filter.eq("i", 7), List.of(2L));
        cases.put(Filter.eq("i", JsonValue.from(null)), List.of(3L));
        cases.put(Filter.notEq("i", 7), List.of(1L, 3L));
        cases.put(Filter.in("i", List.of(7, -2)), List.of(1L, 2L));
        cases.put(Filter.notIn("i", List.of(7)), List.of(1L, 3L));
        cases.put(Filter.lt("i", 7), List.of(1L, 3L));
        cases.put(Filter.lte("i", -2), List.of(1L, 3L));
        cases.put(Filter.gt("i", -2), List.of(2L));
        cases.put(Filter.gte("i", -2), List.of(1L, 2L));
        cases.put(Filter.contains("tags", "a"), List.of(1L));
        cases.put(Filter.notContains("tags", "a"), List.of(2L, 3L));
        cases.put(Filter.containsAny("tags", List.of("b", "c")), List.of(1L, 2L));
        cases.put(Filter.notContainsAny("tags", List.of("b", "x")), List.of(2L, 3L));
        cases.put(Filter.anyLt("ns", 5), List.of(1L));
        cases.put(Filter.anyLte("ns", 5), List.of(1L, 2L));
        cases.put(Filter.anyGt("ns", 5), List.of(1L));
        cases.put(Filter.anyGte("ns", 5), List.of(1L, 2L));
        cases.put(Filter.glob("path", "/src/*"), List.of(1L));
        cases.put(Filter.notGlob("path", "/src/*"), List.of(2L, 3L));
        cases.put(Filter.iGlob("path", "/LIB/b.*"), List.of(2L));
        cases.put(Filter.notIGlob("path", "/LIB/b.*"), List.of(1L, 3L));
        cases.put(Filter.regex("path", "^/(src|lib)/[a-z]"), List.of(1L));
        cases.put(Filter.containsAllTokens("body", "marine mammal"), List.of(1L));
        cases.put(Filter.containsAllTokens("body", List.of("marine", "ship")), List.of(2L));
        cases.put(
                Filter.containsAllTokens(
                        "body", "marine sh", ContainsAllTokensFilterParams.builder().lastAsPrefix(true).build()),
                List.of(2L));
        cases.put(Filter.and(Filter.gt("i", -5), Filter.contains("tags", "c")), List.of(2L));
        cases.put(Filter.or(Filter.eq("i", -2), Filter.eq("id", 3)), List.of(1L, 3L));
        cases.put(Filter.not(Filter.not(Filter.eq("i", 7))), List.of(2L));
        cases.forEach((filter, expected) -> assertEquals(expected, matching(ns, filter), JsonValue.from(filter).toString()));

        BadRequestException refused =
                assertThrows(BadRequestException.class, () -> matching(ns, Filter.contains("tags", List.of("a"))));
        assertTrue(
                refused.getMessage().contains("filter error in key `tags`: type mismatch, Contains expects string, but got "),
                refused.getMessage());
        refused = assertThrows(BadRequestException.class, () -> matching(ns, Filter.eq("absent", 1)));
        assertTrue(refused.getMessage().contains("attribute not found"), refused.getMessage());
    }

    @Test
    void textAndItsCombinations() {
        ns.write(NamespaceWriteParams.builder()
                .upsertRows(List.of(
                        row("id", 1, "text", "the fox is quick and brown", "tokens", List.of("one", "Two words")),
                        row("id", 2, "text", "fox jumped over the lazy dog", "tokens", List.of("One")),
                        row("id", 3, "text", "the dog is lazy and brown")))
                .schema(Schema.builder()
                        .put("text", AttributeSchemaConfig.builder()
                                .type("string")
                                .fullTextSearch(FullTextSearchConfig.builder().stemming(true).removeStopwords(true).build())
                                .build())
                        .put("tokens", AttributeSchemaConfig.builder()
                                .type("[]string")
                                .putAdditionalProperty(
                                        "full_text_search", JsonValue.from(Map.of("tokenizer", "pre_tokenized_array")))
                                .build())
                        .build())
                .build());
        RankByText jumping = RankByText.bm25("text", "fox jumping");
        RankByText brown = RankByText.bm25("text", "brown");
        List<Row> plain = ns.query(ranked(jumping).build()).rows().orElseThrow();
        assertEquals(List.of(2L, 1L), ids(plain));
        assertTrue(dist(plain.get(0)) > dist(plain.get(1)));
        List<Row> left = ns.query(ranked(RankByText.product(3.0, jumping)).build()).rows().orElseThrow();
        List<Row> right = ns.query(ranked(RankByText.product(jumping, 3.0)).build()).rows().orElseThrow();
        assertEquals(plain(left), plain(right));
        assertEquals(3 * dist(plain.get(0)), dist(left.get(0)), 1e-6);
        Map<Long, Double> sums = scores(RankByText.sum(jumping, brown));
        Map<Long, Double> best = scores(RankByText.max(jumping, brown));
        Map<Long, Double> first = scores(jumping);
        Map<Long, Double> second = scores(brown);
        assertEquals(3, sums.size());
        for (long id = 1; id <= 3; id++) {
            double a = first.getOrDefault(id, 0.0);
            double b = second.getOrDefault(id, 0.0);
            assertEquals(a + b, sums.get(id), 1e-6);
            assertEquals(Math.max(a, b), best.get(id), 1e-6);
        }
        assertEquals(
                Map.of(2L, 1.0),
                scores(RankByText.bm25("text", "jum", Bm25ClauseParams.builder().lastAsPrefix(true).build())));
        assertEquals(List.of(1L), ids(ns.query(ranked(RankByText.bm25("tokens", List.of("Two words"))).build())));
        BadRequestException refused = assertThrows(
                BadRequestException.class, () -> ns.query(ranked(RankByText.bm25("tokens", "one")).build()));
        assertTrue(refused.getMessage().contains("expecting []string"), refused.getMessage());
    }

    private Map<Long, Double> scores(RankByText rankBy) {
        Map<Long, Double> scores = new LinkedHashMap<>();
        ns.query(ranked(rankBy).build()).rows().orElseThrow().forEach(row -> scores.put(row.get("id").convert(Long.class), dist(row)));
        return scores;
    }

    @Test
    void aggregationsWholeAndByGroup() {
        upsert(
                ns,
                row("id", 1, "shop", "a", "price", 10),
                row("id", 2, "shop", "a", "price", 20),
                row("id", 3, "shop", "b", "price", -5));
        NamespaceQueryResponse whole = ns.query(NamespaceQueryParams.builder()
                .aggregateBy(Map.of("n", AggregateBy.count(), "of", AggregateBy.count("id")))
                .build());
        assertEquals(Map.of("n", 3, "of", 3), plain(whole.aggregations().orElseThrow()));
        assertTrue(whole.rows().isEmpty());
        NamespaceQueryResponse groups = ns.query(NamespaceQueryParams.builder()
                .aggregateBy(Map.of("n", AggregateBy.count()))
                .addGroupBy("shop")
                .topK(10)
                .build());
        assertEquals(
                List.of(Map.of("shop", "a", "n", 2), Map.of("shop", "b", "n", 1)),
                plain(groups.aggregationGroups().orElseThrow()));
        // Newer than this client's types.
        NamespaceQueryResponse sum = ns.query(NamespaceQueryParams.builder()
                .putAdditionalBodyProperty("aggregate_by", JsonValue.from(Map.of("total", List.of("Sum", "price"))))
                .filters(Filter.eq("shop", "a"))
                .build());
        assertEquals(Map.of("total", 30), plain(sum.aggregations().orElseThrow()));
    }

    @Test
    void severalQueriesOnOneSnapshotAndTheirFusion() {
        points();
        Query first = Query.builder().rankBy(RankBy.vector("vector", List.of(0.8f, 0.7f))).topK(3).build();
        Query second = Query.builder()
                .rankBy(RankBy.attribute("id", RankByAttributeOrder.DESC))
                .topK(2)
                .includeAttributesOfStrings(List.of("n"))
                .build();
        Query count = Query.builder().aggregateBy(Map.of("n", AggregateBy.count())).build();
        NamespaceMultiQueryResponse answer = ns.multiQuery(
                NamespaceMultiQueryParams.builder().addQuery(first).addQuery(second).addQuery(count).build());
        assertEquals(List.of(7L, 10L, 15L), ids(answer.results().get(0).rows().orElseThrow()));
        assertEquals(Map.of("id", 16, "n", 1), plain(answer.results().get(1).rows().orElseThrow().get(0)));
        assertEquals(
                Map.of("n", 4), plain(answer.results().get(2).aggregations().orElseThrow()._additionalProperties()));
        assertTrue(answer.performance().serverTotalMs() > 0);
        assertTrue(answer.billing().billableLogicalBytesReturned() > 0);

        NamespaceMultiQueryResponse fused = ns.multiQuery(NamespaceMultiQueryParams.builder()
                .addQuery(first)
                .addQuery(second)
                .putAdditionalBodyProperty("rerank_by", JsonValue.from(List.of("RRF")))
                .putAdditionalBodyProperty("limit", JsonValue.from(10))
                .build());
        assertEquals(1, fused.results().size());
        List<Row> rows = fused.results().get(0).rows().orElseThrow();
        // 7 and 16 lead one list each, 15 is third and second.
        assertEquals(List.of(15L, 7L, 16L, 10L), ids(rows));
        assertEquals(1.0 / 63 + 1.0 / 62, dist(rows.get(0)), 1e-7);
        assertEquals(1.0 / 61, dist(rows.get(1)), 1e-7);
    }

    @Test
    void plansAndRecall() {
        points();
        String plan = ns.explainQuery(NamespaceExplainQueryParams.builder()
                        .rankBy(RankBy.vector("vector", List.of(1f, 1f)))
                        .topK(2)
                        .build())
                .planText()
                .orElseThrow();
        assertFalse(plan.isBlank());
        NamespaceRecallResponse recall = ns.recall(NamespaceRecallParams.builder().num(1).topK(2).build());
        assertEquals(List.of(1.0, 2.0, 2.0), List.of(recall.avgRecall(), recall.avgExhaustiveCount(), recall.avgAnnCount()));
        assertTrue(recall.groundTruth().isEmpty());
        recall = ns.recall(NamespaceRecallParams.builder().num(1).topK(2).includeGroundTruth(true).build());
        assertEquals(2, recall.groundTruth().orElseThrow().get(0).nearestNeighbors().size());
        assertEquals(2, recall.groundTruth().orElseThrow().get(0).queryVector().size());
        assertEquals(1.0, ns.recall().avgRecall());
    }

    @Test
    void whatIsNewerThanTheTypesTravelsAsAdditionalProperties() {
        points();
        NamespaceQueryResponse per = ns.query(NamespaceQueryParams.builder()
                .rankBy(RankBy.attribute("id", RankByAttributeOrder.DESC))
                .putAdditionalBodyProperty(
                        "limit", JsonValue.from(Map.of("total", 10, "per", Map.of("attributes", List.of("n"), "limit", 1))))
                .build());
        assertEquals(List.of(16L, 10L, 7L), ids(per));
        Row computed = ns.query(nearest(1, 0.7f, 0.7f)
                        .putAdditionalBodyProperty(
                                "compute_attributes",
                                JsonValue.from(Map.of("d", List.of("vector", "VectorDist", List.of(0.7, 1.7)))))
                        .build())
                .rows()
                .orElseThrow()
                .get(0);
        assertEquals(1.0, computed.get("d").convert(Double.class), 1e-6);
    }
}
