//! Filters: parsed, printed and parsed again, bound and evaluated; `Not` is the complement.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use shoal::model::Filter;
use shoal::model::filter::{References, parse};
use shoal::query::filter::{bind, evaluate, matches_row};
use shoal::snapshot::Snapshot;

static NAMESPACE: LazyLock<Snapshot> = LazyLock::new(shoal_fuzz::namespace);

fuzz_target!(|body: &[u8]| {
    let limits = shoal_fuzz::limits();
    let Ok(json) = serde_json::from_slice(body) else { return };
    let Ok(filter) = parse(json, References::Allowed, &limits) else {
        return;
    };
    let again = parse(filter.to_json(), References::Allowed, &limits).expect("what was printed can be read");
    assert_eq!(filter, again);
    let filter = filter.resolve(&|_| 5.into());
    assert!(!filter.has_references());
    let Ok(bound) = bind(&filter, &NAMESPACE.schema) else {
        return;
    };
    let opposite = bind(&Filter::Not(Box::new(filter)), &NAMESPACE.schema);
    for part in NAMESPACE.parts.iter() {
        let held = evaluate(&bound, &part.chunk);
        for row in 0..part.chunk.len() {
            assert_eq!(held.contains(row), matches_row(&bound, &part.chunk, row as u32));
        }
        if let Ok(opposite) = &opposite {
            let mut opposite = evaluate(opposite, &part.chunk);
            opposite.invert();
            assert_eq!(held.words(), opposite.words());
        }
    }
});
