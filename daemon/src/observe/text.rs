//! Short texts for one-line reasons: cut, counted, timed. What is quoted may be hostile; it is cut to a size here and
//! made harmless where it is shown (`shared::untrusted`).

use std::time::Duration;

/// Longest one-line text, in bytes.
pub(super) const LINE: usize = 300;
/// Longest name of a consumer or a field, in bytes.
pub(super) const NAME: usize = 120;

/// At most `n_bytes_max` bytes on a character boundary; a cut text ends with an ellipsis.
pub(super) fn cut(text: &str, n_bytes_max: usize) -> String {
    if text.len() <= n_bytes_max {
        return text.to_owned();
    }
    let mut end = n_bytes_max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// The same for bytes that may be no UTF-8 and of any size.
pub(super) fn cut_bytes(bytes: &[u8], n_bytes_max: usize) -> String {
    // A replacement character is 3 bytes for at least 1: looking at this many bytes is enough.
    let looked_at = &bytes[..bytes.len().min(n_bytes_max + 4)];
    cut(&String::from_utf8_lossy(looked_at), n_bytes_max)
}

/// `1 entry`, `418 entries`.
pub(super) fn entries(n: u64) -> String {
    if n == 1 {
        "1 entry".to_owned()
    } else {
        format!("{n} entries")
    }
}

/// `0.4s`, `41s`, `6m12s`, `3h04m`, `2d03h`.
pub(super) fn span(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        ..10 => format!("{}.{}s", s, d.subsec_millis() / 100),
        10..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// `512 B`, `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("ääääääää", 8), "ää…");
        assert_eq!(cut_bytes(&[0xff; 1_000], 9), "\u{fffd}\u{fffd}…");
        assert!(cut_bytes(&vec![b'x'; 1 << 20], NAME).len() <= NAME);
    }

    #[test]
    fn spans_and_sizes_read_well() {
        for (ms, text) in [
            (400, "0.4s"),
            (41_000, "41s"),
            (372_000, "6m12s"),
            (11_040_000, "3h04m"),
            (183_600_000, "2d03h"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
        assert_eq!(
            (size(12).as_str(), size(1_572_864).as_str()),
            ("12 B", "1.5 MiB")
        );
    }
}
