//! Any bytes as a client's first: no panic, and fewer bytes give the same answer or none yet.
#![no_main]

use brokergate::mqtt::{Connack, Connect, ConnectError, Level};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    for level in [Level::V31, Level::V311, Level::V5] {
        if let Ok(Some(connack)) = Connack::parse(level, bytes) {
            assert!(connack.size <= bytes.len());
        }
    }

    let whole = Connect::parse(bytes, LIMIT);
    match &whole {
        Ok(Some(connect)) => assert!(connect.size <= bytes.len().min(LIMIT)),
        Ok(None) => {}
        Err(error) => _ = (error.reply(), error.to_string()),
    }
    for end in 0..bytes.len().min(LIMIT) {
        let part = Connect::parse(&bytes[..end], LIMIT);
        // How large it is shows before which version it is.
        let too_large = |answer: &_| matches!(answer, Err(ConnectError::TooLarge { .. }));
        assert!(part == Ok(None) || part == whole || (too_large(&part) && too_large(&whole)));
    }
});
