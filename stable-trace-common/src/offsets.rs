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
    /// `inode.i_mapping`.
    pub inode_mapping: u32,
    /// `page.compound_info` (7.x): bit 0 set, and the rest is a mask for the page's address that gives
    /// the head page (`_compound_head`, include/linux/page-flags.h, 7.3).
    pub page_compound_info: u32,
    /// Size of `struct page` in bytes.
    pub page_bytes: u32,
    /// Size of a page of memory as a power of two: not from BTF.
    pub page_shift: u32,
    /// `request.q`.
    pub request_queue: u32,
    /// `request.rq_disk`, up to 5.15.
    pub request_disk: u32,
    /// `request.cmd_flags`.
    pub request_flags: u32,
    /// `request.__sector`.
    pub request_sector: u32,
    /// `request.bio`.
    pub request_bio: u32,
    /// `request.start_time_ns`.
    pub request_start: u32,
    /// `request_queue.disk`, from 5.16 on.
    pub queue_disk: u32,
    /// `request_queue.mq_ops`: null for a device that takes bios as they are.
    pub queue_mq_ops: u32,
    /// `request_queue.integrity.interval_exp`, `request_queue.limits.integrity.interval_exp` from 6.11
    /// on: bytes that one tuple protects, as a power of two.
    pub queue_interval: u32,
    /// `gendisk.major`.
    pub disk_major: u32,
    /// `gendisk.first_minor`.
    pub disk_minor: u32,
    /// `gendisk.queue`.
    pub disk_queue: u32,
    /// `block_device.bd_disk`.
    pub bdev_disk: u32,
    /// `bio.bi_next`.
    pub bio_next: u32,
    /// `bio.bi_disk`, up to 5.11.
    pub bio_disk: u32,
    /// `bio.bi_bdev`, from 5.12 on.
    pub bio_bdev: u32,
    /// `bio.bi_opf`.
    pub bio_opf: u32,
    /// `bio.bi_flags`.
    pub bio_flags: u32,
    /// `bio.bi_status`.
    pub bio_status: u32,
    /// `bio.__bi_remaining`.
    pub bio_remaining: u32,
    /// `bio.bi_iter`.
    pub bio_iter: u32,
    /// `bio.bi_io_vec`.
    pub bio_vec: u32,
    /// `bio.bi_vcnt`.
    pub bio_vcnt: u32,
    /// `bio.bi_integrity`.
    pub bio_integrity: u32,
    /// `bio_integrity_payload.bio_iter`: where the bio began, up to 6.16.
    pub payload_iter: u32,
    /// `bvec_iter.bi_sector`.
    pub iter_sector: u32,
    /// `bvec_iter.bi_size`.
    pub iter_size: u32,
    /// `bvec_iter.bi_idx`.
    pub iter_idx: u32,
    /// `bvec_iter.bi_bvec_done`; `bvec_iter.bi_offset` in 7.3.
    pub iter_done: u32,
    /// `bio_vec.bv_page`.
    pub vec_page: u32,
    /// `bio_vec.bv_len`.
    pub vec_len: u32,
    /// `bio_vec.bv_offset`.
    pub vec_offset: u32,
    /// Bit of `BIO_CLONED` in a bio's flags.
    pub bio_cloned: u32,
    /// Bit of `BIO_CHAIN` in a bio's flags.
    pub bio_chain: u32,
    /// `gendisk.disk_name`: tells whose driver a request is with.
    pub disk_name: u32,
    /// Size of `struct request` in bytes: the driver's own part of it begins there.
    pub request_bytes: u32,
    /// `scsi_cmnd.sense_buffer`, of module `scsi_mod`: types of modules are there from 5.11 on.
    pub scsi_sense: u32,
    /// `nvme_request.status`, of module `nvme_core`.
    pub nvme_status: u32,
    /// `task_struct.in_iowait`, counted in bits from the start of the structure.
    pub task_in_iowait: u32,
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
        inode_mapping: ABSENT,
        page_compound_info: ABSENT,
        page_bytes: ABSENT,
        page_shift: ABSENT,
        request_queue: ABSENT,
        request_disk: ABSENT,
        request_flags: ABSENT,
        request_sector: ABSENT,
        request_bio: ABSENT,
        request_start: ABSENT,
        queue_disk: ABSENT,
        queue_mq_ops: ABSENT,
        queue_interval: ABSENT,
        disk_major: ABSENT,
        disk_minor: ABSENT,
        disk_queue: ABSENT,
        bdev_disk: ABSENT,
        bio_next: ABSENT,
        bio_disk: ABSENT,
        bio_bdev: ABSENT,
        bio_opf: ABSENT,
        bio_flags: ABSENT,
        bio_status: ABSENT,
        bio_remaining: ABSENT,
        bio_iter: ABSENT,
        bio_vec: ABSENT,
        bio_vcnt: ABSENT,
        bio_integrity: ABSENT,
        payload_iter: ABSENT,
        iter_sector: ABSENT,
        iter_size: ABSENT,
        iter_idx: ABSENT,
        iter_done: ABSENT,
        vec_page: ABSENT,
        vec_len: ABSENT,
        vec_offset: ABSENT,
        bio_cloned: ABSENT,
        bio_chain: ABSENT,
        disk_name: ABSENT,
        request_bytes: ABSENT,
        scsi_sense: ABSENT,
        nvme_status: ABSENT,
        task_in_iowait: ABSENT,
    };
}
