//! The form of a tap: one JSON object a line. Keys are only ever added.

use serde::{Deserialize, Serialize};

use crate::admin::sessions::form::Session;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// The first: which session it is.
    Begin {
        /// When, in RFC 3339 and UTC.
        time: String,
        /// As `/sessions` tells it.
        session: Box<Session>,
    },
    /// A packet goes by.
    Packet(Box<Packet>),
    /// So many went by untold here, in either direction: they came faster than they were taken.
    Missed {
        /// When this was noticed.
        time: String,
        /// How many.
        packets: u64,
    },
    /// The last.
    End {
        /// When.
        time: String,
        /// The session's ending, by its label; or `time_is_over`, of the tap alone.
        reason: String,
    },
}

/// A packet. What its type does not have is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Packet {
    /// When its fixed header was whole, by the gateway's clock.
    pub time: String,
    /// `up` from client to broker, or `down`.
    pub direction: String,
    /// `publish`, `puback`…
    #[serde(rename = "type")]
    pub packet_type: String,
    /// Bytes of the whole packet.
    pub size: u32,
    /// PUBLISH: it was sent before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dup: Option<bool>,
    /// PUBLISH: 0, 1 or 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<u8>,
    /// PUBLISH: to be retained, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<bool>,
    /// The packet identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet_id: Option<u16>,
    /// PUBLISH: its topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// PUBLISH of MQTT 5: the number that stands for a topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_alias: Option<u16>,
    /// SUBSCRIBE, UNSUBSCRIBE: its topic filters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Reason codes, or return codes before MQTT 5. Where it may be left out, none means 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<u8>,
    /// Words for the codes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// CONNACK: the broker still had the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_present: Option<bool>,
    /// PUBLISH: bytes of its payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_size: Option<u32>,
    /// The beginning of the payload, where it was asked for and is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The same where it is not, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// Whether more of the header was there than is told.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// A topic filter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// As the client wrote it.
    pub filter: String,
    /// SUBSCRIBE: the most it wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<u8>,
}
