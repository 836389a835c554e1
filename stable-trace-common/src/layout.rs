//! Stack layouts: how the programs recognise a kernel stack without walking it.
//!
//! A function called at a given place has a frame of a given size, so the distance between two return
//! addresses on a stack is the same whenever the same calls led there. A layout lists where the return
//! addresses of one known stack are, counted from a place near the stack's inner end. If each of them is
//! there, the stack is that one: the innermost is always at the same distance, and each proves the size of
//! the frame up to the next. The agent learns layouts from samples of walked stacks.

use crate::stack::FRAMES;

/// Words of a stack that are looked at, from its inner end out.
pub const WINDOW_WORDS: usize = 128;

/// Words that are read at a time for a sample. The read that passes the end of the stack fails.
pub const CHUNK_WORDS: usize = 16;

/// Frames of a layout, at most. The context of a wait is decided within some ten.
pub const LAYOUT_FRAMES: usize = 11;

/// Layouts of a table. They are compared one after another.
pub const LAYOUTS: usize = 8;

/// The table for stacks at the beginning of a wait.
pub const AT_BEGIN: u32 = 0;
/// The table for stacks of tasks that are switched out while they wait.
pub const AT_SWITCH: u32 = 1;
/// Tables of layouts.
pub const TABLES: u32 = 2;

/// Where the return addresses of a stack are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The stack's [`Stack::id`](crate::stack::Stack::id); 0: this place of the table is empty.
    pub stack: u64,
    /// Return addresses, from the outermost in. After the last one the first is repeated.
    pub addresses: [u64; LAYOUT_FRAMES],
    /// The word of the window that each is in.
    pub words: [u16; LAYOUT_FRAMES],
    /// How many words of the window that takes.
    pub window_words: u16,
}

impl Layout {
    /// An empty place.
    pub const EMPTY: Self = Self {
        stack: 0,
        addresses: [0; LAYOUT_FRAMES],
        words: [0; LAYOUT_FRAMES],
        window_words: 0,
    };
}

/// A table of layouts: a value of the map `STACK_LAYOUTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutTable {
    /// Bytes of a stack that the layouts need; 0 if there is no layout. Less than that of a window.
    pub window_bytes: u64,
    /// Of [`AT_SWITCH`]: the distance in bytes from the inner end of the stack at the beginning of a wait to the
    /// return address into the wait function, while the task sleeps there. 0 if it is not known.
    pub wait_function_at: u64,
    /// The layouts.
    pub layouts: [Layout; LAYOUTS],
}

impl LayoutTable {
    /// A table without layouts.
    pub const EMPTY: Self =
        Self { window_bytes: 0, wait_function_at: 0, layouts: [Layout::EMPTY; LAYOUTS] };
}

/// A stack that was walked, with the memory that it was walked in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackSample {
    /// [`STACK_SAMPLE`](crate::record::STACK_SAMPLE).
    pub kind: u32,
    /// Size of this record in bytes.
    pub size: u32,
    /// The table that a layout of it belongs to: [`AT_BEGIN`] or [`AT_SWITCH`].
    pub table: u32,
    /// 1 if no task had this stack before.
    pub new: u32,
    /// Words of the window that could be read. The others are undefined.
    pub valid_words: u64,
    /// The stack's id.
    pub stack: u64,
    /// The address of the window.
    pub end: u64,
    /// The same at the beginning of the wait.
    pub begin_end: u64,
    /// Its return addresses, from the innermost out; unused frames are 0.
    pub frames: [u64; FRAMES],
    /// The stack's memory, from its inner end out.
    pub window: [u64; WINDOW_WORDS],
}

impl StackSample {
    /// Its size in bytes.
    #[expect(clippy::cast_possible_truncation, reason = "1,328")]
    pub const SIZE: u32 = size_of::<Self>() as u32;
}

const _: () = assert!(WINDOW_WORDS.is_power_of_two() && WINDOW_WORDS.is_multiple_of(CHUNK_WORDS));
const _: () = assert!(size_of::<Layout>() == 8 + LAYOUT_FRAMES * 10 + 2);
const _: () = assert!(size_of::<StackSample>() == 48 + (FRAMES + WINDOW_WORDS) * 8);
