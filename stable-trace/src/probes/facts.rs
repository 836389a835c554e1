//! What a kernel offers of what the probes need, as plain values. Saved facts are the input of the
//! plan's tests.

use std::{collections::BTreeMap, ops::Range, path::Path};

use serde::{Deserialize, Serialize};
use stable_trace_analysis::event::Preemption;

use super::table;
use crate::kernel::{
    btf::{Btf, Member},
    feature_probe::AttachMethods,
    preemption,
    release::{Release, System},
    symbols::Symbols,
    tracepoint::{Format, WAIT_SYSTEM, WAIT_TRACEPOINTS},
};

/// A function of this kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// The symbol, with any suffix of the compiler.
    pub symbol: String,
    /// The module; `None` for the kernel itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Names of the parameters, if BTF has the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Vec<String>>,
    /// ID of its type in the BTF of the running kernel, which saved facts do not have.
    #[serde(skip)]
    pub(crate) type_id: Option<u32>,
}

/// A field of a tracepoint's record: offset and size in bytes.
pub type FieldLayout = (u32, u32);

/// The facts of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// Whether the kernel preempts tasks that run in the kernel.
    #[serde(default)]
    pub preemption: Preemption,
    /// Functions, by their name in the source.
    pub functions: BTreeMap<String, Function>,
    /// Offsets of members in bytes, by `struct.member`; empty without BTF.
    pub members: BTreeMap<String, u32>,
    /// Offsets of bit fields of one bit, in bits from the start of the structure, by `struct.member`;
    /// empty without BTF.
    #[serde(default)]
    pub bit_fields: BTreeMap<String, u32>,
    /// Values of enumerators; empty without BTF.
    pub constants: BTreeMap<String, i64>,
    /// Sizes of structures in bytes; empty without BTF.
    #[serde(default)]
    pub sizes: BTreeMap<String, u32>,
    /// Record layouts of tracepoints by `system:name`, with the fields that are read.
    pub tracepoints: BTreeMap<String, BTreeMap<String, FieldLayout>>,
    /// Methods that do not work, each with the reason as users read it. `btf` and `addresses` count as methods:
    /// without BTF no structure can be read, and without the addresses of functions no stack.
    pub refused: BTreeMap<String, String>,
}

/// Addresses that the programs need. They differ from boot to boot, so they are not in [`Facts`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The machine code of the functions that waits sleep in.
    pub(crate) wait_text: Vec<Range<u64>>,
    /// The table of swap areas; 0 if it is not known.
    pub(crate) swap_info: u64,
    /// The variables that tell where memory and its `struct page`s are mapped; 0 if they are not known.
    pub(crate) memory: [u64; 2],
    /// The function that wakes a task that waits for a folio; 0 if it is not known.
    pub(crate) wake_page: u64,
}

/// The tracepoints that are used, and the fields that are read.
const TRACEPOINT_FIELDS: [(&str, &[&str]); 5] = [
    ("writeback:folio_wait_writeback", &["name", "ino", "index"]),
    ("writeback:wait_on_page_writeback", &["name", "ino", "index"]),
    ("sched:sched_switch", &[]),
    ("block:block_rq_complete", &[]),
    ("block:block_bio_complete", &[]),
];

