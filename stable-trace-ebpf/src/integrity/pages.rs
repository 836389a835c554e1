//! The pages of a failure, and whose they are.
//!
//! What is walked lies in a map and not on the stack. The verifier follows every value of a stack
//! slot through every turn of a loop, and every combination of them; of a map's memory it knows
//! nothing, so that each turn looks like the one before. What turns hand on is in [`Kept`], which
//! keep the compiler from carrying it in registers.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::bpf_loop;
use stable_trace_common::{
    integrity::{ANONYMOUS, FILE, PageRun, RUNS, UNOWNED},
    waiter::Folio,
};

use super::Failure;
use crate::{
    folio::{self, MAPPING_FLAGS, member, offset, offsets},
    maps::WALKS,
};

/// Pages of a failure that are looked at: 1 MiB. Most failures have fewer.
const WALKED: u32 = 256;

/// Where in a bio its pages begin.
#[repr(C)]
pub struct Place {
    /// The bio; others may follow it.
    pub bio: u64,
    /// Bytes of it that are left; those that follow have their own.
    pub size: u32,
    /// Index into its vector.
    pub idx: u32,
    /// Bytes of that element that are behind.
    pub done: u32,
    /// 1 if the bios that follow belong to the same request.
    pub chained: u32,
}

impl Place {
    /// Where an iterator (`struct bvec_iter`) stands.
    #[inline(always)]
    pub fn at(bio: u64, iter: u64) -> Option<Self> {
        Some(Self {
            bio,
            size: member(iter, &offsets().iter_size)?,
            idx: member(iter, &offsets().iter_idx)?,
            done: member(iter, &offsets().iter_done)?,
            chained: 0,
        })
    }
}

/// The iterator inside a bio.
#[inline(always)]
pub fn own_iter(bio: u64) -> u64 {
    bio + u64::from(offset(&offsets().bio_iter))
}

/// A value that is in memory, and nowhere else, between one turn and the next.
#[repr(transparent)]
struct Kept<T>(T);

impl<T: Copy> Kept<T> {
    #[inline(always)]
    fn get(&self) -> T {
        // SAFETY: a reference is valid to read.
        unsafe { ptr::read_volatile(&raw const self.0) }
    }

    #[inline(always)]
    fn set(&mut self, value: T) {
        // SAFETY: an exclusive reference is valid to write.
        unsafe { ptr::write_volatile(&raw mut self.0, value) };
    }
}

/// The walk of one kind of program on one CPU.
#[repr(C)]
pub struct Walk {
    /// Not 0 while a walk is under way: a program that interrupts it goes without.
    busy: Kept<u64>,
    bio: Kept<u64>,
    /// Address of the bio's vector.
    vec: Kept<u64>,
    /// Bytes that are left of the whole.
    left: Kept<u64>,
    size: Kept<u32>,
    idx: Kept<u32>,
    done: Kept<u32>,
    chained: Kept<u32>,
    /// Pages that were found.
    found: Kept<u64>,
    /// Addresses of their `struct page`.
    pages: [Kept<u64>; WALKED as usize],
    /// Of the page before: its mapping, or what stands for it, and its index.
    last: Kept<u64>,
    last_index: Kept<u64>,
    /// Runs that are in use.
    used: Kept<u64>,
    /// Pages that follow one another.
    runs: [Run; RUNS],
}

/// Pages that follow one another, before it is looked up whose they are.
#[repr(C)]
struct Run {
    /// How many.
    count: Kept<u64>,
    /// Their mapping, or what stands for it.
    owner: Kept<u64>,
    /// The head of the first one.
    head: Kept<u64>,
    /// Index of the first one within its file.
    index: Kept<u64>,
}

