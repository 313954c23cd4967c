package suite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static suite.Server.row;
import static suite.Server.stored;
import static suite.Server.upsert;

import com.turbopuffer.client.Namespace;
import com.turbopuffer.client.NamespaceAsync;
import com.turbopuffer.core.JsonValue;
import com.turbopuffer.errors.BadRequestException;
import com.turbopuffer.errors.NotFoundException;
import com.turbopuffer.errors.TurbopufferServiceException;
import com.turbopuffer.errors.UnauthorizedException;
import com.turbopuffer.models.ClientNamespacesPage;
import com.turbopuffer.models.ClientNamespacesParams;
import com.turbopuffer.models.namespaces.AttributeSchemaConfig;
import com.turbopuffer.models.namespaces.DistanceMetric;
import com.turbopuffer.models.namespaces.FullTextSearchConfig;
import com.turbopuffer.models.namespaces.NamespaceMetadata;
import com.turbopuffer.models.namespaces.NamespaceRecallParams;
import com.turbopuffer.models.namespaces.NamespaceUpdateSchemaParams;
import com.turbopuffer.models.namespaces.NamespaceWriteParams;
import com.turbopuffer.models.namespaces.Schema;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** Namespaces: listing, schema, metadata, deletion, warming, errors, and the region in the path. */
class NamespaceTest {
    private Server server;
    private Namespace ns;

    @BeforeEach
    void open() {
        // Not validated, which is the client's default: it is older than the tokenizer word_v4 and the status OK of warming.
        server = new Server(builder -> builder.responseValidation(false));
        ns = server.fresh();
    }

    @AfterEach
    void close() {
        server.close();
    }

    @Test
    void listingFollowsItsCursors() {
        String prefix = "java-list-" + UUID.randomUUID() + "-";
        List<String> names = new ArrayList<>();
        for (int i = 0; i < 11; i++) {
            names.add(prefix + String.format("%02d", i));
            upsert(server.named(names.get(i)), row("id", 1));
        }
        ClientNamespacesPage first =
                server.client.namespaces(ClientNamespacesParams.builder().prefix(prefix).pageSize(5).build());
        ClientNamespacesPage second = first.nextPage();
        assertEquals(5, first.namespaces().size());
        assertEquals(5, second.namespaces().size());
        assertNotEquals(first.nextCursor(), second.nextCursor());
        assertFalse(second.nextPage().hasNextPage());
        assertEquals(names, first.autoPager().stream().map(summary -> summary.id()).toList());
    }

    @Test
    void schemaAndItsChanges() {
        ns.write(NamespaceWriteParams.builder()
                .addUpsertRow(row("id", 1, "vector", List.of(0.5, 0.5), "title", "one", "flag", true))
                .distanceMetric(DistanceMetric.COSINE_DISTANCE)
                .schema(Schema.builder()
                        .put("title", AttributeSchemaConfig.builder()
                                .type("string")
                                .fullTextSearch(FullTextSearchConfig.builder().stemming(true).build())
                                .build())
                        .build())
                .build());
        Schema schema = ns.schema();
        assertEquals(Set.of("id", "vector", "title", "flag"), schema.keySet());
        assertEquals("uint", schema.get("id").type().orElseThrow());
        assertEquals("[2]f32", schema.get("vector").type().orElseThrow());
        assertTrue(schema.get("vector").ann().orElseThrow());
        assertTrue(schema.get("flag").filterable().orElseThrow());
        assertFalse(schema.get("title").filterable().orElseThrow());
        FullTextSearchConfig text = schema.get("title").fullTextSearch().orElseThrow().asConfig();
        assertEquals(1.2, text.k1().orElseThrow());
        assertEquals(0.75, text.b().orElseThrow());
        assertEquals(39, text.maxTokenLength().orElseThrow());
        assertEquals("word_v4", text._tokenizer().toString());
        assertTrue(text.stemming().orElseThrow());
        assertFalse(text.removeStopwords().orElseThrow());

        Schema after = ns.updateSchema(NamespaceUpdateSchemaParams.builder()
                .schema(Schema.builder()
                        .put("flag", AttributeSchemaConfig.builder().type("bool").filterable(false).build())
                        .put("later", AttributeSchemaConfig.builder().type("[]int").build())
                        .build())
                .build());
        assertFalse(after.get("flag").filterable().orElseThrow());
        assertEquals("[]int", after.get("later").type().orElseThrow());
        assertEquals(after.keySet(), ns.schema().keySet());
        AttributeSchemaConfig drop =
                AttributeSchemaConfig.builder().putAdditionalProperty("drop", JsonValue.from(true)).build();
        after = ns.updateSchema(NamespaceUpdateSchemaParams.builder()
                .schema(Schema.builder().put("later", drop).build())
                .build());
        assertEquals(Set.of("id", "vector", "title", "flag"), after.keySet());
        // Without arguments nothing changes.
        assertEquals(after.keySet(), ns.updateSchema().keySet());
        assertThrows(
                BadRequestException.class,
                () -> ns.updateSchema(NamespaceUpdateSchemaParams.builder()
                        .schema(Schema.builder().put("flag", AttributeSchemaConfig.builder().type("int").build()).build())
                        .build()));
    }

