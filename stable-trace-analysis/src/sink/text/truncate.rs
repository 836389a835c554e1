//! Fits text into a number of terminal cells.

use std::borrow::Cow;

use textwrap::{Options, WordSeparator, WordSplitter};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

pub(super) fn cells(text: &str) -> usize {
    text.width()
}

/// Truncates a text at its end, with an ellipsis.
pub(super) fn truncate_end(text: &str, width: usize) -> String {
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

/// Truncates a text at its start, with an ellipsis: paths differ in their ends.
pub(super) fn truncate_start(text: &str, width: usize) -> String {
    let reversed: String = text.chars().rev().collect();
    truncate_end(&reversed, width).chars().rev().collect()
}

/// Truncates or pads a text to a width.
pub(super) fn left_aligned(text: &str, width: usize) -> String {
    let text = truncate_end(text, width);
    let padding = width.saturating_sub(cells(&text));
    format!("{text}{:padding$}", "")
}

/// Truncates or pads a text to a width.
pub(super) fn right_aligned(text: &str, width: usize) -> String {
    let text = truncate_start(text, width);
    let padding = width.saturating_sub(cells(&text));
    format!("{:padding$}{text}", "")
}

/// Breaks a text into lines between words. A word that is wider than a line is broken, too.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let options = Options::new(width.max(1))
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn truncation_is_marked_by_an_ellipsis() {
        assert_eq!(truncate_end("ext4_page_mkwrite", 8), "ext4_pa…");
        assert_eq!(truncate_start("/srv/db/wal.0001", 9), "…wal.0001");
        assert_eq!(
            (left_aligned("ab", 4), right_aligned("ab", 4)),
            ("ab  ".to_owned(), "  ab".to_owned())
        );
        assert_eq!(truncate_end("日本語", 5), "日本…");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 9), [""]);
    }

    proptest! {
        #[test]
        fn nothing_exceeds_the_width(text in "\\PC{0,40}", width in 2_usize..30) {
            prop_assert!(cells(&truncate_end(&text, width)) <= width);
            prop_assert!(cells(&truncate_start(&text, width)) <= width);
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
