//! `--attach`: which methods may attach probes.

use clap::ValueEnum;
use stable_trace_analysis::event::Method;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttachMode {
    /// The cheapest method that works, for each probe
    #[default]
    Auto,
    /// fentry and fexit
    Fentry,
    /// kprobes and kretprobes
    Kprobe,
    /// Tracepoints
    Tracepoint,
}

impl AttachMode {
    /// The only method to use; `None` for any.
    pub(crate) const fn method(self) -> Option<Method> {
        match self {
            Self::Auto => None,
            Self::Fentry => Some(Method::Fentry),
            Self::Kprobe => Some(Method::Kprobe),
            Self::Tracepoint => Some(Method::Tracepoint),
        }
    }
}
