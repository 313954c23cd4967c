package suite;

import com.turbopuffer.client.Namespace;
import com.turbopuffer.client.TurbopufferClient;
import com.turbopuffer.client.okhttp.TurbopufferOkHttpClient;
import com.turbopuffer.core.JsonValue;
import com.turbopuffer.errors.NotFoundException;
import com.turbopuffer.models.namespaces.Filter;
import com.turbopuffer.models.namespaces.NamespaceQueryParams;
import com.turbopuffer.models.namespaces.NamespaceQueryResponse;
import com.turbopuffer.models.namespaces.NamespaceWriteParams;
import com.turbopuffer.models.namespaces.NamespaceWriteResponse;
import com.turbopuffer.models.namespaces.RankBy;
import com.turbopuffer.models.namespaces.RankByAttributeOrder;
import com.turbopuffer.models.namespaces.Row;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.function.Consumer;

/** The server that SHOAL_TEST_URL and SHOAL_TEST_KEY name, and namespaces with fresh names that are deleted on close. */
final class Server implements AutoCloseable {
    static final String URL = variable("SHOAL_TEST_URL");
    static final String KEY = variable("SHOAL_TEST_KEY");

    final TurbopufferClient client;
    private final List<Namespace> made = new ArrayList<>();

    Server() {
        this(builder -> {});
    }

    Server(Consumer<TurbopufferOkHttpClient.Builder> options) {
        TurbopufferOkHttpClient.Builder builder = TurbopufferOkHttpClient.builder()
                .baseUrl(URL)
                .apiKey(KEY)
                .maxRetries(1)
                // A missing or mistyped field of an answer fails every test that meets it.
                .responseValidation(true);
        options.accept(builder);
        client = builder.build();
    }

    private static String variable(String name) {
        String value = System.getenv(name);
        if (value == null || value.isEmpty()) {
            throw new IllegalStateException("set " + name + " to a running server's");
        }
        return value;
    }

    /** A namespace that does not exist yet. */
    Namespace fresh() {
        return named("java-" + UUID.randomUUID());
    }

    Namespace named(String name) {
        Namespace namespace = client.namespace(name);
        made.add(namespace);
        return namespace;
    }

    @Override
    public void close() {
        for (Namespace namespace : made) {
            try {
                namespace.deleteAll();
            } catch (NotFoundException gone) {
                // Never written, or deleted by the test.
            }
        }
        client.close();
    }

    /** A row from alternating names and values. */
    static Row row(Object... fields) {
        Row.Builder row = Row.builder();
        for (int i = 0; i < fields.length; i += 2) {
            row.put((String) fields[i], fields[i + 1]);
        }
        return row.build();
    }

    static NamespaceWriteResponse upsert(Namespace namespace, Row... rows) {
        return namespace.write(NamespaceWriteParams.builder().upsertRows(List.of(rows)).build());
    }

    static NamespaceQueryParams.Builder inOrder() {
        return NamespaceQueryParams.builder().rankBy(RankBy.attribute("id", RankByAttributeOrder.ASC)).topK(100);
    }

    /** All rows by id with all their attributes, as plain maps. */
    static List<Map<String, Object>> stored(Namespace namespace) {
        return plain(namespace.query(inOrder().includeAttributes(true).build()).rows().orElseThrow());
    }

    static List<Long> matching(Namespace namespace, Filter filter) {
        return ids(namespace.query(inOrder().filters(filter).build()));
    }

    static List<Long> ids(NamespaceQueryResponse answer) {
        return ids(answer.rows().orElseThrow());
    }

    static List<Long> ids(List<Row> rows) {
        return rows.stream().map(row -> row.get("id").convert(Long.class)).toList();
    }

    static double dist(Row row) {
        return row.get("$dist").convert(Double.class);
    }

    static List<Map<String, Object>> plain(List<Row> rows) {
        return rows.stream().map(Server::plain).toList();
    }

    static Map<String, Object> plain(Map<String, JsonValue> row) {
        Map<String, Object> map = new LinkedHashMap<>();
        row.forEach((name, value) -> map.put(name, value.convert(Object.class)));
        return map;
    }
}
