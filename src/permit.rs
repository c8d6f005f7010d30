//! Caps: hold a slot, or be told no. A permit is returned by dropping it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A cap on how many of something there are at once.
#[derive(Debug)]
pub struct Cap {
    limit: AtomicUsize,
    held: AtomicUsize,
}

impl Cap {
    /// A cap of `limit` permits; `usize::MAX` is none.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: AtomicUsize::new(limit), held: AtomicUsize::new(0) })
    }

    /// How many permits are out.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The cap.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Change the cap. Permits that are out stay out.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// A permit, or `None` at the cap.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.limit();
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < limit).then_some(held + 1))
            .ok()
            .map(|_| Permit { cap: Arc::clone(self) })
    }
}

/// A held slot.
#[derive(Debug)]
pub struct Permit {
    cap: Arc<Cap>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.cap.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A cap for each client address. IPv6 clients are counted by their /64: one customer, one cap.
#[derive(Debug)]
pub struct AddressCap {
    limit: AtomicUsize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

impl AddressCap {
    /// A cap of `limit` permits an address; `usize::MAX` is none, and then nothing is counted.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: AtomicUsize::new(limit), held: Mutex::default() })
    }

    /// Change the cap. Permits that are out stay out.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many addresses hold permits.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A permit for `address`, or `None` at its cap.
    #[must_use]
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<AddressPermit> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == usize::MAX {
            return Some(AddressPermit { cap: None });
        }
        let key = counted_as(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(key).or_insert(0);
        if *count >= limit {
            if *count == 0 {
                held.remove(&key);
            }
            return None;
        }
        *count += 1;
        Some(AddressPermit { cap: Some((Arc::clone(self), key)) })
    }
}

/// A held slot of one client address.
#[derive(Debug)]
pub struct AddressPermit {
    cap: Option<(Arc<AddressCap>, IpAddr)>,
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let Some((cap, key)) = self.cap.take() else { return };
        let mut held = cap.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&key);
            }
        }
    }
}

fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_permit_is_free_again() {
        let cap = Cap::new(1);
        let first = cap.take();
        assert!(first.is_some());
        assert!(cap.take().is_none());
        drop(first);
        assert_eq!(cap.held(), 0);
        assert!(cap.take().is_some());
    }

    #[test]
    fn addresses_are_capped_apart_and_ipv6_by_its_64() {
        let cap = AddressCap::new(1);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = cap.take(address("2001:db8::1"));
        assert!(first.is_some());
        assert!(cap.take(address("2001:db8::2")).is_none());
        assert!(cap.take(address("2001:db8:0:1::1")).is_some());
        assert!(cap.take(address("192.0.2.1")).is_some());
        drop(first);
        assert_eq!(cap.addresses(), 0);
    }
}
