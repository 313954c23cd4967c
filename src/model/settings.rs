//! What a namespace is set to besides its schema, and the JSON in which clients change it.

use ipnet::IpNet;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Invalid, NamespaceName};

/// The most read replicas that a pinned namespace may ask for.
pub const REPLICAS_MAX: u32 = 256;
/// The most shards of a namespace.
pub const SHARDS_MAX: u32 = 256;
/// The most networks that `allowed_ips` may have.
pub const ALLOWED_IPS_MAX: usize = 64;
/// The largest body of a change of settings or of a copy, in bytes.
pub const SETTINGS_BODY_BYTES_MAX: u64 = 64 * 1024;

/// The settings of a living namespace. A function of its log, as its rows are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether writes of documents and schema are refused.
    pub read_only: bool,
    /// The read replicas asked for, 1 to [`REPLICAS_MAX`]; `None` when it is not pinned. A wish:
    /// results and durability do not depend on it.
    pub pinned_replicas: Option<u32>,
    /// As its first write, or its copy, gave it, 1 to [`SHARDS_MAX`]; `None` when it did not.
    /// Recorded and shown only: all rows are in one shard.
    pub num_shards: Option<u32>,
    /// The namespace it was branched from.
    pub parent: Option<NamespaceName>,
    /// The group it belongs to; `None`: the group `default` of its organization.
    pub group: Option<Uuid>,
    /// Which generation of tokens for this namespace is valid. Older ones are revoked.
    pub token_gen: u64,
    /// Whether queries are refused.
    pub block_reads: bool,
    /// Whether writes of rows and schema are refused.
    pub block_writes: bool,
    /// Whether deleting the namespace is refused.
    pub delete_protection: bool,
    /// Stored and shown only: there is nothing to attach.
    pub allow_attach: bool,
    /// Bytes, as metadata count them, beyond which only deletes are accepted; `None`: no limit.
    pub size_limit: Option<u64>,
    /// The networks that requests for its data may come from, at most [`ALLOWED_IPS_MAX`]; empty: any.
    pub allowed_ips: Vec<IpNet>,
}

/// What one request changes in the settings; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    pub read_only: Option<bool>,
    /// The inner `None` unpins.
    pub pinned_replicas: Option<Option<u32>>,
    pub num_shards: Option<u32>,
    pub parent: Option<NamespaceName>,
    /// The inner `None` means the group `default`.
    pub group: Option<Option<Uuid>>,
    /// Revokes the tokens of now. Never in the log, which has the `token_gen` that comes of it.
    pub rotate_tokens: bool,
    /// Only in the log: decided under its slot. What a request says here is ignored.
    pub token_gen: Option<u64>,
    pub block_reads: Option<bool>,
    pub block_writes: Option<bool>,
    pub delete_protection: Option<bool>,
    pub allow_attach: Option<bool>,
    /// Bytes, at least 1. The inner `None` lifts the limit.
    pub size_limit: Option<Option<u64>>,
    /// All of them; empty lifts the restriction.
    pub allowed_ips: Option<Vec<IpNet>>,
}

impl SettingsChange {
    /// Whether it leaves every setting as it is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    ///
    /// The sentence for the client.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(networks) = &self.allowed_ips
            && networks.len() > ALLOWED_IPS_MAX
        {
            return Err(Invalid::new(format!(
                "allowed_ips may have at most {ALLOWED_IPS_MAX} networks, got {}",
                networks.len()
            )));
        }
        match self.size_limit {
            Some(Some(0)) => Err(Invalid::new("size_limit must be at least 1 byte; null lifts the limit")),
            _ => Ok(()),
        }
    }
}

impl Settings {
    /// Whether the rows are asked to be spread over several shards.
    pub fn is_sharded(&self) -> bool {
        self.num_shards.is_some_and(|n| n > 1)
    }

