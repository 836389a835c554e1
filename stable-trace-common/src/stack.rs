//! Kernel stacks: each distinct one is stored once, by its id.

/// Frames that are stored of a stack. The deepest stack that a context is derived from, a write fault
/// through `do_page_mkwrite`, has about 20.
pub const FRAMES: usize = 32;

/// One kernel stack, from the innermost frame out; unused frames are 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Return addresses.
    pub frames: [u64; FRAMES],
}

impl Stack {
    /// Its size in bytes.
    #[expect(clippy::cast_possible_truncation, reason = "256")]
    pub const SIZE: u32 = size_of::<Self>() as u32;

    /// No frames.
    pub const EMPTY: Self = Self { frames: [0; FRAMES] };

    /// The key of the stack in the map `STACKS`: a 64-bit hash of its frames. Never 0, which stands for
    /// "not known".
    #[must_use]
    #[inline]
    pub fn id(&self) -> u64 {
        // FNV-1a over whole frames, with the golden ratio as multiplier: cheap in BPF, and it separates
        // addresses that differ in their low bits only.
        let mut id: u64 = 0xcbf2_9ce4_8422_2325;
        for frame in &self.frames {
            id = (id ^ frame).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            id ^= id >> 29;
        }
        if id == 0 { 1 } else { id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_that_differ_in_one_frame_have_different_ids() {
        let mut one = Stack::EMPTY;
        one.frames[0] = 0xffff_ffff_8120_0010;
        let mut other = one;
        other.frames[1] = 1;
        assert_ne!(one.id(), other.id());
        assert_ne!(Stack::EMPTY.id(), 0);
    }
}
