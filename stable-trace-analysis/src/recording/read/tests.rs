//! Whole, cut, damaged and foreign recordings.

use proptest::prelude::*;

use super::*;

/// What a real run printed before there was a format number: Linux 6.18, tracepoints, a loop device.
const FORMAT_0: &str = include_str!("../../../tests/fixtures/recordings/format-0.jsonl");
/// The same kind of run, recorded.
const FORMAT_1: &str = include_str!("../../../tests/fixtures/recordings/format-1.jsonl");

fn read(bytes: &[u8]) -> (Vec<Line>, Vec<Fault>) {
    let (mut lines, mut faults) = (Vec::new(), Vec::new());
    for item in Reader::new(bytes) {
        match item {
            Ok(line) => lines.push(line),
            Err(fault) => faults.push(fault),
        }
    }
    (lines, faults)
}

/// What is said of bytes that have something wrong with them.
fn said(bytes: &[u8]) -> String {
    let (_, faults) = read(bytes);
    faults.first().map(ToString::to_string).unwrap_or_default()
}

fn start(more: &str) -> String {
    format!(
        r#"{{"seq":1,"time":"2026-01-02T03:04:05.000000006Z","type":"start",{more}"kernel":"6.12","arch":"x86_64","hostname":"h","probes":[],"devices":[]}}"#
    )
}

fn lost(seq: u64) -> String {
    format!(
        r#"{{"seq":{seq},"time":"2026-01-02T03:04:05.000000006Z","type":"lost","count":1,"since_seq":0}}"#
    )
}

#[test]
fn every_format_that_was_ever_written_is_read() {
    for (format, text) in [(0, FORMAT_0), (1, FORMAT_1)] {
        let (lines, faults) = read(text.as_bytes());
        assert!(faults.is_empty(), "format {format}: {faults:?}");
        assert_eq!(lines.len(), text.lines().count());
        let Some(Event::Start(start)) = lines.first().map(|line| &line.event) else {
            panic!("no start")
        };
        assert_eq!(start.format, format);
        assert!(matches!(lines.last().unwrap().event, Event::Summary(_)));
        for (line, text) in lines.iter().zip(text.lines()) {
            let written: serde_json::Value = serde_json::from_str(text).unwrap();
            let read = serde_json::to_value(line).unwrap();
            for (name, value) in written.as_object().unwrap() {
                assert_eq!(read.get(name), Some(value), "{name} of line {}", line.seq);
            }
        }
    }
}

#[test]
fn nothing_is_no_recording() {
    assert!(said(b"").contains("is empty"));
    assert!(said(b"\n \n").contains("is empty"));
}

#[test]
fn a_foreign_file_is_read_no_further_than_its_first_line() {
    for bytes in [
        &b"\x7fELF\x02\x01\x01\0\0\n\0\n"[..],
        b"{\n  \"name\": \"package\"\n}\n",
        b"{\"level\":\"info\"}\n{\"level\":\"warn\"}\n",
        b"hello",
        &vec![b'x'; 5 << 20],
    ] {
        let (lines, faults) = read(bytes);
        assert_eq!((lines.len(), faults.len()), (0, 1), "{faults:?}");
        let said = faults[0].to_string();
        assert!(said.contains("not a recording: line 1 (at byte 0)"), "{said}");
    }
    let said = said(format!("{}\n", lost(1)).as_bytes());
    assert!(said.contains("it is a `lost`, not a `start`"), "{said}");
}

#[test]
fn a_damaged_line_is_named_and_passed_over() {
    let mut text: Vec<String> = FORMAT_1.lines().map(str::to_owned).collect();
    let before: usize = text.iter().take(4).map(|line| line.len() + 1).sum();
    text[4] = text[4].replace('{', "[");
    let (lines, faults) = read((text.join("\n") + "\n").as_bytes());
    assert_eq!((lines.len(), faults.len()), (text.len() - 1, 1), "{faults:?}");
    let said = faults[0].to_string();
    assert!(said.starts_with(&format!("line 5 (at byte {before})")), "{said}");
}

