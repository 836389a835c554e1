//! The kernel's functions and their addresses: `/proc/kallsyms`.
//!
//! Some 60,000 to 150,000 functions stay in memory while the agent runs, so a symbol takes its name
//! and 16 bytes, and no allocation of its own.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    ops::Range,
};

const KALLSYMS: &str = "/proc/kallsyms";

/// An address further than this from the last symbol before it is in no function, but in the gap
/// between the kernel and its modules, or in a module's data.
const MAX_FUNCTION_BYTES: u64 = 1 << 20;

/// Prefixes of symbols for the padding before a function: half of all symbols in kernels with them
/// (`__pfx_` comes from objtool, from 6.2 on, `__cfi_` from clang).
const PADDING: [&str; 2] = ["__pfx_", "__cfi_"];

/// Why the symbols are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SymbolsError {
    /// The file cannot be read.
    #[error("cannot read {KALLSYMS} (it needs a kernel with CONFIG_KALLSYMS, and /proc mounted)")]
    Read(#[source] io::Error),
    /// The file contains no function.
    #[error("{KALLSYMS} contains no function; use a kernel with CONFIG_KALLSYMS")]
    Empty,
    /// The kernel hides all addresses from this process.
    #[error(
        "{KALLSYMS} shows no addresses; run as root, or give CAP_SYSLOG and set \
         kernel.kptr_restrict to 0 or 1"
    )]
    Hidden,
}

/// One function, in 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    name: u32,
    length: u16,
    /// 0 for the kernel itself, else 1 + the index in [`Symbols::modules`].
    module: u16,
}

/// The text symbols of the kernel and its modules.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    /// All names, concatenated.
    names: Vec<u8>,
    /// Sorted by address; symbols of one address are in the kernel's order.
    entries: Vec<Entry>,
    modules: Vec<Box<str>>,
    /// The addresses of [`VARIABLES`]; 0 for one that the kernel does not list (`CONFIG_KALLSYMS_ALL`).
    variables: [u64; VARIABLES.len()],
}

/// Variables of the kernel itself whose addresses the programs need: `struct swap_info_struct *swap_info[]`
/// (mm/swapfile.c), `page_offset_base` and `vmemmap_base` (arch/x86/mm/kaslr.c).
const VARIABLES: [&str; 3] = ["swap_info", "page_offset_base", "vmemmap_base"];

/// The function at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved<'a> {
    /// The symbol, with any suffix of the compiler.
    pub(crate) name: &'a str,
    /// The module; `None` for the kernel itself.
    pub(crate) module: Option<&'a str>,
    /// Bytes from the function's start.
    pub(crate) offset: u64,
}

impl Symbols {
    /// Reads the running kernel's symbols.
    pub(crate) fn load() -> Result<Self, SymbolsError> {
        // read(2) returns at most a page of lines, whatever the buffer size.
        let file = File::open(KALLSYMS).map_err(SymbolsError::Read)?;
        let symbols =
            Self::parse(BufReader::with_capacity(16 << 10, file)).map_err(SymbolsError::Read)?;
        if symbols.entries.is_empty() { Err(SymbolsError::Empty) } else { Ok(symbols) }
    }

    /// Fails if only the names are known. Without privileges, or with `kernel.kptr_restrict` at 2, the kernel shows every
    /// address as zero (`kallsyms_show_value`, `kernel/ksyms_common.c`, 6.12).
    pub(crate) fn check_addresses(&self) -> Result<(), SymbolsError> {
        // The highest one.
        match self.entries.last() {
            Some(last) if last.address == 0 => Err(SymbolsError::Hidden),
            _ => Ok(()),
        }
    }

    /// Parses the functions (`t`, `T`, `w`, `W`) of `/proc/kallsyms`: `address type name`, and a tab
    /// and `[module]` for those of modules. Other lines are skipped, and so is the padding before
    /// functions.
    pub(crate) fn parse(mut text: impl BufRead) -> io::Result<Self> {
        let mut symbols = Self::default();
        let mut line = Vec::with_capacity(1024);
        loop {
            line.clear();
            if text.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if let Some((address, name, module)) = parse_line(&line) {
                symbols.push(address, name, module);
            } else if let Some((variable, address)) = variable(&line) {
                symbols.variables[variable] = address;
            }
        }
        symbols.names.shrink_to_fit();
        symbols.entries.shrink_to_fit();
        // The kernel's own are sorted, and each module's follow: a stable sort uses these runs.
        symbols.entries.sort_by_key(|entry| entry.address);
        Ok(symbols)
    }

    fn push(&mut self, address: u64, name: &str, module: Option<&str>) {
        // No kernel has 4 GiB of names, a name of 64 KiB, or 65,535 modules.
        let (Ok(start), Ok(length), Some(module)) = (
            u32::try_from(self.names.len()),
            u16::try_from(name.len()),
            module.map_or(Some(0), |module| self.module_id(module)),
        ) else {
            return;
        };
        self.names.extend_from_slice(name.as_bytes());
        self.entries.push(Entry { address, name: start, length, module });
    }

