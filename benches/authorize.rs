//! What does it cost to know who calls, and whether they may?
//!
//! Data: 1,000 organizations with 10 API keys each in one bucket in memory, of each ten one search-only.
//! Measured, single-threaded, per request: `Authenticator::authenticate` and `authorize` for each kind of credential of the
//! data plane, when what it needs is remembered; the same over 10 keys and over all 10,000 in turn; the first use of a key
//! on a node that knows nothing, with its requests to the store; and a wrong bootstrap key, by where it is wrong.
//! Baseline: SHA-256 and HMAC-SHA256 of a text of a key's length in the same run, the least that any check has to do.
//! Aim: at most 5 us when remembered, and no request.
//! Left out: HTTP, TLS, the network to the bucket.   Run: cargo bench --bench authorize
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64_simd::STANDARD;
use object_store::memory::InMemory;
use shoal::auth::data_token::{self, Level, Minting, TokenOf};
use shoal::auth::{Ask, Authenticator, Credential, Origin, Surface, authorize};
use shoal::config::StoreConfig;
use shoal::control::keys::NewKey;
use shoal::control::{Action, Control, ControlOptions, Freshness, Secret, Secrets};
use shoal::model::OrgId;
use shoal::store::Store;
use shoal::store::count::CountingStore;

const ORGS: usize = 1000;
const KEYS_PER_ORG: usize = 10;
const AIM_US: f64 = 5.0;
const TURNS: usize = 7;

struct Node {
    control: Control,
    auth: Authenticator,
    counts: CountingStore,
}

fn node(bucket: &Arc<InMemory>) -> Node {
    let parts = common::parts();
    let counts = CountingStore::new(bucket.clone());
    let config = StoreConfig::default();
    let store = Store::new(
        Arc::new(counts.clone()),
        parts.clock.clone(),
        parts.rng.clone(),
        &config,
    );
    let options = ControlOptions {
        secrets: Secrets::new(vec![Secret::new(&[7; 32])]),
        // No poll falls into what is counted.
        freshness: Freshness {
            revalidate: Duration::from_secs(3600),
            max_age: Duration::from_secs(3600),
            strict: false,
        },
        deployment: "bench".into(),
    };
    let control = Control::new(parts, store, options);
    let auth = Authenticator::new(&["a bootstrap key of the bench".into()], true, control.clone()).expect("valid");
    Node { control, auth, counts }
}

/// What the store was asked so far.
fn requests(node: &Node) -> u64 {
    let counts = node.counts.counts();
    counts.puts + counts.creates + counts.gets + counts.lists + counts.deletes
}

async fn key(control: &Control, org: &OrgId, action: &str) -> String {
    let new = NewKey {
        description: String::new(),
        actions: vec![action.into()],
        collections: vec!["*".into()],
        value: None,
        expires_at: u64::MAX,
        autodelete: false,
        limited: Default::default(),
        created_by: "bench".into(),
        attempt: None,
    };
    let made = control.create_key(org, new).await.expect("made");
    made.value.reveal().to_owned()
}

/// One credential from its bytes to "allowed".
async fn admit(node: &Node, credential: &Credential) {
    let principal = node
        .auth
        .authenticate(credential, Surface::Search, Origin::default())
        .await
        .expect("it counts");
    let ask = Ask {
        action: Action::DocumentsSearch,
        org: &principal.org,
        namespace: Some("products"),
        group: None,
        now: node.control.now(),
        ip: None,
    };
    authorize(&principal, &ask).expect("it is allowed");
    black_box(principal);
}

/// The best of some turns, in microseconds per request.
fn per_request(tokio: &tokio::runtime::Runtime, node: &Node, credentials: &[Credential], requests: usize) -> f64 {
    let turn = || {
        let start = common::now();
        tokio.block_on(async {
            for credential in credentials.iter().cycle().take(requests) {
                admit(node, credential).await;
            }
        });
        start.elapsed().as_secs_f64() * 1e6 / requests as f64
    };
    (0..TURNS).map(|_| turn()).fold(f64::MAX, f64::min)
}

