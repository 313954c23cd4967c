//! Descriptions of the routes of usage and audit logs.

use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value as Json;

use super::{Operation, Tag};
use crate::api::platform::usage::{AuditOptions, AuditVerdict, UsageOptions, VerifyOptions};

const FAILS: &[u16] = &[400, 401, 403, 404, 429, 500, 503];

/// What was used, in an organization or a namespace of it.
#[derive(Serialize, JsonSchema)]
pub struct UsageFigures {
    /// Rows that queries looked at.
    rows_read: u64,
    rows_written: u64,
    /// Bytes stored now.
    storage_bytes: u64,
    /// Always 0.
    bytes_synced: u64,
    queries: u64,
    writes: u64,
    rows_returned: u64,
    bytes_queried: u64,
    bytes_returned: u64,
    bytes_written: u64,
    /// Of an organization: how many it has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    databases: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locations: Option<u64>,
}

/// The usage of a namespace.
#[derive(Serialize, JsonSchema)]
pub struct NamespaceUsage {
    /// Empty for what exceeds the names that are kept apart.
    name: String,
    uuid: Option<String>,
    instances: Vec<Json>,
    usage: UsageFigures,
    /// The same.
    total: UsageFigures,
}

/// The usage of a key.
#[derive(Serialize, JsonSchema)]
pub struct KeyUsage {
    /// Its kind and id.
    id: String,
    usage: UsageFigures,
}

/// The usage of an organization.
#[derive(Serialize, JsonSchema)]
pub struct OrganizationUsage {
    uuid: String,
    usage: UsageFigures,
    /// The same.
    total: UsageFigures,
    databases: Vec<NamespaceUsage>,
    keys: Vec<KeyUsage>,
}

/// The answer to a question for usage.
#[derive(Serialize, JsonSchema)]
pub struct UsageAnswer {
    organization: OrganizationUsage,
}

/// Something that was done, or refused.
#[derive(Serialize, JsonSchema)]
pub struct AuditEntry {
    /// Such as `db-create` or `auth-denied`.
    code: String,
    message: String,
    origin: String,
    /// The user who did it, or the credential.
    author: String,
    created_at: String,
    /// Further facts.
    data: Json,
    ip: Option<String>,
    /// Kind and id of the credential.
    actor: String,
    target: String,
    /// `ok` or `denied`.
    result: String,
    /// `X-Request-Id` of the answer.
    request_id: Option<String>,
}

/// Where a page stands.
#[derive(Serialize, JsonSchema)]
pub struct Pagination {
    page: u64,
    page_size: u64,
    total_pages: u64,
    total_rows: u64,
}

/// A page of the audit log, newest entry first.
#[derive(Serialize, JsonSchema)]
pub struct AuditAnswer {
    audit_logs: Vec<AuditEntry>,
    pagination: Pagination,
}

pub fn usage(g: &mut SchemaGenerator) -> Operation {
    of_usage("organizationUsage", "Says what an organization used", g)
}

pub fn own_usage(g: &mut SchemaGenerator) -> Operation {
    of_usage("ownUsage", "Says what the caller's organization used", g)
}

fn of_usage(id: &'static str, summary: &'static str, g: &mut SchemaGenerator) -> Operation {
    Operation::new(id, Tag::Organizations, summary)
        .asks::<UsageOptions>(g)
        .answers::<UsageAnswer>(200, "What was used.", g)
        .fails(FAILS)
}

pub fn audit_logs(g: &mut SchemaGenerator) -> Operation {
    of_audit("auditLogs", "Lists who did what in an organization, page by page", g)
}

pub fn own_audit_logs(g: &mut SchemaGenerator) -> Operation {
    of_audit(
        "ownAuditLogs",
        "Lists who did what in the caller's organization, page by page",
        g,
    )
}

fn of_audit(id: &'static str, summary: &'static str, g: &mut SchemaGenerator) -> Operation {
    Operation::new(id, Tag::Organizations, summary)
        .asks::<AuditOptions>(g)
        .answers::<AuditAnswer>(200, "A page.", g)
        .fails(FAILS)
}

pub fn verify_audit(g: &mut SchemaGenerator) -> Operation {
    of_verification(
        "verifyAudit",
        "Says whether a day of an organization's audit log is as it was written",
        g,
    )
}

pub fn verify_own_audit(g: &mut SchemaGenerator) -> Operation {
    of_verification(
        "verifyOwnAudit",
        "Says whether a day of the audit log of the caller's organization is as it was written",
        g,
    )
}

fn of_verification(id: &'static str, summary: &'static str, g: &mut SchemaGenerator) -> Operation {
    Operation::new(id, Tag::Organizations, summary)
        .asks::<VerifyOptions>(g)
        .answers::<AuditVerdict>(200, "What was found.", g)
        .fails(FAILS)
}
