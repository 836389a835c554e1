//! `stable-trace report`: shows a recording, and writes the HTML report.

use std::{
    fs,
    io::{self, BufRead, Write as _},
    ops::ControlFlow,
    path::Path,
    process::ExitCode,
    sync::atomic::Ordering,
};

use anyhow::{Context as _, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use stable_trace_analysis::{
    error_chain::ErrorChain,
    event::{Event, Line},
    recording::{ReadError, Reader, open, read_ahead},
    report::{Report, ReportBuilder, data::Data, evidence, html},
    sink::{EventSink, reader_is_open},
};

use super::{
    options::{Color, Format, ReportArgs},
    output::open_stdout,
    report_exports::Exports,
    signals::exit_on_second_signal,
    tracing::checked_window,
};

pub(super) fn report(args: &ReportArgs, color: Color) -> anyhow::Result<ExitCode> {
    let window = args.window.map(checked_window).transpose()?;
    let interrupted =
        if args.follow { Some(exit_on_second_signal(&[SIGINT, SIGTERM])?) } else { None };
    let input = open(&args.recording, interrupted.clone())?;
    let mut playback = Playback {
        sink: open_stdout(args.format, color),
        follow: args.follow,
        builder: ReportBuilder::new(window),
        exports: Exports::new(args)?,
        damage: Damage::default(),
    };
    let written = playback.lines(Reader::new(input));
    let Playback { mut sink, builder, mut exports, mut damage, .. } = playback;
    if !output_is_open(written)? {
        return Ok(ExitCode::SUCCESS);
    }
    if interrupted.is_some_and(|interrupted| interrupted.load(Ordering::Relaxed)) {
        // A recording that is still being written has no end yet.
        damage.ignore_missing_end();
    }
    let report = builder.finish();
    report.added.iter().for_each(|line| exports.line(line));
    let shown = if exports.replace_summary() {
        exports.write_folded()
    } else if report.start.is_some() {
        let as_data = args.format == Format::Json && !args.follow;
        show_end(&mut *sink, &report, as_data)
    } else {
        Ok(())
    };
    exports.finish()?;
    if !output_is_open(shown)? {
        return Ok(ExitCode::SUCCESS);
    }
    if report.start.is_some() {
        warn_about_verdicts(&report, damage.lines_missing);
        if let Some(page) = &args.html {
            write_page(&args.recording, page, &report, damage.is_none())?;
        }
    }
    damage.into_result().with_context(|| args.recording.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the lines of a recording, and builds its report from them.
struct Playback<'a> {
    sink: Box<dyn EventSink + Send>,
    follow: bool,
    builder: ReportBuilder,
    exports: Exports<'a>,
    damage: Damage,
}

impl Playback<'_> {
    fn lines(&mut self, mut reader: Reader<impl BufRead + Send>) -> io::Result<()> {
        if !self.follow {
            return read_ahead(reader, |item| self.take(item));
        }
        // Each line is shown as it arrives. The loop ends at the summary, because nothing follows it.
        reader
            .try_for_each(|item| {
                let is_last =
                    item.as_ref().is_ok_and(|line| matches!(line.event, Event::Summary(_)));
                match self.take(&item) {
                    Ok(()) if !is_last => ControlFlow::Continue(()),
                    outcome => ControlFlow::Break(outcome),
                }
            })
            .break_value()
            .unwrap_or(Ok(()))
    }

    fn take(&mut self, item: &Result<Line, ReadError>) -> io::Result<()> {
        let line = match item {
            Ok(line) => line,
            Err(error) => {
                self.damage.take(error);
                return Ok(());
            }
        };
        let is_listed = !self.exports.replace_summary();
        for verdict in self.builder.line(line) {
            self.exports.line(&verdict);
            if is_listed {
                self.sink.line(&verdict)?;
            }
        }
        if self.builder.is_valid(line) {
            self.exports.line(line);
        }
        let shown = match line.event {
            // `show_end` shows it, once it is known whether its verdicts are those of the run.
            Event::Summary(_) => false,
            Event::Start(_) | Event::Verdict(_) => self.builder.is_valid(line),
            _ => self.follow,
        };
        if is_listed && shown {
            self.sink.line(line)?;
        }
        if self.follow { self.sink.flush() } else { Ok(()) }
    }
}

/// Shows the remaining verdicts, with `as_data` what the HTML report has beside them, and the summary.
fn show_end(sink: &mut dyn EventSink, report: &Report, as_data: bool) -> io::Result<()> {
    for line in &report.added {
        sink.line(line)?;
    }
    if as_data {
        sink.flush()?;
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &Data::of(report)).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    if let Some(summary) = &report.last {
        sink.line(summary)?;
    }
    sink.flush()
}

/// Warns where the verdicts shown are not those of the run.
fn warn_about_verdicts(report: &Report, lines_missing: u64) {
    if report.recomputed {
        log::warn!("the verdicts use the window given here, not that of the run");
    }
    let different = report.verdicts_different;
    if different > 0 && lines_missing > 0 {
        log::warn!(
            "{different} of the recorded verdicts do not follow from the recorded events, of which some are missing; the recorded verdicts are shown"
        );
    } else if different > 0 {
        log::warn!(
            "this version derives {different} of the recorded verdicts differently from the recorded events; the recorded verdicts are shown"
        );
    }
}

/// Writes the HTML report. `intact` tells whether the recording has no damage.
fn write_page(recording: &Path, page: &Path, report: &Report, intact: bool) -> anyhow::Result<()> {
    let wanted = evidence::sequence_numbers(report);
    let lines = evidence::read(open(recording, None)?, &wanted, intact);
    let name = recording.file_name().unwrap_or(recording.as_os_str()).to_string_lossy();
    let text = html::page(report, &lines, &name).context("cannot draw the HTML report")?;
    fs::write(page, text)
        .with_context(|| format!("--html {}: cannot write the file", page.display()))
}

/// The errors of a recording.
#[derive(Default)]
struct Damage {
    /// The text of the first one, and whether it is only a missing end.
    first: Option<(String, bool)>,
    /// The number of others.
    more: u64,
    /// Lines that the recording lacks within.
    lines_missing: u64,
    /// Lines of a newer version, which are skipped with a warning each.
    newer_lines: u64,
}

/// The most warnings about lines of a newer version.
const MAX_WARNINGS: u64 = 5;

impl Damage {
    fn take(&mut self, error: &ReadError) {
        if let ReadError::MissingLines { missing, .. } = error {
            self.lines_missing = self.lines_missing.saturating_add(*missing);
        }
        if error.is_from_newer_version() {
            self.newer_lines += 1;
            if self.newer_lines <= MAX_WARNINGS {
                log::warn!("{}", ErrorChain(error));
            }
        } else if self.first.is_some() {
            self.more += 1;
        } else {
            self.first = Some((ErrorChain(error).to_string(), error.is_truncation()));
        }
    }

    /// Whether every line was valid in this version.
    const fn is_none(&self) -> bool {
        self.first.is_none() && self.newer_lines == 0
    }

    fn ignore_missing_end(&mut self) {
        self.first.take_if(|(_, is_cut)| *is_cut);
    }

    fn into_result(self) -> anyhow::Result<()> {
        if self.newer_lines > MAX_WARNINGS {
            log::warn!("skipped {} more lines like these", self.newer_lines - MAX_WARNINGS);
        }
        let Some((error, _)) = self.first else { return Ok(()) };
        let more = match self.more {
            0 => String::new(),
            more => format!(" ({more} more such places)"),
        };
        match self.lines_missing {
            0 => bail!("{error}{more}"),
            missing => bail!("the recording lacks {missing} lines: {error}{more}"),
        }
    }
}

fn output_is_open(written: io::Result<()>) -> anyhow::Result<bool> {
    reader_is_open(written).context("cannot write the report")
}