fn main() {
    let tokio = common::tokio();
    let bucket = Arc::new(InMemory::new());
    let first = node(&bucket);
    let orgs: Vec<OrgId> = tokio.block_on(async {
        let mut orgs = Vec::with_capacity(ORGS);
        for n in 0..ORGS {
            let made = first
                .control
                .create_organization(&format!("org {n}"), "unlimited", None)
                .await;
            orgs.push(made.expect("made").org_id().expect("an id"));
        }
        orgs
    });
    let start = common::now();
    let mut keys = Vec::with_capacity(ORGS * KEYS_PER_ORG);
    let mut search = Vec::with_capacity(ORGS);
    tokio.block_on(async {
        for org in &orgs {
            for n in 0..KEYS_PER_ORG {
                let value = key(&first.control, org, if n == 0 { "documents:search" } else { "*" }).await;
                if n == 0 {
                    search.push(value.clone());
                }
                keys.push(Credential::new(value.as_bytes()).expect("short"));
            }
        }
    });
    println!(
        "made {} keys of {ORGS} organizations in {:.1} s",
        keys.len(),
        start.elapsed().as_secs_f64()
    );

    let embedded = r#"{"filter_by":"tenant:=7"}"#;
    let mac = hmac::Key::new(hmac::HMAC_SHA256, search[0].as_bytes());
    let digest_text = STANDARD.encode_to_string(hmac::sign(&mac, embedded.as_bytes()).as_ref());
    let scoped = STANDARD.encode_to_string(format!("{digest_text}{}{embedded}", &search[0][..4]));
    let token = data_token::mint(
        &first.control,
        &Minting {
            org: &orgs[0],
            of: TokenOf::Namespace,
            id: uuid::Uuid::from_u128(7),
            name: "products",
            generation: 0,
            level: Level::ReadOnly,
            permissions: None,
            expires_at: None,
        },
    );
    let node = node(&bucket);
    let hash = |_| {
        black_box(digest::digest(&digest::SHA256, black_box(keys[0].reveal())));
        black_box(hmac::sign(&mac, black_box(keys[0].reveal())));
    };
    let baseline = (0..TURNS).map(|_| {
        let start = common::now();
        (0..100_000).for_each(hash);
        start.elapsed().as_secs_f64() * 1e6 / 1e5
    });
    let baseline = baseline.fold(f64::MAX, f64::min);
    println!("baseline: SHA-256 and HMAC-SHA256 of a key {baseline:.2} us");

    let cold = common::now();
    let before = requests(&node);
    tokio.block_on(async {
        for credential in &keys {
            admit(&node, credential).await;
        }
    });
    println!(
        "first use of a key on a node: {:.1} us, {:.2} requests",
        cold.elapsed().as_secs_f64() * 1e6 / keys.len() as f64,
        (requests(&node) - before) as f64 / keys.len() as f64
    );
    let one = |text: &str| vec![Credential::new(text.as_bytes()).expect("short")];
    let kinds = [
        ("bootstrap key", one("a bootstrap key of the bench"), 100_000),
        ("API key", vec![keys[1].clone()], 100_000),
        ("API keys, 10 in turn", keys[..10].to_vec(), 100_000),
        ("API keys, 10,000 in turn", keys.clone(), 100_000),
        ("scoped search key", one(&scoped), 50_000),
        ("namespace token", one(&token), 50_000),
    ];
    for (what, credentials, turn_of) in kinds {
        tokio.block_on(async {
            for credential in &credentials {
                admit(&node, credential).await;
            }
        });
        let before = requests(&node);
        let took = per_request(&tokio, &node, &credentials, turn_of);
        let sent = requests(&node) - before;
        println!(
            "{what:26} {took:6.2} us  {:5.1} x baseline  {sent} requests  {}",
            took / baseline,
            if took <= AIM_US {
                "within the aim"
            } else {
                "MISSES the aim of 5 us"
            }
        );
    }
    // Whoever guesses a bootstrap key must not learn from the time how much of it is right.
    let near = one("a bootstrap key of the bencH");
    let far = one("A bootstrap key of the bench");
    let refuse = |credentials: &[Credential]| {
        let turn = || {
            let start = common::now();
            tokio.block_on(async {
                for _ in 0..100_000 {
                    let refused = node
                        .auth
                        .authenticate(&credentials[0], Surface::Search, Origin::default())
                        .await;
                    black_box(refused.is_err());
                }
            });
            start.elapsed().as_secs_f64() * 1e6 / 1e5
        };
        (0..TURNS).map(|_| turn()).fold(f64::MAX, f64::min)
    };
    let (near, far) = (refuse(&near), refuse(&far));
    println!(
        "wrong bootstrap key: last byte {near:.3} us, first byte {far:.3} us, ratio {:.3}",
        near / far
    );
}
