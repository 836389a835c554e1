//! Values that the compiler may not hold in registers.

use core::ptr;

/// A value that each access reads from memory or writes to it.
#[repr(transparent)]
pub(super) struct VolatileCell<T>(T);

impl<T: Copy> VolatileCell<T> {
    #[inline(always)]
    pub(super) fn get(&self) -> T {
        // SAFETY: a reference is valid to read.
        unsafe { ptr::read_volatile(&raw const self.0) }
    }

    #[inline(always)]
    pub(super) fn set(&mut self, value: T) {
        // SAFETY: an exclusive reference is valid to write.
        unsafe { ptr::write_volatile(&raw mut self.0, value) };
    }
}
