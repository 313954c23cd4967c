package suite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static suite.Server.row;
import static suite.Server.stored;
import static suite.Server.upsert;

import com.turbopuffer.client.Namespace;
import com.turbopuffer.core.JsonValue;
import com.turbopuffer.errors.BadRequestException;
import com.turbopuffer.errors.NotFoundException;
import com.turbopuffer.errors.UnprocessableEntityException;
import com.turbopuffer.models.namespaces.AttributeSchemaConfig;
import com.turbopuffer.models.namespaces.Columns;
import com.turbopuffer.models.namespaces.DistanceMetric;
import com.turbopuffer.models.namespaces.Expr;
import com.turbopuffer.models.namespaces.Filter;
import com.turbopuffer.models.namespaces.NamespaceWriteParams;
import com.turbopuffer.models.namespaces.NamespaceWriteResponse;
import com.turbopuffer.models.namespaces.Schema;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Writes: every operation, its counts, and what is stored afterwards. */
class WriteTest {
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

    private static NamespaceWriteParams.Builder write() {
        return NamespaceWriteParams.builder();
    }

    private static Schema schema(String name, String type) {
        return Schema.builder().put(name, AttributeSchemaConfig.builder().type(type).build()).build();
    }

    @Test
    void rowsComeBackAsTheyWereSent() {
        NamespaceWriteResponse answer = ns.write(write()
                .addUpsertRow(row("id", 2, "vector", List.of(2, 2)))
                .addUpsertRow(row("id", 7, "vector", List.of(0.7, 0.7), "hello", "world", "n", -3, "tags", List.of("a", "b")))
                .distanceMetric(DistanceMetric.EUCLIDEAN_SQUARED)
                .build());
        assertEquals("OK", answer._status().convert(String.class));
        assertFalse(answer.message().isEmpty());
        assertEquals(2, answer.rowsAffected());
        assertEquals(2, answer.rowsUpserted().orElseThrow());
        assertTrue(answer.rowsPatched().isEmpty() && answer.rowsDeleted().isEmpty());
        assertTrue(answer.billing().billableLogicalBytesWritten() > 0);
        assertEquals(
                List.of(
                        Map.of("id", 2, "vector", List.of(2.0, 2.0)),
                        Map.of("id", 7, "vector", List.of(0.7, 0.7), "hello", "world", "n", -3, "tags", List.of("a", "b"))),
                stored(ns));
    }

    @Test
    void columnsPatchesAndDeletes() {
        ns.write(write()
                .upsertColumns(Columns.builder()
                        .put("id", List.of(1, 2, 3))
                        .put("vector", List.of(List.of(1.5, 1.0), List.of(2.5, 2.0), List.of(3.5, 3.0)))
                        .put("name", Arrays.asList("one", null, "three"))
                        .build())
                .distanceMetric(DistanceMetric.COSINE_DISTANCE)
                .build());
        NamespaceWriteResponse patched = ns.write(write()
                .patchRows(List.of(row("id", 2, "name", "two"), row("id", 99, "name", "none")))
                .build());
        assertEquals(1, patched.rowsPatched().orElseThrow());
        patched = ns.write(write()
                .patchColumns(Columns.builder().put("id", List.of(1, 3)).put("name", Arrays.asList("uno", null)).build())
                .build());
        assertEquals(2, patched.rowsPatched().orElseThrow());
        NamespaceWriteResponse deleted = ns.write(write().addDelete(3).addDelete(4).build());
        assertEquals(2, deleted.rowsDeleted().orElseThrow());
        assertEquals(
                List.of(
                        Map.of("id", 1, "vector", List.of(1.5, 1.0), "name", "uno"),
                        Map.of("id", 2, "vector", List.of(2.5, 2.0), "name", "two")),
                stored(ns));
    }

    @Test
    void conditionsCompareStoredWithIncomingValues() {
        ns.write(write()
                .upsertRows(List.of(row("id", 1, "rev", 1), row("id", 2, "rev", 5), row("id", 3)))
                .schema(schema("rev", "int"))
                .build());
        Filter newer = Filter.or(Filter.lt("rev", Expr.refNew("rev")), Filter.eq("rev", JsonValue.from(null)));
        NamespaceWriteResponse answer = ns.write(write()
                .upsertRows(List.of(row("id", 1, "rev", 3), row("id", 2, "rev", 4), row("id", 3, "rev", 1), row("id", 4, "rev", 0)))
                .upsertCondition(newer)
                .putAdditionalBodyProperty("return_affected_ids", JsonValue.from(true))
                .build());
        assertEquals(3, answer.rowsUpserted().orElseThrow());
        assertEquals(List.of(1, 3, 4), answer._additionalProperties().get("upserted_ids").convert(List.class));
        answer = ns.write(write()
                .patchRows(List.of(row("id", 1, "rev", 9), row("id", 2, "rev", 2), row("id", 77, "rev", 9)))
                .patchCondition(Filter.lt("rev", Expr.refNew("rev")))
                .build());
        assertEquals(1, answer.rowsPatched().orElseThrow());
        answer = ns.write(write().deletes(List.of(1, 2, 77)).deleteCondition(Filter.gt("rev", 5)).build());
        assertEquals(1, answer.rowsDeleted().orElseThrow());
        assertEquals(
                List.of(Map.of("id", 2, "rev", 5), Map.of("id", 3, "rev", 1), Map.of("id", 4, "rev", 0)), stored(ns));
    }

