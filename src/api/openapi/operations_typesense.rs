//! One description per route of Typesense's dialect.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value as Json, json};

use super::{Operation, Tag};
use crate::api::typesense::{CollectionChange, CollectionInput, ItemInput, PresetInput, SetInput, StopwordsInput};

/// What requests fail with, and those with a body.
const FAILS: &[u16] = &[400, 401, 402, 404, 409, 422, 429, 500, 503];
const BODY: &[u16] = &[400, 401, 402, 404, 408, 409, 413, 415, 422, 429, 500, 503];

/// The parameters of a search that have an effect.
#[rustfmt::skip]
const SEARCH: &[&str] = &[
    "q", "query_by", "query_by_weights", "prefix", "num_typos", "typo_tokens_threshold", "drop_tokens_threshold", "filter_by",
    "sort_by", "facet_by", "max_facet_values", "facet_query", "page", "per_page", "limit", "offset", "include_fields",
    "exclude_fields", "highlight_fields", "highlight_full_fields", "highlight_start_tag", "highlight_end_tag",
    "highlight_affix_num_tokens", "snippet_threshold", "enable_highlight_v1", "group_by", "group_limit", "vector_query",
    "stopwords", "preset", "pinned_hits", "hidden_hits", "synonym_sets", "enable_synonyms",
];

/// A document: an `id`, which is text, and fields.
#[derive(JsonSchema)]
#[schemars(rename = "TypesenseDocument")]
#[expect(dead_code, reason = "describes what is read as a map")]
struct Document {
    id: Option<String>,
    #[schemars(flatten)]
    fields: Map<String, Json>,
}

/// Searches; each has the parameters of a search, `collection`, and if need be a key of its own.
#[derive(JsonSchema)]
#[schemars(rename = "TypesenseSearches")]
#[expect(dead_code, reason = "describes what is read as a map")]
struct Searches {
    searches: Vec<Map<String, Json>>,
    /// `false`.
    union: Option<bool>,
}

/// An answer in Typesense's shape.
#[derive(JsonSchema)]
#[schemars(rename = "TypesenseAnswer")]
#[expect(dead_code, reason = "describes what is printed by hand")]
struct Answer(Json);

fn asks(mut operation: Operation, names: &[&str]) -> Operation {
    let parameter = |name: &&str| json!({"name": name, "in": "query", "required": false, "schema": {"type": "string"}});
    operation.parameters.extend(names.iter().map(parameter));
    operation
}

/// Text with a JSON object per line.
fn lines(what: &str) -> Json {
    json!({
        "description": what,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
        "content": {"text/plain": {"schema": {"type": "string"}}},
    })
}

pub fn create_collection(g: &mut SchemaGenerator) -> Operation {
    Operation::new("createCollection", Tag::Collections, "Makes a collection")
        .takes::<CollectionInput>(g)
        .answers::<Answer>(201, "It is made.", g)
        .fails(BODY)
}

pub fn list_collections(g: &mut SchemaGenerator) -> Operation {
    asks(
        Operation::new(
            "listCollections",
            Tag::Collections,
            "Lists the collections that the caller may see",
        )
        .answers::<Answer>(200, "All of them.", g)
        .fails(FAILS),
        &["offset", "limit", "exclude_fields"],
    )
}

pub fn get_collection(g: &mut SchemaGenerator) -> Operation {
    Operation::new("getCollection", Tag::Collections, "Describes a collection")
        .answers::<Answer>(200, "What is known.", g)
        .fails(FAILS)
}

pub fn update_collection(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "updateCollection",
        Tag::Collections,
        "Adds and drops fields, changes details",
    )
    .takes::<CollectionChange>(g)
    .answers::<Answer>(200, "What was changed.", g)
    .fails(BODY)
}

pub fn delete_collection(g: &mut SchemaGenerator) -> Operation {
    Operation::new("deleteCollection", Tag::Collections, "Deletes a collection")
        .answers::<Answer>(200, "What it was.", g)
        .fails(FAILS)
}

pub fn create_document(g: &mut SchemaGenerator) -> Operation {
    asks(
        Operation::new("createDocument", Tag::Documents, "Writes one document")
            .takes::<Document>(g)
            .answers::<Answer>(201, "It is durable.", g)
            .fails(BODY),
        &["action", "dirty_values"],
    )
}

