//! One line of a recording, understood fast.
//!
//! What serde derives for a tagged enum within a flattened field keeps every line's values aside
//! until it has seen its type. Here the type is looked up first, and then the line is read straight
//! into what it is.

use std::borrow::Cow;

use serde::{
    Deserialize,
    de::{Error as _, IgnoredAny},
};

use super::flat::{Fields, Value};
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
    let (head, fields) = match peek(line) {
        Some((head, fields)) => (head, Some(fields)),
        None => (serde_json::from_slice::<Head<'_>>(line)?, None),
    };
    let event = match head.kind.as_ref() {
        "start" => Event::Start(serde_json::from_slice(line)?),
        "stall" => Event::Stall(body(line, fields)?),
        "unstable_write" => Event::UnstableWrite(body(line, fields)?),
        "integrity" => Event::Integrity(serde_json::from_slice(line)?),
        "verdict" => Event::Verdict(serde_json::from_slice(line)?),
        "workload" => Event::Workload(serde_json::from_slice(line)?),
        "lost" => Event::Lost(body(line, fields)?),
        "summary" => Event::Summary(serde_json::from_slice(line)?),
        other => {
            let kind = other.to_owned();
            return serde_json::from_slice::<IgnoredAny>(line)
                .map(|_| Parsed::Unknown { seq: head.seq, kind });
        }
    };
    let time = head.time.parse().map_err(serde_json::Error::custom)?;
    Ok(Parsed::Line(Box::new(Line { seq: head.seq, time, event })))
}

/// The number of a plain line, if it is one of many: no `start`, and no `summary`.
pub fn number(line: &[u8]) -> Option<u64> {
    let (head, _) = peek(line)?;
    (!matches!(&*head.kind, "start" | "summary")).then_some(head.seq)
}

/// The head of a line that begins as this program writes it, and the fields that follow; nothing if
/// it begins in another way.
fn peek(line: &[u8]) -> Option<(Head<'_>, Fields<'_>)> {
    let mut fields = Fields::of(line);
    let ("seq", Value::Count(seq)) = fields.next()? else { return None };
    let ("time", Value::Text(time)) = fields.next()? else { return None };
    let ("type", Value::Text(kind)) = fields.next()? else { return None };
    Some((Head { kind: kind.into(), seq, time: time.into() }, fields))
}

/// What follows the head of a line.
fn body<'a, T: Deserialize<'a>>(
    line: &'a [u8],
    fields: Option<Fields<'a>>,
) -> Result<T, serde_json::Error> {
    match fields.and_then(Fields::read) {
        Some(read) => Ok(read),
        None => serde_json::from_slice(line),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Lost;

    const STALL: &str = r#"{"seq":8,"time":"2026-11-23T23:34:42.236503216Z","type":"stall","context":"sync","function":"f","duration_ns":29,"pid":1,"tid":2,"comm":"w\u001b","cgroup_id":1,"dev":"7:0","ino":12,"index":3}"#;

    /// Of the plainest form.
    const PLAIN: &str = "{\"seq\":8,\"time\":\"2026-11-23T23:34:42.236503216Z\",\"type\":\"stall\",\
        \"context\":\"sync\",\"function\":\"f\",\"duration_ns\":29,\"pid\":1,\"tid\":2,\"comm\":\"wörk\",\
        \"cgroup_id\":1,\"dev\":\"7:0\",\"ino\":12,\"index\":3}\n";

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
            PLAIN,
            &PLAIN.replace('\n', "\r\n"),
            &PLAIN.replace("}\n", "}\x0c\n"),
            &PLAIN.replace('}', r#","pid":5}"#),
            &PLAIN.replace('}', r#","later":"x","also":7}"#),
            &PLAIN.replace('}', ",}"),
            &PLAIN.replace('}', "}{"),
            &PLAIN.replace(r#""ino":12"#, r#""ino":"12""#),
            &PLAIN.replace(r#""ino":12"#, r#""ino":012"#),
            &PLAIN.replace(r#""ino":12"#, r#""ino":18446744073709551616"#),
            &PLAIN.replace(r#""pid":1"#, r#""pid":4294967296"#),
            &PLAIN.replace(r#""7:0""#, "null"),
            &PLAIN.replace("sync", "swim"),
            &PLAIN.replace("wörk", "\u{1b}"),
            r#"{"type":"lost","count":3,"since_seq":6,"seq":7,"time":"2026-01-02T03:04:05Z"}"#,
            r#"{"seq":7,"time":"2026-01-02T03:04:05\u005a","type":"lost","count":3,"since_seq":6,"later":[1,{"a":2}]}"#,
            r#"{"seq":07,"time":"2026-01-02T03:04:05Z","type":"lost","count":3,"since_seq":6}"#,
            r#"{"seq":7,"time":"2026-01-02T03:04:05Z","type":"lost","count":-3,"since_seq":6}"#,
            r#"{"seq":7,"time":"2026-01-02T03:04:05Z","type":"lost","since_seq":6}"#,
            r#"{"seq":7,"time":"2026-01-02T03:04:05Z","type":"lost","count":3,"since_seq":6"#,
            r#"{"seq":7,"time":"2026-01-02T03:04:05Z","type":"lost","count":3,"since_seq":6} x"#,
            r#"["seq"]"#,
            "",
        ] {
            assert_eq!(fast(line.as_bytes()), slowly(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn a_line_needs_a_time_and_whole_device_numbers() {
        for line in [
            STALL.replace("2026-11-23T23:34:42.236503216Z", "yesterday"),
            STALL.replace("7:0", "sda"),
            PLAIN.replace("7:0", "7:-1"),
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
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
        fn a_byte_that_changed_is_read_as_serde_reads_it(
            plain in any::<bool>(),
            at in 0..PLAIN.len(),
            byte in any::<u8>(),
        ) {
            let mut line = if plain { PLAIN } else { STALL }.as_bytes().to_vec();
            let at = at.min(line.len() - 1);
            line[at] = byte;
            prop_assert_eq!(fast(&line), slowly(&line));
        }

        #[test]
        fn bytes_that_came_or_went_are_read_as_serde_reads_them(
            at in 0..PLAIN.len(),
            gone in 0_usize..4,
            came in r#"[ -~]{0,3}|[{}\[\]",:0]{0,3}"#,
        ) {
            let mut line = PLAIN.as_bytes().to_vec();
            let end = line.len().min(at + gone);
            line.splice(at..end, came.bytes());
            // A second head is passed over where the first is in its place.
            prop_assume!(!came.contains("seq") && !came.contains("time") && !came.contains("type"));
            prop_assert_eq!(fast(&line), slowly(&line));
        }

        #[test]
        fn every_loss_is_read_back(seq in any::<u64>(), count in any::<u64>()) {
            let lost = Event::Lost(Lost { count, since_seq: seq, within_ns: None });
            let line = Line { seq, time: "2026-01-02T03:04:05.000000006Z".parse().unwrap(), event: lost };
            let text = serde_json::to_vec(&line).unwrap();
            prop_assert_eq!(fast(&text), Some(line));
        }
    }
}
