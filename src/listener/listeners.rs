//! All bound addresses at work, and what a reload makes of them.
//!
//! An address that stays keeps its socket: no client is refused, none that waits in the kernel is lost.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::info;

use super::{Accepted, BindError, Bound, Listener, accept_all, bind_at, bind_one};
use crate::handover::Role;

/// All bound addresses, each accepting on a task of its own.
#[derive(Debug)]
pub struct Listeners<H> {
    runtime: Handle,
    hand: H,
    at_work: Vec<AtWork>,
    /// Closed to be opened again.
    resting: Vec<Resting>,
    is_closing: bool,
}

/// An address that was closed. It keeps its port, whatever was asked for.
#[derive(Debug)]
struct Resting {
    listener: Arc<ArcSwap<Listener>>,
    asked: SocketAddr,
    address: SocketAddr,
}

/// An address that accepts until dropped.
#[derive(Debug)]
struct AtWork {
    listener: Arc<ArcSwap<Listener>>,
    asked: SocketAddr,
    address: SocketAddr,
    accepting: JoinHandle<()>,
    /// Its socket, for a process that takes over.
    copy: std::net::TcpListener,
}

/// What comes after the addresses at work. Nothing is changed yet, but new addresses are bound.
#[derive(Debug)]
pub struct Next {
    /// For each address at work, the listener that takes it over; `None` stops it.
    kept: Vec<Option<Arc<Listener>>>,
    bound: Vec<Bound>,
}

impl<H: Fn(Accepted) + Clone + Send + 'static> Listeners<H> {
    /// Accept on all these addresses, within `runtime`; `hand` takes who comes.
    pub fn start(bound: Vec<Bound>, runtime: Handle, hand: H) -> Self {
        let mut listeners =
            Self { runtime, hand, at_work: Vec::new(), resting: Vec::new(), is_closing: false };
        bound.into_iter().for_each(|bound| listeners.accept(bound));
        listeners
    }

    /// What is at work on each address, by the address as it was configured.
    #[must_use]
    pub fn at_work(&self) -> Vec<(SocketAddr, Arc<Listener>)> {
        self.at_work.iter().map(|at_work| (at_work.asked, at_work.listener.load_full())).collect()
    }

    /// The sockets at work, for a process that takes over.
    #[must_use]
    pub fn sockets(&self) -> Vec<(Role, BorrowedFd<'_>)> {
        self.at_work.iter().map(|at_work| (Role::Clients(at_work.asked), at_work.copy.as_fd())).collect()
    }

    /// Find out who takes over which address, and bind the new ones.
    ///
    /// # Errors
    /// The first address that does not do; nothing has changed then.
    pub fn prepare(&self, listeners: &[Arc<Listener>]) -> Result<Next, BindError> {
        let mut next = Next { kept: vec![None; self.at_work.len()], bound: Vec::new() };
        let mut new = Vec::new();
        for listener in listeners {
            for &address in &listener.config.addresses {
                let free = |(place, at_work): &(usize, &AtWork)| {
                    at_work.asked == address && next.kept[*place].is_none()
                };
                match self.at_work.iter().enumerate().find(free) {
                    Some((place, _)) => next.kept[place] = Some(Arc::clone(listener)),
                    None => new.push((listener, address)),
                }
            }
        }
        for (listener, address) in new {
            next.bound.push(bind_one(listener, address).map_err(|error| self.explain(error))?);
        }
        Ok(next)
    }

    /// Put the next listeners to work. Connections of those that stop live on.
    pub async fn change(&mut self, next: Next) {
        let Next { kept, bound } = next;
        let mut stopped = Vec::new();
        for (at_work, listener) in std::mem::take(&mut self.at_work).into_iter().zip(kept) {
            match listener {
                Some(listener) => {
                    at_work.listener.store(listener);
                    self.at_work.push(at_work);
                }
                None => stopped.push(at_work),
            }
        }
        bound.into_iter().for_each(|bound| self.accept(bound));
        for mut at_work in stopped {
            let listener = at_work.listener.load();
            info!(listener = %listener.config.name, address = %at_work.address, "not listening any more");
            at_work.stop().await;
        }
    }

    /// Stop to listen. Who was accepted lives on. Where the future is dropped, the next call goes on.
    pub async fn close(&mut self) {
        self.is_closing = true;
        while let Some(at_work) = self.at_work.last_mut() {
            at_work.stop().await;
            let AtWork { listener, asked, address, .. } = at_work;
            let resting = Resting { listener: Arc::clone(listener), asked: *asked, address: *address };
            self.resting.push(resting);
            self.at_work.pop();
        }
        self.is_closing = false;
    }

    /// Listen again on all that was closed.
    ///
    /// # Errors
    /// The first address that does not do; then none is opened.
    pub async fn open(&mut self) -> Result<(), BindError> {
        if self.is_closing {
            self.close().await;
        }
        let bind = |Resting { listener, asked, address }: &Resting| bind_at(listener, *asked, *address);
        let bound = self.resting.iter().rev().map(bind).collect::<Result<Vec<_>, _>>()?;
        self.resting.clear();
        bound.into_iter().for_each(|bound| self.accept(bound));
        Ok(())
    }

    fn accept(&mut self, bound: Bound) {
        let Bound { listener, socket, copy, asked, address } = bound;
        let at = listener.load();
        info!(listener = %at.config.name, %address, tls = at.tls.is_some(), "listening");
        drop(at);
        let accepting = accept_all(Arc::clone(&listener), socket, self.hand.clone());
        let accepting = self.runtime.spawn(accepting);
        self.at_work.push(AtWork { listener, asked, address, accepting, copy });
    }

    /// An address may be taken by ourselves: `0.0.0.0:443` does not go beside `127.0.0.1:443`.
    fn explain(&self, error: BindError) -> BindError {
        error.beside(self.at_work.iter().map(|own| own.address))
    }
}

impl AtWork {
    /// Stop to accept. The address can be bound again when this is over and we are dropped: its socket is with
    /// the task, and a copy with us.
    async fn stop(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
