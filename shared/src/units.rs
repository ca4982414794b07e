//! Durations, sizes, rates and shares as people write them, and the short forms in which people read them.
//!
//! `parse_*` and `print_*` are exact and undo each other (a share to six decimals of a percent); `human_*` round for
//! the eye and are never parsed. Nothing here knows which key a value belongs to: a caller adds that to the error.

use std::time::Duration;

use crate::untrusted::{Mode, Untrusted};

/// Why a text is no duration, size, rate or share: the text itself, made safe to print, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnitError {
    message: String,
}

impl UnitError {
    fn new(text: &str, why: &str) -> Self {
        Self {
            message: format!("{} {why}", shown(text)),
        }
    }
}

/// At most 40 columns of a foreign text in quotes, without anything that could drive a terminal.
fn shown(text: &str) -> String {
    let shown = Untrusted::new(text).to_display(Some(40), Mode::Unicode);
    format!("\"{}\"", shown.text)
}

/// Units of a duration from long to short, each in nanoseconds.
const DURATIONS: &[(&str, u128)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of a size, binary before decimal, each from large to small; the order is the printer's preference.
const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of time of a rate and their seconds.
const PER: &[(&str, f64)] = &[("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Splits the whole number at the front off; `None` if there is none.
fn leading_digits(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Reads `100ms`, `5s`, `1h30m` or `0s`: whole numbers with d, h, m, s, ms, us or ns, the longest unit first.
///
/// # Errors
/// If a unit is missing, unknown, repeated or out of order, if a number has a fraction or a sign, or if it overflows.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let fail = |why: &str| Err(UnitError::new(text, why));
    if text.is_empty() {
        return fail("is no duration: write a number and a unit, such as \"5s\"");
    }
    if text.contains(['.', ',']) {
        return fail("has a fraction: write smaller units, such as \"1s500ms\"");
    }
    let mut rest = text;
    let mut total: u128 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let Some((digits, after)) = leading_digits(rest) else {
            return fail("is no duration: write a number and a unit, such as \"5s\" or \"1h30m\"");
        };
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return fail("has no unit: write one of d, h, m, s, ms, us, ns, such as \"5s\"");
        }
        let Some(position) = DURATIONS.iter().position(|(name, _)| *name == unit) else {
            return fail("has an unknown unit: the units are d, h, m, s, ms, us, ns");
        };
        if position < next_unit {
            return fail("has its units out of order: the longest comes first, such as \"1h30m\"");
        }
        next_unit = position + 1;
        let part = digits
            .parse::<u128>()
            .ok()
            .and_then(|n| n.checked_mul(DURATIONS[position].1))
            .and_then(|n| total.checked_add(n));
        match part {
            Some(sum) => total = sum,
            None => return fail("is too long a time"),
        }
        rest = after;
    }
    let seconds = u64::try_from(total / 1_000_000_000);
    let nanos = u32::try_from(total % 1_000_000_000);
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => fail("is too long a time"),
    }
}

/// Writes a duration so that [`parse_duration`] reads the same one back: `1h30m`, `0s`.
pub fn print_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, nanos) in DURATIONS {
        let n = rest / nanos;
        rest %= nanos;
        if n > 0 {
            out.push_str(&format!("{n}{unit}"));
        }
    }
    out
}

/// Reads a range `100ms..5s`, both ends included, the first not above the second.
///
/// # Errors
/// If there is no `..`, if an end is no duration, or if the ends are the wrong way round.
pub fn parse_duration_range(text: &str) -> Result<(Duration, Duration), UnitError> {
    let Some((from, to)) = text.split_once("..") else {
        return Err(UnitError::new(
            text,
            "is no range: write the least and the greatest with two dots, such as \"100ms..5s\"",
        ));
    };
    let (from, to) = (parse_duration(from)?, parse_duration(to)?);
    if from > to {
        return Err(UnitError::new(
            text,
            "starts above its end: write the smaller duration first",
        ));
    }
    Ok((from, to))
}

/// Writes a range so that [`parse_duration_range`] reads the same one back.
pub fn print_duration_range((from, to): (Duration, Duration)) -> String {
    format!("{}..{}", print_duration(from), print_duration(to))
}

