//! Close frames: the code, the reason, and what a received one may hold (RFC 6455, 5.5.1 and 7.4).

use super::{MAX_CONTROL_PAYLOAD, Opcode, frame};

/// Why an endpoint closes the WebSocket (RFC 6455, 7.4, and IANA's registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// 1000: done.
    Normal,
    /// 1001: the server goes down, or the page was left.
    GoingAway,
    /// 1002: a frame that breaks the protocol.
    Protocol,
    /// 1003: a kind of data we don't take, such as text.
    Unsupported,
    /// 1008: against our rules.
    Policy,
    /// 1009: a message or packet over the limit.
    TooBig,
    /// 1011: our fault.
    Internal,
    /// 1013: no capacity now; try again later.
    TryAgainLater,
    /// 1014: the broker behind us failed.
    BadGateway,
    /// Any other code we were sent.
    Other(u16),
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::Protocol => 1002,
            Self::Unsupported => 1003,
            Self::Policy => 1008,
            Self::TooBig => 1009,
            Self::Internal => 1011,
            Self::TryAgainLater => 1013,
            Self::BadGateway => 1014,
            Self::Other(number) => number,
        }
    }
}

impl From<u16> for CloseCode {
    fn from(number: u16) -> Self {
        match number {
            1000 => Self::Normal,
            1001 => Self::GoingAway,
            1002 => Self::Protocol,
            1003 => Self::Unsupported,
            1008 => Self::Policy,
            1009 => Self::TooBig,
            1011 => Self::Internal,
            1013 => Self::TryAgainLater,
            1014 => Self::BadGateway,
            other => Self::Other(other),
        }
    }
}

/// A whole unmasked Close frame. The reason is cut to fit, between two characters.
#[must_use]
pub fn close_frame(code: CloseCode, reason: &str) -> Vec<u8> {
    frame(Opcode::Close, &close_payload(code, reason), None)
}

/// The payload of a Close frame: the code, and as much of the reason as fits its 123 bytes.
#[must_use]
pub fn close_payload(code: CloseCode, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2)];
    [&code.number().to_be_bytes(), reason.as_bytes()].concat()
}

/// The code in a received Close frame's unmasked payload; `None` when it names none.
///
/// # Errors
/// When the payload is not one that RFC 6455 7.4 lets an endpoint send.
pub fn parse_close(payload: &[u8]) -> Result<Option<CloseCode>, CloseError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let Some((number, reason)) = payload.split_first_chunk() else { return Err(CloseError::Short) };
    let number = u16::from_be_bytes(*number);
    // 1004 to 1006 and 1015 stand for closes without a frame; 1016 to 2999 have no meaning yet.
    if !matches!(number, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(CloseError::Code(number));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(CloseError::ReasonNotUtf8);
    }
    Ok(Some(CloseCode::from(number)))
}

/// What is wrong with a Close frame's payload. It is answered with [`CloseCode::Protocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// One byte.
    #[error("Close frame with half a code (RFC 6455, 5.5.1)")]
    Short,
    /// A code that must not be sent.
    #[error("Close frame with the code {0}, which may not be sent (RFC 6455, 7.4)")]
    Code(u16),
    /// A reason that is not text.
    #[error("Close frame with a reason that is not UTF-8 (RFC 6455, 5.5.1)")]
    ReasonNotUtf8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_parsed() {
        for number in (1000..=1003).chain(1007..=1014).chain([3000, 4999]) {
            let code = CloseCode::from(number);
            assert_eq!(code.number(), number);
            assert_eq!(parse_close(&close_payload(code, "bye")), Ok(Some(code)));
        }
        assert_eq!(close_frame(CloseCode::Normal, "bye"), b"\x88\x05\x03\xe8bye");
        assert_eq!(parse_close(b""), Ok(None));
    }

    #[test]
    fn what_may_not_be_sent_is_refused() {
        assert_eq!(parse_close(&[3]), Err(CloseError::Short));
        for number in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535_u16] {
            assert_eq!(parse_close(&number.to_be_bytes()), Err(CloseError::Code(number)));
        }
        assert_eq!(parse_close(b"\x03\xe8\xff"), Err(CloseError::ReasonNotUtf8));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = close_frame(CloseCode::Policy, &"é".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert_eq!(parse_close(&frame[2..]), Ok(Some(CloseCode::Policy)));
    }
}
