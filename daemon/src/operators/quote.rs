//! Data inside an error message: made harmless and short. Messages end in logs, in dead letters and on terminals, so no
//! control byte, no bidirectional trick and no megabyte may get into them.

/// Characters of a value that a message shows.
const SHOWN_MAX: usize = 64;

/// The value in quotes, with everything that does not print escaped; a longer one is cut and told with its size.
pub(crate) fn quoted(value: &[u8]) -> String {
    let (shown, is_whole) = cleaned(value, SHOWN_MAX);
    if is_whole {
        format!("\"{shown}\"")
    } else {
        format!("\"{shown}...\" ({} bytes)", value.len())
    }
}

/// At most `n_chars_max` characters of the value, with everything that does not print escaped, and whether that is all.
pub(crate) fn cleaned(value: &[u8], n_chars_max: usize) -> (String, bool) {
    // A character has at most four bytes (an invalid sequence at most three), so this prefix holds enough of them.
    let prefix = &value[..value.len().min(n_chars_max.saturating_mul(4))];
    let mut shown = String::with_capacity(prefix.len());
    let mut n_chars = 0;
    for chunk in prefix.utf8_chunks() {
        for char in chunk.valid().chars() {
            if n_chars == n_chars_max {
                return (shown, false);
            }
            n_chars += 1;
            match char {
                // These print as they are; `escape_debug` would put a backslash before them.
                '\'' => shown.push(char),
                _ => shown.extend(char.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            if n_chars == n_chars_max {
                return (shown, false);
            }
            n_chars += 1;
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    (shown, prefix.len() == value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_values_are_shown_harmlessly() {
        let table: &[(&str, &[u8], &str)] = &[
            ("plain", b"12a", "\"12a\""),
            ("empty", b"", "\"\""),
            ("quote", b"a\"b", "\"a\\\"b\""),
            ("apostrophe", b"it's", "\"it's\""),
            ("escape sequence", b"\x1b[2J", "\"\\u{1b}[2J\""),
            ("newline", b"a\nb", "\"a\\nb\""),
            ("no UTF-8", b"a\xffb", "\"a\\xffb\""),
            ("C1 control", "\u{9b}31m".as_bytes(), "\"\\u{9b}31m\""),
            (
                "right-to-left override",
                "\u{202e}gpj".as_bytes(),
                "\"\\u{202e}gpj\"",
            ),
            ("zero width", "a\u{200b}b".as_bytes(), "\"a\\u{200b}b\""),
            ("umlaut", "ä".as_bytes(), "\"ä\""),
        ];
        for (desc, value, want) in table {
            assert_eq!(quoted(value), *want, "{desc}");
        }
    }

    #[test]
    fn long_values_are_cut_and_their_size_told() {
        let long = vec![b'x'; 1 << 20];
        assert_eq!(
            quoted(&long),
            format!("\"{}...\" (1048576 bytes)", "x".repeat(64))
        );
        assert_eq!(quoted(&[b'x'; 64]), format!("\"{}\"", "x".repeat(64)));
        let umlauts = "ä".repeat(65);
        assert_eq!(
            quoted(umlauts.as_bytes()),
            format!("\"{}...\" (130 bytes)", "ä".repeat(64))
        );
        let four = "😀".repeat(100);
        assert_eq!(cleaned(four.as_bytes(), 64), ("😀".repeat(64), false));
    }
}
