//! Limits of clients.

use std::time::Duration;

/// Limits of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections at once.
    pub connections: usize,
    /// Bytes of a request's line and headers.
    pub header_bytes: usize,
    /// From the first byte of a request or TLS handshake to the end of the request's header.
    pub header: Duration,
    /// From the end of a request's header to the end of its response; also how long a client may
    /// read nothing of a response.
    pub answer: Duration,
    /// How long a connection may stay open without a request.
    pub idle: Duration,
    /// How long a connection may wait for its client before it can be closed in favour of a new
    /// one, while others are being answered.
    pub grace: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            header_bytes: 16 << 10,
            header: Duration::from_secs(10),
            answer: Duration::from_secs(15),
            // Longer than the usual scrape intervals: Prometheus keeps its connections open.
            idle: Duration::from_mins(3),
            grace: Duration::from_millis(100),
        }
    }
}
