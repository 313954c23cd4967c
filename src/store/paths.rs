//! Every object key there is. No other file builds one.
//!
//! ```text
//! FORMAT                                the deployment's identity
//! cat/<org>/<ns>/<R(genesis)>           listing marker, one per incarnation
//! ns/<h2>/<org>/<ns>/wal/<R(seq)>       log entries: the commit point of writes
//! ns/<h2>/<org>/<ns>/blob/<ulid>        large payloads that one entry names
//! ns/<h2>/<org>/<ns>/ops/<ulid>/<part>  state of a copy by token: start, beat-<n>, done
//! q/<org>/<ns>                          dirty marker: there are log entries to be indexed
//! g/<org>/<ns>                          marker: there is, or will be, garbage
//! sweep/<R(n)>                          who looks for lost markers, and how far that got
//! ns/<h2>/<org>/<ns>/man/…, head, …     what upkeep writes: see [`upkeep`]
//! probe/<run>/…                         the conformance probe's, removed by it
//! _control/…                            organizations, keys, tokens: see [`control`]
//! ```
//!
//! - `R(x)` is 2^64-1-x as 16 hexadecimal digits, so that the newest sorts first.
//! - `<h2>` is a hash that spreads namespaces over a store's key ranges.
//! - `<ns>` is `n=`, the lower-cased name and, if it has capitals, `!` and a bitmap of their
//!   positions. Different names differ also where case is ignored, as on some file systems; `.` and
//!   `..` are no longer special; and 128 capitals give 163 bytes, below every file system's limit.

pub mod control;
pub mod upkeep;

use object_store::path::Path;
use ulid::Ulid;

use crate::model::{NamespaceName, OrgId, Seq};
pub use upkeep::{
    NsObject, collection_marker, collection_markers, collection_plan, deletions, dirty_marker, dirty_markers, head,
    lease, lease_prefix, manifest, manifest_prefix, namespace_prefix, object, parse_collection_marker,
    parse_dirty_marker, parse_manifest, parse_object, pin, pin_prefix, segment,
};

/// One namespace of one organization.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NsKey {
    org: OrgId,
    namespace: NamespaceName,
}

impl NsKey {
    /// The organization comes from the credential, never from a request's path.
    pub fn new(org: OrgId, namespace: NamespaceName) -> Self {
        Self { org, namespace }
    }

    /// The organization.
    pub fn org(&self) -> &OrgId {
        &self.org
    }

    /// The exact name.
    pub fn namespace(&self) -> &NamespaceName {
        &self.namespace
    }

    fn directory(&self) -> String {
        let (org, name) = (self.org.as_str(), self.namespace.as_str());
        let hash = xxhash_rust::xxh3::xxh3_64(format!("{org}/{name}").as_bytes());
        format!("ns/{:02x}/{org}/{}", hash & 0xff, encode_name(name))
    }
}

/// The revision `number` of the record that lives below `record`; the newest sorts first.
pub fn record_revision(record: &Path, number: u64) -> Path {
    Path::from(format!("{record}/{}", reversed(number)))
}

/// The record whose directory has this key.
pub fn record_directory(key: &str) -> Path {
    Path::from(key)
}

/// Which revision a key found below a record is; `None` for a foreign object.
pub fn parse_record_revision(key: &Path) -> Option<u64> {
    parse_reversed(key.as_ref().rsplit('/').next()?)
}

/// The object with the layout version and the deployment's id.
pub fn format() -> Path {
    Path::from("FORMAT")
}

/// A key of one run of the conformance probe.
pub fn probe(run: Ulid, name: &str) -> Path {
    Path::from(format!("probe/{}/{name}", lower(run)))
}

/// All keys of one run of the conformance probe.
pub fn probe_prefix(run: Ulid) -> Path {
    Path::from(format!("probe/{}", lower(run)))
}

/// All log entries of a namespace, newest first where listings are ordered.
pub fn wal_prefix(ns: &NsKey) -> Path {
    Path::from(format!("{}/wal", ns.directory()))
}

/// One log entry.
pub fn wal_entry(ns: &NsKey, seq: Seq) -> Path {
    Path::from(format!("{}/wal/{}", ns.directory(), reversed(seq.0)))
}

/// Which entry a key found under [`wal_prefix`] is; `None` for a foreign object.
pub fn parse_wal_entry(key: &Path) -> Option<Seq> {
    let (directory, name) = key.as_ref().rsplit_once('/')?;
    directory
        .ends_with("/wal")
        .then(|| parse_reversed(name))
        .flatten()
        .map(Seq)
}

/// All staged payloads of a namespace.
pub fn blob_prefix(ns: &NsKey) -> Path {
    Path::from(format!("{}/blob", ns.directory()))
}

