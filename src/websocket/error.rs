//! What breaks WebSocket, and what it is closed with.

use super::CloseCode;

/// Why a stream of frames cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A client's frame without a mask.
    #[error("the client sent an unmasked frame; a client must mask every frame (RFC 6455, 5.1)")]
    Unmasked,
    /// A broker's frame with a mask.
    #[error("the broker sent a masked frame; a server must not mask (RFC 6455, 5.1)")]
    Masked,
    /// A text frame.
    #[error("text frame; MQTT travels in binary frames only [MQTT-6.0.0-1]")]
    Text,
    /// RSV1, RSV2 or RSV3.
    #[error("a reserved bit is set, but no extension was agreed on (RFC 6455, 5.2)")]
    ReservedBits,
    /// An opcode without a meaning.
    #[error("reserved opcode (RFC 6455, 5.2)")]
    ReservedOpcode,
    /// A control frame of more than [`MAX_CONTROL_PAYLOAD`](super::MAX_CONTROL_PAYLOAD) bytes.
    #[error("control frame with more than 125 bytes of payload (RFC 6455, 5.5)")]
    ControlTooLong,
    /// A control frame without FIN.
    #[error("fragmented control frame (RFC 6455, 5.5)")]
    ControlFragmented,
    /// A length that would have fitted a shorter form.
    #[error("payload length not in its shortest form (RFC 6455, 5.2)")]
    LengthNotMinimal,
    /// A length of 2^63 or more.
    #[error("payload length of 2^63 or more (RFC 6455, 5.2)")]
    LengthTooLong,
    /// A continuation of nothing.
    #[error("continuation frame outside a message (RFC 6455, 5.4)")]
    UnexpectedContinuation,
    /// A new message inside a message.
    #[error("new message before the last one ended; expected a continuation frame (RFC 6455, 5.4)")]
    ExpectedContinuation,
}

impl FrameError {
    /// What to close the WebSocket with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Text => CloseCode::Unsupported,
            _ => CloseCode::Protocol,
        }
    }

    /// A short name for a metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unmasked => "unmasked",
            Self::Masked => "masked",
            Self::Text => "text",
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode => "reserved_opcode",
            Self::ControlTooLong => "control_too_long",
            Self::ControlFragmented => "control_fragmented",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::LengthTooLong => "length_too_long",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::ExpectedContinuation => "expected_continuation",
        }
    }
}
