//! Programs and maps of the kernel as `bpftool` shows them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::loaded::Loaded;
use super::{eventually, program};

/// Names of the programs that are loaded, among those with these ids.
pub fn programs(ids: &BTreeSet<u32>) -> Result<Vec<String>> {
    let all = list(&["prog", "list"])?;
    let named = all.iter().filter(|program| id(program).is_some_and(|id| ids.contains(&id)));
    Ok(named.map(|program| program["name"].as_str().unwrap_or("?").to_owned()).collect())
}

/// How many entries the map of that name has, among those that a process holds.
pub fn entries(name: &str, held: &Loaded) -> Result<usize> {
    let all = list(&["map", "list"])?;
    let found = all
        .iter()
        .find(|map| map["name"] == name && id(map).is_some_and(|id| held.maps.contains(&id)));
    let found = found.and_then(id).with_context(|| format!("no map {name} is held"))?;
    Ok(list(&["map", "dump", "id", &found.to_string()])?.len())
}

/// Waits until no task has anything left in the maps that an agent keeps for tasks.
pub fn await_no_task(held: &Loaded) -> Result<()> {
    for map in ["WAITERS", "FAULTS"] {
        eventually(|| {
            let left = entries(map, held)?;
            Ok((left > 0).then(|| format!("{left} entries in {map}")))
        })?;
    }
    Ok(())
}

fn id(object: &Value) -> Option<u32> {
    object["id"].as_u64()?.try_into().ok()
}

fn list(arguments: &[&str]) -> Result<Vec<Value>> {
    let text = program::run("bpftool", &[&["--json"], arguments].concat())?;
    serde_json::from_str(&text).with_context(|| format!("bpftool prints no list: {text}"))
}
