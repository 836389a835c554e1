//! Every function that a probe may need, in one place, and every member and constant of
//! [`Offsets::TABLE`]: the plan chooses among them, and the facts of a kernel are gathered for just
//! these.

pub mod integrity;

use stable_trace_common::offsets::{Offsets, Source};

/// The functions that a wait for writeback sleeps in; a kernel has those of one line, by
/// preference. mm/page-writeback.c, 5.16 to 7.3, and 5.10 to 5.15. From 5.16 on the page function
/// is only a wrapper.
pub const WAIT_FUNCTIONS: [[&str; 2]; 2] = [
    ["folio_wait_writeback", "folio_wait_writeback_killable"],
    ["wait_on_page_writeback", "wait_on_page_writeback_killable"],
];

/// The one place that calls every file system's `page_mkwrite`. mm/memory.c, 5.10 to 7.3.
pub const PAGE_MKWRITE: &str = "do_page_mkwrite";

/// A function that gives a written folio back, with the folio still locked and in its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteEnd {
    /// Its name.
    pub function: &'static str,
    /// The module that it is in, unless the kernel itself.
    pub module: Option<&'static str>,
    /// Its programs, by the index of the folio among its arguments: fentry (none for a module's
    /// function, which aya cannot reach) and kprobe.
    pub programs: &'static [(usize, Option<&'static str>, &'static str)],
    /// How its folio is called among its parameters, by preference.
    pub parameters: &'static [&'static str],
    /// Without this kernel type information (5.10 has none for modules): the index that every
    /// kernel that has the function gives it.
    pub always: Option<usize>,
    /// The function that did its work on earlier kernels.
    pub instead_of: Option<&'static str>,
}

/// By group `write_begin`: what ends a buffered write. Prototypes stand beside the programs.
pub const WRITE_ENDS: &[WriteEnd] = &[
    WriteEnd {
        function: "generic_write_end",
        module: None,
        programs: &[(5, Some("generic_write_end_5"), "generic_write_end_5_kprobe")],
        parameters: &["folio", "page"],
        always: None,
        instead_of: None,
    },
    WriteEnd {
        function: "block_write_end",
        module: None,
        programs: &[
            (5, Some("block_write_end_5"), "block_write_end_5_kprobe"),
            (3, Some("block_write_end_3"), "block_write_end_3_kprobe"),
        ],
        parameters: &["folio", "page"],
        always: None,
        instead_of: None,
    },
    WriteEnd {
        function: "iomap_write_end",
        module: None,
        programs: &[
            (4, Some("iomap_write_end_4"), "iomap_write_end_4_kprobe"),
            (3, Some("iomap_write_end_3"), "iomap_write_end_3_kprobe"),
        ],
        parameters: &["folio", "page"],
        always: None,
        instead_of: None,
    },
    // fs/btrfs/file.c, 5.10 to 6.12, and 7.3: the second parameter of both.
    WriteEnd {
        function: "btrfs_dirty_pages",
        module: Some("btrfs"),
        programs: &[(1, None, "btrfs_dirty_pages")],
        parameters: &["pages"],
        always: Some(1),
        instead_of: None,
    },
    WriteEnd {
        function: "btrfs_dirty_folio",
        module: Some("btrfs"),
        programs: &[(1, None, "btrfs_dirty_folio")],
        parameters: &["folio"],
        always: Some(1),
        instead_of: Some("btrfs_dirty_pages"),
    },
];

/// Every function that the plan asks about.
pub fn functions() -> impl Iterator<Item = &'static str> {
    let waits = WAIT_FUNCTIONS.into_iter().flatten();
    waits
        .chain([PAGE_MKWRITE])
        .chain(WRITE_ENDS.iter().map(|write_end| write_end.function))
        .chain(integrity::functions())
}

/// Where the agent finds every offset that the programs read through.
fn sources() -> impl Iterator<Item = &'static Source> {
    Offsets::TABLE.iter().map(|row| &row.source)
}

/// Every member that the plan asks about.
pub fn members() -> impl Iterator<Item = &'static str> {
    let names = sources().filter_map(|source| match source {
        Source::Member(names) => Some(*names),
        _ => None,
    });
    names.flatten().copied()
}

/// Every member that the plan asks about and that may be of a module's type, with the module.
pub fn module_members() -> impl Iterator<Item = (&'static str, &'static str)> {
    sources().filter_map(|source| match source {
        Source::ModuleMember(module, name) => Some((*module, *name)),
        _ => None,
    })
}

/// Every bit field that the plan asks about.
pub fn bit_fields() -> impl Iterator<Item = &'static str> {
    sources().filter_map(|source| match source {
        Source::BitField(name) => Some(*name),
        _ => None,
    })
}

/// Every constant that the plan asks about.
pub fn constants() -> impl Iterator<Item = &'static str> {
    sources().filter_map(|source| match source {
        Source::Bit(name) => Some(*name),
        _ => None,
    })
}

/// Every structure whose size the plan asks about.
pub fn structures() -> impl Iterator<Item = &'static str> {
    sources().filter_map(|source| match source {
        Source::Size(name) => Some(*name),
        _ => None,
    })
}