    /// The change that makes these settings of those of a new namespace.
    pub fn as_change(&self) -> SettingsChange {
        let Self {
            read_only,
            pinned_replicas,
            num_shards,
            parent,
            group,
            token_gen,
            block_reads,
            block_writes,
            delete_protection,
            allow_attach,
            size_limit,
            allowed_ips,
        } = self.clone();
        let flag = |set: bool| set.then_some(true);
        SettingsChange {
            read_only: flag(read_only),
            pinned_replicas: pinned_replicas.map(Some),
            num_shards,
            parent,
            group: group.map(Some),
            rotate_tokens: false,
            token_gen: Some(token_gen).filter(|n| *n > 0),
            block_reads: flag(block_reads),
            block_writes: flag(block_writes),
            delete_protection: flag(delete_protection),
            allow_attach: flag(allow_attach),
            size_limit: size_limit.map(Some),
            allowed_ips: Some(allowed_ips).filter(|ips| !ips.is_empty()),
        }
    }

    /// Applies a change that was decided under a log slot.
    pub fn apply(&mut self, change: &SettingsChange) {
        if let Some(read_only) = change.read_only {
            self.read_only = read_only;
        }
        if let Some(replicas) = change.pinned_replicas {
            self.pinned_replicas = replicas;
        }
        if change.num_shards.is_some() {
            self.num_shards = change.num_shards;
        }
        if change.parent.is_some() {
            self.parent.clone_from(&change.parent);
        }
        set(&mut self.group, change.group);
        set(&mut self.token_gen, change.token_gen);
        set(&mut self.block_reads, change.block_reads);
        set(&mut self.block_writes, change.block_writes);
        set(&mut self.delete_protection, change.delete_protection);
        set(&mut self.allow_attach, change.allow_attach);
        set(&mut self.size_limit, change.size_limit);
        if let Some(networks) = &change.allowed_ips {
            self.allowed_ips.clone_from(networks);
        }
    }
}

fn set<T>(setting: &mut T, change: Option<T>) {
    if let Some(value) = change {
        *setting = value;
    }
}

/// Parses the JSON body of a change of settings (`PATCH …/metadata`). An empty body is `{}`.
///
/// * `body` — untrusted, at most [`SETTINGS_BODY_BYTES_MAX`]
///
/// # Errors
///
/// The sentence for the client, naming the field.
pub fn parse_change(body: &[u8]) -> Result<SettingsChange, Invalid> {
    if body.trim_ascii().is_empty() {
        return Ok(SettingsChange::default());
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|e| Invalid::new(format!("the body is not valid JSON: {e}")))?;
    let fields = object("the body", &value)?;
    only("the body", fields, &["pinning", "read_only"])?;
    let read_only = match fields.get("read_only") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(read_only)) => Some(*read_only),
        Some(other) => return Err(wrong("read_only", other, "a boolean")),
    };
    let pinned_replicas = fields.get("pinning").map(parse_pinning).transpose()?;
    Ok(SettingsChange {
        read_only,
        pinned_replicas,
        ..SettingsChange::default()
    })
}

fn parse_pinning(pinning: &Value) -> Result<Option<u32>, Invalid> {
    match pinning {
        Value::Null | Value::Bool(false) => Ok(None),
        Value::Bool(true) => Ok(Some(1)),
        Value::Object(fields) => {
            only("pinning", fields, &["replicas"])?;
            match fields.get("replicas") {
                None | Some(Value::Null) => Ok(Some(1)),
                Some(replicas) => count("pinning: replicas", replicas, REPLICAS_MAX).map(Some),
            }
        }
        other => Err(wrong("pinning", other, "null, a boolean or an object")),
    }
}

/// Parses the value of `sharding` in a write; `None` for null.
///
/// # Errors
///
/// The sentence for the client.
pub fn parse_sharding(text: &str) -> Result<Option<u32>, Invalid> {
    let value: Value =
        serde_json::from_str(text).map_err(|e| Invalid::new(format!("sharding is not valid JSON: {e}")))?;
    if value.is_null() {
        return Ok(None);
    }
    let fields = object("sharding", &value)?;
    only("sharding", fields, &["num_shards"])?;
    match fields.get("num_shards") {
        None => Err(Invalid::shape("sharding: missing field `num_shards`")),
        Some(shards) => count("sharding: num_shards", shards, SHARDS_MAX).map(Some),
    }
}

