//! Which check failed, as the driver's part of a request (its PDU) holds it until the request is freed.
//!
//! "Driver command data is immediately after the request" (`blk_mq_rq_to_pdu`,
//! include/linux/blk-mq.h, 5.10 to 7.3). This needs no probe and no order of events, but BTF of the
//! driver's types; BTF describes those of modules from 5.11 on.

use stable_trace_common::{
    integrity::{NVME, SCSI, SENSE_BYTES, nvme_check, sense_check},
    offsets::ABSENT,
};

use super::check_report::FailedCheck;
use crate::members::{member, offset, offsets, read};

/// Bytes of a command's sense buffer, which is cleared before the command is sent:
/// `SCSI_SENSE_BUFFERSIZE`, `include/scsi/scsi_cmnd.h`, 5.10 to 7.3. A macro, so BTF does not have it.
const SENSE_BUFFER_BYTES: u32 = 96;

/// The failed check of a request. `None` if it is another driver's request, if this kernel's BTF lacks
/// the driver's types, or if the request failed for another reason.
#[inline(always)]
pub(super) fn failed_check(request: u64, disk: u64) -> Option<FailedCheck> {
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
            Some(FailedCheck { source: NVME, check: nvme_check(status.into())?, seed: 0 })
        }
        [b's', b'd', ..] => {
            let sense: u64 = member(command, &offsets().scsi_sense)?;
            let sense: [u8; SENSE_BYTES] = read(sense).ok()?;
            let check = sense_check(&sense, SENSE_BUFFER_BYTES)?;
            Some(FailedCheck { source: SCSI, check, seed: 0 })
        }
        _ => None,
    }
}
