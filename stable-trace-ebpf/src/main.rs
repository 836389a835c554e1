//! stable-trace's eBPF programs.
//!
//! Each program is thin: it gets its arguments in the way of its attach point and calls a function
//! that all forms of the same probe share. Loops are bounded, state lives in maps of a fixed size,
//! and every map operation or reservation that fails is counted ([`maps::count`]).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    clippy::inline_always,
    reason = "a call between programs costs registers and stack, and old verifiers check less across one"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "aya's macros hand each program its context by value"
)]

mod emit;
mod filter;
mod folio;
mod integrity;
mod maps;
mod page_mkwrite;
mod stack;
mod tracepoint;
mod unstable;
mod wait;
mod write_begin;
mod writeback_wait;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that could get here: nothing in these programs panics.
    loop {}
}

/// The kernel lends helpers such as `bpf_get_stack` only to programs whose licence is compatible
/// with its own (`license_is_gpl_compatible`, include/linux/license.h).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
