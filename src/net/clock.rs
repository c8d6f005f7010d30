//! A thread that keeps the workers' deadlines, so that a worker has none of its own.
//!
//! For a thread with a deadline the kernel sets a timer each time that it sleeps, and takes it back when it is woken: a
//! microsecond for each way of a message (`everyday`).

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use hyper::rt::{self, Timer};
use hyper_util::rt::TokioTimer;
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio::time::{self, Instant, Sleep, Timeout};

/// How often the clock's thread wakes up for nothing: for each deadline that is sooner than all others tokio would
/// wake it, five times while a client connects (`full`).
const NEAR: Duration = Duration::from_secs(1);

thread_local! {
    static CLOCK: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Keeps deadlines until its last clone is dropped. Whoever waits for one of them must be gone by then.
#[derive(Debug, Clone)]
pub struct Clock {
    handle: Handle,
    _alive: mpsc::Sender<Infallible>,
}

impl Clock {
    /// Start its thread.
    ///
    /// # Errors
    /// When the process may have no more threads.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (alive, mut ended) = mpsc::channel(1);
        std::thread::Builder::new().name("clock".into()).spawn(move || {
            runtime.block_on(async { while time::timeout(NEAR, ended.recv()).await.is_err() {} });
        })?;
        Ok(Self { handle, _alive: alive })
    }

    /// From now on it keeps the deadlines of this thread. Those of others are their own runtime's.
    pub fn serve_thread(&self) {
        CLOCK.set(Some(self.handle.clone()));
    }
}

/// What `make` makes of a deadline is kept by the clock.
fn kept<T>(make: impl FnOnce() -> T) -> T {
    CLOCK.with_borrow(|clock| {
        let _within = clock.as_ref().map(Handle::enter);
        make()
    })
}

/// Wait until `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    kept(|| time::sleep_until(deadline))
}

/// Let `future` take until `deadline`.
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    kept(|| time::timeout_at(deadline, future))
}

/// Let `future` take so long.
pub fn timeout<F: Future>(patience: Duration, future: F) -> Timeout<F> {
    kept(|| time::timeout(patience, future))
}

/// The same for hyper.
#[derive(Debug, Clone, Default)]
pub struct HttpTimer(TokioTimer);

impl Timer for HttpTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        kept(|| self.0.sleep(duration))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        kept(|| self.0.sleep_until(deadline))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn rt::Sleep>>, deadline: std::time::Instant) {
        self.0.reset(sleep, deadline);
    }

    fn now(&self) -> std::time::Instant {
        self.0.now()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    /// Runs `future` where no deadline can be kept, but by a clock.
    fn run<T>(clock: &Clock, future: impl Future<Output = T> + Send) -> T
    where
        T: Send,
    {
        std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                clock.serve_thread();
                Builder::new_current_thread().build().unwrap().block_on(future)
            });
            work.join().unwrap()
        })
    }

    #[test]
    fn a_thread_without_timers_is_woken_by_the_clock() {
        let clock = Clock::start().unwrap();
        let begun = Instant::now();
        run(&clock, async {
            sleep_until(Instant::now() + SOON).await;
            timeout_at(Instant::now() + SOON, pending::<()>()).await.unwrap_err();
            timeout(SOON, pending::<()>()).await.unwrap_err();
            HttpTimer::default().sleep(SOON).await;
            let mut sleep =
                HttpTimer::default().sleep_until(std::time::Instant::now() + Duration::from_secs(3600));
            HttpTimer::default().reset(&mut sleep, std::time::Instant::now() + SOON);
            sleep.await;
        });
        assert!(begun.elapsed() >= SOON * 5);
    }

    #[test]
    fn it_goes_on_while_a_clone_is_left() {
        let clone = Clock::start().unwrap().clone();
        std::thread::sleep(SOON);
        run(&clone, async { sleep_until(Instant::now() + SOON).await });
    }

    #[tokio::test(start_paused = true)]
    async fn elsewhere_a_runtime_keeps_its_own() {
        let begun = std::time::Instant::now();
        sleep_until(Instant::now() + Duration::from_secs(3600)).await;
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