impl Walk {
    /// Takes the walk of a lane; nothing if it is taken already.
    #[inline(always)]
    pub fn take(lane: u32) -> Option<&'static mut Self> {
        let walk = WALKS.get_ptr_mut(lane)?;
        // SAFETY: a live per-CPU map value of this type; `busy` keeps out whoever interrupts us.
        let walk = unsafe { &mut *walk };
        if walk.busy.get() != 0 {
            return None;
        }
        walk.busy.set(1);
        Some(walk)
    }

    /// Gives it back.
    #[inline(always)]
    pub fn release(&mut self) {
        self.busy.set(0);
    }

    /// The page of that index; nothing past the last one.
    #[inline(always)]
    pub fn page(&self, index: u32) -> Option<u64> {
        if u64::from(index) >= self.found.get() {
            return None;
        }
        self.pages.get(index as usize).map(Kept::get)
    }

    /// Starts at the beginning of a failure.
    #[inline(always)]
    pub fn begin(&mut self, failure: &Failure) {
        let place = &failure.place;
        self.bio.set(place.bio);
        self.vec.set(member(place.bio, &offsets().bio_vec).unwrap_or(0));
        self.left.set(failure.bytes);
        self.size.set(place.size);
        self.idx.set(place.idx);
        self.done.set(place.done);
        self.chained.set(place.chained);
        self.found.set(0);
        self.used.set(0);
    }
}

/// Turn: finds one page.
pub extern "C" fn collect(index: u32, turn: *mut Turn) -> u64 {
    // SAFETY: whoever runs the turns has both, and they outlive them.
    let walk = unsafe { &mut *(*turn).walk };
    let Some(page) = next(walk) else {
        return STOP;
    };
    let Some(slot) = walk.pages.get_mut(index as usize) else {
        return STOP;
    };
    slot.set(page);
    walk.found.set(u64::from(index) + 1);
    GO_ON
}

/// The next page; nothing at the end.
#[inline(always)]
fn next(walk: &mut Walk) -> Option<u64> {
    if walk.left.get() == 0 {
        return None;
    }
    if walk.size.get() == 0 {
        if walk.chained.get() == 0 {
            return None;
        }
        walk.bio.set(member(walk.bio.get(), &offsets().bio_next)?);
        walk.vec.set(member(walk.bio.get(), &offsets().bio_vec)?);
        let place = Place::at(walk.bio.get(), own_iter(walk.bio.get()))?;
        walk.size.set(place.size);
        walk.idx.set(place.idx);
        walk.done.set(place.done);
    }
    // `struct bio_vec` is 16 bytes on every 64-bit kernel: a pointer and two 32-bit words.
    let element = walk.vec.get() + 16 * u64::from(walk.idx.get());
    let page: u64 = member(element, &offsets().vec_page)?;
    let start: u32 = member(element, &offsets().vec_offset)?;
    let len: u32 = member(element, &offsets().vec_len)?;
    let shift = offset(&offsets().page_shift) & 31;
    let at = start.wrapping_add(walk.done.get());
    let in_page = at & ((1 << shift) - 1);
    let step = ((1 << shift) - in_page).min(len.wrapping_sub(walk.done.get())).min(walk.size.get());
    if step == 0 {
        return None;
    }
    walk.size.set(walk.size.get() - step);
    walk.left.set(walk.left.get().saturating_sub(u64::from(step)));
    walk.done.set(walk.done.get() + step);
    if walk.done.get() >= len {
        walk.idx.set(walk.idx.get() + 1);
        walk.done.set(0);
    }
    // An element may have many pages, which follow one another in memory.
    Some(page + u64::from(at >> shift) * u64::from(offset(&offsets().page_bytes)))
}

