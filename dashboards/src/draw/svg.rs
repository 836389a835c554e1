//! The little of SVG that a chart takes.

use std::fmt::Write as _;

pub(super) const TEXT: &str = "#ccccdc";
pub(super) const FAINT: &str = "#8e8e9c";
const LINE: &str = "#2c3235";

/// A picture that grows.
#[derive(Debug, Default)]
pub(super) struct Svg(String);

impl Svg {
    /// Begins a panel: from here on its upper left corner is the origin.
    pub(super) fn begin(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), title: &str) {
        self.put(&format!("<g transform=\"translate({x:.0} {y:.0})\">"));
        self.put(&format!(
            "<rect width=\"{w:.0}\" height=\"{h:.0}\" rx=\"2\" fill=\"#181b1f\" stroke=\"{LINE}\"/>"
        ));
        self.text(8.0, 17.0, 12.0, TEXT, title);
    }

    pub(super) fn end(&mut self) {
        self.put("</g>");
    }

    pub(super) fn text(&mut self, x: f64, y: f64, size: f64, color: &str, text: &str) {
        self.words(x, y, size, color, "start", text);
    }

    /// Text that ends or has its middle at `x`.
    pub(super) fn words(&mut self, x: f64, y: f64, size: f64, color: &str, at: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.put(&format!(
            "<text x=\"{x:.0}\" y=\"{y:.0}\" font-size=\"{size:.0}\" fill=\"{color}\" text-anchor=\"{at}\">{text}</text>"
        ));
    }

    pub(super) fn rect(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), color: &str, alpha: f64) {
        self.put(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{color}\" fill-opacity=\"{alpha:.2}\"/>"
        ));
    }

    pub(super) fn rule(&mut self, from: f64, to: f64, y: f64) {
        self.put(&format!("<path d=\"M{from:.0} {y:.1}H{to:.0}\" stroke=\"{LINE}\"/>"));
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], color: &str) {
        let d = path(points);
        self.put(&format!(
            "<path d=\"{d}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.2\"/>"
        ));
    }

    pub(super) fn area(&mut self, points: &[(f64, f64)], color: &str, alpha: f64) {
        let d = path(points);
        self.put(&format!("<path d=\"{d}Z\" fill=\"{color}\" fill-opacity=\"{alpha:.2}\"/>"));
    }

    pub(super) fn document(&self, width: f64, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"Inter, Helvetica, Arial, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#111217\"/>\n{}</svg>\n",
            self.0
        )
    }

    fn put(&mut self, element: &str) {
        self.0 += element;
        self.0.push('\n');
    }
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (place, (x, y)) in points.iter().enumerate() {
        let letter = if place == 0 { 'M' } else { 'L' };
        // Writing to a string cannot fail.
        let _ = write!(path, "{letter}{x:.1} {y:.1}");
    }
    path
}
