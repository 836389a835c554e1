//! Programs and maps of the kernel, listed by `bpftool`.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::bpf_objects::BpfObjects;
use super::{program, wait_until};

/// Names the loaded programs that have these IDs.
pub(crate) fn programs(ids: &BTreeSet<u32>) -> Result<Vec<String>> {
    let all = list(&["prog", "list"])?;
    let named = all.iter().filter(|program| id(program).is_some_and(|id| ids.contains(&id)));
    Ok(named.map(|program| program["name"].as_str().unwrap_or("?").to_owned()).collect())
}

/// Counts the entries of the map with this name among a process's objects.
pub(crate) fn entries(name: &str, objects: &BpfObjects) -> Result<usize> {
    Ok(dump(name, objects)?.len())
}

/// The entries of the map with this name among a process's objects.
fn dump(name: &str, objects: &BpfObjects) -> Result<Vec<Value>> {
    let all = list(&["map", "list"])?;
    let found = all
        .iter()
        .find(|map| map["name"] == name && id(map).is_some_and(|id| objects.maps.contains(&id)));
    let found = found.and_then(id).with_context(|| format!("the process holds no map {name}"))?;
    list(&["map", "dump", "id", &found.to_string()])
}

/// Waits until the agent's per-task maps are empty, and its counts of tasks that wait are 0.
pub(crate) fn await_empty_task_maps(objects: &BpfObjects) -> Result<()> {
    for map in ["WAITERS", "FAULTS"] {
        wait_until(|| {
            let left = entries(map, objects)?;
            Ok((left > 0).then(|| format!("{left} entries in {map}")))
        })?;
    }
    let places = dump("WAITERS_AT", objects)?;
    let bytes: Vec<_> =
        places.iter().filter_map(|place| place["value"].as_array()).flatten().collect();
    ensure!(bytes.len() == 8 * 1024, "WAITERS_AT has {} bytes: {places:?}", bytes.len());
    ensure!(bytes.iter().all(|byte| *byte == "0x00"), "no task waits: {places:?}");
    Ok(())
}

fn id(object: &Value) -> Option<u32> {
    object["id"].as_u64()?.try_into().ok()
}

fn list(arguments: &[&str]) -> Result<Vec<Value>> {
    let text = program::run("bpftool", &[&["--json"], arguments].concat())?;
    serde_json::from_str(&text).with_context(|| format!("bpftool did not print a list: {text}"))
}
