//! What group `integrity` needs.

use super::{Constant, Field};

/// Where every failed request completes. block/blk-core.c (5.10), block/blk-mq.c (6.1 to 7.3).
pub const REQUEST: &str = "blk_update_request";

/// The tracepoint at its start, `system:name`.
pub const REQUEST_TRACEPOINT: (&str, &str) = ("block", "block_rq_complete");

/// Where every bio ends. block/bio.c, 5.10 to 7.3.
pub const BIO: &str = "bio_endio";

/// The tracepoint that fires there for bios which became no request.
pub const BIO_TRACEPOINT: (&str, &str) = ("block", "block_bio_complete");

/// Who submits a bio to a device with protection information. block/bio-integrity.c, 5.10 to 6.12,
/// block/bio-integrity-auto.c, 7.3.
pub const SUBMIT: &str = "bio_integrity_prep";

/// Where the kernel runs a program's loops (`bpf_loop`, `kernel/bpf/bpf_iter.c`, 5.17 to 7.3), its
/// verifier looks at one turn of each.
pub const LOOP: &str = "bpf_loop";

/// A program, with loops of the kernel's or without.
pub type Looped = [&'static str; 2];

/// A function that verifies what was read, and the programs for its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verify {
    /// Its name.
    pub function: &'static str,
    /// Names of its parameters, in the form that the programs know.
    pub parameters: &'static [&'static str],
    /// Its fexit program.
    pub exit: Looped,
    /// Its kprobe program.
    pub enter: &'static str,
    /// Its kretprobe program.
    pub returns: Looped,
}

/// By preference: a kernel verifies with one of them. Prototypes stand beside the programs.
pub const VERIFY: [Verify; 4] = [
    Verify {
        function: "bio_integrity_verify",
        parameters: &["bio", "saved_iter"],
        exit: ["integrity_verify_2", "integrity_verify_2_unrolled"],
        enter: "integrity_verify_enter",
        returns: ["integrity_verify_return", "integrity_verify_return_unrolled"],
    },
    Verify {
        function: "blk_integrity_verify_iter",
        parameters: &["bio", "saved_iter"],
        exit: ["integrity_verify_iter", "integrity_verify_iter_unrolled"],
        enter: "integrity_verify_enter",
        returns: ["integrity_verify_return_bio", "integrity_verify_return_bio_unrolled"],
    },
    Verify {
        function: "blk_integrity_verify",
        parameters: &["bio"],
        exit: ["integrity_verify_1", "integrity_verify_1_unrolled"],
        enter: "integrity_verify_enter_1",
        returns: ["integrity_verify_return_bio", "integrity_verify_return_bio_unrolled"],
    },
    Verify {
        function: "bio_integrity_process",
        parameters: &["bio", "proc_iter", "proc_fn"],
        exit: ["integrity_verify_3", "integrity_verify_3_unrolled"],
        enter: "integrity_verify_enter",
        returns: ["integrity_verify_return", "integrity_verify_return_unrolled"],
    },
];

/// A function that says what was wrong.
pub struct Said {
    /// Its names, newest first: a kernel has one of them.
    pub names: &'static [&'static str],
    /// The module that it is in, unless the kernel itself.
    pub module: Option<&'static str>,
    /// Its program, a kprobe.
    pub program: &'static str,
    /// Where its driver keeps the same behind the request. The function is not probed where that can
    /// be read.
    pub kept: Option<Kept>,
}

/// What a driver keeps behind its request.
pub struct Kept {
    /// The member.
    pub field: Field,
    /// The module whose type it is of, unless the driver is a part of the kernel.
    pub module: &'static str,
}

/// Without them a failure is counted all the same, with the check `unknown`.
pub const SAID: [Said; 3] = [
    Said {
        names: &["scsi_normalize_sense"],
        module: Some("scsi_common"),
        program: "integrity_sense",
        kept: Some(Kept {
            field: Field { slot: |at| &mut at.scsi_sense, names: &["scsi_cmnd.sense_buffer"] },
            module: "scsi_mod",
        }),
    },
    Said {
        names: &["nvme_error_status"],
        module: Some("nvme_core"),
        program: "integrity_nvme_status",
        kept: Some(Kept {
            field: Field { slot: |at| &mut at.nvme_status, names: &["nvme_request.status"] },
            module: "nvme_core",
        }),
    },
    Said { names: &["_printk", "printk"], module: None, program: "integrity_log", kept: None },
];

/// Every function of the group.
pub fn functions() -> impl Iterator<Item = &'static str> {
    [REQUEST, BIO, SUBMIT, LOOP]
        .into_iter()
        .chain(VERIFY.iter().map(|verify| verify.function))
        .chain(SAID.iter().flat_map(|said| said.names).copied())
}

