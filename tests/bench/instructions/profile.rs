//! One run of this program under callgrind, and its profile read: the form is that of callgrind's manual, "Callgrind
//! Format Specification".

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::figures::Counts;

/// Run a case `times` times under callgrind.
pub(crate) fn run(case: &str, times: usize) -> Result<Counts> {
    let program = std::env::current_exe()?.canonicalize()?;
    let profile = tempfile::NamedTempFile::new()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
        .arg("--toggle-collect=*counted_window*")
        .arg(format!("--callgrind-out-file={}", profile.path().display()))
        .arg(&program)
        .args(["--count", case, &times.to_string()])
        .output()
        .context("valgrind can't be started; is it installed?")?;
    if !output.status.success() {
        bail!("{case} failed under valgrind:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let counts = read(&std::fs::read_to_string(profile.path())?, &program)?;
    if counts.instructions == 0.0 {
        bail!("{case}: valgrind has seen nothing of it; was the program stripped of its symbols?");
    }
    Ok(counts)
}

/// The sum of what `program` did itself. Lines of cost are `LINE COST`; the one behind `calls=` is the callee's.
fn read(profile: &str, program: &Path) -> Result<Counts> {
    let mut sum = Counts::default();
    let (mut ours, mut callee_is_ours, mut is_callees) = (false, None, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            ours = Path::new(object) == program;
        } else if let Some(object) = line.strip_prefix("cob=") {
            callee_is_ours = Some(Path::new(object) == program);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            if ours && callee_is_ours.take() == Some(false) {
                sum.calls += number(calls.split(' ').next())?;
            }
            is_callees = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            if ours && !is_callees {
                sum.instructions += number(line.split(' ').nth(1))?;
            }
            is_callees = false;
        }
    }
    Ok(sum)
}

fn number(word: Option<&str>) -> Result<f64> {
    word.and_then(|word| word.parse().ok()).context("callgrind's profile has another form than expected")
}
