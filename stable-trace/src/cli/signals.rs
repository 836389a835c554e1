//! Signals of commands that have no event loop of their own.

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::Context as _;

/// Sets the returned flag on the first of these signals, for an orderly end. The second one ends the
/// process at once, even where it hangs; the kernel then detaches the probes.
pub(super) fn exit_on_second_signal(signals: &[i32]) -> anyhow::Result<Arc<AtomicBool>> {
    let received = Arc::new(AtomicBool::new(false));
    for &signal in signals {
        // The shutdown is registered first: on the first signal it still sees the flag unset.
        let flag = Arc::clone(&received);
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, flag)
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&received)))
            .context("cannot handle signals")?;
    }
    Ok(received)
}
