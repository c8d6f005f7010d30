//! brokergate carries MQTT over WebSocket to brokers.
//!
//! A client arrives on a [`listener`], over TLS; its request is routed ([`route`]) by the
//! [`snapshot`] at work. On an MQTT route the [`proxy`] answers the handshake, reads the CONNECT,
//! picks and dials a broker ([`upstream`]), and hands both streams to the [`tunnel`], which pumps
//! bytes until one of the three is done. `site` and `backend` serve what else lives on the domain.
//!
//! The modules stand in the order of that path; each imports only modules below it
//! (`docs/architecture.md`, checked by a test).

pub mod cli;
pub mod gateway;

#[cfg(feature = "demo")]
pub mod demo;

pub mod admin;
pub mod worker;

pub mod reload;

pub mod listener;

pub mod proxy;

pub mod snapshot;

pub mod telemetry;

pub mod route;

pub mod backend;
pub mod site;
pub mod upstream;

pub mod tunnel;

pub mod websocket;

pub mod mqtt;

pub mod tls;

pub mod config;
pub mod drain;
pub mod handover;
pub mod net;
pub mod permit;
pub mod supervisor;
