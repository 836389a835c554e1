//! A store to mapped memory that has no block to go to (ENOSPC of a copy-on-write file system, EIO
//! of a read) is a SIGBUS, which would end the process. Here it becomes a count: the handler puts an
//! anonymous page under the store, so that it completes, and the worker maps the file again.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;

use super::region::Region;

thread_local! {
    /// Address and length of the mapping that this thread stores to.
    static SPAN: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    /// Whether a store met no page since the last [`take`].
    static HIT: Cell<bool> = const { Cell::new(false) };
}

static INSTALL: Once = Once::new();

/// From now on a SIGBUS of this thread in `region` is noted instead of deadly. The region must
/// outlive the thread's stores.
pub fn guard(region: &Region) {
    SPAN.set(region.span());
    INSTALL.call_once(|| {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all zeroes is a valid sigaction; the handler calls async-signal-safe functions
        // only, and touches thread-locals without destructors that exist before their first use.
        unsafe {
            let action = action.assume_init_mut();
            action.sa_sigaction = on_sigbus as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, action, ptr::null_mut());
        }
    });
}

/// Whether a store since the last call met no page; its region must then be restored.
pub fn take() -> bool {
    HIT.replace(false)
}

extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo, and si_addr is set for SIGBUS.
    let address = unsafe { (*info).si_addr() };
    let (start, len) = SPAN.get();
    let page = rustix::param::page_size();
    let mine = address.addr().checked_sub(start).is_some_and(|offset| offset < len);
    if mine {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: it replaces one page of this thread's own mapping, to which there are only raw
        // pointers; mmap is a plain system call, safe in a signal handler.
        let mapped = unsafe {
            let at = address.map_addr(|address| address & !(page - 1));
            libc::mmap(at, page, prot, flags, -1, 0)
        };
        if mapped != libc::MAP_FAILED {
            HIT.set(true);
            return;
        }
    }
    // Somebody else's fault: returning repeats it, and then it is as deadly as it should be.
    // SAFETY: signal() is async-signal-safe.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_beyond_the_end_of_the_file_is_noted_and_survived() {
        let file = tempfile::tempfile().unwrap();
        let region = Region::of_file(&file, 8192).unwrap();
        guard(&region);
        region.fill(4096, 8, 1);
        assert!(take());
        assert!(!take());
        // The file has grown, and the region must show it again.
        file.set_len(8192).unwrap();
        region.restore(&file).unwrap();
        region.fill(4096, 8, 1);
        assert!(!take());
        region.sync(4096, 4096).unwrap();
    }
}
