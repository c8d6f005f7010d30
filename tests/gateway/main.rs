//! The gateway as a whole, from outside: real sockets, real TLS, brokers that say what they saw.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "the harness's words are for the files beside it")]

mod arrival;
mod balance;
mod configuration;
mod connect;
mod deploy;
mod discovery;
mod drain;
mod endings;
mod failover;
mod forwarded;
mod goodbye;
mod handshake;
mod harness;
mod health;
mod house;
mod instructions;
mod limits;
mod memory;
mod metrics;
mod reload;
mod roster;
mod session;
mod status;
mod torture;
mod tunnel;
mod upgrade;
