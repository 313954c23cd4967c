//! Does a write survive that was acknowledged just before the process was killed?
//!
//! A real `shoal` serves several writers over HTTP while it is killed with SIGKILL at random moments and started again on
//! the same store. Each request upserts some rows that carry its number, moves its writer's head row to that number, and
//! often deletes all rows of an earlier request. Afterwards the rows are read back and must be explained by the requests
//! in their order:
//!
//! - every acknowledged request is there, wholly;
//! - a request whose answer was lost is there wholly or not at all, its deletes included;
//! - the head row is that of the newest request that took effect.
//!
//! Besides, every writer reads its head back now and then, strongly, and may never see less than was acknowledged to it.
//! Another test kills the store instead: while it is gone, writes and strong reads have to be refused.
//!
//! `SHOAL_KILL9_SECONDS` is the time for each store (default 20), `SHOAL_KILL9_SEED` replays the kill times and the
//! requests of a run, though not the scheduling of the machine.

#![allow(
    clippy::disallowed_methods,
    reason = "a test of a real process: real time, real tasks"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::real;
use support::server::{API_KEY, Settings, say};

const NAMESPACES: u64 = 2;
const WRITERS_PER_NAMESPACE: u64 = 3;
/// Ids of a writer's rows start at its number times this; the first is its head row.
const IDS_PER_WRITER: u64 = 1 << 40;
const ROWS_PER_REQUEST_MAX: u64 = 24;

/// SplitMix64: enough randomness for a test, and the same on every machine.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// One request of a writer, as sent.
#[derive(Clone, Debug)]
struct Request {
    first_id: u64,
    rows: u64,
    /// The request whose rows it deleted.
    deletes: Option<usize>,
    acknowledged: bool,
}

/// What one writer sent, in order; request `n` has number `n + 1`, head 0 means none.
#[derive(Debug, Default)]
struct History {
    requests: Vec<Request>,
}

/// Whether a request took effect, as far as the rows tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Yes,
    No,
    /// All its rows are gone and a later delete may be the reason.
    Either,
}

/// Talks to the server under test and to the one after it on the same port.
#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    url: String,
}

/// What came back.
enum Answer {
    Ok(Value),
    /// No answer, or one that promises nothing: the request may have taken effect.
    Unknown,
}

impl Client {
    fn new(url: String) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .no_proxy()
            .build();
        Self {
            http: http.expect("a plain client can be built"),
            url,
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let sent = self
            .http
            .post(format!("{}{path}", self.url))
            .bearer_auth(API_KEY)
            .json(body)
            .send()
            .await;
        let Ok(response) = sent else { return Answer::Unknown };
        let status = response.status();
        let Ok(body) = response.json::<Value>().await else {
            return Answer::Unknown;
        };
        assert!(
            !status.is_client_error() || status.as_u16() == 429,
            "{path} was refused with {status}: {body}"
        );
        if status.is_success() {
            Answer::Ok(body)
        } else {
            Answer::Unknown
        }
    }

    async fn query(&self, namespace: &str, body: &Value) -> Answer {
        self.post(&format!("/v2/namespaces/{namespace}/query"), body).await
    }
}

/// One writer: sends requests one after the other until it is told to stop.
struct Writer {
    client: Client,
    namespace: String,
    base_id: u64,
    rng: Rng,
    history: History,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::Relaxed) {
            let (request, body) = self.next_request();
            let number = self.history.requests.len() + 1;
            self.history.requests.push(request);
            match self
                .client
                .post(&format!("/v2/namespaces/{}", self.namespace), &body)
                .await
            {
                Answer::Ok(_) => self.history.requests[number - 1].acknowledged = true,
                Answer::Unknown => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            if self.rng.below(8) == 0 {
                self.check_head().await;
            }
        }
        self
    }

    /// The next request and its body: new rows, the head moved on, and half of the time an older request's rows deleted.
    fn next_request(&mut self) -> (Request, Value) {
        let requests = &self.history.requests;
        let first_id = requests
            .last()
            .map_or(self.base_id + 1, |last| last.first_id + last.rows);
        let number = requests.len() + 1;
        let rows = 1 + self.rng.below(ROWS_PER_REQUEST_MAX);
        let mut upserts: Vec<Value> = (0..rows)
            .map(|i| {
                let vector = [number as f32, i as f32];
                json!({"id": first_id + i, "request": number, "of": rows, "vector": vector})
            })
            .collect();
        upserts.push(json!({"id": self.base_id, "request": number, "of": 0, "vector": [0.0, 1.0]}));
        // Each request is deleted at most once: by the one two after it.
        let deletes = requests.len().checked_sub(2).filter(|_| self.rng.below(2) == 0);
        let deleted_ids: Vec<u64> = deletes.map_or(Vec::new(), |index| {
            let old = &requests[index];
            (old.first_id..old.first_id + old.rows).collect()
        });
        let mut body = json!({"upsert_rows": upserts, "distance_metric": "euclidean_squared"});
        if !deleted_ids.is_empty() {
            body["deletes"] = json!(deleted_ids);
        }
        (
            Request {
                first_id,
                rows,
                deletes,
                acknowledged: false,
            },
            body,
        )
    }

    /// Reads the head row strongly: nothing acknowledged to this writer may be missing from it.
    async fn check_head(&self) {
        let acknowledged = self
            .history
            .requests
            .iter()
            .rposition(|request| request.acknowledged)
            .map_or(0, |i| i + 1);
        if acknowledged == 0 {
            return;
        }
        let query = json!({"filters": ["id", "Eq", self.base_id], "rank_by": ["id", "asc"], "limit": 1,
                           "include_attributes": ["request"]});
        if let Answer::Ok(body) = self.client.query(&self.namespace, &query).await {
            let head = body["rows"][0]["request"].as_u64().unwrap_or(0);
            assert!(
                head >= acknowledged as u64,
                "{} {}: a strong read saw request {head} after {acknowledged} was acknowledged",
                self.namespace,
                self.base_id
            );
        }
    }
}

