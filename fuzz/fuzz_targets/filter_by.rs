//! Filters in Typesense's syntax, and patterns of namespaces: read, compiled and bound.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use shoal::control::Patterns;
use shoal::model::filter_by::{Bounds, FilterBy};
use shoal::query::filter::{bind, evaluate};
use shoal::snapshot::Snapshot;

static NAMESPACE: LazyLock<Snapshot> = LazyLock::new(shoal_fuzz::namespace);

fuzz_target!(|text: &str| {
    if let Ok(patterns) = Patterns::parse([text]) {
        assert!(patterns.is_subset(&Patterns::any()));
        let covered = patterns.matches("shop_1");
        assert!(!covered || Patterns::only("shop_1").is_subset(&patterns));
    }
    let Ok(parsed) = FilterBy::parse_within(text, Bounds::EMBEDDED) else {
        return;
    };
    assert_eq!(FilterBy::parse(text).as_ref(), Ok(&parsed));
    let Ok(filter) = parsed.compile(&NAMESPACE.schema) else {
        return;
    };
    if let Ok(bound) = bind(&filter, &NAMESPACE.schema) {
        for part in NAMESPACE.parts.iter() {
            evaluate(&bound, &part.chunk);
        }
    }
});
