//! Reads the standard `process_*` metrics of the agent.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// Values of `/proc/self`; `None` where one cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessMetrics {
    /// User and system time.
    pub(super) cpu_seconds: Option<f64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
    /// Start time since 1970.
    pub(super) start_seconds: Option<f64>,
    pub(super) threads: Option<u64>,
}

impl ProcessMetrics {
    pub(super) fn read() -> Self {
        let stat = read("/proc/self/stat").and_then(|text| Stat::parse(&text)).unwrap_or_default();
        let boot = read("/proc/stat").and_then(|text| boot_seconds(&text));
        #[expect(clippy::cast_precision_loss, reason = "ticks are far below 2^52")]
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
        let started = |boot: u64, ticks: u64| boot as f64 + seconds(ticks);
        Self {
            cpu_seconds: stat.cpu_ticks.map(seconds),
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                // One of them is the open directory itself.
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current,
            virtual_bytes: stat.virtual_bytes,
            resident_bytes: stat
                .resident_pages
                .map(|pages| pages * rustix::param::page_size() as u64),
            start_seconds: boot.zip(stat.start_ticks).map(|(boot, ticks)| started(boot, ticks)),
            threads: stat.threads,
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Fields of `/proc/PID/stat`, by `man 5 proc_pid_stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stat {
    cpu_ticks: Option<u64>,
    threads: Option<u64>,
    start_ticks: Option<u64>,
    virtual_bytes: Option<u64>,
    resident_pages: Option<u64>,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name is in parentheses and may contain any character.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        // `rest` begins with field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14).zip(field(15)).map(|(user, system)| user + system),
            threads: field(20),
            start_ticks: field(22),
            virtual_bytes: field(23),
            resident_pages: field(24),
        })
    }
}

/// `btime` of `/proc/stat`.
fn boot_seconds(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses_in_the_process_name_are_handled() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 7 5 0 0 20 0 3 0 1234 8192 2 18446";
        assert_eq!(
            Stat::parse(text),
            Some(Stat {
                cpu_ticks: Some(12),
                threads: Some(3),
                start_ticks: Some(1234),
                virtual_bytes: Some(8192),
                resident_pages: Some(2),
            })
        );
        assert_eq!(Stat::parse(""), None);
        assert_eq!(boot_seconds("cpu 1 2\nbtime 99\n"), Some(99));
    }

    #[test]
    fn metrics_of_this_process_are_plausible() {
        let metrics = ProcessMetrics::read();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
        // Other tests start and end threads meanwhile.
        assert!(metrics.threads.unwrap() > 0 && threads.trim().parse::<u64>().unwrap() > 0);
        assert!(metrics.resident_bytes.unwrap() > 100_000);
        assert!(metrics.virtual_bytes >= metrics.resident_bytes);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - metrics.start_seconds.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
