//! How many queries run at once on one namespace.
//!
//! Every open namespace has slots. A query takes as many as it weighs, in the order of arrival, and
//! gives them back when it was executed or is dropped. Who gets none within the wait is refused with 429,
//! so that a flood on one namespace waits in its own queue and leaves the others' queries alone.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Limits, Query, RankBy};

/// The slots of one namespace.
pub(super) struct Admission {
    slots: Semaphore,
    max: u32,
    wait: Duration,
}

impl Admission {
    pub fn new(limits: &Limits) -> Self {
        Self {
            slots: Semaphore::new(limits.query_slots_max as usize),
            max: limits.query_slots_max,
            wait: limits.query_wait_max,
        }
    }

    /// Waits for the slots that these queries take; they are free again when the permit is dropped.
    ///
    /// Fair: a heavy request at the head of the queue is not overtaken by lighter ones. Dropping the
    /// future gives up its place.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overloaded`] after the wait.
    pub async fn admit(&self, queries: &[Query]) -> Result<SemaphorePermit<'_>> {
        let acquire = self.slots.acquire_many(self.weight(queries));
        match tokio::time::timeout(self.wait, acquire).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "too many concurrent queries: this namespace runs at most {} at once (an aggregation counts as {}, \
                     kNN as {}), and none of them ended within {} ms; try again",
                    self.max,
                    AGGREGATION,
                    EXACT,
                    self.wait.as_millis()
                ),
            )
            .after(RETRY_AFTER)),
        }
    }

    /// What a request weighs; never more than all slots together, or it could not run at all.
    fn weight(&self, queries: &[Query]) -> u32 {
        let all = queries.iter().map(weight).fold(0, u32::saturating_add);
        all.clamp(1, self.max)
    }
}

/// The weights of an aggregation and of an exact nearest-neighbour search; of all others: 1.
const AGGREGATION: u32 = 4;
const EXACT: u32 = 2;
/// When a refused client should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

