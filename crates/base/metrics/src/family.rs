//! Numbers that can be read while they change.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// Most combinations of labels of one metric; all further ones are counted together.
pub const MAX_SERIES: usize = 1000;
/// Value of every label of the combination that stands for those beyond [`MAX_SERIES`].
pub(crate) const OTHERS: &str = "others";

/// A float that threads share.
#[derive(Debug, Default)]
struct Number(AtomicU64);

impl Number {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    fn add(&self, value: f64) {
        // The closure always gives a value, so the update can't fail.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some((f64::from_bits(bits) + value).to_bits()));
    }
}

/// Something measured, for one combination of labels. Clones share it.
pub trait Metric: Clone + Default + Send + Sync {
    /// Name of the type in the text format.
    const KIND: &'static str;
    /// Lines of the text format: suffix of the name, additional label, value.
    fn lines(&self) -> Vec<(&'static str, Option<(&'static str, f64)>, f64)>;
}

/// Only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<Number>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.add(1.0);
    }

    /// Adds something; what is negative or no number is left out.
    pub fn add(&self, value: f64) {
        if value.is_finite() && value > 0.0 {
            self.0.add(value);
        }
    }

    /// Raises it to a count that is kept elsewhere.
    pub fn raise_to(&self, value: f64) {
        self.add(value - self.0.get());
    }

    /// Its value.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

impl Metric for Counter {
    const KIND: &'static str = "counter";

    fn lines(&self) -> Vec<(&'static str, Option<(&'static str, f64)>, f64)> {
        vec![("", None, self.get())]
    }
}

/// Goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<Number>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// Sets it to a count.
    pub fn set_count(&self, value: usize) {
        self.0.set(value as f64);
    }

    /// Sets it to 1 or 0.
    pub fn set_flag(&self, value: bool) {
        self.0.set(f64::from(u8::from(value)));
    }

    /// Its value.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

impl Metric for Gauge {
    const KIND: &'static str = "gauge";

    fn lines(&self) -> Vec<(&'static str, Option<(&'static str, f64)>, f64)> {
        vec![("", None, self.get())]
    }
}

/// Sum and number of observations.
#[derive(Debug, Clone, Default)]
pub struct Summary(Arc<(Number, AtomicU64)>);

impl Summary {
    /// Takes an observation.
    pub fn observe(&self, value: f64) {
        self.0.0.add(value);
        self.0.1.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a span of time, in seconds.
    pub fn observe_time(&self, time: std::time::Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        self.0.1.load(Ordering::Relaxed)
    }
}

impl Metric for Summary {
    const KIND: &'static str = "summary";

    fn lines(&self) -> Vec<(&'static str, Option<(&'static str, f64)>, f64)> {
        vec![("_sum", None, self.0.0.get()), ("_count", None, self.count() as f64)]
    }
}

/// Upper bounds of a histogram's buckets but the last, which has none.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug, Default)]
struct Buckets {
    sum: Number,
    below: [AtomicU64; BOUNDS.len()],
    all: AtomicU64,
}

/// Observations by size, with the usual bounds from 5 ms to 10 s.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Arc<Buckets>);

impl Histogram {
    /// Takes an observation.
    pub fn observe(&self, value: f64) {
        self.0.sum.add(value);
        for (bound, count) in BOUNDS.iter().zip(&self.0.below) {
            if value <= *bound {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.0.all.fetch_add(1, Ordering::Relaxed);
    }
}

impl Metric for Histogram {
    const KIND: &'static str = "histogram";

    fn lines(&self) -> Vec<(&'static str, Option<(&'static str, f64)>, f64)> {
        let all = self.0.all.load(Ordering::Relaxed) as f64;
        let buckets = BOUNDS.iter().zip(&self.0.below);
        let mut lines: Vec<_> = buckets
            .map(|(bound, count)| ("_bucket", Some(("le", *bound)), count.load(Ordering::Relaxed) as f64))
            .collect();
        lines.push(("_bucket", Some(("le", f64::INFINITY)), all));
        lines.push(("_sum", None, self.0.sum.get()));
        lines.push(("_count", None, all));
        lines
    }
}

/// A metric with all its combinations of labels.
#[derive(Debug)]
pub struct Family<M> {
    /// Its name.
    pub name: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in a line.
    pub help: &'static str,
    series: RwLock<BTreeMap<Vec<String>, M>>,
    kind: PhantomData<M>,
}

impl<M: Metric> Family<M> {
    /// A metric that was not measured yet.
    pub const fn new(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, labels, help, series: RwLock::new(BTreeMap::new()), kind: PhantomData }
    }

    /// The metric for values of its labels, in their order; missing values are empty, further ones are ignored.
    pub fn with(&self, values: &[&str]) -> M {
        let same = |key: &Vec<String>| key.iter().map(String::as_str).eq(values.iter().copied());
        if values.len() == self.labels.len() {
            // No allocation on the way that is taken nearly always.
            if let Some((_, metric)) = self.series.read().iter().find(|(key, _)| same(key)) {
                return metric.clone();
            }
        }
        let mut key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        key.resize(self.labels.len(), String::new());
        let mut series = self.series.write();
        if series.len() >= MAX_SERIES && !series.contains_key(&key) {
            key = vec![OTHERS.to_owned(); self.labels.len()];
        }
        series.entry(key).or_default().clone()
    }

    /// The metric, if it has no labels.
    pub fn get(&self) -> M {
        self.with(&[])
    }

    /// Forgets all combinations of labels.
    pub fn clear(&self) {
        self.series.write().clear();
    }

    /// Combinations of labels with what was measured.
    pub(crate) fn snapshot(&self) -> Vec<(Vec<String>, M)> {
        self.series.read().iter().map(|(key, metric)| (key.clone(), metric.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_bounded() {
        let family: Family<Counter> = Family::new("x", &["peer"], "");
        for n in 0..2 * MAX_SERIES {
            family.with(&[&n.to_string()]).inc();
        }
        assert_eq!(family.snapshot().len(), MAX_SERIES + 1);
        assert_eq!(family.with(&[OTHERS]).get(), MAX_SERIES as f64);
        family.with(&["7"]).inc();
        assert_eq!(family.with(&["7"]).get(), 2.0);
    }

    #[test]
    fn counters_only_grow() {
        let counter = Counter::default();
        counter.add(2.0);
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            counter.add(wrong);
        }
        counter.raise_to(1.0);
        assert_eq!(counter.get(), 2.0);
        counter.raise_to(5.0);
        assert_eq!(counter.get(), 5.0);
    }

    #[test]
    fn threads_lose_nothing() {
        let (counter, summary) = (Counter::default(), Summary::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counter.inc();
                        summary.observe(0.5);
                    }
                });
            }
        });
        assert_eq!(counter.get(), 4000.0);
        assert_eq!((summary.count(), summary.lines()[0].2), (4000, 2000.0));
    }
}
