//! The gateway as a whole, from outside.

mod configuration;
