//! What a command says in a guest, as a value.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::accel::Engine;
use super::initrd::Task;
use super::machine::{Machine, Outcome, Stream, status_of};
use super::packages;
use super::place::Place;
use super::series::Series;

/// A command for a guest.
#[derive(Debug)]
pub struct Errand<'a> {
    /// Which kernel.
    pub series: Series,
    /// How instructions are run.
    pub engine: Engine,
    /// The agent, for `PATH` and `STABLE_TRACE`.
    pub agent: &'a Path,
    /// A script for the shell, and its arguments.
    pub script: &'a str,
    /// From `$1` on.
    pub arguments: &'a [String],
    /// From QEMU's start to the end of the command.
    pub limit: Duration,
}

impl Errand<'_> {
    /// Boots the guest, runs the script and takes what it says on stdout; what it says on stderr is
    /// passed on.
    ///
    /// # Errors
    /// If the guest does not run to its end, or the script fails.
    pub fn output(&self) -> Result<String> {
        packages::ensure()?;
        let place = Place::open()?;
        let words = ["/bin/sh", "-c", self.script, "sh"].into_iter().map(OsString::from);
        let machine = Machine {
            place: &place,
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
