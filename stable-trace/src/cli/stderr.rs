//! Messages to standard error, which a thread writes: a reader that has stopped holds nothing up.

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use crate::kernel::least_privilege::{self, Work};

/// Messages that wait to be written, at most. Further ones are dropped.
const CAPACITY: usize = 256;

/// The end of the program waits for the messages for this time.
const END_TIMEOUT: Duration = Duration::from_secs(2);

enum Item {
    Message(Vec<u8>),
    /// All messages before are written.
    Flush(SyncSender<()>),
}

static QUEUE: OnceLock<SyncSender<Item>> = OnceLock::new();

/// A writer of messages. Without a thread it writes directly.
#[derive(Default)]
pub(super) struct Messages {
    message: Vec<u8>,
}

impl Messages {
    fn send(&mut self) -> io::Result<()> {
        let message = std::mem::take(&mut self.message);
        if message.is_empty() {
            return Ok(());
        }
        match QUEUE.get() {
            Some(queue) => {
                // A message that finds no room is dropped.
                let _ = queue.try_send(Item::Message(message));
                Ok(())
            }
            None => io::stderr().write_all(&message),
        }
    }
}

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.message.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Starts the thread. Without it messages are written directly.
pub(super) fn start_thread() {
    let (queue, items) = sync_channel(CAPACITY);
    let started =
        std::thread::Builder::new().name("messages".to_owned()).spawn(|| write_all(items));
    if started.is_ok() {
        let _ = QUEUE.set(queue);
    }
}

fn write_all(items: Receiver<Item>) {
    // Without a warning: this thread would write it.
    let _ = least_privilege::keep_only_for(Work::WriteLines);
    for item in items {
        match item {
            // There is no other place for a message that cannot be written.
            Item::Message(message) => drop(io::stderr().write_all(&message)),
            Item::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// Waits until the messages so far are written, unless their reader has stopped.
pub(super) fn flush() {
    let Some(queue) = QUEUE.get() else { return };
    let (done, written) = sync_channel(1);
    if queue.try_send(Item::Flush(done)).is_ok() {
        let _ = written.recv_timeout(END_TIMEOUT);
    }
}
