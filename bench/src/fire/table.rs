//! What was seen, against what reliability.md asks for.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::report::{Goal, shown};
use crate::{host, note};

struct Row {
    trial: &'static str,
    server: String,
    name: String,
    unit: &'static str,
    value: f64,
    goal: Goal,
}

struct Remark {
    trial: String,
    server: String,
    text: String,
}

pub(crate) struct Table {
    seed: u64,
    quick: bool,
    servers: Vec<String>,
    rows: Vec<Row>,
    failures: Vec<Remark>,
    omitted: Vec<Remark>,
}

impl Table {
    pub(crate) fn new(seed: u64, quick: bool) -> Self {
        Self {
            seed,
            quick,
            servers: Vec::new(),
            rows: Vec::new(),
            failures: Vec::new(),
            omitted: Vec::new(),
        }
    }

    /// A server that took part, as it calls itself.
    pub(crate) fn server(&mut self, label: &str, version: &str) {
        self.servers.push(format!("{label} ({version})"));
    }

    pub(crate) fn figure(
        &mut self,
        trial: &'static str,
        server: &str,
        name: &str,
        unit: &'static str,
        value: f64,
        goal: Goal,
    ) {
        let row = Row {
            trial,
            server: server.to_owned(),
            name: name.to_owned(),
            unit,
            value,
            goal,
        };
        note(line(&row).trim_end());
        self.rows.push(row);
    }

    /// A trial that broke off.
    pub(crate) fn failed(&mut self, trial: &str, server: &str, why: &str) {
        note(&format!("{trial} on {server} failed: {why}"));
        self.failures.push(remark(trial, server, why));
    }

    /// What could not run here; it is told and changes nothing else.
    pub(crate) fn not_run(&mut self, trial: &str, server: &str, why: &str) {
        note(&format!("{trial} on {server} not run: {why}"));
        self.omitted.push(remark(trial, server, why));
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failures.is_empty() && self.rows.iter().all(|row| row.goal.is_met(row.value))
    }

    pub(crate) fn text(&self) -> String {
        let (n, model) = host::machine();
        let mut text = format!("seed {}, {n} x {model}\n", self.seed);
        for server in &self.servers {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "server {server}");
        }
        if self.quick {
            text.push_str("--quick: a few rounds of each\n");
        }
        for row in &self.rows {
            text.push_str(&line(row));
        }
        for (word, remarks) in [("NOT RUN", &self.omitted), ("FAILED", &self.failures)] {
            for r in remarks {
                let _ = writeln!(text, "{:<9} {:<8} {word}: {}", r.trial, r.server, r.text);
            }
        }
        text.push_str(if self.is_good() {
            "everything as promised\n"
        } else {
            "NOT everything as promised\n"
        });
        text
    }

    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let (at_least, at_most) = row.goal.bounds();
                json!({
                    "trial": row.trial,
                    "server": row.server,
                    "name": row.name,
                    "unit": row.unit,
                    "value": row.value,
                    "at_least": at_least,
                    "at_most": at_most,
                    "met": row.goal.is_met(row.value),
                })
            })
            .collect();
        let remarks = |remarks: &[Remark]| -> Vec<Value> {
            remarks
                .iter()
                .map(|r| json!({"trial": r.trial, "server": r.server, "why": r.text}))
                .collect()
        };
        let (cpus, model) = host::machine();
        json!({
            "schema": "pipelined-fire/result/1",
            "seed": self.seed,
            "quick": self.quick,
            "machine": {"cpus": cpus, "model": model},
            "servers": self.servers,
            "figures": rows,
            "not_run": remarks(&self.omitted),
            "failures": remarks(&self.failures),
            "good": self.is_good(),
        })
    }
}

fn remark(trial: &str, server: &str, text: &str) -> Remark {
    Remark {
        trial: trial.to_owned(),
        server: server.to_owned(),
        text: text.to_owned(),
    }
}

fn line(row: &Row) -> String {
    let mut line = format!(
        "{:<9} {:<8} {:<58} {:>9} {:<9}",
        row.trial,
        row.server,
        row.name,
        shown(row.value),
        row.unit
    );
    if !matches!(row.goal, Goal::None) {
        let verdict = if row.goal.is_met(row.value) {
            "met"
        } else {
            "MISSED"
        };
        // Writing to a String cannot fail.
        let _ = write!(line, " {} {verdict}", row.goal.text());
    }
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_or_a_failure_is_no_success_and_what_did_not_run_is_named() {
        let mut table = Table::new(1, true);
        table.figure("1", "redis7", "lost", "events", 0.0, Goal::AtMost(0.0));
        table.not_run("3", "redis7", "no loop device");
        assert!(table.is_good());
        assert!(table.text().contains("NOT RUN: no loop device"));
        assert_eq!(table.json()["not_run"][0]["trial"], "3");
        table.figure("1", "redis7", "doubled", "events", 1.0, Goal::AtMost(0.0));
        assert!(!table.is_good());
        let mut table = Table::new(1, true);
        table.failed("1", "redis7", "broke off");
        assert!(!table.is_good());
        assert_eq!(table.json()["good"], false);
    }
}