/// An integer from 1 to `max`.
fn count(field: &str, value: &Value, max: u32) -> Result<u32, Invalid> {
    let Value::Number(number) = value else {
        return Err(wrong(field, value, "an integer"));
    };
    let whole = number.as_u64().and_then(|n| u32::try_from(n).ok());
    whole
        .filter(|n| (1..=max).contains(n))
        .ok_or_else(|| Invalid::new(format!("{field} must be an integer from 1 to {max}, got {number}")))
}

/// The fields of an object.
pub(super) fn object<'a>(field: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Invalid> {
    value.as_object().ok_or_else(|| wrong(field, value, "an object"))
}

/// Refuses fields that are not known.
pub(super) fn only(field: &str, fields: &Map<String, Value>, known: &[&str]) -> Result<(), Invalid> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let shown: String = unknown.chars().take(64).collect();
            Err(Invalid::new(format!(
                "{field}: unknown field {shown:?}, expected {}",
                known.join(", ")
            )))
        }
    }
}

/// 422: JSON of another type.
pub(super) fn wrong(field: &str, got: &Value, expected: &str) -> Invalid {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "sequence",
        Value::Object(_) => "map",
    };
    Invalid::shape(format!("{field}: invalid type: {got}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InvalidKind;

    fn pinned(replicas: Option<u32>) -> SettingsChange {
        SettingsChange {
            pinned_replicas: Some(replicas),
            ..SettingsChange::default()
        }
    }

    fn read_only(read_only: bool) -> SettingsChange {
        SettingsChange {
            read_only: Some(read_only),
            ..SettingsChange::default()
        }
    }

    #[test]
    fn every_documented_form_of_a_change_is_understood() {
        for (body, expected) in [
            ("", SettingsChange::default()),
            (" {} ", SettingsChange::default()),
            (r#"{"read_only": null}"#, SettingsChange::default()),
            (r#"{"read_only": true}"#, read_only(true)),
            (r#"{"read_only": false}"#, read_only(false)),
            (r#"{"pinning": null}"#, pinned(None)),
            (r#"{"pinning": false}"#, pinned(None)),
            (r#"{"pinning": true}"#, pinned(Some(1))),
            (r#"{"pinning": {}}"#, pinned(Some(1))),
            (r#"{"pinning": {"replicas": null}}"#, pinned(Some(1))),
            (r#"{"pinning": {"replicas": 1}}"#, pinned(Some(1))),
            (r#"{"pinning": {"replicas": 256}}"#, pinned(Some(256))),
        ] {
            assert_eq!(parse_change(body.as_bytes()).expect(body), expected, "{body}");
        }
        let both = parse_change(br#"{"pinning": {"replicas": 3}, "read_only": true}"#).expect("valid");
        assert_eq!((both.read_only, both.pinned_replicas), (Some(true), Some(Some(3))));
    }

    #[test]
    fn other_changes_are_refused_with_a_sentence() {
        for (body, kind, says) in [
            ("[]", InvalidKind::Shape, "expected an object"),
            ("null", InvalidKind::Shape, "expected an object"),
            ("{", InvalidKind::Semantic, "not valid JSON"),
            ("\u{fffd}", InvalidKind::Semantic, "not valid JSON"),
            (r#"{"readonly": true}"#, InvalidKind::Semantic, "\"readonly\""),
            (r#"{"read_only": 1}"#, InvalidKind::Shape, "read_only"),
            (r#"{"read_only": "true"}"#, InvalidKind::Shape, "expected a boolean"),
            (r#"{"pinning": 1}"#, InvalidKind::Shape, "pinning"),
            (r#"{"pinning": []}"#, InvalidKind::Shape, "sequence"),
            (r#"{"pinning": {"replica": 1}}"#, InvalidKind::Semantic, "\"replica\""),
            (
                r#"{"pinning": {"replicas": 0}}"#,
                InvalidKind::Semantic,
                "from 1 to 256",
            ),
            (r#"{"pinning": {"replicas": 257}}"#, InvalidKind::Semantic, "got 257"),
            (r#"{"pinning": {"replicas": -1}}"#, InvalidKind::Semantic, "got -1"),
            (r#"{"pinning": {"replicas": 1.5}}"#, InvalidKind::Semantic, "got 1.5"),
            (
                r#"{"pinning": {"replicas": 4294967297}}"#,
                InvalidKind::Semantic,
                "from 1",
            ),
            (r#"{"pinning": {"replicas": "2"}}"#, InvalidKind::Shape, "an integer"),
        ] {
            let e = parse_change(body.as_bytes()).expect_err(body);
            assert_eq!(e.kind, kind, "{body}: {e}");
            assert!(e.message.contains(says), "{body}: {e}");
        }
        let deep = "[".repeat(60_000);
        assert!(parse_change(format!(r#"{{"pinning": {deep}"#).as_bytes()).is_err());
    }

    #[test]
    fn sharding_is_a_count_of_shards() {
        for (text, expected) in [
            ("null", None),
            (r#"{"num_shards": 1}"#, Some(1)),
            (r#"{"num_shards": 256}"#, Some(256)),
        ] {
            assert_eq!(parse_sharding(text).expect(text), expected);
        }
        for bad in [
            "4",
            "true",
            "[]",
            "{}",
            r#"{"num_shards": 0}"#,
            r#"{"num_shards": 257}"#,
            r#"{"num_shards": null}"#,
            r#"{"num_shards": 2, "by": "id"}"#,
        ] {
            assert!(parse_sharding(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_change_touches_only_what_it_names() {
        let mut settings = Settings::default();
        settings.apply(&pinned(Some(2)));
        settings.apply(&read_only(true));
        settings.apply(&SettingsChange::default());
        assert_eq!((settings.read_only, settings.pinned_replicas), (true, Some(2)));
        settings.apply(&pinned(None));
        settings.apply(&read_only(false));
        assert_eq!(settings, Settings::default());
        assert!(SettingsChange::default().is_empty() && !pinned(None).is_empty());
        let all = SettingsChange {
            group: Some(Some(Uuid::from_u128(7))),
            token_gen: Some(3),
            block_reads: Some(true),
            block_writes: Some(true),
            delete_protection: Some(true),
            allow_attach: Some(true),
            size_limit: Some(Some(1 << 30)),
            allowed_ips: Some(vec!["10.0.0.0/8".parse().expect("a network")]),
            ..SettingsChange::default()
        };
        settings.apply(&all);
        let set = settings.clone();
        assert_eq!((set.group, set.token_gen), (Some(Uuid::from_u128(7)), 3));
        assert!(set.block_reads && set.block_writes && set.delete_protection && set.allow_attach);
        assert_eq!((set.size_limit, set.allowed_ips.len()), (Some(1 << 30), 1));
        settings.apply(&read_only(true));
        let mut again = Settings::default();
        again.apply(&settings.as_change());
        assert_eq!(again, settings);
        assert!(Settings::default().as_change().is_empty());
        settings.apply(&read_only(false));
        assert_eq!(settings, set);
        settings.apply(&SettingsChange {
            group: Some(None),
            token_gen: Some(0),
            block_reads: Some(false),
            block_writes: Some(false),
            delete_protection: Some(false),
            allow_attach: Some(false),
            size_limit: Some(None),
            allowed_ips: Some(Vec::new()),
            ..SettingsChange::default()
        });
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn changes_are_checked() {
        let network: IpNet = "10.0.0.0/8".parse().expect("a network");
        let networks = |n| SettingsChange {
            allowed_ips: Some(vec![network; n]),
            ..SettingsChange::default()
        };
        let limit = |bytes| SettingsChange {
            size_limit: Some(bytes),
            ..SettingsChange::default()
        };
        for good in [networks(0), networks(ALLOWED_IPS_MAX), limit(None), limit(Some(1))] {
            assert!(good.check().is_ok(), "{good:?}");
        }
        for (bad, says) in [
            (networks(ALLOWED_IPS_MAX + 1), "allowed_ips"),
            (limit(Some(0)), "size_limit"),
        ] {
            let e = bad.check().expect_err("out of bounds");
            assert!(e.message.contains(says), "{e}");
        }
    }
}
