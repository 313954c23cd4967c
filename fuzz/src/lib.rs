//! What the fuzz targets share: a small namespace with an attribute of every type, and a node that knows a key.

use std::sync::Arc;

use shoal::auth::{Authenticator, Credential, Origin, Principal, Surface};
use shoal::base::{CpuPool, Ledger, Rng, Runtime, SystemClock, TokioSpawner};
use shoal::config::StoreConfig;
use shoal::control::keys::NewKey;
use shoal::control::{Control, ControlOptions, Freshness, Secret, Secrets};
use shoal::error::Result;

use shoal::model::write::{self, Write};
use shoal::model::{Limits, OrgId, Schema};
use shoal::snapshot::Snapshot;
use shoal::store::{Store, backend};
use shoal::wal::{Digest, Entry, EntryKind, Operation, RequestEffects};

/// Limits small enough that a fuzzer reaches them.
pub fn limits() -> Limits {
    Limits {
        attributes_max: 24,
        value_bytes_max: 4096,
        filterable_bytes_max: 64,
        rows_max: 100,
        ..Limits::default()
    }
}

const ROWS: &str = r#"{
    "schema": {
        "s": {"type": "string", "filterable": true, "regex": true, "glob": true, "fuzzy": true, "full_text_search": true},
        "t": {"type": "[]string", "filterable": true, "full_text_search": {"tokenizer": "pre_tokenized_array"}},
        "i": "int", "u": "uint", "f": "float", "g": "uuid", "d": "datetime", "b": "bool", "y": "bytes",
        "ii": "[]int", "ff": "[]float", "dd": "[]datetime", "bb": "[]bool",
        "vector": {"type": "[2]f32", "ann": true}, "v8": {"type": "[2]i8", "ann": true},
        "sp": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}},
        "mv": {"type": "[][2]f32", "ann": {"late_interaction": true}}
    },
    "distance_metric": "cosine_distance",
    "upsert_rows": [
        {"id": 1, "vector": [1, 2], "v8": [1, -2], "s": "The quick brown foxes jumped. Over the lazy dog!", "t": ["fox", "dog"],
         "i": -5, "u": 5, "f": 0.5, "g": "00000000-0000-4000-8000-000000000001", "d": "2024-01-01T00:00:00Z", "b": true,
         "y": "AQID", "ii": [1, 2, 3], "ff": [0.5], "dd": ["2024-01-01T00:00:00Z"], "bb": [true, false],
         "sp": {"1": 0.5, "fox": 2}, "mv": [[1, 0], [0, 1]]},
        {"id": 2, "vector": [0, 0], "v8": [0, 0]},
        {"id": 3, "vector": [-1, 7], "v8": [127, -128], "s": "Größe — naïve 東京 👩‍👩‍👧", "t": [], "i": 9223372036854775807,
         "u": 18446744073709551615, "f": -1e300, "ii": [], "sp": {}, "mv": [[3, 4]]}
    ]
}"#;

/// A namespace with three rows.
pub fn namespace() -> Snapshot {
    let empty = Snapshot::empty();
    let write = write::prepare(ROWS.as_bytes(), &empty.schema, &limits()).expect("a valid write");
    apply(&empty, &write)
}

/// The namespace after the unconditional part of a write.
pub fn apply(base: &Snapshot, write: &Write) -> Snapshot {
    let entry = entry(base, write);
    base.apply(&entry, Digest(1), 1)
        .expect("the successor of what it follows")
}

/// The entry of a write.
pub fn entry(base: &Snapshot, write: &Write) -> Entry {
    let upserts = write.upserts.iter().cloned().map(Operation::Upsert);
    let patches = write.patches.iter().flatten().cloned().map(Operation::Patch);
    let deletes = write.deletes.iter().cloned().map(Operation::Delete);
    Entry {
        namespace: uuid::Uuid::nil(),
        seq: base.seq.next(),
        writer: 1,
        batch: 2,
        writer_addr: String::new(),
        prev_digest: base.digest,
        manifest_gen_hint: 0,
        hlc_ms: base.hlc_ms + 1,
        kind: EntryKind::Data(vec![RequestEffects {
            schema: write.schema.clone(),
            operations: upserts.chain(patches).chain(deletes).collect(),
            ..RequestEffects::default()
        }]),
    }
}

/// The schema of [`namespace`].
pub fn schema() -> Schema {
    Schema::clone(&namespace().schema)
}

/// A node with a bootstrap key and one search-only key, on a store in memory.
pub struct Node {
    tokio: tokio::runtime::Runtime,
    auth: Authenticator,
    search_key: String,
}

/// Makes one.
pub fn node() -> Node {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("no threads are needed");
    let parts = Runtime {
        clock: Arc::new(SystemClock),
        rng: Rng::seeded(7),
        spawner: Arc::new(TokioSpawner::default()),
        cpu: CpuPool::inline(),
        memory: Ledger::new(1 << 30, 1 << 30),
    };
    let config = StoreConfig::default();
    let backend = backend::build(&config, parts.clock.wall()).expect("memory");
    let store = Store::new(backend.store, parts.clock.clone(), parts.rng.clone(), &config);
    let options = ControlOptions {
        secrets: Secrets::new(vec![Secret::new(&[7; 32])]),
        freshness: Freshness::default(),
        deployment: "fuzz".into(),
    };
    let control = Control::new(parts, store, options);
    let new = NewKey {
        description: String::new(),
        actions: vec!["documents:search".into()],
        collections: vec!["shop_*".into()],
        value: None,
        expires_at: u64::MAX,
        autodelete: false,
        limited: Default::default(),
        created_by: "fuzz".into(),
        attempt: None,
    };
    let made = tokio.block_on(control.create_key(&OrgId::default_org(), new));
    let search_key = made.expect("made").value.reveal().to_owned();
    let auth = Authenticator::new(&["a bootstrap key of 32 characters".into()], false, control).expect("valid");
    Node {
        tokio,
        auth,
        search_key,
    }
}

impl Node {
    /// Whoever a credential stands for.
    pub fn authenticate(&self, credential: &Credential, surface: Surface) -> Result<Principal> {
        let found = self.auth.authenticate(credential, surface, Origin::default());
        self.tokio.block_on(found)
    }

    /// A scoped key of the search key with these parameters, rightly signed; `None` when it is too long to be one.
    pub fn scoped(&self, parameters: &[u8]) -> Option<Credential> {
        use aws_lc_rs::hmac;
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.search_key.as_bytes());
        let digest = base64_simd::STANDARD.encode_to_string(hmac::sign(&key, parameters).as_ref());
        let whole = [digest.as_bytes(), &self.search_key.as_bytes()[..4], parameters].concat();
        Credential::new(base64_simd::STANDARD.encode_to_string(whole).as_bytes()).ok()
    }
}
