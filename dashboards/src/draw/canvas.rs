//! The shapes and texts of a dashboard's picture, in Grafana's dark theme.

use std::fmt::Write as _;

use super::svg::{Attributes, SvgWriter};

pub(super) const TEXT_COLOR: &str = "#ccccdc";
pub(super) const SECONDARY_TEXT_COLOR: &str = "#8e8e9c";
pub(super) const GREEN: &str = "#73bf69";
pub(super) const ORANGE: &str = "#ff9830";
const LINE_COLOR: &str = "#2c3235";
const PANEL_COLOR: &str = "#181b1f";
const BACKGROUND_COLOR: &str = "#111217";
const FONTS: &str = "Inter, Helvetica, Arial, sans-serif";

/// An x and a y coordinate, or a width and a height, in pixels.
pub(super) type Pixels = (f64, f64);

/// The point of a text that its coordinates refer to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    const fn svg_name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Canvas(SvgWriter);

impl Canvas {
    /// Draws the frame and title of a panel. Until [`end_panel`](Self::end_panel), coordinates are
    /// relative to its upper left corner.
    pub(super) fn begin_panel(&mut self, (x, y): Pixels, (width, height): Pixels, title: &str) {
        self.0.start_element("g", &[("transform", &format_args!("translate({x:.0} {y:.0})"))]);
        self.0.line_break();
        self.element(
            "rect",
            &[
                ("width", &format_args!("{width:.0}")),
                ("height", &format_args!("{height:.0}")),
                ("rx", &2),
                ("fill", &PANEL_COLOR),
                ("stroke", &LINE_COLOR),
            ],
        );
        self.text((8.0, 17.0), 12.0, TEXT_COLOR, Anchor::Start, title);
    }

    pub(super) fn end_panel(&mut self) {
        self.0.end_element("g");
        self.0.line_break();
    }

    pub(super) fn text(
        &mut self,
        (x, y): Pixels,
        size: f64,
        color: &str,
        anchor: Anchor,
        text: &str,
    ) {
        self.0.text_element(
            "text",
            &[
                ("x", &format_args!("{x:.0}")),
                ("y", &format_args!("{y:.0}")),
                ("font-size", &format_args!("{size:.0}")),
                ("fill", &color),
                ("text-anchor", &anchor.svg_name()),
            ],
            text,
        );
        self.0.line_break();
    }

    pub(super) fn rectangle(
        &mut self,
        (x, y): Pixels,
        (width, height): Pixels,
        color: &str,
        opacity: f64,
    ) {
        self.element(
            "rect",
            &[
                ("x", &format_args!("{x:.1}")),
                ("y", &format_args!("{y:.1}")),
                ("width", &format_args!("{width:.1}")),
                ("height", &format_args!("{height:.1}")),
                ("fill", &color),
                ("fill-opacity", &format_args!("{opacity:.2}")),
            ],
        );
    }

    pub(super) fn grid_line(&mut self, left: f64, right: f64, y: f64) {
        let path = format!("M{left:.0} {y:.1}H{right:.0}");
        self.element("path", &[("d", &path), ("stroke", &LINE_COLOR)]);
    }

    pub(super) fn line(&mut self, points: &[Pixels], color: &str) {
        self.element(
            "path",
            &[
                ("d", &path(points)),
                ("fill", &"none"),
                ("stroke", &color),
                ("stroke-width", &"1.2"),
            ],
        );
    }

    pub(super) fn area(&mut self, outline: &[Pixels], color: &str, opacity: f64) {
        let path = path(outline) + "Z";
        self.element(
            "path",
            &[("d", &path), ("fill", &color), ("fill-opacity", &format_args!("{opacity:.2}"))],
        );
    }

    /// The SVG document.
    pub(super) fn into_document(self, (width, height): Pixels) -> String {
        let mut document = SvgWriter::default();
        document.start_element(
            "svg",
            &[
                ("xmlns", &"http://www.w3.org/2000/svg"),
                ("width", &format_args!("{width:.0}")),
                ("height", &format_args!("{height:.0}")),
                ("viewBox", &format_args!("0 0 {width:.0} {height:.0}")),
                ("font-family", &FONTS),
            ],
        );
        document.line_break();
        document.empty_element(
            "rect",
            &[("width", &"100%"), ("height", &"100%"), ("fill", &BACKGROUND_COLOR)],
        );
        document.line_break();
        document.append(&self.0);
        document.end_element("svg");
        document.line_break();
        document.into_string()
    }

    fn element(&mut self, name: &str, attributes: Attributes<'_>) {
        self.0.empty_element(name, attributes);
        self.0.line_break();
    }
}

fn path(points: &[Pixels]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        // Writing to a string cannot fail.
        let _ = write!(path, "{command}{x:.1} {y:.1}");
    }
    path
}
