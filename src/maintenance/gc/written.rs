//! The plans of garbage collection: what waits for the second look.

use serde::{Deserialize, Serialize};

use super::plan::Found;
use crate::base::seal::{sealed, unsealed};
use crate::store::paths::{self, NsKey, NsObject};

/// A larger body is no plan's. Enough for ten thousand of the longest keys.
pub(super) const PLAN_BYTES_MAX: usize = 4 << 20;
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Body {
    version: u32,
    keys: Vec<String>,
}

/// The body of a plan of these objects.
pub(super) fn encode(ns: &NsKey, objects: &[NsObject]) -> Vec<u8> {
    let body = Body {
        version: VERSION,
        keys: objects.iter().map(|o| paths::object(ns, o).to_string()).collect(),
    };
    sealed(serde_json::to_vec(&body).expect("texts are JSON"))
}

/// The objects of a plan; none of one that is damaged, and none that is not the namespace's own.
pub(super) fn decode(ns: &NsKey, bytes: &[u8]) -> Vec<NsObject> {
    let body = match bytes.len() <= PLAN_BYTES_MAX {
        true => unsealed(bytes).and_then(|body| serde_json::from_slice::<Body>(body).ok()),
        false => None,
    };
    let keys = body.filter(|body| body.version == VERSION).map(|body| body.keys);
    let own = |key: &String| {
        let object = paths::parse_object(&key.as_str().into())?;
        (paths::object(ns, &object).as_ref() == key).then_some(object)
    };
    keys.unwrap_or_default().iter().filter_map(own).collect()
}

/// What becomes of a piece of garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// No plan names it.
    New,
    /// One does since a short time.
    Waits,
    /// One does for long enough.
    Due,
}

/// Garbage, and what is planned of it.
#[derive(Debug)]
pub(super) struct Fates {
    /// In the order in which it is to be deleted.
    doomed: Vec<(Found, Fate)>,
    /// Positions in that, by object.
    by_object: Vec<u32>,
}

impl Fates {
    /// Of garbage that no plan names yet.
    pub fn of(doomed: Vec<Found>) -> Self {
        let count = u32::try_from(doomed.len()).expect("a look does not plan billions of objects");
        let mut by_object: Vec<u32> = (0..count).collect();
        by_object.sort_unstable_by(|a, b| doomed[*a as usize].object.cmp(&doomed[*b as usize].object));
        Self {
            doomed: doomed.into_iter().map(|found| (found, Fate::New)).collect(),
            by_object,
        }
    }

    /// Notes that a plan names these objects. What is no garbage any more is passed over.
    pub fn note(&mut self, objects: &[NsObject], fate: Fate) {
        for object in objects {
            let at = self
                .by_object
                .binary_search_by(|at| self.doomed[*at as usize].0.object.cmp(object));
            if let Ok(at) = at {
                let known = &mut self.doomed[self.by_object[at] as usize].1;
                *known = fate.max(*known);
            }
        }
    }

    /// What has such a fate, in the order in which it is to be deleted.
    pub fn with(&self, fate: Fate) -> impl Iterator<Item = &Found> {
        self.doomed
            .iter()
            .filter(move |(_, of)| *of == fate)
            .map(|(found, _)| found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ulid::Ulid;

    use super::*;
    use crate::model::{Gen, NamespaceName, OrgId, Seq};

    fn ns(name: &str) -> NsKey {
        NsKey::new(OrgId::default_org(), NamespaceName::parse(name).expect("a name"))
    }

    fn objects() -> Vec<NsObject> {
        let id = Ulid::from_parts(1, 2);
        vec![
            NsObject::Manifest(Gen(7)),
            NsObject::Entry(Seq(300)),
            NsObject::Segment(id),
            NsObject::Deletions(id),
            NsObject::Blob(id),
            NsObject::Pin(id),
        ]
    }

    #[test]
    fn a_plan_that_was_damaged_names_nothing() {
        let whole = encode(&ns("docs"), &objects());
        assert_eq!(decode(&ns("docs"), &whole), objects());
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(decode(&ns("docs"), &damaged), [], "byte {at}, bit {bit}");
            }
            assert_eq!(decode(&ns("docs"), &whole[..at]), [], "cut at {at}");
        }
        let newer = sealed(br#"{"version":2,"keys":[]}"#.to_vec());
        assert_eq!(decode(&ns("docs"), &newer), []);
        assert_eq!(decode(&ns("docs"), &sealed(vec![b' '; PLAN_BYTES_MAX])), []);
    }

    #[test]
    fn a_plan_names_nothing_of_others() {
        assert_eq!(decode(&ns("other"), &encode(&ns("docs"), &objects())), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_plan_or_nothing(bytes: Vec<u8>, json in "\\PC*") {
            let _ = decode(&ns("docs"), &bytes);
            let keys = format!(r#"{{"version":1,"keys":{}}}"#, serde_json::json!([json]));
            prop_assert_eq!(decode(&ns("docs"), &sealed(keys.into_bytes())), []);
        }

        #[test]
        fn what_is_planned_is_told_from_what_is_not(
            doomed in prop::collection::btree_set(0u64..60, 0..40),
            young in prop::collection::vec(0u64..60, 0..40),
            old in prop::collection::vec(0u64..60, 0..40),
        ) {
            let of = |seqs: &[u64]| seqs.iter().map(|seq| NsObject::Entry(Seq(*seq))).collect::<Vec<_>>();
            let order: Vec<u64> = doomed.iter().rev().copied().collect();
            let found = of(&order).into_iter().map(|object| Found { object, written_ms: 1, bytes: 2 });
            let mut fates = Fates::of(found.collect());
            fates.note(&of(&old), Fate::Due);
            fates.note(&of(&young), Fate::Waits);
            for fate in [Fate::New, Fate::Waits, Fate::Due] {
                let is = |seq: &u64| match (old.contains(seq), young.contains(seq)) {
                    (true, _) => Fate::Due,
                    (false, true) => Fate::Waits,
                    (false, false) => Fate::New,
                };
                let expected: Vec<u64> = order.iter().copied().filter(|seq| is(seq) == fate).collect();
                let objects: Vec<NsObject> = fates.with(fate).map(|f| f.object.clone()).collect();
                prop_assert_eq!(objects, of(&expected));
            }
        }
    }
}
