//! Figures of the machine and the process, under the names that Typesense gives them.
//!
//! They come from `/proc`, which Linux has; what it does not say, there or elsewhere, is left out. Typesense's figures
//! of its allocator other than resident and mapped memory have no like here.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Processors up to which each has a figure of its own.
const CPUS_MAX: usize = 1024;
/// The file system whose size is told: the one that the server was started in.
const DISK: &str = ".";

/// What processors did since the machine was started, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    active: u64,
    all: u64,
}

/// The last reading of the processors, so that the next one says what they did since.
#[derive(Default)]
pub struct Machine {
    last: Mutex<BTreeMap<String, Ticks>>,
}

impl Machine {
    /// All figures by their names. Costs a few reads of `/proc`.
    pub async fn figures(&self) -> BTreeMap<String, String> {
        let read = async |path: &str| tokio::fs::read_to_string(path).await.unwrap_or_default();
        let mut found = BTreeMap::new();
        self.cpus(ticks(&read("/proc/stat").await), &mut found);
        memory(&read("/proc/meminfo").await, &mut found);
        network(&read("/proc/net/dev").await, &mut found);
        process(&read("/proc/self/status").await, &mut found);
        disk(&mut found);
        found
    }

    /// The share of its time in which each processor did something since it was last asked; since the start of the
    /// machine the first time.
    fn cpus(&self, now: BTreeMap<String, Ticks>, found: &mut BTreeMap<String, String>) {
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        for (name, ticks) in &now {
            let before = last.get(name).copied().unwrap_or_default();
            let all = ticks.all.saturating_sub(before.all);
            let active = ticks.active.saturating_sub(before.active).min(all);
            let percent = match all {
                0 => 0.0,
                all => 100.0 * active as f64 / all as f64,
            };
            found.insert(format!("system_{name}_active_percentage"), format!("{percent:.2}"));
        }
        *last = now;
    }
}

/// The processors of `/proc/stat`: `cpu` for all together, `cpu1` for the first.
fn ticks(stat: &str) -> BTreeMap<String, Ticks> {
    let lines = stat
        .lines()
        .take_while(|line| line.starts_with("cpu"))
        .take(CPUS_MAX + 1);
    let parsed = lines.filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let number = words.next()?.strip_prefix("cpu")?;
        let name = match number {
            "" => "cpu".to_owned(),
            number => format!("cpu{}", number.parse::<u64>().ok()?.checked_add(1)?),
        };
        // user nice system idle iowait irq softirq steal; what guests do is in `user` already.
        let times: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
        let idle = times.get(3)?.saturating_add(*times.get(4)?);
        let all = times.iter().fold(0u64, |sum, time| sum.saturating_add(*time));
        let active = all.saturating_sub(idle);
        Some((name, Ticks { active, all }))
    });
    parsed.collect()
}

/// The bytes that lines such as `MemTotal:  16 kB` name.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

fn put(found: &mut BTreeMap<String, String>, name: &str, bytes: Option<u64>) {
    if let Some(bytes) = bytes {
        found.insert(name.to_owned(), bytes.to_string());
    }
}

/// `/proc/meminfo`. Memory that could be had at once is not used.
fn memory(meminfo: &str, found: &mut BTreeMap<String, String>) {
    let of = |name| kilobytes(meminfo, name);
    let used = |all: Option<u64>, free: Option<u64>| Some(all?.saturating_sub(free?));
    let (all, swap) = (of("MemTotal"), of("SwapTotal"));
    put(found, "system_memory_total_bytes", all);
    put(found, "system_memory_used_bytes", used(all, of("MemAvailable")));
    put(found, "system_memory_total_swap_bytes", swap);
    put(found, "system_memory_used_swap_bytes", used(swap, of("SwapFree")));
}