pub fn update_documents(g: &mut SchemaGenerator) -> Operation {
    asks(
        Operation::new(
            "updateDocuments",
            Tag::Documents,
            "Changes the documents that a filter selects",
        )
        .takes::<Document>(g)
        .answers::<Answer>(200, "How many were changed.", g)
        .fails(BODY),
        &["filter_by", "dirty_values"],
    )
}

pub fn delete_documents(g: &mut SchemaGenerator) -> Operation {
    asks(
        Operation::new(
            "deleteDocuments",
            Tag::Documents,
            "Deletes the documents that a filter selects",
        )
        .answers::<Answer>(200, "How many were deleted.", g)
        .fails(FAILS),
        &["filter_by", "truncate"],
    )
}

pub fn import_documents(g: &mut SchemaGenerator) -> Operation {
    let _ = g;
    let mut operation = Operation::new("importDocuments", Tag::Documents, "Writes a document per line")
        .answers_with(200, lines("An outcome per line."))
        .fails(BODY);
    operation.body = Some(json!({"required": true, "content": {"text/plain": {"schema": {"type": "string"}}}}));
    asks(
        operation,
        &["action", "dirty_values", "batch_size", "return_id", "return_doc"],
    )
}

pub fn export_documents(g: &mut SchemaGenerator) -> Operation {
    let _ = g;
    asks(
        Operation::new(
            "exportDocuments",
            Tag::Documents,
            "Reads all documents, or those of a filter",
        )
        .answers_with(200, lines("A document per line."))
        .fails(FAILS),
        &["filter_by", "include_fields", "exclude_fields"],
    )
}

pub fn search(g: &mut SchemaGenerator) -> Operation {
    asks(
        Operation::new("searchCollection", Tag::Documents, "Searches a collection")
            .answers::<Answer>(200, "What was found.", g)
            .fails(FAILS),
        SEARCH,
    )
}

pub fn get_document(g: &mut SchemaGenerator) -> Operation {
    asks(
        Operation::new("getDocument", Tag::Documents, "Reads a document")
            .answers::<Answer>(200, "The document.", g)
            .fails(FAILS),
        &["include_fields", "exclude_fields"],
    )
}

pub fn update_document(g: &mut SchemaGenerator) -> Operation {
    asks(
        Operation::new("updateDocument", Tag::Documents, "Changes fields of a document")
            .takes::<Document>(g)
            .answers::<Answer>(200, "What was changed.", g)
            .fails(BODY),
        &["dirty_values"],
    )
}

pub fn delete_document(g: &mut SchemaGenerator) -> Operation {
    Operation::new("deleteDocument", Tag::Documents, "Deletes a document")
        .answers::<Answer>(200, "What it was.", g)
        .fails(FAILS)
}

pub fn multi_search(g: &mut SchemaGenerator) -> Operation {
    asks(
        Operation::new(
            "multiSearch",
            Tag::Documents,
            "Searches several collections, or one in several ways",
        )
        .takes::<Searches>(g)
        .answers::<Answer>(200, "An answer or an error per search.", g)
        .fails(BODY),
        SEARCH,
    )
}

pub fn list_synonym_sets(g: &mut SchemaGenerator) -> Operation {
    Operation::new("listSynonymSets", Tag::SearchSettings, "Lists every synonym set")
        .answers::<Answer>(200, "All of them.", g)
        .fails(FAILS)
}

pub fn get_synonym_set(g: &mut SchemaGenerator) -> Operation {
    Operation::new("getSynonymSet", Tag::SearchSettings, "Reads a synonym set")
        .answers::<Answer>(200, "It.", g)
        .fails(FAILS)
}

pub fn put_synonym_set(g: &mut SchemaGenerator) -> Operation {
    Operation::new("putSynonymSet", Tag::SearchSettings, "Makes or replaces a synonym set")
        .takes::<SetInput>(g)
        .answers::<Answer>(200, "It is kept.", g)
        .fails(BODY)
}

pub fn delete_synonym_set(g: &mut SchemaGenerator) -> Operation {
    Operation::new("deleteSynonymSet", Tag::SearchSettings, "Removes a synonym set")
        .answers::<Answer>(200, "It is gone.", g)
        .fails(FAILS)
}

