//! What becomes true by and by, and must.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// How long it may take: an emulated kernel under load takes its time for a grace period of RCU.
const LIMIT: Duration = Duration::from_mins(1);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Looks until `look` returns nothing that is still in the way; an error with that if time is up.
pub fn eventually(mut look: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while let Some(still) = look()? {
        ensure!(Instant::now() < deadline, "after {} s: {still}", LIMIT.as_secs());
        thread::sleep(LOOK);
    }
    Ok(())
}
