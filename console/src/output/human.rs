//! Numbers as people read them. Unknown is `?`, never 0 and never a dash; a field that does not apply stays empty.

use pipectl_shared::rpc::Bytes;

use super::clean;

/// The mark for a figure that nobody knows.
pub(crate) const UNKNOWN: &str = "?";

/// `?` or the figure.
pub(crate) fn or_unknown<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}

/// `12,400`
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `-12,400`
pub(crate) fn signed(n: i64) -> String {
    let sign = if n < 0 { "-" } else { "" };
    format!("{sign}{}", count(n.unsigned_abs()))
}

/// `850ms`, `4.2s`, `42s`, `6m12s`, `3h12m`, `2d4h`
pub(crate) fn duration_ms(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms}ms"),
        1..10 => format!("{}.{}s", s, ms % 1_000 / 100),
        10..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// Seconds with a fraction, as [`duration_ms`].
pub(crate) fn duration_s(s: f64) -> String {
    if !s.is_finite() || s < 0.0 {
        return UNKNOWN.to_owned();
    }
    // A float beyond u64 saturates, which is what an absurd figure deserves.
    duration_ms((s * 1_000.0) as u64)
}

/// Latencies: `0.42ms`, `1.2ms`, `850ms`, then as [`duration_ms`].
pub(crate) fn latency_ms(ms: f64) -> String {
    if !ms.is_finite() || ms < 0.0 {
        return UNKNOWN.to_owned();
    }
    match ms {
        ..1.0 => format!("{ms:.2}ms"),
        ..10.0 => format!("{ms:.1}ms"),
        ..1_000.0 => format!("{ms:.0}ms"),
        _ => duration_ms(ms as u64),
    }
}

/// `640`, `1.2k`, `34M`; k = 1,000.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n as f64)
}

/// `0.4/s`, `3/s`, `12.4k/s`
pub(crate) fn rate(per_s: f64) -> String {
    if !per_s.is_finite() || per_s < 0.0 {
        return UNKNOWN.to_owned();
    }
    if per_s > 0.0 && per_s < 10.0 {
        format!("{per_s:.1}/s")
    } else {
        format!("{}/s", scaled(per_s))
    }
}

fn scaled(n: f64) -> String {
    let mut value = n;
    let mut unit = "";
    for next in ["k", "M", "G", "T"] {
        // 999.5 and not 1,000, or rounding would print 1000k.
        if value < 999.5 {
            break;
        }
        value /= 1_000.0;
        unit = next;
    }
    if unit.is_empty() || value >= 99.95 {
        format!("{value:.0}{unit}")
    } else {
        format!("{value:.1}{unit}")
    }
}

/// Bytes of an entry as text that is still to be cleaned; broken base64 is shown as it came.
pub(crate) fn payload(value: &Bytes) -> String {
    match (value, value.decode()) {
        (Bytes::Text(text), _) => text.clone(),
        (Bytes::Binary { .. }, Some(raw)) => clean::bytes(&raw),
        (Bytes::Binary { b64 }, None) => format!("broken base64: {b64}"),
    }
}

/// Reads `250ms`, `60s`, `5m`, `1h`, `2d`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_each = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        other => {
            return Err(format!(
                "unknown unit {other:?}; write 250ms, 60s, 5m, 1h or 2d"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "a duration is a number and a unit, such as 60s".to_owned())?;
    std::time::Duration::try_from_secs_f64(number * seconds_each)
        .map_err(|_| "too long to wait for".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_like_people_write_them() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(12_400), "12,400");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(signed(-12_400), "-12,400");
        assert_eq!(signed(i64::MIN), "-9,223,372,036,854,775,808");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let table = [
            (0, "0ms"),
            (850, "850ms"),
            (4_250, "4.2s"),
            (42_000, "42s"),
            (372_000, "6m12s"),
            (11_520_000, "3h12m"),
            (187_200_000, "2d4h"),
        ];
        for (ms, expected) in table {
            assert_eq!(duration_ms(ms), expected);
        }
    }

    #[test]
    fn rates_and_sizes_never_round_to_a_thousand_of_a_unit() {
        assert_eq!(rate(0.0), "0/s");
        assert_eq!(rate(0.42), "0.4/s");
        assert_eq!(rate(12_400.0), "12.4k/s");
        assert_eq!(rate(999_700.0), "1.0M/s");
        assert_eq!(rate(f64::NAN), "?");
        assert_eq!(rate(-1.0), "?");
        assert_eq!(bytes(640), "640");
        assert_eq!(bytes(1_200), "1.2k");
        assert_eq!(bytes(34_000_000), "34.0M");
        assert_eq!(bytes(340_000_000), "340M");
    }

    #[test]
    fn latencies_keep_their_small_figures() {
        assert_eq!(latency_ms(0.417), "0.42ms");
        assert_eq!(latency_ms(1.24), "1.2ms");
        assert_eq!(latency_ms(850.0), "850ms");
        assert_eq!(latency_ms(1_250.0), "1.2s");
        assert_eq!(latency_ms(f64::INFINITY), "?");
    }

    #[test]
    fn durations_are_parsed_with_units() {
        use std::time::Duration;
        let table = [
            ("250ms", 250),
            ("60s", 60_000),
            ("60", 60_000),
            ("1.5m", 90_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
        ];
        for (text, ms) in table {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for bad in [
            "",
            "s",
            "5 weeks",
            "-1s",
            "1e99d",
            "99999999999999999999d",
            "NaN",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