    @Test
    void metadataWarmingAndDeletion() {
        upsert(ns, row("id", 1, "n", 1));
        NamespaceMetadata metadata = ns.metadata().validate();
        assertTrue(Duration.between(metadata.createdAt(), OffsetDateTime.now()).abs().getSeconds() < 60);
        assertTrue(metadata.approxRowCount() >= 0 && metadata.approxLogicalBytes() >= 0);
        assertEquals(Set.of("id", "n"), metadata.schema()._additionalProperties().keySet());
        assertTrue(Set.of("ACCEPTED", "OK").contains(ns.hintCacheWarm()._status().convert(String.class)));
        assertFalse(ns.hintCacheWarm().message().orElseThrow().isEmpty());
        assertEquals("OK", ns.deleteAll()._status().convert(String.class));
        upsert(ns, row("id", "now text"));
        assertEquals(List.of(Map.of("id", "now text")), stored(ns));
    }

    @Test
    void everythingAboutAMissingNamespaceIsNotFound() {
        List<Executable> calls = List.of(
                () -> ns.query(Server.inOrder().build()),
                () -> ns.schema(),
                () -> ns.metadata(),
                () -> ns.deleteAll(),
                () -> ns.hintCacheWarm(),
                () -> ns.recall(NamespaceRecallParams.builder().num(1).build()));
        for (Executable call : calls) {
            NotFoundException missing = assertThrows(NotFoundException.class, call);
            assertEquals(404, missing.statusCode());
            assertEquals("error", missing.body().convert(Map.class).get("status"));
        }
    }

    @Test
    void aWrongKeyIsUnauthorizedAndAWrongNameIsRefused() {
        try (Server stranger = new Server(builder -> builder.apiKey("wrong"))) {
            assertThrows(UnauthorizedException.class, () -> stranger.client.namespace("any").schema());
            assertThrows(UnauthorizedException.class, () -> stranger.client.namespaces());
        }
        TurbopufferServiceException refused = assertThrows(
                TurbopufferServiceException.class,
                () -> upsert(server.client.namespace("with space/and slash"), row("id", 1)));
        assertTrue(refused.statusCode() >= 400 && refused.statusCode() < 500);
    }

    @Test
    void theAsynchronousClientDoesTheSame() {
        NamespaceAsync async = server.client.async().namespace(ns.id());
        long written = async.write(NamespaceWriteParams.builder().addUpsertRow(row("id", 1, "n", 1)).build())
                .thenCompose(answer -> async.write(
                        NamespaceWriteParams.builder().addPatchRow(row("id", 1, "n", 2)).build()))
                .join()
                .rowsAffected();
        assertEquals(1, written);
        assertEquals(
                List.of(Map.of("id", 1, "n", 2)),
                Server.plain(async.query(Server.inOrder().includeAttributes(true).build()).join().rows().orElseThrow()));
        assertEquals(Set.of("id", "n"), async.schema().join().keySet());
        assertTrue(server.client.async()
                .namespaces(ClientNamespacesParams.builder().prefix(ns.id()).build())
                .join()
                .namespaces()
                .stream()
                .anyMatch(summary -> summary.id().equals(ns.id())));
        async.deleteAll().join();
        CompletionException gone = assertThrows(CompletionException.class, () -> async.metadata().join());
        assertTrue(gone.getCause() instanceof NotFoundException);
    }

    @Test
    void aRegionInThePathIsSkipped() {
        upsert(ns, row("id", 1));
        try (Server regional = new Server(builder -> builder.baseUrl(Server.URL + "/{region}").region("gcp-us-central1"))) {
            assertEquals(List.of(Map.of("id", 1)), stored(regional.client.namespace(ns.id())));
        }
    }
}