/// What every failure is read through.
pub const PAGES: &[Field] = &[
    Field { slot: |at| &mut at.inode_mapping, names: &["inode.i_mapping"] },
    Field { slot: |at| &mut at.disk_major, names: &["gendisk.major"] },
    Field { slot: |at| &mut at.disk_minor, names: &["gendisk.first_minor"] },
    Field { slot: |at| &mut at.bio_next, names: &["bio.bi_next"] },
    Field { slot: |at| &mut at.bio_iter, names: &["bio.bi_iter"] },
    Field { slot: |at| &mut at.bio_vec, names: &["bio.bi_io_vec"] },
    Field { slot: |at| &mut at.iter_sector, names: &["bvec_iter.bi_sector"] },
    Field { slot: |at| &mut at.iter_size, names: &["bvec_iter.bi_size"] },
    Field { slot: |at| &mut at.iter_idx, names: &["bvec_iter.bi_idx"] },
    Field {
        slot: |at| &mut at.iter_done,
        names: &["bvec_iter.bi_bvec_done", "bvec_iter.bi_offset"],
    },
    Field { slot: |at| &mut at.vec_page, names: &["bio_vec.bv_page"] },
    Field { slot: |at| &mut at.vec_len, names: &["bio_vec.bv_len"] },
    Field { slot: |at| &mut at.vec_offset, names: &["bio_vec.bv_offset"] },
];

/// What a failed request is read through. Its disk is its queue's, or up to 5.15 its own.
pub const REQUESTS: &[Field] = &[
    Field { slot: |at| &mut at.request_queue, names: &["request.q"] },
    Field { slot: |at| &mut at.request_flags, names: &["request.cmd_flags"] },
    Field { slot: |at| &mut at.request_sector, names: &["request.__sector"] },
    Field { slot: |at| &mut at.request_bio, names: &["request.bio"] },
];

/// What a bio's device is found through.
pub const BIOS: &[Field] = &[
    Field { slot: |at| &mut at.bio_opf, names: &["bio.bi_opf"] },
    Field { slot: |at| &mut at.bio_flags, names: &["bio.bi_flags"] },
    Field { slot: |at| &mut at.bio_status, names: &["bio.bi_status"] },
    Field { slot: |at| &mut at.bio_remaining, names: &["bio.__bi_remaining"] },
    Field { slot: |at| &mut at.bio_vcnt, names: &["bio.bi_vcnt"] },
    Field { slot: |at| &mut at.disk_queue, names: &["gendisk.queue"] },
    Field { slot: |at| &mut at.queue_mq_ops, names: &["request_queue.mq_ops"] },
];

/// What the host's verification is read through beside these; a kernel without integrity support
/// has none of it.
pub const VERIFIED: &[Field] = &[
    Field { slot: |at| &mut at.bio_integrity, names: &["bio.bi_integrity"] },
    Field {
        slot: |at| &mut at.queue_interval,
        names: &[
            "request_queue.integrity.interval_exp",
            "request_queue.limits.integrity.interval_exp",
        ],
    },
];

/// What only some kernels have, or what is of use only with [`Said::kept`].
pub const OPTIONAL: &[Field] = &[
    Field { slot: |at| &mut at.disk_name, names: &["gendisk.disk_name"] },
    Field { slot: |at| &mut at.page_compound_info, names: &["page.compound_info"] },
    Field { slot: |at| &mut at.request_disk, names: &["request.rq_disk"] },
    Field { slot: |at| &mut at.request_start, names: &["request.start_time_ns"] },
    Field { slot: |at| &mut at.queue_disk, names: &["request_queue.disk"] },
    Field { slot: |at| &mut at.bdev_disk, names: &["block_device.bd_disk"] },
    Field { slot: |at| &mut at.bio_disk, names: &["bio.bi_disk"] },
    Field { slot: |at| &mut at.bio_bdev, names: &["bio.bi_bdev"] },
    Field { slot: |at| &mut at.payload_iter, names: &["bio_integrity_payload.bio_iter"] },
];

/// Every member of the group.
pub fn fields() -> impl Iterator<Item = &'static Field> {
    [PAGES, REQUESTS, BIOS, VERIFIED, OPTIONAL].into_iter().flatten()
}

/// Every member that a driver's module may have the type of, with the module.
pub fn kept() -> impl Iterator<Item = &'static Kept> {
    SAID.iter().filter_map(|said| said.kept.as_ref())
}

/// Bits of a bio's flags; every kernel has them, and they move.
pub const BIO_FLAGS: [Constant; 2] = [
    Constant { slot: |at| &mut at.bio_cloned, name: "BIO_CLONED" },
    Constant { slot: |at| &mut at.bio_chain, name: "BIO_CHAIN" },
];

/// The structure whose size is read: pages follow one another in memory.
pub const PAGE: Constant = Constant { slot: |at| &mut at.page_bytes, name: "page" };

/// The structure behind which a driver's own part of a request begins.
pub const REQUEST_BYTES: Constant = Constant { slot: |at| &mut at.request_bytes, name: "request" };
