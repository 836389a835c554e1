//! The kernel's log: an oracle for integrity errors, though a rate-limited one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, Result, bail};
use rustix::fs::OFlags;

/// Messages of kernels from 5.10 to 7.3 about a failed integrity check: the block layer's two, the
/// host's own, and sense 10h of the SCSI disk.
const INTEGRITY: [&str; 5] = [
    "protection error",
    "tag error",
    "guard check failed",
    "application tag check failed",
    "reference tag check failed",
];

/// The kernel's log from one moment on.
#[derive(Debug)]
pub(crate) struct Dmesg(File);

impl Dmesg {
    pub(crate) fn from_now() -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open("/dev/kmsg")
            .context("cannot open /dev/kmsg")?;
        file.seek(SeekFrom::End(0)).context("cannot seek to the end of /dev/kmsg")?;
        Ok(Self(file))
    }

    /// Reads the messages since the last call.
    pub(crate) fn messages(&mut self) -> Result<Vec<String>> {
        let mut messages = Vec::new();
        let mut record = vec![0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(size) => messages.push(message(&String::from_utf8_lossy(&record[..size]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(messages),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => bail!(
                    "the kernel overwrote its log before it was read: boot with a larger log_buf_len"
                ),
                Err(error) => return Err(error).context("cannot read /dev/kmsg"),
            }
        }
    }

    /// Reads the messages since the last call that report a failed integrity check.
    pub(crate) fn integrity_errors(&mut self) -> Result<Vec<String>> {
        let mut messages = self.messages()?;
        messages.retain(|message| {
            let message = message.to_lowercase();
            INTEGRITY.iter().any(|phrase| message.contains(phrase))
        });
        Ok(messages)
    }
}

/// A record is `PRIORITY,SEQUENCE,TIME,FLAGS;MESSAGE` and lines of properties.
fn message(record: &str) -> String {
    let text = record.split_once(';').map_or(record, |(_, text)| text);
    text.lines().next().unwrap_or_default().to_owned()
}
