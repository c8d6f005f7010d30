//! Bodies on their way, which end with an error when they fall silent.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// A body that may be silent only so long.
#[derive(Debug)]
pub(super) struct Watched<B = Incoming> {
    body: B,
    silence: Duration,
    /// Runs while we wait for the sender; not while the receiver is slow, for then nobody asks us.
    timer: Option<Pin<Box<Sleep>>>,
    upload: Option<Arc<Upload>>,
}

impl<B> Watched<B> {
    /// A request's body: `upload` follows it.
    pub(super) fn upload(body: B, silence: Duration, upload: Arc<Upload>) -> Self {
        Self { body, silence, timer: None, upload: Some(upload) }
    }

    /// A response's body.
    pub(super) fn download(body: B, silence: Duration) -> Self {
        Self { body, silence, timer: None, upload: None }
    }

    fn tell(&self, change: fn(&Upload)) {
        if let Some(upload) = &self.upload {
            change(upload);
        }
    }
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            self.tell(Upload::moved);
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let silence = self.silence;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        if timer.as_mut().poll(cx).is_ready() {
            self.tell(Upload::forfeited);
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        self.tell(Upload::waits);
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How a request's body is getting on: while it moves, the backend's answer may still be away.
#[derive(Debug)]
pub(super) struct Upload(Mutex<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    moved_at: Instant,
    turn: Turn,
}

/// Who is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The backend takes the last piece, or answers.
    Backend,
    /// The client sends the next piece.
    Client,
    /// Nobody: the client was silent for too long.
    Forfeited,
}

impl Upload {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { moved_at: Instant::now(), turn: Turn::Backend }))
    }

    /// The way to the backend is open; the body may be under way already.
    pub(super) fn opened(&self) {
        self.change(|state| state.moved_at = Instant::now());
    }

    pub(super) fn moved_at(&self) -> Instant {
        self.change(|state| state.moved_at)
    }

    pub(super) fn turn(&self) -> Turn {
        self.change(|state| state.turn)
    }

    fn moved(&self) {
        self.change(|state| *state = State { moved_at: Instant::now(), turn: Turn::Backend });
    }

    fn waits(&self) {
        self.change(|state| state.turn = Turn::Client);
    }

    fn forfeited(&self) {
        self.change(|state| state.turn = Turn::Forfeited);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(10);

    /// A body whose pieces the test sends.
    struct Pieces(mpsc::Receiver<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_lives_and_a_silent_one_ends() {
        let (sender, receiver) = mpsc::channel(1);
        let upload = Arc::new(Upload::new());
        let mut body = Watched::upload(Pieces(receiver), SILENCE, Arc::clone(&upload));
        let slow = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(SILENCE - Duration::from_secs(1)).await;
                sender.send(Bytes::from_static(b"x")).await.unwrap();
            }
            sender
        });
        for _ in 0..5 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        }
        assert_eq!(upload.turn(), Turn::Backend);
        let _sender = slow.await.unwrap();
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(upload.turn(), Turn::Forfeited);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_may_be_as_slow_as_it_likes() {
        let (sender, receiver) = mpsc::channel(2);
        let upload = Arc::new(Upload::new());
        let mut body = Watched::upload(Pieces(receiver), SILENCE, Arc::clone(&upload));
        sender.send(Bytes::from_static(b"x")).await.unwrap();
        tokio::time::sleep(SILENCE * 3).await;
        assert_eq!(upload.turn(), Turn::Backend);
        assert!(body.frame().await.unwrap().is_ok());
        drop(sender);
        assert!(body.frame().await.is_none());
    }
}
