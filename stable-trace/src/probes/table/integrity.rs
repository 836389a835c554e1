//! What group `integrity` needs.

use stable_trace_common::offsets::Offsets;

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
    /// The offset through which the same is read from the driver's part of the request. The function
    /// is not probed where this kernel has it.
    pub driver_pdu: Option<fn(&Offsets) -> u32>,
}

/// Without them a failure is counted all the same, with the check `unknown`.
pub const SAID: [Said; 3] = [
    Said {
        names: &["scsi_normalize_sense"],
        module: Some("scsi_common"),
        program: "integrity_sense",
        driver_pdu: Some(|offsets| offsets.scsi_sense),
    },
    Said {
        names: &["nvme_error_status"],
        module: Some("nvme_core"),
        program: "integrity_nvme_status",
        driver_pdu: Some(|offsets| offsets.nvme_status),
    },
    Said {
        names: &["_printk", "printk"],
        module: None,
        program: "integrity_log",
        driver_pdu: None,
    },
];

/// Every function of the group.
pub fn functions() -> impl Iterator<Item = &'static str> {
    [REQUEST, BIO, SUBMIT, LOOP]
        .into_iter()
        .chain(VERIFY.iter().map(|verify| verify.function))
        .chain(SAID.iter().flat_map(|said| said.names).copied())
}
