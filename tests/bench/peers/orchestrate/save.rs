//! Puts a run's results where readers find them: a section of docs/performance.md, and data and pictures in
//! docs/performance/.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::contestant::Contestant;
use super::plot;
use super::results::Results;

const BEGIN: &str = "<!-- what follows is written by `just bench-peers --save` -->\n";
const END: &str = "<!-- until here -->\n";

/// Replaces what an earlier run has left.
pub(super) fn save(root: &Path, results: &Results, contestants: &[Contestant], report: &str) -> Result<()> {
    let folder = root.join("docs/performance");
    fs::create_dir_all(&folder)?;
    write(&folder.join("results.json"), &format!("{:#}\n", results.json()))?;
    write(&folder.join("figures.svg"), &plot::bars(results, contestants))?;
    write(&folder.join("memory.svg"), &plot::memory(results, contestants))?;

    let page = root.join("docs/performance.md");
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let (before, rest) =
        text.split_once(BEGIN).with_context(|| format!("{} has no line {BEGIN}", page.display()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{} has no line {END}", page.display()))?;
    ensure!(!after.contains(BEGIN), "{} has the marker twice", page.display());
    write(&page, &format!("{before}{BEGIN}\n{}\n\n{END}{after}", report.trim_end()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
