//! Parameters of the `scsi_debug` driver.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

const DRIVER: &str = "/sys/bus/pseudo/drivers/scsi_debug";

/// The disk finishes its commands within this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn set(name: &str, value: &str) -> Result<()> {
    fs::write(format!("{DRIVER}/{name}"), value)
        .with_context(|| format!("cannot write {value} to scsi_debug's {name}"))
}

pub(crate) fn get(name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("{DRIVER}/{name}"))
        .with_context(|| format!("cannot read scsi_debug's {name}"))?;
    Ok(text.trim().to_owned())
}

/// Sets a parameter that the driver changes only while no command is in flight.
pub(crate) fn set_when_idle(name: &str, value: &str) -> Result<()> {
    let deadline = Instant::now() + IDLE_TIMEOUT;
    loop {
        match fs::write(format!("{DRIVER}/{name}"), value) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                rustix::fs::sync();
            }
            result => {
                return result
                    .with_context(|| format!("cannot write {value} to scsi_debug's {name}"));
            }
        }
    }
}
