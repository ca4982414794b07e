//! The filter line of lists that the daemon pages: words that the daemon understands become a Selection, the rest is
//! looked for in the rows that are loaded.

use pipectl_shared::plan::Selection;

use crate::output::human::parse_duration;
use crate::place::Id;

/// A filter line, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selector {
    /// For the daemon; `all` is not set.
    pub(crate) select: Selection,
    /// For the loaded rows; empty = every row.
    pub(crate) text: String,
}

/// Whether the daemon selects the rows of this list by a [`Selection`]; elsewhere a filter is only looked for in the rows.
pub(crate) fn has_selection(id: Id) -> bool {
    matches!(id, Id::Pending | Id::Dead)
}

/// A word of a filter line, such as `consumer=a-1`, in quotes where the value needs them. The only way filters are built
/// from names, which may hold anything.
pub(crate) fn word(key: &str, value: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
    if !value.is_empty() && value.chars().all(is_plain) {
        return format!("{key}={value}");
    }
    let mut word = format!("{key}=\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            c if c.is_control() => word.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

/// Reads `stage=enrich consumer="a 1" idle>60s tries>=3 cause=1f2e where value > 5`, and other words as text. Values with
/// spaces stand in double quotes, and in these `\"`, `\\` and `\u{1b}` are one character. `where` takes the rest of the line
/// as an expression over the entry's fields.
///
/// # Errors
/// A sentence that says which word is wrong and how to write it.
pub(crate) fn parse_selector(line: &str) -> Result<Selector, String> {
    let mut selector = Selector::default();
    let mut text: Vec<String> = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(expression) = rest.strip_prefix("where ") {
            let expression = expression.trim();
            selector.select.matching = Some(expression.to_owned()).filter(|text| !text.is_empty());
            break;
        }
        let (word, after) = next_word(rest)?;
        rest = after.trim_start();
        let select = &mut selector.select;
        if let Some(name) = word.strip_prefix("stage=") {
            select.stage = Some(name.to_owned());
        } else if let Some(name) = word.strip_prefix("consumer=") {
            select.consumer = Some(name.to_owned());
        } else if let Some(name) = word.strip_prefix("cause=") {
            select.cause = Some(name.to_owned());
        } else if let Some(id) = word.strip_prefix("id=") {
            select.ids.push(id.to_owned());
        } else if let Some(value) = word.strip_prefix("idle>") {
            let value = value.trim_start_matches('=');
            let idle = parse_duration(value).map_err(|why| format!("idle>{value}: {why}"))?;
            select.min_idle_ms = Some(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        } else if let Some(value) = word.strip_prefix("tries>=") {
            select.min_tries = Some(value.parse().map_err(|_| {
                format!("tries>={value}: a number of failed tries, such as tries>=3")
            })?);
        } else {
            text.push(word);
        }
    }
    selector.text = text.join(" ");
    Ok(selector)
}

/// The first word of a line that begins with one, quotes and escapes resolved, and what follows it.
fn next_word(line: &str) -> Result<(String, &str), String> {
    let mut word = String::new();
    let mut is_quoted = false;
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let mut after = &rest[c.len_utf8()..];
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => {
                let (c, n) = escaped(after).ok_or_else(|| {
                    format!(r#"{word}\...: in quotes only \" \\ and \u{{1b}} are known"#)
                })?;
                word.push(c);
                after = &after[n..];
            }
            c if c.is_whitespace() && !is_quoted => return Ok((word, rest)),
            c => word.push(c),
        }
        rest = after;
    }
    if is_quoted {
        return Err(format!("{word}: the closing quote is missing"));
    }
    Ok((word, ""))
}

/// The character that stands behind a backslash, and the bytes it takes.
fn escaped(text: &str) -> Option<(char, usize)> {
    match text.chars().next()? {
        c @ ('"' | '\\') => Some((c, 1)),
        'u' => {
            let digits = text[1..].strip_prefix('{')?.split_once('}')?.0;
            let c = u32::from_str_radix(digits, 16)
                .ok()
                .and_then(char::from_u32)?;
            Some((c, digits.len() + "u{}".len()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_the_daemon_understands_go_to_it_and_the_rest_stays() {
        let read =
            parse_selector("timeout stage=enrich idle>60s tries>=3 up where value > 5").unwrap();
        assert_eq!(read.text, "timeout up");
        assert_eq!(
            read.select,
            Selection {
                stage: Some("enrich".to_owned()),
                min_idle_ms: Some(60_000),
                min_tries: Some(3),
                matching: Some("value > 5".to_owned()),
                ..Selection::default()
            }
        );
        assert_eq!(parse_selector("").unwrap(), Selector::default());
        assert_eq!(parse_selector("nowhere land").unwrap().text, "nowhere land");
    }

    #[test]
    fn a_wrong_word_is_named() {
        for (line, part) in [("idle>soon", "idle>soon"), ("tries>=many", "tries>=many")] {
            assert!(parse_selector(line).unwrap_err().contains(part), "{line}");
        }
    }

    #[test]
    fn names_with_spaces_and_quotes_stand_in_quotes() {
        let table = [
            (r#"consumer="a 1""#, "a 1"),
            (r#"consumer="say \"hi\" \\ there""#, r#"say "hi" \ there"#),
            (r#"consumer="some where x""#, "some where x"),
            (r"consumer=back\slash", r"back\slash"),
            (r#"consumer="\u{1b}[2J""#, "\x1b[2J"),
            (r#"consumer="""#, ""),
            (r#"consumer=a" "b"#, "a b"),
        ];
        for (line, name) in table {
            let read = parse_selector(line).unwrap();
            assert_eq!(read.select.consumer.as_deref(), Some(name), "{line}");
            assert_eq!(read.text, "", "{line}");
        }
        assert_eq!(
            parse_selector(r#""stage=x" "two words""#)
                .unwrap()
                .select
                .stage,
            Some("x".to_owned())
        );
        for (line, part) in [
            (r#"consumer="open"#, "closing quote"),
            (r#"consumer="\q""#, "only"),
            (r#"consumer="\u{110000}""#, "only"),
            (r#"consumer="\u{1b"#, "only"),
        ] {
            assert!(parse_selector(line).unwrap_err().contains(part), "{line}");
        }
    }

    #[test]
    fn every_name_is_read_back_as_it_is() {
        for hostile in pipectl_shared::untrusted::corpus::hostile() {
            let name = String::from_utf8_lossy(&hostile.bytes);
            let line = format!("{} {} x", word("stage", &name), word("consumer", &name));
            let read = parse_selector(&line).unwrap();
            assert_eq!(
                read.select.stage.as_deref(),
                Some(&*name),
                "{}",
                hostile.desc
            );
            assert_eq!(
                read.select.consumer.as_deref(),
                Some(&*name),
                "{}",
                hostile.desc
            );
            assert_eq!(read.text, "x", "{}", hostile.desc);
        }
    }
}