/// One staged payload.
pub fn blob(ns: &NsKey, id: Ulid) -> Path {
    Path::from(format!("{}/blob/{}", ns.directory(), lower(id)))
}

/// One object of the state of an operation, in the order in which they come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationPart {
    Start,
    /// The n-th sign that it is worked on.
    Beat(u32),
    Done,
}

/// All objects of an operation.
pub fn operation_prefix(ns: &NsKey, token: Ulid) -> Path {
    Path::from(format!("{}/ops/{}", ns.directory(), lower(token)))
}

/// One object of an operation.
pub fn operation(ns: &NsKey, token: Ulid, part: OperationPart) -> Path {
    let name = match part {
        OperationPart::Start => "start".to_owned(),
        OperationPart::Beat(n) => format!("beat-{n:08x}"),
        OperationPart::Done => "done".to_owned(),
    };
    Path::from(format!("{}/{name}", operation_prefix(ns, token)))
}

/// Which object a key found under [`operation_prefix`] is; `None` for a foreign one.
pub fn parse_operation_part(key: &Path) -> Option<OperationPart> {
    match key.as_ref().rsplit('/').next()? {
        "start" => Some(OperationPart::Start),
        "done" => Some(OperationPart::Done),
        other => {
            let digits = other.strip_prefix("beat-")?;
            let canonical = digits.len() == 8 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let n = canonical.then(|| u32::from_str_radix(digits, 16).ok()).flatten()?;
            Some(OperationPart::Beat(n))
        }
    }
}

/// All listing markers of an organization.
pub fn catalog(org: &OrgId) -> Path {
    Path::from(format!("cat/{}", org.as_str()))
}

/// What the keys of all markers of names beginning with `prefix`, up to case, begin with. Any text
/// will do; it is no key of its own.
pub fn catalog_name_prefix(org: &OrgId, prefix: &str) -> Path {
    Path::from(format!("cat/{}/n={}", org.as_str(), prefix.to_ascii_lowercase()))
}

/// All listing markers of a namespace's incarnations.
pub fn catalog_markers(ns: &NsKey) -> Path {
    Path::from(format!(
        "cat/{}/{}",
        ns.org.as_str(),
        encode_name(ns.namespace.as_str())
    ))
}

/// The listing marker of the incarnation whose first entry is `genesis`.
pub fn catalog_marker(ns: &NsKey, genesis: Seq) -> Path {
    Path::from(format!("{}/{}", catalog_markers(ns), reversed(genesis.0)))
}

/// The first entry of the incarnation a marker stands for; `None` for a foreign object.
pub fn marker_genesis(key: &Path) -> Option<Seq> {
    parse_reversed(key.as_ref().rsplit('/').next()?).map(Seq)
}

/// The exact name of the namespace a marker stands for; `None` for a foreign object.
pub fn marker_namespace(key: &Path) -> Option<NamespaceName> {
    decode_name(key.as_ref().rsplit('/').nth(1)?)
}

/// The ULID that is written so; `None` for any other text.
fn parse_lower(text: &str) -> Option<Ulid> {
    let id = Ulid::from_string(text).ok()?;
    (lower(id) == text).then_some(id)
}

fn lower(id: Ulid) -> String {
    id.to_string().to_ascii_lowercase()
}

fn reversed(x: u64) -> String {
    format!("{:016x}", u64::MAX - x)
}

fn parse_reversed(text: &str) -> Option<u64> {
    let canonical = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let value = canonical.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
    // The last number has no successor, and nothing has it.
    (value > 0).then(|| u64::MAX - value)
}

/// Position `i` of the name is the bit `8 >> i % 4` of digit `i / 4`; zero digits at the end are left out.
fn encode_name(name: &str) -> String {
    let digits = name.as_bytes().chunks(4).map(|four| {
        let bits = four
            .iter()
            .enumerate()
            .map(|(i, b)| u32::from(b.is_ascii_uppercase()) << (3 - i));
        char::from_digit(bits.sum(), 16).expect("four bits are one hexadecimal digit")
    });
    let bitmap: String = digits.collect();
    let bitmap = bitmap.trim_end_matches('0');
    let mark = if bitmap.is_empty() { "" } else { "!" };
    format!("n={}{mark}{bitmap}", name.to_ascii_lowercase())
}

fn decode_name(key: &str) -> Option<NamespaceName> {
    let text = key.strip_prefix("n=")?;
    let (lowered, bitmap) = text.split_once('!').unwrap_or((text, ""));
    let bitmap = bitmap.as_bytes();
    let name: String = lowered
        .char_indices()
        .map(|(i, c)| {
            let digit = bitmap.get(i / 4).and_then(|d| char::from(*d).to_digit(16)).unwrap_or(0);
            if digit & (8 >> (i % 4)) != 0 {
                c.to_ascii_uppercase()
            } else {
                c
            }
        })
        .collect();
    let name = NamespaceName::parse(&name).ok()?;
    // One name has one key: anything else is not ours.
    (encode_name(name.as_str()) == key).then_some(name)
}

