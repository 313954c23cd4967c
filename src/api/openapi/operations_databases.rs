//! Descriptions of the routes of groups, databases, instances and locations.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value as Json, json};

use super::expressions::written;
use super::parts::{flag, list, text, with};
use super::{Operation, Tag};
use crate::api::platform::databases::ListOptions;
use crate::api::platform::figures::Span;
use crate::api::platform::mint::TokenOptions;

/// Which version of a route is described: with the organization in the path,
pub const IN_ORG: usize = 0;
/// without it,
pub const OWN: usize = 1;
/// or below `/v3`, with ids.
pub const BY_ID: usize = 2;

const ASKED: &[u16] = &[400, 401, 402, 403, 404, 409, 429, 500, 503];
/// The same with a body.
const TOLD: &[u16] = &[400, 401, 402, 403, 404, 408, 409, 413, 415, 429, 500, 503];
/// Where only the caller has to be known.
const KNOWN: &[u16] = &[400, 401, 403, 404, 429, 500, 503];

fn count() -> Json {
    json!({"type": "integer", "minimum": 0})
}

fn part<T: JsonSchema>(g: &mut SchemaGenerator) -> Json {
    g.subschema_for::<T>().into()
}

written! {
    /// A group.
    Group, |_g| with(&[
        ("name", text()), ("uuid", json!({"type": "string", "format": "uuid"})), ("version", text()),
        ("locations", list(text())), ("primary", text()), ("archived", flag()), ("delete_protection", flag()),
        ("status", with(&[("locations", list(with(&[("name", text()), ("status", text())])))])),
    ])
}

written! {
    /// One group.
    GroupAnswer, |g| with(&[("group", part::<Group>(g))])
}

written! {
    /// All groups.
    GroupList, |g| with(&[("groups", list(part::<Group>(g)))])
}

written! {
    /// What a group is set to.
    GroupConfiguration, |_g| json!({
        "type": "object",
        "properties": {"delete_protection": {
            "type": ["boolean", "null"],
            "description": "Whether deleting the group and its databases is refused.",
        }},
    })
}

written! {
    /// A new group.
    NewGroup, |_g| json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
            "location": {"type": ["string", "null"], "description": "The code of its location; the deployment's own if absent."},
        },
        "required": ["name"],
    })
}

written! {
    /// Another name.
    NewName, |_g| json!({
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"}},
        "required": ["name"],
    })
}

written! {
    /// The organization to move a group to.
    GroupTransfer, |_g| json!({
        "type": "object",
        "properties": {"organization": {"type": "string", "description": "Its slug."}},
        "required": ["organization"],
    })
}

written! {
    /// What a token may do besides its level.
    TokenRequest, |_g| json!({
        "type": "object",
        "properties": {
            "permissions": {
                "type": ["object", "null"],
                "description": "`read_attach` with no databases: nothing can be attached.",
            },
            "fine_grained_permissions": {
                "type": ["array", "null"],
                "description": "Instead of what the level allows: objects with `t` (null) and `a` (permissions).",
                "items": {"type": "object", "properties": {
                    "t": {"type": ["array", "null"], "maxItems": 0},
                    "a": {"type": "array", "items": {"enum": [
                        "data_read", "data_add", "data_update", "data_delete", "schema_add", "schema_update", "schema_delete",
                    ]}},
                }},
            },
        },
    })
}

written! {
    /// A token. It is shown this once.
    DataToken, |_g| with(&[("jwt", text())])
}

written! {
    /// Done.
    Nothing, |_g| json!({"type": "object"})
}

written! {
    /// A database.
    Database, |_g| with(&[
        ("Name", text()), ("DbId", json!({"type": "string", "format": "uuid"})), ("Hostname", text()),
        ("block_reads", flag()), ("block_writes", flag()), ("allow_attach", flag()), ("regions", list(text())),
        ("primaryRegion", text()), ("type", text()), ("database_type", text()), ("version", text()), ("group", text()),
        ("sleeping", flag()), ("archived", flag()), ("is_schema", flag()), ("schema", text()),
        ("delete_protection", flag()), ("parent", json!({"type": ["object", "null"]})),
        ("allow_rules_config", with(&[("allowed_ips", list(text()))])),
    ])
}

written! {
    /// One database.
    DatabaseAnswer, |g| with(&[("database", part::<Database>(g))])
}

written! {
    /// A page of databases.
    DatabaseList, |g| with(&[
        ("databases", list(part::<Database>(g))),
        ("pagination", with(&[("next", json!({"type": ["string", "null"]}))])),
    ])
}

