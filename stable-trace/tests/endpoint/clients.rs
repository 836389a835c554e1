//! Clients that are slow, broken or malicious: whatever they do, the next scrape is answered.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use stable_trace::metrics::{server::Limits, web_config::WebConfig};

use super::{Bench, PATIENCE, read_all};

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
const LAST_SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn limits() -> Limits {
    Limits::default()
}

#[test]
fn every_page_is_there() {
    let bench = Bench::plain(limits());
    for (path, status, kind, words) in [
        ("/", "200", "text/html; charset=utf-8", "6.12 &quot;&lt;&amp;"),
        ("/metrics", "200", "text/plain; version=0.0.4; charset=utf-8", "# TYPE"),
        ("/metrics?x=1", "200", "text/plain; version=0.0.4; charset=utf-8", "# TYPE"),
        ("/-/healthy", "200", "text/plain; charset=utf-8", "healthy"),
        ("/-/ready", "200", "text/plain; charset=utf-8", "ready"),
        ("/status", "200", "application/json", "\"reason\": \"because\""),
        ("/nothing", "404", "text/plain; charset=utf-8", "not found"),
        ("/../etc/passwd", "404", "text/plain; charset=utf-8", "not found"),
    ] {
        let (head, body) = bench.get(path, "");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(head.contains(&format!("content-type: {kind}\r\n")), "{path}: {head}");
        assert!(body.contains(words), "{path}: {body}");
    }
    let head = bench.exchange(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let post = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsomething";
    let post = bench.exchange(post);
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
    let status: serde_json::Value = serde_json::from_str(&bench.get("/status", "").1).unwrap();
    assert_eq!(status["probes"][0]["attached"], false);
}

#[test]
fn a_connection_is_kept_and_each_scrape_is_fresh() {
    let bench = Bench::plain(limits());
    let mut stream = bench.connect();
    for scrape in 1..=3 {
        stream.write_all(SCRAPE).unwrap();
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        // It comes last but one line of its family: the rest of the body follows.
        let value = format!("\nstable_trace_events_received_total {scrape}\n");
        while !seen.contains(&value) || !seen.ends_with('\n') {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "closed after {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        // What is left of this answer must not be taken for the next one's.
        let head = seen.split("\r\n\r\n").next().unwrap();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse().ok())
            .unwrap();
        let mut left = (head.len() + 4 + length).saturating_sub(seen.len());
        while left > 0 {
            left -= stream.read(&mut buffer[..left.min(4096)]).unwrap();
        }
    }
    assert_eq!(bench.looks(), 3);
}

#[test]
fn scrapes_at_once_share_looks() {
    let bench = Bench::plain(limits());
    let together = Barrier::new(20);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                together.wait();
                bench.serves();
            });
        }
    });
    assert!((1..=20).contains(&bench.looks()), "{} looks", bench.looks());
}

#[test]
fn garbage_is_not_answered_for_long() {
    let bench = Bench::plain(limits());
    let noise: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        &noise,
    ] {
        let mut stream = bench.connect();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Write);
        let answer = read_all(&mut stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        bench.serves();
    }
}

#[test]
fn a_header_of_a_mebibyte_is_refused() {
    let bench = Bench::plain(limits());
    let mut request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    request.resize(request.len() + (1 << 20), b'x');
    let answer = bench.exchange(&request);
    // A reset can overtake the answer: the client was still sending.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    bench.serves();

    let many = "X-Many: y\r\n".repeat(500);
    let answer = bench.get("/metrics", &many).0;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    bench.serves();
}

#[test]
fn a_thousand_idle_connections_keep_nobody_out() {
    let bench = Bench::plain(limits());
    let idle: Vec<_> = (0..1_000).map(|_| bench.connect()).collect();
    for _ in 0..5 {
        bench.serves();
    }
    // All but the newest were closed, oldest first.
    let mut oldest = &idle[0];
    assert_eq!(oldest.read(&mut [0]).ok(), Some(0), "the oldest connection is still open");
    drop(idle);
    bench.serves();
}

#[test]
fn half_sent_requests_keep_nobody_out() {
    let bench = Bench::plain(limits());
    let slow: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = bench.connect();
            // Some are closed before they have sent this.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ");
            stream
        })
        .collect();
    for _ in 0..5 {
        bench.serves();
    }
    drop(slow);
}