pub fn list_synonym_items(g: &mut SchemaGenerator) -> Operation {
    Operation::new("listSynonymItems", Tag::SearchSettings, "Lists every synonym of a set")
        .answers::<Answer>(200, "All of them.", g)
        .fails(FAILS)
}

pub fn get_synonym_item(g: &mut SchemaGenerator) -> Operation {
    Operation::new("getSynonymItem", Tag::SearchSettings, "Reads a synonym of a set")
        .answers::<Answer>(200, "It.", g)
        .fails(FAILS)
}

pub fn put_synonym_item(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "putSynonymItem",
        Tag::SearchSettings,
        "Makes or replaces a synonym of a set",
    )
    .takes::<ItemInput>(g)
    .answers::<Answer>(200, "It is kept.", g)
    .fails(BODY)
}

pub fn delete_synonym_item(g: &mut SchemaGenerator) -> Operation {
    Operation::new("deleteSynonymItem", Tag::SearchSettings, "Removes a synonym of a set")
        .answers::<Answer>(200, "It is gone.", g)
        .fails(FAILS)
}

pub fn list_synonyms(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "listSynonyms",
        Tag::SearchSettings,
        "Lists every synonym of a collection",
    )
    .answers::<Answer>(200, "All of them.", g)
    .fails(FAILS)
}

pub fn get_synonym(g: &mut SchemaGenerator) -> Operation {
    Operation::new("getSynonym", Tag::SearchSettings, "Reads a synonym of a collection")
        .answers::<Answer>(200, "It.", g)
        .fails(FAILS)
}

pub fn put_synonym(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "putSynonym",
        Tag::SearchSettings,
        "Makes or replaces a synonym of a collection",
    )
    .takes::<ItemInput>(g)
    .answers::<Answer>(200, "It is kept.", g)
    .fails(BODY)
}

pub fn delete_synonym(g: &mut SchemaGenerator) -> Operation {
    Operation::new(
        "deleteSynonym",
        Tag::SearchSettings,
        "Removes a synonym of a collection",
    )
    .answers::<Answer>(200, "It is gone.", g)
    .fails(FAILS)
}

pub fn list_presets(g: &mut SchemaGenerator) -> Operation {
    Operation::new("listPresets", Tag::SearchSettings, "Lists every preset")
        .answers::<Answer>(200, "All of them.", g)
        .fails(FAILS)
}

pub fn get_preset(g: &mut SchemaGenerator) -> Operation {
    Operation::new("getPreset", Tag::SearchSettings, "Reads a preset")
        .answers::<Answer>(200, "It.", g)
        .fails(FAILS)
}

pub fn put_preset(g: &mut SchemaGenerator) -> Operation {
    Operation::new("putPreset", Tag::SearchSettings, "Makes or replaces a preset")
        .takes::<PresetInput>(g)
        .answers::<Answer>(200, "It is kept.", g)
        .fails(BODY)
}

pub fn delete_preset(g: &mut SchemaGenerator) -> Operation {
    Operation::new("deletePreset", Tag::SearchSettings, "Removes a preset")
        .answers::<Answer>(200, "It is gone.", g)
        .fails(FAILS)
}

pub fn list_stopwords(g: &mut SchemaGenerator) -> Operation {
    Operation::new("listStopwordSets", Tag::SearchSettings, "Lists every stopwords set")
        .answers::<Answer>(200, "All of them.", g)
        .fails(FAILS)
}

pub fn get_stopwords(g: &mut SchemaGenerator) -> Operation {
    Operation::new("getStopwords", Tag::SearchSettings, "Reads a stopwords set")
        .answers::<Answer>(200, "It.", g)
        .fails(FAILS)
}

pub fn put_stopwords(g: &mut SchemaGenerator) -> Operation {
    Operation::new("putStopwords", Tag::SearchSettings, "Makes or replaces a stopwords set")
        .takes::<StopwordsInput>(g)
        .answers::<Answer>(200, "It is kept.", g)
        .fails(BODY)
}

pub fn delete_stopwords(g: &mut SchemaGenerator) -> Operation {
    Operation::new("deleteStopwords", Tag::SearchSettings, "Removes a stopwords set")
        .answers::<Answer>(200, "It is gone.", g)
        .fails(FAILS)
}
