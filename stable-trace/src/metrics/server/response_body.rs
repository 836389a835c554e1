//! The body of a response.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::connection_deadline::ConnectionDeadline;

/// Its drop ends the answer of a request.
#[derive(Debug)]
pub(super) struct ResponseBody {
    bytes: Option<Bytes>,
    deadline: ConnectionDeadline,
}

impl ResponseBody {
    pub(super) const fn new(bytes: Bytes, deadline: ConnectionDeadline) -> Self {
        Self { bytes: Some(bytes), deadline }
    }
}

impl Body for ResponseBody {
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

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.deadline.end_answer();
    }
}
