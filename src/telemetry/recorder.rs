//! Makes handles. Names, labels and helps are looked at once; whoever counts keeps the handle.

use metrics::{
    Counter, Gauge, Histogram, Label, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// Upper bounds of a histogram's buckets, in seconds: from a LAN's dial to a deadline.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The labels of a series, by name and value.
pub(super) type Labels<'a> = [(&'static str, &'a str)];

/// All series of one gateway, so that two in one process (tests) do not mix.
#[derive(Debug)]
pub(super) struct Recorder {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

/// Counters of a closed set of labels: each is there from the start, at zero.
#[derive(Debug)]
pub struct Closed<const LABELS: usize>(Box<[([&'static str; LABELS], Counter)]>);

impl Recorder {
    /// # Errors
    /// None in practice: the buckets are constants of ours.
    pub(super) fn build() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
            .build_recorder();
        let handle = recorder.handle();
        Ok(Self { recorder, handle })
    }

    /// The counter of this name and these labels, which is one for all who ask; at zero, if it is new.
    pub(super) fn counter(&self, name: &'static str, help: &'static str, labels: &Labels<'_>) -> Counter {
        self.with(|| {
            describe_counter!(name, help);
            counter!(name, kept(labels))
        })
    }

    /// The gauge of this name and these labels.
    pub(super) fn gauge(&self, name: &'static str, help: &'static str, labels: &Labels<'_>) -> Gauge {
        self.with(|| {
            describe_gauge!(name, help);
            gauge!(name, kept(labels))
        })
    }

    /// The histogram of this name, which ends in `_seconds`, and these labels.
    pub(super) fn histogram(&self, name: &'static str, help: &'static str, labels: &Labels<'_>) -> Histogram {
        self.with(|| {
            describe_histogram!(name, help);
            histogram!(name, kept(labels))
        })
    }

    /// A counter for each of `sets`, which are the values of `keys`; `labels` come before them.
    pub(super) fn closed<const LABELS: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &Labels<'_>,
        keys: [&'static str; LABELS],
        sets: impl IntoIterator<Item = [&'static str; LABELS]>,
    ) -> Closed<LABELS> {
        let counters = sets.into_iter().map(|set| {
            let labels: Vec<_> = labels.iter().copied().chain(keys.into_iter().zip(set)).collect();
            (set, self.counter(name, help, &labels))
        });
        Closed(counters.collect())
    }

    /// What crates register themselves is ours as well.
    pub(super) fn with<T>(&self, register: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.recorder, register)
    }

    /// Sum up the samples of histograms: each is kept until then.
    pub(super) fn sum_up(&self) {
        self.handle.run_upkeep();
    }

    /// All series, in Prometheus' text format.
    pub(super) fn render(&self) -> String {
        self.handle.render()
    }
}

fn kept(labels: &Labels<'_>) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
}

impl<const LABELS: usize> Closed<LABELS> {
    /// One more of these labels.
    pub fn count(&self, labels: [&str; LABELS]) {
        let counter = self.of(labels);
        debug_assert!(counter.is_some(), "{labels:?} is not in its closed set");
        if let Some(counter) = counter {
            counter.increment(1);
        }
    }

    /// The counter of these labels.
    #[must_use]
    pub fn of(&self, labels: [&str; LABELS]) -> Option<&Counter> {
        self.0.iter().find(|(of, _)| *of == labels).map(|(_, counter)| counter)
    }
}

/// Yes is 1, no is 0.
pub(crate) const fn whether(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// How many there are of something.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 of whatever it is")]
pub(crate) const fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_set_is_there_from_the_start() {
        let recorder = Recorder::build().unwrap();
        let closed =
            recorder.closed("n_total", "N", &[("of", "\"it\"")], ["a", "b"], [["x", "y"], ["x", "z"]]);
        closed.count(["x", "z"]);
        let page = recorder.render();
        assert!(page.contains("n_total{of=\"\\\"it\\\"\",a=\"x\",b=\"y\"} 0\n"), "{page}");
        assert!(page.contains("n_total{of=\"\\\"it\\\"\",a=\"x\",b=\"z\"} 1\n"), "{page}");
        assert!(page.contains("# HELP n_total N\n# TYPE n_total counter\n"), "{page}");
        assert!(closed.of(["y", "z"]).is_none());
    }

    #[test]
    fn who_asks_for_the_same_series_counts_on() {
        let recorder = Recorder::build().unwrap();
        let take = || recorder.histogram("took_seconds", "How long", &[("of", "it")]);
        take().record(0.2);
        recorder.sum_up();
        take().record(std::time::Duration::from_secs(11));
        let page = recorder.render();
        for line in
            ["_bucket{of=\"it\",le=\"0.25\"} 1", "_bucket{of=\"it\",le=\"+Inf\"} 2", "_sum{of=\"it\"} 11.2"]
        {
            assert!(page.contains(&format!("took_seconds{line}\n")), "{line} in {page}");
        }
    }
}
