//! Text in a given number of terminal cells.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// How many cells a text takes.
pub fn cells(text: &str) -> usize {
    text.width()
}

/// The beginning of a text that fits, with an ellipsis where something is left out.
pub fn head(text: &str, width: usize) -> String {
    if cells(text) <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let mut fit: String = text
        .chars()
        .take_while(|char| {
            let wide = char.width().unwrap_or(0);
            let fits = wide <= left;
            left = if fits { left - wide } else { 0 };
            fits
        })
        .collect();
    if width > 0 {
        fit.push('…');
    }
    fit
}

/// The end of a text that fits: what tells one path from another.
pub fn tail(text: &str, width: usize) -> String {
    let turned: String = text.chars().rev().collect();
    head(&turned, width).chars().rev().collect()
}

/// A text at the left of so many cells.
pub fn left(text: &str, width: usize) -> String {
    let text = head(text, width);
    let rest = width.saturating_sub(cells(&text));
    format!("{text}{:rest$}", "")
}

/// A text at the right of so many cells.
pub fn right(text: &str, width: usize) -> String {
    let text = tail(text, width);
    let rest = width.saturating_sub(cells(&text));
    format!("{:rest$}{text}", "")
}

/// A text in lines of at most so many cells, broken between words; a longer word is cut in pieces.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let wide = cells(word);
        if used > 0 && used + 1 + wide <= width {
            used += 1;
            if let Some(line) = lines.last_mut() {
                line.push(' ');
            }
        } else if used > 0 {
            lines.push(String::new());
            used = 0;
        }
        for char in word.chars() {
            let wide = char.width().unwrap_or(0);
            if used + wide > width && used > 0 {
                lines.push(String::new());
                used = 0;
            }
            used += wide;
            if let Some(line) = lines.last_mut() {
                line.push(char);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_left_out_is_marked() {
        assert_eq!(head("ext4_page_mkwrite", 8), "ext4_pa…");
        assert_eq!(tail("/srv/db/wal.0001", 9), "…wal.0001");
        assert_eq!((left("ab", 4), right("ab", 4)), ("ab  ".to_owned(), "  ab".to_owned()));
        assert_eq!(head("日本語", 5), "日本…");
    }

    #[test]
    fn words_stay_whole_where_they_can() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 9), [""]);
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_asked(text in "\\PC{0,40}", width in 2_usize..30) {
            prop_assert!(cells(&head(&text, width)) <= width);
            prop_assert!(cells(&tail(&text, width)) <= width);
            for line in wrap(&text, width) {
                prop_assert!(cells(&line) <= width, "{line:?}");
            }
        }

        #[test]
        fn wrapping_keeps_every_letter(text in "[a-z ]{0,60}", width in 1_usize..30) {
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&wrap(&text, width).concat()), letters(&text));
        }
    }
}
