//! Every function that a probe may attach to, and every member and constant of [`Offsets::TABLE`]. The
//! plan chooses among them, and the facts of a kernel are gathered for them only.

pub(crate) mod integrity;

use stable_trace_common::offsets::{Offsets, Source};

/// The functions that waits for writeback sleep in. The first line that a kernel has counts.
/// mm/page-writeback.c, 5.16 to 7.3, and 5.10 to 5.15. From 5.16 on the page function is only a
/// wrapper.
pub(crate) const WAIT_FUNCTIONS: [[&str; 2]; 2] = [
    ["folio_wait_writeback", "folio_wait_writeback_killable"],
    ["wait_on_page_writeback", "wait_on_page_writeback_killable"],
];

/// The only caller of the file systems' `page_mkwrite`. mm/memory.c, 5.10 to 7.3.
pub(crate) const PAGE_MKWRITE: &str = "do_page_mkwrite";

/// A function at the end of a buffered write, with the folio still locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteEnd {
    /// The function's name.
    pub(crate) function: &'static str,
    /// The module; `None` for the kernel itself.
    pub(crate) module: Option<&'static str>,
    /// The programs by the argument index of the folio: fentry (`None` for functions of modules, which
    /// aya does not support) and kprobe.
    pub(crate) programs: &'static [(usize, Option<&'static str>, &'static str)],
    /// The names of the parameter for the folio, by preference.
    pub(crate) parameters: &'static [&'static str],
    /// The argument index without BTF for the function (5.10 has none for modules), if it is the same in
    /// all kernels with the function.
    pub(crate) index_without_btf: Option<usize>,
    /// The function that this one replaces.
    pub(crate) replaces: Option<&'static str>,
}

/// The functions of group `write_begin`. Their prototypes are in the comments of the programs.
pub(crate) const WRITE_ENDS: &[WriteEnd] = &[
    WriteEnd {
        function: "generic_write_end",
        module: None,
        programs: &[(5, Some("generic_write_end_5"), "generic_write_end_5_kprobe")],
        parameters: &["folio", "page"],
        index_without_btf: None,
        replaces: None,
    },
    WriteEnd {
        function: "block_write_end",
        module: None,
        programs: &[
            (5, Some("block_write_end_5"), "block_write_end_5_kprobe"),
            (3, Some("block_write_end_3"), "block_write_end_3_kprobe"),
        ],
        parameters: &["folio", "page"],
        index_without_btf: None,
        replaces: None,
    },
    WriteEnd {
        function: "iomap_write_end",
        module: None,
        programs: &[
            (4, Some("iomap_write_end_4"), "iomap_write_end_4_kprobe"),
            (3, Some("iomap_write_end_3"), "iomap_write_end_3_kprobe"),
        ],
        parameters: &["folio", "page"],
        index_without_btf: None,
        replaces: None,
    },
    // fs/btrfs/file.c, 5.10 to 6.12, and 7.3: the second parameter in both.
    WriteEnd {
        function: "btrfs_dirty_pages",
        module: Some("btrfs"),
        programs: &[(1, None, "btrfs_dirty_pages")],
        parameters: &["pages"],
        index_without_btf: Some(1),
        replaces: None,
    },
    WriteEnd {
        function: "btrfs_dirty_folio",
        module: Some("btrfs"),
        programs: &[(1, None, "btrfs_dirty_folio")],
        parameters: &["folio"],
        index_without_btf: Some(1),
        replaces: Some("btrfs_dirty_pages"),
    },
];

/// All functions that the plan uses.
pub(crate) fn functions() -> impl Iterator<Item = &'static str> {
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

/// All members that the plan uses.
pub(crate) fn members() -> impl Iterator<Item = &'static str> {
    let names = sources().filter_map(|source| match source {
        Source::Member(names) => Some(*names),
        _ => None,
    });
    names.flatten().copied()
}

/// The members by which the subvolume of a btrfs inode is found (`fs/btrfs/btrfs_inode.h` and `ctree.h`,
/// 5.10 to 7.3), in the order of [`BtrfsOffsets`](stable_trace_common::folio::BtrfsOffsets).
pub(crate) const BTRFS_MEMBERS: [&str; 3] =
    ["btrfs_inode.vfs_inode", "btrfs_inode.root", "btrfs_root.anon_dev"];

/// The members by which the device and the file system of a wrong checksum are found (`fs/btrfs/volumes.h` and
/// `fs.h`, `ctree.h` up to 6.1; 5.10 to 7.3), in the order of the same.
pub(crate) const BTRFS_CHECKSUM_MEMBERS: [&str; 5] = [
    "btrfs_device.fs_info",
    "btrfs_device.bdev",
    "btrfs_fs_info.sb",
    "btrfs_fs_info.sectorsize",
    "btrfs_fs_info.fs_roots_radix",
];

/// The members by which the inode of a wrong checksum is found, and with it the path: the first in 6.10 to 7.3, the
/// others in 5.10 to 6.9 (`fs/btrfs/ctree.h`, `fs/btrfs/btrfs_inode.h`).
pub(crate) const BTRFS_INODE_MEMBERS: [&str; 3] =
    ["btrfs_root.inodes", "btrfs_root.inode_tree", "btrfs_inode.rb_node"];

/// All members of module types that the plan uses, with their modules.
pub(crate) fn module_members() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_probes = sources().filter_map(|source| match source {
        Source::ModuleMember(module, name) => Some((*module, *name)),
        _ => None,
    });
    let of_btrfs =
        BTRFS_MEMBERS.into_iter().chain(BTRFS_CHECKSUM_MEMBERS).chain(BTRFS_INODE_MEMBERS);
    of_probes.chain(of_btrfs.map(|name| ("btrfs", name)))
}

/// All bit fields that the plan uses.
pub(crate) fn bit_fields() -> impl Iterator<Item = &'static str> {
    sources().filter_map(|source| match source {
        Source::BitField(name) => Some(*name),
        _ => None,
    })
}

/// All enumerators that the plan uses.
pub(crate) fn constants() -> impl Iterator<Item = &'static str> {
    sources().filter_map(|source| match source {
        Source::Bit(name) => Some(*name),
        _ => None,
    })
}

/// All structures whose size the plan uses.
pub(crate) fn structures() -> impl Iterator<Item = &'static str> {
    sources().filter_map(|source| match source {
        Source::Size(name) => Some(*name),
        _ => None,
    })
}
