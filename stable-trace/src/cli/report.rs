//! `stable-trace report`: from a recording to what it tells.

use std::{
    fs,
    io::{self, BufRead},
    ops::ControlFlow,
    path::Path,
    process::ExitCode,
    sync::atomic::Ordering,
};

use anyhow::{Context as _, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use stable_trace_analysis::{
    event::{Event, Line},
    recording::{Fault, Reader, ahead, open},
    report::{Report, ReportBuilder, evidence, html},
    sink::EventSink,
};

use super::{
    options::{Color, ReportArgs},
    tracing::{end_at_once_if_told_twice, form, window},
};

/// Tells what a recording has in it.
pub fn report(args: &ReportArgs, color: Color) -> anyhow::Result<ExitCode> {
    let asked = args.window.map(window).transpose()?;
    let until =
        if args.follow { Some(end_at_once_if_told_twice(&[SIGINT, SIGTERM])?) } else { None };
    let input = open(&args.recording, until.clone())?;
    let mut telling = Telling {
        form: form(args.format, None, color)?,
        follow: args.follow,
        fold: ReportBuilder::new(asked),
        damage: Damage::default(),
    };
    let outcome = telling.lines(Reader::new(input));
    let Telling { mut form, fold, mut damage, .. } = telling;
    if !still_read(outcome)? {
        return Ok(ExitCode::SUCCESS);
    }
    if until.is_some_and(|until| until.load(Ordering::Relaxed)) {
        // Whoever stops following has not asked for the end.
        damage.forgive_cut();
    }
    let report = fold.finish();
    if report.start.is_some() {
        if !still_read(end(&mut *form, &report))? {
            return Ok(ExitCode::SUCCESS);
        }
        warn(&report);
        if let Some(page) = &args.html {
            write_page(&args.recording, page, &report, damage.is_none())?;
        }
    }
    damage.outcome().with_context(|| args.recording.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

struct Telling {
    form: Box<dyn EventSink>,
    follow: bool,
    fold: ReportBuilder,
    damage: Damage,
}

impl Telling {
    fn lines(&mut self, mut reader: Reader<impl BufRead + Send>) -> io::Result<()> {
        if !self.follow {
            return ahead(reader, |item| self.take(item));
        }
        // One by one: each is shown as it comes. Nothing follows the summary, and whoever asked on
        // would wait for it.
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

    fn take(&mut self, item: &Result<Line, Fault>) -> io::Result<()> {
        let line = match item {
            Ok(line) => line,
            Err(fault) => {
                self.damage.take(fault);
                return Ok(());
            }
        };
        for verdict in self.fold.line(line) {
            self.form.line(&verdict)?;
        }
        let told = match line.event {
            // It comes last, when it is known whether its verdicts are the run's.
            Event::Summary(_) => false,
            Event::Start(_) | Event::Verdict(_) => self.fold.counts(line),
            _ => self.follow,
        };
        if told {
            self.form.line(line)?;
        }
        if self.follow { self.form.flush() } else { Ok(()) }
    }
}

/// Shows what is left, and the summary.
fn end(form: &mut dyn EventSink, report: &Report) -> io::Result<()> {
    for line in report.added.iter().chain(&report.last) {
        form.line(line)?;
    }
    form.flush()
}

/// Says what the reader should know of the verdicts.
fn warn(report: &Report) {
    if report.anew {
        log::warn!("the verdicts are of the window given here, not of the run's");
    }
    let different = report.agreement.different;
    if different > 0 {
        log::warn!(
            "{different} of the recorded verdicts do not follow from the recorded events by the rules of this version; the recorded ones are shown"
        );
    }
}

/// Writes the page into place, so that whoever has the old one open never sees a part.
fn write_page(recording: &Path, page: &Path, report: &Report, sound: bool) -> anyhow::Result<()> {
    let wanted = evidence::wanted(report);
    let lines = evidence::fetch(open(recording, None)?, &wanted, sound);
    let name = recording.file_name().unwrap_or(recording.as_os_str()).to_string_lossy();
    let text = html::page(report, &lines, &name).context("the page cannot be drawn")?;
    fs::write(page, text)
        .with_context(|| format!("--html {}: the file cannot be written", page.display()))
}

/// What is wrong with a recording: the first of it, and how much more.
#[derive(Default)]
struct Damage {
    /// In words, and whether it only says that the end is missing.
    first: Option<(String, bool)>,
    more: u64,
    /// News are said one by one, but not without end.
    news: u64,
}

/// The most warnings about what a newer version wrote.
const NEWS: u64 = 5;

impl Damage {
    fn take(&mut self, fault: &Fault) {
        if fault.is_news() {
            self.news += 1;
            if self.news <= NEWS {
                log::warn!("{fault}");
            }
        } else if self.first.is_some() {
            self.more += 1;
        } else {
            self.first = Some((fault.to_string(), fault.is_cut()));
        }
    }

    /// Whether every line was as this version writes it.
    const fn is_none(&self) -> bool {
        self.first.is_none() && self.news == 0
    }

    fn forgive_cut(&mut self) {
        self.first.take_if(|(_, is_cut)| *is_cut);
    }

    fn outcome(self) -> anyhow::Result<()> {
        if self.news > NEWS {
            log::warn!("{} more lines like these were passed over", self.news - NEWS);
        }
        match (self.first, self.more) {
            (None, _) => Ok(()),
            (Some((fault, _)), 0) => bail!(fault),
            (Some((fault, _)), more) => bail!("{fault} ({more} more such places)"),
        }
    }
}

/// Whether somebody still reads; a closed pipe is a reader that has seen enough.
fn still_read(outcome: io::Result<()>) -> anyhow::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("the report cannot be written"),
    }
}
