//! Which objects a request touches: those of its own organization and the shared ones of the control plane, whatever it
//! asks for and whether or not it is refused (I15).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use super::matrix::{Held, all_routes, ask, done, filled, names, tenant};
use super::*;
use crate::model::OrgId;
use crate::store::Store;

/// A store that remembers which keys were asked for, and for what.
#[derive(Debug, Default)]
struct Recording {
    inner: InMemory,
    /// Held to add a key or take all.
    seen: Arc<Mutex<BTreeSet<(&'static str, Path)>>>,
}

impl Recording {
    fn seen(&self) -> MutexGuard<'_, BTreeSet<(&'static str, Path)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, op: &'static str, key: &Path) {
        self.seen().insert((op, key.clone()));
    }

    fn take(&self) -> BTreeSet<(&'static str, Path)> {
        std::mem::take(&mut self.seen())
    }
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recording")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Recording {
    async fn put_opts(&self, key: &Path, body: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.note("put", key);
        self.inner.put_opts(key, body, options).await
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.note("put", key);
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.note("get", key);
        self.inner.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let seen = self.seen.clone();
        let noted = keys.inspect_ok(move |key| {
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(("delete", key.clone()));
        });
        self.inner.delete_stream(noted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.note("list", &prefix.cloned().unwrap_or_default());
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.note("list", &prefix.cloned().unwrap_or_default());
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.note("get", from);
        self.note("put", to);
        self.inner.copy_opts(from, to, options).await
    }
}

/// Whose an object is; `Err` for those that are shared. Written down by hand, from docs/formats/keys.md.
fn owner(key: &Path) -> Result<OrgId, &'static str> {
    let parts: Vec<&str> = key.as_ref().split('/').collect();
    let org = match parts[..] {
        ["cat" | "q" | "g", org, ..] | ["ns", _, org, ..] | ["_control", "orgs", org, ..] => org,
        ["FORMAT"] => return Err("format"),
        // Claims and markers under hashes, ids and names; they say whose something is.
        [
            "_control",
            "root" | "slugs" | "rev" | "auth" | "users" | "user-names" | "invited" | "tokens" | "nodes",
            ..,
        ] => {
            return Err("control");
        }
        _ => panic!("{key} belongs to nobody: a listing of everything?"),
    };
    Ok(OrgId::parse(org).expect("an organization"))
}

