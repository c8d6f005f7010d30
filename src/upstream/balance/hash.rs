//! A hash that never changes: gateways of any version, on any machine, must agree on it.
//!
//! SipHash-1-3 with fixed keys. The keys are no secret: somebody who aims ClientIDs at one broker is
//! stopped by bounded load, not by the hash.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

const KEYS: (u64, u64) = (u64::from_le_bytes(*b"brokerga"), u64::from_le_bytes(*b"te/seed1"));

/// The hash of a name or a ClientID.
pub(in crate::upstream) fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(KEYS.0, KEYS.1);
    hasher.write(bytes);
    hasher.finish()
}

/// The hash of an address; an IPv4-mapped one is its IPv4 address.
pub(in crate::upstream) fn stable_hash_of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => stable_hash(&address.octets()),
        IpAddr::V6(address) => stable_hash(&address.octets()),
    }
}

/// One hash of two; every bit of both matters (the finaliser of `SplitMix64`).
pub(super) const fn mix(a: u64, b: u64) -> u64 {
    let mut mixed = a ^ b;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When this fails, a new version sends clients to other brokers than the old one: do not.
    #[test]
    fn the_hash_is_the_one_of_every_version() {
        assert_eq!(stable_hash(b""), 0x1e2f0a6a88cb0dde);
        assert_eq!(stable_hash(b"sensor-1"), 0x8f023c222e049fb6);
        assert_eq!(mix(1, 2), 0x1e535eede31428f0);
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_address() {
        let hash = |text: &str| stable_hash_of_address(text.parse().unwrap());
        assert_eq!(hash("192.0.2.1"), hash("::ffff:192.0.2.1"));
        assert_ne!(hash("192.0.2.1"), hash("192.0.2.2"));
    }
}
