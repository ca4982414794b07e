//! The combined log format: `host ident user [time] "request" status bytes "referer" "agent"`.
//!
//! Source: Apache's `mod_log_config`, `"%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\""`, and nginx's
//! predefined `combined`. Both escape quotes inside quoted parts (`\"` there, `\x22` here); values keep these escapes,
//! because what they stand for cannot be told for certain.

use std::borrow::Cow;

use super::Role;
use super::event::Field;

/// All fields that a line can have.
pub(super) const FIELDS: [&str; 13] = [
    "host", "ident", "user", "time", "method", "path", "query", "protocol", "request", "status",
    "bytes", "referer", "agent",
];

/// The field that plays a role unless a mapping says otherwise.
pub(super) fn field_of(role: Role) -> Option<&'static str> {
    match role {
        Role::Key => Some("host"),
        Role::Type => Some("method"),
        Role::Time => Some("time"),
        Role::Value => Some("bytes"),
        Role::Product => Some("path"),
        Role::Id | Role::Session => None,
    }
}

/// Whether a field keeps its name even when a mapping makes it a role: all but those that are roles by themselves.
pub(super) fn is_always_carried(field: &str) -> bool {
    Role::ALL
        .into_iter()
        .all(|role| field_of(role) != Some(field))
}

/// The fields of a line; `ident` and `user` are left out where the log has `-`.
pub(super) fn fields(line: &[u8]) -> Result<Vec<Field<'_>>, String> {
    let mut cursor = Cursor { line, at: 0 };
    let host = cursor.until(b" ", "the host")?;
    let ident = cursor.until(b" ", "the ident")?;
    // A user name may hold spaces; the time behind it begins with a bracket.
    let user = cursor.until(b" [", "the user and the [ before the time")?;
    let time = cursor.until(b"] \"", "the time and the ] behind it")?;
    let request = cursor.quoted("the request", b" ")?;
    let status = cursor.until(b" ", "the status")?;
    let bytes = cursor.until(b" \"", "the bytes and the quote of the referer")?;
    let referer = cursor.quoted("the referer", b" \"")?;
    let agent = cursor.quoted("the agent", b"")?;
    if cursor.at < line.len() {
        return Err(format!(
            "text behind the agent at byte {}, where the combined format ends",
            cursor.at
        ));
    }
    if status.len() != 3 || !is_digits(status) {
        return Err("a status that is not three digits".to_owned());
    }
    let bytes: &[u8] = if bytes == b"-" { b"0" } else { bytes };
    if !is_digits(bytes) {
        return Err("a size in bytes that is neither digits nor -".to_owned());
    }
    let ms = milliseconds(time).ok_or("a time that is not like 17/May/2015:10:05:03 +0000")?;

    let mut fields: Vec<Field<'_>> = Vec::with_capacity(12);
    fields.push(field("host", host));
    fields.extend(
        [field("ident", ident), field("user", user)]
            .into_iter()
            .filter(|(_, value)| **value != *b"-"),
    );
    fields.push((
        Cow::Borrowed("time"),
        Cow::Owned(ms.to_string().into_bytes()),
    ));
    fields.extend(request_fields(request));
    fields.extend([field("status", status), field("bytes", bytes)]);
    fields.extend([field("referer", referer), field("agent", agent)]);
    Ok(fields)
}

fn field<'r>(name: &'static str, value: &'r [u8]) -> Field<'r> {
    (Cow::Borrowed(name), Cow::Borrowed(value))
}

/// `method`, `path`, `query` if there is one, `protocol` if there is one (HTTP/0.9 has none); or `request`, when it is
/// no request line.
fn request_fields(request: &[u8]) -> Vec<Field<'_>> {
    let Some((method, rest)) =
        split_once(request, b' ').filter(|(method, rest)| is_token(method) && !rest.is_empty())
    else {
        return vec![field("request", request)];
    };
    // The target may hold spaces, which broken clients send; the protocol does not.
    let protocol_at = rest
        .iter()
        .rposition(|byte| *byte == b' ')
        .map(|space| space + 1);
    let (target, protocol) = match protocol_at.map(|at| (&rest[..at - 1], &rest[at..])) {
        Some((target, protocol)) if protocol.starts_with(b"HTTP/") && !target.is_empty() => {
            (target, Some(protocol))
        }
        Some(_) | None => (rest, None),
    };
    let (path, query) = match split_once(target, b'?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut fields = vec![field("method", method), field("path", path)];
    fields.extend(query.map(|query| field("query", query)));
    fields.extend(protocol.map(|protocol| field("protocol", protocol)));
    fields
}

/// RFC 9110 section 5.6.2.
fn is_token(method: &[u8]) -> bool {
    let is_token_byte =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !method.is_empty() && method.iter().all(is_token_byte)
}

fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let idx = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..idx], &bytes[idx + 1..]))
}

/// Milliseconds since 1970 of `17/May/2015:10:05:03 +0200`, the zone applied. A leap second counts as the one before.
fn milliseconds(time: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let time: &[u8; 26] = time.try_into().ok()?;
    let separators = [
        (2, b'/'),
        (6, b'/'),
        (11, b':'),
        (14, b':'),
        (17, b':'),
        (20, b' '),
    ];
    if separators.iter().any(|(at, byte)| time[*at] != *byte) {
        return None;
    }
    let month = MONTHS.iter().position(|month| month[..] == time[3..6])?;
    let two = |at: usize| i8::try_from(number(&time[at..at + 2])?).ok();
    let year = number(&time[7..11])?;
    let date = jiff::civil::Date::new(year, i8::try_from(month + 1).ok()?, two(0)?).ok()?;
    let clock = jiff::civil::Time::new(two(12)?, two(15)?, two(18)?.min(59), 0).ok()?;
    let sign = match time[21] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let zone_s = sign * (i32::from(two(22)?) * 3_600 + i32::from(two(24)?) * 60);
    let zone = jiff::tz::Offset::from_seconds(zone_s).ok()?;
    Some(
        zone.to_timestamp(date.to_datetime(clock))
            .ok()?
            .as_millisecond(),
    )
}

fn number(digits: &[u8]) -> Option<i16> {
    if !is_digits(digits) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// How far a line has been read.
struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// What stands before `end`, which is passed over.
    fn until(&mut self, end: &[u8], what: &str) -> Result<&'a [u8], String> {
        let rest = &self.line[self.at..];
        let len = rest.windows(end.len()).position(|window| window == end);
        let len = len.filter(|len| *len > 0);
        let len = len.ok_or_else(|| format!("expected {what} at byte {}", self.at))?;
        self.at += len + end.len();
        Ok(&rest[..len])
    }

    /// What stands before the closing quote; the opening one was passed over. `end` must follow and is passed over too.
    fn quoted(&mut self, what: &str, end: &[u8]) -> Result<&'a [u8], String> {
        let rest = &self.line[self.at..];
        let mut is_escaped = false;
        for (len, byte) in rest.iter().enumerate() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => {
                    let behind = self.at + len + 1;
                    if !self.line[behind..].starts_with(end) {
                        return Err(format!("unexpected text behind {what} at byte {behind}"));
                    }
                    self.at = behind + end.len();
                    return Ok(&rest[..len]);
                }
                _ => {}
            }
        }
        Err(format!(
            "no closing quote for {what}, which begins at byte {}",
            self.at
        ))
    }
}
