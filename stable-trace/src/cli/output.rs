//! Opens outputs: the stream as text or JSON, to standard output or a file, and the recording.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, IsTerminal as _, Write},
    os::{fd::AsFd as _, unix::fs::FileTypeExt as _},
    path::Path,
};

use anyhow::Context as _;
use rustix::termios::tcgetwinsize;
use stable_trace_analysis::{
    event::Output,
    recording::Recorder,
    sink::{
        EventSink,
        json::JsonSink,
        style::Style,
        text::{TextSink, Width},
    },
};

use super::options::{Color, Format};
use crate::trace::outputs::{Destination, Stream};

/// Output is buffered up to this size between flushes.
const BUFFER_BYTES: usize = 64 << 10;

/// Opens standard output for the lines of a report, which wait for its reader.
pub(super) fn open_stdout(format: Format, color: Color) -> Box<dyn EventSink + Send> {
    let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
    renderer(format, out, io::stdout().is_terminal(), color)
}

/// Opens the stream of a run.
pub(super) fn open_stream(
    format: Format,
    path: Option<&Path>,
    color: Color,
) -> anyhow::Result<Destination> {
    let (out, terminal, output) = if let Some(path) = path {
        let file = create(path)
            .with_context(|| format!("-o {}: cannot create the file", path.display()))?;
        (file, false, Output::File)
    } else {
        // Not `Stdout`, which a thread that is blocked in a write would keep locked.
        let out = io::stdout().as_fd().try_clone_to_owned();
        let out = out.context("cannot open standard output a second time")?;
        (File::from(out), io::stdout().is_terminal(), Output::Stdout)
    };
    let what = path.map_or_else(
        || "cannot write to standard output".to_owned(),
        |path| format!("-o {}: cannot write the file", path.display()),
    );
    let stream = Stream::new(out, what, |text| renderer(format, text, terminal, color));
    Ok(Destination { output, written: stream.written(), sink: Box::new(stream) })
}

/// Creates or truncates a file. A FIFO is opened for reading too: so it needs no reader yet, and lines wait in it for one
/// (fifo(7)).
fn create(path: &Path) -> io::Result<File> {
    let is_fifo = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    if is_fifo { OpenOptions::new().read(true).write(true).open(path) } else { File::create(path) }
}

/// Opens the recording of a run.
pub(super) fn open_recording(path: &Path) -> anyhow::Result<Destination> {
    let recorder = Recorder::create(path)
        .with_context(|| format!("--record {}: cannot create the file", path.display()))?;
    Ok(Destination {
        output: Output::Recording,
        written: recorder.written(),
        sink: Box::new(recorder),
    })
}

fn renderer(
    format: Format,
    out: impl Write + Send + 'static,
    terminal: bool,
    color: Color,
) -> Box<dyn EventSink + Send> {
    match format {
        Format::Json => Box::new(JsonSink::new(out)),
        Format::Text => {
            let width = if terminal { Width::Terminal(terminal_width) } else { Width::Unlimited };
            Box::new(TextSink::new(out, Style { color: color.is_enabled(terminal) }, width))
        }
    }
}

/// The width of the terminal on stdout in cells.
fn terminal_width() -> Option<usize> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    // A terminal that does not know its size reports 0.
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
