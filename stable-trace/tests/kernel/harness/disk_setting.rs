//! A setting of a disk for as long as a test needs it.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::disk::Disk;

/// An attribute below `/sys/block/NAME` with another value, until this is dropped.
#[derive(Debug)]
pub(crate) struct DiskSetting {
    disk: String,
    attribute: &'static str,
    before: String,
}

impl DiskSetting {
    /// Pages of the disk are stable for file systems that are mounted from now on.
    pub(crate) fn stable_writes(disk: &Disk) -> Result<Self> {
        Self::new(disk, "queue/stable_writes", "1")
    }

    /// Each bio is a request of its own (Documentation/ABI/stable/sysfs-block).
    pub(crate) fn no_merges(disk: &Disk) -> Result<Self> {
        Self::new(disk, "queue/nomerges", "2")
    }

    /// Requests are sorted and merged.
    pub(crate) fn deadline_scheduler(disk: &Disk) -> Result<Self> {
        Self::new(disk, "queue/scheduler", "mq-deadline")
    }

    /// A SCSI command that is not answered for so long, in full seconds, is aborted and tried again.
    pub(crate) fn command_limit(disk: &Disk, limit: Duration) -> Result<Self> {
        Self::new(disk, "device/timeout", &limit.as_secs().to_string())
    }

    fn new(disk: &Disk, attribute: &'static str, value: &str) -> Result<Self> {
        let all = disk
            .attribute(attribute)
            .with_context(|| format!("{} has no {attribute}", disk.name))?;
        // A list of values has the chosen one in brackets.
        let chosen = all.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        let before = chosen.map_or(all.as_str(), |(chosen, _)| chosen).to_owned();
        disk.set_attribute(attribute, value)?;
        Ok(Self { disk: disk.name.clone(), attribute, before })
    }
}

impl Drop for DiskSetting {
    fn drop(&mut self) {
        if let Err(error) = Disk::set_attribute_of(&self.disk, self.attribute, &self.before) {
            eprintln!("{error:#}");
        }
    }
}
