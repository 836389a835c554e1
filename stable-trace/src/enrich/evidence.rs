//! From the copy of a failed check to a proof. Pure.

use stable_trace_analysis::{
    event::{Operation, Proof, ProofKind, Protection, Source},
    proof::{Evidence, Guard},
};

use crate::collect::evidence::Copied;

/// Bytes of a sector in the numbers of requests.
const SECTOR: u64 = 512;

/// What is known of a failure beside the copy.
pub(crate) struct Failed<'a> {
    pub(crate) op: Operation,
    pub(crate) source: Source,
    /// First sector, in units of 512 bytes; `None` of a command that user space passed through.
    pub(crate) sector: Option<u64>,
    /// Length in units of 512 bytes.
    pub(crate) sectors: u64,
    /// The protection information of the disk.
    pub(crate) protection: &'a Protection,
}

/// What a copy proves.
pub(crate) fn proof(failed: &Failed<'_>, copied: &Copied) -> Proof {
    let Some(sector) = failed.sector else {
        return if copied.tuples.is_empty() {
            Proof::none("a command that user space passed through has no protection information")
        } else {
            // The kernel makes none for such a command (`nvme_map_user_request`, drivers/nvme/host/ioctl.c).
            Proof::of(ProofKind::ApplicationTuple)
        };
    };
    if failed.op == Operation::Read && failed.source != Source::Verify {
        return Proof::none("a device that reports a bad read need not have transferred its data");
    }
    let Protection { format, interval_bytes: Some(interval), .. } = failed.protection else {
        return Proof::none("the interval of the disk's protection information is unknown");
    };
    let Some(guard) = Guard::of_format(format) else {
        return Proof::none(format!("the guards of the format {format} are unknown"));
    };
    let interval = u64::from(*interval);
    let (Ok(interval_bytes), Some(tuple_stride)) =
        (usize::try_from(interval), tuple_stride(copied, interval))
    else {
        return Proof::none("the protection information was not copied");
    };
    Evidence {
        op: failed.op,
        guard,
        interval_bytes,
        tuple_stride,
        data: &copied.data,
        again: &copied.again,
        tuples: &copied.tuples,
        failed_intervals: failed.sectors.saturating_mul(SECTOR) / interval,
        // Type 3 has no reference tag of its own (SBC-3, 4.22.2).
        reference: (!format.contains("TYPE3")).then(|| sector * SECTOR / interval),
    }
    .proof()
}

/// Bytes from one tuple to the next: all tuples share the bytes evenly.
fn tuple_stride(copied: &Copied, interval: u64) -> Option<usize> {
    let intervals = copied.bio_bytes.checked_div(interval)?;
    usize::try_from(copied.tuple_bytes.checked_div(intervals)?).ok().filter(|stride| *stride > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protection(format: &str) -> Protection {
        Protection { format: format.to_owned(), tag_size: 2, interval_bytes: Some(512) }
    }

    /// Two blocks of zeros at sector 8, and their tuples.
    fn copied() -> Copied {
        let tuple = |tag: u8| [0, 0, 0, 0, 0, 0, 0, tag];
        Copied {
            data: vec![0; 1024],
            again: vec![],
            tuples: [tuple(8), tuple(9)].concat(),
            tuple_bytes: 16,
            bio_bytes: 1024,
        }
    }

    fn kind(protection: &Protection, copied: &Copied, sectors: u64) -> ProofKind {
        let source = Source::Scsi;
        let failed = Failed { op: Operation::Write, source, sector: Some(8), sectors, protection };
        proof(&failed, copied).kind
    }

    #[test]
    fn a_copy_is_compared_by_the_disks_format() {
        let crc = protection("T10-DIF-TYPE1-CRC");
        assert_eq!(kind(&crc, &copied(), 2), ProofKind::MemoryIntact);
        let ip = protection("T10-DIF-TYPE1-IP");
        assert_eq!(kind(&ip, &copied(), 2), ProofKind::MemoryChanged);
        let changed = Copied { data: vec![1; 1024], ..copied() };
        assert_eq!(kind(&crc, &changed, 2), ProofKind::MemoryChanged);
    }

    #[test]
    fn what_is_missing_is_no_proof() {
        let crc = protection("T10-DIF-TYPE1-CRC");
        let unknown = Protection { interval_bytes: None, ..crc.clone() };
        assert_eq!(kind(&unknown, &copied(), 2), ProofKind::None);
        assert_eq!(kind(&protection("nop"), &copied(), 2), ProofKind::None);
        let without_tuples = Copied { data: vec![0; 1024], ..Copied::default() };
        assert_eq!(kind(&crc, &without_tuples, 2), ProofKind::None);
        // The second block may have changed.
        let cut = Copied { data: vec![0; 512], ..copied() };
        assert_eq!(kind(&crc, &cut, 2), ProofKind::None);
        assert_eq!(kind(&crc, &cut, 1), ProofKind::MemoryIntact);
    }
}
