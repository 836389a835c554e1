//! Draws the live view: devices, files and processes, and findings, on any screen from 80 by 24 on.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line as TextLine,
    widgets::{Block, Borders, Cell, Paragraph, Row, Table},
};
use stable_trace_analysis::sink::format::duration;

use super::{controls::Controls, model::Model};

/// A wait that has lasted longer, in ns, is marked.
const LONG_NS: u64 = 1_000_000_000;

/// How marks look.
#[derive(Clone, Copy)]
pub(super) struct Theme {
    /// Whether there are colours.
    pub(super) color: bool,
}

impl Theme {
    fn bad(self) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.color { bold.fg(Color::Red) } else { bold }
    }

    fn heading(self) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.color { bold.fg(Color::Cyan) } else { bold }
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, controls: &Controls, theme: Theme) {
    let [head, devices, tops, findings, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(4),
        Constraint::Fill(4),
        Constraint::Fill(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [files, processes] =
        Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).spacing(1).areas(tops);
    draw_head(frame, head, model, controls, theme);
    draw_devices(frame, devices, model, controls, theme);
    draw_files(frame, files, model, controls, theme);
    draw_processes(frame, processes, model, controls, theme);
    draw_findings(frame, findings, model, theme);
    draw_foot(frame, foot, controls, theme);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model, controls: &Controls, theme: Theme) {
    let if_any = |amount: u64, text: String| if amount > 0 { text } else { String::new() };
    let text = format!(
        "stable-trace on {}, for {}: {} waiting{}{}{}",
        model.hostname,
        humantime::format_duration(Duration::from_secs(model.uptime.as_secs())),
        model.waiting,
        if_any(model.waiting, format!(", the oldest for {}", duration(model.oldest_ns))),
        if_any(model.lost, format!(", {} events lost", model.lost)),
        if controls.is_paused { "  PAUSED" } else { "" },
    );
    let style = if model.oldest_ns >= LONG_NS { theme.bad() } else { theme.heading() };
    frame.render_widget(Paragraph::new(text).style(style), area);
}

fn draw_devices(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    controls: &Controls,
    theme: Theme,
) {
    let rows = model.devices(controls).into_iter().map(|row| {
        let style = if row.oldest_ns >= LONG_NS { theme.bad() } else { Style::new() };
        let oldest = if row.waiting > 0 { duration(row.oldest_ns) } else { "-".to_owned() };
        Row::new([
            Cell::from(row.device.as_str()),
            Cell::from(row.fs.as_str()),
            right(rate(row.rate)),
            right(share(row.stalled)),
            right(or_dash(row.p50_ns)),
            right(or_dash(row.p99_ns)),
            right(row.waiting.to_string()),
            right(oldest),
            right(row.count.to_string()),
        ])
        .style(style)
    });
    let widths = [
        Constraint::Min(10),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(9),
    ];
    let names =
        ["DEVICE", "FS", "STALLS/S", "STALLED", "P50", "P99", "WAITING", "OLDEST", "STALLS"];
    let title = format!("Devices, by {}", controls.sort.name());
    frame.render_widget(table(rows, widths, names, 2, title, theme), area);
}

fn draw_files(frame: &mut Frame<'_>, area: Rect, model: &Model, controls: &Controls, theme: Theme) {
    let name_width = usize::from(area.width).saturating_sub(35);
    let rows = model.files(controls).into_iter().map(|row| {
        Row::new([
            Cell::from(end_of(&row.name, name_width)),
            Cell::from(row.device.as_str()),
            right(row.count.to_string()),
            right(duration(row.total_ns)),
            right(duration(row.max_ns)),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
    ];
    let names = ["FILE", "DEVICE", "STALLS", "STALLED", "MAX"];
    frame.render_widget(table(rows, widths, names, 2, "Files".to_owned(), theme), area);
}

fn draw_processes(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    controls: &Controls,
    theme: Theme,
) {
    let rows = model.processes(controls).into_iter().map(|row| {
        Row::new([
            Cell::from(row.name.as_str()),
            right(share(row.stalled)),
            right(duration(row.total_ns)),
        ])
    });
    let widths = [Constraint::Fill(1), Constraint::Length(8), Constraint::Length(8)];
    let names = ["PROCESS", "STALLED", "IN ALL"];
    frame.render_widget(table(rows, widths, names, 1, "Processes".to_owned(), theme), area);
}

fn draw_findings(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let lines: Vec<_> = model
        .findings
        .iter()
        .map(|finding| TextLine::from(format!("{} {}", finding.time, finding.text)))
        .collect();
    let lines = if lines.is_empty() { vec![TextLine::from("none so far")] } else { lines };
    let title = "Integrity errors and verdicts".to_owned();
    frame.render_widget(Paragraph::new(lines).block(block(title, theme)), area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, controls: &Controls, theme: Theme) {
    let text = if controls.is_typing {
        format!("filter: {}_   Enter: keep   Esc: remove", controls.filter)
    } else if controls.filter.is_empty() {
        "q quit   s sort   / filter   p pause".to_owned()
    } else {
        format!(
            "q quit   s sort   / filter   p pause   Esc: remove the filter {:?}",
            controls.filter
        )
    };
    frame.render_widget(Paragraph::new(text).style(theme.heading()), area);
}

/// A table whose first `left` columns are text, and the others numbers.
fn table<'a, const N: usize>(
    rows: impl Iterator<Item = Row<'a>>,
    widths: [Constraint; N],
    names: [&'static str; N],
    left: usize,
    title: String,
    theme: Theme,
) -> Table<'a> {
    let heading = names
        .into_iter()
        .enumerate()
        .map(|(place, name)| if place < left { Cell::from(name) } else { right(name.to_owned()) });
    Table::new(rows, widths)
        .header(Row::new(heading).style(Style::new().add_modifier(Modifier::UNDERLINED)))
        .block(block(title, theme))
}

fn block(title: String, theme: Theme) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title).title_style(theme.heading())
}

fn right(text: String) -> Cell<'static> {
    Cell::from(TextLine::from(text).right_aligned())
}

fn or_dash(ns: u64) -> String {
    if ns > 0 { duration(ns) } else { "-".to_owned() }
}

/// A number a second.
fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// Stalled time a second of time: how many tasks stall on average.
fn share(ns_per_second: f64) -> String {
    format!("{:.2}", ns_per_second / 1e9)
}

/// The end of a name, which tells most of a path.
fn end_of(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width.max(1) {
        return name.to_owned();
    }
    let rest = name.chars().skip(length.saturating_sub(width.max(2) - 1));
    std::iter::once('…').chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend, buffer::Cell};
    use stable_trace_analysis::event::{Context, Line};
    use stable_trace_common::{backing::Backing, histogram::HistogramKey, process::ProcessKey};

    use super::*;
    use crate::metrics::snapshot::{DeviceFs, ProcessTime, Snapshot, Stalls, WaitingTask};

    fn model() -> Model {
        let device_fs = DeviceFs { device: Some("sda1".into()), fs: Some("ext4".into()) };
        let mut model = Model::default();
        for line in [
            r#"{"seq":1,"time":"2026-11-30T00:00:00Z","type":"start","version":"0","kernel":"6.18","arch":"x86_64","hostname":"host","probes":[],"devices":[]}"#,
            r#"{"seq":2,"time":"2026-11-30T00:00:01Z","type":"stall","context":"sync","function":"f","duration_ns":4000000,"pid":1,"tid":2,"comm":"db","device":"sda1","dev":"8:1","ino":12,"index":3,"path":"/var/lib/database/with/a/long/path/table.data"}"#,
            r#"{"seq":3,"time":"2026-11-30T00:00:02Z","type":"integrity","op":"write","device":"sda","sector":8,"sectors":8,"check":"guard","source":"scsi","status":"EILSEQ","pages":[],"path":"/var/lib/x"}"#,
        ] {
            model.line(&serde_json::from_str::<Line>(line).unwrap());
        }
        model.snapshot(&Snapshot {
            uptime: Duration::from_secs(2),
            stalls: vec![Stalls {
                key: HistogramKey { backing: Backing::NONE, stack: 1 },
                context: Context::Sync,
                device_fs: device_fs.clone(),
                histogram: [4_000_000; 10].into_iter().collect(),
            }],
            waiting: vec![WaitingTask { context: Context::Sync, device_fs, age_ns: 2_500_000_000 }],
            processes: vec![ProcessTime {
                key: ProcessKey::OVERFLOW,
                name: Some("db".into()),
                cgroup: None,
                context: Context::Sync,
                sum_ns: 40_000_000,
            }],
            ..Snapshot::default()
        });
        model
    }

    fn screen(width: u16, height: u16, controls: &Controls) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let theme = Theme { color: false };
        terminal.draw(|frame| draw(frame, &model(), controls, theme)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let cells = buffer.content().chunks(usize::from(width));
        cells.map(|row| row.iter().map(Cell::symbol).collect()).collect()
    }

    #[test]
    fn everything_is_on_the_smallest_screen() {
        let screen = screen(80, 24, &Controls::default());
        assert!(screen[0].contains("host, for 2s: 1 waiting, the oldest for 2.50s"), "{screen:#?}");
        let row = |name: &str| {
            let row = screen.iter().find(|row| row.starts_with(name));
            row.unwrap_or_else(|| panic!("no row {name}: {screen:#?}"))
        };
        let device: Vec<_> = row("sda1").split_whitespace().collect();
        assert_eq!(device[..4], ["sda1", "ext4", "5.0", "0.02"]);
        assert_eq!(device[6..], ["1", "2.50s", "10"]);
        let file = row("…");
        assert!(file.contains("table.data") && file.contains("sda1"), "{file}");
        assert!(file.contains(" db ") && file.contains("40.0ms"), "{file}");
        assert!(row("00:00:02.000000 guard write of /var/lib/x on sda").contains("8 sectors"));
        assert!(screen[23].starts_with("q quit"), "{screen:#?}");
    }

    #[test]
    fn a_filter_and_a_pause_are_shown() {
        let filter = "nothing like it".to_owned();
        let controls = Controls { filter, is_paused: true, ..Controls::default() };
        let screen = screen(100, 30, &controls);
        assert!(screen[0].contains("PAUSED"));
        assert!(!screen.iter().any(|row| row.starts_with("sda1")), "{screen:#?}");
        assert!(screen[29].contains("nothing like it"), "{screen:#?}");
    }

    #[test]
    fn a_tiny_screen_is_no_problem() {
        for (width, height) in [(1, 1), (10, 3), (40, 6)] {
            assert_eq!(screen(width, height, &Controls::default()).len(), usize::from(height));
        }
    }

    #[test]
    fn the_end_of_a_long_name_is_shown() {
        assert_eq!(end_of("/a/b", 10), "/a/b");
        assert_eq!(end_of("/abcdef/ghi", 6), "…f/ghi");
    }
}
