//! The terminal of the live view, and the thread that draws it.

use std::{
    io::{self, Stdout},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::event::{self, Event as TerminalEvent},
};
use rustix::process::{Signal, getpid, kill_process};
use stable_trace_analysis::{
    error_chain::ErrorChain,
    event::{Event, Line, Output},
    sink::EventSink,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    controls::Controls,
    model::Model,
    view::{Theme, draw},
};
use crate::{
    kernel::least_privilege::{self, Work},
    metrics::{server::SnapshotRequest, snapshot::Snapshot},
    trace::outputs::Destination,
};

/// How often the kernel's counts are read.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);

/// How long the thread waits for a key before it looks at the rest.
const KEY_INTERVAL: Duration = Duration::from_millis(100);

/// The output of a run that is shown as a live view. Its last line is written by `summary`, once the terminal is as
/// before.
struct Screen {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    summary: Box<dyn EventSink + Send>,
    written: Arc<AtomicU64>,
    /// Whether the terminal is taken over.
    is_open: bool,
}

/// What the thread that draws shares with the one that takes lines.
#[derive(Default)]
struct Shared {
    model: Mutex<Model>,
    ends: AtomicBool,
}

impl Shared {
    fn model(&self) -> MutexGuard<'_, Model> {
        // No code that holds the lock panics.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes over the terminal. `summary` writes the summary after the end, `snapshots` asks for the kernel's counts.
pub(crate) fn open(
    summary: Box<dyn EventSink + Send>,
    snapshots: mpsc::Sender<SnapshotRequest>,
    color: bool,
) -> io::Result<Destination> {
    let shared = Arc::new(Shared::default());
    let terminal = ratatui::try_init()?;
    let written = Arc::<AtomicU64>::default();
    let mut screen = Screen {
        shared: Arc::clone(&shared),
        thread: None,
        summary,
        written: Arc::clone(&written),
        is_open: true,
    };
    let view = View {
        terminal,
        shared,
        snapshots: Snapshots { requests: snapshots, pending: None, asked_at: None },
        controls: Controls::default(),
        frozen: None,
        theme: Theme { color },
    };
    let thread = std::thread::Builder::new().name("view".to_owned()).spawn(move || view.run());
    // If that fails, dropping `screen` gives the terminal back.
    screen.thread = Some(thread?);
    Ok(Destination { output: Output::Stdout, sink: Box::new(screen), written })
}

impl Screen {
    /// Gives the terminal back.
    fn close(&mut self) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        self.shared.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by its hook.
            let _ = thread.join();
        }
        ratatui::restore();
    }
}

impl EventSink for Screen {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        if matches!(line.event, Event::Summary(_)) {
            self.close();
            self.summary.line(line)?;
            self.summary.flush()?;
        } else {
            self.shared.model().line(line);
        }
        self.written.fetch_add(1, Relaxed);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread's state.
struct View {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    shared: Arc<Shared>,
    snapshots: Snapshots,
    controls: Controls,
    /// What was shown when the view was paused.
    frozen: Option<Model>,
    theme: Theme,
}

impl View {
    fn run(mut self) {
        if let Err(error) = least_privilege::keep_only_for(Work::WriteLines) {
            log::warn!("view: {}", ErrorChain(&error));
        }
        let mut asked_to_end = false;
        while !self.shared.ends.load(Relaxed) {
            if let Some(snapshot) = self.snapshots.poll() {
                self.shared.model().snapshot(&snapshot);
            }
            let quits = self.draw().and_then(|()| self.keys()).is_err() || self.controls.quits;
            if quits && !std::mem::replace(&mut asked_to_end, true) {
                // The run ends in order, as at Ctrl-C.
                let _ = kill_process(getpid(), Signal::INT);
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        if !self.controls.is_paused {
            self.frozen = None;
        }
        let model = match &self.frozen {
            Some(model) => model.clone(),
            None => self.shared.model().clone(),
        };
        let (controls, theme) = (&self.controls, self.theme);
        self.terminal.draw(|frame| draw(frame, &model, controls, theme))?;
        if self.controls.is_paused {
            self.frozen = Some(model);
        }
        Ok(())
    }

    /// Waits for keys for a while.
    fn keys(&mut self) -> io::Result<()> {
        let mut wait = KEY_INTERVAL;
        while event::poll(wait)? {
            wait = Duration::ZERO;
            if let TerminalEvent::Key(key) = event::read()? {
                self.controls.key(key);
            }
        }
        Ok(())
    }
}

/// Asks for the kernel's counts, without waiting for them.
struct Snapshots {
    requests: mpsc::Sender<SnapshotRequest>,
    pending: Option<oneshot::Receiver<Result<Snapshot, String>>>,
    asked_at: Option<Instant>,
}

impl Snapshots {
    /// The next snapshot, if it is there.
    fn poll(&mut self) -> Option<Snapshot> {
        if let Some(pending) = &mut self.pending {
            match pending.try_recv() {
                Ok(answer) => {
                    self.pending = None;
                    return answer.inspect_err(|error| log::debug!("no counts: {error}")).ok();
                }
                Err(oneshot::error::TryRecvError::Empty) => return None,
                Err(oneshot::error::TryRecvError::Closed) => self.pending = None,
            }
        }
        let is_due = self.asked_at.is_none_or(|at| at.elapsed() >= SNAPSHOT_INTERVAL);
        if is_due {
            let (answer, pending) = oneshot::channel();
            if self.requests.try_send(answer).is_ok() {
                self.pending = Some(pending);
                self.asked_at = Some(Instant::now());
            }
        }
        None
    }
}
