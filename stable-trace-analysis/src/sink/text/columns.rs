//! The columns of the live table, and what becomes of them where there is little room.

/// What a column is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Time of day.
    Time,
    /// How long, or what it was instead of a stall.
    What,
    /// Why.
    Context,
    /// Where in the kernel.
    Function,
    /// Which device.
    Device,
    /// Which type of file system.
    Fs,
    /// Which file: its inode, or its path.
    File,
    /// Which page of it.
    Page,
    /// Who.
    Task,
}

use Column::{Context, Device, File, Fs, Function, Page, Task, Time, What};

/// In the order of the line: heading, width where there is room, least width.
const COLUMNS: [(Column, &str, usize, usize); 9] = [
    (Time, "TIME", 15, 12),
    (What, "STALL", 8, 8),
    (Context, "CONTEXT", 12, 12),
    (Function, "FUNCTION", 28, 16),
    (Device, "DEVICE", 10, 7),
    (Fs, "FS", 6, 5),
    (File, "INODE", 10, 7),
    (Page, "PAGE", 8, 5),
    (Task, "TASK", 24, 18),
];

/// Those that shrink, first to last.
const SHRINK: [Column; 7] = [Function, Task, Time, Device, Page, File, Fs];

/// Those that go where even that is not enough, first to last; the others stay.
const LEAVE: [Column; 6] = [Fs, Function, Page, File, Device, Time];

/// One column as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What it is about.
    pub column: Column,
    /// Its heading.
    pub heading: &'static str,
    /// Its cells; nothing if it takes what it needs.
    pub width: Option<usize>,
}

impl Column {
    /// Whether numbers stand in it, which belong to the right.
    pub const fn is_right(self) -> bool {
        matches!(self, What | File | Page)
    }

    /// The cells between this and the column before it.
    pub const fn gap(self) -> usize {
        match self {
            Time => 0,
            Context | Task => 2,
            _ => 1,
        }
    }
}

/// The columns for a terminal of so many cells, or for whatever has no width.
pub fn columns(width: Option<usize>) -> Vec<Shown> {
    let mut columns: Vec<_> = COLUMNS
        .iter()
        .map(|&(column, heading, most, _)| Shown { column, heading, width: Some(most) })
        .collect();
    if let Some(width) = width {
        for column in SHRINK {
            let over = taken(&columns).saturating_sub(width);
            let least = COLUMNS.iter().find(|spec| spec.0 == column).map_or(0, |spec| spec.3);
            for shown in columns.iter_mut().filter(|shown| shown.column == column) {
                shown.width = shown.width.map(|most| most.saturating_sub(over).max(least));
            }
        }
        for column in LEAVE {
            if taken(&columns) > width {
                columns.retain(|shown| shown.column != column);
            }
        }
    }
    // What is left over, or lacking, is the last one's.
    let rest = width.map(|width| {
        let before = taken(&columns) - columns.last().and_then(|last| last.width).unwrap_or(0);
        width.saturating_sub(before).max(1)
    });
    if let Some(last) = columns.last_mut() {
        last.width = rest;
    }
    columns
}

/// The cells that columns take.
fn taken(columns: &[Shown]) -> usize {
    columns
        .iter()
        .enumerate()
        .map(|(index, shown)| {
            let gap = if index == 0 { 0 } else { shown.column.gap() };
            gap + shown.width.unwrap_or(0)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_width_everything_is_shown() {
        let columns = columns(None);
        assert_eq!(columns.len(), COLUMNS.len());
        assert_eq!(columns.last().unwrap().width, None);
    }

    #[test]
    fn from_forty_two_cells_on_the_line_fits_and_says_what_matters() {
        for width in 42..300 {
            let columns = columns(Some(width));
            assert!(taken(&columns) <= width, "{width}: {columns:?}");
            for column in [What, Context, Task] {
                assert!(columns.iter().any(|shown| shown.column == column), "{width}");
            }
        }
        let kept: Vec<_> = columns(Some(80)).iter().map(|shown| shown.column).collect();
        assert_eq!(kept, [Time, What, Context, Device, File, Page, Task]);
        assert_eq!(columns(Some(130)).len(), COLUMNS.len());
    }

    #[test]
    fn a_wider_terminal_never_shows_less() {
        let mut before = 0;
        for width in 1..300 {
            let now = columns(Some(width)).len();
            assert!(now >= before, "{width}");
            before = now;
        }
    }
}
