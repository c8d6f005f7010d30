//! The gateway as a whole, from outside: real sockets, real TLS, brokers that say what they saw.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod configuration;
mod harness;
mod memory;
mod session;
mod torture;
mod tunnel;
