//! Hostile text, for the tests of every crate: whatever shows text from outside must survive all of it.
//!
//! Lives in the library and not beside its tests, because a crate's tests cannot see another crate's tests.

/// One hostile text.
#[derive(Debug, Clone)]
pub struct Hostile {
    /// What it tries, for the message of a failing test.
    pub desc: &'static str,
    /// The text; not always UTF-8.
    pub bytes: Vec<u8>,
}

/// The short ones.
const SHORT: [(&str, &[u8]); 33] = [
    ("a bare ESC", b"a\x1bb"),
    ("CSI that clears the screen", b"\x1b[2J\x1b[H"),
    ("CSI that colours", b"\x1b[31mred\x1b[0m"),
    ("CSI that asks for a reply", b"\x1b[6n\x1b[c\x1b[>q"),
    ("OSC that sets the title", b"\x1b]0;owned\x07"),
    (
        "OSC 8 link",
        b"\x1b]8;;http://evil.example/\x1b\\click\x1b]8;;\x1b\\",
    ),
    (
        "OSC 52 that fills the clipboard",
        b"\x1b]52;c;cm0gLXJmIC8=\x07",
    ),
    ("OSC that never ends", b"\x1b]0;"),
    ("DCS, APC and PM", b"\x1bPq\x1b\\\x1b_x\x1b\\\x1b^y\x1b\\"),
    ("C1 CSI in UTF-8", "\u{9b}2J".as_bytes()),
    ("C1 CSI as a byte", b"\x9b2J"),
    (
        "all C0",
        b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x1a\x1c\x1d\x1e\x1f",
    ),
    ("DEL", b"a\x7fb"),
    ("carriage return that overwrites", b"rm -rf /\rls       "),
    ("backspaces that hide", b"evil\x08\x08\x08\x08good"),
    ("newlines and tabs", b"one\ntwo\r\n\tthree\t\tfour"),
    ("bidirectional override", "user\u{202e}gpj.exe".as_bytes()),
    (
        "bidirectional isolates",
        "\u{2066}\u{2067}\u{2068}x\u{2069}\u{202a}\u{202c}".as_bytes(),
    ),
    (
        "zero width",
        "ad\u{200b}min\u{200c}\u{200d}\u{2060}\u{feff}".as_bytes(),
    ),
    (
        "line and paragraph separators",
        "a\u{2028}b\u{2029}c".as_bytes(),
    ),
    (
        "hidden data in tags",
        "x\u{e0041}\u{e0042}\u{e007f}".as_bytes(),
    ),
    (
        "hidden data in variation selectors",
        "😀\u{fe0f}\u{fe0e}\u{fe00}\u{e0101}\u{e0102}".as_bytes(),
    ),
    (
        "invisible letters",
        "\u{3164}\u{115f}\u{1160}\u{ffa0}\u{34f}\u{17b4}".as_bytes(),
    ),
    (
        "private use and unassigned",
        "\u{e000}\u{f8ff}\u{10fffd}\u{378}\u{ffff}\u{10ffff}".as_bytes(),
    ),
    ("marks without a base", "\u{301}\u{20dd}x".as_bytes()),
    ("invalid UTF-8", b"ok\xff\xfe\xc3\x28\xe2\x82"),
    (
        "overlong UTF-8 of ESC and of NUL",
        b"\xc0\x9b[2J\xe0\x80\x9b\xc0\x80",
    ),
    ("surrogates in UTF-8", b"\xed\xa0\x80\xed\xbf\xbf"),
    ("formula", b"=HYPERLINK(\"http://evil.example/\",\"x\")"),
    (
        "formula behind spaces and a tab",
        b" \t@SUM(1+1)*cmd|' /C calc'!A0",
    ),
    (
        "shell and format strings",
        b"$(reboot) `id` %s%n {0} ${jndi:ldap://x}",
    ),
    ("quotes and backslashes", b"\\\"'\\x1b\\u{202e}\\n\\"),
    (
        "wide and joined",
        "日本語 👩‍👩‍👧‍👦 👍🏽 🇩🇪 1️⃣ ❤️ 한국 \u{1112}\u{1161}\u{11ab} नि".as_bytes(),
    ),
];

/// All of it, the long ones last. Allocates about 3 MiB.
pub fn hostile() -> Vec<Hostile> {
    let short = SHORT.map(|(desc, bytes)| Hostile {
        desc,
        bytes: bytes.to_vec(),
    });
    let long = [
        Hostile {
            desc: "one cell with 20,000 marks",
            bytes: format!("a{}", "\u{301}".repeat(20_000)).into_bytes(),
        },
        Hostile {
            desc: "a name of 10,000 characters",
            bytes: "n".repeat(10_000).into_bytes(),
        },
        Hostile {
            desc: "a name of 10,000 wide characters",
            bytes: "語".repeat(10_000).into_bytes(),
        },
        Hostile {
            desc: "a field of 1 MiB",
            bytes: vec![b'x'; 1 << 20],
        },
        Hostile {
            desc: "a field of 1 MiB of ESC",
            bytes: vec![0x1b; 1 << 20],
        },
        Hostile {
            desc: "20,000 joined emoji",
            bytes: "👩\u{200d}".repeat(20_000).into_bytes(),
        },
    ];
    short.into_iter().chain(long).collect()
}
