//! What a connection is doing, and until when it may.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::Limits;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Nothing: no byte of a request has come.
    Idle,
    /// A request is coming.
    Receiving,
    /// A request is being answered.
    Answering,
}

/// One connection, as the one who serves it and the one who counts it see it.
#[derive(Clone, Debug)]
pub struct Watch {
    state: Arc<Mutex<(Doing, Instant)>>,
    changed: Arc<Notify>,
    limits: Limits,
}

impl Watch {
    /// A new connection.
    pub fn new(limits: Limits) -> Self {
        let state = Arc::new(Mutex::new((Doing::Idle, Instant::now())));
        Self { state, changed: Arc::new(Notify::new()), limits }
    }

    fn state(&self) -> (Doing, Instant) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, doing: Doing) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (doing, Instant::now());
        self.changed.notify_one();
    }

    /// Bytes have come.
    fn received(&self) {
        if self.state().0 == Doing::Idle {
            self.set(Doing::Receiving);
        }
    }

    /// A request has come in full.
    pub fn answering(&self) {
        self.set(Doing::Answering);
    }

    /// Since when it has had no request to answer; nothing if it has one.
    pub fn waiting_since(&self) -> Option<Instant> {
        let (doing, since) = self.state();
        (doing != Doing::Answering).then_some(since)
    }

    /// Returns once it has been doing the same for longer than it may.
    pub async fn overdue(&self) {
        loop {
            let (doing, since) = self.state();
            let limit = match doing {
                Doing::Idle => self.limits.idle,
                Doing::Receiving => self.limits.header,
                Doing::Answering => self.limits.answer,
            };
            tokio::select! {
                () = sleep_until(since + limit) => {
                    if self.state() == (doing, since) {
                        return;
                    }
                }
                () = self.changed.notified() => {}
            }
        }
    }
}

/// A stream that tells its watch when bytes come.
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    watch: Watch,
}

impl<S> Guarded<S> {
    /// Guards a stream.
    pub const fn new(stream: S, watch: Watch) -> Self {
        Self { stream, watch }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.watch.received();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The body of an answer: when it is gone, the request is over.
#[derive(Debug)]
pub struct Answer {
    bytes: Option<Bytes>,
    watch: Watch,
}

impl Answer {
    /// All of a body.
    pub const fn new(bytes: Bytes, watch: Watch) -> Self {
        Self { bytes: Some(bytes), watch }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.bytes.take().filter(|bytes| !bytes.is_empty()).map(Frame::data).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.watch.set(Doing::Idle);
    }
}