/// All rows of a namespace by id, with their request numbers, paged as clients do.
async fn read_all(client: &Client, namespace: &str) -> BTreeMap<u64, u64> {
    let mut rows = BTreeMap::new();
    let mut last: Option<u64> = None;
    loop {
        let mut query = json!({"rank_by": ["id", "asc"], "limit": 10_000, "include_attributes": ["request"]});
        if let Some(last) = last {
            query["filters"] = json!(["id", "Gt", last]);
        }
        let Answer::Ok(body) = client.query(namespace, &query).await else {
            panic!("the restarted server does not answer a query of {namespace}")
        };
        let page = body["rows"].as_array().expect("a query's answer has rows");
        for row in page {
            let id = row["id"].as_u64().expect("ids are unsigned");
            rows.insert(id, row["request"].as_u64().expect("every row names its request"));
        }
        match page.last() {
            Some(row) => last = row["id"].as_u64(),
            None => return rows,
        }
    }
}

/// Checks one writer's rows against what it sent; returns how many acknowledged requests that were.
fn explain(writer: &Writer, rows: &BTreeMap<u64, u64>) -> usize {
    let requests = &writer.history.requests;
    let name = format!("{} writer {}", writer.namespace, writer.base_id / IDS_PER_WRITER);
    let deleter_of = |index: usize| requests.iter().position(|request| request.deletes == Some(index));
    let effects: Vec<Effect> = (0..requests.len())
        .map(|index| {
            let request = &requests[index];
            let ids = request.first_id..request.first_id + request.rows;
            let found = ids.filter(|id| rows.get(id) == Some(&(index as u64 + 1))).count() as u64;
            let all_or_none = found == 0 || found == request.rows;
            assert!(
                all_or_none,
                "{name}: {found} of {} rows of request {}",
                request.rows,
                index + 1
            );
            match (found > 0, deleter_of(index)) {
                (true, _) => Effect::Yes,
                (false, None) => Effect::No,
                (false, Some(_)) => Effect::Either,
            }
        })
        .collect();
    for (index, request) in requests.iter().enumerate() {
        let number = index + 1;
        assert!(
            !(request.acknowledged && effects[index] == Effect::No),
            "{name}: acknowledged request {number} is lost"
        );
        let Some(deleter) = deleter_of(index) else { continue };
        let deleted = requests[deleter].acknowledged || effects[deleter] == Effect::Yes;
        assert!(
            !(deleted && effects[index] == Effect::Yes),
            "{name}: request {number} outlived its delete"
        );
        let not_deleted = effects[deleter] == Effect::No;
        assert!(
            !(not_deleted && request.acknowledged && effects[index] != Effect::Yes),
            "{name}: request {number} was deleted by request {}, which did not take effect otherwise",
            deleter + 1
        );
    }
    let head = rows.get(&writer.base_id).map_or(0, |request| *request as usize);
    let acknowledged = requests
        .iter()
        .rposition(|request| request.acknowledged)
        .map_or(0, |index| index + 1);
    assert!(
        head >= acknowledged,
        "{name}: head is {head}, but {acknowledged} was acknowledged"
    );
    assert!(
        head <= requests.len(),
        "{name}: head is {head}, but only {} were sent",
        requests.len()
    );
    if head > 0 {
        assert_eq!(
            effects[head - 1],
            Effect::Yes,
            "{name}: the head names request {head}, whose rows are missing"
        );
    }
    let newest = effects
        .iter()
        .rposition(|effect| *effect == Effect::Yes)
        .map_or(0, |index| index + 1);
    assert!(
        newest <= head,
        "{name}: request {newest} took effect but the head stayed at {head}"
    );
    let known = requests.iter().map(|request| request.rows as usize).sum::<usize>() + 1;
    let end = writer.base_id + IDS_PER_WRITER;
    assert!(
        rows.range(writer.base_id..end).count() <= known,
        "{name}: rows that nobody wrote"
    );
    requests.iter().filter(|request| request.acknowledged).count()
}

