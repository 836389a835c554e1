//! What was wrong, as a driver keeps it behind its request until that is freed.
//!
//! "Driver command data is immediately after the request" (`blk_mq_rq_to_pdu`,
//! include/linux/blk-mq.h, 5.10 to 7.3). Nothing has to be probed for it, and nothing to happen in a
//! certain order; but the driver's types must be known, and those of modules are from 5.11 on.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use stable_trace_common::{
    integrity::{NVME, Reason, SCSI, SENSE_BYTES, nvme_check, sense_check},
    offsets::ABSENT,
};

use crate::folio::{member, offset, offsets};

/// Bytes of a command's sense buffer, which is cleared before the command is sent:
/// `SCSI_SENSE_BUFFERSIZE`, `include/scsi/scsi_cmnd.h`, 5.10 to 7.3. A macro, so BTF does not have it.
const SENSE_BUFFER_BYTES: u32 = 96;

/// What the driver of a failed request knows. Nothing if it is another driver's, if this kernel does
/// not tell where it is kept, or if it is about something else.
#[inline(always)]
pub fn kept(request: u64, disk: u64) -> Option<Reason> {
    let request_bytes = offset(&offsets().request_bytes);
    if request_bytes == ABSENT {
        return None;
    }
    let command = request + u64::from(request_bytes);
    // Drivers name their own disks: `sd_probe` (drivers/scsi/sd.c) and `nvme_alloc_ns`
    // (drivers/nvme/host/core.c), 5.10 to 7.3.
    match member::<[u8; 4]>(disk, &offsets().disk_name)? {
        [b'n', b'v', b'm', b'e'] => {
            let status: u16 = member(command, &offsets().nvme_status)?;
            Some(Reason { source: NVME, check: nvme_check(status.into())?, seed: 0 })
        }
        [b's', b'd', ..] => {
            let sense: u64 = member(command, &offsets().scsi_sense)?;
            // SAFETY: the helper takes any address, and fails on one that cannot be read.
            let sense = unsafe { bpf_probe_read_kernel(sense as *const [u8; SENSE_BYTES]) }.ok()?;
            let check = sense_check(&sense, SENSE_BUFFER_BYTES)?;
            Some(Reason { source: SCSI, check, seed: 0 })
        }
        _ => None,
    }
}