/// Turn: adds one page to the run that it follows, or begins one with it.
pub extern "C" fn group(index: u32, turn: *mut Turn) -> u64 {
    // SAFETY: as in `collect`.
    let walk = unsafe { &mut *(*turn).walk };
    let Some(page) = walk.page(index) else {
        return STOP;
    };
    let head = folio::head_of_page(page);
    let mapping: u64 = member(head, &offsets().folio_mapping).unwrap_or(0);
    let base: u64 = member(head, &offsets().folio_index).unwrap_or(0);
    let bytes = u64::from(offset(&offsets().page_bytes));
    let owner = owner(mapping);
    let index = base + (page - head) / if bytes == 0 { 1 } else { bytes };
    let follows = walk.used.get() != 0
        && walk.last.get() == owner
        && (owner <= ANYBODY || index == walk.last_index.get().wrapping_add(1));
    walk.last.set(owner);
    walk.last_index.set(index);
    if !follows {
        walk.used.set(walk.used.get() + 1);
    }
    let at = usize::try_from(walk.used.get().wrapping_sub(1)).unwrap_or(RUNS);
    let Some(run) = walk.runs.get_mut(at) else {
        return STOP;
    };
    if follows {
        run.count.set(run.count.get() + 1);
    } else {
        run.count.set(1);
        run.owner.set(owner);
        run.head.set(head);
        run.index.set(index);
    }
    GO_ON
}

/// Turn: says whose one run is.
pub extern "C" fn describe(index: u32, turn: *mut Turn) -> u64 {
    // SAFETY: as in `collect`.
    let (walk, runs) = unsafe { (&*(*turn).walk, &mut *(*turn).runs) };
    if u64::from(index) >= walk.used.get() {
        return STOP;
    }
    let (Some(found), Some(run)) = (walk.runs.get(index as usize), runs.get_mut(index as usize))
    else {
        return STOP;
    };
    run.count = found.count.get();
    let owner = found.owner.get();
    if owner <= ANYBODY {
        run.kind = if owner == ANYBODY { ANONYMOUS } else { UNOWNED };
        return GO_ON;
    }
    let mut first = Folio::UNKNOWN;
    if folio::identify(found.head.get(), owner, &mut first).is_some() {
        first.index = found.index.get();
        run.first = first;
        run.kind = FILE;
        run.stable = u32::from(folio::stable_required(owner));
    }
    GO_ON
}

/// Stands for the mapping of a page that is nobody's.
const NOBODY: u64 = 0;
/// Stands for the mapping of an anonymous page.
const ANYBODY: u64 = 1;

/// The mapping of a page that is a file's; else what stands for it.
#[inline(always)]
fn owner(mapping: u64) -> u64 {
    // `PAGE_MAPPING_ANON`, include/linux/page-flags.h, 5.10 to 6.17, `FOLIO_MAPPING_ANON` later.
    if mapping & 1 == 1 {
        return ANYBODY;
    }
    // The word may be something else's: a slab keeps a list there. Only an inode's own mapping leads
    // back to itself.
    let inode: u64 = member(mapping, &offsets().mapping_host).unwrap_or(0);
    let back: u64 = member(inode, &offsets().inode_mapping).unwrap_or(0);
    if mapping & MAPPING_FLAGS == 0 && mapping != 0 && back == mapping { mapping } else { NOBODY }
}

/// What the turns of a loop have.
#[repr(C)]
pub struct Turn {
    /// The walk.
    pub walk: *mut Walk,
    /// The failure.
    pub failure: *const Failure,
    /// The runs of its record.
    pub runs: *mut [PageRun; RUNS],
    /// When it is counted, by `CLOCK_MONOTONIC` in ns.
    pub now: u64,
    /// What a turn has found.
    pub answer: u64,
}

/// Another turn, if there is one.
pub const GO_ON: u64 = 0;
/// No more turns.
pub const STOP: u64 = 1;

/// Takes a turn for each page, or run.
///
/// `LOOPED`: the kernel runs the loop (`bpf_loop`, 5.17), and its verifier looks at one turn of it.
/// Without, it looks at every one, so there are fewer.
#[inline(always)]
pub fn turns<const LOOPED: bool>(each: extern "C" fn(u32, *mut Turn) -> u64, turn: &mut Turn) {
    const UNROLLED: u32 = 16;
    let turn: *mut Turn = turn;
    if LOOPED {
        // SAFETY: the helper calls a function of this type, and the turn outlives the call.
        unsafe { bpf_loop(WALKED, each as *mut c_void, turn.cast(), 0) };
        return;
    }
    for index in 0..UNROLLED {
        if each(index, turn) != GO_ON {
            return;
        }
    }
}
