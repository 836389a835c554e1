//! The log level of the kernel's console.

use std::fs;

use anyhow::{Context as _, Result};

const LEVELS: &str = "/proc/sys/kernel/printk";

/// Limits the console to emergencies until it is dropped; the log keeps every message. 5.10's
/// `scsi_debug` prints each sector that fails its check, and a serial line is too slow for that.
#[derive(Debug)]
pub(crate) struct QuietConsole(String);

impl QuietConsole {
    pub(crate) fn new() -> Result<Self> {
        let before = fs::read_to_string(LEVELS).with_context(|| format!("cannot read {LEVELS}"))?;
        // The first of four levels is the console's.
        fs::write(LEVELS, "1").with_context(|| format!("cannot write {LEVELS}"))?;
        Ok(Self(before))
    }
}

impl Drop for QuietConsole {
    fn drop(&mut self) {
        if let Err(error) = fs::write(LEVELS, &self.0) {
            eprintln!("cannot write {LEVELS}: {error}");
        }
    }
}
