//! Who uses a value of this CPU that a program of another task may want meanwhile.

use core::ptr;

use crate::maps::{add_one, subtract_one};

/// Counts those who use a value, or try to. The value of a new map has no owner.
#[repr(transparent)]
pub(crate) struct Owner(u64);

impl Owner {
    /// Takes the value; false if it is taken. Of two that try at the same time both may fail, and never both succeed: the
    /// later one finds the addition of the earlier one.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> bool {
        let users = &raw mut self.0;
        // SAFETY: a live, aligned map value, to which every program adds atomically.
        let users = unsafe {
            add_one(users);
            ptr::read_volatile(users)
        };
        if users != 1 {
            self.release();
        }
        users == 1
    }

    /// Gives the value back.
    #[inline(always)]
    pub(crate) fn release(&mut self) {
        // SAFETY: as in `take`.
        unsafe { subtract_one(&raw mut self.0) };
    }
}
