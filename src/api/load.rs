//! How many requests this node answered in the last seconds, and how long they took, for `/stats.json`.
//!
//! A ring of seconds, each with two numbers per line of the route table: the memory is bounded by the table, however
//! many namespaces there are and whatever paths are asked for. Nothing here does I/O or waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use axum::http::{Method, StatusCode};

use super::metering::is_read;
use super::needs::Needs;
use crate::auth::Surface;

/// How many whole seconds a figure is of.
pub const WINDOW: u64 = 10;
/// Those, and the one that is going on.
const SECONDS: usize = WINDOW as usize + 1;

/// What requests are told apart by in the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Search,
    Write,
    Import,
    Delete,
    Other,
}

impl Class {
    fn of(method: &Method, path: &str, needs: Needs) -> Self {
        match needs.surface {
            _ if needs.is_search => Self::Search,
            Some(Surface::Data) if path.ends_with("/documents/import") => Self::Import,
            Some(Surface::Data) if method == Method::DELETE => Self::Delete,
            Some(Surface::Data) if !is_read(needs.any_of) => Self::Write,
            _ => Self::Other,
        }
    }
}

/// One line of the route table.
struct Line {
    /// Such as `GET /collections/{collection}`.
    name: String,
    class: Class,
}

/// The route table, and where in it a method and a path stand.
struct Lines {
    lines: Vec<Line>,
    places: HashMap<(Method, &'static str), usize>,
}

fn lines() -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        let (mut lines, mut places) = (Vec::new(), HashMap::new());
        for route in super::routes() {
            lines.push(Line {
                name: format!("{} {}", route.method, route.path),
                class: Class::of(&route.method, route.path, route.needs),
            });
            places.insert((route.method, route.path), lines.len() - 1);
        }
        Lines { lines, places }
    })
}

/// The line of the table that a request belongs to; `None` when there is no such route.
pub fn line_of(method: &Method, path: &str) -> Option<usize> {
    let places: &HashMap<(Method, &str), usize> = &lines().places;
    let find = |method: Method| places.get(&(method, path)).copied();
    find(method.clone()).or_else(|| (method == Method::HEAD).then(|| find(Method::GET)).flatten())
}

