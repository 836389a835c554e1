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

/// A connection at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    doing: Doing,
    /// Since when it has been doing that.
    since: Instant,
    /// Since when the client has taken nothing of what was written to it; nothing if it takes all.
    /// It may be doing anything meanwhile: whoever sends several requests in one piece has the next
    /// one answered while the answer before is still on its way.
    untaken: Option<Instant>,
}

/// One connection, as the one who serves it and the one who counts it see it.
#[derive(Clone, Debug)]
pub struct Watch {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    /// Told whenever the connection begins to wait for its client.
    waits: Arc<Notify>,
    limits: Limits,
}

impl Watch {
    /// A new connection, and who is told whenever it begins to wait for its client.
    pub fn new(limits: Limits, waits: Arc<Notify>) -> Self {
        let state = State { doing: Doing::Idle, since: Instant::now(), untaken: None };
        let state = Arc::new(Mutex::new(state));
        Self { state, changed: Arc::new(Notify::new()), waits, limits }
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
        if self.waiting_since().is_some() {
            self.waits.notify_one();
        }
    }

    fn set(&self, doing: Doing) {
        self.change(|state| (state.doing, state.since) = (doing, Instant::now()));
    }

    /// Bytes have come.
    fn received(&self) {
        if self.state().doing == Doing::Idle {
            self.set(Doing::Receiving);
        }
    }

    /// A request has come in full.
    pub fn answering(&self) {
        self.set(Doing::Answering);
    }

    /// Something was to be written: the client has taken some of it, or nothing.
    fn written(&self, taken: bool) {
        match (taken, self.state().untaken) {
            (true, Some(_)) => self.change(|state| state.untaken = None),
            (false, None) => self.change(|state| state.untaken = Some(Instant::now())),
            _ => {}
        }
    }

    /// Since when it has been waiting for its client, to ask or to take an answer; nothing if the
    /// client waits for it.
    pub fn waiting_since(&self) -> Option<Instant> {
        let state = self.state();
        state.untaken.or_else(|| (state.doing != Doing::Answering).then_some(state.since))
    }

    /// Returns once it has been doing the same, or the client has taken nothing, for longer than may
    /// be.
    pub async fn overdue(&self) {
        loop {
            let state = self.state();
            let limit = match state.doing {
                Doing::Idle => self.limits.idle,
                Doing::Receiving => self.limits.header,
                Doing::Answering => self.limits.answer,
            };
            let end = state.since + limit;
            let end = state.untaken.map_or(end, |since| end.min(since + self.limits.answer));
            tokio::select! {
                () = sleep_until(end) => {
                    if self.state() == state {
                        return;
                    }
                }
                () = self.changed.notified() => {}
            }
        }
    }
}

/// A stream that tells its watch when bytes come, and whether they go.
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
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch.written(written.is_ready());
        written
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
