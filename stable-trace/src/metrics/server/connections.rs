//! Who is connected, and who makes room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use super::{
    Limits,
    guarded::{Guarded, Watch},
    routes::Site,
};

/// How long nobody is let in after the system had no descriptor for one more.
const PAUSE: Duration = Duration::from_millis(100);

/// Headers of one request.
const HEADERS: usize = 64;

/// The connections there are.
#[derive(Clone, Debug, Default)]
struct Connections(Arc<Mutex<HashMap<u64, (Watch, AbortHandle)>>>);

impl Connections {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u64, (Watch, AbortHandle)>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is room for one more, if need be made by ending the one that has been waiting
    /// longest.
    fn make_room(&self, limit: usize) -> bool {
        self.with(|all| {
            if all.len() < limit {
                return true;
            }
            let waiting =
                all.iter().filter_map(|(id, (watch, _))| Some((watch.waiting_since()?, *id)));
            let Some((_, longest)) = waiting.min() else { return false };
            if let Some((_, task)) = all.remove(&longest) {
                task.abort();
            }
            true
        })
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
        if !connections.make_room(limits.connections) {
            log::debug!("a connection to the metrics was refused: all are busy");
            continue;
        }
        id += 1;
        let watch = Watch::new(limits);
        let (site, all, own) = (Arc::clone(&site), connections.clone(), watch.clone());
        // The lock is held until the connection is in the list: it cannot end before.
        connections.with(|list| {
            let task = tokio::spawn(async move {
                tokio::select! {
                    () = converse(stream, site, &own, limits) => {}
                    () = own.overdue() => {}
                }
                all.with(|all| all.remove(&id));
            });
            list.insert(id, (watch, task.abort_handle()));
        });
    }
}

async fn converse(stream: TcpStream, site: Arc<Site>, watch: &Watch, limits: Limits) {
    // Answers are written at once.
    let _ = stream.set_nodelay(true);
    let stream = Guarded::new(stream, watch.clone());
    match &site.web.tls {
        None => answer(stream, site, watch, limits).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => answer(stream, site, watch, limits).await,
            Err(error) => log::debug!("a connection to the metrics was not encrypted: {error}"),
        },
    }
}

/// Answers the requests of one connection.
async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: S,
    site: Arc<Site>,
    watch: &Watch,
    limits: Limits,
) {
    let service = service_fn(|request| {
        let site = Arc::clone(&site);
        watch.answering();
        async move { Ok::<_, std::convert::Infallible>(site.answer(&request, watch).await) }
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