    @Test
    void writesByFilter() {
        upsert(ns, row("id", 1, "n", 1), row("id", 2, "n", 2), row("id", 3, "n", 3), row("id", 4, "n", 4));
        NamespaceWriteResponse answer = ns.write(write()
                .putAdditionalBodyProperty(
                        "patch_by_filter",
                        JsonValue.from(Map.of("filters", List.of("n", "Lte", 2), "patch", Map.of("label", "small"))))
                .build());
        assertEquals(2, answer.rowsPatched().orElseThrow());
        answer = ns.write(write().deleteByFilter(Filter.in("n", List.of(2, 4))).build());
        assertEquals(2, answer.rowsDeleted().orElseThrow());
        assertEquals(0, ns.write(write().deleteByFilter(Filter.gt("n", 99)).build()).rowsAffected());
        assertEquals(List.of(Map.of("id", 1, "n", 1, "label", "small"), Map.of("id", 3, "n", 3)), stored(ns));
    }

    @Test
    void copiesAndBranches() {
        upsert(ns, row("id", 1, "n", 1), row("id", 2, "n", 2));
        Namespace copy = server.fresh();
        assertEquals(2, copy.write(write().copyFromNamespace(ns.id()).build()).rowsAffected());
        Namespace branch = server.fresh();
        branch.write(write().putAdditionalBodyProperty("branch_from_namespace", JsonValue.from(ns.id())).build());
        upsert(branch, row("id", 3, "n", 3));
        ns.deleteAll();
        assertEquals(List.of(Map.of("id", 1, "n", 1), Map.of("id", 2, "n", 2)), stored(copy));
        assertEquals(List.of(Map.of("id", 1, "n", 1), Map.of("id", 2, "n", 2), Map.of("id", 3, "n", 3)), stored(branch));
        assertThrows(
                NotFoundException.class,
                () -> server.fresh().write(write().copyFromNamespace(ns.id()).build()));
    }

    @Test
    void idsOfEveryKind() {
        Namespace text = server.fresh();
        upsert(text, row("id", "b", "n", 1), row("id", "a", "n", 2));
        assertEquals(List.of("a", "b"), stored(text).stream().map(row -> row.get("id")).toList());
        Namespace uuid = server.fresh();
        String id = "769C134D-07B8-4225-954A-B6CC5FFC320C";
        uuid.write(write().addUpsertRow(row("id", id)).schema(schema("id", "uuid")).build());
        assertEquals(List.of(Map.of("id", id.toLowerCase())), stored(uuid));
        Namespace large = server.fresh();
        upsert(large, row("id", Long.MAX_VALUE), row("id", 0));
        assertEquals(List.of(Map.of("id", 0), Map.of("id", Long.MAX_VALUE)), stored(large));
    }

    @Test
    void typesOfTheSchemaComeBack() {
        ns.write(write()
                .addUpsertRow(row("id", 1, "at", "2024-01-01T02:00:00+02:00", "f", 0.1, "flags", List.of(true), "none", null))
                .schema(Schema.builder()
                        .put("at", AttributeSchemaConfig.builder().type("datetime").build())
                        .put("f", AttributeSchemaConfig.builder().type("float").build())
                        .put("flags", AttributeSchemaConfig.builder().type("[]bool").build())
                        .build())
                .build());
        Map<String, Object> only = stored(ns).get(0);
        assertEquals(java.time.Instant.parse("2024-01-01T00:00:00Z"), java.time.Instant.parse((String) only.get("at")));
        assertEquals(0.1, only.get("f"));
        assertEquals(List.of(true), only.get("flags"));
        assertFalse(only.containsKey("none"));
    }

    @Test
    void refusedWritesChangeNothing() {
        upsert(ns, row("id", 1, "n", 1));
        assertThrows(BadRequestException.class, () -> upsert(ns, row("id", 2, "n", "two")));
        assertThrows(BadRequestException.class, () -> upsert(ns, row("id", 2), row("id", 2)));
        assertThrows(BadRequestException.class, () -> upsert(ns, row("id", "text")));
        UnprocessableEntityException shape = assertThrows(
                UnprocessableEntityException.class,
                () -> ns.write(write().putAdditionalBodyProperty("upsert_rows", JsonValue.from(Map.of("id", 2))).build()));
        assertTrue(shape.getMessage().contains("invalid type: map, expected a sequence"), shape.getMessage());
        assertEquals(List.of(Map.of("id", 1, "n", 1)), stored(ns));
    }
}
