//! Values that many sections share: durations, sizes, weights, names; and how one word of the file
//! is read into any of them.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use toml::Spanned;

/// An endpoint's share of the sessions, 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(NonZeroU16);

impl Weight {
    /// The weight of an endpoint that names none.
    pub const ONE: Self = Self(NonZeroU16::MIN);
    /// The largest weight.
    pub const MAX: u16 = 1000;

    /// A weight, or `None` outside 1 to 1000.
    #[must_use]
    pub fn new(value: u16) -> Option<Self> {
        NonZeroU16::new(value).filter(|_| value <= Self::MAX).map(Self)
    }

    /// The weight as a number, 1 to 1000.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0.get()
    }
}

/// A value that the file holds as one word or number.
pub(super) trait Leaf: Sized {
    /// What to write, such as `a duration such as "10s"`.
    const FORM: &'static str;

    /// Read a text; the error is a sentence for the person who wrote it.
    fn text(text: &str) -> Result<Self, String>;

    /// Read a number.
    fn number(number: i64) -> Result<Self, String> {
        Err(format!("found {number}; write {}", Self::FORM))
    }
}

/// A [`Leaf`] as serde reads it.
#[derive(Debug, Clone)]
pub(super) struct Parsed<T>(pub(super) T);

/// A leaf that may be left out, and knows where it stands.
pub(super) type Written<T> = Option<Spanned<Parsed<T>>>;

/// A list of leaves that may be left out, each knowing where it stands.
pub(super) type WrittenList<T> = Option<Spanned<Vec<Spanned<Parsed<T>>>>>;

impl<'de, T: Leaf> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LeafVisitor(PhantomData)).map(Self)
    }
}

struct LeafVisitor<T>(PhantomData<T>);

impl<T: Leaf> Visitor<'_> for LeafVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::FORM)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::text(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::number(number).map_err(E::custom)
    }
}

/// A word for the usual case, or a table for all of it.
#[derive(Debug)]
pub(super) enum Either<W, T> {
    /// One word.
    Word(W),
    /// A table.
    Table(T),
}

impl<'de, W: Leaf, T: Deserialize<'de>> Deserialize<'de> for Either<W, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherVisitor(PhantomData))
    }
}

struct EitherVisitor<W, T>(PhantomData<(W, T)>);

impl<'de, W: Leaf, T: Deserialize<'de>> Visitor<'de> for EitherVisitor<W, T> {
    type Value = Either<W, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a table", W::FORM)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        W::text(text).map(Either::Word).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Either::Table)
    }
}

/// A value that the word `off` switches off.
#[derive(Debug, Clone)]
pub(super) enum OrOff<T> {
    /// `off`
    Off,
    /// Anything else.
    On(T),
}

impl Leaf for OrOff<Duration> {
    const FORM: &'static str = "a duration such as \"60s\", or \"off\"";

    fn text(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self::Off) } else { Duration::text(text).map(Self::On) }
    }
}

impl Leaf for OrOff<i64> {
    const FORM: &'static str = "a whole number, or \"off\"";

    fn text(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self::Off) } else { Err(format!("found {text:?}; write {}", Self::FORM)) }
    }

    fn number(number: i64) -> Result<Self, String> {
        Ok(Self::On(number))
    }
}

impl Leaf for Duration {
    const FORM: &'static str = "a duration such as \"10s\"";

    fn text(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map_err(|_| {
            format!(
                "{text:?} is not a duration; write a number and a unit, such as \"500ms\", \"10s\" or \"5m\""
            )
        })
    }

    fn number(number: i64) -> Result<Self, String> {
        Err(format!("{number} has no unit; write a duration such as \"{number}s\""))
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) u64);

impl Leaf for Size {
    const FORM: &'static str = "a size such as \"64 KiB\"";

    fn text(text: &str) -> Result<Self, String> {
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| {
            format!("{text:?} is not a size; write a number and a unit, such as \"64 KiB\" or \"16 MiB\"")
        })
    }

    fn number(number: i64) -> Result<Self, String> {
        u64::try_from(number).map(Self).map_err(|_| format!("{number} is not a size; write {}", Self::FORM))
    }
}

impl Leaf for String {
    const FORM: &'static str = "a text in quotes";

    fn text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("this text is empty; write something, or leave the key out".to_owned());
        }
        Ok(text.to_owned())
    }
}

/// A name that logs and metrics carry as a label.
#[derive(Debug, Clone)]
pub(super) struct Label(pub(super) Arc<str>);

impl Label {
    /// The longest name, in characters.
    const LONGEST: usize = 200;
}

impl Leaf for Label {
    const FORM: &'static str = "a name in quotes";

    fn text(text: &str) -> Result<Self, String> {
        let printable = !text.trim().is_empty() && text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
        if printable && text.len() <= Self::LONGEST {
            return Ok(Self(text.into()));
        }
        Err(format!(
            "this name cannot be a label in metrics; write up to {} letters, digits and marks of ASCII",
            Self::LONGEST
        ))
    }
}

impl Leaf for IpAddr {
    const FORM: &'static str = "an IP address such as \"192.0.2.1\"";

    fn text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            format!("{text:?} is not an IP address; write one such as \"192.0.2.1\" or \"2001:db8::1\"")
        })
    }
}

impl Leaf for IpNet {
    const FORM: &'static str = "a network such as \"10.0.0.0/8\"";

    fn text(text: &str) -> Result<Self, String> {
        text.parse::<Self>()
            .map(|network| network.trunc())
            .or_else(|_| text.parse::<IpAddr>().map(Self::from))
            .map_err(|_| {
                format!(
                    "{text:?} is not a network; \
             write one such as \"10.0.0.0/8\", or an address such as \"192.0.2.1\""
                )
            })
    }
}
