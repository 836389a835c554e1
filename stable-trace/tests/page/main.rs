//! The page of a report, as a browser shows it: against the recording that it was made from.

mod browser;
mod recorded;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde::Deserialize;
use stable_trace_analysis::event::{Event, Line, Summary};

use browser::{Browser, Scheme};

/// What a test does with a browser.
type Story = fn(&Browser) -> Result<()>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: [(&str, Story); 4] = [
        ("page_has_the_numbers_of_the_recording", numbers),
        ("page_fits_a_phone_and_a_desk", widths),
        ("page_is_dark_where_that_is_asked_for", dark),
        ("page_shows_something_and_says_nothing_on_the_console", pictures),
    ];
    let trials = tests.map(|(name, story)| {
        Trial::ignorable_test(name, move || {
            let Some(browser) = Browser::find() else {
                return Ok(Completion::ignored_with("chromium is not installed"));
            };
            story(&browser).map_err(|error| Failed::from(format!("{error:#}")))?;
            Ok(Completion::Completed)
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// A recording, its page, and what `report --format json` says of it.
struct Reported {
    folder: tempfile::TempDir,
    page: PathBuf,
    lines: Vec<Line>,
}

impl Reported {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let recording = folder.path().join("<b>run.jsonl");
        std::fs::write(&recording, recorded::text()?)?;
        let page = folder.path().join("page.html");
        let output = Command::new(env!("CARGO_BIN_EXE_stable-trace"))
            .args(["report", "--format", "json", "--html"])
            .args([&page, &recording])
            .output()
            .context("cannot start stable-trace")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout)?;
        let lines = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(Self { folder, page, lines })
    }

    fn summary(&self) -> Result<&Summary> {
        match self.lines.last().map(|line| &line.event) {
            Some(Event::Summary(summary)) => Ok(summary),
            other => anyhow::bail!("the last line is no summary: {other:?}"),
        }
    }

    fn look(&self, browser: &Browser, scheme: Scheme) -> Result<Seen> {
        browser.look(self.folder.path(), &self.page, scheme)
    }
}

/// What a browser sees of a page.
#[derive(Debug, Deserialize)]
struct Seen {
    frames: Vec<Frame>,
}

/// The page at one width, with everything on it unfolded.
#[derive(Debug, Deserialize)]
struct Frame {
    /// What was asked for.
    width: u32,
    /// How far its contents reach.
    reaches: u32,
    /// Of its body, as `rgb(r, g, b)`.
    background: String,
    /// Pictures that have a size.
    pictures: u32,
    /// Scripts, and elements that only a hostile name can have made.
    foreign: u32,
    title: String,
    /// Numbers by name, in the order of the page.
    values: BTreeMap<String, Vec<u64>>,
    /// Verdicts: error, cause, confidence.
    verdicts: Vec<(u64, String, f64)>,
    /// Lines of evidence.
    evidence: Vec<String>,
}

fn numbers(browser: &Browser) -> Result<()> {
    let reported = Reported::new()?;
    let seen = reported.look(browser, Scheme::Light)?;
    let summary = reported.summary()?;
    let page = seen.frames.first().context("no frame")?;
    let value = |name: &str| page.values.get(name).cloned().unwrap_or_default();

    let lines = |of: fn(&stable_trace_analysis::event::StallSummary) -> u64| -> Vec<u64> {
        summary.stalls.iter().map(of).collect()
    };
    ensure!(value("stalls") == [summary.stalls_total], "{page:?}");
    ensure!(value("stalled-ns") == [lines(|line| line.total_ns).iter().sum::<u64>()]);
    ensure!(value("longest-ns") == [lines(|line| line.max_ns).into_iter().max().unwrap_or(0)]);
    ensure!(value("integrity") == [summary.integrity_errors_total]);
    ensure!(value("lost") == [summary.events_lost]);
    for (name, of) in [
        ("p50", lines(|line| line.p50_ns)),
        ("p90", lines(|line| line.p90_ns)),
        ("p99", lines(|line| line.p99_ns)),
    ] {
        ensure!(value(name) == of && !of.is_empty(), "{name}: {:?}, not {of:?}", value(name));
    }
    // Of files and processes, too, after those of the places.
    ensure!(value("max").starts_with(&lines(|line| line.max_ns)), "{:?}", value("max"));
    for line in &summary.verdicts {
        let name = format!("cause-{}", line.cause.name());
        ensure!(value(&name) == [line.count], "{name}: {:?}, not {}", value(&name), line.count);
    }

    let verdicts: Vec<_> = reported
        .lines
        .iter()
        .filter_map(|line| match &line.event {
            Event::Verdict(verdict) => {
                Some((verdict.integrity_seq, verdict.cause.name().to_owned(), verdict.confidence))
            }
            _ => None,
        })
        .collect();
    ensure!(verdicts.len() == recorded::ERRORS, "{} verdicts", verdicts.len());
    ensure!(page.verdicts == verdicts, "{:?}, not {verdicts:?}", page.verdicts);
    let told = page.evidence.iter().any(|text| text.contains(recorded::HOSTILE));
    ensure!(told, "no evidence names the writer: {:?}", page.evidence);
    ensure!(page.title.contains("<b>run"), "{}", page.title);
    Ok(())
}

fn widths(browser: &Browser) -> Result<()> {
    let seen = Reported::new()?.look(browser, Scheme::Light)?;
    ensure!(seen.frames.iter().map(|frame| frame.width).eq(browser::WIDTHS), "{seen:?}");
    for frame in &seen.frames {
        ensure!(
            frame.reaches <= frame.width,
            "at {} pixels it reaches to {}",
            frame.width,
            frame.reaches
        );
    }
    Ok(())
}

fn dark(browser: &Browser) -> Result<()> {
    let reported = Reported::new()?;
    let brightness = |scheme| -> Result<u32> {
        let seen = reported.look(browser, scheme)?;
        let color = &seen.frames.first().context("no frame")?.background;
        let numbers = color.split(|char: char| !char.is_ascii_digit());
        Ok(numbers.filter_map(|number| number.parse::<u32>().ok()).take(3).sum())
    };
    let (light, dark) = (brightness(Scheme::Light)?, brightness(Scheme::Dark)?);
    ensure!(light > 3 * 200, "light is {light}");
    ensure!(dark < 3 * 60, "dark is {dark}");
    Ok(())
}

fn pictures(browser: &Browser) -> Result<()> {
    let reported = Reported::new()?;
    let seen = reported.look(browser, Scheme::Light)?;
    for frame in &seen.frames {
        // The heat map, and one of lengths for each place.
        let least = 1 + u32::try_from(reported.summary()?.stalls.len())?;
        ensure!(frame.pictures == least, "{} pictures at {}", frame.pictures, frame.width);
        ensure!(frame.foreign == 0, "a name became an element");
    }
    let shot = |page: &Path| browser.screenshot(reported.folder.path(), page);
    let blank = reported.folder.path().join("blank.html");
    std::fs::write(&blank, "<!doctype html><title>blank</title>")?;
    let (shown, nothing) = (shot(&reported.page)?, shot(&blank)?);
    ensure!(shown > 5 * nothing, "{shown} bytes of picture, and {nothing} of an empty page");
    Ok(())
}
