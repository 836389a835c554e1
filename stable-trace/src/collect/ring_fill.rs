//! The unread bytes of the ring buffer, from its two positions, which user space may map.

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

/// The positions of a ring buffer, mapped read-only.
#[derive(Debug)]
pub struct RingFill {
    consumer: Position,
    producer: Position,
}

impl RingFill {
    /// Maps the positions of the map `EVENTS`: the consumer's is in the first page, the producer's in
    /// the second (`struct bpf_ringbuf`, kernel/bpf/ringbuf.c, 5.10 to 7.3).
    pub fn new(ring: &impl AsFd) -> io::Result<Self> {
        let page = page_size() as u64;
        Ok(Self { consumer: Position::new(ring, 0)?, producer: Position::new(ring, page)? })
    }

    /// The unread bytes, including the headers of records.
    pub fn bytes(&self) -> u64 {
        // The consumer first: the producer is never behind it.
        let consumer = self.consumer.read();
        self.producer.read().saturating_sub(consumer)
    }
}

/// A page that starts with a position.
#[derive(Debug)]
struct Position(NonNull<AtomicU64>);

impl Position {
    fn new(ring: &impl AsFd, offset: u64) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses; it overlaps no other.
        let page = unsafe {
            mmap(std::ptr::null_mut(), page_size(), ProtFlags::READ, MapFlags::SHARED, ring, offset)
        }?;
        NonNull::new(page.cast()).map(Self).ok_or(io::Errno::NOMEM)
    }

    fn read(&self) -> u64 {
        // SAFETY: the page is mapped until drop, and aligned; kernel and agent write the word
        // atomically.
        unsafe { self.0.as_ref() }.load(Relaxed)
    }
}

impl Drop for Position {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size, and no reference into it remains.
        let outcome = unsafe { munmap(self.0.as_ptr().cast(), page_size()) };
        if let Err(error) = outcome {
            log::debug!("cannot unmap a page of the ring buffer: {error}");
        }
    }
}
