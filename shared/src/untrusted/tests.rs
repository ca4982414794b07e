//! Tests of clean text: tables of what becomes what, the corpus, and properties that hold for any bytes.

use proptest::prelude::*;
use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_width::UnicodeWidthStr;

use super::*;

fn shown(bytes: impl AsRef<[u8]>, width: impl Into<Option<usize>>) -> Shown {
    Untrusted::new(bytes.as_ref()).to_display(width.into(), Mode::Unicode)
}

/// What may never come out. A joiner may, and is checked by its table.
fn is_harmful(c: char) -> bool {
    use GeneralCategory as Category;
    if c.is_ascii() {
        return c.is_ascii_control(); // The megabytes of the corpus need no tables.
    }
    c != '\u{200d}'
        && matches!(
            get_general_category(c),
            Category::Control
                | Category::Format
                | Category::LineSeparator
                | Category::ParagraphSeparator
                | Category::PrivateUse
                | Category::Unassigned
        )
}

#[test]
fn what_a_terminal_would_obey_becomes_visible() {
    let table: [(&[u8], &str, usize); 18] = [
        // A letter that `unicode-width` gives no cell.
        ("\u{111c2}".as_bytes(), r"\u{111c2}", 1),
        // Format characters that it gives one.
        ("\u{600}\u{6dd}".as_bytes(), r"\u{600}\u{6dd}", 2),
        (b"plain text", "plain text", 0),
        (b"\x1b[2J", r"\x1b[2J", 1),
        ("\u{9b}2J".as_bytes(), r"\u{9b}2J", 1),
        (b"\x9b2J", r"\x9b2J", 1),
        (b"a\nb\r\n", r"a\nb\r\n", 3),
        (b"\x00\x7f", r"\x00\x7f", 2),
        ("\u{202e}gpj".as_bytes(), r"\u{202e}gpj", 1),
        ("ad\u{200b}min".as_bytes(), r"ad\u{200b}min", 1),
        ("a\u{200d}b".as_bytes(), r"a\u{200d}b", 1),
        ("\u{2028}".as_bytes(), r"\u{2028}", 1),
        ("\u{e000}\u{378}".as_bytes(), r"\u{e000}\u{378}", 2),
        ("\u{3164}".as_bytes(), r"\u{3164}", 1),
        (b"\xc3\x28\xe2\x82", r"\xc3(\xe2\x82", 3),
        ("\u{301}x".as_bytes(), r"\u{301}x", 1),
        ("\x1b\u{301}".as_bytes(), r"\x1b\u{301}", 2),
        (br"C:\x1b", r"C:\x1b", 0),
    ];
    for (input, text, n_replaced) in table {
        let shown = shown(input, None);
        assert_eq!(
            (shown.text.as_str(), shown.n_replaced),
            (text, n_replaced),
            "{input:?}"
        );
        assert!(!shown.cut);
    }
}

#[test]
fn natural_writing_stays_as_it_is() {
    for text in [
        "größe naïve e\u{301}",
        "日本語 葛\u{e0100}",
        "한국 \u{1112}\u{1161}\u{11ab}",
        "हिन्दी नि",
        "ภาษาไทย",
        "العربية עברית",
        "👩‍👩‍👧‍👦 👍🏽 🇩🇪 1️⃣ ❤️ ❤️‍🔥 🏳️‍🌈",
    ] {
        let shown = shown(text, None);
        assert_eq!(shown.text, text);
        assert_eq!((shown.n_replaced, shown.marked.len()), (0, 0), "{text}");
    }
}

#[test]
fn tabs_reach_the_next_stop() {
    assert_eq!(shown("a\tb\tcdef\tg", None).text, "a   b   cdef    g");
    assert_eq!(escape("a\tb"), r"a\tb");
}

