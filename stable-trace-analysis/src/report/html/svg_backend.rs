//! SVG whose colours are names: the style sheet decides what they look like, in light, in dark and on
//! paper. What is drawn can have a title, which browsers show and screen readers say.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    rc::Rc,
};

use maud::Escaper;
use plotters::style::RGBColor;
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    text_anchor::{HPos, VPos},
};

/// What a mark stands for; the style sheet has a class for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Axes and their labels.
    Axis,
    /// A cell of the heat map, from 0 (few) to 6 (many).
    Timeline(u8),
    /// A failed check.
    Error,
    /// The line of a failed check through what happened at the same time.
    ErrorLine,
    /// Lines that were lost.
    Lost,
    /// A workload.
    Phase,
    /// A workload's name.
    PhaseName,
    /// Stalls that nobody minds.
    Quick,
    /// Stalls of 10 ms and more.
    Slow,
    /// Stalls of 100 ms and more.
    Bad,
}

impl Ink {
    /// Its stand-in while plotters draws: a plot knows colours only.
    pub const fn color(self) -> RGBColor {
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
            Self::Timeline(level) => 16 + level,
        };
        RGBColor(0, 0, number)
    }

    fn class(color: BackendColor) -> String {
        let name = match color.rgb.2 {
            1 => "error",
            2 => "error-line",
            3 => "lost",
            4 => "phase",
            5 => "phase-name",
            6 => "quick",
            7 => "slow",
            8 => "bad",
            level @ 16.. => return format!("h{}", level - 16),
            _ => "axis",
        };
        name.to_owned()
    }
}

/// What both the one who draws and the one who gathers hold.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    marks: Rc<RefCell<String>>,
    title: Rc<RefCell<String>>,
}

impl Sheet {
    /// What is drawn from now on has this title; an empty one is none.
    pub fn title(&self, title: impl Into<String>) {
        *self.title.borrow_mut() = title.into();
    }

    /// Where plotters draws.
    pub fn canvas(&self, width: u32, height: u32) -> Canvas {
        Canvas { sheet: self.clone(), size: (width, height) }
    }

    /// The picture, with what it shows in words and a class.
    pub fn svg(&self, (width, height): (u32, u32), class: &str, label: &str) -> String {
        let mut out = format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\""
        );
        // Writing to a string does not fail.
        let _ = Escaper::new(&mut out).write_str(label);
        out.push_str("\">");
        out.push_str(&self.marks.borrow());
        out.push_str("</svg>");
        out
    }

    fn mark(&self, element: &str, class: &str, attributes: fmt::Arguments<'_>) {
        let mut marks = self.marks.borrow_mut();
        let title = self.title.borrow();
        let _ = write!(marks, "<{element} class=\"{class}\" {attributes}");
        if title.is_empty() {
            marks.push_str("/>");
        } else {
            marks.push_str("><title>");
            let _ = Escaper::new(&mut marks).write_str(&title);
            let _ = write!(marks, "</title></{element}>");
        }
    }
}

/// Draws what plotters asks for onto a sheet.
#[derive(Clone, Debug)]
pub struct Canvas {
    sheet: Sheet,
    size: (u32, u32),
}

type Outcome = Result<(), DrawingErrorKind<fmt::Error>>;

fn points(path: impl IntoIterator<Item = BackendCoord>) -> String {
    let mut points = String::new();
    for (x, y) in path {
        let _ = write!(points, "{x},{y} ");
    }
    points.truncate(points.trim_end().len());
    points
}

impl DrawingBackend for Canvas {
    type ErrorType = fmt::Error;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Outcome {
        Ok(())
    }

    fn present(&mut self) -> Outcome {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Outcome {
        let at = format_args!("x=\"{x}\" y=\"{y}\" width=\"1\" height=\"1\"");
        self.sheet.mark("rect", &Ink::class(color), at);
        Ok(())
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        (x1, y1): BackendCoord,
        (x2, y2): BackendCoord,
        style: &S,
    ) -> Outcome {
        let at = format_args!("x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"");
        self.sheet.mark("line", &format!("line {}", Ink::class(style.color())), at);
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (left, top): BackendCoord,
        (right, bottom): BackendCoord,
        style: &S,
        _fill: bool,
    ) -> Outcome {
        let (width, height) = ((right - left).max(1), (bottom - top).max(1));
        let at = format_args!("x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"");
        self.sheet.mark("rect", &Ink::class(style.color()), at);
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Outcome {
        let at = points(path);
        let class = format!("line {}", Ink::class(style.color()));
        self.sheet.mark("polyline", &class, format_args!("points=\"{at}\""));
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        _fill: bool,
    ) -> Outcome {
        let at = format_args!("cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"");
        self.sheet.mark("circle", &Ink::class(style.color()), at);
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Outcome {
        let at = points(path);
        self.sheet.mark("polygon", &Ink::class(style.color()), format_args!("points=\"{at}\""));
        Ok(())
    }

    fn draw_text<T: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &T,
        (x, y): BackendCoord,
    ) -> Outcome {
        let anchor = match style.anchor().h_pos {
            HPos::Left => "start",
            HPos::Center => "middle",
            HPos::Right => "end",
        };
        // In parts of the font's size; `dominant-baseline` differs between browsers.
        let down = match style.anchor().v_pos {
            VPos::Top => "0.8em",
            VPos::Center => "0.35em",
            VPos::Bottom => "-0.2em",
        };
        let mut marks = self.sheet.marks.borrow_mut();
        let _ = write!(
            marks,
            "<text class=\"{}\" x=\"{x}\" y=\"{y}\" dy=\"{down}\" text-anchor=\"{anchor}\">",
            Ink::class(style.color())
        );
        let _ = Escaper::new(&mut marks).write_str(text);
        marks.push_str("</text>");
        Ok(())
    }

    /// What most fonts come to: the style sheet decides which it is.
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
