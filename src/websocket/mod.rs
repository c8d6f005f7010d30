//! WebSocket frames (RFC 6455), bytes in and facts out: no I/O, no clock.
//!
//! [`FrameSkim`] follows the frame headers of one direction over any split of its bytes and says of every byte
//! what it is, without touching payload. [`FrameHeader`] reads and writes one header, [`Mask`] hides and shows
//! payload, and [`close_frame`], [`pong_frame`] and [`frame()`] build the few frames we send on our own account.

mod close;
mod error;
mod frame;
mod mask;
mod skim;

pub use close::{CloseCode, CloseError, close_frame, close_payload, parse_close};
pub use error::FrameError;
pub use frame::{FrameHeader, HeaderBytes, MAX_CONTROL_PAYLOAD, Opcode, begin_message, frame, pong_frame};
pub use mask::Mask;
pub use skim::{FrameSkim, Segment, Side};
