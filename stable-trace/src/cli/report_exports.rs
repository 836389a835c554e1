//! `stable-trace report --folded` and `--trace-events`: a recording for other tools.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::Path,
};

use anyhow::Context as _;
use stable_trace_analysis::{
    event::Line,
    report::{folded::Folded, trace_events::TraceEvents},
};

use super::options::ReportArgs;

/// What is exported, made line by line.
pub(super) struct Exports<'a> {
    folded: Option<Folded>,
    trace: Option<TraceFile<'a>>,
}

/// The file of `--trace-events`.
struct TraceFile<'a> {
    path: &'a Path,
    /// What writes it, or why that failed.
    trace: io::Result<TraceEvents<BufWriter<File>>>,
}

impl<'a> Exports<'a> {
    pub(super) fn new(args: &'a ReportArgs) -> anyhow::Result<Self> {
        let trace = args.trace_events.as_deref().map(TraceFile::create).transpose()?;
        Ok(Self { folded: args.folded.then(Folded::default), trace })
    }

    /// Whether stdout has stacks in place of the summary.
    pub(super) const fn replace_summary(&self) -> bool {
        self.folded.is_some()
    }

    pub(super) fn line(&mut self, line: &Line) {
        if let Some(folded) = &mut self.folded {
            folded.line(line);
        }
        if let Some(TraceFile { trace, .. }) = &mut self.trace
            && let Ok(open) = trace
            && let Err(error) = open.line(line)
        {
            *trace = Err(error);
        }
    }

    /// Writes the stacks to stdout.
    pub(super) fn write_folded(&self) -> io::Result<()> {
        match &self.folded {
            Some(folded) => folded.write(BufWriter::new(io::stdout().lock())),
            None => Ok(()),
        }
    }

    /// Ends the file of `--trace-events`.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let Some(TraceFile { path, trace }) = self.trace else {
            return Ok(());
        };
        let finished = trace.and_then(TraceEvents::finish);
        finished.map(drop).with_context(|| cannot_write(path))
    }
}

impl<'a> TraceFile<'a> {
    fn create(path: &'a Path) -> anyhow::Result<Self> {
        let trace = File::create(path).and_then(|file| TraceEvents::new(BufWriter::new(file)));
        // A file that cannot be created is told of before a long recording is read.
        Ok(Self { path, trace: Ok(trace.with_context(|| cannot_write(path))?) })
    }
}

fn cannot_write(path: &Path) -> String {
    format!("--trace-events {}: cannot write the file", path.display())
}
