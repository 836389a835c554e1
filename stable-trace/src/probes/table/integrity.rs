//! The functions and tracepoints of group `integrity`.

use stable_trace_common::offsets::Offsets;

/// Completes every failed request. block/blk-core.c (5.10), block/blk-mq.c (6.1 to 7.3).
pub(crate) const REQUEST: &str = "blk_update_request";

/// The tracepoint at the start of [`REQUEST`], as system and name.
pub(crate) const REQUEST_TRACEPOINT: (&str, &str) = ("block", "block_rq_complete");

/// How the names of the programs at [`REQUEST`] and [`REQUEST_TRACEPOINT`] begin.
pub(crate) const REQUEST_PROGRAM: &str = "integrity_request";

/// Ends every bio. block/bio.c, 5.10 to 7.3.
pub(crate) const BIO: &str = "bio_endio";

/// The tracepoint in [`BIO`], which fires for bios that became no request.
pub(crate) const BIO_TRACEPOINT: (&str, &str) = ("block", "block_bio_complete");

/// Generates protection information when a task submits a bio. block/bio-integrity.c, 5.10 to 6.12,
/// block/bio-integrity-auto.c, 7.3.
pub(crate) const SUBMIT: &str = "bio_integrity_prep";

/// Where a bio gets protection information before the block layer has it: from its file system, or from user space. Kernels that have none of them
/// lack nothing.
pub(crate) const SUBMIT_EARLY: [&str; 2] = ["fs_bio_integrity_alloc", "bio_integrity_map_iter"];

/// The helper for loops in programs (`bpf_loop`, `kernel/bpf/bpf_iter.c`, 5.17 to 7.3). The verifier
/// checks one iteration of each loop.
pub(crate) const LOOP: &str = "bpf_loop";

/// The two variants of a program: with [`LOOP`], and with unrolled loops.
pub(crate) type Variants = [&'static str; 2];

/// A function that verifies reads, and the programs for its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verify {
    /// The function's name.
    pub(crate) function: &'static str,
    /// The names of its parameters in the supported variant.
    pub(crate) parameters: &'static [&'static str],
    /// The fexit program.
    pub(crate) exit: Variants,
    /// The kprobe program.
    pub(crate) enter: &'static str,
    /// The kretprobe program.
    pub(crate) returns: Variants,
}

/// By preference; a kernel uses one of them. Their prototypes are in the comments of the programs.
pub(crate) const VERIFY: [Verify; 4] = [
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

/// A function that reports which check failed.
pub(crate) struct CheckReporter {
    /// The names, newest first; a kernel has one of them.
    pub(crate) names: &'static [&'static str],
    /// The module; `None` for the kernel itself.
    pub(crate) module: Option<&'static str>,
    /// The kprobe program.
    pub(crate) program: &'static str,
    /// The offset by which the failed check is read from the driver's part of the request. If this
    /// kernel has it, the function is not probed.
    pub(crate) driver_pdu: Option<fn(&Offsets) -> u32>,
}

/// Without these a failure is counted with the check `unknown`.
pub(crate) const CHECK_REPORTERS: [CheckReporter; 3] = [
    CheckReporter {
        names: &["scsi_normalize_sense"],
        module: Some("scsi_common"),
        program: "integrity_sense",
        driver_pdu: Some(|offsets| offsets.scsi_sense),
    },
    CheckReporter {
        names: &["nvme_error_status"],
        module: Some("nvme_core"),
        program: "integrity_nvme_status",
        driver_pdu: Some(|offsets| offsets.nvme_status),
    },
    CheckReporter {
        names: &["_printk", "printk"],
        module: None,
        program: "integrity_log",
        driver_pdu: None,
    },
];

/// Counts an error of a device of btrfs, such as a wrong checksum of data that was read. fs/btrfs/volumes.c, 5.10
/// to 7.3.
pub(crate) const BTRFS_ERROR: &str = "btrfs_dev_stat_inc_and_print";

/// Logs what btrfs has to say, such as the file of a wrong checksum; newest name first. fs/btrfs/super.c (5.10),
/// fs/btrfs/messages.c (6.1 to 7.3).
pub(crate) const BTRFS_LOG: [&str; 2] = ["_btrfs_printk", "btrfs_printk"];

/// All functions of the group.
pub(crate) fn functions() -> impl Iterator<Item = &'static str> {
    [REQUEST, BIO, SUBMIT, LOOP]
        .into_iter()
        .chain(SUBMIT_EARLY)
        .chain(VERIFY.iter().map(|verify| verify.function))
        .chain(CHECK_REPORTERS.iter().flat_map(|reporter| reporter.names).copied())
        .chain([BTRFS_ERROR])
        .chain(BTRFS_LOG)
}
