//! Slow, broken or malicious clients do not prevent the next scrape.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use stable_trace::metrics::{server::ClientLimits, web_config::WebConfig};

use super::{CLIENT_TIMEOUT, TestEndpoint, read_all};

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
const LAST_SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn limits() -> ClientLimits {
    ClientLimits::default()
}

#[test]
fn every_path_is_served() {
    let endpoint = TestEndpoint::plain(limits());
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
        let (head, body) = endpoint.get(path, "");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(head.contains(&format!("content-type: {kind}\r\n")), "{path}: {head}");
        assert!(body.contains(words), "{path}: {body}");
    }
    let head = endpoint.exchange(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let post = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsomething";
    let post = endpoint.exchange(post);
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
    let status: serde_json::Value = serde_json::from_str(&endpoint.get("/status", "").1).unwrap();
    assert_eq!(status["probes"][0]["attached"], false);
}

#[test]
fn a_connection_is_kept_alive_and_each_scrape_is_fresh() {
    let endpoint = TestEndpoint::plain(limits());
    let mut stream = endpoint.connect();
    for scrape in 1..=3 {
        stream.write_all(SCRAPE).unwrap();
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        // The rest of the body may follow in a later read.
        let value = format!("\nstable_trace_events_received_total {scrape}\n");
        while !seen.contains(&value) || !seen.ends_with('\n') {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "closed after {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        // Reads the rest of this response, so that it is not mistaken for the next one.
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
    assert_eq!(endpoint.snapshots(), 3);
}

#[test]
fn concurrent_scrapes_share_snapshots() {
    let endpoint = TestEndpoint::plain(limits());
    let barrier = Barrier::new(20);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                barrier.wait();
                endpoint.serves();
            });
        }
    });
    assert!((1..=20).contains(&endpoint.snapshots()), "{} snapshots", endpoint.snapshots());
}

#[test]
fn garbage_is_answered_with_400_or_closed() {
    let endpoint = TestEndpoint::plain(limits());
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
        let mut stream = endpoint.connect();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Write);
        let answer = read_all(&mut stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        endpoint.serves();
    }
}

#[test]
fn a_header_of_a_mebibyte_is_refused() {
    let endpoint = TestEndpoint::plain(limits());
    let mut request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    request.resize(request.len() + (1 << 20), b'x');
    let answer = endpoint.exchange(&request);
    // A reset can overtake the response while the client is still sending.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    endpoint.serves();

    let many = "X-Many: y\r\n".repeat(500);
    let answer = endpoint.get("/metrics", &many).0;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    endpoint.serves();
}

#[test]
fn a_thousand_idle_connections_do_not_block_scrapes() {
    let endpoint = TestEndpoint::plain(limits());
    let idle: Vec<_> = (0..1_000).map(|_| endpoint.connect()).collect();
    for _ in 0..5 {
        endpoint.serves();
    }
    // The endpoint closes the oldest connections first.
    let mut oldest = &idle[0];
    assert_eq!(oldest.read(&mut [0]).ok(), Some(0), "the oldest connection is still open");
    drop(idle);
    endpoint.serves();
}

#[test]
fn incomplete_requests_do_not_block_scrapes() {
    let endpoint = TestEndpoint::plain(limits());
    let slow: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = endpoint.connect();
            // The endpoint may close the connection before this is sent.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ");
            stream
        })
        .collect();
    for _ in 0..5 {
        endpoint.serves();
    }
    drop(slow);
}

#[test]
fn a_client_that_sends_byte_by_byte_is_disconnected() {
    let header = Duration::from_millis(300);
    let endpoint = TestEndpoint::plain(ClientLimits { header, ..limits() });
    let mut stream = endpoint.connect();
    let began = Instant::now();
    let mut sent = 0;
    // The timeout applies to the whole header and not to each byte.
    while stream.write_all(b"G").is_ok() {
        sent += 1;
        assert!(sent < 5_000, "still open after {:?}", began.elapsed());
        thread::sleep(Duration::from_millis(10));
    }
    endpoint.serves();
}

