//! What was measured, against what was promised.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{host, note};

/// What a figure must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Only told.
    None,
}

impl Goal {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
            Self::None => true,
        }
    }

    /// At least, at most.
    pub(crate) fn bounds(self) -> (Option<f64>, Option<f64>) {
        match self {
            Self::AtLeast(goal) => (Some(goal), None),
            Self::AtMost(goal) => (None, Some(goal)),
            Self::None => (None, None),
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::AtLeast(goal) => format!(">= {goal}"),
            Self::AtMost(goal) => format!("<= {goal}"),
            Self::None => String::new(),
        }
    }
}

struct Figure {
    bench: &'static str,
    name: String,
    unit: &'static str,
    samples: Vec<f64>,
    goal: Goal,
}

impl Figure {
    fn value(&self) -> f64 {
        median(&self.samples)
    }
}

pub(crate) struct Report {
    quick: bool,
    n_cpus: usize,
    model: String,
    load: f64,
    figures: Vec<Figure>,
    failures: Vec<(String, String)>,
}

impl Report {
    pub(crate) fn new(quick: bool) -> Result<Self> {
        let (n_cpus, model) = host::machine();
        Ok(Self {
            quick,
            n_cpus,
            model,
            load: host::load(),
            figures: Vec::new(),
            failures: Vec::new(),
        })
    }

    /// A figure from one or more rounds; the median counts.
    pub(crate) fn figure(
        &mut self,
        bench: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        samples: Vec<f64>,
        goal: Goal,
    ) {
        let figure = Figure {
            bench,
            name: name.into(),
            unit,
            samples,
            goal,
        };
        note(line(&figure).trim_end());
        self.figures.push(figure);
    }

    /// A measurement that broke or counted wrong.
    pub(crate) fn failed(&mut self, bench: &str, error: &str) {
        note(&format!("{bench} failed: {error}"));
        self.failures.push((bench.to_owned(), error.to_owned()));
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failures.is_empty() && self.figures.iter().all(|f| f.goal.is_met(f.value()))
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{} x {}, load {:.2} at the start, clients and servers unpinned on Unix sockets\n",
            self.n_cpus, self.model, self.load
        );
        if self.quick {
            text.push_str("--quick: too short for figures to be quoted\n");
        }
        for figure in &self.figures {
            text.push_str(&line(figure));
        }
        for (bench, error) in &self.failures {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{bench:<8} FAILED: {error}");
        }
        text.push_str(if self.is_good() {
            "all goals met, all counts right\n"
        } else {
            "NOT all goals met\n"
        });
        text
    }

    pub(crate) fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|f| {
                let (at_least, at_most) = f.goal.bounds();
                json!({
                    "bench": f.bench,
                    "name": f.name,
                    "unit": f.unit,
                    "median": f.value(),
                    "rounds": f.samples,
                    "at_least": at_least,
                    "at_most": at_most,
                    "met": f.goal.is_met(f.value()),
                })
            })
            .collect();
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|(bench, error)| json!({"bench": bench, "error": error}))
            .collect();
        json!({
            "schema": "pipelined-bench/result/1",
            "quick": self.quick,
            "machine": {
                "cpus": self.n_cpus,
                "model": self.model,
                "load": self.load,
                "placement": "unpinned, Unix sockets",
            },
            "figures": figures,
            "failures": failures,
            "good": self.is_good(),
        })
    }
}

fn line(figure: &Figure) -> String {
    let value = figure.value();
    let mut line = format!(
        "{:<8} {:<46} {:>10} {:<10}",
        figure.bench,
        figure.name,
        shown(value),
        figure.unit
    );
    if figure.samples.len() > 1 {
        let least = figure.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figure.samples.iter().copied().fold(0.0, f64::max);
        let range = format!("{}..{}", shown(least), shown(most));
        // Writing to a String cannot fail.
        let _ = write!(line, " {range:<18}");
    } else {
        line.push_str(&" ".repeat(19));
    }
    if !matches!(figure.goal, Goal::None) {
        let verdict = if figure.goal.is_met(value) {
            "met"
        } else {
            "MISSED"
        };
        // As above.
        let _ = write!(line, " {} {verdict}", figure.goal.text());
    }
    format!("{}\n", line.trim_end())
}

pub(crate) fn shown(value: f64) -> String {
    if value >= 1_000.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => 0.0,
        _ if n % 2 == 1 => sorted[n / 2],
        _ => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_missed_goal_and_a_failure_are_no_success() {
        let mut report = Report::new(true).unwrap();
        assert!(report.is_good());
        report.figure("a", "x", "ms", vec![5.0, 6.0, 400.0], Goal::AtMost(6.0));
        assert!(report.is_good());
        report.figure("a", "y", "ratio", vec![0.3], Goal::AtLeast(0.4));
        assert!(!report.is_good());
        let mut report = Report::new(true).unwrap();
        report.failed("b", "wrong counts");
        assert!(!report.is_good());
    }
}
