//! Rows of the live table: one for each stall or unstable write.

use super::{
    columns::{Column, VisibleColumn, columns},
    truncate::{cells, left_aligned, right_aligned, truncate_end},
};
use crate::{
    event::{Grade, Stall, UnstableWrite, Waiting},
    sink::{
        format::{duration, sanitize},
        style::{Style, Tone},
    },
};

/// An event about one page.
pub(super) struct Row<'a> {
    /// The duration of a stall, or the kind of another event.
    label: String,
    tone: Tone,
    context: &'static str,
    function: &'a str,
    device: Option<&'a str>,
    fs: Option<&'a str>,
    ino: Option<u64>,
    index: u64,
    path: Option<&'a str>,
    comm: &'a str,
    tid: u32,
    /// Kernel functions, the innermost first.
    pub(super) stack: &'a [String],
}

impl<'a> Row<'a> {
    pub(super) fn stall(stall: &'a Stall) -> Self {
        Self {
            label: duration(stall.duration_ns),
            tone: Tone::of_stall(stall.duration_ns),
            context: stall.context.name(),
            function: &stall.function,
            device: stall.device.as_deref(),
            fs: stall.fs.as_deref(),
            ino: stall.ino,
            index: stall.index,
            path: stall.path.as_deref(),
            comm: &stall.comm,
            tid: stall.tid,
            stack: stall.stack.as_deref().unwrap_or_default(),
        }
    }

    pub(super) fn waiting(waiting: &'a Waiting) -> Self {
        let age = duration(waiting.age_ns);
        Self {
            label: if waiting.ended { age } else { format!("> {age}") },
            tone: if waiting.ended { Tone::Faint } else { Tone::Bad },
            context: waiting.context.name(),
            function: &waiting.function,
            device: waiting.device.as_deref(),
            fs: waiting.fs.as_deref(),
            ino: waiting.ino,
            index: waiting.index,
            path: waiting.path.as_deref(),
            comm: &waiting.comm,
            tid: waiting.tid,
            stack: waiting.stack.as_deref().unwrap_or_default(),
        }
    }

    pub(super) fn unstable_write(write: &'a UnstableWrite) -> Self {
        let (label, tone) = match write.grade {
            Grade::Violation => ("BROKEN", Tone::Bad),
            Grade::Hole => ("unstable", Tone::Slow),
            Grade::Harmless => ("unstable", Tone::Faint),
        };
        Self {
            label: label.to_owned(),
            tone,
            context: write.context.name(),
            function: &write.function,
            device: write.device.as_deref(),
            fs: write.fs.as_deref(),
            ino: write.ino,
            index: write.index,
            path: write.path.as_deref(),
            comm: &write.comm,
            tid: write.tid,
            stack: write.stack.as_deref().unwrap_or_default(),
        }
    }

    fn cell(&self, column: Column, time: &str) -> String {
        match column {
            Column::Time => time.to_owned(),
            Column::Stall => self.label.clone(),
            Column::Context => self.context.to_owned(),
            Column::Function => sanitize(self.function),
            Column::Device => sanitize(self.device.unwrap_or("-")),
            Column::Fs => sanitize(self.fs.unwrap_or("-")),
            Column::File => match (self.path, self.ino) {
                (Some(path), _) => sanitize(path),
                (None, Some(ino)) => ino.to_string(),
                (None, None) => "-".to_owned(),
            },
            Column::Page => self.index.to_string(),
            Column::Task => format!("{}[{}]", sanitize(self.comm), self.tid),
        }
    }

    fn task(&self, width: usize) -> String {
        let number = format!("[{}]", self.tid);
        let name = truncate_end(&sanitize(self.comm), width.saturating_sub(cells(&number)));
        format!("{name}{number}")
    }

    /// Formats the row for a terminal of this width.
    pub(super) fn line(&self, time: &str, width: Option<usize>, style: Style) -> String {
        let truncate = width.is_some();
        join(&columns(width), |visible| {
            let text = self.cell(visible.column, time);
            let text = match (visible.column, visible.width) {
                // Without an ellipsis: the least significant digits are dropped.
                (Column::Time, Some(width)) => text.chars().take(width).collect(),
                // The name is truncated, the thread id stays.
                (Column::Task, Some(width)) => self.task(width),
                _ => text,
            };
            // Padded before it is painted: escape sequences have no width.
            let text = fitted(&text, *visible, truncate);
            if visible.column == Column::Stall { style.paint(self.tone, text) } else { text }
        })
    }
}

pub(super) fn headings(width: Option<usize>) -> String {
    join(&columns(width), |visible| fitted(visible.heading, *visible, width.is_some()))
}

fn join(columns: &[VisibleColumn], cell: impl Fn(&VisibleColumn) -> String) -> String {
    let mut line = String::new();
    for (index, visible) in columns.iter().enumerate() {
        let gap = if index == 0 { 0 } else { visible.column.gap() };
        line.extend(std::iter::repeat_n(' ', gap));
        line.push_str(&cell(visible));
    }
    line.truncate(line.trim_end().len());
    line
}

/// Pads a cell to the width of its column. Truncates it only if `truncate`.
fn fitted(text: &str, visible: VisibleColumn, truncate: bool) -> String {
    match visible.width {
        None => text.to_owned(),
        Some(width) if !truncate && cells(text) > width => text.to_owned(),
        Some(width) if visible.column.is_right_aligned() => right_aligned(text, width),
        Some(width) => left_aligned(text, width),
    }
}