impl Facts {
    /// Gathers the facts of the running kernel. `tracefs` is the root of tracefs, `btf` the kernel's
    /// BTF or the reason why there is none; `module_btf` reads the BTF of a module.
    pub(crate) fn gather(
        tracefs: &Path,
        symbols: &Symbols,
        btf: &Result<Btf<'_>, String>,
        module_btf: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Self {
        let mut refused = BTreeMap::new();
        let types = btf.as_ref().ok();
        if let Err(reason) = btf {
            refused.insert("btf".to_owned(), reason.clone());
        }
        if let Err(error) = symbols.check_addresses() {
            refused.insert("addresses".to_owned(), error.to_string());
        }
        let mut members = members(types);
        members.extend(module_members(types, module_btf));
        let AttachMethods { fentry, kprobe, tracepoint, raw_tracepoint } =
            AttachMethods::probe(types);
        for (method, tried) in [
            ("fentry", fentry),
            ("kprobe", kprobe),
            ("tracepoint", tracepoint),
            ("raw_tracepoint", raw_tracepoint),
        ] {
            if let Err(refusal) = tried {
                refused.insert(method.to_owned(), refusal.reason);
            }
        }
        Self {
            release: System::read().release,
            preemption: preemption::read(),
            functions: functions(symbols, types),
            members,
            bit_fields: bit_fields(types),
            constants: constants(types),
            sizes: sizes(types),
            tracepoints: tracepoints(tracefs),
            refused,
        }
    }

    /// Whether a program at a trampoline can be preempted, so that the kernel skips it for other tasks
    /// meanwhile. If the preemption model is not known, it can.
    pub fn preempts_programs(&self) -> bool {
        match self.preemption {
            Preemption::Voluntary => false,
            Preemption::Full => true,
            // Trampolines ran with preemption off up to 5.11 (`migrate_disable` in
            // `__bpf_prog_enter`, kernel/bpf/trampoline.c, 5.12).
            Preemption::Unknown => self.skips_programs(),
        }
    }

    /// Whether the kernel skips a program at a trampoline that would interrupt itself (`__bpf_prog_enter`,
    /// kernel/bpf/trampoline.c, 5.12).
    pub fn skips_programs(&self) -> bool {
        Release::parse(&self.release).is_none_or(|release| release >= Release::new(5, 12))
    }

    /// The IDs of the functions' types.
    pub(crate) fn type_ids(&self) -> BTreeMap<&str, u32> {
        let ids = self.functions.iter();
        ids.filter_map(|(name, function)| Some((name.as_str(), function.type_id?))).collect()
    }

    /// Forgets the IDs of types, which are those of a file and not those of the running kernel.
    pub(crate) fn forget_type_ids(&mut self) {
        for function in self.functions.values_mut() {
            function.type_id = None;
        }
    }

    /// The name of this kernel's wait tracepoint.
    pub fn wait_tracepoint(&self) -> Option<&'static str> {
        WAIT_TRACEPOINTS
            .into_iter()
            .find(|name| self.tracepoints.contains_key(&format!("{WAIT_SYSTEM}:{name}")))
    }
}

/// Finds the addresses that the programs need.
pub(crate) fn addresses(symbols: &Symbols) -> Addresses {
    Addresses {
        wait_text: wait_text(symbols),
        swap_info: symbols.variable("swap_info"),
        memory: ["page_offset_base", "vmemmap_base"].map(|name| symbols.variable(name)),
        wake_page: symbols.range("wake_page_function").map_or(0, |text| text.start),
    }
}

/// Finds the one or two functions that waits sleep in.
fn wait_text(symbols: &Symbols) -> Vec<Range<u64>> {
    let functions = table::WAIT_FUNCTIONS.iter().find(|[sink, _]| symbols.contains(sink));
    functions.into_iter().flatten().filter_map(|name| symbols.range(name)).collect()
}

fn functions(symbols: &Symbols, btf: Option<&Btf<'_>>) -> BTreeMap<String, Function> {
    let found = table::functions().filter_map(|name| {
        // The kernel's own wins over a module's, the plain name over a name with a suffix.
        let (symbol, module) = symbols
            .matching(name)
            .min_by_key(|(symbol, module)| (module.is_some(), symbol.len()))?;
        let typed = btf.and_then(|btf| btf.function(name));
        let function = Function {
            symbol: symbol.to_owned(),
            module: module.map(str::to_owned),
            type_id: typed.as_ref().map(|function| function.id),
            parameters: typed.map(|function| {
                function.parameters.into_iter().map(|parameter| parameter.name).collect()
            }),
        };
        Some((name.to_owned(), function))
    });
    found.collect()
}

fn members(btf: Option<&Btf<'_>>) -> BTreeMap<String, u32> {
    let found =
        table::members().filter_map(|name| Some((name.to_owned(), member(btf?, name)?.offset)));
    found.collect()
}

