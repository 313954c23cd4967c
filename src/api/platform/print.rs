//! Groups, databases and instances as the Turso Platform API prints them: its old and its current shape together.

use serde_json::{Value as Json, json};

use super::call::{Call, Found};
use crate::api::Api;
use crate::control::nodes::{Node, in_order_of};
use crate::control::{Group, Organization, Place};
use crate::model::Settings;

/// A group.
pub fn group(group: &Group) -> Json {
    let up = |code: &String| json!({"name": code, "status": "up"});
    json!({
        "name": group.name,
        "uuid": group.id,
        "version": env!("CARGO_PKG_VERSION"),
        "locations": group.locations,
        "primary": group.primary,
        "archived": false,
        "delete_protection": group.delete_protection,
        "status": {"locations": group.locations.iter().map(up).collect::<Vec<_>>()},
    })
}

/// The host name of a database.
pub fn host_name(call: &Call, api: &Api, org: &Organization, name: &str) -> String {
    format!("{name}-{}.{}", org.slug, call.base_host(api))
}

/// A database.
pub fn database(call: &Call, api: &Api, org: &Organization, found: &Found) -> Json {
    let Found { database, group } = found;
    let (name, settings) = (database.name.as_str(), &*database.known.settings);
    let parent = settings.parent.as_ref().map(|parent| json!({"name": parent.as_str()}));
    json!({
        "Name": name,
        "DbId": database.known.id,
        "Hostname": host_name(call, api, org, name),
        "block_reads": settings.block_reads,
        "block_writes": settings.block_writes,
        "allow_attach": settings.allow_attach,
        "regions": group.locations,
        "primaryRegion": group.primary,
        "type": "logical",
        "database_type": "shoal",
        "version": env!("CARGO_PKG_VERSION"),
        "group": group.name,
        "group_id": group.id,
        "sleeping": false,
        "archived": false,
        "is_schema": false,
        "schema": "",
        "delete_protection": settings.delete_protection,
        "parent": parent,
        "allow_rules_config": {"allowed_ips": settings.allowed_ips, "allowed_aws_vpc_ids": []},
        "IssuedCertLimit": 0,
        "IssuedCertCount": 0,
    })
}

/// The configuration of a database.
pub fn configuration(settings: &Settings) -> Json {
    json!({
        "size_limit": settings.size_limit.map(size),
        "block_reads": settings.block_reads,
        "block_writes": settings.block_writes,
        "allow_attach": settings.allow_attach,
        "delete_protection": settings.delete_protection,
        "allowed_ips": settings.allowed_ips,
    })
}

const UNITS: [(&str, u64); 9] = [
    ("tb", 1_000_000_000_000),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1000),
    ("tib", 1 << 40),
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("b", 1),
];

/// Bytes in the largest unit that says them exactly.
fn size(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit));
    match unit {
        Some((name, unit)) if *unit > 1 => format!("{}{name}", bytes / unit),
        _ => bytes.to_string(),
    }
}

/// The bytes of a size such as `256mb`, `1gb` or `1000`; `None` when it is none.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = match unit.trim() {
        "" => 1,
        name => UNITS.iter().find(|(n, _)| *n == name)?.1,
    };
    number.checked_mul(unit)
}

/// A node that serves a database.
pub struct Instance {
    pub node: Node,
    pub is_primary: bool,
}

/// The nodes that serve a database, its primary first: by rendezvous hash, and after it as many as replicas are pinned.
///
/// * `nodes` — those that are there, at least one
pub fn instances(call: &Call, found: &Found, nodes: Vec<Node>) -> Vec<Instance> {
    let replicas = found.database.known.settings.pinned_replicas.unwrap_or(0) as usize;
    let ordered = in_order_of(nodes, call.org(), &found.database.name);
    let numbered = ordered.into_iter().take(1 + replicas).enumerate();
    numbered
        .map(|(i, node)| Instance {
            node,
            is_primary: i == 0,
        })
        .collect()
}

/// One of them.
pub fn instance(instance: &Instance, host: &str) -> Json {
    json!({
        "uuid": instance.node.id,
        "name": instance.node.name,
        "type": if instance.is_primary { "primary" } else { "replica" },
        "region": instance.node.region,
        "hostname": host,
    })
}

/// A location by its code; `None` when there is none.
pub fn location(place: &Place, code: &str) -> Option<Json> {
    let text = place.locations.get(code)?;
    let others = place.locations.iter().filter(|(other, _)| *other != code);
    let closest = others.map(|(code, text)| json!({"code": code, "description": text}));
    Some(json!({"code": code, "description": text, "closest": closest.collect::<Vec<_>>()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes) in [
            ("1000", 1000),
            ("256mb", 256_000_000),
            ("1gb", 1_000_000_000),
            ("10GB", 10_000_000_000),
            ("1 kb", 1000),
            ("3b", 3),
            ("2gib", 2 << 30),
            ("0", 0),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(parse_size(&size(bytes)), Some(bytes), "{bytes}");
        }
        for bad in [
            "",
            "gb",
            "-1",
            "1.5gb",
            "1eb",
            "1 g b",
            "18446744073709551616",
            "99999999999tb",
        ] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        assert_eq!(
            (size(10_000_000_000), size(1 << 30), size(7)),
            ("10gb".into(), "1gib".into(), "7".into())
        );
    }
}
