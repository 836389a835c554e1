//! stable-trace's eBPF programs.
//!
//! Each program is thin: it gets its arguments in the way of its attach point and calls a function
//! that all forms of the same probe share. Loops are bounded, maps have a fixed size, and every map
//! operation or reservation that fails is counted ([`maps::count`]).
//!
//! A map, and a setting that the agent writes before the programs load, lives in the module of the
//! programs that own it; [`maps`] has what several groups share. The modules depend on each other in
//! one direction. From the bottom up:
//!
//! 1. [`maps`], [`members`], [`owner`], then [`waiters`]
//! 2. [`folio`], [`follow`], [`path`], [`stack`]
//! 3. [`filter`]
//! 4. [`process`], then [`stall`]; [`unstable`]
//! 5. [`wait`]
//! 6. the programs: [`writeback_wait`], [`tracepoint`], [`write_begin`], [`page_mkwrite`], [`integrity`],
//!    [`waiting_tasks`]
//!
//! # Preemption
//!
//! Programs at kprobes, kretprobes and classic tracepoints run with preemption off, and so do those at
//! raw tracepoints before 7.x. Programs at trampolines (fentry, fexit) can be preempted from 5.12 on
//! (`migrate_disable` in `__bpf_prog_enter`, kernel/bpf/trampoline.c), those at raw tracepoints on 7.x.
//! A preempted program stays on its CPU. The kernel skips the same program for other tasks on that CPU
//! meanwhile (`prog->active`), but another program may run there and use the same per-CPU value. So what several programs
//! use has an [`owner`], or is only ever added to atomically.
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

mod filter;
mod folio;
mod follow;
mod integrity;
mod maps;
mod members;
mod owner;
mod page_mkwrite;
mod path;
mod process;
mod stack;
mod stall;
mod tracepoint;
mod unstable;
mod wait;
mod waiters;
mod waiting_tasks;
mod write_begin;
mod writeback_wait;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program with an endless loop.
    loop {}
}

/// The kernel offers helpers such as `bpf_get_stack` only to programs with a licence that is compatible
/// with its own (`license_is_gpl_compatible`, include/linux/license.h).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
