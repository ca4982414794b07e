//! Charts of text for a report: one figure over time, eight rows high, with the span of the fault marked beneath.

/// Columns of a chart.
const WIDTH: usize = 72;
/// Rows of a chart.
const HEIGHT: usize = 8;
/// Eighths of a cell, from below.
const PARTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `points` are (seconds since the begin, value; `None` = not known); `fault` is its span in seconds.
pub(super) fn chart(
    title: &str,
    unit: &str,
    points: &[(f64, Option<f64>)],
    fault: Option<(f64, f64)>,
) -> String {
    let end = points.last().map_or(1.0, |(t, _)| *t).max(1.0);
    #[expect(clippy::cast_precision_loss, reason = "a column")]
    let span = |column: usize| {
        (
            end * column as f64 / WIDTH as f64,
            end * (column + 1) as f64 / WIDTH as f64,
        )
    };
    // A value holds from the point before it to its own; the worst of a column is shown: a peak must not vanish in a mean.
    let columns: Vec<Option<f64>> = (0..WIDTH)
        .map(|column| {
            let (from, to) = span(column);
            let begins = std::iter::once(0.0).chain(points.iter().map(|(t, _)| *t));
            let inside = begins
                .zip(points)
                .filter(|(begin, (t, _))| *t > from && *begin < to);
            inside.filter_map(|(_, (_, value))| *value).reduce(f64::max)
        })
        .collect();
    let top = columns.iter().flatten().copied().fold(0.0, f64::max);
    let top = if top > 0.0 { top } else { 1.0 };
    let mut out = format!("{title}, 0 to {} {unit}\n", short(top));
    for row in (0..HEIGHT).rev() {
        out.push_str("  |");
        for value in &columns {
            out.push(value.map_or(if row == 0 { '?' } else { ' ' }, |value| {
                cell(value / top, row)
            }));
        }
        out.push('\n');
    }
    out.push_str("  +");
    out.push_str(&"-".repeat(WIDTH));
    out.push('\n');
    if let Some((from, to)) = fault {
        out.push_str("   ");
        for column in 0..WIDTH {
            let (begin, finish) = span(column);
            out.push(if finish > from && begin <= to {
                '#'
            } else {
                ' '
            });
        }
        out.push_str("  # = fault\n");
    }
    let label = format!("{end:.0} s");
    out.push_str(&format!(
        "   0 s{}{label}\n",
        " ".repeat(WIDTH.saturating_sub(3 + label.len()))
    ));
    out
}

fn cell(share: f64, row: usize) -> char {
    #[expect(clippy::cast_precision_loss, reason = "eight rows")]
    let eighths = (share * HEIGHT as f64 - row as f64) * 8.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 8"
    )]
    let eighths = eighths.round().clamp(0.0, 8.0) as usize;
    // What is there at all is seen.
    let eighths = if row == 0 && share > 0.0 {
        eighths.max(1)
    } else {
        eighths
    };
    PARTS[eighths]
}

fn short(n: f64) -> String {
    if n >= 100.0 {
        format!("{n:.0}")
    } else {
        format!("{n:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_and_the_fault_lies_beneath_it() {
        let points: Vec<(f64, Option<f64>)> = (1..=72)
            .map(|t| {
                (
                    f64::from(t),
                    (t != 50).then_some(if t == 40 { 80.0 } else { 10.0 }),
                )
            })
            .collect();
        let text = chart("lag", "entries", &points, Some((35.0, 45.0)));
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        assert!(text.starts_with("lag, 0 to 80.0 entries\n"), "{text}");
        // The peak is one column that reaches the top; what is not known is a question mark.
        assert_eq!(lines[1].iter().filter(|c| **c == '█').count(), 1, "{text}");
        let column = lines[1].iter().position(|c| *c == '█').unwrap();
        assert_eq!(
            lines[HEIGHT].iter().filter(|c| **c == '?').count(),
            1,
            "{text}"
        );
        assert_eq!(lines[HEIGHT + 2][column], '#', "{text}");
        assert_eq!(
            lines[HEIGHT + 2].iter().filter(|c| **c == '#').count(),
            12,
            "with its legend: {text}"
        );
    }

    #[test]
    fn nothing_makes_an_empty_chart_and_no_panic() {
        let text = chart("p99", "ms", &[], None);
        assert!(text.lines().count() > HEIGHT);
    }
}
