//! Learns stack layouts, by which the programs recognise stacks without walking them.

use std::time::{Duration, Instant};

use aya::maps::{Array, MapData};
use stable_trace_analysis::error_chain::ErrorChain;
use stable_trace_common::layout::{
    AT_SWITCH, LAYOUT_FRAMES, LAYOUTS, Layout, LayoutTable, StackSample, TABLES, WINDOW_WORDS,
};

/// How long a place of a table stays empty before another layout takes it: no program that found the old
/// one there runs that long.
const EMPTY_FOR: Duration = Duration::from_secs(1);

/// How often a layout makes room for another one, at most.
const RETIRE_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes from the beginning of a wait to the wait function's frame, less than: the frames between are small.
const MOST_DISTANT: u64 = 4096;

/// Bytes of a word.
const WORD: u64 = size_of::<u64>() as u64;

/// Frames inside the stack's inner end, at most: those of the program itself and of its caller.
const FRAMES_INSIDE: usize = 3;

/// The layouts of a run.
pub(crate) struct Layouts {
    map: Array<MapData, LayoutTable>,
    tables: [Table; TABLES as usize],
}

/// A table, and what becomes of its places.
struct Table {
    value: LayoutTable,
    /// The place to fill, or to empty, next: the oldest.
    next: usize,
    /// When that place was emptied; `None` if it has not been, or never been filled.
    emptied_at: Option<Instant>,
    /// The wait function's distance of the last sample.
    last_wait_function_at: Option<u64>,
}

impl Layouts {
    /// Takes the map `STACK_LAYOUTS`.
    pub(crate) fn new(map: Array<MapData, LayoutTable>) -> Self {
        Self { map, tables: std::array::from_fn(|_| Table::EMPTY) }
    }

    /// Learns the layout of a stack of which the first `decisive` frames matter. Returns whether it has one.
    pub(crate) fn learn(&mut self, sample: &StackSample, decisive: usize) -> bool {
        let Some(layout) = layout(sample, decisive) else {
            return false;
        };
        let Some(table) = self.tables.get_mut(sample.table as usize) else {
            return false;
        };
        let mut values = table.add(layout, sample.new != 0, Instant::now());
        if sample.table == AT_SWITCH && table.learn_wait_function(wait_function_at(sample, &layout))
        {
            values.push(table.value);
        }
        for value in values {
            if let Err(error) = self.map.set(sample.table, value, 0) {
                log::debug!("cannot write a stack layout: {}", ErrorChain(&error));
                break;
            }
        }
        true
    }
}

impl Table {
    const EMPTY: Self =
        Self { value: LayoutTable::EMPTY, next: 0, emptied_at: None, last_wait_function_at: None };

    /// Learns where the return address into the wait function is. Returns whether the table has changed. All
    /// calls in that function push their return address to the same place, so all samples agree, but for one of
    /// a task whose next wait was not seen to begin. After such a one the place counts when two agree again.
    fn learn_wait_function(&mut self, distance: Option<u64>) -> bool {
        let last = std::mem::replace(&mut self.last_wait_function_at, distance);
        let agreed = distance.filter(|distance| last.is_none_or(|last| last == *distance));
        let before = std::mem::replace(&mut self.value.wait_function_at, agreed.unwrap_or(0));
        before != self.value.wait_function_at
    }

    /// Adds a layout, or makes room for it. Returns the values to write to the map, one after the other.
    fn add(&mut self, layout: Layout, new: bool, now: Instant) -> Vec<LayoutTable> {
        let same = |known: &Layout| {
            known.stack != 0 && known.addresses == layout.addresses && known.words == layout.words
        };
        if self.value.layouts.iter().any(same) {
            return Vec::new();
        }
        let place = &mut self.value.layouts[self.next];
        let age = self.emptied_at.map(|at| now.duration_since(at));
        if place.stack != 0 {
            // Only for a stack that is walked often.
            if new || age.is_some_and(|age| age < RETIRE_INTERVAL) {
                return Vec::new();
            }
            place.stack = 0;
            self.emptied_at = Some(now);
            return vec![self.value];
        }
        if *place != Layout::EMPTY && age.is_some_and(|age| age < EMPTY_FOR) {
            return Vec::new();
        }
        // The programs skip the place until the rest is there.
        *place = Layout { stack: 0, ..layout };
        self.value.window_bytes =
            self.value.window_bytes.max(u64::from(layout.window_words) * WORD);
        let unpublished = self.value;
        self.value.layouts[self.next].stack = layout.stack;
        self.next = (self.next + 1) % LAYOUTS;
        vec![unpublished, self.value]
    }
}