written! {
    /// A new database.
    NewDatabase, |_g| json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
            "group": {"type": ["string", "null"], "description": "`default` if absent."},
            "group_id": {"type": ["string", "null"], "description": "The same by its id."},
            "size_limit": {"description": "Bytes, or a size such as `256mb`.", "type": ["string", "integer", "null"]},
            "seed": {
                "type": ["object", "null"],
                "description": "What it is a copy of.",
                "properties": {
                    "type": {"const": "database"},
                    "name": {"type": "string", "description": "The database to copy; `value` means the same."},
                    "timestamp": {"type": ["string", "null"], "description": "As of when; now if absent. The database may have been deleted since."},
                },
            },
        },
        "required": ["name"],
    })
}

written! {
    /// A database that was just made.
    NewDatabaseAnswer, |_g| with(&[("database", with(&[("DbId", text()), ("Hostname", text()), ("Name", text())]))])
}

written! {
    /// The name of a database that is gone.
    DatabaseGone, |_g| with(&[("database", text())])
}

written! {
    /// What a database is set to. What is left out of a change stays.
    DatabaseConfiguration, |_g| json!({
        "type": "object",
        "properties": {
            "size_limit": {"type": ["string", "integer", "null"], "description": "Bytes, or a size such as `10gb`; null: none."},
            "block_reads": {"type": ["boolean", "null"]},
            "block_writes": {"type": ["boolean", "null"]},
            "allow_attach": {"type": ["boolean", "null"], "description": "Kept and shown only."},
            "delete_protection": {"type": ["boolean", "null"]},
            "allowed_ips": {
                "type": ["array", "null"], "items": {"type": "string"}, "maxItems": 64,
                "description": "Networks that requests for its data may come from; none: any.",
            },
        },
    })
}

written! {
    /// The same below `/v3`.
    DatabaseRules, |_g| json!({
        "type": "object",
        "properties": {
            "delete_protection": {"type": ["boolean", "null"]},
            "allow_rules_config": {
                "type": ["object", "null"],
                "properties": {"allowed_ips": {"type": ["array", "null"], "items": {"type": "string"}}},
            },
        },
    })
}

written! {
    /// The organization to move a database to.
    DatabaseTransfer, |_g| json!({
        "type": "object",
        "properties": {"org": {"type": "string", "description": "Its slug."}},
        "required": ["org"],
    })
}

written! {
    /// A node that serves a database.
    Instance, |_g| with(&[
        ("uuid", text()), ("name", text()), ("type", json!({"enum": ["primary", "replica"]})), ("region", text()),
        ("hostname", text()),
    ])
}

written! {
    /// One instance.
    InstanceAnswer, |g| with(&[("instance", part::<Instance>(g))])
}

written! {
    /// All instances of a database.
    InstanceList, |g| with(&[("instances", list(part::<Instance>(g)))])
}

written! {
    /// The name of an instance that is gone.
    InstanceGone, |_g| with(&[("instance", text())])
}

written! {
    /// Where to keep a database warm.
    NewInstance, |_g| json!({
        "type": "object",
        "properties": {"location": {"type": ["string", "null"], "description": "The code of a location."}},
    })
}

written! {
    /// What was used.
    UsageFigures, |_g| with(&[
        ("rows_read", count()), ("rows_written", count()), ("storage_bytes", count()), ("bytes_synced", count()),
    ])
}

written! {
    /// What a database used.
    DatabaseUsage, |g| with(&[("database", with(&[
        ("uuid", text()),
        ("instances", list(with(&[("uuid", text()), ("usage", part::<UsageFigures>(g))]))),
        ("usage", part::<UsageFigures>(g)), ("total", part::<UsageFigures>(g)),
    ]))])
}

written! {
    /// The queries that read most.
    TopQueries, |_g| with(&[("top_queries", list(json!({"type": "object"})))])
}

written! {
    /// The same as a list.
    TopQueryList, |_g| list(json!({"type": "object"}))
}

written! {
    /// All locations: texts by code.
    LocationList, |_g| with(&[("locations", json!({"type": "object", "additionalProperties": {"type": "string"}}))])
}

written! {
    /// One location.
    LocationAnswer, |_g| with(&[("location", with(&[
        ("code", text()), ("description", text()), ("closest", list(json!({"type": "object"}))),
    ]))])
}

/// Describes one route in every version that it has.
macro_rules! operations {
    ($($name:ident $id:literal $summary:literal $([asks $options:ty])? $([takes $body:ty])? => $answer:ty, $what:literal, $errors:expr;)*) => {
        $(
            pub fn $name<const VERSION: usize>(g: &mut SchemaGenerator) -> Operation {
                const IDS: [&str; 3] = [$id, concat!($id, "OfOwn"), concat!($id, "ById")];
                Operation::new(IDS[VERSION], Tag::Databases, $summary)
                    $(.asks::<$options>(g))?
                    $(.takes::<$body>(g))?
                    .answers::<$answer>(200, $what, g)
                    .fails($errors)
            }
        )*
    };
}

