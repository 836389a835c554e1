//! The live table: a line a page.

use super::{
    columns::{Column, Shown, columns},
    truncate::{cells, head, left, right},
};
use crate::{
    event::{Grade, Stall, UnstableWrite},
    sink::style::{Style, Tone, duration, harmless, stall_tone},
};

/// One line about one page.
pub struct Row<'a> {
    what: String,
    tone: Tone,
    context: &'static str,
    function: &'a str,
    device: Option<&'a str>,
    fs: Option<&'a str>,
    ino: u64,
    index: u64,
    path: Option<&'a str>,
    comm: &'a str,
    tid: u32,
    /// Kernel functions from the innermost out.
    pub stack: &'a [String],
}

impl<'a> Row<'a> {
    /// About a stall.
    pub fn stall(stall: &'a Stall) -> Self {
        Self {
            what: duration(stall.duration_ns),
            tone: stall_tone(stall.duration_ns),
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

    /// About an unstable write.
    pub fn unstable(write: &'a UnstableWrite) -> Self {
        let (what, tone) = match write.grade {
            Grade::Violation => ("BROKEN", Tone::Bad),
            Grade::Hole => ("unstable", Tone::Slow),
            Grade::Harmless => ("unstable", Tone::Faint),
        };
        Self {
            what: what.to_owned(),
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
            Column::What => self.what.clone(),
            Column::Context => self.context.to_owned(),
            Column::Function => harmless(self.function),
            Column::Device => harmless(self.device.unwrap_or("-")),
            Column::Fs => harmless(self.fs.unwrap_or("-")),
            Column::File => self.path.map_or_else(|| self.ino.to_string(), harmless),
            Column::Page => self.index.to_string(),
            Column::Task => format!("{}[{}]", harmless(self.comm), self.tid),
        }
    }

    fn task(&self, width: usize) -> String {
        let number = format!("[{}]", self.tid);
        let name = head(&harmless(self.comm), width.saturating_sub(cells(&number)));
        format!("{name}{number}")
    }

    /// The line, of an event of this time of day, for a terminal of so many cells.
    pub fn line(&self, time: &str, width: Option<usize>, style: Style) -> String {
        let cut = width.is_some();
        join(&columns(width), |shown| {
            let text = self.cell(shown.column, time);
            let text = match (shown.column, shown.width) {
                // The least digits of a time go first, and not with an ellipsis.
                (Column::Time, Some(width)) => text.chars().take(width).collect(),
                // Of a name and a number, the number stays.
                (Column::Task, Some(width)) => self.task(width),
                _ => text,
            };
            // Pad first: colour codes have a length of their own.
            let text = fitted(&text, *shown, cut);
            if shown.column == Column::What { style.paint(self.tone, text) } else { text }
        })
    }
}

/// The headings.
pub fn headings(width: Option<usize>) -> String {
    join(&columns(width), |shown| fitted(shown.heading, *shown, width.is_some()))
}

fn join(columns: &[Shown], cell: impl Fn(&Shown) -> String) -> String {
    let mut line = String::new();
    for (index, shown) in columns.iter().enumerate() {
        let gap = if index == 0 { 0 } else { shown.column.gap() };
        line.extend(std::iter::repeat_n(' ', gap));
        line.push_str(&cell(shown));
    }
    line.truncate(line.trim_end().len());
    line
}

/// A cell; nothing is left out of it where the line may be as long as it needs to be.
fn fitted(text: &str, shown: Shown, cut: bool) -> String {
    match shown.width {
        None => text.to_owned(),
        Some(width) if !cut && cells(text) > width => text.to_owned(),
        Some(width) if shown.column.is_right() => right(text, width),
        Some(width) => left(text, width),
    }
}
