//! Who may open performance events, by which kprobes and tracepoints attach.

const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// The highest value that the kernel itself knows (`perf_event_paranoid`, kernel/events/core.c, 5.10 to
/// 7.3).
const HIGHEST: i32 = 2;

/// Whether the kernel refuses to open an event without `CAP_SYS_ADMIN`, also with `CAP_PERFMON`. Debian's
/// does where the sysctl is 3, which is its default, and Ubuntu's where it is 4.
pub(super) fn need_sys_admin() -> bool {
    let value = std::fs::read_to_string(PARANOID).ok();
    value.and_then(|value| value.trim().parse().ok()).is_some_and(|value: i32| value > HIGHEST)
}
