//! How much waits in the ring buffer: its two positions, which the kernel lets anybody map.

use std::{
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use rustix::{
    io,
    mm::{MapFlags, ProtFlags, mmap, munmap},
    param::page_size,
};

/// The positions of a ring buffer, mapped to be read.
#[derive(Debug)]
pub struct RingFill {
    consumer: Position,
    producer: Position,
}

impl RingFill {
    /// Maps the positions of the map `EVENTS`: the consumer's is in its first page, the producer's in
    /// its second (`struct bpf_ringbuf`, kernel/bpf/ringbuf.c, 5.10 to 7.3).
    ///
    /// # Errors
    /// The kernel refused.
    pub fn new(ring: &impl AsFd) -> io::Result<Self> {
        let page = page_size() as u64;
        Ok(Self { consumer: Position::new(ring, 0)?, producer: Position::new(ring, page)? })
    }

    /// Bytes that wait to be read, headers of records included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // In this order: the producer is never behind.
        let consumer = self.consumer.read();
        self.producer.read().saturating_sub(consumer)
    }
}

/// One page with one position in it.
#[derive(Debug)]
struct Position(NonNull<AtomicU64>);

impl Position {
    fn new(ring: &impl AsFd, offset: u64) -> io::Result<Self> {
        // SAFETY: a new mapping wherever the kernel likes it; it overlaps no other.
        let page = unsafe {
            mmap(std::ptr::null_mut(), page_size(), ProtFlags::READ, MapFlags::SHARED, ring, offset)
        }?;
        NonNull::new(page.cast()).map(Self).ok_or(io::Errno::NOMEM)
    }

    fn read(&self) -> u64 {
        // SAFETY: a page that stays mapped as long as this lives, aligned as pages are; kernel and
        // agent write the word atomically.
        unsafe { self.0.as_ref() }.load(Relaxed)
    }
}

impl Drop for Position {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size, and nobody keeps a reference into it.
        let outcome = unsafe { munmap(self.0.as_ptr().cast(), page_size()) };
        if let Err(error) = outcome {
            log::debug!("a page of the ring buffer stays mapped: {error}");
        }
    }
}
