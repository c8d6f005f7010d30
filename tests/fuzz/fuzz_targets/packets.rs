//! Any bytes as packets: no panic, and any split and mask shows the same. The first six bytes choose split, limit and
//! mask.
#![no_main]

use brokergate::mqtt::{PacketError, PacketSkim, PacketStart};
use libfuzzer_sys::fuzz_target;

fn follow(bytes: &[u8], key: [u8; 4], size: usize, limit: usize) -> (Vec<PacketStart>, Option<PacketError>) {
    let masked: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    let mut skim = PacketSkim::new(limit);
    let (mut starts, mut at) = (Vec::new(), 0);
    while at < masked.len() {
        let end = (at - at % size + size).min(masked.len());
        let mask = std::array::from_fn(|index| key[(at + index) % 4]);
        match skim.next(&masked[at..end], mask) {
            Ok((taken, start)) => {
                assert!(taken > 0 && at + taken <= end);
                at += taken;
                starts.extend(start);
            }
            Err(error) => return (starts, Some(error)),
        }
    }
    (starts, None)
}

fuzz_target!(|input: &[u8]| {
    let [size, limit, a, b, c, d, bytes @ ..] = input else { return };
    let limit = usize::from(*limit) << 4;
    let whole = follow(bytes, [0; 4], bytes.len().max(1), limit);
    let split = follow(bytes, [*a, *b, *c, *d], usize::from(*size).max(1), limit);
    assert_eq!(whole, split);
    assert!(whole.0.iter().all(|start| start.size as usize <= limit));
});
