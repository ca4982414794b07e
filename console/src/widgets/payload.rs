//! The lines of an entry's fields, as text or as hex. Bytes in, bytes out: they are cleaned when they are drawn. Lines are
//! made one by one, so that only those in sight cost something.

use pipectl_shared::rpc::Bytes;
use pipectl_shared::snapshot::Field;
use serde::de::IgnoredAny;

use crate::output::human::count;

/// One line.
pub(crate) struct PayloadLine {
    /// Index of its field.
    pub(crate) field: usize,
    /// Whether it names the field; else it is of its value.
    pub(crate) is_head: bool,
    /// What stands in it, as it came.
    pub(crate) bytes: Vec<u8>,
}

/// The lines of the fields from one on, for so many cells.
pub(crate) fn payload_lines(
    fields: &[Field],
    from: usize,
    is_hex: bool,
    width: usize,
) -> impl Iterator<Item = PayloadLine> {
    let fields = fields.iter().enumerate().skip(from);
    fields.flat_map(move |(n, field)| {
        let line = move |is_head, bytes| PayloadLine {
            field: n,
            is_head,
            bytes,
        };
        let value = lines(field, is_hex, width).map(move |bytes| line(false, bytes));
        std::iter::once(line(true, head(field))).chain(value)
    })
}

/// `name  12 bytes`, with the page where it is cut.
fn head(field: &Field) -> Vec<u8> {
    let mut line = raw(&field.name);
    let n = raw(&field.value).len() as u64;
    let text = if field.truncated || field.offset > 0 {
        let to = field.offset + n;
        format!(
            "  bytes {} to {} of {}  [ ] pages",
            count(field.offset),
            count(to),
            count(field.size)
        )
    } else {
        format!("  {} bytes", count(field.size))
    };
    line.extend_from_slice(text.as_bytes());
    line
}

fn raw(value: &Bytes) -> Vec<u8> {
    value.decode().unwrap_or_else(|| match value {
        Bytes::Text(text) => text.clone().into_bytes(),
        Bytes::Binary { b64 } => format!("broken base64: {b64}").into_bytes(),
    })
}

fn lines(field: &Field, is_hex: bool, width: usize) -> Box<dyn Iterator<Item = Vec<u8>>> {
    let value = raw(&field.value);
    if is_hex {
        return hex(value, field.offset, width);
    }
    let looks_like_json = matches!(value.first(), Some(b'{' | b'['));
    let laid_out = (looks_like_json && !field.truncated && field.offset == 0)
        .then(|| laid_out(&value))
        .flatten();
    wrap(laid_out.unwrap_or(value), width.saturating_sub(2).max(8))
}

/// A JSON document over several lines; `None` when it is none. Only blanks between its parts change: the order of names,
/// names that stand twice and every digit stay as they are.
fn laid_out(json: &[u8]) -> Option<Vec<u8>> {
    serde_json::from_slice::<IgnoredAny>(json).ok()?;
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut is_string = false;
    let mut is_escaped = false;
    let mut is_opened = false;
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 2));
    };
    for byte in json.iter().copied() {
        if is_string {
            out.push(byte);
            is_string = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
            continue;
        }
        if byte.is_ascii_whitespace() {
            continue;
        }
        if matches!(byte, b'}' | b']') {
            depth -= 1;
        }
        // With nothing inside both brackets stay together.
        if is_opened != matches!(byte, b'}' | b']') {
            line(&mut out, depth);
        }
        is_opened = matches!(byte, b'{' | b'[');
        depth += usize::from(is_opened);
        out.push(byte);
        match byte {
            b',' => line(&mut out, depth),
            b':' => out.push(b' '),
            b'"' => is_string = true,
            _ => {}
        }
    }
    Some(out)
}

/// Lines of at most about `width` cells, broken at line ends and by length; cleaning comes when they are drawn.
fn wrap(value: Vec<u8>, width: usize) -> Box<dyn Iterator<Item = Vec<u8>>> {
    let mut at = 0;
    let mut is_first = true;
    Box::new(std::iter::from_fn(move || {
        if at >= value.len() && !is_first {
            return None;
        }
        is_first = false;
        let rest = &value[at..];
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(rest.len());
        let mut n = end.min(width);
        // Not inside a character: back to its first byte.
        while n < end && n > 1 && rest[n] & 0b1100_0000 == 0b1000_0000 {
            n -= 1;
        }
        let line = rest[..n].to_vec();
        at += n;
        // The end of a line is no part of it.
        if n == end {
            at += 1;
        }
        Some(line)
    }))
}

fn hex(value: Vec<u8>, from: u64, width: usize) -> Box<dyn Iterator<Item = Vec<u8>>> {
    // Offset 8, then three cells of hex and one of text for each byte.
    let n = if width >= 8 + 2 + 16 * 4 + 4 { 16 } else { 8 };
    let n_lines = value.len().div_ceil(n);
    Box::new((0..n_lines).map(move |line| {
        let at = line * n;
        let part = &value[at..value.len().min(at + n)];
        let mut text = format!("{:08x}  ", from + at as u64);
        for byte in part {
            text.push_str(&format!("{byte:02x} "));
        }
        for _ in part.len()..n {
            text.push_str("   ");
        }
        text.push(' ');
        text.extend(part.iter().map(|byte| {
            if byte.is_ascii_graphic() || *byte == b' ' {
                char::from(*byte)
            } else {
                '.'
            }
        }));
        text.into_bytes()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_and_nothing_of_it_changes() {
        let table = [
            (
                r#"{"b":1,"a":[],"b":{}}"#,
                "{\n  \"b\": 1,\n  \"a\": [],\n  \"b\": {}\n}",
            ),
            (
                r#"[12345678901234567890.10, 1e400]"#,
                "[\n  12345678901234567890.10,\n  1e400\n]",
            ),
            (
                r#"{"a":"x\\\",{[: \"y"}"#,
                "{\n  \"a\": \"x\\\\\\\",{[: \\\"y\"\n}",
            ),
            ("[ [ ] , [ 1 ] ]", "[\n  [],\n  [\n    1\n  ]\n]"),
            ("{}", "{}"),
            (
                r#"{"a":"\\","b":1}"#,
                "{\n  \"a\": \"\\\\\",\n  \"b\": 1\n}",
            ),
        ];
        for (json, expected) in table {
            let laid_out = laid_out(json.as_bytes()).map(|out| String::from_utf8(out).unwrap());
            assert_eq!(laid_out.as_deref(), Some(expected), "{json}");
        }
        for text in ["{", "[1,]", "{'a':1}", "[1] x", &"[".repeat(10_000)] {
            assert_eq!(laid_out(text.as_bytes()), None, "{text:.20}");
        }
    }

    #[test]
    fn lines_are_cut_by_length_and_at_their_ends() {
        let cut = |text: &str| -> Vec<String> {
            wrap(text.as_bytes().to_vec(), 4)
                .map(|line| String::from_utf8(line).unwrap())
                .collect()
        };
        assert_eq!(cut("abcdefgh\nij"), ["abcd", "efgh", "ij"]);
        assert_eq!(cut("abc\n\nd"), ["abc", "", "d"]);
        assert_eq!(cut("aaa\u{e9}b"), ["aaa", "\u{e9}b"]);
        assert_eq!(cut(""), [""]);
    }
}
