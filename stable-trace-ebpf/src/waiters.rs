//! The tasks that wait, and what is known of their waits.

use aya_ebpf::{
    bindings::BPF_ANY,
    macros::map,
    maps::{Array, HashMap},
};
use stable_trace_common::waiter::Waiter;

use crate::maps::{add_one, subtract_one};

/// Tasks that wait, by the address of their `task_struct`: `sched_switch` has it as an argument, and it
/// is unique while the task lives. An entry is removed at the latest when its task is next switched out
/// outside the wait function, which happens to an exiting task too.
#[map]
pub(crate) static WAITERS: HashMap<u64, Waiter> = HashMap::with_max_entries(16_384, 0);

/// How many tasks of [`WAITERS`] share a place, which the task's address gives. Two look-ups at every switch
/// of tasks of the machine would cost more: mostly the place is empty, and this is one load.
#[map]
static WAITERS_AT: Array<[u64; PLACES]> = Array::with_max_entries(1, 0);

/// Places of [`WAITERS_AT`].
const PLACES: usize = 1024;

/// The initial value of an entry.
static NEW: Waiter = Waiter::NEW;

/// Adds an entry of the current task, to be filled in place: a second copy would not fit on the stack.
/// `None` if the map is full.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "the stack has no room for a copy")]
pub(crate) fn add(task: u64) -> Option<*mut Waiter> {
    WAITERS.insert(task, &NEW, u64::from(BPF_ANY)).ok()?;
    if let Some(tasks) = tasks_at(task) {
        // SAFETY: a live, aligned map value, to which every writer adds atomically.
        unsafe { add_one(tasks) };
    }
    WAITERS.get_ptr_mut(task)
}

/// Removes the entry of a task, which exists: only its own probes and switches remove it.
#[inline(always)]
pub(crate) fn remove(task: u64) {
    if let (Ok(()), Some(tasks)) = (WAITERS.remove(task), tasks_at(task)) {
        // SAFETY: as in `add`.
        unsafe { subtract_one(tasks) };
    }
}

/// The number of waiting tasks at a task's place.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "less than 1,024")]
fn tasks_at(task: u64) -> Option<*mut u64> {
    let places = WAITERS_AT.get_ptr_mut(0)?;
    // The low bits of the addresses are all the same.
    let place = task.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PLACES.ilog2());
    // SAFETY: the shift leaves a place of the live map value.
    Some(unsafe { (&raw mut (*places)[place as usize & (PLACES - 1)]) })
}

/// The entry of a task that waits. Mostly there is none, and the place of [`WAITERS_AT`] tells.
#[inline(always)]
pub(crate) fn get(task: u64) -> Option<*mut Waiter> {
    let tasks = tasks_at(task)?;
    // SAFETY: a live, aligned map value. Others change it meanwhile, but not on behalf of this task.
    if unsafe { tasks.read_volatile() } == 0 {
        return None;
    }
    WAITERS.get_ptr_mut(task)
}
