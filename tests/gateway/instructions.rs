//! What the instruction benchmark says of new figures. It stands here because a benchmark has no tests.

#[path = "../bench/instructions/figures.rs"]
#[expect(dead_code, reason = "the benchmark also loads and stores them")]
mod figures;

use figures::{Counts, Figures, Verdict};

fn judge(then: (f64, f64), now: (f64, f64)) -> Verdict {
    let counts = |(instructions, calls)| Counts { instructions, calls };
    let mut figures = Figures::default();
    figures.accept("skim", counts(then));
    figures.judge("skim", counts(now))
}

#[test]
fn a_twentieth_more_is_too_much() {
    assert_eq!(judge((100.0, 2.0), (105.0, 2.0)), Verdict::Same);
    assert!(!judge((100.0, 2.0), (105.1, 2.0)).is_good());
    assert_eq!(judge((100.0, 2.0), (120.0, 2.0)).to_string().trim(), "20.0 % more instructions than 100.0");
}

#[test]
fn one_more_call_is_too_much() {
    assert_eq!(judge((100.0, 2.0), (90.0, 3.0)).to_string().trim(), "50.0 % more calls than 2.0");
    assert!(!judge((100.0, 0.0), (100.0, 1.0)).is_good());
}

#[test]
fn less_is_good_and_said() {
    assert_eq!(judge((100.0, 2.0), (95.0, 2.0)), Verdict::Same);
    assert!(matches!(judge((100.0, 2.0), (94.0, 2.0)), Verdict::Shrunk(_)));
    assert!(matches!(judge((100.0, 2.0), (100.0, 1.0)), Verdict::Shrunk(_)));
    assert!(judge((100.0, 2.0), (50.0, 1.0)).is_good());
}

#[test]
fn a_case_without_a_figure_fails() {
    assert_eq!(Figures::default().judge("new", Counts::default()), Verdict::NoFigure);
    assert!(!Verdict::NoFigure.is_good() && !Verdict::NoCase.is_good());
}