#[test]
fn who_sends_byte_by_byte_is_cut_off() {
    let header = Duration::from_millis(300);
    let bench = Bench::plain(Limits { header, ..limits() });
    let mut stream = bench.connect();
    let began = Instant::now();
    let mut sent = 0;
    // Each byte comes well within the time for the whole: what counts is the whole.
    while stream.write_all(b"G").is_ok() {
        sent += 1;
        assert!(sent < 5_000, "still open after {:?}", began.elapsed());
        thread::sleep(Duration::from_millis(10));
    }
    bench.serves();
}

#[test]
fn who_says_nothing_is_cut_off() {
    let idle = Duration::from_millis(200);
    let bench = Bench::plain(Limits { idle, ..limits() });
    let mut stream = bench.connect();
    assert_eq!(stream.read(&mut [0]).ok(), Some(0));
    bench.serves();
}

#[test]
fn who_asks_and_does_not_read_keeps_nobody_out() {
    // Each look takes long enough for all connections to wait for one, again and again.
    let slow = || thread::sleep(Duration::from_millis(100));
    let bench = Bench::looking(limits(), WebConfig::default(), slow);
    let request = SCRAPE.repeat(200);
    let deaf: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = bench.connect();
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(&request);
            stream
        })
        .collect();
    for _ in 0..5 {
        bench.serves();
    }
    drop(deaf);
}

#[test]
fn who_asks_and_does_not_read_is_cut_off() {
    let answer = Duration::from_millis(300);
    let bench = Bench::plain(Limits { answer, ..limits() });
    let mut stream = bench.connect();
    let request = SCRAPE.repeat(1_000);
    let error = loop {
        if let Err(error) = stream.write_all(&request) {
            break error;
        }
    };
    // Not this side's own patience, after which a write would block.
    let cut = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(cut.contains(&error.kind()), "{error}");
    bench.serves();
}

/// An endpoint whose looks wait for the sender to be dropped, and a client that is being answered.
fn held(limits: Limits) -> (Bench, mpsc::Sender<()>, TcpStream) {
    let (release, held) = mpsc::channel::<()>();
    // An error is the sender's end.
    let hold_on = move || {
        let _ = held.recv();
    };
    let bench = Bench::looking(limits, WebConfig::default(), hold_on);
    let mut first = bench.connect();
    first.write_all(SCRAPE).unwrap();
    while bench.looks() == 0 {
        thread::yield_now();
    }
    (bench, release, first)
}

/// Asserts that a client is neither answered nor sent away.
fn waits(mut client: &TcpStream) {
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let read = client.read(&mut [0]);
    let waiting = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(waiting, "an answer, or an end: {read:?}");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// Asserts that a client gets all of its answer before the endpoint closes.
fn is_answered(mut client: TcpStream) {
    let answer = read_all(&mut client);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
}

#[test]
fn who_comes_while_all_are_answered_waits() {
    let (bench, release, first) = held(Limits { connections: 1, ..limits() });
    let mut second = bench.connect();
    second.write_all(LAST_SCRAPE).unwrap();
    waits(&second);
    drop(release);
    is_answered(first);
    is_answered(second);
}

#[test]
fn who_has_just_come_need_not_go_while_others_are_answered() {
    let (bench, release, first) = held(Limits { connections: 2, grace: PATIENCE, ..limits() });
    let mut second = bench.connect();
    let mut third = bench.connect();
    third.write_all(LAST_SCRAPE).unwrap();
    waits(&second);
    waits(&third);
    drop(release);
    is_answered(first);
    is_answered(third);
    second.write_all(LAST_SCRAPE).unwrap();
    is_answered(second);
}

#[test]
fn a_run_that_is_over_is_said_to_be() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (snapshots, requests) = tokio::sync::mpsc::channel(1);
    drop(requests);
    let text = str::to_owned;
    let config = stable_trace::metrics::server::EndpointConfig {
        snapshots,
        devices: Box::new(Vec::new),
        build: stable_trace::metrics::series::Build {
            version: text("0"),
            revision: text("r"),
            kernel: text("6.12"),
        },
        web: WebConfig::default(),
        limits: limits(),
    };
    let endpoint = stable_trace::metrics::server::Endpoint::start(listener, config).unwrap();
    let bench = Bench { endpoint, looks: std::sync::Arc::default() };
    let (head, body) = bench.get("/metrics", "");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, "the run is not under way\n");
    assert!(bench.get("/-/ready", "").0.starts_with("HTTP/1.1 503 "));
    assert!(bench.get("/-/healthy", "").0.starts_with("HTTP/1.1 200 "));
    let status: serde_json::Value = serde_json::from_str(&bench.get("/status", "").1).unwrap();
    assert_eq!(status["error"], "the run is not under way");
}
