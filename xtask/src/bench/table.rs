//! Markdown tables.

use std::fmt::{self, Display, Formatter};

/// A table whose first column is left-aligned and whose other columns are right-aligned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new<'a>(head: impl IntoIterator<Item = &'a str>) -> Self {
        Self(vec![head.into_iter().map(str::to_owned).collect()])
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push(cells.into_iter().collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let columns = self.0.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for (index, row) in self.0.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let bar = if column == 0 { "| " } else { " | " };
                if column == 0 {
                    write!(f, "{bar}{cell:<width$}")?;
                } else {
                    write!(f, "{bar}{cell:>width$}")?;
                }
            }
            writeln!(f, " |")?;
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width + 1);
                    let (left, right) = if column == 0 { ("-", "") } else { ("", ":") };
                    write!(f, "|{left}{dashes}{right}")?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["method", "ns"]);
        table.row(["fentry".to_owned(), "1,234".to_owned()]);
        assert_eq!(
            table.to_string(),
            "| method |    ns |\n|--------|------:|\n| fentry | 1,234 |\n"
        );
    }
}
