//! What is refused, and with which words.

use super::*;

const NEW: &str = "";
/// A namespace that exists.
const OLD: &str = r#"{"distance_metric": "cosine_distance", "schema": {
    "vector": "[2]f32", "s": "string", "i": "int", "u": "uint", "f": "float", "b": "bool", "t": "datetime",
    "g": "uuid", "y": "bytes", "as": "[]string", "ai": "[]int", "text": {"type": "string", "full_text_search": true}},
    "upsert_rows": [{"id": 1, "vector": [1, 2]}]}"#;
/// The same without vectors.
const FLAT: &str = r#"{"schema": {
    "s": "string", "i": "int", "u": "uint", "f": "float", "b": "bool", "t": "datetime", "g": "uuid", "y": "bytes",
    "as": "[]string", "ai": "[]int", "ag": "[]uuid", "mv": "[][2]f32", "sp": "{}f16",
    "text": {"type": "string", "full_text_search": true}}, "upsert_rows": [{"id": 1}]}"#;

/// Before, body, part of the message. All are 400.
#[rustfmt::skip]
const SEMANTIC: &[(&str, &str, &str)] = &[
    // JSON.
    (NEW, "{", "not valid JSON"),
    (NEW, "nope", "not valid JSON"),
    (NEW, "{} {}", "not valid JSON"),
    (NEW, r#"{"upsert_rows": [{"id": 1,}]}"#, "not valid JSON"),
    (NEW, r#"{"upsert_rows": [{"id": 01}]}"#, "not valid JSON"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "f": +1}]}"#, "not valid JSON"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "f": .5}]}"#, "not valid JSON"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "f": 1.}]}"#, "not valid JSON"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "vector": [NaN]}]}"#, "not valid JSON"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "vector": [Infinity]}]}"#, "not valid JSON"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "vector": [1,,2]}]}"#, "not valid JSON"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "vector": [1 2]}]}"#, "not valid JSON"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "\ud800": 1}]}"#, "not valid JSON"),
    (NEW, r#"{"deletes": [1"#, "not valid JSON"),
    // Top level.
    (NEW, r#"{"upserts": []}"#, "\"upserts\""),
    (NEW, r#"{"Upsert_rows": []}"#, "\"Upsert_rows\""),
    (NEW, r#"{"copy_from_namespace": "a"}"#, "copy_from_namespace cannot be combined"),
    (NEW, r#"{"branch_from_namespace": "a"}"#, "branch_from_namespace cannot be combined"),
    (NEW, r#"{"sharding": {"num_shards": 257}}"#, "num_shards must be an integer from 1 to 256"),
    (NEW, r#"{"distance_metric": "manhattan"}"#, "distance_metric must be"),
    (NEW, r#"{"encryption": {"mode": "customer-managed", "key_name": "mykey"}}"#, "Malformed Cloud KMS crypto key: mykey"),
    (NEW, r#"{"encryption": {"cmek": {"key_name": "mykey"}}}"#, "Malformed Cloud KMS crypto key: mykey"),
    (NEW, r#"{"encryption": {"mode": "customer-managed", "key_name": "projects/a/locations/b/keyRings/c/cryptoKeys/d"}}"#, "not supported"),
    (NEW, r#"{"encryption": {"mode": "rot13"}}"#, "encryption: mode"),
    (NEW, r#"{"encryption": {}}"#, "encryption: mode"),
    (NEW, r#"{"encryption": {"mode": "customer-managed"}}"#, "key_name"),
    // Ids.
    (NEW, r#"{"upsert_rows": [{"a": 1}]}"#, "index 0 has no id"),
    (NEW, r#"{"upsert_rows": [{"id": 1}, {"a": 1}, {"id": 2}]}"#, "index 1 has no id"),
    (NEW, r#"{"upsert_rows": [{"id": 1}, {}]}"#, "upsert_rows: the row at index 1"),
    (NEW, r#"{"patch_rows": [{"a": 1}]}"#, "patch_rows: the row at index 0"),
    (NEW, r#"{"upsert_rows": [{"id": null}]}"#, "id null"),
    (NEW, r#"{"upsert_rows": [{"id": -1}]}"#, "id -1"),
    (NEW, r#"{"upsert_rows": [{"id": 1.5}]}"#, "expects uint"),
    (NEW, r#"{"upsert_rows": [{"id": 18446744073709551616}]}"#, "outside of its range"),
    (NEW, r#"{"upsert_rows": [{"id": true}]}"#, "expects uint"),
    (NEW, r#"{"upsert_rows": [{"id": [1]}]}"#, "expects uint"),
    (NEW, r#"{"upsert_rows": [{"id": 1}, {"id": "a"}]}"#, "expects uint, but got string"),
    (NEW, r#"{"upsert_rows": [{"id": "a"}, {"id": 1}]}"#, "expects string, but got integer"),
    (OLD, r#"{"deletes": ["a"]}"#, "deletes: id \"a\""),
    (NEW, r#"{"deletes": [1, null]}"#, "deletes: id null"),
    (NEW, r#"{"upsert_rows": [{"id": "0123456789012345678901234567890123456789012345678901234567890123x"}]}"#, "at most 64"),
    (NEW, r#"{"schema": {"id": "uuid"}, "upsert_rows": [{"id": "abc"}]}"#, "expects uuid"),
    (NEW, r#"{"schema": {"id": "uuid"}, "deletes": ["67e5504410b1426f9247bb680e5fe0c8"]}"#, "canonical"),
    (NEW, r#"{"schema": {"id": "uuid"}, "deletes": [1]}"#, "expects uuid, but got integer"),
    (NEW, r#"{"upsert_rows": [{"id": 1}, {"id": 1}]}"#, "id 1 occurs more than once"),
    (NEW, r#"{"upsert_rows": [{"id": 1}], "deletes": [1]}"#, "id 1 occurs more than once"),
    (NEW, r#"{"upsert_rows": [{"id": 1}], "patch_rows": [{"id": 1}]}"#, "id 1 occurs more than once"),
    (NEW, r#"{"upsert_rows": [{"id": "a"}], "upsert_columns": {"id": ["a"]}}"#, "id a occurs more than once"),
    (NEW, r#"{"deletes": ["a", "\u0061"]}"#, "id a occurs more than once"),
    (NEW, r#"{"schema": {"id": "uuid"}, "deletes": ["67e55044-10b1-426f-9247-bb680e5fe0c8", "67E55044-10B1-426F-9247-BB680E5FE0C8"]}"#, "more than once"),
    // Names.
    (NEW, r#"{"upsert_rows": [{"id": 1, "": 1}]}"#, "attribute name must have 1 to 128"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "$dist": 1}]}"#, "\"$dist\""),
    (NEW, r#"{"upsert_columns": {"id": [1], "$a": [1]}}"#, "\"$a\""),
    (NEW, r#"{"schema": {"$a": "int"}}"#, "\"$a\""),
    // Columns.
    (NEW, r#"{"upsert_columns": {"a": [1]}}"#, "upsert_columns needs a column id"),
    (NEW, r#"{"patch_columns": {"a": [1]}}"#, "patch_columns needs a column id"),
    (NEW, r#"{"upsert_columns": {"id": [1, 2], "a": [1]}}"#, "upsert_columns.a: has 1 values, but there are 2"),
    (NEW, r#"{"upsert_columns": {"id": [1], "a": [1, 2, 3]}}"#, "upsert_columns.a: has 3 values, but there are 1"),
    (NEW, r#"{"patch_columns": {"id": [1], "a": []}}"#, "patch_columns.a: has 0 values"),
    (NEW, r#"{"distance_metric": "cosine_distance", "upsert_columns": {"id": [1, 2], "vector": [1, 2, 3]}}"#, "upsert_columns.vector"),
    (NEW, r#"{"distance_metric": "cosine_distance", "upsert_columns": {"id": [1, 2], "vector": [1, [2]]}}"#, "upsert_columns.vector"),
    (OLD, r#"{"upsert_columns": {"id": [1, 2], "vector": [1, 2, 3, 4, 5, 6]}}"#, "2 dimensions, but got 3"),
    // Scalars.
    (FLAT, r#"{"upsert_rows": [{"id": 7, "s": 1}]}"#, "attribute \"s\" of the row with id 7: expects string, but got integer"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "s": "\ud800"}]}"#, "attribute \"s\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "s": ["a"]}]}"#, "expects string, but got array"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "s": {}}]}"#, "expects string, but got object"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "i": "1"}]}"#, "attribute \"i\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "i": 1.0}]}"#, "expects int, but got number"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "i": 9223372036854775808}]}"#, "attribute \"i\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "i": -9223372036854775809}]}"#, "outside of its range"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "u": -1}]}"#, "attribute \"u\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "u": 18446744073709551616}]}"#, "attribute \"u\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "f": "1"}]}"#, "attribute \"f\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "f": 1e309}]}"#, "too large"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "b": 1}]}"#, "attribute \"b\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "b": "true"}]}"#, "expects bool, but got string"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "t": "soon"}]}"#, "attribute \"t\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "t": 1.5}]}"#, "expects datetime"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "t": 9223372036854775807}]}"#, "attribute \"t\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "g": "x"}]}"#, "attribute \"g\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "g": 1}]}"#, "expects uuid, but got integer"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "y": "a"}]}"#, "attribute \"y\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "y": "YQ"}]}"#, "not base64"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "y": 1}]}"#, "expects bytes"),
    // Arrays and composites.
    (FLAT, r#"{"upsert_rows": [{"id": 1, "as": "a"}]}"#, "expects []string, but got string"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "as": [1]}]}"#, "attribute \"as\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "as": ["a", null]}]}"#, "null element"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "ai": [1, "a"]}]}"#, "attribute \"ai\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "ai": [[1]]}]}"#, "expects int, but got array"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "ag": ["x"]}]}"#, "attribute \"ag\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "mv": [1, 2]}]}"#, "attribute \"mv\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "mv": [[1]]}]}"#, "2 dimensions, but got 1"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "mv": "AAAA"}]}"#, "expects [][2]f32"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "mv": [[1, 1e39]]}]}"#, "finite"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "sp": [1]}]}"#, "attribute \"sp\""),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "sp": {"a": "b"}}]}"#, "object of finite numbers"),
    (FLAT, r#"{"upsert_rows": [{"id": 1, "sp": {"a": 70000}}]}"#, "finite"),
    (FLAT, r#"{"patch_rows": [{"id": 1, "mv": [[1, 2]]}]}"#, "\"mv\" cannot be patched"),
    // Inference.
    (NEW, r#"{"upsert_rows": [{"id": 1, "a": {}}]}"#, "attribute \"a\""),
    (NEW, r#"{"upsert_rows": [{"id": 1, "a": [[1]]}]}"#, "must be declared in schema"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "a": [null]}]}"#, "null element"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "a": 1}, {"id": 2, "a": "x"}]}"#, "row with id 2: expects int"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "a": 1}], "patch_rows": [{"id": 2, "a": "x"}]}"#, "row with id 2: expects int"),
    (NEW, r#"{"upsert_rows": [{"id": 1, "a": 9223372036854775808}]}"#, "attribute \"a\""),
    // Vectors.
    (NEW, r#"{"upsert_rows": [{"id": 1, "vector": [1]}]}"#, "distance_metric is required"),
    (NEW, r#"{"distance_metric": "cosine_distance", "upsert_rows": [{"id": 1, "vector": []}]}"#, "1 to 10752 dimensions"),
    (NEW, r#"{"distance_metric": "cosine_distance", "upsert_rows": [{"id": 1, "vector": 3}]}"#, "expects a vector"),
    (NEW, r#"{"distance_metric": "cosine_distance", "upsert_rows": [{"id": 1, "vector": "abc"}]}"#, "not base64"),
    (NEW, r#"{"distance_metric": "cosine_distance", "upsert_rows": [{"id": 1, "vector": "AAA="}]}"#, "multiple of 4"),
    (NEW, r#"{"distance_metric": "cosine_distance", "upsert_rows": [{"id": 1, "vector": ["a"]}]}"#, "element 0 is string"),
    (NEW, r#"{"distance_metric": "cosine_distance", "upsert_rows": [{"id": 1, "vector": [1]}, {"id": 2}]}"#, "\"vector\" of the row with id 2: is missing"),
    (OLD, r#"{"upsert_rows": [{"id": 1, "vector": [1, 2, 3]}]}"#, "2 dimensions, but got 3"),
    (OLD, r#"{"upsert_rows": [{"id": 1, "vector": [1]}]}"#, "2 dimensions, but got 1"),
    (OLD, r#"{"upsert_rows": [{"id": 1, "vector": "AACAPw=="}]}"#, "2 dimensions, but got 1"),
    (OLD, r#"{"upsert_rows": [{"id": 1, "vector": "AACAPwAAwH8="}]}"#, "finite"),
    (OLD, r#"{"upsert_rows": [{"id": 1, "vector": [1, 1e39]}]}"#, "finite"),
    (OLD, r#"{"upsert_rows": [{"id": 1, "vector": [1, null]}]}"#, "element 1 is null"),
    (OLD, r#"{"upsert_rows": [{"id": 1, "vector": [[1, 2]]}]}"#, "element 0 is array"),
    (OLD, r#"{"upsert_rows": [{"id": 1, "vector": null}]}"#, "\"vector\" of the row with id 1: is missing"),
    (OLD, r#"{"upsert_rows": [{"id": 1}]}"#, "\"vector\" of the row with id 1: is missing"),
    (OLD, r#"{"patch_rows": [{"id": 1, "vector": [1, 2]}]}"#, "\"vector\" cannot be patched"),
    (OLD, r#"{"distance_metric": "euclidean_squared", "upsert_rows": [{"id": 1, "vector": [1, 2]}]}"#, "distance_metric cannot change"),
    (OLD, r#"{"schema": {"v2": "[2]f32"}, "distance_metric": "cosine_distance"}"#, "\"v2\""),
    (FLAT, r#"{"distance_metric": "cosine_distance", "upsert_rows": [{"id": 1, "vector": [1]}]}"#, "only be added when the namespace is created"),
    (NEW, r#"{"distance_metric": "cosine_distance", "schema": {"vector": "[1]i8"}, "upsert_rows": [{"id": 1, "vector": [1.5]}]}"#, "-128 to 127"),
    (NEW, r#"{"distance_metric": "cosine_distance", "schema": {"vector": "[1]i8"}, "upsert_rows": [{"id": 1, "vector": [128]}]}"#, "got 128"),
    (NEW, r#"{"distance_metric": "cosine_distance", "schema": {"vector": "[1]i8"}, "upsert_rows": [{"id": 1, "vector": "AAAgwwAA"}]}"#, "multiple of 4"),
    (NEW, r#"{"distance_metric": "cosine_distance", "schema": {"vector": "[1]f16"}, "upsert_rows": [{"id": 1, "vector": [65520]}]}"#, "finite"),
    // Schema.
    (NEW, r#"{"schema": {"a": "strin"}}"#, "\"a\": unknown attribute type"),
    (NEW, r#"{"schema": {"a": {"type": "[0]f32"}}}"#, "\"a\""),
    (NEW, r#"{"schema": {"a": {"type": "int", "typo": 1}}}"#, "unknown key \"typo\""),
    (NEW, r#"{"schema": {"a": {"filterable": true}}}"#, "\"a\": type is missing"),
    (NEW, r#"{"schema": {"a": {"type": "string", "embed": "m"}}}"#, "no embedding model configured"),
    (NEW, r#"{"schema": {"a": {"type": "int", "full_text_search": true}}}"#, "full_text_search needs string"),
    (NEW, r#"{"schema": {"a": {"type": "int", "regex": true}}}"#, "regex needs"),
    (NEW, r#"{"schema": {"a": {"type": "int", "glob": true}}}"#, "glob needs"),
    (NEW, r#"{"schema": {"a": {"type": "int", "fuzzy": true}}}"#, "fuzzy needs"),
    (NEW, r#"{"schema": {"a": {"type": "int", "ann": true}}}"#, "ann needs"),
    (NEW, r#"{"schema": {"a": {"type": "int", "sparse_knn": {"distance_metric": "dot_product"}}}}"#, "sparse_knn needs"),
    (NEW, r#"{"schema": {"a": {"type": "{}f16", "sparse_knn": {"distance_metric": "cosine_distance"}}}}"#, "must be dot_product"),
    (NEW, r#"{"schema": {"a": {"type": "{}f16", "sparse_knn": {"x": 1}}}}"#, "unknown key \"x\""),
    (NEW, r#"{"schema": {"a": {"type": "{}f16", "filterable": true}}}"#, "filterable is not possible"),
    (NEW, r#"{"schema": {"a": {"type": "[2]f32", "ann": true}}}"#, "distance_metric is required"),
    (NEW, r#"{"schema": {"a": {"type": "[2]f32", "ann": {"distance_metric": "x"}}}}"#, "ann.distance_metric must be"),
    (NEW, r#"{"schema": {"a": {"type": "[2]f32", "ann": {"x": 1}}}}"#, "ann: unknown key"),
    (NEW, r#"{"distance_metric": "cosine_distance", "schema": {"a": {"type": "[2]f32", "ann": {"late_interaction": true}}}}"#, "late_interaction needs"),
    (NEW, r#"{"distance_metric": "cosine_distance", "schema": {"a": {"type": "[][2]f32", "ann": true}}}"#, "late_interaction: true"),
    (NEW, r#"{"schema": {"a": {"drop": true}}}"#, "attribute not found"),
    (OLD, r#"{"schema": {"s": {"drop": true, "type": "string"}}}"#, "drop must stand alone"),
    (OLD, r#"{"schema": {"s": {"drop": false}}}"#, "drop can only be true"),
    (OLD, r#"{"schema": {"s": "int"}}"#, "\"s\": the type cannot change from string to int"),
    (OLD, r#"{"schema": {"vector": "[3]f32"}}"#, "the type cannot change"),
    (OLD, r#"{"schema": {"vector": {"ann": false}}}"#, "ann cannot change"),
    (OLD, r#"{"schema": {"id": "string"}}"#, "id type cannot change from uint to string"),
    (NEW, r#"{"schema": {"id": "int"}}"#, "must be uint, uuid or string"),
    (NEW, r#"{"schema": {"id": {"type": "uint", "filterable": true}}}"#, "not filterable"),
    (NEW, r#"{"schema": {"id": {"drop": true}}}"#, "\"id\""),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"tokenizer": "x"}}}}"#, "full_text_search.tokenizer must be one of"),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"language": "klingon"}}}}"#, "full_text_search.language"),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"k1": 0}}}}"#, "full_text_search.k1 must be above 0"),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"k3": -1}}}}"#, "full_text_search.k3"),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"b": 1.5}}}}"#, "full_text_search.b must be 0 to 1"),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"max_token_length": 0}}}}"#, "max_token_length must be 1 to 254"),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"max_token_length": 255}}}}"#, "max_token_length"),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"typo": 1}}}}"#, "full_text_search: unknown key"),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"stemming": true, "case_sensitive": true}}}}"#, "stemming needs case_sensitive"),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"remove_stopwords": true, "case_sensitive": true}}}}"#, "remove_stopwords needs"),
    (NEW, r#"{"schema": {"a": {"type": "string", "full_text_search": {"tokenizer": "pre_tokenized_array"}}}}"#, "needs []string"),
    (NEW, r#"{"schema": {"a": {"type": "[]string", "full_text_search": {"tokenizer": "pre_tokenized_array", "stemming": true}}}}"#, "does not go with stemming"),
    (NEW, r#"{"schema": {"a": {"type": "[]string", "full_text_search": {"tokenizer": "pre_tokenized_array", "case_sensitive": false}}}}"#, "does not go with case_sensitive"),
    (NEW, r#"{"schema": {"a": {"type": "[]string", "full_text_search": {"tokenizer": "pre_tokenized_array", "language": "french"}}}}"#, "does not go with language"),
];

/// Body, part of the message. All are 422.
#[rustfmt::skip]
const SHAPE: &[(&str, &str)] = &[
    ("[]", "invalid type: sequence, expected a write request"),
    ("1", "invalid type: integer `1`"),
    (r#"{"upsert_rows": {}}"#, "upsert_rows: invalid type: map, expected a sequence"),
    (r#"{"patch_rows": {}}"#, "patch_rows: invalid type: map, expected a sequence"),
    (r#"{"upsert_rows": 1}"#, "upsert_rows: invalid type: integer `1`, expected a sequence"),
    (r#"{"upsert_rows": [1]}"#, "upsert_rows: invalid type: integer `1`, expected a map"),
    (r#"{"upsert_rows": [null]}"#, "upsert_rows: invalid type: null, expected a map"),
    (r#"{"upsert_columns": []}"#, "upsert_columns: invalid type: sequence, expected a map"),
    (r#"{"patch_columns": "x"}"#, "patch_columns: invalid type: string"),
    (r#"{"upsert_columns": {"id": 1}}"#, "upsert_columns.id: invalid type: integer `1`, expected a sequence"),
    (r#"{"upsert_columns": {"id": [1], "a": {}}}"#, "upsert_columns.a: invalid type: map, expected a sequence"),
    (r#"{"deletes": {}}"#, "deletes: invalid type: map, expected a sequence"),
    (r#"{"deletes": 1}"#, "deletes: invalid type"),
    (r#"{"distance_metric": 1}"#, "distance_metric: invalid type: integer `1`, expected a string"),
    (r#"{"schema": []}"#, "schema: invalid type: sequence, expected a map"),
    (r#"{"schema": {"a": 1}}"#, "schema of attribute \"a\""),
    (r#"{"schema": {"a": {"type": 1}}}"#, "type: invalid type"),
    (r#"{"schema": {"a": {"type": "int", "filterable": "yes"}}}"#, "filterable: invalid type: string \"yes\", expected a boolean"),
    (r#"{"schema": {"a": {"type": "[2]f32", "ann": 1}}}"#, "ann: expected"),
    (r#"{"schema": {"a": {"type": "string", "full_text_search": 1}}}"#, "full_text_search: expected"),
    (r#"{"schema": {"a": {"type": "string", "full_text_search": {"k1": "x"}}}}"#, "full_text_search.k1: invalid type"),
    (r#"{"create_namespace": "yes"}"#, "create_namespace: invalid type"),
    (r#"{"disable_backpressure": 1}"#, "disable_backpressure: invalid type"),
    (r#"{"encryption": "default"}"#, "encryption"),
];

#[test]
fn semantic_mistakes_are_400_and_named() {
    assert!(SEMANTIC.len() + SHAPE.len() >= 120);
    for (before, body, expected) in SEMANTIC {
        let schema = if before.is_empty() {
            Schema::default()
        } else {
            schema_of(before)
        };
        let e = prepare(body.as_bytes(), &schema, &Limits::default()).expect_err(body);
        assert_eq!(e.kind, InvalidKind::Semantic, "{body}: {e}");
        assert!(e.message.contains(expected), "{body}\n  says: {e}\n  not:  {expected}");
    }
}

#[test]
fn wrong_shapes_are_422_and_named() {
    for (body, expected) in SHAPE {
        let e = write(body).expect_err(body);
        assert_eq!(e.kind, InvalidKind::Shape, "{body}: {e}");
        assert!(e.message.contains(expected), "{body}\n  says: {e}\n  not:  {expected}");
    }
}

#[test]
fn values_over_the_limits_are_refused() {
    let limits = Limits {
        attributes_max: 3,
        vector_columns_max: 1,
        value_bytes_max: 20,
        filterable_bytes_max: 4,
        row_bytes_max: 50,
        sparse_entries_max: 1,
        ..Limits::default()
    };
    for (body, expected) in [
        (
            r#"{"upsert_rows": [{"id": 1, "a": "12345"}]}"#,
            "has 5 bytes, at most 4",
        ),
        (
            r#"{"upsert_rows": [{"id": 1, "a": ["1", "12345"]}]}"#,
            "has 5 bytes, at most 4",
        ),
        (
            r#"{"upsert_rows": [{"id": 1, "a": ["1234", "1234", "1234", "1234", "1234", "1"]}]}"#,
            "has 21 bytes, at most 20",
        ),
        (
            r#"{"schema": {"a": {"type": "string", "filterable": false}}, "upsert_rows": [{"id": 1, "a": "123456789012345678901"}]}"#,
            "has 21 bytes, at most 20",
        ),
        (
            r#"{"schema": {"a": "{}f16"}, "upsert_rows": [{"id": 1, "a": {"x": 1, "y": 2}}]}"#,
            "has 2 entries, at most 1",
        ),
        (
            r#"{"upsert_rows": [{"id": 1, "a": [1, 2], "b": [1, 2], "c": [1, 2]}]}"#,
            "row with id 1 has 56 bytes",
        ),
        (
            r#"{"upsert_rows": [{"id": 1, "a": 1, "b": 1, "c": 1, "d": 1}]}"#,
            "at most 3 attributes",
        ),
        (
            r#"{"schema": {"a": "int", "b": "int", "c": "int", "d": "int"}}"#,
            "at most 3 attributes",
        ),
        (
            r#"{"distance_metric": "cosine_distance", "schema": {"a": "[1]f32", "b": "[1]f32"}}"#,
            "at most 1 vector columns",
        ),
    ] {
        let e = prepare(body.as_bytes(), &Schema::default(), &limits).expect_err(body);
        assert!(e.message.contains(expected), "{body}: {e}");
    }
}

#[test]
fn a_small_body_cannot_ask_for_much_memory() {
    let mut body = String::from(r#"{"upsert_rows": [{"id": 0"#);
    for attribute in 0..1000 {
        body += &format!(r#","a{attribute}": 1"#);
    }
    for id in 1..20_000 {
        body += &format!(r#"}},{{"id": {id}"#);
    }
    body += "}]}";
    let e = write(&body).unwrap_err();
    assert!(e.message.contains("too many for one request"), "{e}");
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    let e = prepare(b"{\"a\xff\": 1}", &Schema::default(), &Limits::default()).unwrap_err();
    assert_eq!((e.kind, e.message.contains("UTF-8")), (InvalidKind::Semantic, true));
}

#[test]
fn deep_nesting_is_refused_without_recursion() {
    let deep = "[".repeat(500_000);
    for body in [
        format!(r#"{{"upsert_rows": [{{"id": 1, "a": {deep}"#),
        format!(r#"{{"schema": {deep}"#),
    ] {
        assert!(write(&body).is_err());
    }
}