/// Members of types that only a module's BTF has.
fn module_members(
    btf: Option<&Btf<'_>>,
    module_btf: impl Fn(&str) -> Option<Vec<u8>>,
) -> BTreeMap<String, u32> {
    let found = table::module_members().filter_map(|(module, name)| {
        let btf = btf?;
        let found = member(btf, name).or_else(|| {
            let bytes = module_btf(module)?;
            member(&Btf::parse_split(btf, &bytes).ok()?, name)
        });
        Some((name.to_owned(), found?.offset))
    });
    found.collect()
}

fn bit_fields(btf: Option<&Btf<'_>>) -> BTreeMap<String, u32> {
    let found = table::bit_fields().filter_map(|name| {
        let member = member(btf?, name)?;
        let bits = member.bits.filter(|bits| bits.width == 1)?;
        Some((name.to_owned(), member.offset.checked_mul(8)?.checked_add(bits.shift)?))
    });
    found.collect()
}

/// Finds a member by `struct.member`.
fn member(btf: &Btf<'_>, name: &str) -> Option<Member> {
    let (structure, member) = name.split_once('.')?;
    btf.member(structure, member)
}

fn constants(btf: Option<&Btf<'_>>) -> BTreeMap<String, i64> {
    let found =
        table::constants().filter_map(|name| Some((name.to_owned(), btf?.enum_value(None, name)?)));
    found.collect()
}

fn sizes(btf: Option<&Btf<'_>>) -> BTreeMap<String, u32> {
    let found = table::structures().filter_map(|name| Some((name.to_owned(), btf?.size_of(name)?)));
    found.collect()
}

fn tracepoints(tracefs: &Path) -> BTreeMap<String, BTreeMap<String, FieldLayout>> {
    let found = TRACEPOINT_FIELDS.iter().filter_map(|(tracepoint, fields)| {
        let (system, name) = tracepoint.split_once(':')?;
        let format = Format::read(tracefs, system, name).ok()?;
        let layouts = fields.iter().filter_map(|field| {
            let found = format.field(field)?;
            Some(((*field).to_owned(), (found.offset, found.size)))
        });
        Some(((*tracepoint).to_owned(), layouts.collect()))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIX: &str = "ffffffff81000010 T folio_wait_writeback\n\
        ffffffff81000090 T folio_wait_writeback_killable\n\
        ffffffff81000120 T wait_on_page_writeback\n\
        ffffffff81000140 t do_page_mkwrite\n\
        ffffffff81000150 T something_else\n\
        ffffffffc0000000 t btrfs_dirty_pages.isra.0\t[btrfs]\n";

    #[test]
    fn the_folio_functions_win_over_the_page_wrapper() {
        let symbols = Symbols::parse(SIX.as_bytes()).unwrap();
        let text = [
            0xffff_ffff_8100_0010..0xffff_ffff_8100_0090,
            0xffff_ffff_8100_0090..0xffff_ffff_8100_0120,
        ];
        assert_eq!(wait_text(&symbols), text);
    }

    #[test]
    fn the_page_function_is_used_without_folio_functions() {
        let five = SIX.lines().skip(2).collect::<Vec<_>>().join("\n");
        let symbols = Symbols::parse(five.as_bytes()).unwrap();
        let only = wait_text(&symbols).pop();
        assert_eq!(only, Some(0xffff_ffff_8100_0120..0xffff_ffff_8100_0140));
        let symbols = Symbols::parse(&b"ffffffff81000140 T something_else\n"[..]).unwrap();
        assert!(wait_text(&symbols).is_empty());
    }

    #[test]
    fn a_function_is_found_by_name_and_stored_with_its_symbol() {
        let symbols = Symbols::parse(SIX.as_bytes()).unwrap();
        let found = functions(&symbols, None);
        let btrfs = Function {
            symbol: "btrfs_dirty_pages.isra.0".into(),
            module: Some("btrfs".into()),
            parameters: None,
            type_id: None,
        };
        assert_eq!(found["btrfs_dirty_pages"], btrfs);
        assert_eq!(found["do_page_mkwrite"].module, None);
        assert!(!found.contains_key("generic_write_end"));
    }
}
