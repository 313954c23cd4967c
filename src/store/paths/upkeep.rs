//! The keys of what upkeep writes: manifests, segments and what goes with them.
//!
//! ```text
//! ns/<h2>/<org>/<ns>/man/<R(gen)>          manifests: the commit point of the state of the index
//! ns/<h2>/<org>/<ns>/head                  best-effort copy of the newest manifest
//! ns/<h2>/<org>/<ns>/seg/<ulid>            segments
//! ns/<h2>/<org>/<ns>/dv/<ulid>             deletion bitmaps too large for a manifest
//! ns/<h2>/<org>/<ns>/pin/<ulid>            holds on objects of this namespace
//! ns/<h2>/<org>/<ns>/lease/<role>/<R(term)> advisory leases
//! ns/<h2>/<org>/<ns>/gc/plan/<ulid>        what is to be deleted after a second look
//! q/<org>/<ns>                             dirty marker
//! g/<org>/<ns>                             marker: there is, or will be, garbage
//! sweep/<R(n)>                             the n-th search for lost markers
//! ```

use object_store::path::Path;
use ulid::Ulid;

use super::{
    NsKey, OperationPart, blob, decode_name, encode_name, lower, operation, parse_lower, parse_operation_part,
    parse_reversed, reversed, wal_entry,
};
use crate::model::{Gen, OrgId, Seq};

fn inside(ns: &NsKey, rest: &str) -> Path {
    Path::from(format!("{}/{rest}", ns.directory()))
}

/// All objects of a namespace but its listing and dirty markers.
pub fn namespace_prefix(ns: &NsKey) -> Path {
    Path::from(ns.directory())
}

/// All objects of all namespaces but their listing and dirty markers.
pub fn namespaces() -> Path {
    Path::from("ns")
}

