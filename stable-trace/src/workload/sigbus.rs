//! Handles SIGBUS, which the kernel sends for a store to mapped memory if it cannot allocate the
//! block (ENOSPC on a copy-on-write file system) or read the page (EIO).
//!
//! The handler maps an anonymous page at the address, so that the store completes, and sets a flag.
//! The worker counts the failure and maps the file again.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;

use super::region::Region;

thread_local! {
    /// Address and length of the mapping that this thread writes.
    static SPAN: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    /// Whether a store has caused a SIGBUS since the last [`take_fault`].
    static FAULT: Cell<bool> = const { Cell::new(false) };
}

static INSTALL: Once = Once::new();

/// Catches every SIGBUS that this thread causes in `region` from now on. The region must outlive
/// the thread's stores.
pub(super) fn catch_faults(region: &Region) {
    SPAN.set(region.span());
    INSTALL.call_once(|| {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: an all-zero sigaction is valid. The handler calls async-signal-safe functions
        // only, and uses thread-locals that need neither initialisation nor a destructor.
        unsafe {
            let action = action.assume_init_mut();
            action.sa_sigaction = on_sigbus as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, action, ptr::null_mut());
        }
    });
}

/// Whether a store has caused a SIGBUS since the last call. If so, the region must be restored.
pub(super) fn take_fault() -> bool {
    FAULT.replace(false)
}

extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo, and si_addr is set for SIGBUS.
    let address = unsafe { (*info).si_addr() };
    let (start, len) = SPAN.get();
    let page = rustix::param::page_size();
    let in_region = address.addr().checked_sub(start).is_some_and(|offset| offset < len);
    if in_region {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the new mapping replaces one page of this thread's region, to which no reference
        // exists. mmap is a plain system call, which is safe in a signal handler.
        let mapped = unsafe {
            let at = address.map_addr(|address| address & !(page - 1));
            libc::mmap(at, page, prot, flags, -1, 0)
        };
        if mapped != libc::MAP_FAILED {
            FAULT.set(true);
            return;
        }
    }
    // A fault elsewhere: the handler returns, the store repeats the fault, and the default action
    // ends the process.
    // SAFETY: signal() is async-signal-safe.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_beyond_the_end_of_the_file_is_caught() {
        let file = tempfile::tempfile().unwrap();
        let region = Region::of_file(&file, 8192).unwrap();
        catch_faults(&region);
        region.fill(4096, 8, 1);
        assert!(take_fault());
        assert!(!take_fault());
        // The file grows, so the region can be mapped again.
        file.set_len(8192).unwrap();
        region.restore(&file).unwrap();
        region.fill(4096, 8, 1);
        assert!(!take_fault());
        region.sync(4096, 4096).unwrap();
    }
}
