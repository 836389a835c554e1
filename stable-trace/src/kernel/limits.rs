//! Limits of this process that tracing needs to raise. The commands that it starts get back what it was given.

use std::{io, sync::OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::release::{Release, System};

/// Files that are open while everything is traced and scraped: some 30 maps, 30 programs and as many links, outputs, and
/// connections.
const FILES: u64 = 1024;

/// Fewer than this are not enough to attach and to scrape.
const FEWEST_FILES: u64 = 160;

/// The raised limits, as they were.
static BEFORE: OnceLock<[(Resource, Rlimit); 2]> = OnceLock::new();

/// From this version on BPF maps and programs are charged to the memory cgroup, and no longer count against the limit on
/// locked memory (`bpf_map_charge_init` is gone from kernel/bpf/syscall.c).
const CHARGED_TO_CGROUP: Release = Release::new(5, 11);

/// Removes the limit on locked memory where it matters, and raises that on open files.
pub(crate) fn lift() {
    BEFORE.get_or_init(|| {
        [Resource::Memlock, Resource::Nofile].map(|resource| (resource, getrlimit(resource)))
    });
    if System::read().version() < CHARGED_TO_CGROUP {
        lift_locked_memory();
    }
    lift_open_files();
}

fn lift_locked_memory() {
    let unlimited = Rlimit { current: None, maximum: None };
    if getrlimit(Resource::Memlock) != unlimited && setrlimit(Resource::Memlock, unlimited).is_err()
    {
        log::warn!(
            "eBPF maps count against the limit on locked memory on this kernel: give CAP_SYS_RESOURCE, or remove the \
             limit (`ulimit -l unlimited`)"
        );
    }
}

fn lift_open_files() {
    let found = getrlimit(Resource::Nofile);
    let raised = raised(found);
    if raised == found || setrlimit(Resource::Nofile, raised).is_ok() {
        return;
    }
    // Without CAP_SYS_RESOURCE as far as it goes.
    let highest = Rlimit { current: found.maximum, maximum: found.maximum };
    let set = setrlimit(Resource::Nofile, highest);
    if set.is_err() || found.maximum.is_some_and(|maximum| maximum < FEWEST_FILES) {
        let most = found.maximum.unwrap_or_default();
        log::warn!(
            "only {most} files can be open at a time, and tracing needs {FEWEST_FILES}: give CAP_SYS_RESOURCE, or raise \
             the limit (`ulimit -n {FILES}`)"
        );
    }
}

/// The limit with room for [`FILES`].
fn raised(found: Rlimit) -> Rlimit {
    // `None` is no limit.
    let at_least = |limit: Option<u64>| limit.map(|limit| limit.max(FILES));
    Rlimit { current: at_least(found.current), maximum: at_least(found.maximum) }
}

/// Gives this process, a command before its `exec`, the limits of the agent before [`lift`].
///
/// # Errors
/// The kernel's. It makes only system calls: it may run between `fork` and `exec`.
pub(crate) fn restore() -> io::Result<()> {
    for (resource, limit) in BEFORE.get().into_iter().flatten() {
        setrlimit(*resource, *limit)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_is_raised_and_a_high_one_left() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raised(limit(Some(64), Some(64))), limit(Some(1024), Some(1024)));
        assert_eq!(raised(limit(Some(1024), Some(1 << 19))), limit(Some(1024), Some(1 << 19)));
        assert_eq!(raised(limit(Some(256), None)), limit(Some(1024), None));
        assert_eq!(raised(limit(None, None)), limit(None, None));
    }
}