operations! {
    list_locations "listLocations" "Lists the locations" => LocationList, "All of them.", KNOWN;
    get_location "getLocation" "Says what a location is" => LocationAnswer, "The location.", KNOWN;
    list_groups "listGroups" "Lists the groups" => GroupList, "All of them.", ASKED;
    create_group "createGroup" "Creates a group" [takes NewGroup] => GroupAnswer, "The new group.", TOLD;
    get_group "getGroup" "Says what is known of a group" => GroupAnswer, "The group.", ASKED;
    delete_group "deleteGroup" "Deletes a group with all its databases" => GroupAnswer, "What it was.", ASKED;
    group_configuration "groupConfiguration" "Says what a group is set to" => GroupConfiguration, "The settings.", ASKED;
    configure_group "configureGroup" "Changes what a group is set to" [takes GroupConfiguration] => GroupConfiguration, "The settings after it.", TOLD;
    add_location "addLocation" "Adds a location to a group; nothing is replicated yet" => GroupAnswer, "The group.", ASKED;
    remove_location "removeLocation" "Removes a location from a group" => GroupAnswer, "The group.", ASKED;
    wait_for_location "waitForLocation" "Waits until a group is in a location" => Nothing, "It is.", ASKED;
    create_group_token "createGroupToken" "Makes a token for all databases of a group" [asks TokenOptions] [takes TokenRequest] => DataToken, "The token.", TOLD;
    rotate_group_tokens "rotateGroupTokens" "Revokes all tokens of a group" => Nothing, "They are revoked.", ASKED;
    transfer_group "transferGroup" "Moves a group without databases to another organization" [takes GroupTransfer] => Group, "The group there.", TOLD;
    unarchive_group "unarchiveGroup" "Does nothing: groups are not archived" => GroupAnswer, "The group.", ASKED;
    update_group "updateGroup" "Does nothing: there is one version" => Nothing, "Done.", ASKED;
    rename_group "renameGroup" "Gives a group another name" [takes NewName] => GroupAnswer, "The group.", TOLD;
    list_databases "listDatabases" "Lists databases by name" [asks ListOptions] => DatabaseList, "A page.", ASKED;
    create_database "createDatabase" "Creates a database, which is a namespace" [takes NewDatabase] => NewDatabaseAnswer, "The new database.", TOLD;
    get_database "getDatabase" "Says what is known of a database" => DatabaseAnswer, "The database.", ASKED;
    dump_database "dumpDatabase" "Refuses dumps of SQLite (`databases/dumps`)" => Nothing, "Never.", ASKED;
    delete_database "deleteDatabase" "Deletes a database" => DatabaseGone, "Its name.", ASKED;
    database_configuration "databaseConfiguration" "Says what a database is set to" => DatabaseConfiguration, "The settings.", ASKED;
    configure_database "configureDatabase" "Changes what a database is set to" [takes DatabaseConfiguration] => DatabaseConfiguration, "The settings after it.", TOLD;
    configure_database_by_id "configureRules" "Changes what a database is set to" [takes DatabaseRules] => DatabaseAnswer, "The database after it.", TOLD;
    list_instances "listInstances" "Lists the nodes that serve a database" => InstanceList, "The primary one first.", ASKED;
    create_instance "createInstance" "Keeps a database warm on one node more" [takes NewInstance] => InstanceAnswer, "The node.", TOLD;
    get_instance "getInstance" "Says what a node is to a database" => InstanceAnswer, "The node.", ASKED;
    delete_instance "deleteInstance" "Lets a database grow cold on a node" => InstanceGone, "Its name.", ASKED;
    wait_for_instance "waitForInstance" "Waits until queries are answered at once" => Nothing, "They are.", ASKED;
    create_database_token "createDatabaseToken" "Makes a token for a database" [asks TokenOptions] [takes TokenRequest] => DataToken, "The token.", TOLD;
    rotate_database_tokens "rotateDatabaseTokens" "Revokes all tokens of a database" => Nothing, "They are revoked.", ASKED;
    database_usage "databaseUsage" "Says what a database used" [asks Span] => DatabaseUsage, "The figures.", ASKED;
    top_queries "topQueries" "Lists nothing: queries are not kept" [asks Span] => TopQueryList, "An empty list.", ASKED;
    database_stats "databaseStats" "Lists nothing: queries are not kept" => TopQueries, "An empty list.", ASKED;
    update_database "updateDatabase" "Does nothing: there is one version" => Nothing, "Done.", ASKED;
    wake_database "wakeDatabase" "Opens a database on this node" => Nothing, "It is open.", ASKED;
    transfer_database "transferDatabase" "Refuses to move a database to another organization" [takes DatabaseTransfer] => DatabaseAnswer, "The database, where it is already.", TOLD;
    upload_database "uploadDatabase" "Refuses files of SQLite" => Nothing, "Never.", ASKED;
}
