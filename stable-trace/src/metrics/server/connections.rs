//! Tracks connections and closes the longest-waiting one at the limit.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use stable_trace_analysis::error_chain::ErrorChain;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::AbortHandle,
    time::timeout,
};

use super::{
    client_limits::ClientLimits, connection_deadline::ConnectionDeadline,
    monitored_stream::MonitoredStream, routes::Routes,
};

/// Pause after a failed `accept`, for example where no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The most headers of one request.
const HEADERS: usize = 64;

/// The open connections.
#[derive(Clone, Debug, Default)]
struct Connections {
    all: Arc<Mutex<HashMap<u64, (ConnectionDeadline, AbortHandle)>>>,
    /// Notified when a connection may be closed, or has ended.
    room: Arc<Notify>,
    /// Whether a client waits for a connection: then connections close after their response.
    full: Arc<AtomicBool>,
}

impl Connections {
    fn with<T>(
        &self,
        act: impl FnOnce(&mut HashMap<u64, (ConnectionDeadline, AbortHandle)>) -> T,
    ) -> T {
        act(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there is room for one more connection. At the limit, the connection that has
    /// waited longest for its client is closed. While others are being answered, it is closed only
    /// after the grace time, because those end after their response. A response that a client waits
    /// for is never interrupted; the limits bound its time.
    async fn wait_for_room(&self, limits: ClientLimits) {
        while !self.make_room(limits) {
            self.full.store(true, Relaxed);
            // A timeout is no error: some connections are past their grace time now.
            let _ = timeout(limits.grace, self.room.notified()).await;
        }
        self.full.store(false, Relaxed);
    }

    fn make_room(&self, limits: ClientLimits) -> bool {
        self.with(|all| {
            if all.len() < limits.connections {
                return true;
            }
            let waiting: Vec<_> = all
                .iter()
                .filter_map(|(id, (deadline, _))| Some((deadline.waiting_since()?, *id)))
                .collect();
            let Some((since, longest)) = waiting.iter().min() else { return false };
            if waiting.len() < all.len() && since.elapsed() < limits.grace {
                return false;
            }
            if let Some((_, task)) = all.remove(longest) {
                task.abort();
            }
            true
        })
    }

    fn remove(&self, id: u64) {
        self.with(|all| all.remove(&id));
        self.room.notify_one();
    }
}

/// Accepts and serves clients, for ever.
pub(super) async fn serve(listener: TcpListener, routes: Arc<Routes>, limits: ClientLimits) {
    let connections = Connections::default();
    let mut id = 0;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // The client has disconnected, or no file descriptor is left.
                log::debug!("cannot accept a connection to the metrics endpoint: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        connections.wait_for_room(limits).await;
        id += 1;
        let deadline = ConnectionDeadline::new(limits, Arc::clone(&connections.room));
        let (routes, all, expiry) = (Arc::clone(&routes), connections.clone(), deadline.clone());
        // The lock is held until the connection is in the list, so it cannot be removed before.
        connections.with(|list| {
            let task = tokio::spawn(async move {
                tokio::select! {
                    () = serve_client(stream, routes, &expiry, &all.full, limits) => {}
                    () = expiry.expired() => {}
                }
                all.remove(id);
            });
            list.insert(id, (deadline, task.abort_handle()));
        });
    }
}

async fn serve_client(
    stream: TcpStream,
    routes: Arc<Routes>,
    deadline: &ConnectionDeadline,
    full: &AtomicBool,
    limits: ClientLimits,
) {
    // Responses are written in one piece.
    let _ = stream.set_nodelay(true);
    let stream = MonitoredStream::new(stream, deadline.clone());
    match &routes.web().tls {
        None => serve_requests(stream, routes, deadline, full, limits).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => serve_requests(stream, routes, deadline, full, limits).await,
            Err(error) => {
                log::debug!("TLS handshake with a client of the metrics endpoint failed: {error}");
            }
        },
    }
}

async fn serve_requests<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: S,
    routes: Arc<Routes>,
    deadline: &ConnectionDeadline,
    full: &AtomicBool,
    limits: ClientLimits,
) {
    let service = service_fn(|request| {
        let routes = Arc::clone(&routes);
        deadline.start_answer();
        async move {
            let mut response = routes.answer(&request, deadline).await;
            if full.load(Relaxed) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let outcome = http1::Builder::new()
        .timer(TokioTimer::new())
        // `ConnectionDeadline` enforces the time limits.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes)
        .max_header_size(limits.header_bytes)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = outcome {
        log::debug!("a connection to the metrics endpoint failed: {}", ErrorChain(&error));
    }
}
