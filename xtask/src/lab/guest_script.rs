//! Runs a shell script in a guest and returns its output.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::accel::Engine;
use super::cache_dir::CacheDir;
use super::initrd::Task;
use super::machine::{Machine, Outcome, Stream, status_of};
use super::packages;
use super::series::Series;

#[derive(Debug)]
pub(crate) struct GuestScript<'a> {
    pub(crate) series: Series,
    pub(crate) engine: Engine,
    /// The agent in the guest's `PATH` and `STABLE_TRACE`.
    pub(crate) agent: &'a Path,
    pub(crate) script: &'a str,
    /// `$1` and the following arguments.
    pub(crate) arguments: &'a [String],
    /// From QEMU's start to the end of the command.
    pub(crate) limit: Duration,
}

impl GuestScript<'_> {
    /// Boots the guest, runs the script and returns its stdout; forwards its stderr.
    pub(crate) fn output(&self) -> Result<String> {
        packages::ensure()?;
        let cache = CacheDir::open()?;
        let words = ["/bin/sh", "-c", self.script, "sh"].into_iter().map(OsString::from);
        let machine = Machine {
            cache: &cache,
            series: self.series,
            engine: self.engine,
            task: Task::Command(words.chain(self.arguments.iter().map(OsString::from)).collect()),
            agent: Some(self.agent.to_path_buf()),
            limit: Some(self.limit),
        };
        let mut text = Vec::new();
        let ended = machine.run(&mut |stream, bytes| {
            match stream {
                Stream::Out => text.extend_from_slice(bytes),
                Stream::Err => eprint!("{}", String::from_utf8_lossy(bytes)),
            }
            Ok(())
        })?;
        if !matches!(ended.outcome, Outcome::Exit(_)) {
            eprintln!("--- the end of the guest's console ---\n{}\n---", ended.console.tail());
        }
        match status_of(&ended, self.series)? {
            0 => Ok(String::from_utf8_lossy(&text).into_owned()),
            code => bail!("the script in the guest with kernel {} ended with {code}", self.series),
        }
    }
}
