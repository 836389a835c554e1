//! The BPF programs and maps that an agent holds, read from the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::wait_until_within;

/// The kernel frees unreferenced objects after an RCU grace period, which is long on a busy
/// machine.
const TIMEOUT: Duration = Duration::from_secs(30);

const INTERVAL: Duration = Duration::from_millis(20);

/// IDs of the programs and maps that one process holds.
#[derive(Debug)]
pub(crate) struct BpfObjects {
    pub(crate) programs: BTreeSet<u32>,
    pub(crate) maps: BTreeSet<u32>,
}

impl BpfObjects {
    /// Reads the IDs from the process's open files.
    pub(crate) fn of_process(pid: u32) -> Result<Self> {
        let mut objects = Self { programs: BTreeSet::new(), maps: BTreeSet::new() };
        let path = format!("/proc/{pid}/fdinfo");
        for file in fs::read_dir(&path).with_context(|| format!("cannot list {path}"))? {
            // The file may have been closed since.
            let Ok(info) = fs::read_to_string(file?.path()) else { continue };
            for line in info.lines() {
                let Some((name, value)) = line.split_once(':') else { continue };
                let Ok(id) = value.trim().parse() else { continue };
                match name {
                    "prog_id" => objects.programs.insert(id),
                    "map_id" => objects.maps.insert(id),
                    _ => false,
                };
            }
        }
        Ok(objects)
    }

    /// Waits until the kernel has freed all of them.
    pub(crate) fn await_freed(&self) -> Result<()> {
        wait_until_within(TIMEOUT, INTERVAL, || {
            let left = self.remaining();
            Ok((!left.is_empty()).then(|| format!("still in the kernel: {left:?}")))
        })
    }

    /// Names the objects that the kernel still has.
    pub(crate) fn remaining(&self) -> Vec<String> {
        let mut names = Vec::new();
        for program in aya::programs::loaded_programs() {
            // A program that is freed during the iteration yields an error.
            let Ok(program) = program else { continue };
            if self.programs.contains(&program.id()) {
                names.push(format!("program {}", program.name_as_str().unwrap_or_default()));
            }
        }
        for map in aya::maps::loaded_maps() {
            let Ok(map) = map else { continue };
            if self.maps.contains(&map.id()) {
                names.push(format!("map {}", map.name_as_str().unwrap_or_default()));
            }
        }
        names
    }
}