#[test]
fn a_line_without_an_end_is_not_read_into_memory() {
    let text = format!("{}\n{}", start(r#""version":"0.1.0","#), lost(2));
    let mut reader =
        Reader::new(text.as_bytes().chain(io::BufReader::new(io::repeat(b' ').take(64 << 20))));
    assert!(reader.next().unwrap().is_ok());
    let fault = reader.next().unwrap().unwrap_err();
    assert!(matches!(fault, Fault::TooLong { place: Place { line: 2, .. }, .. }), "{fault}");
    assert!(reader.buffer.capacity() <= 4 * usize::try_from(LONGEST).unwrap());
    assert!(matches!(reader.next().unwrap().unwrap_err(), Fault::NoEnd { .. }));
}

#[test]
fn lines_that_are_missing_or_from_elsewhere_are_missed() {
    let begin = start(r#""version":"0.1.0","#);
    let said_of = |lines: &[&str]| said((lines.join("\n") + "\n").as_bytes());
    let said = said_of(&[&begin, &lost(2), &lost(6)]);
    assert!(said.starts_with("3 lines are missing before line 3"), "{said}");
    let said = said_of(&[&begin, &lost(2), &lost(2)]);
    assert!(said.starts_with("line 3 ") && said.contains("number"), "{said}");
    let said = said_of(&[&begin, &lost(2), &begin]);
    assert!(said.starts_with("a second run begins at line 3"), "{said}");
    let more = [FORMAT_1.trim_end(), begin.as_str()];
    let said = said_of(&more);
    assert!(said.contains("after its summary"), "{said}");
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let unknown = r#"{"seq":2,"time":"t","type":"quake","magnitude":7.5}"#;
    let changed = r#"{"seq":3,"time":"t","type":"lost","count":"many","since_seq":0}"#;
    let text =
        [&start(r#""version":"99.0.0","format":1,"mood":"good","#), unknown, changed, &lost(4)];
    let (lines, faults) = read((text.join("\n") + "\n").as_bytes());
    assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 4]);
    let (last, news) = faults.split_last().unwrap();
    assert!(matches!(last, Fault::NoEnd { .. }), "{last}");
    assert_eq!(news.len(), 3, "{news:?}");
    assert!(news.iter().all(Fault::is_news), "{news:?}");

    let said = said((start(r#""version":"99.0.0","format":2,"#) + "\n").as_bytes());
    assert!(said.contains("format 2") && said.contains("reads up to 1"), "{said}");
}

proptest! {
    /// Wherever it is cut: every whole line is there, and the place of the cut is said.
    #[test]
    fn a_cut_recording_is_read_up_to_the_cut(cut in 1..FORMAT_1.len() - 2) {
        let text = &FORMAT_1.as_bytes()[..cut];
        let (lines, faults) = read(text);
        let whole = text.split(|byte| *byte == b'\n').count() - 1;
        // A line that only lacks its end is whole.
        prop_assert!(lines.len() == whole || lines.len() == whole + 1);
        prop_assert_eq!(faults.len(), 1, "{:?}", faults);
        prop_assert!(faults[0].is_cut(), "{}", faults[0]);
        let begin = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let places = [format!("(at byte {begin})"), format!("(at byte {cut})")];
        let said = faults[0].to_string();
        prop_assert!(places.iter().any(|place| said.contains(place)), "{}", said);
    }

    /// Whatever is in it, reading ends, and no byte makes it panic.
    #[test]
    fn damage_never_panics(
        at in 0..FORMAT_1.len(), bytes in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut text = FORMAT_1.as_bytes().to_vec();
        for (offset, byte) in bytes.iter().enumerate() {
            if let Some(place) = text.get_mut(at + offset) {
                *place = *byte;
            }
        }
        let (lines, faults) = read(&text);
        prop_assert!(lines.len() + faults.len() > 0);
    }

    #[test]
    fn noise_is_no_recording(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
        let (lines, faults) = read(&bytes);
        prop_assert!(lines.is_empty());
        prop_assert_eq!(faults.len(), 1);
    }
}
