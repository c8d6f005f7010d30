//! What clients chose, written so that it steers nothing: no terminal it is shown on, and no reader of its text.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// Whether a sign steers a terminal, turns the direction of text, or is not to be seen.
pub(crate) const fn steers(sign: char) -> bool {
    // C0, DEL and C1; line and paragraph separators, and annotations; and what Unicode has as
    // Default_Ignorable_Code_Point: soft hyphen, marks of direction, joiners, fillers, variation selectors, tags.
    matches!(sign,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}'..='\u{2029}' | '\u{fff9}'..='\u{fffb}'
        | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// `text` on one line: what would steer stands there as `\u{202e}`.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for sign in text.chars() {
        if steers(sign) { shown.extend(sign.escape_unicode()) } else { shown.push(sign) }
    }
    shown
}

/// JSON that is the same to programs, and harmless to people who look at it as it is. Text and numbers alone: what
/// could fail is left out.
pub(crate) fn to_json(value: &impl Serialize, into: &mut Vec<u8>) {
    let before = into.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *into, Harmless);
    if value.serialize(&mut serializer).is_err() {
        into.truncate(before);
    }
}

struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        write_fragment(writer, text)
    }
}

/// A line of JSON that somebody else wrote: nothing but its strings can hold what steers.
pub(crate) fn write_line(writer: &mut impl io::Write, line: &[u8]) -> io::Result<()> {
    let (text, end) = line.strip_suffix(b"\n").map_or((line, &b""[..]), |text| (text, b"\n"));
    match std::str::from_utf8(text) {
        Ok(text) => write_fragment(writer, text)?,
        Err(_) => writer.write_all(text)?,
    }
    writer.write_all(end)
}

/// A piece of a JSON string, of which quotes and backslashes were seen to.
fn write_fragment<W: ?Sized + io::Write>(writer: &mut W, text: &str) -> io::Result<()> {
    // Nearly all there is (`roster-slice-listed`).
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return writer.write_all(text.as_bytes());
    }
    let mut rest = text;
    while let Some((at, sign)) = rest.char_indices().find(|(_, sign)| steers(*sign)) {
        writer.write_all(&rest.as_bytes()[..at])?;
        for unit in sign.encode_utf16(&mut [0; 2]) {
            writer.write_all(&escaped(*unit))?;
        }
        rest = &rest[at + sign.len_utf8()..];
    }
    writer.write_all(rest.as_bytes())
}

/// `\u202e`. By its digits, for tens of thousands of them may be one ClientID, which is written in one turn.
fn escaped(unit: u16) -> [u8; 6] {
    let digit = |shift: u16| b"0123456789abcdef"[usize::from(unit >> shift & 0xF)];
    [b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_reads_the_same_and_steers_nothing() {
        for sign in (0..=0x10_FFFF).filter_map(char::from_u32) {
            let text = format!("a\"{sign}\\b");
            let mut json = Vec::new();
            to_json(&text, &mut json);
            let json = String::from_utf8(json).unwrap();
            assert!(!json.chars().any(steers), "{json:?}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            let sign = sign.to_string();
            assert!(!shown(&sign).chars().any(|sign| steers(sign) || sign.is_control()));
        }
    }

    #[test]
    fn what_is_shown_is_one_line_without_sequences() {
        assert_eq!(shown("\x1b[2J\u{202e}evil\r\n"), "\\u{1b}[2J\\u{202e}evil\\u{d}\\u{a}");
        assert_eq!(shown("Gerät-7 传感器"), "Gerät-7 传感器");
        // Two names that look alike are told apart.
        for unseen in ["\u{200b}", "\u{3164}", "\u{fe0f}", "\u{34f}", "\u{e0100}"] {
            assert!(shown(&format!("sensor{unseen}")).starts_with("sensor\\u{"), "{unseen:?}");
        }
    }
}
