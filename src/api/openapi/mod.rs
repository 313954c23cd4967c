//! `/openapi.json`: the API as OpenAPI 3.1, made from the table of routes.
//!
//! Bodies that serde reads are described by the very types that serde fills (`schemars`); what is parsed
//! or printed by hand is described in [`expressions`] and [`answers`]. `operations` has one function per
//! route, which the route names, so that a route without a description does not compile.

pub mod answers;
pub mod expressions;
pub mod operations;
pub mod operations_databases;
pub mod operations_keys;
pub mod operations_platform;
pub mod operations_typesense;
pub mod operations_usage;
mod parts;
pub mod requests;

use axum::http::Method;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value as Json, json};

use super::dialect::Dialect;

/// One method of one path, as it is described.
pub struct Operation {
    /// Unique; clients are generated with it as a name.
    id: &'static str,
    tag: Tag,
    summary: &'static str,
    /// Of the query string; those of the path follow from the path.
    parameters: Vec<Json>,
    body: Option<Json>,
    answers: Vec<(u16, Json)>,
    errors: &'static [u16],
}

/// Groups of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Data,
    Namespaces,
    Debugging,
    Databases,
    Keys,
    Organizations,
    Platform,
    Legacy,
    Collections,
    Documents,
    SearchSettings,
    Operations,
}

impl Tag {
    const ALL: [(Tag, &'static str, &'static str); 12] = [
        (Tag::Data, "data", "Writing and querying"),
        (Tag::Namespaces, "namespaces", "Listing, settings, schema, deletion"),
        (Tag::Debugging, "debugging", "Recall, plans, caches"),
        (Tag::Keys, "keys", "API keys, and what they allow"),
        (
            Tag::Organizations,
            "organizations",
            "Usage and audit logs, in the shapes of Turso's platform API",
        ),
        (
            Tag::Databases,
            "databases",
            "Groups, databases, instances and locations, in the shapes of Turso's platform API",
        ),
        (
            Tag::Platform,
            "platform",
            "Users, platform tokens, organizations and members, in the shapes of Turso's platform API",
        ),
        (
            Tag::Legacy,
            "legacy",
            "The first version of the API, for clients before 2025",
        ),
        (
            Tag::Collections,
            "collections",
            "Typesense's collections, which are namespaces",
        ),
        (Tag::Documents, "documents", "Typesense's documents and searches"),
        (
            Tag::SearchSettings,
            "search-settings",
            "Typesense's synonym sets, presets and stop words",
        ),
        (Tag::Operations, "operations", "Health and metrics; no key is needed"),
    ];

    fn name(self) -> &'static str {
        let known = Self::ALL.iter().find(|(tag, _, _)| *tag == self);
        known.map(|(_, name, _)| *name).expect("the table lists every tag")
    }
}

impl Operation {
    /// An operation without parameters and body.
    fn new(id: &'static str, tag: Tag, summary: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            errors: &[],
        }
    }

    /// The same under another id.
    fn with_id(mut self, id: &'static str) -> Self {
        self.id = id;
        self
    }

    /// Takes a JSON body, gzip-compressed or not.
    fn takes<T: JsonSchema>(mut self, generator: &mut SchemaGenerator) -> Self {
        let schema = generator.subschema_for::<T>();
        // Not required: an empty body is `{}`.
        self.body = Some(json!({"required": false, "content": {"application/json": {"schema": schema}}}));
        self
    }

    /// Takes the fields of `T` in the query string. None is required.
    fn asks<T: JsonSchema>(mut self, generator: &mut SchemaGenerator) -> Self {
        let schema = T::json_schema(generator);
        let fields = schema.get("properties").and_then(Json::as_object);
        for (name, field) in fields.into_iter().flatten() {
            let mut field = field.clone();
            let described = field.as_object_mut().and_then(|f| f.remove("description"));
            not_null(&mut field);
            let mut parameter = json!({"name": name, "in": "query", "required": false, "schema": field});
            if let Some(text) = described {
                parameter["description"] = text;
            }
            self.parameters.push(parameter);
        }
        self
    }

    /// Answers JSON with this status.
    fn answers<T: JsonSchema>(mut self, status: u16, what: &str, generator: &mut SchemaGenerator) -> Self {
        let schema = generator.subschema_for::<T>();
        let answer = json!({
            "description": what,
            "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
            "content": {"application/json": {"schema": schema}},
        });
        self.answers.push((status, answer));
        self
    }

    /// Answers something else.
    fn answers_with(mut self, status: u16, answer: Json) -> Self {
        self.answers.push((status, answer));
        self
    }

    /// Fails with these statuses.
    fn fails(mut self, errors: &'static [u16]) -> Self {
        self.errors = errors;
        self
    }

    fn print(self, method: &Method, path: &str) -> Json {
        let mut responses = Map::new();
        for (status, answer) in self.answers {
            responses.insert(status.to_string(), answer);
        }
        for status in self.errors {
            // Answers to HEAD have no body.
            let name = if *method == Method::HEAD {
                "BareError".to_owned()
            } else {
                format!("{}{}", prefix(Dialect::of(path)), error_name(*status))
            };
            responses.insert(
                status.to_string(),
                json!({"$ref": format!("#/components/responses/{name}")}),
            );
        }
        let mut parameters = path_parameters(path);
        parameters.extend(self.parameters);
        let mut printed = json!({
            "operationId": self.id,
            "tags": [self.tag.name()],
            "summary": self.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(body) = self.body {
            printed["requestBody"] = body;
        }
        if self.tag == Tag::Operations {
            printed["security"] = json!([]);
        }
        if self.tag == Tag::Legacy {
            printed["deprecated"] = true.into();
        }
        printed
    }
}

/// Query strings have no null: what is absent is absent.
fn not_null(schema: &mut Json) {
    if let Some(types) = schema.get_mut("type").filter(|t| t.is_array()) {
        let kept: Vec<Json> = types
            .as_array()
            .into_iter()
            .flatten()
            .filter(|t| *t != "null")
            .cloned()
            .collect();
        *types = match <[Json; 1]>::try_from(kept) {
            Ok([only]) => only,
            Err(several) => several.into(),
        };
    }
}

fn path_parameters(path: &str) -> Vec<Json> {
    let names = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name| match name {
        "namespace" => json!({"$ref": "#/components/parameters/Namespace"}),
        other => json!({"name": other, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}),
    };
    names.map(parameter).collect()
}

/// Every error status with the name of its description and what it means.
const ERRORS: [(u16, &str, &str); 16] = [
    (400, "Invalid", "The request is wrong; nothing was changed."),
    (401, "Unauthenticated", "No key, or a wrong one."),
    (
        402,
        "QuotaExceeded",
        "The plan does not include this, or it is used up.",
    ),
    (403, "Forbidden", "The key does not permit this."),
    (404, "NotFound", "There is no such namespace."),
    (405, "MethodNotAllowed", "The path does not support this method."),
    (408, "Timeout", "The body came too slowly, or the query took too long."),
    (409, "Conflict", "A state that passes by itself; try again."),
    (413, "TooLarge", "The body is too large."),
    (
        415,
        "UnsupportedEncoding",
        "Content-Encoding is neither gzip nor identity.",
    ),
    (422, "Shape", "JSON of another shape than documented."),
    (
        429,
        "Overloaded",
        "A limit of this moment; try again after Retry-After seconds.",
    ),
    (431, "HeadersTooLarge", "The headers are too large."),
    (500, "Internal", "The server is at fault; its log says more."),
    (
        502,
        "BadGateway",
        "A service that this one asks did not answer as it should.",
    ),
    (
        503,
        "Unavailable",
        "Object storage cannot be reached, or a write has an unknown outcome; try again.",
    ),
];

fn error_name(status: u16) -> &'static str {
    let known = ERRORS.iter().find(|(s, _, _)| *s == status);
    known
        .map(|(_, name, _)| *name)
        .expect("the table lists every status in use")
}

