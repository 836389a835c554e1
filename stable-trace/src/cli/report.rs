//! `stable-trace report`: from a recording to what it tells.

use signal_hook::consts::{SIGINT, SIGTERM};
use std::{fs, io, path::Path, process::ExitCode, sync::atomic::Ordering};

use anyhow::{Context as _, anyhow};

use super::{
    options::{Color, ReportArgs},
    tracing::{end_at_once_if_told_twice, form, window},
};
use crate::{
    event::{Event, Line},
    output::Form,
    recording::{Fault, Reader, open},
    report::{Fold, Report, evidence, html},
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
        fold: Fold::new(asked),
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
            write_page(&args.recording, page, &report)?;
        }
    }
    damage.outcome().with_context(|| args.recording.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

struct Telling {
    form: Box<dyn Form>,
    follow: bool,
    fold: Fold,
    damage: Damage,
}

impl Telling {
    fn lines(&mut self, reader: impl Iterator<Item = Result<Line, Fault>>) -> io::Result<()> {
        for item in reader {
            let line = match item {
                Ok(line) => line,
                Err(fault) => {
                    self.damage.take(fault);
                    continue;
                }
            };
            let is_last = matches!(line.event, Event::Summary(_));
            for line in self.fold.line(line) {
                let told = match line.event {
                    // It comes last, when it is known whether its verdicts are the run's.
                    Event::Summary(_) => false,
                    Event::Start(_) | Event::Verdict(_) => true,
                    _ => self.follow,
                };
                if told {
                    self.form.line(&line)?;
                    if self.follow {
                        self.form.flush()?;
                    }
                }
            }
            // Nothing follows, and whoever asked on would wait for it.
            if is_last && self.follow {
                break;
            }
        }
        Ok(())
    }
}

/// Shows what is left, and the summary.
fn end(form: &mut dyn Form, report: &Report) -> io::Result<()> {
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
fn write_page(recording: &Path, page: &Path, report: &Report) -> anyhow::Result<()> {
    let wanted = evidence::wanted(report);
    let lines = evidence::fetch(open(recording, None)?, &wanted);
    let name = recording.file_name().unwrap_or(recording.as_os_str()).to_string_lossy();
    let text = html::page(report, &lines, &name).context("the page cannot be drawn")?;
    fs::write(page, text)
        .with_context(|| format!("--html {}: the file cannot be written", page.display()))
}

/// What is wrong with a recording: the first of it, and how much more.
#[derive(Default)]
struct Damage {
    first: Option<Fault>,
    more: u64,
    /// News are said one by one, but not without end.
    news: u64,
}

/// The most warnings about what a newer version wrote.
const NEWS: u64 = 5;

impl Damage {
    fn take(&mut self, fault: Fault) {
        if fault.is_news() {
            self.news += 1;
            if self.news <= NEWS {
                log::warn!("{fault}");
            }
        } else if self.first.is_some() {
            self.more += 1;
        } else {
            self.first = Some(fault);
        }
    }

    fn forgive_cut(&mut self) {
        if self.more == 0 && self.first.as_ref().is_some_and(Fault::is_cut) {
            self.first = None;
        }
    }

    fn outcome(self) -> anyhow::Result<()> {
        if self.news > NEWS {
            log::warn!("{} more lines like these were passed over", self.news - NEWS);
        }
        match (self.first, self.more) {
            (None, _) => Ok(()),
            (Some(fault), 0) => Err(fault.into()),
            (Some(fault), more) => Err(anyhow!("{fault} ({more} more such places)")),
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