/// The namespace in whose directory an object lies; `None` for a foreign one.
pub fn parse_namespace(key: &Path) -> Option<NsKey> {
    let mut parts = key.as_ref().split('/');
    if parts.next()? != "ns" {
        return None;
    }
    let (_, org, name, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let ns = NsKey::new(OrgId::parse(org).ok()?, decode_name(name)?);
    // In another directory than its own it would be somebody else's.
    key.prefix_matches(&namespace_prefix(&ns)).then_some(ns)
}

/// All searches for lost markers, newest first where listings are ordered.
pub fn sweeps() -> Path {
    Path::from("sweep")
}

/// One search for lost markers.
///
/// * `number` — of the interval that it is done in, since the epoch
pub fn sweep(number: u64) -> Path {
    Path::from(format!("sweep/{}", reversed(number)))
}

/// Which search an object is of; `None` for a foreign one.
pub fn parse_sweep(key: &Path) -> Option<u64> {
    parse_reversed(key.as_ref().strip_prefix("sweep/")?)
}

/// All objects of the namespaces whose keys begin with one of the 256 hashes.
///
/// * `org` — only of this organization's
pub fn part_prefix(part: u8, org: Option<&OrgId>) -> Path {
    match org {
        None => Path::from(format!("ns/{part:02x}")),
        Some(org) => Path::from(format!("ns/{part:02x}/{}", org.as_str())),
    }
}

/// All manifests of a namespace, newest first where listings are ordered.
pub fn manifest_prefix(ns: &NsKey) -> Path {
    inside(ns, "man")
}

/// One manifest.
pub fn manifest(ns: &NsKey, generation: Gen) -> Path {
    inside(ns, &format!("man/{}", reversed(generation.0)))
}

/// Which manifest a key found under [`manifest_prefix`] is; `None` for a foreign object.
pub fn parse_manifest(key: &Path) -> Option<Gen> {
    match parse_object(key)? {
        NsObject::Manifest(generation) => Some(generation),
        _ => None,
    }
}

/// The copy of the newest manifest, or of one that was the newest.
pub fn head(ns: &NsKey) -> Path {
    inside(ns, "head")
}

/// One segment.
pub fn segment(ns: &NsKey, id: Ulid) -> Path {
    inside(ns, &format!("seg/{}", lower(id)))
}

/// One deletion bitmap.
pub fn deletions(ns: &NsKey, id: Ulid) -> Path {
    inside(ns, &format!("dv/{}", lower(id)))
}

/// All holds on the objects of a namespace.
pub fn pin_prefix(ns: &NsKey) -> Path {
    inside(ns, "pin")
}

/// One hold.
pub fn pin(ns: &NsKey, id: Ulid) -> Path {
    inside(ns, &format!("pin/{}", lower(id)))
}

/// All terms of an advisory lease, newest first where listings are ordered.
///
/// * `role` — lower-case letters
pub fn lease_prefix(ns: &NsKey, role: &str) -> Path {
    inside(ns, &format!("lease/{role}"))
}

/// One term of an advisory lease.
pub fn lease(ns: &NsKey, role: &str, term: u64) -> Path {
    inside(ns, &format!("lease/{role}/{}", reversed(term)))
}

/// One plan of garbage collection.
pub fn collection_plan(ns: &NsKey, id: Ulid) -> Path {
    inside(ns, &format!("gc/plan/{}", lower(id)))
}

/// All dirty markers.
pub fn dirty_markers() -> Path {
    Path::from("q")
}

/// The dirty marker of a namespace.
pub fn dirty_marker(ns: &NsKey) -> Path {
    Path::from(format!("q/{}/{}", ns.org.as_str(), encode_name(ns.namespace.as_str())))
}

/// The namespace whose dirty marker this is; `None` for a foreign object.
pub fn parse_dirty_marker(key: &Path) -> Option<NsKey> {
    parse_marker(key, "q")
}

/// The markers of all namespaces in which garbage is to be expected.
pub fn collection_markers() -> Path {
    Path::from("g")
}

/// The marker of a namespace in which garbage is to be expected.
pub fn collection_marker(ns: &NsKey) -> Path {
    Path::from(format!("g/{}/{}", ns.org.as_str(), encode_name(ns.namespace.as_str())))
}

/// The namespace whose [`collection_marker`] this is; `None` for a foreign object.
pub fn parse_collection_marker(key: &Path) -> Option<NsKey> {
    parse_marker(key, "g")
}

fn parse_marker(key: &Path, kind: &str) -> Option<NsKey> {
    let mut parts = key.as_ref().split('/');
    if parts.next()? != kind {
        return None;
    }
    let (org, name, None) = (parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    Some(NsKey::new(OrgId::parse(org).ok()?, decode_name(name)?))
}

/// What an object in the directory of a namespace is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NsObject {
    Entry(Seq),
    Blob(Ulid),
    Manifest(Gen),
    Head,
    Segment(Ulid),
    Deletions(Ulid),
    Pin(Ulid),
    Lease {
        role: String,
        term: u64,
    },
    CollectionPlan(Ulid),
    /// Of the state of a copy.
    Operation(Ulid, OperationPart),
}

/// The key of an object in the directory of a namespace. The entries of the log come after all others.
pub fn object(ns: &NsKey, object: &NsObject) -> Path {
    match object {
        NsObject::Entry(seq) => wal_entry(ns, *seq),
        NsObject::Blob(id) => blob(ns, *id),
        NsObject::Manifest(generation) => manifest(ns, *generation),
        NsObject::Head => head(ns),
        NsObject::Segment(id) => segment(ns, *id),
        NsObject::Deletions(id) => deletions(ns, *id),
        NsObject::Pin(id) => pin(ns, *id),
        NsObject::Lease { role, term } => lease(ns, role, *term),
        NsObject::CollectionPlan(id) => collection_plan(ns, *id),
        NsObject::Operation(token, part) => operation(ns, *token, *part),
    }
}

/// What the object of a key in the directory of a namespace is; `None` for a foreign one.
pub fn parse_object(key: &Path) -> Option<NsObject> {
    let mut parts = key.as_ref().split('/');
    let directory = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let rest: Vec<&str> = parts.collect();
    let is_directory = directory.0 == "ns" && directory.3.starts_with("n=");
    match (is_directory, rest.as_slice()) {
        (false, _) => None,
        (_, ["wal", name]) => parse_reversed(name).map(Seq).map(NsObject::Entry),
        (_, ["blob", name]) => parse_lower(name).map(NsObject::Blob),
        (_, ["man", name]) => parse_reversed(name).map(Gen).map(NsObject::Manifest),
        (_, ["head"]) => Some(NsObject::Head),
        (_, ["seg", name]) => parse_lower(name).map(NsObject::Segment),
        (_, ["dv", name]) => parse_lower(name).map(NsObject::Deletions),
        (_, ["pin", name]) => parse_lower(name).map(NsObject::Pin),
        (_, ["lease", role, name]) => Some(NsObject::Lease {
            role: (*role).to_owned(),
            term: parse_reversed(name)?,
        }),
        (_, ["gc", "plan", name]) => parse_lower(name).map(NsObject::CollectionPlan),
        (_, ["ops", token, _]) => {
            parse_lower(token).and_then(|t| Some(NsObject::Operation(t, parse_operation_part(key)?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{operation_prefix, wal_prefix};
    use super::*;
    use crate::model::NamespaceName;

    fn ns(name: &str) -> NsKey {
        NsKey::new(OrgId::default_org(), NamespaceName::parse(name).expect("a legal name"))
    }

    #[test]
    fn the_namespace_of_a_key_is_known_and_of_a_foreign_one_is_not() {
        let a = ns("Docs-EU");
        let key = segment(&a, Ulid::from_parts(1, 2));
        assert_eq!(parse_namespace(&key), Some(a.clone()));
        let part = key
            .as_ref()
            .split('/')
            .nth(1)
            .and_then(|h| u8::from_str_radix(h, 16).ok())
            .expect("a hash");
        assert!(key.as_ref().starts_with(part_prefix(part, None).as_ref()));
        assert!(key.as_ref().starts_with(part_prefix(part, Some(a.org())).as_ref()));
        let other_part = key
            .as_ref()
            .replacen(&format!("/{part:02x}/"), &format!("/{:02x}/", part ^ 1), 1);
        let directory = a.directory();
        for foreign in [
            &other_part,
            &directory,
            "ns/00/x",
            "ns/00/default/n=A/wal/1",
            "q/default/n=a/b/c",
        ] {
            assert_eq!(parse_namespace(&Path::from(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn the_written_form_of_keys_does_not_change() {
        let (a, id) = (ns("A"), Ulid::from_parts(1, 2));
        let inside = |key: Path| key.as_ref().split_once("/default/n=a!8/").expect("inside").1.to_owned();
        assert_eq!(inside(manifest(&a, Gen(1))), "man/fffffffffffffffe");
        assert_eq!(inside(head(&a)), "head");
        assert_eq!(inside(segment(&a, id)), "seg/00000000010000000000000002");
        assert_eq!(inside(deletions(&a, id)), "dv/00000000010000000000000002");
        assert_eq!(inside(pin(&a, id)), "pin/00000000010000000000000002");
        assert_eq!(inside(lease(&a, "index", 2)), "lease/index/fffffffffffffffd");
        assert_eq!(inside(collection_plan(&a, id)), "gc/plan/00000000010000000000000002");
        assert_eq!(dirty_marker(&a).as_ref(), "q/default/n=a!8");
        assert_eq!(collection_marker(&a).as_ref(), "g/default/n=a!8");
        assert_eq!(sweep(1).as_ref(), "sweep/fffffffffffffffe");
    }

    proptest! {
        #[test]
        fn every_key_is_read_back(name in "[A-Za-z0-9._-]{1,128}", n: u64, id: u128) {
            let (ns, id) = (ns(&name), Ulid::from(id));
            let lease_key = lease(&ns, "index", n);
            for (key, below, object) in [
                (wal_entry(&ns, Seq(n)), wal_prefix(&ns), NsObject::Entry(Seq(n))),
                (blob(&ns, id), namespace_prefix(&ns), NsObject::Blob(id)),
                (manifest(&ns, Gen(n)), manifest_prefix(&ns), NsObject::Manifest(Gen(n))),
                (head(&ns), namespace_prefix(&ns), NsObject::Head),
                (segment(&ns, id), namespace_prefix(&ns), NsObject::Segment(id)),
                (deletions(&ns, id), namespace_prefix(&ns), NsObject::Deletions(id)),
                (pin(&ns, id), pin_prefix(&ns), NsObject::Pin(id)),
                (lease_key, lease_prefix(&ns, "index"), NsObject::Lease { role: "index".into(), term: n }),
                (collection_plan(&ns, id), namespace_prefix(&ns), NsObject::CollectionPlan(id)),
                (operation(&ns, id, OperationPart::Beat(3)), operation_prefix(&ns, id),
                    NsObject::Operation(id, OperationPart::Beat(3))),
            ] {
                prop_assert_eq!(super::object(&ns, &object), key.clone());
                // The log is listed last.
                prop_assert!(key <= wal_entry(&ns, Seq(u64::MAX)) || matches!(object, NsObject::Entry(_)), "{key}");
                prop_assert_eq!(parse_object(&key), Some(object));
                prop_assert_eq!(parse_namespace(&key), Some(ns.clone()));
                prop_assert!(key.prefix_matches(&namespaces()));
                prop_assert!(key.prefix_matches(&below));
                prop_assert!(key.as_ref() == key.as_ref().to_ascii_lowercase() && !key.as_ref().contains('%'));
            }
            prop_assert_eq!(parse_manifest(&manifest(&ns, Gen(n))), Some(Gen(n)));
            prop_assert_eq!(parse_sweep(&sweep(n)), Some(n));
            prop_assert!(sweep(n).prefix_matches(&sweeps()));
            prop_assert_eq!(parse_dirty_marker(&dirty_marker(&ns)), Some(ns.clone()));
            prop_assert!(dirty_marker(&ns).prefix_matches(&dirty_markers()));
            prop_assert_eq!(parse_collection_marker(&collection_marker(&ns)), Some(ns.clone()));
            prop_assert_eq!(parse_collection_marker(&dirty_marker(&ns)), None);
            prop_assert!(collection_marker(&ns).prefix_matches(&collection_markers()));
        }

        #[test]
        fn any_key_is_an_object_or_nothing(text in "[a-z0-9/=!%.G]{0,60}") {
            let key = Path::from(text);
            let _ = (parse_object(&key), parse_dirty_marker(&key), parse_namespace(&key), parse_sweep(&key));
        }
    }

    #[test]
    fn foreign_objects_are_not_taken_for_ours() {
        for key in [
            "ns/00/default/n=a/man/x",
            "ns/00/default/n=a/man/FFFFFFFFFFFFFFFF",
            "ns/00/default/n=a/seg/00000000010000000000000002.idx",
            "ns/00/default/n=a/seg/0000000001000000000000000Z",
            "ns/00/default/n=a/head/x",
            "ns/00/default/n=a",
            "ns/00/default/a/head",
            "x/00/default/n=a/head",
            "ns/00/default/n=a/gc/00000000010000000000000002",
        ] {
            assert_eq!(parse_object(&Path::from(key)), None, "{key}");
        }
        for key in ["ns/00/default/n=a/head", "ns/00/default/n=a", "sweep/x", "sweep", "ns"] {
            let key = Path::from(key);
            assert_eq!((parse_namespace(&key), parse_sweep(&key)), (None, None), "{key}");
        }
        for key in [
            "q",
            "q/default",
            "q/Default/n=a",
            "q/default/a",
            "q/default/n=a/x",
            "p/default/n=a",
        ] {
            assert_eq!(parse_dirty_marker(&Path::from(key)), None, "{key}");
        }
    }
}
