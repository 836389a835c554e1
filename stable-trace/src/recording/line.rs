//! One line of a recording, understood fast.
//!
//! What serde derives for a tagged enum within a flattened field keeps every line's values aside
//! until it has seen its type. Here the type is looked up first, and then the line is read straight
//! into what it is.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};

use crate::event::{Event, Line};

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// A line of the stream.
    Line(Box<Line>),
    /// An event of a type that a later version added.
    Unknown {
        /// Its number.
        seq: u64,
        /// Its type.
        kind: String,
    },
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    seq: u64,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// Understands a line.
///
/// # Errors
/// It is no JSON object, or its fields are not those of its type.
pub fn parse(line: &[u8]) -> Result<Parsed, serde_json::Error> {
    let head = match peek(line) {
        Some(head) => head,
        None => serde_json::from_slice(line)?,
    };
    let event = match head.kind.as_ref() {
        "start" => Event::Start(serde_json::from_slice(line)?),
        "stall" => Event::Stall(serde_json::from_slice(line)?),
        "unstable_write" => Event::UnstableWrite(serde_json::from_slice(line)?),
        "integrity" => Event::Integrity(serde_json::from_slice(line)?),
        "verdict" => Event::Verdict(serde_json::from_slice(line)?),
        "workload" => Event::Workload(serde_json::from_slice(line)?),
        "lost" => Event::Lost(serde_json::from_slice(line)?),
        "summary" => Event::Summary(serde_json::from_slice(line)?),
        other => {
            let kind = other.to_owned();
            return serde_json::from_slice::<IgnoredAny>(line)
                .map(|_| Parsed::Unknown { seq: head.seq, kind });
        }
    };
    Ok(Parsed::Line(Box::new(Line { seq: head.seq, time: head.time.into_owned(), event })))
}

/// The head of a line that begins as this program writes it; nothing if it begins in another way.
fn peek(line: &[u8]) -> Option<Head<'_>> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (seq, rest) = rest.split_at_checked(digits)?;
    let (time, rest) = plain(rest.strip_prefix(b",\"time\":\"")?)?;
    let (kind, _) = plain(rest.strip_prefix(b",\"type\":\"")?)?;
    // JSON has no leading zeros, and the reader that is asked next will say so.
    if seq.len() > 1 && seq.first() == Some(&b'0') {
        return None;
    }
    let seq = str::from_utf8(seq).ok()?.parse().ok()?;
    Some(Head { kind: kind.into(), seq, time: time.into() })
}

/// A string up to its closing quote, and what follows that; nothing if something in it is escaped.
fn plain(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
    let (text, rest) = text.split_at_checked(end)?;
    Some((str::from_utf8(text).ok()?, rest.strip_prefix(b"\"")?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Lost;

    const STALL: &str = r#"{"seq":8,"time":"2026-11-23T23:34:42.236503216Z","type":"stall","context":"sync","function":"f","duration_ns":29,"pid":1,"tid":2,"comm":"w\u001b","cgroup_id":1,"dev":"7:0","ino":12,"index":3}"#;

    /// What serde itself makes of a line.
    fn slowly(line: &[u8]) -> Option<Line> {
        serde_json::from_slice(line).ok()
    }

    fn fast(line: &[u8]) -> Option<Line> {
        match parse(line) {
            Ok(Parsed::Line(line)) => Some(*line),
            _ => None,
        }
    }

    #[test]
    fn a_line_is_what_serde_makes_of_it() {
        assert!(fast(STALL.as_bytes()).is_some());
        for line in [
            STALL,
            r#"{"type":"lost","count":3,"since_seq":6,"seq":7,"time":"t"}"#,
            r#"{"seq":7,"time":"\u0074","type":"lost","count":3,"since_seq":6,"later":[1,{"a":2}]}"#,
            r#"{"seq":07,"time":"t","type":"lost","count":3,"since_seq":6}"#,
            r#"{"seq":7,"time":"t","type":"lost","count":-3,"since_seq":6}"#,
            r#"{"seq":7,"time":"t","type":"lost","since_seq":6}"#,
            r#"{"seq":7,"time":"t","type":"lost","count":3,"since_seq":6"#,
            r#"{"seq":7,"time":"t","type":"lost","count":3,"since_seq":6} x"#,
            r#"["seq"]"#,
            "",
        ] {
            assert_eq!(fast(line.as_bytes()), slowly(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn an_unknown_type_is_no_error() {
        let line = br#"{"seq":7,"time":"t","type":"quake","magnitude":7.5}"#;
        assert_eq!(parse(line).unwrap(), Parsed::Unknown { seq: 7, kind: "quake".into() });
        assert!(parse(br#"{"seq":7,"time":"t","type":"quake","magnitude":7."#).is_err());
    }

    proptest! {
        #[test]
        fn a_byte_that_changed_is_read_as_serde_reads_it(at in 0..STALL.len(), byte in any::<u8>()) {
            let mut line = STALL.as_bytes().to_vec();
            line[at] = byte;
            prop_assert_eq!(fast(&line), slowly(&line));
        }

        #[test]
        fn every_loss_is_read_back(seq in any::<u64>(), count in any::<u64>()) {
            let lost = Event::Lost(Lost { count, since_seq: seq, within_ns: None });
            let line = Line { seq, time: "2026-01-02T03:04:05.000000006Z".into(), event: lost };
            let text = serde_json::to_vec(&line).unwrap();
            prop_assert_eq!(fast(&text), Some(line));
        }
    }
}
