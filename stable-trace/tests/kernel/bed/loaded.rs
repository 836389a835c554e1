//! What an agent has in the kernel, by the kernel's own account.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// How long the kernel may take to free what nobody holds any more: it waits for a grace period of
/// RCU, which a busy machine draws out.
const FREED: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// The programs and maps that one process holds.
#[derive(Debug)]
pub struct Loaded {
    /// Ids of programs.
    pub programs: BTreeSet<u32>,
    /// Ids of maps.
    pub maps: BTreeSet<u32>,
}

impl Loaded {
    /// Those of a process, by its open files.
    pub fn by(pid: u32) -> Result<Self> {
        let mut loaded = Self { programs: BTreeSet::new(), maps: BTreeSet::new() };
        let path = format!("/proc/{pid}/fdinfo");
        for file in fs::read_dir(&path).with_context(|| format!("cannot list {path}"))? {
            // It may have been closed since.
            let Ok(info) = fs::read_to_string(file?.path()) else { continue };
            for line in info.lines() {
                let Some((name, value)) = line.split_once(':') else { continue };
                let Ok(id) = value.trim().parse() else { continue };
                match name {
                    "prog_id" => loaded.programs.insert(id),
                    "map_id" => loaded.maps.insert(id),
                    _ => false,
                };
            }
        }
        Ok(loaded)
    }

    /// Waits until the kernel has freed all of them; an error if it does not.
    pub fn await_freed(&self) -> Result<()> {
        let deadline = Instant::now() + FREED;
        loop {
            let left = self.still_there();
            if left.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "still in the kernel: {left:?}");
            thread::sleep(LOOK);
        }
    }

    /// The names of those that are there.
    pub fn still_there(&self) -> Vec<String> {
        let mut names = Vec::new();
        for program in aya::programs::loaded_programs() {
            // One that goes while the list is read is an error of the list.
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
