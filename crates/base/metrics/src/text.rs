//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use crate::family::{Family, Metric};
use crate::table;

/// Content type of the text format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written.
#[derive(Debug, Default)]
pub(crate) struct Page {
    families: Vec<(&'static str, String)>,
}

impl Page {
    /// Adds a metric. What is set by something but was not yet shows as 0, unless it has labels.
    pub(crate) fn add<M: Metric>(&mut self, family: &Family<M>, fed: bool) {
        let mut series = family.snapshot();
        if series.is_empty() {
            if !fed || !family.labels.is_empty() {
                return;
            }
            series.push((Vec::new(), M::default()));
        }
        let name = family.name;
        let mut text = format!("# HELP {name} {}\n# TYPE {name} {}\n", escape(family.help, false), M::KIND);
        for (values, metric) in series {
            let labels: Vec<String> = family
                .labels
                .iter()
                .zip(&values)
                .map(|(l, value)| format!("{l}=\"{}\"", escape(value, true)))
                .collect();
            for (suffix, extra, value) in metric.lines() {
                let extra = extra.map(|(label, bound)| format!("{label}=\"{}\"", number(bound)));
                let all: Vec<String> = labels.iter().cloned().chain(extra).collect();
                let all = if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) };
                let _ = writeln!(text, "{name}{suffix}{all} {}", number(value));
            }
        }
        self.families.push((name, text));
    }

    fn finish(mut self) -> String {
        self.families.sort();
        self.families.into_iter().map(|(_, text)| text).collect()
    }
}

/// Everything that was measured, in the order of names.
pub fn render() -> String {
    let mut page = Page::default();
    table::expose_oasis(&mut page);
    table::expose_cometbft(&mut page);
    table::expose_process(&mut page);
    page.finish()
}

fn escape(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}

/// A number as the reference's client prints it: shortest digits, with an exponent from 10^6 on and below 10^-4.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent @ (..-4 | 6..)) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Counter, Gauge, Histogram, Summary};

    fn page<M: Metric>(family: &Family<M>) -> String {
        let mut page = Page::default();
        page.add(family, true);
        page.finish()
    }

    #[test]
    fn writes_all_types() {
        let counter: Family<Counter> = Family::new("c", &["a", "b"], "Back\\slash.");
        assert_eq!(page(&counter), "");
        counter.with(&["x\"\\\ny", "z"]).inc();
        counter.with(&["short"]).add(2.5);
        assert_eq!(
            page(&counter),
            "# HELP c Back\\\\slash.\n# TYPE c counter\nc{a=\"short\",b=\"\"} 2.5\nc{a=\"x\\\"\\\\\\ny\",b=\"z\"} 1\n"
        );
        let gauge: Family<Gauge> = Family::new("g", &[], "G.");
        assert_eq!(page(&gauge), "# HELP g G.\n# TYPE g gauge\ng 0\n");
        let summary: Family<Summary> = Family::new("s", &[], "S.");
        summary.get().observe(0.25);
        summary.get().observe(0.25);
        assert_eq!(page(&summary), "# HELP s S.\n# TYPE s summary\ns_sum 0.5\ns_count 2\n");
        let histogram: Family<Histogram> = Family::new("h", &["l"], "H.");
        histogram.with(&["v"]).observe(0.3);
        let text = page(&histogram);
        assert!(text.contains("h_bucket{l=\"v\",le=\"0.25\"} 0\nh_bucket{l=\"v\",le=\"0.5\"} 1\n"), "{text}");
        assert!(text.ends_with("h_bucket{l=\"v\",le=\"+Inf\"} 1\nh_sum{l=\"v\"} 0.3\nh_count{l=\"v\"} 1\n"), "{text}");
    }

    #[test]
    fn numbers_are_as_the_reference_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e21, "1e+21"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
