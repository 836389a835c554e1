//! Tests of the page that need no browser.

use proptest::prelude::*;

use super::*;
use crate::{
    event::{Context, Event, Stall, Waiting},
    recording::Reader,
    report::ReportBuilder,
};

const RECORDED: &str = include_str!("../../../tests/fixtures/recordings/format-1.jsonl");

fn report(lines: impl IntoIterator<Item = Line>) -> Report {
    let mut builder = ReportBuilder::new(None);
    for line in lines {
        builder.line(&line);
    }
    builder.finish()
}

fn html(report: &Report) -> String {
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
        process: None,
        cgroup_id: Some(0),
        cgroup: None,
        container: None,
        device: Some(format!("{comm}{}", seq % 300).into()),
        dev: None,
        fs: Some(comm.into()),
        server_pid: None,
        subvolume_dev: None,
        ino: Some(seq),
        index: 0,
        path: Some(comm.into()),
        path_from: None,
        stack: None,
    };
    let minute = seq / 60 % 60;
    let time = format!("2026-01-02T03:{minute:02}:{:02}.000000006Z", seq % 60).parse().unwrap();
    Line { seq, time, monotonic_ns: None, event: Event::Stall(stall) }
}

#[test]
fn tasks_that_wait_at_the_end_are_listed() {
    let Event::Stall(wait) = stall(1, 9_000_000_000, "<b>").event else { unreachable!() };
    let mut report = report([]);
    assert!(!html(&report).contains("Waiting at the end"));
    report.summary.waits_unfinished = 70;
    report.summary.waiting = vec![Waiting::from(wait); 50];
    let page = html(&report);
    assert!(page.contains(r#"data-name="waiting" data-value="70""#));
    assert_eq!(page.matches("<td class=\"n\">9.00s</td>").count(), 32);
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"), "{page}");
}

#[test]
fn a_page_loads_nothing() {
    let page = html(&report(Reader::new(RECORDED.as_bytes()).flatten()));
    for request in ["http:", "https:", "src=", "<script", "@import", "url("] {
        assert!(!page.contains(request), "{request}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn an_empty_report_has_a_page() {
    let page = html(&Report::default());
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"), "{page}");
}

#[test]
fn the_size_of_a_page_is_bounded() {
    let page = html(&report((1..20_000).map(|seq| stall(seq, seq.pow(2) * 100, "name"))));
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
}

proptest! {
    #[test]
    fn names_are_escaped(name in "\\PC{0,20}") {
        let hostile = format!("<i id=x>{name}\"'>&");
        let page = html(&report((1..5).map(|seq| stall(seq, 5_000_000, &hostile))));
        prop_assert!(!page.contains("<i id=x>"));
        prop_assert!(page.contains("&lt;i id=x&gt;"));
    }
}
