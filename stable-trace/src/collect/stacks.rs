//! Reads the map of kernel stacks.

use aya::maps::{HashMap as KernelMap, MapData};
use stable_trace_common::stack::Stack;

use super::map_fill::MapFill;

/// The map `STACKS`: each distinct stack of a wait, by its ID.
pub struct StackMap(KernelMap<MapData, u64, Stack>);

impl StackMap {
    pub const fn new(map: KernelMap<MapData, u64, Stack>) -> Self {
        Self(map)
    }

    pub fn get(&self, id: u64) -> Option<Stack> {
        self.0.get(&id, 0).ok()
    }

    pub fn fill(&self) -> Option<MapFill> {
        MapFill::count("STACKS", &self.0, self.0.keys())
    }
}
