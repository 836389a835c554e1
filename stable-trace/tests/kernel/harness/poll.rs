//! Polls a condition until it holds or times out.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// An emulated kernel under load may need this long for an RCU grace period.
const TIMEOUT: Duration = Duration::from_mins(1);

const INTERVAL: Duration = Duration::from_millis(50);

/// Calls `unmet` until it returns `None`. After one minute, fails with its last reason.
pub(crate) fn wait_until(unmet: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    wait_until_within(TIMEOUT, INTERVAL, unmet)
}

/// Like [`wait_until`], with another timeout and interval.
pub(crate) fn wait_until_within(
    timeout: Duration,
    interval: Duration,
    mut unmet: impl FnMut() -> Result<Option<String>>,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while let Some(reason) = unmet()? {
        ensure!(Instant::now() < deadline, "after {} s: {reason}", timeout.as_secs());
        thread::sleep(interval);
    }
    Ok(())
}