/// What a tenant may do with its own namespaces, and tries with another's: `{own}`, `{other}`.
const ATTEMPTS: &[(&str, &str)] = &[
    (
        "POST /v2/namespaces/{own}",
        r#"{"upsert_rows": [{"id": 2, "t": "x", "n": 1}]}"#,
    ),
    (
        "POST /v2/namespaces/{own}",
        r#"{"patch_by_filter": {"filters": ["id", "Eq", 2], "patch": {"n": 2}}}"#,
    ),
    (
        "POST /v2/namespaces/{own}/query",
        r#"{"rank_by": ["id", "asc"], "top_k": 5, "include_attributes": true}"#,
    ),
    (
        "POST /v2/namespaces/{own}/query",
        r#"{"aggregate_by": {"c": ["Count"]}, "filters": ["n", "Gt", 0]}"#,
    ),
    ("GET /v1/namespaces/{own}/metadata", ""),
    ("GET /v1/namespaces/{own}/hint_cache_warm", ""),
    ("PATCH /v1/namespaces/{own}/metadata", r#"{"pinning": true}"#),
    (
        "POST /v2/namespaces/{own}-branch",
        r#"{"branch_from_namespace": "{own}"}"#,
    ),
    ("POST /v2/namespaces/{own}-copy", r#"{"copy_from_namespace": "{own}"}"#),
    (
        "POST /v2/namespaces/{own}-stolen",
        r#"{"branch_from_namespace": "{other}"}"#,
    ),
    (
        "POST /v2/namespaces/{own}-stolen",
        r#"{"copy_from_namespace": "{other}"}"#,
    ),
    (
        "POST /v1/organizations/{org}/databases",
        r#"{"name": "{own}-past", "group": "default", "seed": {"type": "database", "name": "{own}", "timestamp": "{now}"}}"#,
    ),
    (
        "POST /v1/organizations/{org}/databases",
        r#"{"name": "{own}-taken", "group": "default", "seed": {"type": "database", "name": "{other}"}}"#,
    ),
    ("GET /v1/namespaces", ""),
    ("GET /v1/namespaces?prefix={other}", ""),
    ("GET /collections", ""),
    ("DELETE /v2/namespaces/{own}-copy", ""),
    (
        "POST /v2/namespaces/{other}/query",
        r#"{"rank_by": ["id", "asc"], "top_k": 5}"#,
    ),
    ("DELETE /v2/namespaces/{other}", ""),
];

#[tokio::test]
async fn no_request_touches_another_organization() {
    let store = Arc::new(Recording::default());
    let runtime = Runtime {
        clock: Arc::new(SystemClock),
        rng: Rng::seeded(7),
        spawner: Arc::new(TokioSpawner::default()),
        cpu: CpuPool::inline(),
        memory: Ledger::new(1 << 30, 1 << 30),
    };
    let clock = runtime.clock.clone();
    let now = || {
        let ms = i64::try_from(clock.wall().as_millis()).expect("soon");
        chrono::DateTime::from_timestamp_millis(ms)
            .expect("a time")
            .to_rfc3339()
    };
    let backend: Arc<dyn ObjectStore> = store.clone();
    let over = Store::new(
        backend,
        runtime.clock.clone(),
        runtime.rng.clone(),
        &StoreConfig::default(),
    );
    let app = router(api_over(over, runtime, EngineOptions::default()));
    // Whose namespaces they write is who they are.
    let mut tenants = Vec::new();
    for (slug, user) in [("acme", "ana"), ("evil", "eve")] {
        let tenant = tenant(&app, slug, user).await;
        settle().await;
        let logs = store
            .take()
            .into_iter()
            .filter(|(_, key)| key.as_ref().starts_with("ns/"));
        let orgs: BTreeSet<OrgId> = logs.filter_map(|(_, key)| owner(&key).ok()).collect();
        assert_eq!(orgs.len(), 1, "{orgs:?}");
        tenants.push((tenant, orgs.into_iter().next().expect("one")));
    }
    let [(acme, acmes), (evil, evils)] = &tenants[..] else {
        unreachable!("there are two")
    };
    assert_ne!(acmes, evils);
    let (mut requests, mut touched, mut succeeded) = (0, 0, 0);
    let mut check = |request: &str, held: &Held| {
        requests += 1;
        for (op, key) in store.take() {
            let Ok(whose) = owner(&key) else { continue };
            // Whether there is such an organization, and somebody is a member, is said by its record alone.
            let parts: Vec<&str> = key.as_ref().split('/').collect();
            let is_record = matches!(parts[..], ["_control", "orgs", _, "org", ..]);
            let is_membership = is_record && op != "put" && op != "delete";
            // The node itself writes down what was used and who did what, of all, from time to time.
            if matches!(
                parts[..],
                ["_control", "orgs", _, "audit" | "audit-heads" | "usage", ..]
            ) {
                continue;
            }
            assert!(
                whose == *evils || is_membership,
                "{request} by the {} of evil: {op} {key}",
                held.what
            );
            touched += usize::from(whose == *evils);
        }
    };
    // Everything that there is, about the other tenant's and about one's own.
    let theirs = names(acme.slug, &acme.vault, "eve-viewer");
    let own = names(evil.slug, "vault-new", "eve-viewer");
    for held in &evil.held {
        for (request, body) in ATTEMPTS {
            let fill = |text: &str| {
                let text = text.replace("{own}", &evil.vault).replace("{other}", &acme.vault);
                text.replace("{org}", evil.slug).replace("{now}", &now())
            };
            let request = fill(request);
            let (status, text) = ask(&app, Some(&held.value), None, &request, &fill(body)).await;
            assert!(!text.contains(&acme.marker), "{request}: {text}");
            succeeded += usize::from(status.is_success());
            settle().await;
            check(&request, held);
        }
    }
    for (method, path, needs) in all_routes() {
        // What ends the attacker's own session, account or organization would end the test.
        let ends = path.contains("invalidate") || path.contains("rotate");
        let is_own = ends || (method != Method::GET && path.starts_with("/v1/users")) || path == "/v1/auth/logout";
        if needs.surface.is_none() || is_own {
            continue;
        }
        for held in &evil.held {
            for names in [&theirs, &own] {
                if std::ptr::eq(names, &own) && method == Method::DELETE {
                    continue;
                }
                let request = format!("{method} {}", filled(path, names));
                ask(&app, Some(&held.value), None, &request, "{}").await;
                check(&request, held);
            }
        }
    }
    assert!(succeeded > 20, "{succeeded} attempts on one's own succeed");
    assert!(
        requests > 1_000 && touched > 100,
        "{requests} requests, {touched} objects"
    );
    // The deployment's own credential, on behalf of one of them.
    store.take();
    done(&app, KEY, Some(acme.slug), "GET /v1/namespaces", "").await;
    let seen = store.take();
    assert!(
        seen.iter()
            .all(|(_, key)| owner(key).is_ok_and(|whose| whose != *evils) || owner(key).is_err()),
        "{seen:?}"
    );
}

/// Lets what goes on behind answers come to its end.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
}
