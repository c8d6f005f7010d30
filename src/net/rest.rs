//! Bytes that came at once and go bit by bit.

/// What is left of some bytes. Used up, it holds no memory: its owner may be silent for months. It is one word: a
/// session has several, and next to never anything in them.
#[derive(Debug, Default)]
pub struct Rest(Option<Box<Left>>);

/// Bytes, of which at least one is not used.
#[derive(Debug)]
struct Left {
    bytes: Vec<u8>,
    used: usize,
}

impl From<Vec<u8>> for Rest {
    /// Room for bytes that never came is given back.
    fn from(mut bytes: Vec<u8>) -> Self {
        bytes.shrink_to_fit();
        Self((!bytes.is_empty()).then(|| Box::new(Left { bytes, used: 0 })))
    }
}

impl Rest {
    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What is left.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |left| &left.bytes[left.used..])
    }

    /// The first of what is left, `most` bytes at most.
    #[must_use]
    pub fn first(&self, most: usize) -> &[u8] {
        &self.bytes()[..self.bytes().len().min(most)]
    }

    /// The first `count` bytes of what is left, which has as many, are used.
    pub fn advance(&mut self, count: usize) {
        self.0.take_if(|left| {
            left.used += count;
            left.used == left.bytes.len()
        });
    }

    /// More bytes behind those that are left.
    pub fn extend(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Some(left) => left.bytes.extend_from_slice(bytes),
            None => *self = bytes.to_vec().into(),
        }
    }

    /// Bytes of memory that it holds for them.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |left| left.bytes.capacity())
    }

    /// Use as much as `into` has room for, and say how much that was.
    pub fn take(&mut self, into: &mut [u8]) -> usize {
        let first = self.first(into.len());
        let count = first.len();
        into[..count].copy_from_slice(first);
        self.advance(count);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_in_pieces_and_hold_nothing_afterwards() {
        let mut rest = Rest::from(b"abcde".to_vec());
        let mut into = [0; 3];
        assert_eq!((rest.take(&mut into), &into), (3, b"abc"));
        assert!(!rest.is_empty());
        assert_eq!((rest.take(&mut into), &into), (2, b"dec"));
        assert!(rest.is_empty());
        assert_eq!(rest.capacity(), 0);
        assert_eq!(Rest::from(Vec::with_capacity(1024)).capacity(), 0);
        rest.extend(b"fg");
        rest.advance(1);
        rest.extend(b"h");
        assert_eq!(rest.bytes(), b"gh");
    }
}
