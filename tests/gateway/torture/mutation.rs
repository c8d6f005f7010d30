//! Small mistakes in good bytes.

/// Bytes that mean something somewhere: lengths, opcodes, ends of lines, types.
const TELLING: [u8; 14] = [0, 1, 0x0A, 0x0D, 0x20, 0x7D, 0x7E, 0x7F, 0x80, 0x82, 0x88, 0xE0, 0xFE, 0xFF];

/// Make one to four mistakes.
pub(super) fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..=bytes.len());
        let to = (at + random.usize(1..=16)).min(bytes.len());
        match random.u8(..8) {
            0 | 1 if at < to => bytes[at] ^= 1 << random.u8(..8),
            2 if at < to => bytes[at] = TELLING[random.usize(..TELLING.len())],
            3 if at < to => bytes[at] = random.u8(..),
            4 => drop(bytes.drain(at..to)),
            5 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            6 => {
                let rubbish: Vec<_> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
                bytes.splice(at..at, rubbish);
            }
            7 if random.bool() => bytes.truncate(at),
            _ => bytes.push(TELLING[random.usize(..TELLING.len())]),
        }
    }
}
