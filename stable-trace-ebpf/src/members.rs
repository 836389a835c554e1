//! Reading members of kernel structures through the offsets that the running kernel's BTF gave.

use core::ptr;

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};
use stable_trace_common::offsets::{ABSENT, Offsets};

/// The offsets. The agent writes them before the programs load. To the verifier they are constants, so
/// code for members that this kernel does not have is removed.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::ABSENT;

/// One field of [`OFFSETS`]. Volatile: the compiler would take the value at build time otherwise.
#[inline(always)]
pub(crate) fn offset(field: &'static u32) -> u32 {
    // SAFETY: a reference is valid to read.
    unsafe { ptr::read_volatile(field) }
}

/// The table, for naming its fields.
#[inline(always)]
pub(crate) fn offsets() -> &'static Offsets {
    &OFFSETS
}

/// Reads a member of a kernel structure; `None` if this kernel does not have it, or the address cannot
/// be read.
#[inline(always)]
pub(crate) fn member<T>(structure: u64, field: &'static u32) -> Option<T> {
    let offset = offset(field);
    if offset == ABSENT || structure == 0 {
        return None;
    }
    read(structure + u64::from(offset)).ok()
}

/// Reads kernel memory; an error if the address cannot be read. `T` is made of integers. Returns the
/// helper's own `Result`: with an `Option` some programs compile to half as many instructions again.
#[inline(always)]
pub(crate) fn read<T>(address: u64) -> Result<T, i32> {
    // SAFETY: the helper takes any address, and fails on one that cannot be read.
    unsafe { bpf_probe_read_kernel(address as *const T) }
}

/// Reads a word of kernel memory; 0 if the address cannot be read.
#[inline(always)]
pub(crate) fn read_or_zero(address: u64) -> u64 {
    let mut word = 0_u64;
    // SAFETY: the helper writes 8 bytes, zeros if the address cannot be read, and takes any address.
    let _ = unsafe {
        generated::bpf_probe_read_kernel(
            (&raw mut word).cast(),
            8,
            address as *const core::ffi::c_void,
        )
    };
    word
}

/// As [`word`], of 32 bits.
#[inline(always)]
pub(crate) fn word_32(structure: u64, field: &'static u32) -> u32 {
    let offset = offset(field);
    if offset == ABSENT {
        return 0;
    }
    let mut word = 0_u32;
    // SAFETY: the helper writes 4 bytes, zeros if the address cannot be read, and takes any address.
    let _ = unsafe {
        generated::bpf_probe_read_kernel(
            (&raw mut word).cast(),
            4,
            (structure + u64::from(offset)) as *const core::ffi::c_void,
        )
    };
    word
}

/// Copies a value onto itself. The verifier knows nothing of what a helper has written, so that the ways by which
/// the value was found are one for what follows.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a value on the stack, of at most 512 bytes")]
pub(crate) fn make_unknown<T>(value: &mut T) {
    let value: *mut T = value;
    // SAFETY: the helper reads as many bytes as it writes, those of `value`, and leaves them as they are.
    let _ = unsafe {
        generated::bpf_probe_read_kernel(
            value.cast(),
            size_of::<T>() as u32,
            value.cast_const().cast(),
        )
    };
}

/// Reads a word that is a member of a kernel structure; 0 if this kernel does not have it, or the address
/// cannot be read.
#[inline(always)]
pub(crate) fn word(structure: u64, field: &'static u32) -> u64 {
    let offset = offset(field);
    if offset == ABSENT { 0 } else { read_or_zero(structure + u64::from(offset)) }
}

/// A pointer as a number, by way of a map's memory: the verifier does not allow to mask a pointer.
#[inline(always)]
pub(crate) fn as_number(pointer: u64, memory: *mut u64) -> u64 {
    // SAFETY: the memory is a live map value that only this program uses.
    unsafe {
        memory.write_volatile(pointer);
        memory.read_volatile()
    }
}
