//! The results as pictures: bars for each figure, and memory over the number of sessions. They follow the
//! reader's choice of dark or light.

use std::fmt::Write as _;

use super::contestant::{Contestant, Kind};
use super::figure::{Figure, Row};
use super::report::number;
use super::results::Results;

/// What is drawn as bars.
const BARS: [Figure; 10] = [
    Figure::MemoryConnected,
    Figure::MemoryBurst,
    Figure::EverydayCpu,
    Figure::EverydayP50,
    Figure::LoadCpu,
    Figure::FanOutCpu,
    Figure::Bulk16Cpu,
    Figure::Bulk256Cpu,
    Figure::FullCpu,
    Figure::ResumedCpu,
];

/// In pixels.
const PANEL: f64 = 430.0;
const LINE: f64 = 18.0;
const LABEL: f64 = 110.0;
const VALUE: f64 = 46.0;

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.grid { stroke: #d0d7de; stroke-width: 1 }
.peer { fill: #8c959f; stroke: #8c959f }
.ours { fill: #1a7f37; stroke: #1a7f37 }
.line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.grid { stroke: #30363d }
.peer { fill: #7d8590; stroke: #7d8590 }
.ours { fill: #3fb950; stroke: #3fb950 }
}";

/// A panel of bars for each figure, two panels beside each other.
pub(super) fn bars(results: &Results, contestants: &[Contestant]) -> String {
    let rows: Vec<Row> = BARS.into_iter().map(Row::from).filter(|row| results.rows().contains(row)).collect();
    let shown: Vec<&Contestant> = contestants.iter().filter(|it| it.kind != Kind::Direct).collect();
    let height = (shown.len() as f64 + 2.0) * LINE;
    let mut body = String::new();
    for (number, row) in rows.iter().enumerate() {
        let (x, y) = ((number % 2) as f64 * (PANEL + 20.0), (number / 2) as f64 * height);
        let _ = writeln!(body, "<g transform=\"translate({x},{y})\">");
        panel(&mut body, results, &shown, *row);
        body.push_str("</g>\n");
    }
    document(2.0 * PANEL + 20.0, rows.len().div_ceil(2) as f64 * height, &body)
}

fn panel(body: &mut String, results: &Results, contestants: &[&Contestant], row: Row) {
    let most = contestants.iter().filter_map(|it| results.median(row, &it.name)).fold(0.0, f64::max);
    text(body, 0.0, LINE, "class=\"title\"", &row.title());
    for (line, contestant) in contestants.iter().enumerate() {
        let y = (line as f64 + 1.0) * LINE + 5.0;
        text(body, LABEL - 6.0, y + 12.0, "text-anchor=\"end\"", &contestant.name);
        let Some(value) = results.median(row, &contestant.name) else { continue };
        let width = value / most * (PANEL - LABEL - VALUE);
        let _ = writeln!(
            body,
            "<rect class=\"{}\" x=\"{LABEL}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{}\"/>",
            class(contestant),
            y + 2.0,
            LINE - 5.0
        );
        text(body, LABEL + width + 5.0, y + 12.0, "", &number(value));
    }
}

/// Memory of the process over the number of sessions held, both axes logarithmic.
pub(super) fn memory(results: &Results, contestants: &[Contestant]) -> String {
    let (width, height) = (900.0, 320.0);
    let (left, right, top, bottom) = (50.0, 140.0, 30.0, 30.0);
    let rows: Vec<Row> = results.rows().into_iter().filter(|row| row.figure == Figure::HeldTotal).collect();
    let lines: Vec<(&Contestant, Vec<(f64, f64)>)> = contestants
        .iter()
        .map(|it| {
            (it, rows.iter().filter_map(|row| Some((row.held as f64, results.median(*row, &it.name)?))))
        })
        .map(|(it, points)| (it, points.filter(|(_, value)| *value > 0.0).collect()))
        .collect();
    let all: Vec<(f64, f64)> = lines.iter().flat_map(|(_, points)| points.clone()).collect();
    let span = |values: &mut dyn Iterator<Item = f64>| {
        let values: Vec<f64> = values.map(f64::log10).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        (least, values.iter().copied().fold(f64::NEG_INFINITY, f64::max).max(least + 0.1))
    };
    let (across, up) = (span(&mut all.iter().map(|it| it.0)), span(&mut all.iter().map(|it| it.1)));
    let at = |value: f64, (least, most): (f64, f64)| (value.log10() - least) / (most - least);
    let x = |value: f64| left + at(value, across) * (width - left - right);
    let y = |value: f64| height - bottom - at(value, up) * (height - top - bottom);

    let mut body = String::new();
    text(&mut body, 0.0, LINE, "class=\"title\"", "memory of the process by sessions held, MiB");
    for row in &rows {
        let x = x(row.held as f64);
        let _ = writeln!(body, "<path class=\"grid\" d=\"M{x:.1},{top} V{}\"/>", height - bottom);
        text(&mut body, x, height - bottom + 18.0, "text-anchor=\"middle\"", &row.held.to_string());
    }
    for value in [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0_f64] {
        if (up.0..=up.1).contains(&value.log10()) {
            let y = y(value);
            let _ = writeln!(body, "<path class=\"grid\" d=\"M{left},{y:.1} H{}\"/>", width - right);
            text(&mut body, left - 6.0, y + 4.0, "text-anchor=\"end\"", &format!("{value}"));
        }
    }
    let mut last_y = f64::INFINITY;
    let mut ordered: Vec<_> = lines.iter().filter(|(_, points)| !points.is_empty()).collect();
    ordered.sort_by(|one, other| {
        y(one.1[one.1.len() - 1].1).total_cmp(&y(other.1[other.1.len() - 1].1)).reverse()
    });
    for (contestant, points) in ordered {
        let path: Vec<String> = points.iter().map(|it| format!("{:.1},{:.1}", x(it.0), y(it.1))).collect();
        let _ = writeln!(
            body,
            "<path class=\"line {}\" style=\"fill:none\" d=\"M{}\"/>",
            class(contestant),
            path.join(" L")
        );
        let end = points[points.len() - 1];
        // From below upwards, each label above the last.
        last_y = (y(end.1) + 4.0).min(last_y - 14.0);
        text(&mut body, x(end.0) + 6.0, last_y, "", &format!("{} {}", contestant.name, number(end.1)));
    }
    document(width, height, &body)
}

fn class(contestant: &Contestant) -> &'static str {
    if contestant.is_brokergate() { "ours" } else { "peer" }
}

fn text(body: &mut String, x: f64, y: f64, attributes: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{words}</text>");
}

fn document(width: f64, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\">\n\
         <style>\n{STYLE}\n</style>\n{body}</svg>\n"
    )
}
