//! What a task works on: the id of the request, and whose work it is.
//!
//! Set around a request where it comes in, and around the background tasks of a namespace. Whoever shares
//! something out between tenants asks here for whom it is, so that this needs no argument everywhere.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

tokio::task_local! {
    static CONTEXT: Arc<Context>;
}

/// Tells tenants apart; [`Tenant::NONE`] is the server itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(u64);

impl Tenant {
    /// Work that is nobody's, or whose tenant is not known yet.
    pub const NONE: Tenant = Tenant(0);

    /// The tenant of that name, such as the id of an organization.
    pub fn named(name: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(name.as_bytes()) | 1)
    }
}

struct Context {
    request_id: Option<Arc<str>>,
    tenant: AtomicU64,
    is_background: bool,
}

/// Runs a request; its tenant is nobody until [`set_tenant`] is called within.
pub async fn in_request<F: Future>(id: &str, request: F) -> F::Output {
    let context = Context {
        request_id: Some(id.into()),
        tenant: AtomicU64::new(0),
        is_background: false,
    };
    CONTEXT.scope(Arc::new(context), request).await
}

/// Runs work of one tenant that belongs to no request.
pub async fn for_tenant<F: Future>(tenant: Tenant, work: F) -> F::Output {
    let context = Context {
        request_id: None,
        tenant: AtomicU64::new(tenant.0),
        is_background: is_background(),
    };
    CONTEXT.scope(Arc::new(context), work).await
}

/// Runs work of the same tenant that gives way to others when the store is slow: nobody waits for it.
pub async fn in_background<F: Future>(work: F) -> F::Output {
    let context = Context {
        request_id: request_id(),
        tenant: AtomicU64::new(tenant().0),
        is_background: true,
    };
    CONTEXT.scope(Arc::new(context), work).await
}

/// Whether nobody waits for what this task does.
pub fn is_background() -> bool {
    CONTEXT.try_with(|context| context.is_background).unwrap_or(false)
}

/// From here on this request is of that tenant. Without effect outside of requests.
pub fn set_tenant(tenant: Tenant) {
    let _ = CONTEXT.try_with(|context| context.tenant.store(tenant.0, Ordering::Relaxed));
}

/// Whose work this task does.
pub fn tenant() -> Tenant {
    CONTEXT
        .try_with(|context| Tenant(context.tenant.load(Ordering::Relaxed)))
        .unwrap_or_default()
}

/// The id of the request that this task answers.
pub fn request_id() -> Option<Arc<str>> {
    CONTEXT.try_with(|context| context.request_id.clone()).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn background_work_is_of_its_tenant_and_stays_in_the_background() {
        let (a, b) = (Tenant::named("a"), Tenant::named("b"));
        assert!(!is_background());
        for_tenant(a, async {
            assert!(!is_background());
            in_background(async {
                assert_eq!((is_background(), tenant()), (true, a));
                for_tenant(b, async { assert_eq!((is_background(), tenant()), (true, b)) }).await;
            })
            .await;
            assert!(!is_background());
        })
        .await;
    }

    #[tokio::test]
    async fn a_request_has_an_id_and_later_a_tenant() {
        assert_eq!((tenant(), request_id()), (Tenant::NONE, None));
        set_tenant(Tenant::named("a"));
        assert_eq!(tenant(), Tenant::NONE);
        in_request("req_1", async {
            assert_eq!((tenant(), request_id().as_deref()), (Tenant::NONE, Some("req_1")));
            set_tenant(Tenant::named("a"));
            assert_eq!(tenant(), Tenant::named("a"));
            for_tenant(Tenant::named("b"), async { assert_eq!(tenant(), Tenant::named("b")) }).await;
            assert_eq!(tenant(), Tenant::named("a"));
        })
        .await;
        assert_ne!(Tenant::named("a"), Tenant::named("b"));
        assert_ne!(Tenant::named(""), Tenant::NONE);
    }
}
