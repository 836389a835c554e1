//! Complete, truncated and damaged recordings, and files that are not recordings.

use proptest::prelude::*;

use super::*;

/// The output of a real run before there was a format number: Linux 6.18, tracepoints, a loop device.
const FORMAT_0: &str = include_str!("../../../tests/fixtures/recordings/format-0.jsonl");
/// A recording of the same kind of run.
const FORMAT_1: &str = include_str!("../../../tests/fixtures/recordings/format-1.jsonl");

fn read(bytes: &[u8]) -> (Vec<Line>, Vec<ReadError>) {
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    for item in Reader::new(bytes) {
        match item {
            Ok(line) => lines.push(line),
            Err(error) => errors.push(error),
        }
    }
    (lines, errors)
}

fn first_error(bytes: &[u8]) -> String {
    let (_, errors) = read(bytes);
    errors.first().map(ToString::to_string).unwrap_or_default()
}

fn start(fields: &str) -> String {
    format!(
        r#"{{"seq":1,"time":"2026-01-02T03:04:05.000000006Z","type":"start",{fields}"kernel":"6.12","arch":"x86_64","hostname":"h","probes":[],"devices":[]}}"#
    )
}

fn lost(seq: u64) -> String {
    format!(
        r#"{{"seq":{seq},"time":"2026-01-02T03:04:05.000000006Z","type":"lost","count":1,"since_seq":0}}"#
    )
}

