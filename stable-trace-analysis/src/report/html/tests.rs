//! What no browser is needed for.

use proptest::prelude::*;

use super::*;
use crate::{
    event::{Context, Event, Stall},
    recording::Reader,
    report::ReportBuilder,
};

const RECORDED: &str = include_str!("../../../tests/fixtures/recordings/format-1.jsonl");

fn fold(lines: impl IntoIterator<Item = Line>) -> Report {
    let mut fold = ReportBuilder::new(None);
    for line in lines {
        let _due = fold.line(&line);
    }
    fold.finish()
}

fn shown(report: &Report) -> String {
    page(report, &BTreeMap::new(), "run").unwrap()
}

fn stall(seq: u64, duration_ns: u64, comm: &str) -> Line {
    let stall = Stall {
        context: Context::Sync,
        function: comm.into(),
        duration_ns,
        pid: u32::try_from(seq).unwrap_or(0),
        tid: 1,
        comm: comm.into(),
        cgroup_id: 0,
        device: Some(format!("{comm}{}", seq % 300)),
        dev: None,
        fs: Some(comm.into()),
        ino: seq,
        index: 0,
        path: Some(comm.into()),
        stack: None,
    };
    let minute = seq / 60 % 60;
    let time = format!("2026-01-02T03:{minute:02}:{:02}.000000006Z", seq % 60).parse().unwrap();
    Line { seq, time, event: Event::Stall(stall) }
}

#[test]
fn a_page_asks_nobody_for_anything() {
    let page = shown(&fold(Reader::new(RECORDED.as_bytes()).flatten()));
    for fetched in ["http:", "https:", "src=", "<script", "@import", "url("] {
        assert!(!page.contains(fetched), "{fetched}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn a_report_of_nothing_is_a_page_too() {
    let page = shown(&Report::default());
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"), "{page}");
}

#[test]
fn a_page_has_a_bound_whatever_the_recording() {
    let page = shown(&fold((1..20_000).map(|seq| stall(seq, seq.pow(2) * 100, "name"))));
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
}

#[test]
fn thousands_are_apart() {
    assert_eq!(grouped(0), "0");
    assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
}

proptest! {
    /// Whatever a name is, it is text: an element that it would be is not there.
    #[test]
    fn names_are_text(name in "\\PC{0,20}") {
        let hostile = format!("<i id=x>{name}\"'>&");
        let page = shown(&fold((1..5).map(|seq| stall(seq, 5_000_000, &hostile))));
        prop_assert!(!page.contains("<i id=x>"));
        prop_assert!(page.contains("&lt;i id=x&gt;"));
    }
}