/// What an object, or a prefix, is part of: a namespace, or one of the other directories of the bucket.
pub fn place(key: &str) -> &str {
    let depth = match key.starts_with("ns/") {
        true => 4,
        false => 1,
    };
    key.match_indices('/')
        .nth(depth - 1)
        .map_or(key, |(end, _)| &key[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ns(name: &str) -> NsKey {
        NsKey::new(OrgId::default_org(), NamespaceName::parse(name).expect("a legal name"))
    }

    #[test]
    fn the_written_form_of_keys_does_not_change() {
        assert_eq!(encode_name("docs"), "n=docs");
        assert_eq!(encode_name("Docs-EU"), "n=docs-eu!86");
        assert_eq!(encode_name(".."), "n=..");
        assert_eq!(
            catalog_marker(&ns("A"), Seq(1)).as_ref(),
            "cat/default/n=a!8/fffffffffffffffe"
        );
        let entry = wal_entry(&ns("a"), Seq(0x2a));
        assert!(entry.as_ref().ends_with("/default/n=a/wal/ffffffffffffffd5"), "{entry}");
        assert_eq!(encode_name(&"A".repeat(128)).len(), 163);
    }

    #[test]
    fn the_objects_of_an_operation_are_told_apart() {
        let token = Ulid::from_parts(1, 2);
        for part in [
            OperationPart::Start,
            OperationPart::Beat(0),
            OperationPart::Beat(u32::MAX),
            OperationPart::Done,
        ] {
            let key = operation(&ns("a"), token, part);
            assert_eq!(parse_operation_part(&key), Some(part), "{key}");
            assert!(key.as_ref().starts_with(operation_prefix(&ns("a"), token).as_ref()));
            assert_eq!(key.as_ref(), key.as_ref().to_ascii_lowercase());
        }
        for foreign in [
            "x/ops/y/beat-1",
            "x/ops/y/beat-0000000G",
            "x/ops/y/ended",
            "x/ops/y/beat-+0000001",
        ] {
            assert_eq!(parse_operation_part(&Path::from(foreign)), None, "{foreign}");
        }
        assert!(OperationPart::Start < OperationPart::Beat(0) && OperationPart::Beat(9) < OperationPart::Beat(10));
    }

    #[test]
    fn foreign_keys_are_not_taken_for_ours() {
        for name in [
            "docs",
            "n=",
            "n=Docs",
            "n=docs!",
            "n=docs!0",
            "n=docs!80",
            "n=docs!01",
            "n=docs!g",
            "n=a!1",
            "n=ä",
        ] {
            assert_eq!(decode_name(name), None, "{name}");
        }
        for key in [
            "x",
            "a/wal/+fffffffffffffff",
            "a/wal/FFFFFFFFFFFFFFFF",
            "a/wal/ff",
            "a/blob/ffffffffffffffff",
        ] {
            assert_eq!(parse_wal_entry(&Path::from(key)), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn names_and_positions_round_trip(name in "[A-Za-z0-9._-]{1,128}", seq: u64) {
            let key = ns(&name);
            let marker = catalog_marker(&key, Seq(seq));
            prop_assert_eq!(marker_namespace(&marker), Some(key.namespace.clone()));
            prop_assert_eq!(marker_genesis(&marker), Some(Seq(seq)));
            let entry = wal_entry(&key, Seq(seq));
            prop_assert_eq!(parse_wal_entry(&entry), Some(Seq(seq)));
            // Nothing was percent-encoded on the way into a path, and every part is a file name.
            prop_assert!(!entry.as_ref().contains('%'));
            prop_assert!(entry.parts().all(|p| p.as_ref().len() <= 255 && p.as_ref() != ".." && p.as_ref() != "."));
            prop_assert!(entry.as_ref() == entry.as_ref().to_ascii_lowercase());
        }

        #[test]
        fn different_names_differ_where_case_is_ignored(a in "[aAbB.]{1,6}", b in "[aAbB.]{1,6}") {
            let (x, y) = (encode_name(&a), encode_name(&b));
            prop_assert_eq!(a == b, x.eq_ignore_ascii_case(&y));
        }

        #[test]
        fn newer_sorts_first(a: u64, b: u64) {
            let key = ns("x");
            prop_assert_eq!(a.cmp(&b), wal_entry(&key, Seq(b)).cmp(&wal_entry(&key, Seq(a))));
        }

        #[test]
        fn any_text_is_a_name_or_nothing(text: String) {
            let _ = decode_name(&text);
            let _ = catalog_name_prefix(&OrgId::default_org(), &text);
            let _ = parse_reversed(&text);
        }
    }
}
