//! From the bytes of a record to its event.

use bytes::Bytes;
use stable_trace_analysis::{error_chain::ErrorChain, event::Event, units::MonotonicTime};

use super::{emitter::Emitter, evidence_files::EvidenceFiles};
use crate::{
    collect::evidence::{EvidenceRing, FailureId},
    enrich::{
        Enricher,
        decode::{Record, decode},
    },
};

/// What turns records into events.
pub(super) struct Reader<'a> {
    pub(super) evidence: &'a mut EvidenceRing,
    pub(super) evidence_files: &'a mut Option<EvidenceFiles>,
    pub(super) enricher: &'a mut Enricher,
    pub(super) received: &'a mut u64,
    pub(super) malformed: &'a mut u64,
}

impl Reader<'_> {
    /// Streams one record.
    pub(super) fn receive(&mut self, bytes: Bytes, emitter: &mut Emitter) {
        let record = match decode(bytes) {
            Ok(record) => record,
            Err(error) => {
                *self.received += 1;
                if *self.malformed == 0 {
                    log::warn!(
                        "skipped a record (this warning is shown once, the summary has the count): {}",
                        ErrorChain(&error)
                    );
                }
                *self.malformed += 1;
                return;
            }
        };
        let (time_ns, event) = match &record {
            Record::Waiting(record) => {
                (record.end_ns, self.enricher.waiting(record).map(Event::Waiting))
            }
            Record::Stall(record) => (record.end_ns, self.enricher.stall(record).map(Event::Stall)),
            Record::Unstable(record) => (record.time_ns, self.enricher.unstable_write(record)),
            Record::Integrity(record) => {
                let (time_ns, sector) = (record.time_ns, record.sector);
                let failure = FailureId { time_ns, sector, dev: record.key.dev };
                let copied = self.evidence.take(failure);
                let event = self.enricher.integrity(record, copied.as_ref());
                if let (Some(files), Some(copied)) = (&mut *self.evidence_files, copied) {
                    files.keep(failure, copied);
                }
                (time_ns, Some(event))
            }
            // No events.
            Record::Path(names) => return self.enricher.paths.learn(names),
            Record::Stack(sample) => return self.enricher.learn_layout(sample),
        };
        *self.received += 1;
        if let Some(event) = event {
            emitter.emit_at(MonotonicTime::from_ns(time_ns), event);
        }
    }
}
