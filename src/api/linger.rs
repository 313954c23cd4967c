//! Request bodies that are refused unread are read on for a while, and thrown away.
//!
//! A client that is still sending when the connection is closed gets a reset, and never sees the
//! 401, 413 or 429 that explains it. So what nobody wants any more is taken in, within bounds, while
//! the answer is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::base::Spawner;

/// What is taken in of a refused body at most. Whoever sends more gets the reset.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long it is taken in at most.
const TIME_MAX: Duration = Duration::from_secs(5);

/// A request's body that may be dropped at any time without closing the connection under the
/// answer.
pub struct Lingering {
    inner: Option<Incoming>,
    spawner: Arc<dyn Spawner>,
}

impl Lingering {
    pub fn new(body: Incoming, spawner: Arc<dyn Spawner>) -> Self {
        Self {
            inner: Some(body),
            spawner,
        }
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = self.inner.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.inner = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(body) = self.inner.take().filter(|b| !b.is_end_stream()) {
            self.spawner.spawn("discard a body", Box::pin(discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let all = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, Bytes::len);
            if taken > BYTES_MAX {
                return;
            }
        }
    };
    // Too slow or too much: the connection is closed as it would have been without this.
    let _ = tokio::time::timeout(TIME_MAX, all).await;
}
