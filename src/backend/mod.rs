//! One plain HTTP application server beside MQTT.

mod hop_by_hop;

pub use hop_by_hop::remove_hop_by_hop;
