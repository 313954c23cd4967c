//! Credentials of strangers: whatever the bytes, on every surface, nobody is let in; and whatever the maker of a scoped
//! key embeds, the key allows searching at most.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use shoal::auth::{Credential, CredentialKind, Surface};
use shoal::control::{Action, ActionSet};

static NODE: LazyLock<shoal_fuzz::Node> = LazyLock::new(shoal_fuzz::node);

const SURFACES: [Surface; 5] = [
    Surface::Data,
    Surface::Search,
    Surface::Keys,
    Surface::Platform,
    Surface::Any,
];

fuzz_target!(|bytes: &[u8]| {
    if let Ok(credential) = Credential::new(bytes) {
        for surface in SURFACES {
            assert!(NODE.authenticate(&credential, surface).is_err());
        }
    }
    let Some(scoped) = NODE.scoped(bytes) else { return };
    for surface in SURFACES {
        let Ok(principal) = NODE.authenticate(&scoped, surface) else {
            continue;
        };
        assert!(matches!(surface, Surface::Search | Surface::Any));
        assert_eq!(principal.kind, CredentialKind::ScopedKey);
        let searching = ActionSet::from_iter([Action::DocumentsSearch]);
        assert!(principal.actions().is_subset(searching));
    }
});