/// Requests and the time that they took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    micros: u64,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.count += other.count;
        self.micros = self.micros.saturating_add(other.micros);
    }

    fn per_second(self) -> f64 {
        self.count as f64 / WINDOW as f64
    }

    /// The mean in milliseconds; 0 of none.
    fn latency_ms(self) -> f64 {
        match self.count {
            0 => 0.0,
            count => self.micros as f64 / 1e3 / count as f64,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Second {
    /// Which one, by the boot clock.
    at: u64,
    /// By line of the table; the last is for what is in none.
    sums: Vec<Sum>,
    overloaded: u64,
}

/// The last seconds of a node.
pub struct Load {
    seconds: Mutex<Vec<Second>>,
    /// Writes that were let in and are not answered yet.
    writes: AtomicU64,
}

/// What was found for the last [`WINDOW`] whole seconds: requests per second and mean milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// By route, those that were asked.
    pub routes: Vec<(&'static str, f64, f64)>,
    pub search: (f64, f64),
    pub write: (f64, f64),
    pub import: (f64, f64),
    pub delete: (f64, f64),
    pub total: f64,
    /// Answered with 429 or 503.
    pub overloaded: f64,
}

/// A write that is under way; it ends when this is dropped.
pub struct Writing<'a>(&'a AtomicU64);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Load {
    fn default() -> Self {
        Self {
            seconds: Mutex::new(vec![Second::default(); SECONDS]),
            writes: AtomicU64::new(0),
        }
    }
}

impl Load {
    /// Counts a write for as long as what is returned lives; `None` for what is none.
    pub fn begin(&self, line: Option<usize>) -> Option<Writing<'_>> {
        let class = line.map_or(Class::Other, |line| lines().lines[line].class);
        matches!(class, Class::Write | Class::Import | Class::Delete).then(|| {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Writing(&self.writes)
        })
    }

    /// How many writes are under way.
    pub fn pending_writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Counts an answer.
    ///
    /// * `now` — of the boot clock
    pub fn answered(&self, line: Option<usize>, status: StatusCode, took: Duration, now: Duration) {
        let (now, table) = (now.as_secs(), lines().lines.len());
        let mut seconds = self.seconds.lock().unwrap_or_else(|e| e.into_inner());
        let second = &mut seconds[(now % SECONDS as u64) as usize];
        if second.at != now || second.sums.is_empty() {
            second.at = now;
            second.overloaded = 0;
            second.sums.clear();
            second.sums.resize(table + 1, Sum::default());
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        second.sums[line.unwrap_or(table)].add(Sum { count: 1, micros });
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            second.overloaded += 1;
        }
    }

    /// The figures of the last [`WINDOW`] whole seconds.
    pub fn rates(&self, now: Duration) -> Rates {
        let now = now.as_secs();
        let table = &lines().lines;
        let mut sums = vec![Sum::default(); table.len() + 1];
        let mut overloaded = 0;
        {
            let seconds = self.seconds.lock().unwrap_or_else(|e| e.into_inner());
            for second in seconds.iter().filter(|s| s.at < now && now - s.at <= WINDOW) {
                sums.iter_mut().zip(&second.sums).for_each(|(sum, new)| sum.add(*new));
                overloaded += second.overloaded;
            }
        }
        let of = |wanted: Class| {
            let mut all = Sum::default();
            let found = table.iter().zip(&sums).filter(|(line, _)| line.class == wanted);
            found.for_each(|(_, sum)| all.add(*sum));
            (all.per_second(), all.latency_ms())
        };
        let asked = table.iter().zip(&sums).filter(|(_, sum)| sum.count > 0);
        Rates {
            routes: asked
                .map(|(line, sum)| (line.name.as_str(), sum.per_second(), sum.latency_ms()))
                .collect(),
            search: of(Class::Search),
            write: of(Class::Write),
            import: of(Class::Import),
            delete: of(Class::Delete),
            total: sums.iter().map(|sum| sum.per_second()).sum(),
            overloaded: overloaded as f64 / WINDOW as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: &str = "/collections/{collection}/documents/search";
    const IMPORT: &str = "/collections/{collection}/documents/import";
    const DOCUMENT: &str = "/collections/{collection}/documents/{id}";

    fn ask(load: &Load, method: Method, path: &str, status: u16, ms: u64, at_ms: u64) {
        let status = StatusCode::from_u16(status).expect("a status");
        let line = line_of(&method, path);
        load.answered(line, status, Duration::from_millis(ms), Duration::from_millis(at_ms));
    }

    #[test]
    fn requests_are_of_the_class_that_typesense_has_for_them() {
        for (method, path, class) in [
            (Method::GET, SEARCH, Class::Search),
            (Method::POST, "/multi_search", Class::Search),
            (Method::POST, "/v2/namespaces/{namespace}/query", Class::Search),
            (Method::POST, IMPORT, Class::Import),
            (Method::DELETE, DOCUMENT, Class::Delete),
            (Method::PATCH, DOCUMENT, Class::Write),
            (Method::POST, "/v2/namespaces/{namespace}", Class::Write),
            (Method::GET, DOCUMENT, Class::Other),
            (Method::GET, "/health", Class::Other),
            (Method::POST, "/v1/organizations", Class::Other),
        ] {
            let line = line_of(&method, path).expect(path);
            assert_eq!(lines().lines[line].class, class, "{method} {path}");
        }
        assert_eq!(
            line_of(&Method::GET, "/collections/books"),
            None,
            "no name becomes a line"
        );
        assert_eq!(line_of(&Method::HEAD, SEARCH), line_of(&Method::GET, SEARCH));
    }

    #[test]
    fn the_last_ten_whole_seconds_count() {
        let load = Load::default();
        assert_eq!(load.rates(Duration::ZERO), Rates::default());
        for at in 0..30 {
            ask(&load, Method::GET, SEARCH, 200, 4, at * 1000 + 1);
            ask(&load, Method::GET, SEARCH, 200, 8, at * 1000 + 999);
        }
        ask(&load, Method::POST, IMPORT, 200, 7, 20_500);
        ask(&load, Method::POST, IMPORT, 429, 1, 29_500);
        ask(&load, Method::DELETE, DOCUMENT, 503, 2, 29_500);
        ask(&load, Method::GET, "/nowhere", 404, 1, 29_500);
        // Of the second that is going on.
        ask(&load, Method::GET, SEARCH, 200, 900, 30_100);
        let rates = load.rates(Duration::from_millis(30_700));
        assert_eq!(rates.search, (2.0, 6.0));
        assert_eq!(rates.import, (0.2, 4.0));
        assert_eq!(rates.delete, (0.1, 2.0));
        assert_eq!(rates.write, (0.0, 0.0));
        assert_eq!(rates.overloaded, 0.2);
        assert!((rates.total - 2.4).abs() < 1e-9, "{rates:?}");
        let mut routes = rates.routes;
        routes.sort_by_key(|(name, ..)| *name);
        let search = "GET /collections/{collection}/documents/search";
        let names: Vec<&str> = routes.iter().map(|(name, ..)| *name).collect();
        assert_eq!(
            names,
            [
                "DELETE /collections/{collection}/documents/{id}",
                search,
                "POST /collections/{collection}/documents/import"
            ]
        );
        assert_eq!(routes[1], (search, 2.0, 6.0));
        // After a pause nothing is left, also where the places of the ring are the same.
        assert_eq!(load.rates(Duration::from_secs(41)), Rates::default());
        ask(&load, Method::GET, SEARCH, 200, 1, 63_000);
        assert_eq!(load.rates(Duration::from_secs(64)).search, (0.1, 1.0));
    }

    #[test]
    fn writes_are_pending_until_they_are_answered() {
        let load = Load::default();
        let write = load.begin(line_of(&Method::POST, IMPORT));
        let read = load.begin(line_of(&Method::GET, SEARCH));
        assert_eq!(
            (write.is_some(), read.is_some(), load.pending_writes()),
            (true, false, 1)
        );
        drop(write);
        assert_eq!(load.pending_writes(), 0);
    }
}
