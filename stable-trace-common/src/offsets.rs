//! Where the members are that the programs read: from the running kernel's BTF, never a constant.

/// An offset that this kernel does not have; a program that needs it is not attached.
pub const ABSENT: u32 = u32::MAX;

/// Offsets in bytes, and bit numbers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `folio.flags`; `page.flags` up to 5.15.
    pub folio_flags: u32,
    /// `folio.mapping`; `page.mapping` up to 5.15.
    pub folio_mapping: u32,
    /// `folio.index`; `page.index` up to 5.15.
    pub folio_index: u32,
    /// `page.compound_head`: bit 0 set, and the rest points to the head page. 7.x has another
    /// encoding under another name, and its probed functions take folios.
    pub page_compound_head: u32,
    /// `address_space.host`.
    pub mapping_host: u32,
    /// `address_space.flags`.
    pub mapping_flags: u32,
    /// `inode.i_ino`.
    pub inode_ino: u32,
    /// `inode.i_sb`.
    pub inode_sb: u32,
    /// `inode.i_rdev`.
    pub inode_rdev: u32,
    /// `super_block.s_dev`.
    pub sb_dev: u32,
    /// `super_block.s_type`.
    pub sb_type: u32,
    /// `super_block.s_iflags`.
    pub sb_iflags: u32,
    /// `file_system_type.name`.
    pub fs_type_name: u32,
    /// `vm_fault.page`.
    pub vmf_page: u32,
    /// Bit of `PG_writeback` in a folio's flags.
    pub pg_writeback: u32,
    /// Bit of `AS_STABLE_WRITES` in a mapping's flags, from 6.7 on (and in 6.1.y); before, the super
    /// block says it.
    pub as_stable_writes: u32,
}

impl Offsets {
    /// Nothing known.
    pub const ABSENT: Self = Self {
        folio_flags: ABSENT,
        folio_mapping: ABSENT,
        folio_index: ABSENT,
        page_compound_head: ABSENT,
        mapping_host: ABSENT,
        mapping_flags: ABSENT,
        inode_ino: ABSENT,
        inode_sb: ABSENT,
        inode_rdev: ABSENT,
        sb_dev: ABSENT,
        sb_type: ABSENT,
        sb_iflags: ABSENT,
        fs_type_name: ABSENT,
        vmf_page: ABSENT,
        pg_writeback: ABSENT,
        as_stable_writes: ABSENT,
    };
}