/// [`LayoutTable::wait_function_at`] of a task that sleeps: the outermost frame of its layout is the wait function.
fn wait_function_at(sample: &StackSample, layout: &Layout) -> Option<u64> {
    let address = sample.end + u64::from(layout.words[0]) * WORD;
    address.checked_sub(sample.begin_end).filter(|distance| *distance < MOST_DISTANT)
}

/// The layout of a stack's first `decisive` frames. `None` if a return address is not in the window, or more
/// than once: the window has the remains of earlier calls, too, and which of the words is the address is
/// not known.
fn layout(sample: &StackSample, decisive: usize) -> Option<Layout> {
    // The last word is never used: a program reads less than a whole window.
    let valid = usize::try_from(sample.valid_words).ok()?.min(WINDOW_WORDS - 1);
    let window = &sample.window[..valid];
    let frames = sample.frames.get(..decisive)?;
    let inside = frames.iter().take(FRAMES_INSIDE).take_while(|frame| !window.contains(frame));
    let frames = &frames[inside.count()..];
    if frames.is_empty() || frames.len() > LAYOUT_FRAMES {
        return None;
    }
    let mut layout = Layout { stack: sample.stack, ..Layout::EMPTY };
    let mut last = None;
    let outward = layout.addresses.iter_mut().zip(&mut layout.words);
    for ((address, word), frame) in outward.take(frames.len()).rev().zip(frames) {
        let mut places = (0..).zip(window).filter(|(_, word)| *word == frame).map(|(at, _)| at);
        let (Some(only), None) = (places.next(), places.next()) else {
            return None;
        };
        if last.is_some_and(|last| only <= last) {
            return None;
        }
        last = Some(only);
        (*address, *word) = (*frame, only);
    }
    let outermost = (layout.addresses[0], layout.words[0]);
    layout.addresses[frames.len()..].fill(outermost.0);
    layout.words[frames.len()..].fill(outermost.1);
    layout.window_words = outermost.1 + 1;
    Some(layout)
}

#[cfg(test)]
mod tests {
    use stable_trace_common::{
        layout::{AT_BEGIN, CHUNK_WORDS},
        record::STACK_SAMPLE,
        stack::FRAMES,
    };

    use super::*;

    /// A stack of 4 frames, the first of which is inside the window's beginning.
    fn sample() -> StackSample {
        let mut sample = StackSample {
            kind: STACK_SAMPLE,
            size: StackSample::SIZE,
            table: AT_BEGIN,
            new: 0,
            valid_words: 64,
            stack: 77,
            end: 1_000,
            begin_end: 900,
            frames: [0; FRAMES],
            window: [0xdead; WINDOW_WORDS],
        };
        sample.frames[..4].copy_from_slice(&[100, 101, 102, 103]);
        for (word, address) in [(3, 101), (9, 102), (30, 103)] {
            sample.window[word] = address;
        }
        sample
    }

    #[test]
    fn a_layout_has_the_places_of_the_decisive_frames() {
        let layout = layout(&sample(), 3).unwrap();
        assert_eq!(layout.stack, 77);
        assert_eq!(layout.addresses[..3], [102, 101, 102]);
        assert_eq!(layout.words[..3], [9, 3, 9]);
        assert_eq!(layout.window_words, 10);
        assert_eq!(super::layout(&sample(), 4).unwrap().words[..4], [30, 9, 3, 30]);
    }

    #[test]
    fn an_address_that_is_there_twice_is_ambiguous() {
        let mut twice = sample();
        twice.window[20] = 102;
        assert_eq!(layout(&twice, 3), None);
        assert_eq!(layout(&twice, 2).unwrap().words[0], 3);
    }

