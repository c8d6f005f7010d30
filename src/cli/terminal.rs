//! How things are written on a terminal: in columns, cut where it ends, with nothing that steers it.

use std::io::{self, IsTerminal};

use terminal_size::{Height, Width, terminal_size};

use crate::telemetry::harmless::steers;

/// How many columns and rows there are, where this is a terminal.
pub(super) fn size_of_terminal() -> Option<(usize, usize)> {
    let size = if io::stdout().is_terminal() { terminal_size() } else { None };
    size.map(|(Width(columns), Height(rows))| (columns.into(), rows.into()))
}

/// `text` without anything that steers a terminal, or turns its direction.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|sign| if steers(sign) { '\u{fffd}' } else { sign }).collect()
}

/// As wide as `width`.
pub(super) fn pad(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let missing = width.saturating_sub(text.chars().count());
    text + &" ".repeat(missing)
}

/// No longer than `width`, with a sign where something is missing.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Seconds as the two largest units.
pub(super) fn span(seconds: u64) -> String {
    let units =
        [("d", seconds / 86400), ("h", seconds / 3600 % 24), ("min", seconds / 60 % 60), ("s", seconds % 60)];
    let parts: Vec<_> = units
        .iter()
        .filter(|(_, count)| *count > 0)
        .take(2)
        .map(|(unit, count)| format!("{count} {unit}"))
        .collect();
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

/// Bytes in the unit that suits.
pub(super) fn size(mut bytes: f64) -> String {
    for unit in ["B", "KiB", "MiB"] {
        if bytes < 1024.0 {
            return if unit == "B" { format!("{bytes:.0} B") } else { format!("{bytes:.1} {unit}") };
        }
        bytes /= 1024.0;
    }
    format!("{bytes:.1} GiB")
}
