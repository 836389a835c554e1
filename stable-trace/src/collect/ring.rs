//! Reading the ring buffer: each record as bytes.

use aya::maps::{MapData, RingBuf};
use bytes::{Bytes, BytesMut};
use tokio::io::{Interest, unix::AsyncFd};

use super::ring_fill::RingFill;

/// The consumer's end of the map `EVENTS`.
pub struct Ring {
    map: AsyncFd<RingBuf<MapData>>,
    /// Records are copied here before they are decoded, so that the kernel gets its room back.
    batch: BytesMut,
    /// Records taken so far.
    received: u64,
    /// Absent where the kernel does not let its positions be mapped.
    fill: Option<RingFill>,
}

/// The most that one [`Ring::drain`] takes, in bytes: more waits for the next turn, so that signals
/// and the child are looked at under any flood.
const BATCH_BYTES: usize = 256 << 10;

impl Ring {
    /// Takes the map. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// The runtime could not watch the map's descriptor.
    pub fn new(ring: RingBuf<MapData>) -> std::io::Result<Self> {
        let fill = RingFill::new(&ring)
            .inspect_err(|error| log::debug!("the fill of the ring is not known: {error}"))
            .ok();
        // SAFETY: a `RingBuf` owns its map's descriptor, hands out that same one each time, and
        // closes it only when it is dropped, which the `AsyncFd` that owns it does last.
        let map = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(std::io::Error::from)?;
        Ok(Self { map, batch: BytesMut::with_capacity(BATCH_BYTES), received: 0, fill })
    }

    /// Waits until the kernel says that much is in the ring.
    ///
    /// # Errors
    /// The runtime stopped watching the descriptor.
    pub async fn readable(&mut self) -> std::io::Result<()> {
        // The descriptor is edge-triggered: whoever is woken drains the ring until it is empty.
        self.map.readable_mut().await?.clear_ready();
        Ok(())
    }

    /// Bytes that wait in it, where that is known.
    #[must_use]
    pub fn waiting(&self) -> Option<u64> {
        self.fill.as_ref().map(RingFill::bytes)
    }

    /// Records that were handed over so far.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Hands over what is in the ring, at most a batch. True if more may be there.
    pub fn drain(&mut self, mut each: impl FnMut(Bytes)) -> bool {
        let mut taken = 0;
        while taken < BATCH_BYTES {
            let Some(item) = self.map.get_mut().next() else {
                return false;
            };
            self.batch.extend_from_slice(&item);
            drop(item);
            let record: Bytes = self.batch.split().freeze();
            taken += record.len();
            self.received += 1;
            each(record);
            // The record is gone, so this takes the same memory again instead of more.
            self.batch.reserve(size_of::<stable_trace_common::record::StallRecord>());
        }
        true
    }
}