    fn module_id(&mut self, module: &str) -> Option<u16> {
        // A module's symbols are adjacent, so the search nearly always ends at the last module.
        let known = self.modules.iter().rposition(|known| &**known == module);
        let index = known.unwrap_or(self.modules.len());
        let id = u16::try_from(index).ok()?.checked_add(1)?;
        if known.is_none() {
            self.modules.push(module.into());
        }
        Some(id)
    }

    pub(crate) fn resolve(&self, address: u64) -> Option<Resolved<'_>> {
        let after = self.entries.partition_point(|entry| entry.address <= address);
        let start = self.entries.get(after.checked_sub(1)?)?.address;
        // Of several names for one address the first counts, as in the kernel (`get_symbol_pos`,
        // kernel/kallsyms.c, 6.12).
        let first = self.entries[..after].partition_point(|entry| entry.address < start);
        let entry = self.entries.get(first)?;
        let offset = address - start;
        (offset < MAX_FUNCTION_BYTES).then(|| Resolved {
            name: self.name(entry),
            module: self.module(entry),
            offset,
        })
    }

    /// The addresses from a function's start to the next function's. Of several functions with this
    /// name the kernel's own wins over a module's, and a lower address over a higher.
    /// `None` also if the kernel hides addresses.
    pub(crate) fn range(&self, name: &str) -> Option<Range<u64>> {
        self.check_addresses().ok()?;
        let mut found = self.named(name);
        // By address, so the first is the lowest.
        let first = found.next()?;
        let entry = if first.module == 0 {
            first
        } else {
            found.find(|other| other.module == 0).unwrap_or(first)
        };
        let next = self.entries.partition_point(|other| other.address <= entry.address);
        let limit = entry.address.saturating_add(MAX_FUNCTION_BYTES);
        let end = self.entries.get(next).map_or(limit, |entry| entry.address.min(limit));
        Some(entry.address..end)
    }

    /// The address of one of [`VARIABLES`]; 0 if it is not known.
    pub(crate) fn variable(&self, name: &str) -> u64 {
        let place = VARIABLES.iter().position(|variable| *variable == name);
        place.map_or(0, |place| self.variables[place])
    }

    /// Whether a function has exactly this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// The symbols of the source function `stem`, each with its module: the plain name, and with
    /// suffixes of the compiler such as `.isra.0`, `.constprop.0` and `.part.0`.
    pub(crate) fn matching<'a>(
        &'a self,
        stem: &'a str,
    ) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.entries.iter().filter_map(move |entry| {
            let suffix = self.name_bytes(entry).strip_prefix(stem.as_bytes())?;
            // The cold part of a function has no entry to probe.
            let of_stem = match suffix {
                [] => true,
                [b'.', parts @ ..] => {
                    !parts.split(|byte| *byte == b'.').any(|part| part == b"cold")
                }
                _ => false,
            };
            of_stem.then(|| (self.name(entry), self.module(entry)))
        })
    }

    /// The number of functions.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Heap memory in bytes.
    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        self.names.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Walks over all functions. An index would cost as much as the few look-ups together.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Entry> {
        let (name, last) = (name.as_bytes(), name.as_bytes().last());
        self.entries.iter().filter(move |entry| {
            // Many names begin alike; comparing the last byte first rejects most of them.
            let ours = self.name_bytes(entry);
            ours.len() == name.len() && ours.last() == last && ours == name
        })
    }

    fn name(&self, entry: &Entry) -> &str {
        // `push` stores only text.
        std::str::from_utf8(self.name_bytes(entry)).unwrap_or_default()
    }

    fn name_bytes(&self, entry: &Entry) -> &[u8] {
        let start = entry.name as usize;
        self.names.get(start..start + usize::from(entry.length)).unwrap_or_default()
    }

    fn module(&self, entry: &Entry) -> Option<&str> {
        let index = usize::from(entry.module).checked_sub(1)?;
        self.modules.get(index).map(|module| &**module)
    }
}

/// Parses a line into address, name and module; `None` if it is no function.
fn parse_line(line: &[u8]) -> Option<(u64, &str, Option<&str>)> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let [b' ', b't' | b'T' | b'w' | b'W', b' ', rest @ ..] = line.get(space..)? else {
        return None;
    };
    let address = parse_hexadecimal(&line[..space])?;
    let rest = std::str::from_utf8(rest).ok()?.trim_end();
    let (name, module) = match rest.split_once(['\t', ' ']) {
        None => (rest, None),
        Some((name, module)) => {
            (name, Some(module.trim_start().strip_prefix('[')?.strip_suffix(']')?))
        }
    };
    let padding = PADDING.iter().any(|prefix| name.starts_with(prefix));
    (!name.is_empty() && !padding).then_some((address, name, module))
}

