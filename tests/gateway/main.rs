//! The gateway as a whole, from outside: real sockets, real TLS, brokers that say what they saw.

mod configuration;
mod harness;
mod session;
