//! Parses one line of a recording.
//!
//! serde's derived code for a flattened tagged enum buffers all values of a line until it has seen
//! the type. Here the type is read first, and the line is deserialized directly into it.

use std::borrow::Cow;

use serde::{
    Deserialize,
    de::{Error as _, IgnoredAny},
};

use super::flat_json::{Fields, Value};
use crate::event::{Event, Line};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parsed {
    Line(Box<Line>),
    /// A type that a newer version added.
    UnknownType {
        seq: u64,
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
    #[serde(default)]
    monotonic_ns: Option<u64>,
}

/// Fails if the line is not a JSON object, or its fields are not those of its type.
pub(super) fn parse(line: &[u8]) -> Result<Parsed, serde_json::Error> {
    let (head, fields) = match flat_head(line) {
        Some((head, fields)) => (head, Some(fields)),
        None => (serde_json::from_slice::<Head<'_>>(line)?, None),
    };
    let event = match head.kind.as_ref() {
        "start" => Event::Start(serde_json::from_slice(line)?),
        "stall" => Event::Stall(body(line, fields)?),
        "waiting" => Event::Waiting(body(line, fields)?),
        "unstable_write" => Event::UnstableWrite(body(line, fields)?),
        "integrity" => Event::Integrity(serde_json::from_slice(line)?),
        "verdict" => Event::Verdict(serde_json::from_slice(line)?),
        "workload" => Event::Workload(serde_json::from_slice(line)?),
        "lost" => Event::Lost(body(line, fields)?),
        "summary" => Event::Summary(serde_json::from_slice(line)?),
        other => {
            let kind = other.to_owned();
            return serde_json::from_slice::<IgnoredAny>(line)
                .map(|_| Parsed::UnknownType { seq: head.seq, kind });
        }
    };
    let time = head.time.parse().map_err(serde_json::Error::custom)?;
    Ok(Parsed::Line(Box::new(Line { seq: head.seq, time, monotonic_ns: head.monotonic_ns, event })))
}

/// The sequence number of a line in flat JSON that is neither a `start` nor a `summary`.
pub(super) fn sequence_number(line: &[u8]) -> Option<u64> {
    let (head, _) = flat_head(line)?;
    (!matches!(&*head.kind, "start" | "summary")).then_some(head.seq)
}

/// The head and the remaining fields of a line that begins as this program writes it.
fn flat_head(line: &[u8]) -> Option<(Head<'_>, Fields<'_>)> {
    let mut fields = Fields::of(line);
    let ("seq", Value::Count(seq)) = fields.next()? else { return None };
    let ("time", Value::Text(time)) = fields.next()? else { return None };
    let (monotonic_ns, kind) = match fields.next()? {
        ("monotonic_ns", Value::Count(ns)) => (Some(ns), fields.next()?),
        other => (None, other),
    };
    let ("type", Value::Text(kind)) = kind else { return None };
    Some((Head { kind: kind.into(), seq, time: time.into(), monotonic_ns }, fields))
}

/// Deserializes the fields after the head, with `serde_json` if they are not flat JSON.
fn body<'a, T: Deserialize<'a>>(
    line: &'a [u8],
    fields: Option<Fields<'a>>,
) -> Result<T, serde_json::Error> {
    match fields.and_then(Fields::deserialize) {
        Some(body) => Ok(body),
        None => serde_json::from_slice(line),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Lost;

    const STALL: &str = r#"{"seq":8,"time":"2026-11-23T23:34:42.236503216Z","type":"stall","context":"sync","function":"f","duration_ns":29,"pid":1,"tid":2,"comm":"w\u001b","cgroup_id":1,"dev":"7:0","ino":12,"index":3}"#;

    /// A line in flat JSON.
    const FLAT: &str = "{\"seq\":8,\"time\":\"2026-11-23T23:34:42.236503216Z\",\"type\":\"stall\",\
        \"context\":\"sync\",\"function\":\"f\",\"duration_ns\":29,\"pid\":1,\"tid\":2,\"comm\":\"wörk\",\
        \"cgroup_id\":1,\"dev\":\"7:0\",\"ino\":12,\"index\":3}\n";

    /// The reference: serde's derived code.
    fn by_serde(line: &[u8]) -> Option<Line> {
        serde_json::from_slice(line).ok()
    }

    fn by_parse(line: &[u8]) -> Option<Line> {
        match parse(line) {
            Ok(Parsed::Line(line)) => Some(*line),
            _ => None,
        }
    }

    #[test]
    fn lines_are_parsed_as_serde_parses_them() {
        assert!(by_parse(STALL.as_bytes()).is_some());
        for line in [
            STALL,
            FLAT,
            &FLAT.replace('\n', "\r\n"),
            &FLAT.replace(r#""type""#, r#""monotonic_ns":77,"type""#),
            &FLAT.replace(r#""type""#, r#""monotonic_ns":"77","type""#),
            &FLAT.replace("}\n", "}\x0c\n"),
            &FLAT.replace('}', r#","pid":5}"#),
            &FLAT.replace('}', r#","later":"x","also":7}"#),
            &FLAT.replace('}', ",}"),
            &FLAT.replace('}', "}{"),
            &FLAT.replace(r#""ino":12"#, r#""ino":"12""#),
            &FLAT.replace(r#""ino":12"#, r#""ino":012"#),
            &FLAT.replace(r#""ino":12"#, r#""ino":18446744073709551616"#),
            &FLAT.replace(r#""pid":1"#, r#""pid":4294967296"#),
            &FLAT.replace(r#""7:0""#, "null"),
            &FLAT.replace("sync", "swim"),
            &FLAT.replace("wörk", "\u{1b}"),
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
            assert_eq!(by_parse(line.as_bytes()), by_serde(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn a_malformed_time_or_device_number_is_an_error() {
        for line in [
            STALL.replace("2026-11-23T23:34:42.236503216Z", "yesterday"),
            STALL.replace("7:0", "sda"),
            FLAT.replace("7:0", "7:-1"),
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn an_unknown_type_is_no_error() {
        let line = br#"{"seq":7,"time":"t","type":"quake","magnitude":7.5}"#;
        assert_eq!(parse(line).unwrap(), Parsed::UnknownType { seq: 7, kind: "quake".into() });
        assert!(parse(br#"{"seq":7,"time":"t","type":"quake","magnitude":7."#).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_parsed_as_serde_parses_it(
            flat in any::<bool>(),
            at in 0..FLAT.len(),
            byte in any::<u8>(),
        ) {
            let mut line = if flat { FLAT } else { STALL }.as_bytes().to_vec();
            let at = at.min(line.len() - 1);
            line[at] = byte;
            prop_assert_eq!(by_parse(&line), by_serde(&line));
        }

        #[test]
        fn inserted_and_removed_bytes_are_parsed_as_serde_parses_them(
            at in 0..FLAT.len(),
            removed in 0_usize..4,
            inserted in r#"[ -~]{0,3}|[{}\[\]",:0]{0,3}"#,
        ) {
            let mut line = FLAT.as_bytes().to_vec();
            let end = line.len().min(at + removed);
            line.splice(at..end, inserted.bytes());
            // `parse` ignores a second head field after a complete head.
            prop_assume!(!inserted.contains("seq") && !inserted.contains("time") && !inserted.contains("type"));
            prop_assert_eq!(by_parse(&line), by_serde(&line));
        }

        #[test]
        fn a_lost_line_is_read_back(seq in any::<u64>(), count in any::<u64>()) {
            let lost = Event::Lost(Lost { count, since_seq: seq, ..Lost::default() });
            let time = "2026-01-02T03:04:05.000000006Z".parse().unwrap();
            let line = Line { seq, time, monotonic_ns: Some(seq), event: lost };
            let text = serde_json::to_vec(&line).unwrap();
            prop_assert_eq!(by_parse(&text), Some(line));
        }
    }
}
