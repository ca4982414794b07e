//! Causes: errors folded into fingerprints, so that a thousand dead letters of one kind are one row.

use sha2::{Digest as _, Sha256};

/// 16 hex digits over stage, reason and the error with what differs from entry to entry taken out: quoted values, numbers,
/// and hexadecimal words of 8 and more characters. A field's name stays, quoted as it is: it stands in the configuration,
/// and an event without a user is another fault than one without a time.
pub fn fingerprint(stage: &str, reason: &str, error: &str) -> String {
    let mut hash = Sha256::new();
    for part in [stage, reason, &generalised(error)] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The error with its particulars replaced by marks.
fn generalised(error: &str) -> String {
    let mut out = String::with_capacity(error.len());
    let mut quote: Option<Quoted> = None;
    for word in error.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_') {
        let end = word
            .chars()
            .last()
            .filter(|c| !c.is_alphanumeric() && *c != '_');
        let body = end.map_or(word, |c| &word[..word.len() - c.len_utf8()]);
        if quote == Some(Quoted::Name) {
            out.push_str(body);
        } else if quote.is_none() {
            let is_number = !body.is_empty() && body.bytes().all(|b| b.is_ascii_digit());
            let is_hex = body.len() >= 8
                && body.bytes().all(|b| b.is_ascii_hexdigit())
                && body.bytes().any(|b| b.is_ascii_digit());
            out.push_str(if is_number || is_hex { "#" } else { body });
        }
        match (end, quote) {
            (Some('"'), None) if out.ends_with("field ") => {
                quote = Some(Quoted::Name);
                out.push('"');
            }
            (Some('"'), None) => {
                quote = Some(Quoted::Value);
                out.push_str("\"*");
            }
            (Some('"'), Some(_)) => {
                quote = None;
                out.push('"');
            }
            (Some(c), None | Some(Quoted::Name)) => out.push(c),
            (Some(_), Some(Quoted::Value)) | (None, _) => {}
        }
    }
    out
}

/// What stands between two quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoted {
    Name,
    Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_only_in_their_particulars_have_one_cause() {
        let a = fingerprint(
            "enrich",
            "rejected",
            "field \"ts\" is \"17x\", no whole number (entry 1700000000000-0)",
        );
        let b = fingerprint(
            "enrich",
            "rejected",
            "field \"ts\" is \"a\\u{1b}b\", no whole number (entry 1700000000009-3)",
        );
        assert_eq!(a, b);
        assert_eq!(a.len(), 16);
        let other = fingerprint("enrich", "rejected", "field \"ts\" is missing");
        assert_ne!(a, other);
        assert_ne!(
            other,
            fingerprint("enrich", "rejected", "field \"user_id\" is missing"),
            "another field is another cause"
        );
        assert_ne!(
            a,
            fingerprint(
                "correlate",
                "rejected",
                "field \"ts\" is \"17x\", no whole number (entry 1-0)"
            )
        );
    }
}
