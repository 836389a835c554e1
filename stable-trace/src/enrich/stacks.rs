//! Stacks with function names and contexts. Each distinct stack is read and resolved once.

use std::{collections::HashMap, rc::Rc};

use stable_trace_analysis::{error_chain::ErrorChain, event::Context};
use stable_trace_common::stack::Stack;

use super::context::{WaitReason, classify, decisive_frames};
use crate::{
    collect::{map_fill::MapFill, stacks::StackMap},
    kernel::{
        modules,
        symbols::{Resolved, Symbols},
    },
    probes::table::WAIT_FUNCTIONS,
};

/// A resolved stack.
#[derive(Debug)]
pub(crate) struct ResolvedStack {
    /// Why its task waits.
    pub(crate) reason: WaitReason,
    /// The frames from the innermost to the outermost, as `name+0xoffset [module]`.
    pub(crate) frames: Vec<String>,
}

/// The stacks of a run, at most as many as the map `STACKS` holds: 4,096.
pub(crate) struct Stacks {
    symbols: Symbols,
    /// Fingerprint of the modules when the symbols were read.
    modules: u64,
    map: StackMap,
    cache: HashMap<u64, Rc<ResolvedStack>>,
    unknown: Rc<ResolvedStack>,
}

impl Stacks {
    /// Creates the cache for the map `STACKS`.
    pub(crate) fn new(symbols: Symbols, map: StackMap) -> Self {
        let reason = WaitReason { context: Context::Other, function: None };
        Self {
            symbols,
            modules: modules::fingerprint(),
            map,
            cache: HashMap::new(),
            unknown: Rc::new(ResolvedStack { reason, frames: Vec::new() }),
        }
    }

    /// The stack with this ID. Its context is `other` for 0 and for an ID that is not in the map; the
    /// programs count stacks that they could not store.
    pub(crate) fn get(&mut self, id: u64) -> Rc<ResolvedStack> {
        if let Some(stack) = self.cache.get(&id) {
            return Rc::clone(stack);
        }
        if id == 0 {
            return Rc::clone(&self.unknown);
        }
        let Some(stack) = self.map.get(id) else {
            return Rc::clone(&self.unknown);
        };
        self.refresh_symbols();
        let stack = Rc::new(resolve(&self.symbols, &stack));
        self.cache.insert(id, Rc::clone(&stack));
        stack
    }

    /// How many frames of a sampled stack decide why its task waits; `None` if all of them matter.
    pub(crate) fn decisive_frames(&mut self, frames: &[u64]) -> Option<usize> {
        self.refresh_symbols();
        let functions = frames.iter().map(|&address| self.function(address).unwrap_or(""));
        decisive_frames(functions)
    }

    /// How many frames of a sampled stack lead to the function that its task waits in.
    pub(crate) fn frames_to_wait(&self, frames: &[u64]) -> Option<usize> {
        let in_wait = |address: &u64| {
            let name = self.function(*address);
            name.is_some_and(|name| WAIT_FUNCTIONS.as_flattened().contains(&name))
        };
        frames.iter().position(in_wait).map(|at| at + 1)
    }

    /// The functions of a sampled stack, from the innermost out.
    pub(crate) fn names(&self, frames: &[u64]) -> Vec<&str> {
        let frames = frames.iter().take_while(|&&address| address != 0);
        frames.map(|&address| self.function(address).unwrap_or("?")).collect()
    }

    /// The function that a frame returns to.
    fn function(&self, address: u64) -> Option<&str> {
        call(&self.symbols, address).map(|function| function.name)
    }

    /// How full the map `STACKS` is.
    pub(crate) fn fill(&self) -> Option<MapFill> {
        self.map.fill()
    }

    /// Replaces the symbols by those of the modules that are loaded now.
    pub(crate) fn set_symbols(&mut self, symbols: Symbols, modules: u64) {
        self.symbols = symbols;
        self.modules = modules;
    }

    /// Reads the symbols again if a module was loaded or removed: a wait in ext4 can be the first thing
    /// after ext4 was loaded.
    fn refresh_symbols(&mut self) {
        let now = modules::fingerprint();
        if now == self.modules {
            return;
        }
        match Symbols::load() {
            Ok(symbols) => self.set_symbols(symbols, now),
            Err(error) => {
                log::warn!("cannot resolve functions of new modules: {}", ErrorChain(&error));
            }
        }
    }
}

/// The function that made a call with this return address.
fn call(symbols: &Symbols, address: u64) -> Option<Resolved<'_>> {
    // A return address is behind its call. It is the start of the next function if the call does not return.
    symbols.resolve(address.saturating_sub(1))
}

/// Names the frames, and derives the reason of the wait.
fn resolve(symbols: &Symbols, stack: &Stack) -> ResolvedStack {
    let resolved: Vec<_> = stack
        .frames
        .iter()
        .take_while(|&&address| address != 0)
        .map(|&address| (address, call(symbols, address)))
        .collect();
    let names = resolved.iter().filter_map(|(_, function)| function.map(|function| function.name));
    let reason = classify(names);
    let frames = resolved
        .iter()
        .map(|(address, function)| match function {
            Some(function) => {
                let module =
                    function.module.map_or_else(String::new, |module| format!(" [{module}]"));
                format!("{}+{:#x}{module}", function.name, function.offset + 1)
            }
            None => format!("{address:#x}"),
        })
        .collect();
    ResolvedStack { reason, frames }
}