#[test]
fn every_released_format_is_read() {
    for (format, text) in [(0, FORMAT_0), (1, FORMAT_1)] {
        let (lines, errors) = read(text.as_bytes());
        assert!(errors.is_empty(), "format {format}: {errors:?}");
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
fn an_empty_file_is_an_error() {
    assert!(first_error(b"").contains("is empty"));
    assert!(first_error(b"\n \n").contains("is empty"));
}

#[test]
fn a_file_that_is_no_recording_is_read_only_to_its_first_line() {
    for bytes in [
        &b"\x7fELF\x02\x01\x01\0\0\n\0\n"[..],
        b"{\n  \"name\": \"package\"\n}\n",
        b"{\"level\":\"info\"}\n{\"level\":\"warn\"}\n",
        b"hello",
        &vec![b'x'; 5 << 20],
    ] {
        let (lines, errors) = read(bytes);
        assert_eq!((lines.len(), errors.len()), (0, 1), "{errors:?}");
        let error = errors[0].to_string();
        assert!(error.contains("not a recording: line 1 (at byte 0)"), "{error}");
    }
    let error = first_error(format!("{}\n", lost(1)).as_bytes());
    assert!(error.contains("it is a `lost`, not a `start`"), "{error}");
}

#[test]
fn a_damaged_line_is_reported_and_skipped() {
    let mut text: Vec<String> = FORMAT_1.lines().map(str::to_owned).collect();
    let before: usize = text.iter().take(4).map(|line| line.len() + 1).sum();
    text[4] = text[4].replace('{', "[");
    let (lines, errors) = read((text.join("\n") + "\n").as_bytes());
    assert_eq!((lines.len(), errors.len()), (text.len() - 1, 1), "{errors:?}");
    let error = errors[0].to_string();
    assert!(error.starts_with(&format!("line 5 (at byte {before})")), "{error}");
}

#[test]
fn a_line_without_an_end_is_not_read_into_memory() {
    let text = format!("{}\n{}", start(r#""version":"0.1.0","#), lost(2));
    let mut reader =
        Reader::new(text.as_bytes().chain(io::BufReader::new(io::repeat(b' ').take(64 << 20))));
    assert!(reader.next().unwrap().is_ok());
    let error = reader.next().unwrap().unwrap_err();
    assert!(
        matches!(error, ReadError::TooLong { position: Position { line: 2, .. }, .. }),
        "{error}"
    );
    assert!(reader.buffer.capacity() <= 4 * usize::try_from(MAX_LINE_BYTES).unwrap());
    assert!(matches!(reader.next().unwrap().unwrap_err(), ReadError::NoSummary { .. }));
}

#[test]
fn missing_and_misplaced_lines_are_reported() {
    let start = start(r#""version":"0.1.0","#);
    let error_of = |lines: &[&str]| first_error((lines.join("\n") + "\n").as_bytes());
    let error = error_of(&[&start, &lost(2), &lost(6)]);
    assert!(error.starts_with("3 lines are missing before line 3"), "{error}");
    let error = error_of(&[&start, &lost(2), &lost(2)]);
    assert!(error.starts_with("line 3 ") && error.contains("number"), "{error}");
    let error = error_of(&[&start, &lost(2), &start]);
    assert!(error.starts_with("a second run begins at line 3"), "{error}");
    let more = [FORMAT_1.trim_end(), start.as_str()];
    let error = error_of(&more);
    assert!(error.contains("after its summary"), "{error}");
}

#[test]
fn a_recording_that_could_not_be_written_any_further_says_so() {
    let cut = lost(3).replace('}', r#","output":"recording","ended":true}"#);
    let text = [start(r#""version":"0.1.0","#), lost(2), cut].join("\n") + "\n";
    let (lines, errors) = read(text.as_bytes());
    assert_eq!((lines.len(), errors.len()), (3, 1), "{errors:?}");
    assert!(matches!(errors[0], ReadError::Cut { position: Position { line: 4, .. } }));
    assert!(errors[0].is_truncation());
}

#[test]
fn additions_of_a_newer_version_are_skipped() {
    let unknown = r#"{"seq":2,"time":"t","type":"quake","magnitude":7.5}"#;
    let changed = r#"{"seq":3,"time":"t","type":"lost","count":"many","since_seq":0}"#;
    let text =
        [&start(r#""version":"99.0.0","format":1,"mood":"good","#), unknown, changed, &lost(4)];
    let (lines, errors) = read((text.join("\n") + "\n").as_bytes());
    assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 4]);
    let (last, notices) = errors.split_last().unwrap();
    assert!(matches!(last, ReadError::NoSummary { .. }), "{last}");
    assert_eq!(notices.len(), 3, "{notices:?}");
    assert!(notices.iter().all(ReadError::is_from_newer_version), "{notices:?}");

    let error = first_error((start(r#""version":"99.0.0","format":2,"#) + "\n").as_bytes());
    assert!(error.contains("format 2") && error.contains("reads up to 1"), "{error}");
}

proptest! {
    #[test]
    fn a_cut_recording_is_read_up_to_the_cut(cut in 1..FORMAT_1.len() - 2) {
        let text = &FORMAT_1.as_bytes()[..cut];
        let (lines, errors) = read(text);
        let complete = text.split(|byte| *byte == b'\n').count() - 1;
        // A line that lacks only its newline is complete, too.
        prop_assert!(lines.len() == complete || lines.len() == complete + 1);
        prop_assert_eq!(errors.len(), 1, "{:?}", errors);
        prop_assert!(errors[0].is_truncation(), "{}", errors[0]);
        let begin = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let positions = [format!("(at byte {begin})"), format!("(at byte {cut})")];
        let error = errors[0].to_string();
        prop_assert!(positions.iter().any(|position| error.contains(position)), "{}", error);
    }

    #[test]
    fn damage_never_panics(
        at in 0..FORMAT_1.len(), bytes in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut text = FORMAT_1.as_bytes().to_vec();
        for (offset, byte) in bytes.iter().enumerate() {
            if let Some(damaged) = text.get_mut(at + offset) {
                *damaged = *byte;
            }
        }
        let (lines, errors) = read(&text);
        prop_assert!(lines.len() + errors.len() > 0);
    }

    #[test]
    fn random_bytes_are_no_recording(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
        let (lines, errors) = read(&bytes);
        prop_assert!(lines.is_empty());
        prop_assert_eq!(errors.len(), 1);
    }
}
