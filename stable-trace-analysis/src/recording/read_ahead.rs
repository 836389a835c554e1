//! Parses lines on one thread while another thread uses them.

use std::{
    sync::mpsc::{Receiver, Sender, channel, sync_channel},
    thread,
};

use super::ReadError;
use crate::event::Line;

/// Lines in one batch. All batches in flight have to fit into a core's cache.
const BATCH_LINES: usize = 128;

/// Parsed batches that wait for the consumer.
const QUEUED_BATCHES: usize = 4;

type Item = Result<Line, ReadError>;

/// Runs `lines` on a thread of its own and calls `consume` with each item on this thread, in order,
/// until `lines` ends or `consume` fails.
///
/// Consumed items go back to the parsing thread and are freed there: an allocator frees fastest on
/// the thread that allocated.
pub fn read_ahead<E>(
    mut lines: impl Iterator<Item = Item> + Send,
    mut consume: impl FnMut(&Item) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let (full, batches) = sync_channel(QUEUED_BATCHES);
        let (consumed, returned): (Sender<Vec<Item>>, Receiver<_>) = channel();
        scope.spawn(move || {
            loop {
                let mut batch = returned.try_recv().unwrap_or_default();
                batch.clear();
                returned.try_iter().for_each(drop);
                batch.extend(lines.by_ref().take(BATCH_LINES));
                if batch.is_empty() || full.send(batch).is_err() {
                    return;
                }
            }
        });
        for batch in batches {
            batch.iter().try_for_each(&mut consume)?;
            // Fails if the parsing thread has ended.
            let _ = consumed.send(batch);
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

    fn lines(count: u64) -> impl Iterator<Item = Item> + Send {
        (1..=count).map(|seq| {
            let event = Event::Lost(Lost { count: 1, since_seq: 0, ..Lost::default() });
            Ok(Line { seq, time: Timestamp::default(), monotonic_ns: None, event })
        })
    }

    #[test]
    fn every_line_is_consumed_once_and_in_order() {
        for count in [0, 1, 127, 128, 129, 5_000] {
            let mut seen = Vec::new();
            let outcome = read_ahead(lines(count), |item| {
                seen.push(item.as_ref().map_or(0, |line| line.seq));
                Ok::<_, ()>(())
            });
            assert_eq!(outcome, Ok(()));
            assert!(seen.iter().copied().eq(1..=count), "{count}");
        }
    }

    #[test]
    fn a_consumer_that_fails_ends_the_reading() {
        let outcome = read_ahead(lines(u64::MAX), |item| match item {
            Ok(line) if line.seq == 700 => Err("enough"),
            _ => Ok(()),
        });
        assert_eq!(outcome, Err("enough"));
    }
}