/// The whole test on one store.
async fn survive(settings: Settings, what: &str) {
    let seconds = variable("SHOAL_KILL9_SECONDS").unwrap_or(20);
    let seed = variable("SHOAL_KILL9_SEED").unwrap_or(0x5ee5_ba11);
    say(&format!("kill9 on {what}: {seconds} s, SHOAL_KILL9_SEED={seed}"));
    let mut rng = Rng(seed);
    let mut server = settings.start();
    let client = Client::new(settings.url());
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..NAMESPACES * WRITERS_PER_NAMESPACE)
        .map(|number| {
            let writer = Writer {
                client: client.clone(),
                namespace: format!("kill9-{}", number % NAMESPACES),
                base_id: number * IDS_PER_WRITER,
                rng: Rng(rng.next()),
                history: History::default(),
            };
            tokio::spawn(writer.run(stop.clone()))
        })
        .collect();

    let end = Instant::now() + Duration::from_secs(seconds);
    let mut kills = 0;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(30 + rng.below(1500))).await;
        tokio::task::block_in_place(|| {
            server.kill();
            server = settings.start();
        });
        kills += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let mut done = Vec::new();
    for writer in writers {
        done.push(writer.await.expect("a writer found something wrong"));
    }
    // Once more without writers: what is read now comes from the store alone.
    tokio::task::block_in_place(|| {
        server.kill();
        server = settings.start();
    });
    let mut acknowledged = 0;
    for number in 0..NAMESPACES {
        let namespace = format!("kill9-{number}");
        let rows = read_all(&client, &namespace).await;
        acknowledged += done
            .iter()
            .filter(|w| w.namespace == namespace)
            .map(|w| explain(w, &rows))
            .sum::<usize>();
    }
    let sent: usize = done.iter().map(|writer| writer.history.requests.len()).sum();
    say(&format!(
        "kill9 on {what}: {kills} kills, {acknowledged} of {sent} requests acknowledged, none lost"
    ));
    assert!(
        kills >= 3,
        "only {kills} kills in {seconds} s: restarts are too slow for this test to mean anything"
    );
    assert!(
        acknowledged > 20,
        "only {acknowledged} requests were acknowledged: the test did not test much"
    );
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} has to be a whole number, not {text:?}")),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_sigkill_on_the_local_store() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    survive(Settings::local(dir.path()), "the local store").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_sigkill_on_minio() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    if let Some(minio) = real::minio().await {
        survive(Settings::on_s3(dir.path(), &minio.config()), "MinIO").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_strong_reads_are_refused_while_the_store_is_dead() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let Some(mut minio) = real::minio().await else {
        return;
    };
    let settings = Settings::on_s3(dir.path(), &minio.config());
    let _server = tokio::task::block_in_place(|| settings.start());
    let client = Client::new(settings.url());
    let path = "/v2/namespaces/outage";
    let query = json!({"rank_by": ["id", "asc"], "limit": 10});
    let status = async |path: &str, body: &Value| {
        // Retries within the server may take its whole deadline, which is 30 s.
        let request = client
            .http
            .post(format!("{}{path}", client.url))
            .timeout(Duration::from_secs(90));
        let response = request.bearer_auth(API_KEY).json(body).send().await;
        response
            .expect("the server answers although its store does not")
            .status()
            .as_u16()
    };
    assert_eq!(status(path, &json!({"upsert_rows": [{"id": 1}]})).await, 200);
    assert_eq!(status("/v2/namespaces/outage/query", &query).await, 200);

    minio.kill();
    let write = json!({"upsert_rows": [{"id": 2}]});
    let (written, read) = tokio::join!(status(path, &write), status("/v2/namespaces/outage/query", &query));
    assert_eq!((written, read), (503, 503));

    minio.restart().await;
    let end = Instant::now() + Duration::from_secs(60);
    let rows = loop {
        if let Answer::Ok(body) = client.query("outage", &query).await {
            break body["rows"].clone();
        }
        assert!(Instant::now() < end, "the server does not recover after its store did");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    // The refused write had no answer that promises anything: it may have reached the store or not.
    assert!(
        rows == json!([{"id": 1}]) || rows == json!([{"id": 1}, {"id": 2}]),
        "unexpected rows {rows}"
    );
    assert_eq!(status(path, &json!({"upsert_rows": [{"id": 3}]})).await, 200);
}