#[test]
fn a_cell_keeps_eight_marks() {
    let shown = shown(format!("a{}", "\u{301}".repeat(10)), None);
    assert_eq!(
        shown.text,
        format!("a{}{}", "\u{301}".repeat(8), r"\u{301}\u{301}")
    );
    assert_eq!(shown.n_replaced, 2);
}

#[test]
fn hidden_selectors_are_not_kept() {
    let shown = shown("😀\u{fe0f}\u{fe0e}x\u{fe00}", None);
    assert_eq!(shown.text, "😀\u{fe0f}\\u{fe0e}x\\u{fe00}");
}

#[test]
fn too_wide_text_ends_with_a_mark() {
    for (text, width, expected) in [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
        ("abcdef", 0, ""),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("ab\x1b[2J", 5, "ab…"), // An escape is never torn.
        ("a\tb", 3, "a…"),
        ("", 0, ""),
    ] {
        let shown = shown(text, width);
        assert_eq!(shown.text, expected, "{text:?} in {width}");
        assert_eq!(
            shown.cut,
            shown.text.ends_with('…') || (width == 0 && !text.is_empty())
        );
        assert!(shown.width <= width);
    }
}

#[test]
fn replaced_parts_are_marked_for_a_style_of_their_own() {
    let shown = shown("a\x1b\x07b\u{202e}", None);
    let parts: Vec<&str> = shown
        .marked
        .iter()
        .map(|range| &shown.text[range.clone()])
        .collect();
    assert_eq!(parts, [r"\x1b\x07", r"\u{202e}"]);
    let cut = self::shown("\x1b\x1b\x1b", 9);
    assert_eq!((cut.text.as_str(), cut.n_replaced), ("\\x1b\\x1b…", 2));
    assert_eq!(cut.marked, std::iter::once(0..8).collect::<Vec<_>>());
}

#[test]
fn ascii_mode_prints_ascii_only() {
    let text = Untrusted::new("é日\x1b e\u{301}").to_display(None, Mode::Ascii);
    assert_eq!(text.text, r"\u{e9}\u{65e5}\x1b e\u{301}");
    assert_eq!(text.n_replaced, 4);
    assert_eq!(
        Untrusted::new("abc").to_display(Some(2), Mode::Ascii).text,
        "a>"
    );
}

#[test]
fn a_long_text_is_cut_before_layout_and_between_characters() {
    for text in ["x".repeat(1 << 20), format!("x{}", "語".repeat(1 << 18))] {
        let shown = shown(&text, None);
        assert!(shown.cut && shown.text.ends_with('…'));
        assert_eq!(shown.n_replaced, 0);
        assert!(shown.text.len() <= PREVIEW_BYTES + '…'.len_utf8());
    }
}

#[test]
fn debug_output_is_clean_too() {
    assert_eq!(
        format!("{:?}", Untrusted::new("\x1b\"")),
        r#"Untrusted("\\x1b\"")"#
    );
}

#[test]
fn json_escapes_lose_nothing() {
    let value =
        serde_json::json!({"k\u{202e}": "\u{7f}\u{9b}\u{2028}\u{e0041}\u{200d}é日\\ \u{1b}"});
    let document = serde_json::to_string_pretty(&value).unwrap();
    let escaped = escape_json(&document);
    assert!(
        !escaped.chars().any(|c| c != '\n' && is_harmful(c)),
        "{escaped}"
    );
    assert!(
        escaped.contains(r"\udb40\udc41"),
        "a surrogate pair beyond U+FFFF: {escaped}"
    );
    assert!(escaped.contains("é日"), "what is harmless stays readable");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&escaped).unwrap(),
        value
    );
}

