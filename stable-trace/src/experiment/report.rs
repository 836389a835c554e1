//! Writes the result as a table or as JSON, one line for each cell.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use stable_trace_analysis::sink::format::duration;

use super::{args::Format, cell::Cell};
use crate::workload::progress::format_size;

pub(super) struct CellWriter {
    out: Box<dyn Write>,
    format: Format,
    header_written: bool,
    /// Of the Markdown table.
    notes: Vec<String>,
}

const COLUMNS: [&str; 10] = [
    "FS",
    "PROFILE",
    "FILE",
    "ON/s",
    "OFF/s",
    "ON/OFF",
    "95 % INTERVAL",
    "STALLS",
    "P99",
    "INTEGRITY",
];

/// The explanation of the columns, below the table.
const LEGEND: &str = "ON/s, OFF/s: operations a second with stable writes on and off; ON/OFF: their \
    ratio over the pairs, with its 95 % confidence interval; STALLS, P99: waits for a stable page \
    with stable writes on; INTEGRITY: failed checks with stable writes on / off";

impl CellWriter {
    pub(super) fn new(out: Box<dyn Write>, format: Format) -> Self {
        Self { out, format, header_written: false, notes: Vec::new() }
    }

    pub(super) fn write_cell(&mut self, cell: &Cell) -> io::Result<()> {
        match self.format {
            Format::Json => {
                serde_json::to_writer(&mut self.out, cell)?;
                writeln!(self.out)?;
            }
            Format::Text | Format::Markdown => {
                if !self.header_written {
                    self.header_written = true;
                    self.write_row(&COLUMNS.map(str::to_owned))?;
                    if self.format == Format::Markdown {
                        writeln!(self.out, "|---|---|---:|---:|---:|---:|---|---:|---:|---:|")?;
                    }
                }
                self.write_row(&columns(cell))?;
                let finding = finding(cell);
                match self.format {
                    Format::Markdown => self.add_note(format!("{}: {finding}", name(cell))),
                    _ => writeln!(self.out, "       {finding}")?,
                }
            }
        }
        self.out.flush()
    }

    /// Writes the notes and the legend.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.header_written {
            if self.format == Format::Markdown {
                writeln!(self.out)?;
                for note in &self.notes {
                    writeln!(self.out, "- {note}")?;
                }
            }
            writeln!(self.out, "\n{LEGEND}.")?;
        }
        self.out.flush()
    }

    fn add_note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn write_row(&mut self, row: &[String; 10]) -> io::Result<()> {
        if self.format == Format::Markdown {
            return writeln!(self.out, "| {} |", row.join(" | "));
        }
        let [fs, profile, file, on, off, ratio, interval, stalls, p99, integrity] = row;
        writeln!(
            self.out,
            "{fs:<6} {profile:<7} {file:>9} {on:>10} {off:>10} {ratio:>7}  {interval:<15} \
             {stalls:>9} {p99:>9}  {integrity:>9}"
        )
    }
}

fn name(cell: &Cell) -> String {
    format!("{} {} {}", cell.fs, cell.profile, format_size(cell.file_size))
}

fn columns(cell: &Cell) -> [String; 10] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rate = |rate: Option<f64>| or_dash(rate.map(|rate| format!("{rate:.0}")));
    let count = |count: Option<u64>| or_dash(count.map(|count| count.to_string()));
    let integrity =
        format!("{} / {}", count(cell.integrity_errors_on), count(cell.integrity_errors_off));
    [
        cell.fs.clone(),
        cell.profile.clone(),
        format_size(cell.file_size),
        rate(cell.ops_on),
        rate(cell.ops_off),
        or_dash(cell.ratio.map(|ratio| format!("{ratio:.3}"))),
        or_dash(cell.ci95.map(|[low, high]| format!("{low:.3} to {high:.3}"))),
        cell.stalls.to_string(),
        if cell.stalls == 0 { "-".to_owned() } else { duration(cell.stall_p99_ns) },
        integrity,
    ]
}

