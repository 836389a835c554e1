//! A plotters backend that writes SVG with CSS classes in place of colours, so that the style sheet
//! decides what they look like in light mode, in dark mode and on paper.
//!
//! Marks can have a title, which browsers show as a tooltip and screen readers read out.

use std::{
    cell::RefCell,
    fmt::{self, Display},
    rc::Rc,
};

use plotters::style::RGBColor;
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    text_anchor::{HPos, VPos},
};

use crate::svg::{Attributes, SvgWriter};

/// A CSS class of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Axes and their labels.
    Axis,
    /// A cell of the heat map, from 0 (few) to 6 (many).
    Heat(u8),
    /// An integrity error.
    Error,
    /// The line of an integrity error through the stalls of the same time.
    ErrorLine,
    /// Lost lines.
    Lost,
    /// A workload.
    Phase,
    /// The name of a workload.
    PhaseName,
    /// Stalls below 10 ms.
    Quick,
    /// Stalls of 10 ms or more.
    Slow,
    /// Stalls of 100 ms or more.
    Bad,
}

impl Class {
    /// A colour that stands for the class: plotters passes only colours to its backend.
    pub(super) const fn color(self) -> RGBColor {
        let number = match self {
            Self::Axis => 0,
            Self::Error => 1,
            Self::ErrorLine => 2,
            Self::Lost => 3,
            Self::Phase => 4,
            Self::PhaseName => 5,
            Self::Quick => 6,
            Self::Slow => 7,
            Self::Bad => 8,
            Self::Heat(level) => 16 + level,
        };
        RGBColor(0, 0, number)
    }

    /// The name of the class that a colour stands for.
    fn name(color: BackendColor) -> String {
        let name = match color.rgb.2 {
            1 => "error",
            2 => "error-line",
            3 => "lost",
            4 => "phase",
            5 => "phase-name",
            6 => "quick",
            7 => "slow",
            8 => "bad",
            number @ 16.. => return format!("h{}", number - 16),
            _ => "axis",
        };
        name.to_owned()
    }
}

/// A picture that plotters draws through one or more [`SvgBackend`]s.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    marks: Rc<RefCell<SvgWriter>>,
    title: Rc<RefCell<String>>,
}

impl Picture {
    /// Sets the title of the marks that follow. An empty title is none.
    pub(super) fn set_title(&self, title: impl Into<String>) {
        *self.title.borrow_mut() = title.into();
    }

    pub(super) fn backend(&self, size: (u32, u32)) -> SvgBackend {
        SvgBackend { picture: self.clone(), size }
    }

    /// The `svg` element, with a class and a label for screen readers.
    pub(super) fn into_svg(self, (width, height): (u32, u32), class: &str, label: &str) -> String {
        let mut svg = SvgWriter::default();
        svg.start_element(
            "svg",
            &[
                ("class", &class),
                ("viewBox", &format_args!("0 0 {width} {height}")),
                ("width", &width),
                ("height", &height),
                ("role", &"img"),
                ("aria-label", &label),
            ],
        );
        svg.append(&self.marks.borrow());
        svg.end_element("svg");
        svg.into_string()
    }

    fn mark(&self, element: &str, attributes: Attributes<'_>) {
        let mut marks = self.marks.borrow_mut();
        let title = self.title.borrow();
        if title.is_empty() {
            marks.empty_element(element, attributes);
        } else {
            marks.start_element(element, attributes);
            marks.text_element("title", &[], &title);
            marks.end_element(element);
        }
    }

    fn line(&self, element: &str, color: BackendColor, coordinates: &[(&str, &dyn Display)]) {
        let class = format!("line {}", Class::name(color));
        self.mark(element, &[&[("class", &class as &dyn Display)], coordinates].concat());
    }

    fn area(&self, element: &str, color: BackendColor, coordinates: &[(&str, &dyn Display)]) {
        let class = Class::name(color);
        self.mark(element, &[&[("class", &class as &dyn Display)], coordinates].concat());
    }
}

#[derive(Clone, Debug)]
pub(super) struct SvgBackend {
    picture: Picture,
    size: (u32, u32),
}

type DrawResult = Result<(), DrawingErrorKind<fmt::Error>>;

fn points(path: impl IntoIterator<Item = BackendCoord>) -> String {
    let points: Vec<_> = path.into_iter().map(|(x, y)| format!("{x},{y}")).collect();
    points.join(" ")
}

impl DrawingBackend for SvgBackend {
    type ErrorType = fmt::Error;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> DrawResult {
        Ok(())
    }

    fn present(&mut self) -> DrawResult {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> DrawResult {
        self.picture.area("rect", color, &[("x", &x), ("y", &y), ("width", &1), ("height", &1)]);
        Ok(())
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        (x1, y1): BackendCoord,
        (x2, y2): BackendCoord,
        style: &S,
    ) -> DrawResult {
        let ends: Attributes<'_> = &[("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2)];
        self.picture.line("line", style.color(), ends);
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (left, top): BackendCoord,
        (right, bottom): BackendCoord,
        style: &S,
        _fill: bool,
    ) -> DrawResult {
        let (width, height) = ((right - left).max(1), (bottom - top).max(1));
        let sides: Attributes<'_> =
            &[("x", &left), ("y", &top), ("width", &width), ("height", &height)];
        self.picture.area("rect", style.color(), sides);
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> DrawResult {
        self.picture.line("polyline", style.color(), &[("points", &points(path))]);
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        _fill: bool,
    ) -> DrawResult {
        self.picture.area("circle", style.color(), &[("cx", &x), ("cy", &y), ("r", &radius)]);
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> DrawResult {
        self.picture.area("polygon", style.color(), &[("points", &points(path))]);
        Ok(())
    }

    fn draw_text<T: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &T,
        (x, y): BackendCoord,
    ) -> DrawResult {
        let anchor = match style.anchor().h_pos {
            HPos::Left => "start",
            HPos::Center => "middle",
            HPos::Right => "end",
        };
        // In em of the font, because browsers differ in `dominant-baseline`.
        let down = match style.anchor().v_pos {
            VPos::Top => "0.8em",
            VPos::Center => "0.35em",
            VPos::Bottom => "-0.2em",
        };
        let class = Class::name(style.color());
        let attributes: Attributes<'_> =
            &[("class", &class), ("x", &x), ("y", &y), ("dy", &down), ("text-anchor", &anchor)];
        self.picture.marks.borrow_mut().text_element("text", attributes, text);
        Ok(())
    }

    /// An estimate that fits most fonts: the style sheet decides which font is used.
    fn estimate_text_size<T: BackendTextStyle>(
        &self,
        text: &str,
        style: &T,
    ) -> Result<(u32, u32), DrawingErrorKind<fmt::Error>> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a font's size is a small positive number"
        )]
        let size = style.size().clamp(1.0, 100.0) as u32;
        let letters = u32::try_from(text.chars().count()).unwrap_or(0);
        Ok((letters.saturating_mul(size) * 6 / 10, size))
    }
}
