//! `pipectl chaos history` and `report`: what there was.

use pipectl_shared::chaos::{Form, HistoryParams, Report, ReportParams, Summary};
use pipectl_shared::snapshot::Page;

use super::super::Verdict;
use super::super::app::App;
use super::super::page;
use super::tone;
use crate::client::Whole;
use crate::clock::rfc3339;
use crate::failure::{Exit, Failure};
use crate::output::human::{UNKNOWN, duration_ms, latency_ms, or_unknown};
use crate::output::{Cell, Column, Format, Table, Tone, clean};

/// List the runs, newest first
#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// Only runs of this experiment
    name: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Only runs before this one: go on where a page ended
    #[arg(long, value_name = "ID")]
    cursor: Option<String>,
}

/// Print a file of a run: its report, or what programs read
#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Which run; the last that has ended when absent
    id: Option<String>,
    /// Which file
    #[arg(long, value_enum, value_name = "FORM")]
    form: Option<FormArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormArg {
    /// For people, with charts
    Markdown,
    /// The document of the run
    Json,
    /// The journal, with the names of Chaos Toolkit
    Journal,
    /// For CI
    Junit,
    /// One row a second, CSV
    Series,
}

impl From<FormArg> for Form {
    fn from(form: FormArg) -> Self {
        match form {
            FormArg::Markdown => Self::Markdown,
            FormArg::Json => Self::Json,
            FormArg::Journal => Self::Journal,
            FormArg::Junit => Self::Junit,
            FormArg::Series => Self::Series,
        }
    }
}

const KEYS: &[&str] = &[
    "id",
    "experiment",
    "started_ms",
    "ended_ms",
    "seed",
    "verdict",
    "why",
    "by",
    "recover_ms",
    "availability",
    "lost",
    "duplicated",
];

const COLUMNS: &[Column] = &[
    Column::text("WHEN", 3, 20),
    Column::text("EXPERIMENT", 0, 12),
    Column::text("VERDICT", 0, 12),
    Column::text("WHY", 2, 16),
    Column::number("RECOVER", 4),
    Column::number("AVAIL", 4),
    Column::number("LOST", 5),
    Column::number("DOUBLED", 6),
    Column::text("BY", 7, 4),
    // An id that is cut opens nothing.
    Column::text("ID", 1, 40),
];

pub(super) fn history(app: &App, args: &HistoryArgs) -> Verdict {
    app.view(|client| {
        let params = HistoryParams {
            name: args.name.clone(),
            limit: Some(args.limit),
            before: args.cursor.clone(),
        };
        let page: Page<Whole<Summary>> = client.call("chaos.history", params)?;
        let mut table = Table::new(COLUMNS);
        for row in &page.rows {
            let verdict = match row.verdict {
                Some(verdict) => Cell::new(verdict.word()).tone(tone(verdict)),
                None => Cell::new(UNKNOWN).tone(Tone::Warn),
            };
            let count = |n: Option<u64>| Cell::new(or_unknown(n, |n| n.to_string()));
            table.rows.push(vec![
                Cell::new(rfc3339(row.started_ms)),
                Cell::new(&row.experiment).tone(Tone::Strong),
                verdict,
                Cell::new(&row.why),
                Cell::new(or_unknown(row.recover_ms, latency_ms)),
                Cell::new(or_unknown(row.availability, share)),
                count(row.lost),
                count(row.duplicated),
                Cell::new(&row.by),
                Cell::new(&row.id).tone(Tone::Dim),
            ]);
        }
        page::document(
            "chaos-runs",
            &page,
            KEYS,
            table,
            "no experiment has run here yet",
        )
    })
}

pub(super) fn report(app: &App, args: ReportArgs) -> Verdict {
    let form = match (args.form, app.screen.format) {
        (Some(form), _) => form.into(),
        (None, Format::Json | Format::Jsonl) => Form::Json,
        (None, Format::Csv) => Form::Series,
        (None, Format::Text | Format::Md) => Form::Markdown,
    };
    let report = get(&mut app.connect()?, args.id, form)?;
    app.debug(&format!("run {}", report.id));
    app.screen.write(&cleaned(form, &report.text))?;
    Ok(Exit::Ok)
}

/// A file of a run.
pub(super) fn get(
    client: &mut crate::client::Client,
    id: Option<String>,
    form: Form,
) -> Result<Report, Failure> {
    Ok(client.call("chaos.report", ReportParams { id, form })?)
}

/// The text of a file, harmless for a terminal, still the same document for a program.
pub(super) fn cleaned(form: Form, text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match form {
            Form::Json | Form::Journal => out.push_str(&clean::json(line)),
            Form::Markdown | Form::Junit | Form::Series => out.push_str(&clean::line(line)),
        }
        out.push('\n');
    }
    out
}

/// `99.95%`; never rounded up to all.
pub(super) fn share(share: f64) -> String {
    if !share.is_finite() {
        return UNKNOWN.to_owned();
    }
    let text = format!("{:.2}%", (share * 10_000.0).floor() / 100.0);
    if text == "100.00%" {
        "100%".to_owned()
    } else {
        text
    }
}

/// Milliseconds that may not be known.
pub(super) fn ms(value: Option<f64>) -> String {
    or_unknown(value, |ms| {
        if ms < 1_000.0 {
            latency_ms(ms)
        } else {
            duration_ms(ms as u64)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_up_to_all() {
        assert_eq!(share(1.0), "100%");
        assert_eq!(share(0.999_99), "99.99%");
        assert_eq!(share(0.5), "50.00%");
        assert_eq!(share(f64::NAN), "?");
    }

    #[test]
    fn a_report_cannot_reach_the_terminal() {
        let text = cleaned(Form::Markdown, "# a\u{1b}[2J\n\n| b |\n");
        assert!(
            !text.contains('\u{1b}') && text.ends_with("\n\n| b |\n"),
            "{text}"
        );
        let json = cleaned(Form::Json, "{\"a\": \"\u{202e}\"}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["a"], "\u{202e}");
    }
}