#[test]
fn a_silent_client_is_disconnected() {
    let idle = Duration::from_millis(200);
    let endpoint = TestEndpoint::plain(ClientLimits { idle, ..limits() });
    let mut stream = endpoint.connect();
    assert_eq!(stream.read(&mut [0]).ok(), Some(0));
    endpoint.serves();
}

#[test]
fn clients_that_do_not_read_do_not_block_scrapes() {
    // Slow snapshots, so that all connections wait for one repeatedly.
    let slow = || thread::sleep(Duration::from_millis(100));
    let endpoint = TestEndpoint::with_snapshot_hook(limits(), WebConfig::default(), slow);
    let request = SCRAPE.repeat(200);
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = endpoint.connect();
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(&request);
            stream
        })
        .collect();
    for _ in 0..5 {
        endpoint.serves();
    }
    drop(clients);
}

#[test]
fn a_client_that_does_not_read_is_disconnected() {
    let answer = Duration::from_millis(300);
    let endpoint = TestEndpoint::plain(ClientLimits { answer, ..limits() });
    let mut stream = endpoint.connect();
    let request = SCRAPE.repeat(1_000);
    let error = loop {
        if let Err(error) = stream.write_all(&request) {
            break error;
        }
    };
    // The endpoint closes the connection before the client's write times out.
    let cut = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(cut.contains(&error.kind()), "{error}");
    endpoint.serves();
}

/// An endpoint whose snapshots wait until the sender is dropped, and a client with a pending
/// scrape.
fn blocked(limits: ClientLimits) -> (TestEndpoint, mpsc::Sender<()>, TcpStream) {
    let (release, released) = mpsc::channel::<()>();
    // The receiver gets an error when the sender is dropped.
    let block = move || {
        let _ = released.recv();
    };
    let endpoint = TestEndpoint::with_snapshot_hook(limits, WebConfig::default(), block);
    let mut first = endpoint.connect();
    first.write_all(SCRAPE).unwrap();
    while endpoint.snapshots() == 0 {
        thread::yield_now();
    }
    (endpoint, release, first)
}

/// Asserts that a client gets no response and stays connected.
fn assert_waits(mut client: &TcpStream) {
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let read = client.read(&mut [0]);
    let waiting = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(waiting, "a response, or the end of the connection: {read:?}");
    client.set_read_timeout(Some(CLIENT_TIMEOUT)).unwrap();
}

/// Asserts that a client gets its complete response before the endpoint closes the connection.
fn assert_answered(mut client: TcpStream) {
    let answer = read_all(&mut client);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
}

#[test]
fn a_client_at_the_connection_limit_waits() {
    let (endpoint, release, first) = blocked(ClientLimits { connections: 1, ..limits() });
    let mut second = endpoint.connect();
    second.write_all(LAST_SCRAPE).unwrap();
    assert_waits(&second);
    drop(release);
    assert_answered(first);
    assert_answered(second);
}

#[test]
fn a_new_client_is_not_evicted_within_the_grace_period() {
    let (endpoint, release, first) =
        blocked(ClientLimits { connections: 2, grace: CLIENT_TIMEOUT, ..limits() });
    let mut second = endpoint.connect();
    let mut third = endpoint.connect();
    third.write_all(LAST_SCRAPE).unwrap();
    assert_waits(&second);
    assert_waits(&third);
    drop(release);
    assert_answered(first);
    assert_answered(third);
    second.write_all(LAST_SCRAPE).unwrap();
    assert_answered(second);
}

#[test]
fn an_ended_run_is_reported_as_unavailable() {
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
    let endpoint = TestEndpoint { endpoint, snapshots: std::sync::Arc::default() };
    let (head, body) = endpoint.get("/metrics", "");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, "the run is not under way\n");
    assert!(endpoint.get("/-/ready", "").0.starts_with("HTTP/1.1 503 "));
    assert!(endpoint.get("/-/healthy", "").0.starts_with("HTTP/1.1 200 "));
    let status: serde_json::Value = serde_json::from_str(&endpoint.get("/status", "").1).unwrap();
    assert_eq!(status["error"], "the run is not under way");
}
