//! The HTML report in a browser, compared with the recording that it shows.

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

type Body = fn(&Browser) -> Result<()>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: [(&str, Body); 4] = [
        ("page_has_the_numbers_of_the_recording", numbers),
        ("page_fits_phone_and_desktop_widths", widths),
        ("page_follows_the_preferred_color_scheme", dark),
        ("page_draws_its_charts_without_console_messages", charts),
    ];
    let trials = tests.map(|(name, body)| {
        Trial::ignorable_test(name, move || {
            let Some(browser) = Browser::find() else {
                return Ok(Completion::ignored_with("chromium is not installed"));
            };
            body(&browser).map_err(|error| Failed::from(format!("{error:#}")))?;
            Ok(Completion::Completed)
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// The HTML report of a recording, and the output of `report --format json`.
struct Report {
    folder: tempfile::TempDir,
    page: PathBuf,
    lines: Vec<Line>,
}

impl Report {
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
        // What the page shows is one of the lines, which is no event.
        let events = lines.lines().filter(|line| !line.starts_with(r#"{"type":"report","#));
        let lines = events.map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(Self { folder, page, lines })
    }

    fn summary(&self) -> Result<&Summary> {
        match self.lines.last().map(|line| &line.event) {
            Some(Event::Summary(summary)) => Ok(summary),
            other => anyhow::bail!("the last line is not a summary: {other:?}"),
        }
    }

    fn render(&self, browser: &Browser, scheme: Scheme) -> Result<Rendered> {
        browser.inspect(self.folder.path(), &self.page, scheme)
    }
}

/// The rendered page.
#[derive(Debug, Deserialize)]
struct Rendered {
    frames: Vec<Frame>,
}

/// The page at one width, with all details open.
#[derive(Debug, Deserialize)]
struct Frame {
    /// The width of the frame.
    width: u32,
    /// The width of the contents.
    content_width: u32,
    /// Background of the body, as `rgb(r, g, b)`.
    background: String,
    /// SVG pictures larger than 50 pixels in both directions.
    charts: u32,
    /// Scripts and other elements that only unescaped names could create.
    injected: u32,
    title: String,
    /// Numbers by name, in the order of the page.
    values: BTreeMap<String, Vec<u64>>,
    /// Sequence number of the error, cause, and confidence.
    verdicts: Vec<(u64, String, f64)>,
    evidence: Vec<String>,
}

fn numbers(browser: &Browser) -> Result<()> {
    let report = Report::new()?;
    let rendered = report.render(browser, Scheme::Light)?;
    let summary = report.summary()?;
    let page = rendered.frames.first().context("the probe has no frame")?;
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
    // The maxima of files and processes follow those of context, device and file system.
    ensure!(value("max").starts_with(&lines(|line| line.max_ns)), "{:?}", value("max"));
    for line in &summary.verdicts {
        let name = format!("cause-{}", line.cause.name());
        ensure!(value(&name) == [line.count], "{name}: {:?}, not {}", value(&name), line.count);
    }

    let verdicts: Vec<_> = report
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
    let named = page.evidence.iter().any(|text| text.contains(recorded::HOSTILE));
    ensure!(named, "no evidence names the writer: {:?}", page.evidence);
    ensure!(page.title.contains("<b>run"), "{}", page.title);
    Ok(())
}

fn widths(browser: &Browser) -> Result<()> {
    let rendered = Report::new()?.render(browser, Scheme::Light)?;
    ensure!(rendered.frames.iter().map(|frame| frame.width).eq(browser::WIDTHS), "{rendered:?}");
    for frame in &rendered.frames {
        ensure!(
            frame.content_width <= frame.width,
            "at {} pixels the contents are {} wide",
            frame.width,
            frame.content_width
        );
    }
    Ok(())
}

fn dark(browser: &Browser) -> Result<()> {
    let report = Report::new()?;
    let brightness = |scheme| -> Result<u32> {
        let rendered = report.render(browser, scheme)?;
        let color = &rendered.frames.first().context("the probe has no frame")?.background;
        let numbers = color.split(|char: char| !char.is_ascii_digit());
        Ok(numbers.filter_map(|number| number.parse::<u32>().ok()).take(3).sum())
    };
    let (light, dark) = (brightness(Scheme::Light)?, brightness(Scheme::Dark)?);
    ensure!(light > 3 * 200, "the light background has brightness {light}");
    ensure!(dark < 3 * 60, "the dark background has brightness {dark}");
    Ok(())
}

fn charts(browser: &Browser) -> Result<()> {
    let report = Report::new()?;
    let rendered = report.render(browser, Scheme::Light)?;
    for frame in &rendered.frames {
        // The heat map, and a chart of durations for each line of the summary.
        let least = 1 + u32::try_from(report.summary()?.stalls.len())?;
        ensure!(frame.charts == least, "{} pictures at {}", frame.charts, frame.width);
        ensure!(frame.injected == 0, "a name became an element");
    }
    let shot = |page: &Path| browser.screenshot(report.folder.path(), page);
    let blank = report.folder.path().join("blank.html");
    std::fs::write(&blank, "<!doctype html><title>blank</title>")?;
    let (shown, empty) = (shot(&report.page)?, shot(&blank)?);
    ensure!(shown > 5 * empty, "a screenshot of {shown} bytes, and {empty} of an empty page");
    Ok(())
}
