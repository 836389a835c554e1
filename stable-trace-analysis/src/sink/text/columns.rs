//! The columns of the live table, and how they adapt to the width of the terminal.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// The time of the day.
    Time,
    /// The duration of a stall, or the kind of another event.
    Stall,
    Context,
    Function,
    Device,
    /// The type of the file system.
    Fs,
    /// The inode, or the path.
    File,
    /// The page's index in the file.
    Page,
    Task,
}

use Column::{Context, Device, File, Fs, Function, Page, Stall, Task, Time};

/// In the order of the line: heading, preferred width, minimum width.
const COLUMNS: [(Column, &str, usize, usize); 9] = [
    (Time, "TIME", 15, 12),
    (Stall, "STALL", 8, 8),
    (Context, "CONTEXT", 12, 12),
    (Function, "FUNCTION", 28, 16),
    (Device, "DEVICE", 10, 7),
    (Fs, "FS", 6, 5),
    (File, "INODE", 10, 7),
    (Page, "PAGE", 8, 5),
    (Task, "TASK", 24, 18),
];

/// The order in which columns shrink on a narrow terminal.
const SHRINK_ORDER: [Column; 7] = [Function, Task, Time, Device, Page, File, Fs];

/// The order in which columns are dropped if that is not enough. The others always stay.
const DROP_ORDER: [Column; 6] = [Fs, Function, Page, File, Device, Time];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VisibleColumn {
    pub(super) column: Column,
    pub(super) heading: &'static str,
    /// In terminal cells; `None` for no limit.
    pub(super) width: Option<usize>,
}

impl Column {
    pub(super) const fn is_right_aligned(self) -> bool {
        matches!(self, Stall | File | Page)
    }

    /// The cells between this column and the one before.
    pub(super) const fn gap(self) -> usize {
        match self {
            Time => 0,
            Context | Task => 2,
            _ => 1,
        }
    }
}

/// The columns that are shown in a terminal of this width, or without a limit.
pub(super) fn columns(width: Option<usize>) -> Vec<VisibleColumn> {
    let mut columns: Vec<_> = COLUMNS
        .iter()
        .map(|&(column, heading, preferred, _)| VisibleColumn {
            column,
            heading,
            width: Some(preferred),
        })
        .collect();
    if let Some(width) = width {
        for column in SHRINK_ORDER {
            let excess = total_width(&columns).saturating_sub(width);
            let minimum = COLUMNS.iter().find(|spec| spec.0 == column).map_or(0, |spec| spec.3);
            for visible in columns.iter_mut().filter(|visible| visible.column == column) {
                let shrunk = |width: usize| width.saturating_sub(excess).max(minimum);
                visible.width = visible.width.map(shrunk);
            }
        }
        for column in DROP_ORDER {
            if total_width(&columns) > width {
                columns.retain(|visible| visible.column != column);
            }
        }
    }
    // The last column takes the remaining width.
    let rest = width.map(|width| {
        let before =
            total_width(&columns) - columns.last().and_then(|last| last.width).unwrap_or(0);
        width.saturating_sub(before).max(1)
    });
    if let Some(last) = columns.last_mut() {
        last.width = rest;
    }
    columns
}

fn total_width(columns: &[VisibleColumn]) -> usize {
    columns
        .iter()
        .enumerate()
        .map(|(index, visible)| {
            let gap = if index == 0 { 0 } else { visible.column.gap() };
            gap + visible.width.unwrap_or(0)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_width_all_columns_are_shown() {
        let columns = columns(None);
        assert_eq!(columns.len(), COLUMNS.len());
        assert_eq!(columns.last().unwrap().width, None);
    }

    #[test]
    fn a_line_of_42_cells_fits_and_has_the_essential_columns() {
        for width in 42..300 {
            let columns = columns(Some(width));
            assert!(total_width(&columns) <= width, "{width}: {columns:?}");
            for column in [Stall, Context, Task] {
                assert!(columns.iter().any(|visible| visible.column == column), "{width}");
            }
        }
        let kept: Vec<_> = columns(Some(80)).iter().map(|visible| visible.column).collect();
        assert_eq!(kept, [Time, Stall, Context, Device, File, Page, Task]);
        assert_eq!(columns(Some(130)).len(), COLUMNS.len());
    }

    #[test]
    fn a_wider_terminal_never_shows_fewer_columns() {
        let mut before = 0;
        for width in 1..300 {
            let now = columns(Some(width)).len();
            assert!(now >= before, "{width}");
            before = now;
        }
    }
}
