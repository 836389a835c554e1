//! Opens the stream: text or JSON, to stdout or a file.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::Path,
};

use anyhow::Context as _;
use rustix::termios::tcgetwinsize;
use stable_trace_analysis::sink::{
    EventSink,
    json::Json,
    style::Style,
    text::{Text, Width},
};

use super::options::{Color, Format};

/// Output is buffered up to this size between flushes.
const BUFFER_BYTES: usize = 64 << 10;

pub(super) fn open_sink(
    format: Format,
    path: Option<&Path>,
    color: Color,
) -> anyhow::Result<Box<dyn EventSink>> {
    let (out, terminal): (Box<dyn Write>, bool) = match path {
        Some(path) => {
            let file = File::create(path)
                .with_context(|| format!("-o {}: cannot create the file", path.display()))?;
            (Box::new(file), false)
        }
        None => (Box::new(io::stdout()), io::stdout().is_terminal()),
    };
    let out = BufWriter::with_capacity(BUFFER_BYTES, out);
    Ok(match format {
        Format::Json => Box::new(Json::new(out)),
        Format::Text => {
            let width = if terminal { Width::Terminal(terminal_width) } else { Width::Unlimited };
            Box::new(Text::new(out, Style { color: color.is_enabled(terminal) }, width))
        }
    })
}

/// The width of the terminal on stdout in cells.
fn terminal_width() -> Option<usize> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    // A terminal that does not know its size reports 0.
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
