//! An object store that fails on request or at random, the same way for the same seed.
//!
//! Time passes on Tokio's clock, so that a paused clock makes slow replies free.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use shoal::base::{Rng, context};
use tokio::time::{Instant, sleep};

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error; the store did nothing.
    BeforeApply,
    /// The store did it, the reply was lost.
    AfterApply,
    /// The caller gets an error, the write happens that much later. As `BeforeApply` for reads.
    LateApply(Duration),
    /// A create is told that the key is taken, and nothing was written. As `BeforeApply` for others.
    Conflict,
    /// The right reply, that much later.
    Slow(Duration),
    /// A GET's body ends early; what was announced stays. Writes pass.
    Truncate,
    /// A GET's body has one bit changed. Writes pass.
    Flip,
    /// A listing misses its second key, as one without order may miss what is created meanwhile.
    /// Others pass.
    Omit,
}

/// Per thousand calls, how many meet each fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultRates {
    pub before_apply: u64,
    pub after_apply: u64,
    pub late_apply: u64,
    pub conflict: u64,
    pub slow: u64,
    pub truncate: u64,
    pub flip: u64,
    /// A call that begins a window in which every call fails before it has effect.
    pub storm: u64,
    /// The longest delay of slow replies and late effects, and the longest storm.
    pub delay_max: Duration,
}

impl FaultRates {
    /// No faults.
    pub fn healthy() -> Self {
        Self::default()
    }

    /// All kinds but changed bytes, often: about one call in four meets one.
    pub fn stormy() -> Self {
        Self {
            before_apply: 60,
            after_apply: 60,
            late_apply: 30,
            conflict: 30,
            slow: 60,
            truncate: 10,
            flip: 0,
            storm: 3,
            delay_max: Duration::from_secs(20),
        }
    }
}

struct State {
    rng: Rng,
    rates: FaultRates,
    scripted: BTreeMap<u64, Fault>,
    calls: u64,
    background: u64,
    storm_until: Option<Instant>,
}

/// A store with faults around `inner`. Clones share everything.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

