//! Reads the ring buffer: each record as bytes.

use aya::maps::{MapData, RingBuf};
use bytes::{Bytes, BytesMut};
use tokio::io::{Interest, unix::AsyncFd};

use super::ring_fill::RingFill;

/// The consumer of the map `EVENTS`.
pub(crate) struct Ring {
    map: AsyncFd<RingBuf<MapData>>,
    /// Records are copied here before they are decoded, which frees their space in the ring.
    batch: BytesMut,
    /// `None` if the positions cannot be mapped.
    fill: Option<RingFill>,
}

/// The most bytes that one [`Ring::drain`] takes, so that the event loop handles signals and the child
/// process under any load.
const MAX_BATCH_BYTES: usize = 256 << 10;

impl Ring {
    /// Takes the map, and registers it with the tokio runtime.
    pub(crate) fn new(ring: RingBuf<MapData>) -> std::io::Result<Self> {
        let fill = RingFill::new(&ring)
            .inspect_err(|error| log::debug!("the fill of the ring buffer is not known: {error}"))
            .ok();
        // SAFETY: a `RingBuf` owns its map's descriptor, always returns the same one, and closes it on
        // drop, which the `AsyncFd` that owns it does last.
        let map = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(std::io::Error::from)?;
        Ok(Self { map, batch: BytesMut::with_capacity(MAX_BATCH_BYTES), fill })
    }

    /// Waits until a program wakes the reader.
    pub(crate) async fn readable(&mut self) -> std::io::Result<()> {
        // The descriptor is edge-triggered: the caller must drain the ring until it is empty.
        self.map.readable_mut().await?.clear_ready();
        Ok(())
    }

    /// The unread bytes, if they are known.
    pub(crate) fn unread_bytes(&self) -> Option<u64> {
        self.fill.as_ref().map(RingFill::bytes)
    }

    /// Passes the records in the ring to `each`, at most a batch. Returns whether more may be there.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Bytes)) -> bool {
        let mut taken = 0;
        while taken < MAX_BATCH_BYTES {
            let Some(item) = self.map.get_mut().next() else {
                return false;
            };
            self.batch.extend_from_slice(&item);
            drop(item);
            let record: Bytes = self.batch.split().freeze();
            taken += record.len();
            each(record);
            // `each` has dropped the record, so this reuses its memory.
            self.batch.reserve(size_of::<stable_trace_common::record::StallRecord>());
        }
        true
    }
}