/// `/proc/net/dev`: all interfaces but the loopback together.
fn network(dev: &str, found: &mut BTreeMap<String, String>) {
    let mut sum: Option<(u64, u64)> = None;
    for line in dev.lines() {
        let Some((name, figures)) = line.split_once(':') else {
            continue;
        };
        let figures: Vec<u64> = figures
            .split_ascii_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        let (Some(received), Some(sent)) = (figures.first(), figures.get(8)) else {
            continue;
        };
        let (all_received, all_sent) = sum.unwrap_or_default();
        sum = Some(match name.trim() {
            "lo" => (all_received, all_sent),
            _ => (all_received.saturating_add(*received), all_sent.saturating_add(*sent)),
        });
    }
    put(
        found,
        "system_network_received_bytes",
        sum.map(|(received, _)| received),
    );
    put(found, "system_network_sent_bytes", sum.map(|(_, sent)| sent));
}

/// `/proc/self/status`.
fn process(status: &str, found: &mut BTreeMap<String, String>) {
    put(found, "typesense_memory_resident_bytes", kilobytes(status, "VmRSS"));
    put(found, "typesense_memory_mapped_bytes", kilobytes(status, "VmSize"));
}

fn disk(found: &mut BTreeMap<String, String>) {
    let Ok(system) = rustix::fs::statvfs(DISK) else { return };
    let all = system.f_blocks.saturating_mul(system.f_frsize);
    let free = system.f_bfree.saturating_mul(system.f_frsize);
    put(found, "system_disk_total_bytes", Some(all));
    put(found, "system_disk_used_bytes", Some(all.saturating_sub(free)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(fill: impl FnOnce(&mut BTreeMap<String, String>)) -> Vec<(String, String)> {
        let mut found = BTreeMap::new();
        fill(&mut found);
        found.into_iter().collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    #[test]
    fn processors_are_told_by_what_they_did_since() {
        let machine = Machine::default();
        let first = ticks("cpu  10 0 10 60 20 0 0 0 5 5\ncpu0 10 0 10 60 20 0 0 0 5 5\nintr 1 2 3\ncpu1 9 9 9 9 9\n");
        let found = figures(|found| machine.cpus(first, found));
        let expected = pairs(&[
            ("system_cpu1_active_percentage", "20.00"),
            ("system_cpu_active_percentage", "20.00"),
        ]);
        assert_eq!(found, expected);
        let next = ticks("cpu  40 0 10 130 20 0 0 0\ncpu0 40 0 10 130 20 0 0 0");
        let found = figures(|found| machine.cpus(next.clone(), found));
        assert_eq!(found[1].1, "30.00");
        let found = figures(|found| machine.cpus(next, found));
        assert_eq!(found[1].1, "0.00", "no time went by");
    }

    #[test]
    fn files_are_read_and_what_is_missing_is_left_out() {
        let meminfo =
            "MemTotal:       100 kB\nMemFree:  1 kB\nMemAvailable:    60 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
        assert_eq!(
            figures(|found| memory(meminfo, found)),
            pairs(&[
                ("system_memory_total_bytes", "102400"),
                ("system_memory_total_swap_bytes", "0"),
                ("system_memory_used_bytes", "40960"),
                ("system_memory_used_swap_bytes", "0"),
            ])
        );
        let dev = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  \
                   eth0: 100 2 0 0 0 0 0 0 30 1 0 0 0 0 0 0\n  eth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(
            figures(|found| network(dev, found)),
            pairs(&[
                ("system_network_received_bytes", "101"),
                ("system_network_sent_bytes", "32")
            ])
        );
        let status = "Name:\tshoal\nVmSize:\t    2000 kB\nVmRSS:\t  1000 kB\n";
        assert_eq!(
            figures(|found| process(status, found)),
            pairs(&[
                ("typesense_memory_mapped_bytes", "2048000"),
                ("typesense_memory_resident_bytes", "1024000"),
            ])
        );
        for text in [
            "",
            "cpu",
            "cpu x",
            "cpu 1 2",
            ":",
            "MemTotal: kB",
            "VmRSS: 18446744073709551615 kB",
            "a: 1 2 3",
        ] {
            assert_eq!(figures(|found| memory(text, found)), []);
            assert_eq!(figures(|found| network(text, found)), []);
            assert_eq!(figures(|found| process(text, found)), []);
            assert!(ticks(text).is_empty(), "{text:?}");
        }
    }
}