#[test]
fn csv_cells_are_no_formulas() {
    for (cell, expected) in [
        ("=1+1", "'=1+1"),
        ("+1+1", "'+1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("-cmd", "'-cmd"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("-", "'-"),
        ("-12.50", "-12.50"),
        ("+7", "+7"),
        ("-1.", "'-1."),
        ("a=b", "a=b"),
        ("", ""),
        ("a\nb\\", r"a\nb\"),
    ] {
        assert_eq!(csv_cell(cell.as_bytes()), expected);
    }
}

#[test]
fn the_corpus_comes_out_clean_everywhere() {
    for corpus::Hostile { desc, bytes } in corpus::hostile() {
        for width in [None, Some(0), Some(1), Some(20), Some(80)] {
            for mode in [Mode::Unicode, Mode::Ascii] {
                let shown = Untrusted::new(&bytes).to_display(width, mode);
                assert!(!shown.text.contains(is_harmful), "{desc}");
                assert!(shown.width <= width.unwrap_or(usize::MAX), "{desc}");
                assert!(mode == Mode::Unicode || shown.text.is_ascii(), "{desc}");
            }
        }
        for text in [escape_bytes(&bytes), csv_cell(&bytes)] {
            assert!(!text.contains(is_harmful), "{desc}");
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let nasty = prop::sample::select(vec![
        "a",
        "\\",
        "\t",
        "\u{1b}",
        "\u{301}",
        "\u{200d}",
        "\u{fe0f}",
        "👩",
        "👍",
        "🏽",
        "❤",
        "🇩",
        "語",
        "\u{1112}",
        "\u{1161}",
        "\u{202e}",
        "ل",
        "ا",
        "\u{e0101}",
        "1",
        "\u{20e3}",
        "\u{93f}",
        "न",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        prop::collection::vec(any::<char>(), 0..40)
            .prop_map(|chars| chars.iter().collect::<String>().into_bytes()),
        prop::collection::vec(nasty, 0..40).prop_map(|parts| parts.concat().into_bytes()),
    ]
}

/// Reads an [`escape`] back, independently of how it was written.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let kind = rest.as_bytes()[0];
        rest = &rest[1..];
        match kind {
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            b'u' => {
                let end = rest.find('}').unwrap();
                let code = u32::from_str_radix(&rest[1..end], 16).unwrap();
                bytes.extend(
                    char::from_u32(code)
                        .unwrap()
                        .encode_utf8(&mut [0; 4])
                        .bytes(),
                );
                rest = &rest[end + 1..];
            }
            other => panic!("no such escape: {other}"),
        }
    }
    bytes
}

proptest! {
    #[test]
    fn nothing_harmful_comes_out(bytes in bytes(), width in prop::option::of(0_usize..30), ascii: bool) {
        let mode = if ascii { Mode::Ascii } else { Mode::Unicode };
        let shown = Untrusted::new(&bytes).to_display(width, mode);
        prop_assert!(!shown.text.contains(is_harmful), "{:?}", shown);
        prop_assert!(!ascii || shown.text.is_ascii());
        prop_assert!(shown.width <= width.unwrap_or(usize::MAX));
        prop_assert!(shown.text.width() <= shown.width, "{:?} is {} wide", shown, shown.text.width());
        prop_assert!(shown.marked.iter().all(|range| shown.text[range.clone()].starts_with('\\')));
    }

    #[test]
    fn showing_twice_changes_nothing(bytes in bytes(), width in prop::option::of(0_usize..30)) {
        let once = Untrusted::new(&bytes).to_display(width, Mode::Unicode);
        let twice = Untrusted::new(&once.text).to_display(width, Mode::Unicode);
        prop_assert_eq!((&twice.text, twice.width, twice.n_replaced), (&once.text, once.width, 0));
    }

    #[test]
    fn escapes_can_be_read_back(bytes in bytes()) {
        let escaped = escape_bytes(&bytes);
        prop_assert!(!escaped.contains(is_harmful));
        prop_assert_eq!(unescape(&escaped), bytes);
    }

    #[test]
    fn json_stays_the_same_document(text: String) {
        let document = serde_json::to_string(&text).unwrap();
        let escaped = escape_json(&document);
        prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
