//! Offsets of the kernel's structure members, for the programs to read through. They come from the
//! running kernel's BTF: none is compiled in.
//!
//! A row of the table below declares one offset: the field that the programs read, the purpose that
//! needs it, and its source. The agent resolves [`Offsets::TABLE`] row by row.

/// An offset that this kernel does not have. A program that needs it is not attached.
pub const ABSENT: u32 = u32::MAX;

/// What the programs read an offset for. A purpose is met if every one of its offsets was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// To identify a folio. A folio is a page by another name up to 5.15, and 7.x renamed `page.index`.
    Identity,
    /// To tell whether a folio is under writeback, and whether it must not change meanwhile.
    Stability,
    /// To find the pages of an integrity failure.
    Pages,
    /// To read a failed request.
    Requests,
    /// To read a failed bio.
    Bios,
    /// To read what the host verified. A kernel without integrity support does not have it.
    Verification,
    /// To find the interval that failed the host's verification.
    FailedInterval,
    /// To find the tasks that wait at this moment.
    Waiting,
    /// Not required: some kernels do not have it, or there is another way without it.
    Optional,
}

/// Where the agent finds an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Offset in bytes of a member, by its names as `struct.member`. The first name that the kernel has
    /// counts.
    Member(&'static [&'static str]),
    /// As `Member`, of a structure that a module defines: module, `struct.member`. BTF describes the
    /// types of modules from 5.11 on.
    ModuleMember(&'static str, &'static str),
    /// Offset in bits of a bit field of one bit, `struct.member`, from the start of its structure.
    BitField(&'static str),
    /// Number of a bit: the value of an enumerator.
    Bit(&'static str),
    /// Size in bytes of a structure.
    Size(&'static str),
    /// Size of a page of memory as a power of two. Not from BTF: the agent asks the kernel.
    PageShift,
}

/// One offset that the agent resolves.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its field.
    pub slot: fn(&mut Offsets) -> &mut u32,
    /// What needs it.
    pub purpose: Purpose,
    /// Where it is found.
    pub source: Source,
}

/// Declares [`Offsets`] and its table. The order of the rows is the layout that the programs are
/// compiled with.
macro_rules! offsets {
    ($($(#[doc = $doc:literal])* $field:ident: $purpose:ident, $source:expr;)*) => {
        /// Offsets in bytes, bit numbers and sizes; [`ABSENT`] if this kernel does not have them.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets {
            $(
                #[doc = concat!("`", stringify!($source), "`")]
                #[doc = ""]
                $(#[doc = $doc])*
                pub $field: u32,
            )*
        }

        impl Offsets {
            /// No offset is known.
            pub const ABSENT: Self = Self { $($field: ABSENT,)* };

            /// Every offset, in the order of the fields.
            pub const TABLE: &[Row] = {
                use Source::{Bit, BitField, Member, ModuleMember, PageShift, Size};
                &[
                    $(Row {
                        slot: |offsets| &mut offsets.$field,
                        purpose: Purpose::$purpose,
                        source: $source,
                    },)*
                ]
            };
        }
    };
}

offsets! {
    folio_flags: Stability, Member(&["folio.flags", "page.flags"]);
    folio_mapping: Identity, Member(&["folio.mapping", "page.mapping"]);
    folio_index: Identity, Member(&["folio.index", "page.index"]);
    /// Bit 0 set, and the rest points to the head page. 7.x has another encoding under another name
    /// ([`Offsets::page_compound_info`]), and its probed functions take folios.
    page_compound_head: Optional, Member(&["page.compound_head"]);
    mapping_host: Identity, Member(&["address_space.host"]);
    mapping_flags: Stability, Member(&["address_space.flags"]);
    inode_ino: Identity, Member(&["inode.i_ino"]);
    inode_sb: Identity, Member(&["inode.i_sb"]);
    inode_rdev: Identity, Member(&["inode.i_rdev"]);
    sb_dev: Identity, Member(&["super_block.s_dev"]);
    sb_type: Identity, Member(&["super_block.s_type"]);
    /// The name of the file system's device.
    sb_id: Optional, Member(&["super_block.s_id"]);
    sb_root: Optional, Member(&["super_block.s_root"]);
    inode_generation: Optional, Member(&["inode.i_generation"]);
    inode_nlink: Optional, Member(&["inode.i_nlink"]);
    /// The list of the inode's dentries: a pointer to the first one's `d_alias`.
    inode_dentry: Optional, Member(&["inode.i_dentry"]);
    /// 7.x moved it out of its union.
    dentry_alias: Optional, Member(&["dentry.d_u.d_alias", "dentry.d_alias"]);
    dentry_parent: Optional, Member(&["dentry.d_parent"]);
    dentry_inode: Optional, Member(&["dentry.d_inode"]);
    dentry_name: Optional, Member(&["dentry.d_name.name"]);
    /// Null if the dentry is in no directory any more (`d_unhashed`, include/linux/dcache.h).
    dentry_hashed: Optional, Member(&["dentry.d_hash.pprev"]);
    /// The swap entry of a folio in the swap cache. Up to 6.5 it is the folio's private word.
    folio_swap: Optional, Member(&["folio.swap", "folio.private", "page.private"]);
    swap_bdev: Optional, Member(&["swap_info_struct.bdev"]);
    xarray_head: Optional, Member(&["xarray.xa_head"]);
    xa_node_shift: Optional, Member(&["xa_node.shift"]);
    xa_node_slots: Optional, Member(&["xa_node.slots"]);
    rb_root: Optional, Member(&["rb_root.rb_node"]);
    rb_left: Optional, Member(&["rb_node.rb_left"]);
    rb_right: Optional, Member(&["rb_node.rb_right"]);
    sb_iflags: Stability, Member(&["super_block.s_iflags"]);
    fs_type_name: Identity, Member(&["file_system_type.name"]);
    vmf_page: Optional, Member(&["vm_fault.page"]);
    /// In a folio's flags. 6.8 moved it.
    pg_writeback: Stability, Bit("PG_writeback");
    /// In a folio's flags: it is locked, as it is while it is read into the page cache.
    pg_locked: Optional, Bit("PG_locked");
    /// In a folio's flags: it has a place in a swap area.
    pg_swapcache: Optional, Bit("PG_swapcache");
    /// How often page tables map a page, less 1.
    page_mapcount: Optional, Member(&["page._mapcount"]);
    /// The same of a large folio, from 6.9 on.
    folio_large_mapcount: Optional, Member(&["folio._large_mapcount"]);
    /// In a mapping's flags, from 6.7 on and in 6.1.y. Older kernels have a flag of the super block.
    as_stable_writes: Optional, Bit("AS_STABLE_WRITES");
    inode_mapping: Pages, Member(&["inode.i_mapping"]);
    /// 7.x. Bit 0 set, and the rest is a mask for the page's address that gives the head page
    /// (`_compound_head`, include/linux/page-flags.h, 7.3).
    page_compound_info: Optional, Member(&["page.compound_info"]);
    page_bytes: Pages, Size("page");
    page_shift: Optional, PageShift;
    request_queue: Requests, Member(&["request.q"]);
    /// Up to 5.15. Later the queue has the disk ([`Offsets::queue_disk`]).
    request_disk: Optional, Member(&["request.rq_disk"]);
    request_flags: Requests, Member(&["request.cmd_flags"]);
    request_sector: Requests, Member(&["request.__sector"]);
    request_bio: Requests, Member(&["request.bio"]);
    request_start: Optional, Member(&["request.start_time_ns"]);
    /// From 5.16 on.
    queue_disk: Optional, Member(&["request_queue.disk"]);
    /// Null for a device that takes bios without making requests of them.
    queue_mq_ops: Bios, Member(&["request_queue.mq_ops"]);
    /// Bytes that one tuple protects, as a power of two. In the limits from 6.11 on.
    queue_interval: FailedInterval, Member(&[
        "request_queue.integrity.interval_exp",
        "request_queue.limits.integrity.interval_exp",
    ]);
    disk_major: Pages, Member(&["gendisk.major"]);
    disk_minor: Pages, Member(&["gendisk.first_minor"]);
    disk_queue: Bios, Member(&["gendisk.queue"]);
    bdev_dev: Optional, Member(&["block_device.bd_dev"]);
    bdev_disk: Optional, Member(&["block_device.bd_disk"]);
    /// Where a partition begins on its disk, in sectors. From 5.12 on.
    bdev_start: Optional, Member(&["block_device.bd_start_sect"]);
    bio_next: Pages, Member(&["bio.bi_next"]);
    /// Up to 5.11.
    bio_disk: Optional, Member(&["bio.bi_disk"]);
    /// From 5.12 on.
    bio_bdev: Optional, Member(&["bio.bi_bdev"]);
    bio_opf: Bios, Member(&["bio.bi_opf"]);
    bio_flags: Bios, Member(&["bio.bi_flags"]);
    bio_status: Bios, Member(&["bio.bi_status"]);
    bio_remaining: Bios, Member(&["bio.__bi_remaining"]);
    bio_iter: Pages, Member(&["bio.bi_iter"]);
    bio_vec: Pages, Member(&["bio.bi_io_vec"]);
    bio_vcnt: Bios, Member(&["bio.bi_vcnt"]);
    bio_integrity: Verification, Member(&["bio.bi_integrity"]);
    /// In a bio's flags of the operation: it has a payload.
    request_integrity: Optional, Bit("__REQ_INTEGRITY");
    payload_vec: Optional, Member(&["bio_integrity_payload.bip_vec"]);
    /// Where in its vector the protection information of the rest of the bio is.
    payload_own_iter: Optional, Member(&["bio_integrity_payload.bip_iter"]);
    /// The iterator that the bio began with, up to 6.16.
    payload_iter: Optional, Member(&["bio_integrity_payload.bio_iter"]);
    iter_sector: Pages, Member(&["bvec_iter.bi_sector"]);
    iter_size: Pages, Member(&["bvec_iter.bi_size"]);
    iter_idx: Pages, Member(&["bvec_iter.bi_idx"]);
    /// 7.3 renamed it.
    iter_done: Pages, Member(&["bvec_iter.bi_bvec_done", "bvec_iter.bi_offset"]);
    vec_page: Pages, Member(&["bio_vec.bv_page"]);
    vec_len: Pages, Member(&["bio_vec.bv_len"]);
    vec_offset: Pages, Member(&["bio_vec.bv_offset"]);
    /// In a bio's flags. Every kernel has it, at different places.
    bio_cloned: Bios, Bit("BIO_CLONED");
    /// In a bio's flags. Every kernel has it, at different places.
    bio_chain: Bios, Bit("BIO_CHAIN");
    /// Identifies the driver of a request.
    disk_name: Optional, Member(&["gendisk.disk_name"]);
    /// The driver's own part of a request begins behind it.
    request_bytes: Optional, Size("request");
    /// Absent unless [`Offsets::disk_name`] and [`Offsets::request_bytes`] are known.
    scsi_sense: Optional, ModuleMember("scsi_mod", "scsi_cmnd.sense_buffer");
    /// Absent unless [`Offsets::disk_name`] and [`Offsets::request_bytes`] are known.
    nvme_status: Optional, ModuleMember("nvme_core", "nvme_request.status");
    /// Where the stack was when the registers were taken.
    registers_sp: Optional, Member(&["pt_regs.sp"]);
    task_in_iowait: Optional, BitField("task_struct.in_iowait");
    task_comm: Optional, Member(&["task_struct.comm"]);
    task_group_leader: Optional, Member(&["task_struct.group_leader"]);
    task_pid: Optional, Member(&["task_struct.pid"]);
    task_tgid: Optional, Member(&["task_struct.tgid"]);
    /// Shared by the threads of a process, and kept when one of them calls `execve`.
    task_signal: Optional, Member(&["task_struct.signal"]);
    task_thread_pid: Optional, Member(&["task_struct.thread_pid"]);
    pid_level: Optional, Member(&["pid.level"]);
    /// An array of `upid`, one for each PID namespace from the initial one inward.
    pid_numbers: Optional, Member(&["pid.numbers"]);
    upid_bytes: Optional, Size("upid");
    upid_nr: Optional, Member(&["upid.nr"]);
    upid_ns: Optional, Member(&["upid.ns"]);
    pidns_inum: Optional, Member(&["pid_namespace.ns.inum"]);
    /// 5.14 renamed it.
    task_state: Waiting, Member(&["task_struct.__state", "task_struct.state"]);
    /// Where the stack of a task that does not run ends: x86, arm64.
    task_sp: Waiting, Member(&["task_struct.thread.sp", "task_struct.thread.cpu_context.sp"]);
    /// When the task last came onto a CPU, by the scheduler's clock.
    task_arrival: Optional, Member(&["task_struct.sched_info.last_arrival"]);
    /// The same where [`Offsets::task_arrival`] is absent or 0: when its run time was last added up.
    task_exec_start: Optional, Member(&["task_struct.se.exec_start"]);
    task_cgroups: Optional, Member(&["task_struct.cgroups"]);
    /// The task's cgroup of the unified hierarchy.
    cgroups_default: Optional, Member(&["css_set.dfl_cgrp"]);
    cgroup_node: Optional, Member(&["cgroup.kn"]);
    node_id: Optional, Member(&["kernfs_node.id"]);
    wait_folio: Waiting, Member(&["wait_page_queue.folio", "wait_page_queue.page"]);
    wait_bit: Waiting, Member(&["wait_page_queue.bit_nr"]);
    wait_task: Waiting, Member(&["wait_page_queue.wait.private"]);
    wait_function: Waiting, Member(&["wait_page_queue.wait.func"]);
}

const _: () = assert!(size_of::<Offsets>() == Offsets::TABLE.len() * size_of::<u32>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_field_of_its_own() {
        let mut offsets = Offsets::ABSENT;
        for row in Offsets::TABLE {
            let slot = (row.slot)(&mut offsets);
            assert_eq!(*slot, ABSENT, "{:?}", row.source);
            *slot = 0;
        }
    }

    #[test]
    fn every_member_is_named_with_its_structure() {
        for row in Offsets::TABLE {
            let names = match &row.source {
                Source::Member(names) => names,
                Source::ModuleMember(_, name) | Source::BitField(name) => {
                    core::slice::from_ref(name)
                }
                Source::Bit(_) | Source::Size(_) | Source::PageShift => continue,
            };
            assert!(!names.is_empty() && names.iter().all(|name| name.contains('.')), "{names:?}");
        }
    }
}
