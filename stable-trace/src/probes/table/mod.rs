//! Every function, member and constant that a probe may need, in one place: the plan chooses among
//! them, and the facts of a kernel are gathered for just these.

pub mod integrity;

use stable_trace_common::offsets::Offsets;

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

/// A member that is read: where its offset goes, and its names as `struct.member`, by preference.
pub struct Field {
    /// Its place in [`Offsets`].
    pub slot: fn(&mut Offsets) -> &mut u32,
    /// Renames first: a kernel has the first that it has.
    pub names: &'static [&'static str],
}

/// What identifies a folio. A folio is a page by another name up to 5.15, and `page.index` was
/// renamed when only folios had it any more (7.x).
pub const IDENTITY: &[Field] = &[
    Field { slot: |at| &mut at.folio_mapping, names: &["folio.mapping", "page.mapping"] },
    Field { slot: |at| &mut at.folio_index, names: &["folio.index", "page.index"] },
    Field { slot: |at| &mut at.mapping_host, names: &["address_space.host"] },
    Field { slot: |at| &mut at.inode_ino, names: &["inode.i_ino"] },
    Field { slot: |at| &mut at.inode_sb, names: &["inode.i_sb"] },
    Field { slot: |at| &mut at.inode_rdev, names: &["inode.i_rdev"] },
    Field { slot: |at| &mut at.sb_dev, names: &["super_block.s_dev"] },
    Field { slot: |at| &mut at.sb_type, names: &["super_block.s_type"] },
    Field { slot: |at| &mut at.fs_type_name, names: &["file_system_type.name"] },
];

/// What tells whether a folio is under writeback, and whether it may change meanwhile.
pub const STABILITY: &[Field] = &[
    Field { slot: |at| &mut at.folio_flags, names: &["folio.flags", "page.flags"] },
    Field { slot: |at| &mut at.mapping_flags, names: &["address_space.flags"] },
    Field { slot: |at| &mut at.sb_iflags, names: &["super_block.s_iflags"] },
];

/// What is not there on every kernel, and need not be.
pub const OPTIONAL: &[Field] = &[
    Field { slot: |at| &mut at.page_compound_head, names: &["page.compound_head"] },
    Field { slot: |at| &mut at.vmf_page, names: &["vm_fault.page"] },
];

/// A bit field of one bit that is read: its place is counted in bits from the start of its structure.
/// Every kernel has it, but there is another way without it.
pub const IN_IOWAIT: Field =
    Field { slot: |at| &mut at.task_in_iowait, names: &["task_struct.in_iowait"] };

/// Every bit field that the plan asks about.
pub fn bit_fields() -> impl Iterator<Item = &'static str> {
    IN_IOWAIT.names.iter().copied()
}

/// A named constant: where it goes, its name, and whether every kernel has it.
pub struct Constant {
    /// Its place in [`Offsets`].
    pub slot: fn(&mut Offsets) -> &mut u32,
    /// Its name.
    pub name: &'static str,
}

/// The bit of a folio's flags; every kernel has it, and 6.8 moved it.
pub const PG_WRITEBACK: Constant =
    Constant { slot: |at| &mut at.pg_writeback, name: "PG_writeback" };

/// The bit of a mapping's flags, where there is one.
pub const AS_STABLE_WRITES: Constant =
    Constant { slot: |at| &mut at.as_stable_writes, name: "AS_STABLE_WRITES" };

/// Every member that the plan asks about.
pub fn members() -> impl Iterator<Item = &'static str> {
    let fields = [IDENTITY, STABILITY, OPTIONAL].into_iter().flatten();
    fields.chain(integrity::fields()).flat_map(|field| field.names).copied()
}

/// Every member that the plan asks about and that may be of a module's type, with the module.
pub fn module_members() -> impl Iterator<Item = (&'static str, &'static str)> {
    integrity::kept().flat_map(|kept| kept.field.names.iter().map(|name| (kept.module, *name)))
}

/// Every constant that the plan asks about.
pub fn constants() -> impl Iterator<Item = &'static str> {
    let constants = [PG_WRITEBACK, AS_STABLE_WRITES].into_iter();
    constants.chain(integrity::BIO_FLAGS).map(|constant| constant.name)
}

/// Every structure whose size the plan asks about.
pub fn structures() -> impl Iterator<Item = &'static str> {
    [integrity::PAGE.name, integrity::REQUEST_BYTES.name].into_iter()
}
