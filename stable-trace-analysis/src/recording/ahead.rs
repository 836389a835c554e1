//! Reading ahead: one thread understands lines while another makes sense of them.

use std::{
    sync::mpsc::{Receiver, Sender, channel, sync_channel},
    thread,
};

use super::Fault;
use crate::event::Line;

/// Lines that are handed over at once. All that wait have to fit into a core's cache.
const BATCH: usize = 128;

/// Batches that wait for whoever takes them.
const WAITING: usize = 4;

type Item = Result<Line, Fault>;

/// Takes what `lines` gives in a thread of its own, and hands each to `take` in this one, in the same
/// order, until there is no more or `take` fails.
///
/// What was taken goes back to be freed: an allocator is fastest where it gave.
///
/// # Errors
/// What `take` says.
pub fn ahead<E>(
    mut lines: impl Iterator<Item = Item> + Send,
    mut take: impl FnMut(&Item) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let (full, batches) = sync_channel(WAITING);
        let (empty, taken): (Sender<Vec<Item>>, Receiver<_>) = channel();
        scope.spawn(move || {
            loop {
                let mut batch = taken.try_recv().unwrap_or_default();
                // Freed here, where it was made; and so are the others that have come back.
                batch.clear();
                taken.try_iter().for_each(drop);
                batch.extend(lines.by_ref().take(BATCH));
                if batch.is_empty() || full.send(batch).is_err() {
                    return;
                }
            }
        });
        for batch in batches {
            batch.iter().try_for_each(&mut take)?;
            // The reader may have ended.
            let _ = empty.send(batch);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Event, Lost},
        units::Timestamp,
    };

    fn lines(many: u64) -> impl Iterator<Item = Item> + Send {
        (1..=many).map(|seq| {
            let event = Event::Lost(Lost { count: 1, since_seq: 0, within_ns: None });
            Ok(Line { seq, time: Timestamp::default(), event })
        })
    }

    #[test]
    fn every_line_comes_once_and_in_order() {
        for many in [0, 1, 127, 128, 129, 5_000] {
            let mut seen = Vec::new();
            let outcome = ahead(lines(many), |item| {
                seen.push(item.as_ref().map_or(0, |line| line.seq));
                Ok::<_, ()>(())
            });
            assert_eq!(outcome, Ok(()));
            assert!(seen.iter().copied().eq(1..=many), "{many}");
        }
    }

    #[test]
    fn who_has_had_enough_is_not_kept() {
        let outcome = ahead(lines(u64::MAX), |item| match item {
            Ok(line) if line.seq == 700 => Err("enough"),
            _ => Ok(()),
        });
        assert_eq!(outcome, Err("enough"));
    }
}