/// What the names of errors of an API begin with.
fn prefix(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Turbopuffer => "",
        Dialect::Typesense => "Typesense",
        Dialect::Turso => "Turso",
    }
}

fn error_responses(generator: &mut SchemaGenerator) -> Map<String, Json> {
    let shapes = [
        (Dialect::Turbopuffer, generator.subschema_for::<answers::Error>()),
        (Dialect::Typesense, generator.subschema_for::<answers::TypesenseError>()),
        (Dialect::Turso, generator.subschema_for::<answers::TursoError>()),
    ];
    let mut responses = Map::new();
    for ((dialect, schema), (status, name, what)) in shapes.iter().flat_map(|s| ERRORS.iter().map(move |e| (s, e))) {
        let mut headers = json!({"X-Request-Id": {"$ref": "#/components/headers/RequestId"}});
        if matches!(status, 429 | 503) {
            headers["Retry-After"] = json!({"$ref": "#/components/headers/RetryAfter"});
        }
        let content = json!({"application/json": {"schema": schema}});
        responses.insert(
            format!("{}{name}", prefix(*dialect)),
            json!({"description": what, "headers": headers, "content": content}),
        );
    }
    responses.insert(
        "BareError".to_owned(),
        json!({"description": "The status says it all: answers to HEAD have no body."}),
    );
    responses
}

/// The document of these routes.
///
/// * `routes` — method, path, and its description
pub fn document(routes: impl Iterator<Item = (Method, &'static str, operations::Describe)>) -> Json {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|s| {
            s.definitions_path = "/components/schemas".into();
            s.meta_schema = None;
        })
        .into_generator();
    let mut paths = Map::new();
    for (method, path, describe) in routes {
        let printed = describe(&mut generator).print(&method, path);
        let entry = paths.entry(path).or_insert_with(|| Map::new().into());
        entry[method.as_str().to_ascii_lowercase()] = printed;
    }
    let responses = error_responses(&mut generator);
    let mut schemas = generator.take_definitions(true);
    requests::overlay(&mut schemas);
    json!({
        "openapi": "3.1.1",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Shoal",
            "summary": "A self-hosted vector and full-text search database on object storage",
            "description": "The API of turbopuffer. Answers above 1 KiB are gzip-compressed where Accept-Encoding names gzip. \
                One path segment before v1 or v2, such as a region, is skipped. Paths that do not exist are 404, methods that \
                a path does not support are 405.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": Tag::ALL.iter().map(|(_, name, what)| json!({"name": name, "description": what})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "headers": {
                "RequestId": {
                    "description": "The request's own id if it had one.",
                    "schema": {"type": "string"},
                },
                "RetryAfter": {
                    "description": "After how many seconds to try again.",
                    "schema": {"type": "integer", "minimum": 1},
                },
            },
            "parameters": {
                "Namespace": {
                    "name": "namespace",
                    "in": "path",
                    "required": true,
                    "description": "The name of a namespace.",
                    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
                },
            },
            "responses": responses,
            "schemas": schemas,
        },
    })
}

#[cfg(test)]
mod tests;
