//! Stacks by name: each distinct one is read from the kernel and understood once.

use std::{collections::HashMap, rc::Rc};

use stable_trace_analysis::event::Context;
use stable_trace_common::stack::Stack;

use super::context::{Meaning, classify};
use crate::{
    collect::{map_fill::MapFill, stacks::StackMap},
    kernel::{modules, symbols::Symbols},
};

/// What is known of one stack.
#[derive(Debug)]
pub struct Known {
    /// Why its task waits.
    pub meaning: Meaning,
    /// Its functions from the innermost out, as `name+0xoffset [module]`.
    pub frames: Vec<String>,
}

/// The stacks of a run. At most as many as the map `STACKS` holds: 4,096.
pub struct Stacks {
    symbols: Symbols,
    /// The modules when the symbols were read: others have other symbols.
    modules: u64,
    kernel: StackMap,
    known: HashMap<u64, Rc<Known>>,
    unknown: Rc<Known>,
}

impl Stacks {
    /// Takes the symbols and the map.
    #[must_use]
    pub fn new(symbols: Symbols, kernel: StackMap) -> Self {
        let meaning = Meaning { context: Context::Other, function: None };
        Self {
            symbols,
            modules: modules::fingerprint(),
            kernel,
            known: HashMap::new(),
            unknown: Rc::new(Known { meaning, frames: Vec::new() }),
        }
    }

    /// What the stack of this name means; `other` for 0 and for a name that the kernel does not
    /// have, which it would have counted.
    pub fn get(&mut self, id: u64) -> Rc<Known> {
        if let Some(known) = self.known.get(&id) {
            return Rc::clone(known);
        }
        if id == 0 {
            return Rc::clone(&self.unknown);
        }
        let Some(stack) = self.kernel.get(id) else {
            return Rc::clone(&self.unknown);
        };
        self.follow_modules();
        let known = Rc::new(understand(&self.symbols, &stack));
        self.known.insert(id, Rc::clone(&known));
        known
    }

    /// How full the map `STACKS` is.
    #[must_use]
    pub fn fill(&self) -> Option<MapFill> {
        self.kernel.fill()
    }

    /// Takes newer symbols: those of the modules that are loaded now.
    pub fn renew(&mut self, symbols: Symbols, modules: u64) {
        self.symbols = symbols;
        self.modules = modules;
    }

    /// Reads the symbols again if a module was loaded or removed: a wait in ext4 may well be the
    /// first thing after ext4 was loaded.
    fn follow_modules(&mut self) {
        let now = modules::fingerprint();
        if now == self.modules {
            return;
        }
        match Symbols::load() {
            Ok(symbols) => self.renew(symbols, now),
            Err(error) => log::warn!("functions of new modules have no names: {error}"),
        }
    }
}

/// Names the frames and reads their meaning.
fn understand(symbols: &Symbols, stack: &Stack) -> Known {
    let resolved: Vec<_> = stack
        .frames
        .iter()
        .take_while(|&&address| address != 0)
        // A return address stands behind its call, and may be the next function's start where the
        // call does not return.
        .map(|&address| (address, symbols.resolve(address.saturating_sub(1))))
        .collect();
    let names = resolved.iter().filter_map(|(_, function)| function.map(|function| function.name));
    let meaning = classify(names);
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
    Known { meaning, frames }
}