    #[test]
    fn an_address_that_is_not_there_gives_no_layout() {
        let mut changed = sample();
        changed.window[9] = 0;
        assert_eq!(layout(&changed, 3), None);
        // A word that could not be read.
        let short = StackSample { valid_words: CHUNK_WORDS as u64, ..sample() };
        assert_eq!(layout(&short, 4), None);
        assert!(layout(&short, 3).is_some());
    }

    #[test]
    fn addresses_stand_in_the_order_of_the_calls() {
        let mut crossed = sample();
        crossed.window.swap(3, 9);
        assert_eq!(layout(&crossed, 3), None);
    }

    #[test]
    fn a_stack_that_is_too_deep_has_no_layout() {
        let mut deep = StackSample { window: [0; WINDOW_WORDS], ..sample() };
        for frame in 0..FRAMES {
            deep.frames[frame] = 100 + frame as u64;
            deep.window[frame * 2] = 100 + frame as u64;
        }
        assert!(layout(&deep, LAYOUT_FRAMES).is_some());
        assert_eq!(layout(&deep, LAYOUT_FRAMES + 1), None);
        assert_eq!(layout(&deep, FRAMES + 1), None);
    }

    /// A layout for each number.
    fn numbered(number: u16) -> Layout {
        Layout {
            stack: 1,
            addresses: [number.into(); LAYOUT_FRAMES],
            words: [number; LAYOUT_FRAMES],
            window_words: number + 1,
        }
    }

    #[test]
    fn the_wait_function_is_where_all_samples_have_it() {
        let sample = sample();
        let at = wait_function_at(&sample, &layout(&sample, 3).unwrap());
        assert_eq!(at, Some(1_000 + 9 * 8 - 900));
        let mut table = Table::EMPTY;
        assert!(table.learn_wait_function(at));
        assert_eq!(table.value.wait_function_at, 172);
        assert!(!table.learn_wait_function(at), "it is known");
        assert!(table.learn_wait_function(Some(180)));
        assert_eq!(table.value.wait_function_at, 0);
        assert!(!table.learn_wait_function(at), "the last two differ");
        assert!(table.learn_wait_function(at));
        assert_eq!(table.value.wait_function_at, 172);
        assert!(table.learn_wait_function(None));
        assert_eq!(table.value.wait_function_at, 0);
        let elsewhere = StackSample { begin_end: 2_000, ..sample };
        assert_eq!(wait_function_at(&elsewhere, &layout(&elsewhere, 3).unwrap()), None);
    }

    #[test]
    fn a_place_is_written_before_it_counts() {
        let mut table = Table::EMPTY;
        let written = table.add(numbered(5), true, Instant::now());
        let places: Vec<_> = written.iter().map(|value| value.layouts[0].stack).collect();
        assert_eq!(places, [0, 1]);
        assert!(written.iter().all(|value| value.layouts[0].words[0] == 5));
        assert!(written.iter().all(|value| value.window_bytes == 48));
        assert!(table.add(numbered(5), true, Instant::now()).is_empty(), "it is known");
    }

    #[test]
    fn the_oldest_makes_room_and_its_place_rests() {
        let mut table = Table::EMPTY;
        let start = Instant::now();
        assert_eq!(LAYOUTS, 8);
        for number in 1..=8 {
            assert_eq!(table.add(numbered(number), true, start).len(), 2);
        }
        assert!(table.add(numbered(50), true, start).is_empty(), "a rare stack waits");
        let [emptied] = table.add(numbered(50), false, start)[..] else { panic!("one step") };
        assert_eq!(emptied.layouts[0], Layout { stack: 0, ..numbered(1) });
        assert!(table.add(numbered(50), false, start).is_empty(), "too early");
        assert_eq!(table.add(numbered(50), false, start + EMPTY_FOR).len(), 2);
        assert_eq!(table.value.layouts[0], numbered(50));
        assert!(table.add(numbered(51), false, start + EMPTY_FOR).is_empty(), "too early again");
        assert_eq!(table.add(numbered(51), false, start + RETIRE_INTERVAL).len(), 1);
    }
}