fn weight(query: &Query) -> u32 {
    match (&query.aggregation, &query.rank_by) {
        (Some(_), _) => AGGREGATION,
        (None, Some(RankBy::Nearest { exact: true, .. })) => EXACT,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::base::{CpuPool, Ledger, MemoryShare, Rng, Runtime, SystemClock, TokioSpawner};
    use crate::config::StoreConfig;
    use crate::model::query::{Aggregate, Aggregation, Read, VectorQuery};
    use crate::model::{Consistency, NamespaceName, OrgId};
    use crate::namespace::{Body, Engine, EngineOptions};
    use crate::store::{self, probe::ProbeOptions};

    fn light() -> Query {
        Query::default()
    }

    fn nearest(exact: bool) -> Query {
        Query {
            rank_by: Some(RankBy::Nearest {
                attribute: "vector".to_owned(),
                query: VectorQuery::One(vec![1.0]),
                exact,
            }),
            ..Query::default()
        }
    }

    fn aggregation() -> Query {
        Query {
            aggregation: Some(Aggregation {
                aggregates: vec![("n".into(), Aggregate::Count)],
                group_by: Vec::new(),
            }),
            ..Query::default()
        }
    }

    fn sixteen() -> Admission {
        Admission::new(&Limits::default())
    }

    #[test]
    fn the_weights_are_the_documented_ones_and_capped_at_the_limit() {
        let admission = sixteen();
        assert_eq!(admission.weight(&[light()]), 1);
        assert_eq!(admission.weight(&[nearest(false)]), 1);
        assert_eq!(admission.weight(&[nearest(true)]), 2);
        assert_eq!(admission.weight(&[aggregation()]), 4);
        assert_eq!(admission.weight(&[light(), nearest(true), aggregation()]), 7);
        assert_eq!(admission.weight(&vec![aggregation(); 4]), 16);
        assert_eq!(admission.weight(&vec![aggregation(); 16]), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn sixteen_run_at_once_and_the_next_is_refused_after_the_wait() {
        let admission = sixteen();
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(admission.admit(&[light()]).await.expect("up to the limit"));
        }
        let start = Instant::now();
        let error = admission
            .admit(&[light()])
            .await
            .map(drop)
            .expect_err("one past the limit");
        assert_eq!(start.elapsed(), Duration::from_millis(800));
        assert_eq!(error.kind, ErrorKind::Overloaded);
        assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
        assert!(error.message.contains("at most 16 at once"), "{}", error.message);
        held.pop();
        drop(admission.admit(&[light()]).await.expect("a slot is free again"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_waits_less_than_the_limit_runs() {
        let admission = sixteen();
        let held = admission.admit(&[light()]).await.expect("free");
        let all = vec![aggregation(); 16];
        let free_in_time = async {
            sleep(Duration::from_millis(799)).await;
            drop(held);
        };
        let (waited, ()) = tokio::join!(admission.admit(&all), free_in_time);
        drop(waited.expect("the slots came free in time"));
    }

    #[tokio::test(start_paused = true)]
    async fn light_queries_do_not_overtake_a_heavy_one_and_come_after_it_gave_up() {
        let admission = sixteen();
        let held = admission.admit(&[light()]).await.expect("free");
        let all = vec![aggregation(); 4];
        let start = Instant::now();
        let light_later = async {
            sleep(Duration::from_millis(100)).await;
            drop(admission.admit(&[light()]).await.expect("the heavy one gives up first"));
            assert_eq!(start.elapsed(), Duration::from_millis(800));
        };
        let (heavy, ()) = tokio::join!(admission.admit(&all), light_later);
        assert!(heavy.is_err());
        drop(held);
        assert_eq!(admission.slots.available_permits(), 16);
    }

    async fn engine() -> (Engine, Runtime) {
        let runtime = Runtime {
            clock: Arc::new(SystemClock),
            rng: Rng::seeded(7),
            spawner: Arc::new(TokioSpawner::default()),
            cpu: CpuPool::inline(),
            memory: Ledger::new(1 << 30, 1 << 30),
        };
        let probe = ProbeOptions {
            racers: 2,
            body_bytes: 1024,
        };
        let opened = store::open(&StoreConfig::default(), &runtime, probe).await;
        let opened = opened.map_err(|e| e.to_string()).expect("memory");
        (
            Engine::new(runtime.clone(), opened.store, EngineOptions::default()),
            runtime,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn reads_of_a_busy_namespace_are_refused_after_the_wait_and_others_are_not() {
        let (engine, runtime) = engine().await;
        let org = OrgId::default_org();
        let name = |name: &str| NamespaceName::parse(name).expect("a name");
        for namespace in ["busy", "idle"] {
            let bytes = Bytes::from_static(br#"{"upsert_rows":[{"id":1}]}"#);
            let charge = runtime.memory.charge(MemoryShare::Bodies, 26).expect("room");
            let body = Body { bytes, charge };
            engine.write(&org, &name(namespace), body).await.expect("written");
        }
        let read = |consistency| Read {
            queries: vec![light()],
            rerank: None,
            consistency,
        };
        let handle = engine.open(&(org.clone(), name("busy")));
        let held = handle.admission.admit(&vec![light(); 16]).await.expect("free");
        let eventual = Consistency::Eventual {
            max_staleness: Duration::from_secs(60),
        };
        for consistency in [Consistency::Strong, eventual] {
            let start = Instant::now();
            let error = engine.query(&org, &name("busy"), read(consistency)).await.map(drop);
            let error = error.expect_err("one past the limit");
            assert_eq!(error.kind, ErrorKind::Overloaded);
            assert_eq!(start.elapsed(), Duration::from_millis(800));
            let start = Instant::now();
            engine
                .query(&org, &name("idle"), read(consistency))
                .await
                .map(drop)
                .expect("a namespace of its own");
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
        drop(held);
        engine
            .query(&org, &name("busy"), read(eventual))
            .await
            .map(drop)
            .expect("free again");
    }
}
