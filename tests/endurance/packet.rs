//! The few MQTT packets that clients and broker say here, written and taken apart. Pure.

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes, BytesMut};

/// The version of MQTT that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// 3.1.1
    V3,
    V5,
}

impl Version {
    /// One of the two, in turn.
    pub(crate) fn of(number: usize) -> Self {
        if number.is_multiple_of(2) { Self::V5 } else { Self::V3 }
    }
}

/// The upper half of a packet's first byte (MQTT 3.1.1, 2.2.1).
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const PINGREQ: u8 = 12;
    pub(crate) const DISCONNECT: u8 = 14;
}

pub(crate) const PINGRESP: [u8; 2] = [0xD0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// One packet, whole.
#[derive(Debug)]
pub(crate) struct Packet {
    first: u8,
    pub(crate) body: Bytes,
}

/// A PUBLISH at QoS 1.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) topic: Bytes,
    pub(crate) id: u16,
    pub(crate) payload: Bytes,
}

impl Packet {
    /// Take the packet at the front, once it is whole.
    pub(crate) fn take(bytes: &mut BytesMut) -> Result<Option<Self>> {
        let (mut length, mut at) = (0, 1);
        loop {
            let Some(byte) = bytes.get(at) else { return Ok(None) };
            ensure!(at <= 4, "a packet whose length takes more than four bytes");
            length |= usize::from(byte & 0x7F) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if bytes.len() < at + length {
            return Ok(None);
        }
        let first = bytes[0];
        bytes.advance(at);
        Ok(Some(Self { first, body: bytes.split_to(length).freeze() }))
    }

    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The packet identifier that it begins with.
    pub(crate) fn id(&self) -> Result<u16> {
        let id = self.body.first_chunk().context("a packet without its identifier")?;
        Ok(u16::from_be_bytes(*id))
    }

    pub(crate) fn publish(&self, version: Version) -> Result<Publish> {
        ensure!(self.first & 0x06 == 0x02, "a PUBLISH that is not QoS 1");
        ensure!(self.first & 0x08 == 0, "a PUBLISH that was sent before");
        let mut body = self.body.clone();
        let topic = take_text(&mut body)?;
        let id = body.try_get_u16()?;
        if version == Version::V5 {
            // All properties that occur here are shorter than 128 bytes.
            let properties = body.try_get_u8()?;
            ensure!(body.len() >= properties.into(), "a PUBLISH that ends early");
            body.advance(properties.into());
        }
        Ok(Publish { topic, id, payload: body })
    }

    /// The version, of a CONNECT.
    pub(crate) fn version(&self) -> Result<Version> {
        let level = self.body.get(6).context("a CONNECT that ends early")?;
        Ok(if *level == 5 { Version::V5 } else { Version::V3 })
    }

    /// The ClientID, of a CONNECT.
    pub(crate) fn client_id(&self) -> Result<String> {
        // Behind protocol name, level, flags and keepalive; MQTT 5 has properties there, of which we send none.
        let at = if self.version()? == Version::V5 { 11 } else { 10 };
        ensure!(self.body.len() > at, "a CONNECT that ends early");
        Ok(String::from_utf8(take_text(&mut self.body.slice(at..))?.to_vec())?)
    }

    /// The first topic, of a SUBSCRIBE.
    pub(crate) fn topic(&self, version: Version) -> Result<Bytes> {
        let skipped = if version == Version::V5 { 3 } else { 2 };
        ensure!(self.body.len() > skipped, "a SUBSCRIBE that ends early");
        take_text(&mut self.body.slice(skipped..))
    }
}

fn take_text(body: &mut Bytes) -> Result<Bytes> {
    let length = usize::from(body.try_get_u16()?);
    ensure!(body.len() >= length, "a packet that ends early");
    Ok(body.split_to(length))
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    let mut packet = vec![first];
    while length >= 0x80 {
        packet.push(length as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    parts.iter().for_each(|part| packet.extend_from_slice(part));
    packet
}

/// What MQTT 5 says where it has no properties to tell.
fn no_properties(version: Version) -> &'static [u8] {
    if version == Version::V5 { &[0] } else { &[] }
}

fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text].concat()
}

pub(crate) fn connect(version: Version, client_id: &str, keepalive: u16) -> Vec<u8> {
    let level: &[u8] = if version == Version::V5 { b"\0\x04MQTT\x05\x02" } else { b"\0\x04MQTT\x04\x02" };
    let id = text(client_id.as_bytes());
    packet(0x10, &[level, &keepalive.to_be_bytes(), no_properties(version), &id])
}

pub(crate) fn connack(version: Version) -> Vec<u8> {
    packet(0x20, &[&[0, 0], no_properties(version)])
}

pub(crate) fn subscribe(version: Version, id: u16, topic: &str) -> Vec<u8> {
    packet(0x82, &[&id.to_be_bytes(), no_properties(version), &text(topic.as_bytes()), &[1]])
}

pub(crate) fn suback(version: Version, id: u16) -> Vec<u8> {
    packet(0x90, &[&id.to_be_bytes(), no_properties(version), &[1]])
}

pub(crate) fn publish(version: Version, id: u16, topic: &[u8], payload: &[u8]) -> Vec<u8> {
    packet(0x32, &[&text(topic), &id.to_be_bytes(), no_properties(version), payload])
}

pub(crate) fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &[&id.to_be_bytes()])
}
