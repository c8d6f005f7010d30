//! The masking of client payload (RFC 6455, 5.3): XOR with four bytes, over and over.

/// A masking key, turned so that its first byte is for the next payload byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    key: [u8; 4],
}

impl Mask {
    /// The mask that changes nothing: what unmasked payload has.
    pub const NONE: Self = Self { key: [0; 4] };

    /// The mask of a frame whose header holds `key`, for the payload's first byte.
    #[must_use]
    pub const fn new(key: [u8; 4]) -> Self {
        Self { key }
    }

    /// The key; its first byte is for the next payload byte.
    #[must_use]
    pub const fn key(self) -> [u8; 4] {
        self.key
    }

    /// What to XOR the payload byte with that is `index` bytes ahead.
    #[must_use]
    pub const fn byte(self, index: usize) -> u8 {
        self.key[index % 4]
    }

    /// The mask for the payload that follows `n` more bytes.
    #[must_use]
    pub const fn advance(self, n: usize) -> Self {
        // One rotation: four ways to choose from would be a jump (`skim-client-small`).
        let turned = u32::from_le_bytes(self.key).rotate_right(n as u32 % 4 * 8);
        Self { key: turned.to_le_bytes() }
    }

    /// Masks `payload`, or unmasks it: the two are the same.
    pub fn apply(self, payload: &mut [u8]) {
        if self == Self::NONE {
            return;
        }
        // Words of the key's size: the compiler makes vectors of them, and of u128 it does not. `unmask-16384`
        // counts more instructions for it, but shorter ones: 0.31 us instead of 0.45.
        let key = u32::from_ne_bytes(self.key);
        let (words, rest) = payload.as_chunks_mut::<4>();
        for word in words {
            *word = (u32::from_ne_bytes(*word) ^ key).to_ne_bytes();
        }
        for (byte, key) in rest.iter_mut().zip(self.key) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_6455_5_7() {
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        Mask::new([0x37, 0xfa, 0x21, 0x3d]).apply(&mut payload);
        assert_eq!(&payload, b"Hello");
    }

    proptest! {
        #[test]
        fn apply_is_the_naive_xor(key: [u8; 4], payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let mask = Mask::new(key);
            let naive: Vec<u8> = payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let by_byte: Vec<u8> = payload.iter().enumerate().map(|(i, byte)| byte ^ mask.byte(i)).collect();
            let mut fast = payload;
            mask.apply(&mut fast);
            prop_assert_eq!(&fast, &naive);
            prop_assert_eq!(&fast, &by_byte);
        }

        #[test]
        fn advance_continues_where_apply_stopped(
            key: [u8; 4],
            payload in prop::collection::vec(any::<u8>(), 1..200),
            at: prop::sample::Index,
        ) {
            let mask = Mask::new(key);
            let at = at.index(payload.len());
            let mut whole = payload.clone();
            mask.apply(&mut whole);
            let mut halves = payload;
            mask.apply(&mut halves[..at]);
            mask.advance(at).apply(&mut halves[at..]);
            prop_assert_eq!(halves, whole);
        }
    }
}
