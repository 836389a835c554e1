//! Slows the SCSI debug disk down.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::disk::Disk;
use super::scsi_debug;

/// The SCSI debug disk with a delay for each command, until this is dropped. With a short queue,
/// writeback lasts long and many tasks wait.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    name: String,
    delay: String,
    /// Changed attributes with their previous values.
    attributes: Vec<(&'static str, String)>,
}

/// How many commands the kernel sends to the disk at a time. The driver's own `max_queue` is
/// unsuitable: a command beyond it fails, since 5.19 with an error that is not retried
/// (`device_qfull_result`, `drivers/scsi/scsi_debug.c`).
const DEPTH: &str = "device/queue_depth";

/// The latency target of the throttle of buffered writes, in µs; 0 turns it off. Otherwise it sends
/// pages to a slow disk one by one, and every task waits for that (`block/blk-wbt.c`).
const THROTTLE: &str = "queue/wbt_lat_usec";

impl SlowDisk {
    /// Sets the delay of a command and how many are in flight at a time.
    pub(crate) fn new(disk: &Disk, delay: Duration, queue_depth: u32) -> Result<Self> {
        let name = disk.name.clone();
        let mut slow = Self { name, delay: scsi_debug::get("delay")?, attributes: Vec::new() };
        for (attribute, value) in [(DEPTH, queue_depth.to_string()), (THROTTLE, "0".to_owned())] {
            let before = disk
                .attribute(attribute)
                .with_context(|| format!("{} has no {attribute}", disk.name))?;
            disk.set_attribute(attribute, &value)?;
            slow.attributes.push((attribute, before));
        }
        scsi_debug::set_when_idle("ndelay", &delay.as_nanos().to_string())?;
        Ok(slow)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // A delay in jiffies cancels the one in ns; -9999 means that a delay in ns was set.
        let delay = if self.delay == "-9999" { "1" } else { &self.delay };
        let delay = scsi_debug::set_when_idle("delay", delay);
        let attributes = self
            .attributes
            .iter()
            .map(|(attribute, before)| Disk::set_attribute_of(&self.name, attribute, before));
        for error in [delay].into_iter().chain(attributes).filter_map(Result::err) {
            eprintln!("{error:#}");
        }
    }
}