/// Which of [`VARIABLES`] a line is of, and its address. A variable of a module has more behind its name.
fn variable(line: &[u8]) -> Option<(usize, u64)> {
    let line = line.trim_ascii_end();
    let place = VARIABLES.iter().position(|name| {
        line.strip_suffix(name.as_bytes()).is_some_and(|before| before.ends_with(b" "))
    })?;
    // The type is one letter, such as `b`, `D` or `R`.
    let address = line.strip_suffix(VARIABLES[place].as_bytes())?;
    Some((place, parse_hexadecimal(address.split_last_chunk::<3>()?.0)?))
}

fn parse_hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |value: u64, digit| {
        Some(value << 4 | u64::from(char::from(*digit).to_digit(16)?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 t prepare_pages.constprop.0
ffffffff81000140 t prepare_pages.cold
ffffffff810001f0 t __pfx_folio_wait_writeback
ffffffff81000200 T folio_wait_writeback
ffffffff81000300 D jiffies
ffffffff81000400 W weak_one
ffffffffc0002000 t ext4_page_mkwrite\t[ext4]
ffffffffc0001000 t init_module\t[xfs]
ffffffffc0001080 t folio_wait_writeback\t[xfs]
not a symbol
ffffffffzzzzzzzz T nor_this
ffffffffc0003000 t last\t[ext4]
";

    fn symbols() -> Symbols {
        Symbols::parse(TEXT).unwrap()
    }

    #[test]
    fn an_address_resolves_to_the_function_around_it() {
        let symbols = symbols();
        let found = |address| symbols.resolve(address);
        let expect = |name, module, offset| Some(Resolved { name, module, offset });
        assert_eq!(found(0xffff_ffff_8100_0234), expect("folio_wait_writeback", None, 0x34));
        assert_eq!(found(0xffff_ffff_c000_2001), expect("ext4_page_mkwrite", Some("ext4"), 1));
        assert_eq!(found(0xffff_ffff_8100_0000), expect("_stext", None, 0), "the first alias");
        assert_eq!(found(0x1000), None);
        assert_eq!(found(0xffff_ffff_9000_0000), None, "between the kernel and its modules");
    }

    #[test]
    fn a_range_ends_at_the_next_function() {
        let symbols = symbols();
        assert_eq!(
            symbols.range("folio_wait_writeback"),
            Some(0xffff_ffff_8100_0200..0xffff_ffff_8100_0400),
            "the kernel's own wins over a module's"
        );
        assert_eq!(symbols.range("_text"), Some(0xffff_ffff_8100_0000..0xffff_ffff_8100_0100));
        let last = symbols.range("last").unwrap();
        assert_eq!(last.end - last.start, MAX_FUNCTION_BYTES);
        assert_eq!(symbols.range("jiffies"), None, "not a function");
    }

    #[test]
    fn symbols_with_compiler_suffixes_are_found_by_the_source_name() {
        let symbols = symbols();
        let found: Vec<_> = symbols.matching("prepare_pages").collect();
        assert_eq!(found, [("prepare_pages.constprop.0", None)]);
        assert!(!symbols.contains("prepare_pages"));
        assert_eq!(symbols.matching("folio_wait").count(), 0);
        let modules: Vec<_> =
            symbols.matching("folio_wait_writeback").map(|(_, module)| module).collect();
        assert_eq!(modules, [None, Some("xfs")]);
    }

    #[test]
    fn names_are_known_where_addresses_are_hidden() {
        let text = &b"0000000000000000 T folio_wait_writeback\n0000000000000000 t nvme_error_status\t[nvme_core]\n"[..];
        let symbols = Symbols::parse(text).unwrap();
        assert!(matches!(symbols.check_addresses(), Err(SymbolsError::Hidden)));
        assert!(symbols.contains("folio_wait_writeback"));
        assert_eq!(symbols.range("folio_wait_writeback"), None);
        assert_eq!(symbols.resolve(0xffff_ffff_8100_0000), None);
    }

    #[test]
    fn symbols_of_the_running_kernel_are_read() {
        let began = std::time::Instant::now();
        match Symbols::load().and_then(|symbols| symbols.check_addresses().map(|()| symbols)) {
            Ok(symbols) => {
                eprintln!(
                    "{} functions, {} KiB, {:?}",
                    symbols.len(),
                    symbols.heap_bytes() >> 10,
                    began.elapsed()
                );
                let range = symbols.range("schedule").unwrap();
                assert_eq!(symbols.resolve(range.end - 1).unwrap().name, "schedule");
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    }

    proptest! {
        #[test]
        fn parsing_accepts_any_bytes(bytes: Vec<u8>, address: u64) {
            let symbols = Symbols::parse(bytes.as_slice()).unwrap();
            let _ = symbols.resolve(address);
        }

        #[test]
        fn parsing_accepts_malformed_lines(line in "[0-9a-f]{0,18} [tTdw] [a-z.]{0,9}[\t ]?\\[?[a-z]{0,3}\\]?\n") {
            let symbols = Symbols::parse(line.as_bytes()).unwrap();
            let shown = symbols.check_addresses().is_ok();
            for entry in &symbols.entries {
                prop_assert_eq!(symbols.range(symbols.name(entry)).is_some(), shown);
            }
        }
    }
}