impl FaultStore {
    pub fn new(inner: Arc<dyn ObjectStore>, rng: Rng, rates: FaultRates) -> Self {
        let scripted = BTreeMap::new();
        let state = State {
            rng,
            rates,
            scripted,
            calls: 0,
            background: 0,
            storm_until: None,
        };
        Self {
            inner,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The `n`-th call, counted from 0, meets this fault.
    pub fn fail_call(&self, n: u64, fault: Fault) {
        self.state().scripted.insert(n, fault);
    }

    /// From now on these faults happen.
    pub fn set_rates(&self, rates: FaultRates) {
        self.state().rates = rates;
    }

    /// No new faults; effects that are on their way still arrive.
    pub fn heal(&self) {
        let mut state = self.state();
        state.rates = FaultRates::healthy();
        state.scripted.clear();
        state.storm_until = None;
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Those of them that background work made.
    pub fn background_calls(&self) -> u64 {
        self.state().background
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn draw(&self) -> Option<Fault> {
        let mut state = self.state();
        let call = state.calls;
        state.calls += 1;
        state.background += u64::from(context::is_background());
        if let Some(fault) = state.scripted.remove(&call) {
            return Some(fault);
        }
        if state.storm_until.is_some_and(|end| Instant::now() < end) {
            return Some(Fault::BeforeApply);
        }
        let rates = state.rates;
        let longest = rates.delay_max.as_millis() as u64;
        let delay = |rng: &Rng| Duration::from_millis(rng.below(longest + 1));
        let mut dice = state.rng.below(1000);
        let mut hit = |rate: u64| match dice.checked_sub(rate) {
            Some(rest) => {
                dice = rest;
                false
            }
            None => true,
        };
        if hit(rates.before_apply) {
            Some(Fault::BeforeApply)
        } else if hit(rates.after_apply) {
            Some(Fault::AfterApply)
        } else if hit(rates.late_apply) {
            Some(Fault::LateApply(delay(&state.rng)))
        } else if hit(rates.conflict) {
            Some(Fault::Conflict)
        } else if hit(rates.slow) {
            Some(Fault::Slow(delay(&state.rng)))
        } else if hit(rates.truncate) {
            Some(Fault::Truncate)
        } else if hit(rates.flip) {
            Some(Fault::Flip)
        } else if hit(rates.storm) {
            let length = delay(&state.rng);
            state.storm_until = Some(Instant::now() + length);
            Some(Fault::BeforeApply)
        } else {
            None
        }
    }

    fn position(&self, len: usize) -> usize {
        self.state().rng.below(len as u64) as usize
    }

    /// Runs a write under a fault. `effect` happens at most once.
    async fn write<T, F>(&self, create: bool, effect: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        match self.draw() {
            None | Some(Fault::Truncate | Fault::Flip | Fault::Omit) => effect.await,
            Some(Fault::BeforeApply) => Err(failed("before effect")),
            Some(Fault::AfterApply) => {
                let _ = effect.await;
                Err(failed("reply lost"))
            }
            Some(Fault::LateApply(delay)) => {
                later(delay, effect);
                Err(failed("timed out"))
            }
            Some(Fault::Conflict) if create => {
                let (path, source) = ("?".to_owned(), "409 without effect".into());
                Err(Error::AlreadyExists { path, source })
            }
            Some(Fault::Conflict) => Err(failed("conflict")),
            Some(Fault::Slow(delay)) => {
                let result = effect.await;
                sleep(delay).await;
                result
            }
        }
    }

    async fn damaged(&self, found: GetResult, fault: Fault) -> Result<GetResult> {
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let extensions = found.extensions.clone();
        let mut body = found.bytes().await?.to_vec();
        if !body.is_empty() {
            let at = self.position(body.len());
            match fault {
                Fault::Truncate => body.truncate(at),
                _ => body[at] ^= 1 << self.position(8),
            }
        }
        let payload = GetResultPayload::Stream(stream::iter([Ok(Bytes::from(body))]).boxed());
        Ok(GetResult {
            payload,
            meta,
            range,
            attributes,
            extensions,
        })
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a request in flight outlives the node that sent it"
)]
fn later<T: Send + 'static>(delay: Duration, effect: impl Future<Output = Result<T>> + Send + 'static) {
    tokio::spawn(async move {
        sleep(delay).await;
        let _ = effect.await;
    });
}

fn failed(how: &'static str) -> Error {
    Error::Generic {
        store: "fault",
        source: how.into(),
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({:?})", self.inner)
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, key: &Path, body: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = matches!(options.mode, PutMode::Create);
        let (inner, key) = (self.inner.clone(), key.clone());
        self.write(create, async move { inner.put_opts(&key, body, options).await })
            .await
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.draw();
        match fault {
            None | Some(Fault::Omit) => self.inner.get_opts(key, options).await,
            Some(Fault::Slow(delay)) => {
                let result = self.inner.get_opts(key, options).await;
                sleep(delay).await;
                result
            }
            Some(fault @ (Fault::Truncate | Fault::Flip)) => {
                let found = self.inner.get_opts(key, options).await?;
                self.damaged(found, fault).await
            }
            Some(_) => Err(failed("read failed")),
        }
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        keys.and_then(move |key| {
            let store = store.clone();
            async move {
                let inner = store.inner.clone();
                let delete = async move {
                    let mut done = inner.delete_stream(stream::iter([Ok(key)]).boxed());
                    done.try_next().await?.ok_or_else(|| failed("no answer to a delete"))
                };
                store.write(false, delete).await
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.draw() {
            None | Some(Fault::Truncate | Fault::Flip) => self.inner.list(prefix),
            Some(Fault::Omit) => {
                let found = self.inner.list(prefix).enumerate();
                found
                    .filter_map(|(i, object)| async move { (i != 1).then_some(object) })
                    .boxed()
            }
            Some(Fault::Slow(delay)) => {
                let found = self.inner.list(prefix);
                stream::once(sleep(delay))
                    .flat_map(|()| stream::empty())
                    .chain(found)
                    .boxed()
            }
            // The listing breaks off after a few keys.
            Some(_) => {
                let found = self.inner.list(prefix).take(self.position(3));
                found.chain(stream::iter([Err(failed("listing broke off"))])).boxed()
            }
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.draw() {
            None => self.inner.list_with_delimiter(prefix).await,
            Some(_) => Err(failed("listing failed")),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (inner, from, to) = (self.inner.clone(), from.clone(), to.clone());
        self.write(false, async move { inner.copy_opts(&from, &to, options).await })
            .await
    }
}
