//! Writes SVG markup.

use std::fmt::{Display, Write as _};

use maud::Escaper;

/// Names and values of an element's attributes.
pub(super) type Attributes<'a> = &'a [(&'a str, &'a dyn Display)];

/// Writes SVG elements to a string. Attribute values and text are escaped.
#[derive(Clone, Debug, Default)]
pub(super) struct SvgWriter(String);

impl SvgWriter {
    /// Writes an element without content.
    pub(super) fn empty_element(&mut self, name: &str, attributes: Attributes<'_>) {
        self.open(name, attributes);
        self.0.push_str("/>");
    }

    /// Writes an element that contains only text.
    pub(super) fn text_element(&mut self, name: &str, attributes: Attributes<'_>, text: &str) {
        self.start_element(name, attributes);
        self.escaped(&text);
        self.end_element(name);
    }

    /// Writes a start tag.
    pub(super) fn start_element(&mut self, name: &str, attributes: Attributes<'_>) {
        self.open(name, attributes);
        self.0.push('>');
    }

    /// Writes an end tag.
    pub(super) fn end_element(&mut self, name: &str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// Writes a line break, which is white space between elements.
    pub(super) fn line_break(&mut self) {
        self.0.push('\n');
    }

    /// Writes the elements of another writer.
    pub(super) fn append(&mut self, elements: &Self) {
        self.0.push_str(&elements.0);
    }

    /// The markup.
    pub(super) fn into_string(self) -> String {
        self.0
    }

    fn open(&mut self, name: &str, attributes: Attributes<'_>) {
        self.0.push('<');
        self.0.push_str(name);
        for (attribute, value) in attributes {
            self.0.push(' ');
            self.0.push_str(attribute);
            self.0.push_str("=\"");
            self.escaped(value);
            self.0.push('"');
        }
    }

    fn escaped(&mut self, value: &dyn Display) {
        // Writing to a string cannot fail.
        let _ = write!(Escaper::new(&mut self.0), "{value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_values_and_text_are_escaped() {
        let mut svg = SvgWriter::default();
        svg.start_element("g", &[("id", &"a\"b"), ("x", &1.5)]);
        svg.text_element("text", &[], "1 < 2 & 3 > 2");
        svg.empty_element("rect", &[("width", &format_args!("{:.1}", 2.0))]);
        svg.end_element("g");
        assert_eq!(
            svg.into_string(),
            "<g id=\"a&quot;b\" x=\"1.5\"><text>1 &lt; 2 &amp; 3 &gt; 2</text>\
             <rect width=\"2.0\"/></g>"
        );
    }
}
