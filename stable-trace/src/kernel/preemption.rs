//! Whether the kernel preempts tasks that run in the kernel: `sched/preempt` of debugfs.

use std::{path::Path, sync::OnceLock};

use stable_trace_analysis::event::Preemption;

use super::private_mount;

/// The usual mount point of debugfs.
const DEBUGFS: &str = "/sys/kernel/debug";

/// Parses the file: all models, the one in force in parentheses (`sched_dynamic_show`,
/// kernel/sched/debug.c, 5.12 to 7.3).
fn parse(text: &str) -> Preemption {
    match private_mount::bracketed(text, ('(', ')')) {
        Some("none" | "voluntary") => Preemption::Voluntary,
        Some("full" | "lazy") => Preemption::Full,
        _ => Preemption::Unknown,
    }
}

/// Reads the preemption model; where debugfs is not mounted, from a private mount of it. It is read
/// once: later the process may have given up what a mount needs, and the probes of later modules must
/// be planned as those at the start were.
pub(crate) fn read() -> Preemption {
    static MODEL: OnceLock<Preemption> = OnceLock::new();
    *MODEL.get_or_init(|| {
        let text = private_mount::read("debugfs", Path::new(DEBUGFS), "sched/preempt");
        text.map_or(Preemption::Unknown, |text| parse(&text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_in_parentheses_is_in_force() {
        assert_eq!(parse("none (voluntary) full\n"), Preemption::Voluntary);
        assert_eq!(parse("(none) voluntary full\n"), Preemption::Voluntary);
        assert_eq!(parse("none voluntary (full) lazy\n"), Preemption::Full);
        assert_eq!(parse("full (lazy)\n"), Preemption::Full);
        assert_eq!(parse("(undefined)"), Preemption::Unknown);
        assert_eq!(parse(""), Preemption::Unknown);
    }
}
