//! What the agent gives up once its probes are attached.

use stable_trace_analysis::error_chain::ErrorChain;

use crate::kernel::{
    dm_tables,
    least_privilege::{self, LeastPrivilegeError, Work},
};

/// Leaves the calling thread, the one that loads programs, only the capabilities that it still needs.
/// A child process must have been started before: it would inherit the loss. A failure is a warning:
/// the run goes on with the capabilities that it was given.
pub(super) fn give_up(child: bool) {
    if let Err(error) = try_give_up(Work::Trace { child }) {
        log::warn!("capabilities that are not needed are kept: {}", ErrorChain(&error));
    }
}

fn try_give_up(work: Work) -> Result<(), LeastPrivilegeError> {
    if least_privilege::gives_up_admin(work)?
        && let Err(error) = dm_tables::start_reader()
    {
        log::warn!("tables of device mapper are not read: {error}");
    }
    least_privilege::keep_only_for(work)
}
