//! Reading the map of kernel stacks.

use aya::maps::{HashMap as KernelMap, MapData};
use stable_trace_common::stack::Stack;

use super::map_fill::MapFill;

/// The map `STACKS`: each distinct stack of a wait, by its id.
pub struct StackMap(KernelMap<MapData, u64, Stack>);

impl StackMap {
    /// Takes the map.
    #[must_use]
    pub const fn new(map: KernelMap<MapData, u64, Stack>) -> Self {
        Self(map)
    }

    /// The stack with this id, if the kernel has kept it.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Stack> {
        self.0.get(&id, 0).ok()
    }

    /// How full the map is.
    #[must_use]
    pub fn fill(&self) -> Option<MapFill> {
        MapFill::of("STACKS", &self.0, self.0.keys())
    }
}
