//! Loads and attaches an empty BPF program, by the two commands of bpf(2) for it.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// `BPF_PROG_LOAD` and `BPF_RAW_TRACEPOINT_OPEN` of `enum bpf_cmd`.
const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// `BPF_TRACE_FENTRY` of `enum bpf_attach_type`.
const TRACE_FENTRY: u32 = 24;

/// `mov64 r0, 0` and `exit`.
const RETURN_ZERO: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// The type of a program, by its attach point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgramType {
    Kprobe,
    Tracepoint,
    RawTracepoint,
    Fentry {
        /// ID of the function's type in the kernel's BTF.
        function: u32,
    },
}

impl ProgramType {
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

/// The command that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Load,
    Attach,
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, up to `attach_btf_id` (include/uapi/linux/bpf.h, 5.5). An
/// older kernel accepts it if the rest is zero (`bpf_check_uarg_tail_zero`).
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

/// `union bpf_attr` for `BPF_RAW_TRACEPOINT_OPEN`, which attaches fentry if the name is empty.
#[repr(C)]
#[derive(Default)]
struct OpenAttributes {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

/// Loads an empty program, and attaches it if it is for fentry: a kernel without trampolines refuses
/// only that. Program and link are released on return.
pub(super) fn load_and_release(program: ProgramType) -> Result<(), (Stage, Errno)> {
    let loaded = load(program).map_err(|errno| (Stage::Load, errno))?;
    match program {
        ProgramType::Fentry { .. } => {
            attach(&loaded).map(drop).map_err(|errno| (Stage::Attach, errno))
        }
        ProgramType::Kprobe | ProgramType::Tracepoint | ProgramType::RawTracepoint => Ok(()),
    }
}

fn load(program: ProgramType) -> Result<OwnedFd, Errno> {
    let license = c"Dual MIT/GPL";
    let mut attributes = LoadAttributes {
        prog_type: program.number(),
        insn_cnt: 2,
        insns: RETURN_ZERO.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        prog_name: *b"stable_trace\0\0\0\0",
        ..LoadAttributes::default()
    };
    if let ProgramType::Fentry { function } = program {
        attributes.expected_attach_type = TRACE_FENTRY;
        attributes.attach_btf_id = function;
    }
    // SAFETY: the two addresses are those of constants: `insn_cnt` instructions, and a string with
    // its NUL. No log is requested, so the kernel writes nothing.
    unsafe { bpf(PROG_LOAD, &attributes) }
}

fn attach(program: &OwnedFd) -> Result<OwnedFd, Errno> {
    // A descriptor is never negative.
    let prog_fd = program.as_raw_fd().cast_unsigned();
    let attributes = OpenAttributes { prog_fd, ..OpenAttributes::default() };
    // SAFETY: the attributes contain no address.
    unsafe { bpf(RAW_TRACEPOINT_OPEN, &attributes) }
}

/// Calls bpf(2) with a command that returns a file descriptor.
///
/// # Safety
/// `attributes` must have the layout of `union bpf_attr` for the command and no uninitialised
/// padding, and every address in it must be valid for the command.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of a valid reference; the caller ensures the
    // rest.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    match i32::try_from(result) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the kernel has just opened this descriptor, and nothing else owns it.
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
    fn attributes_have_the_layout_of_the_kernel() {
        assert_eq!(size_of::<LoadAttributes>(), 112);
        assert_eq!(offset_of!(LoadAttributes, log_buf), 32);
        assert_eq!(offset_of!(LoadAttributes, prog_name), 48);
        assert_eq!(offset_of!(LoadAttributes, expected_attach_type), 68);
        assert_eq!(offset_of!(LoadAttributes, func_info), 80);
        assert_eq!(offset_of!(LoadAttributes, attach_btf_id), 108);
        assert_eq!(size_of::<OpenAttributes>(), 16);
    }
}