/// Describes the result of a cell in one sentence.
fn finding(cell: &Cell) -> String {
    let mut text = match (&cell.note, cell.ratio, cell.ci95) {
        (Some(note), ..) => format!("one arm, no ratio: {note}"),
        (None, None, _) => "no ratio: a run did not complete one operation".to_owned(),
        (None, Some(_), None) => "no interval: it takes at least two pairs".to_owned(),
        (None, Some(_), Some([low, high])) if low <= 1.0 && 1.0 <= high => {
            "the interval includes 1: no difference is shown".to_owned()
        }
        (None, Some(ratio), Some([low, high])) => {
            let percent = |ratio: f64| (1.0 - ratio).abs() * 100.0;
            let direction = if ratio < 1.0 { "fewer" } else { "more" };
            let (near, far) = if ratio < 1.0 { (high, low) } else { (low, high) };
            format!(
                "{:.1} % {direction} operations with stable writes on ({:.1} % to {:.1} %)",
                percent(ratio),
                percent(near),
                percent(far)
            )
        }
    };
    for (errno, count) in &cell.errors {
        // Writing to a String cannot fail.
        let _ = write!(text, "; {count} {errno} to the workload");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn cell() -> Cell {
        Cell {
            fs: "ext4".to_owned(),
            profile: "a".to_owned(),
            file_size: 65_536,
            threads: 64,
            pairs: 5,
            ops_on: Some(880.0),
            ops_off: Some(1000.0),
            ratio: Some(0.88),
            ci95: Some([0.85, 0.91]),
            ci95_includes_1: Some(false),
            stalls: 1234,
            stall_p99_ns: 2_500_000,
            stalls_off: Some(0),
            integrity_errors: Some(3),
            integrity_errors_on: Some(0),
            integrity_errors_off: Some(3),
            errors: BTreeMap::new(),
            runs_on: Vec::new(),
            runs_off: Vec::new(),
            note: None,
        }
    }

    fn written(format: Format, cells: &[Cell]) -> String {
        let out = Shared::default();
        let mut writer = CellWriter::new(Box::new(out.clone()), format);
        for cell in cells {
            writer.write_cell(cell).unwrap();
        }
        writer.finish().unwrap();
        let bytes = out.0.borrow().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_a_table_with_findings() {
        let text = written(Format::Text, &[cell(), cell()]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("FS     PROFILE"), "{text}");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        let expected = "ext4 a 64 KiB 880 1000 0.880 0.850 to 0.910 1234 2.50ms 0 / 3";
        assert_eq!(words.join(" "), expected);
        assert_eq!(
            lines[2].trim(),
            "12.0 % fewer operations with stable writes on (9.0 % to 15.0 %)"
        );
        assert_eq!(lines.iter().filter(|line| line.starts_with("FS")).count(), 1);
    }

    #[test]
    fn markdown_rows_have_the_same_number_of_columns() {
        let text = written(Format::Markdown, &[cell()]);
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.matches('|').count() == 11), "{text}");
        assert!(text.contains("- ext4 a 64 KiB: 12.0 % fewer"), "{text}");
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = written(Format::Json, &[cell(), cell()]);
        let cells: Vec<Cell> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(cells, [cell(), cell()]);
    }

    #[test]
    fn a_finding_follows_from_the_numbers() {
        let includes = Cell { ci95: Some([0.85, 1.0]), ..cell() };
        assert!(finding(&includes).contains("includes 1"));
        let more = Cell { ratio: Some(1.1), ci95: Some([1.05, 1.2]), ..cell() };
        assert_eq!(
            finding(&more),
            "10.0 % more operations with stable writes on (5.0 % to 20.0 %)"
        );
        let one = Cell { note: Some("why".to_owned()), ratio: None, ci95: None, ..cell() };
        assert_eq!(finding(&one), "one arm, no ratio: why");
        let full = Cell { errors: BTreeMap::from([("ENOSPC".to_owned(), 4)]), ..one };
        assert!(finding(&full).ends_with("; 4 ENOSPC to the workload"));
    }
}
