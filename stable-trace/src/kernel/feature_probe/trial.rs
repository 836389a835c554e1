//! An empty BPF program, loaded and let go: the two calls of bpf(2) that a trial needs.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// `BPF_PROG_LOAD` and `BPF_RAW_TRACEPOINT_OPEN` of `enum bpf_cmd`.
const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// `BPF_TRACE_FENTRY` of `enum bpf_attach_type`.
const TRACE_FENTRY: u32 = 24;

/// `mov64 r0, 0` and `exit`.
const RETURN_ZERO: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// A kind of program, by what it hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Kprobe,
    Tracepoint,
    RawTracepoint,
    Fentry {
        /// The function's type in the kernel's BTF.
        function: u32,
    },
}

impl Program {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kprobe => "a kprobe",
            Self::Tracepoint => "a tracepoint",
            Self::RawTracepoint => "a raw tracepoint",
            Self::Fentry { .. } => "fentry",
        }
    }

    /// `enum bpf_prog_type`.
    const fn number(self) -> u32 {
        match self {
            Self::Kprobe => 2,
            Self::Tracepoint => 5,
            Self::RawTracepoint => 17,
            Self::Fentry { .. } => 26,
        }
    }
}

/// How far a trial came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Load,
    Attach,
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, up to `attach_btf_id` (include/uapi/linux/bpf.h, 5.5). A
/// kernel that knows less takes it if the rest is zero (`bpf_check_uarg_tail_zero`).
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// `union bpf_attr` for `BPF_RAW_TRACEPOINT_OPEN`; fentry is opened by it without a name.
#[repr(C)]
#[derive(Default)]
struct OpenAttributes {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

/// Loads an empty program of the kind; one for fentry is attached as well, because a kernel may
/// lack the trampoline for it and say so only then. Both are gone on return.
pub(super) fn run(program: Program) -> Result<(), (Step, Errno)> {
    let loaded = load(program).map_err(|errno| (Step::Load, errno))?;
    match program {
        Program::Fentry { .. } => attach(&loaded).map(drop).map_err(|errno| (Step::Attach, errno)),
        Program::Kprobe | Program::Tracepoint | Program::RawTracepoint => Ok(()),
    }
}

fn load(program: Program) -> Result<OwnedFd, Errno> {
    let license = c"Dual MIT/GPL";
    let mut attributes = LoadAttributes {
        prog_type: program.number(),
        insn_cnt: 2,
        insns: RETURN_ZERO.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        prog_name: *b"stable_trace\0\0\0\0",
        ..LoadAttributes::default()
    };
    if let Program::Fentry { function } = program {
        attributes.expected_attach_type = TRACE_FENTRY;
        attributes.attach_btf_id = function;
    }
    // SAFETY: the two addresses in it are of constants: as many instructions as it says, and a
    // string with its end. No log is asked for, so the kernel writes nothing.
    unsafe { bpf(PROG_LOAD, &attributes) }
}

fn attach(program: &OwnedFd) -> Result<OwnedFd, Errno> {
    // A descriptor is never negative.
    let prog_fd = program.as_raw_fd().cast_unsigned();
    let attributes = OpenAttributes { prog_fd, ..OpenAttributes::default() };
    // SAFETY: it holds no address.
    unsafe { bpf(RAW_TRACEPOINT_OPEN, &attributes) }
}

/// bpf(2) for the commands that make a descriptor.
///
/// # Safety
/// `attributes` must be laid out as `union bpf_attr` is for the command, without padding bytes that
/// were never written, and every address in it must be good for what the command does with it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes from a reference to that many; the rest is
    // the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    match i32::try_from(result) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        }
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn the_attributes_are_laid_out_as_the_kernel_has_them() {
        assert_eq!(size_of::<LoadAttributes>(), 112);
        assert_eq!(offset_of!(LoadAttributes, log_buf), 32);
        assert_eq!(offset_of!(LoadAttributes, prog_name), 48);
        assert_eq!(offset_of!(LoadAttributes, expected_attach_type), 68);
        assert_eq!(offset_of!(LoadAttributes, func_info), 80);
        assert_eq!(offset_of!(LoadAttributes, attach_btf_id), 108);
        assert_eq!(size_of::<OpenAttributes>(), 16);
    }
}