/// Reads a number of bytes: `64KiB` (binary), `1MB` (decimal), `512B` or plain `512`.
///
/// # Errors
/// If the unit is unknown, if the number has a fraction or a sign, or if it overflows 64 bits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let fail = |why: &str| Err(UnitError::new(text, why));
    let Some((digits, unit)) = leading_digits(text) else {
        return fail("is no size: write a number and a unit, such as \"64KiB\"");
    };
    if unit.starts_with(['.', ',']) {
        return fail("has a fraction: write a smaller unit, such as \"1536KiB\"");
    }
    let factor = if unit.is_empty() {
        Some(1)
    } else {
        SIZES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .map(|(_, factor)| *factor)
    };
    let Some(factor) = factor else {
        return fail("has an unknown unit: the units are B, KB, MB, GB, TB, KiB, MiB, GiB, TiB");
    };
    match digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
    {
        Some(bytes) => Ok(bytes),
        None => fail("is too large a size"),
    }
}

/// Writes a size in the largest unit that needs no fraction: `64KiB`, `1MB`, `513B`.
pub fn print_size(bytes: u64) -> String {
    for (unit, factor) in SIZES {
        if bytes >= *factor && bytes.is_multiple_of(*factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

/// Reads a finite decimal number without sign or exponent.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let bounded = text.starts_with(|c: char| c.is_ascii_digit()) && text.len() <= 40;
    (plain && bounded)
        .then(|| text.parse::<f64>().ok())
        .flatten()
        .filter(|n| n.is_finite())
}

/// Reads a rate such as `1000/s`, `60/m` or `0.5/h`; the result is per second.
///
/// # Errors
/// If there is no `/` with s, m or h behind it, or no plain number before it.
pub fn parse_rate(text: &str) -> Result<f64, UnitError> {
    let parsed = text.split_once('/').and_then(|(number, unit)| {
        let (_, seconds) = PER.iter().find(|(name, _)| *name == unit)?;
        Some(decimal(number)? / seconds)
    });
    parsed.ok_or_else(|| {
        UnitError::new(
            text,
            "is no rate: write a number per s, m or h, such as \"1000/s\"",
        )
    })
}

/// Writes a rate (per second) so that [`parse_rate`] reads the same one back; whole numbers are preferred.
pub fn print_rate(per_second: f64) -> String {
    for (unit, seconds) in PER {
        let n = (per_second * seconds).round();
        if n > 0.0 && n < 1e15 && n / seconds == per_second {
            return format!("{n}/{unit}");
        }
    }
    format!("{per_second}/s")
}

/// Reads a share such as `85%`; the result is 0.85.
///
/// # Errors
/// If there is no `%` at the end, no plain number before it, or more than 100.
pub fn parse_percent(text: &str) -> Result<f64, UnitError> {
    match text.strip_suffix('%').and_then(decimal) {
        Some(n) if n <= 100.0 => Ok(n / 100.0),
        Some(_) => Err(UnitError::new(text, "is above 100%")),
        None => Err(UnitError::new(
            text,
            "is no share: write a number and a per cent sign, such as \"85%\"",
        )),
    }
}

/// Writes a share (0.85) as `85%`, to six decimals.
pub fn print_percent(share: f64) -> String {
    format!("{}%", (share * 100.0 * 1e6).round() / 1e6)
}

/// A duration in at most two parts for a narrow column: `850ms`, `1.2s`, `42s`, `6m12s`, `2h05m`, `3d04h`.
///
/// Parts are cut, never rounded up, so an age is not shown before it is reached.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_millis() == 0 && !duration.is_zero() => {
            format!("{}us", duration.as_micros())
        }
        0 => format!("{}ms", duration.as_millis()),
        1..10 => format!("{seconds}.{}s", duration.subsec_millis() / 100),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Bytes in powers of 1024 with one letter, as `free -h` and Redis do: `640`, `1.2k`, `37M`, `1.9G`.
pub fn human_bytes(bytes: u64) -> String {
    const LETTERS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    // Tenths in whole numbers: a float would show 1024k where 1.0M is meant.
    let mut tenths = u128::from(bytes) * 10;
    let mut letter = "";
    for next in LETTERS {
        if tenths < 10_235 {
            break;
        }
        tenths = (tenths + 512) / 1024;
        letter = next;
    }
    if tenths < 100 {
        format!("{}.{}{letter}", tenths / 10, tenths % 10)
    } else {
        format!("{}{letter}", (tenths + 5) / 10)
    }
}

/// A count with a comma every three digits: `1,234,567`.
pub fn human_count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
