//! Who is connected, and who makes room.

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
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::AbortHandle,
    time::timeout,
};

use super::{
    Limits,
    connection_deadline::{Guarded, Watch},
    routes::Site,
};

/// How long nobody is let in after the system had no descriptor for one more.
const PAUSE: Duration = Duration::from_millis(100);

/// Headers of one request.
const HEADERS: usize = 64;

/// The connections there are.
#[derive(Clone, Debug, Default)]
struct Connections {
    all: Arc<Mutex<HashMap<u64, (Watch, AbortHandle)>>>,
    /// Told whenever there may be room.
    room: Arc<Notify>,
    /// Whether somebody waits for room, so that connections end with their answers.
    crowded: Arc<AtomicBool>,
}

impl Connections {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u64, (Watch, AbortHandle)>) -> T) -> T {
        act(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for room for one more. Where there is none the connection makes room that has been
    /// waiting for its client longest; but where some are being answered, they end with their
    /// answers first, so that nobody has to go who has only just come. An answer that a client waits
    /// for is never cut short, and takes no longer than the limits say.
    async fn room_for_one(&self, limits: Limits) {
        while !self.make_room(limits) {
            self.crowded.store(true, Relaxed);
            // An error is that nothing has changed, but that some have waited longer now.
            let _ = timeout(limits.grace, self.room.notified()).await;
        }
        self.crowded.store(false, Relaxed);
    }

    fn make_room(&self, limits: Limits) -> bool {
        self.with(|all| {
            if all.len() < limits.connections {
                return true;
            }
            let waiting: Vec<_> = all
                .iter()
                .filter_map(|(id, (watch, _))| Some((watch.waiting_since()?, *id)))
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

/// Lets clients in and answers them, for ever.
pub async fn serve(listener: TcpListener, site: Arc<Site>, limits: Limits) {
    let connections = Connections::default();
    let mut id = 0;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // A client that has gone already, or no descriptor left.
                log::debug!("a connection to the metrics failed: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        connections.room_for_one(limits).await;
        id += 1;
        let watch = Watch::new(limits, Arc::clone(&connections.room));
        let (site, all, own) = (Arc::clone(&site), connections.clone(), watch.clone());
        // The lock is held until the connection is in the list: it cannot end before.
        connections.with(|list| {
            let task = tokio::spawn(async move {
                tokio::select! {
                    () = converse(stream, site, &own, &all.crowded, limits) => {}
                    () = own.overdue() => {}
                }
                all.remove(id);
            });
            list.insert(id, (watch, task.abort_handle()));
        });
    }
}

async fn converse(
    stream: TcpStream,
    site: Arc<Site>,
    watch: &Watch,
    crowded: &AtomicBool,
    limits: Limits,
) {
    // Answers are written at once.
    let _ = stream.set_nodelay(true);
    let stream = Guarded::new(stream, watch.clone());
    match &site.web.tls {
        None => answer(stream, site, watch, crowded, limits).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => answer(stream, site, watch, crowded, limits).await,
            Err(error) => log::debug!("a connection to the metrics was not encrypted: {error}"),
        },
    }
}

/// Answers the requests of one connection.
async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: S,
    site: Arc<Site>,
    watch: &Watch,
    crowded: &AtomicBool,
    limits: Limits,
) {
    let service = service_fn(|request| {
        let site = Arc::clone(&site);
        watch.answering();
        async move {
            let mut response = site.answer(&request, watch).await;
            if crowded.load(Relaxed) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let outcome = http1::Builder::new()
        .timer(TokioTimer::new())
        // The watch sees to time.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes)
        .max_header_size(limits.header_bytes)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = outcome {
        log::debug!("a connection to the metrics ended: {error}");
    }
}
