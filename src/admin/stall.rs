//! Whoever asks and does not read the answer is hung up on: its connection, and what stands behind it, are not kept
//! for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// In so long a peer must take all that waits, or this many bytes of it. Some hundred kilobytes wait at the most.
const PATIENCE: Duration = Duration::from_secs(30);
const ENOUGH: usize = 16 * 1024;

/// A stream whose peer must take in time what is written.
#[derive(Debug)]
pub(super) struct Hurried<S> {
    stream: S,
    /// Runs while something waits, with what was taken since it began.
    waits: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Hurried<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, waits: None }
    }

    /// So much was taken, and something waits: whether that may go on.
    fn poll_patience(&mut self, cx: &mut Context<'_>, taken: usize) -> Poll<io::Error> {
        let (timer, sum) = self.waits.get_or_insert_with(|| (Box::pin(sleep(PATIENCE)), 0));
        *sum += taken;
        if *sum >= ENOUGH {
            self.waits = None;
            return Poll::Pending;
        }
        timer.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Hurried<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        let taken = match &written {
            Poll::Pending => 0,
            // Little by little is no excuse.
            Poll::Ready(Ok(count)) if *count < bytes.len() => *count,
            Poll::Ready(_) => {
                self.waits = None;
                return written;
            }
        };
        match self.poll_patience(cx, taken) {
            Poll::Ready(late) => Poll::Ready(Err(late)),
            Poll::Pending => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Hurried<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_hung_up_on() {
        let (near, _far) = duplex(10);
        let began = Instant::now();
        let error = Hurried::new(near).write_all(&[0; 11]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_little_by_little_is_hung_up_on() {
        let (near, mut far) = duplex(10);
        let trickle = tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(2)).await;
                if far.read_u8().await.is_err() {
                    return;
                }
            }
        });
        let began = Instant::now();
        let error = Hurried::new(near).write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
        trickle.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_in_time_is_served_for_long() {
        let (near, mut far) = duplex(10);
        let mut near = Hurried::new(near);
        let reads = tokio::spawn(async move {
            for _ in 0..20 {
                sleep(Duration::from_secs(20)).await;
                far.read_exact(&mut [0; 15]).await.unwrap();
            }
        });
        for _ in 0..20 {
            near.write_all(&[0; 15]).await.unwrap();
        }
        reads.await.unwrap();
        // Nobody waits for anything: silence is no stall.
        assert!(timeout(Duration::from_secs(300), near.read_u8()).await.is_ok_and(|read| read.is_err()));
    }
}
