//! What the plan is made from. Plain values, so that the plan can be tested without a kernel.

use std::{ops::Range, path::Path};

use crate::kernel::{
    symbols::Symbols,
    tracepoint::{Format, WAIT_SYSTEM},
};

/// Where the fields of the wait tracepoint stand in its record, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitRecord {
    /// Name of the backing device: 32 bytes.
    pub name_at: u32,
    /// Inode: 8 bytes.
    pub ino_at: u32,
    /// Page index: 8 bytes.
    pub index_at: u32,
}

/// What this kernel has of what the probes need. An `Err` is the reason, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The wait tracepoint's name and record.
    pub wait_tracepoint: Result<(String, WaitRecord), String>,
    /// Whether tasks can be followed through `sched:sched_switch`.
    pub sched_switch: Result<(), String>,
    /// The machine code that waits sleep in: one or two functions.
    pub wait_text: Result<Vec<Range<u64>>, String>,
}

/// The functions that a wait for writeback sleeps in; a kernel has those of one line.
/// mm/page-writeback.c, 5.16 to 7.3, and 5.10 to 5.15.
const WAIT_FUNCTIONS: [[&str; 2]; 2] = [
    ["folio_wait_writeback", "folio_wait_writeback_killable"],
    ["wait_on_page_writeback", "wait_on_page_writeback_killable"],
];

/// Bytes that the field `name` must have, so that the programs may copy that many.
const NAME_BYTES: u32 = 32;

impl Facts {
    /// Looks at the running kernel, below the root of its tracefs.
    #[must_use]
    pub fn gather(tracefs: &Path, symbols: &Symbols) -> Self {
        let wait_tracepoint =
            Format::read_wait(tracefs).map_err(|error| error.to_string()).and_then(wait_record);
        let sched_switch = Format::read(tracefs, "sched", "sched_switch")
            .map(drop)
            .map_err(|error| error.to_string());
        Self { wait_tracepoint, sched_switch, wait_text: wait_text(symbols) }
    }
}

/// Finds the fields, and makes sure that they have the sizes that the programs read.
fn wait_record(format: Format) -> Result<(String, WaitRecord), String> {
    let at = |field: &str, bytes: u32| {
        let field = format.require(field).map_err(|error| error.to_string())?;
        if field.size == bytes {
            Ok(field.offset)
        } else {
            let name = &field.name;
            Err(format!(
                "field `{name}` of {WAIT_SYSTEM}:{} has {} bytes on this kernel, not {bytes}",
                format.name, field.size
            ))
        }
    };
    let record = WaitRecord {
        name_at: at("name", NAME_BYTES)?,
        ino_at: at("ino", 8)?,
        index_at: at("index", 8)?,
    };
    Ok((format.name, record))
}

/// Finds the machine code of the functions that wait.
fn wait_text(symbols: &Symbols) -> Result<Vec<Range<u64>>, String> {
    WAIT_FUNCTIONS
        .iter()
        .find(|[sink, _]| symbols.contains(sink))
        .map(|functions| functions.iter().filter_map(|name| symbols.range(name)).collect())
        .ok_or_else(|| {
            let [[newer, _], [older, _]] = WAIT_FUNCTIONS;
            format!("this kernel has neither {newer} nor {older} in /proc/kallsyms")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIX: &str = "ffffffff81000010 T folio_wait_writeback\n\
        ffffffff81000090 T folio_wait_writeback_killable\n\
        ffffffff81000120 T wait_on_page_writeback\n\
        ffffffff81000140 T something_else\n";

    #[test]
    fn the_folio_functions_win_over_their_page_wrapper() {
        let symbols = Symbols::parse(SIX.as_bytes()).unwrap();
        let text = wait_text(&symbols).unwrap();
        assert_eq!(
            text,
            [
                0xffff_ffff_8100_0010..0xffff_ffff_8100_0090,
                0xffff_ffff_8100_0090..0xffff_ffff_8100_0120
            ]
        );
    }

    #[test]
    fn the_page_function_alone_is_enough() {
        let symbols = Symbols::parse(SIX.lines().skip(2).collect::<Vec<_>>().join("\n").as_bytes());
        let text = wait_text(&symbols.unwrap()).unwrap();
        assert_eq!(text, [0xffff_ffff_8100_0120..0xffff_ffff_8100_0140]);
    }

    #[test]
    fn a_kernel_without_them_says_so() {
        let symbols = Symbols::parse(&b"ffffffff81000140 T something_else\n"[..]).unwrap();
        assert!(wait_text(&symbols).unwrap_err().contains("folio_wait_writeback"));
    }
}
