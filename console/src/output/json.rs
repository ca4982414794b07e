//! JSON and JSON lines: every document and every line carries `schema` and `ts`, first.

use super::clean;
use super::document::Document;

/// The whole document; `pretty` for a terminal.
pub(super) fn document(document: &Document, ts: &str, pretty: bool) -> String {
    let mut json = stamped(document.name, ts, &document.body);
    if let Some(list) = &document.list {
        // The body of a list is an object, too; rows and next go before its end.
        json.pop();
        json.push_str(",\"rows\":[");
        json.push_str(&list.rows.join(","));
        json.push_str("],\"next\":");
        json.push_str(
            &list
                .next
                .as_ref()
                .map_or_else(|| "null".to_owned(), |next| quoted(next)),
        );
        json.push('}');
    }
    let lines = if pretty { indent(&json) } else { json };
    // Line by line, so that our own line breaks are not taken for the data's.
    let mut out = String::with_capacity(lines.len() + 1);
    for line in lines.split('\n') {
        out.push_str(&clean::json(line));
        out.push('\n');
    }
    out
}

/// One line per row, or one line for a document that is no list.
pub(super) fn lines(document: &Document, ts: &str) -> String {
    let mut out = String::new();
    let mut push = |body: &str| {
        out.push_str(&clean::json(&stamped(document.name, ts, body)));
        out.push('\n');
    };
    match &document.list {
        Some(list) => list.rows.iter().for_each(|row| push(row)),
        None => push(&document.body),
    }
    out
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn stamped(name: &str, ts: &str, body: &str) -> String {
    let rest = body.strip_prefix('{').unwrap_or("}");
    let comma = if rest == "}" { "" } else { "," };
    // A row of the audit has its own `ts`, which is the one that counts.
    let own_ts = rest.contains("\"ts\":") && has_top_level_ts(body);
    let ts = if own_ts {
        String::new()
    } else {
        format!(",\"ts\":{}", quoted(ts))
    };
    format!("{{\"schema\":\"pipectl/{name}/1\"{ts}{comma}{rest}")
}

fn has_top_level_ts(body: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(body)
        .is_ok_and(|map| map.contains_key("ts"))
}

/// Two-space indentation of compact JSON, keeping the order of keys (a `Value` would sort them).
fn indent(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut chars = compact.chars().peekable();
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                if let Some(end @ ('}' | ']')) = chars.peek().copied() {
                    out.push(end);
                    chars.next();
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use pipectl_shared::untrusted::corpus;

    use super::super::document::List;
    use super::super::text::Text;
    use super::*;

    fn list(rows: Vec<String>) -> Document {
        let list = List {
            rows,
            next: Some("c\u{202e}".to_owned()),
            keys: &[],
        };
        Document {
            name: "x",
            body: "{}".to_owned(),
            list: Some(list),
            text: Text::default(),
        }
    }

    #[test]
    fn documents_carry_schema_and_ts_and_parse_back() {
        for pretty in [false, true] {
            let hostile: Vec<String> = corpus::hostile()
                .into_iter()
                .map(|it| String::from_utf8_lossy(&it.bytes).into_owned())
                .collect();
            let row =
                |text: &String| serde_json::json!({"a": text, "b": {}, "c": [1, 2]}).to_string();
            let rows = hostile.iter().map(row).collect();
            let text = document(&list(rows), "2026-01-01T00:00:00.000Z", pretty);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["schema"], "pipectl/x/1");
            assert_eq!(value["ts"], "2026-01-01T00:00:00.000Z");
            for (at, text) in hostile.iter().enumerate() {
                assert_eq!(value["rows"][at]["a"], *text);
            }
            assert_eq!(value["next"], "c\u{202e}");
            assert!(
                !text.contains('\u{202e}') && !text.contains('\u{9b}') && !text.contains('\u{1b}')
            );
        }
    }

    #[test]
    fn json_lines_carry_schema_and_ts_each() {
        let text = lines(&list(vec!["{\"a\":1}".to_owned(), "{}".to_owned()]), "T");
        let expected = "{\"schema\":\"pipectl/x/1\",\"ts\":\"T\",\"a\":1}\n{\"schema\":\"pipectl/x/1\",\"ts\":\"T\"}\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_row_that_has_its_own_time_keeps_it() {
        let text = lines(&list(vec!["{\"seq\":1,\"ts\":\"then\"}".to_owned()]), "now");
        assert_eq!(
            text,
            "{\"schema\":\"pipectl/x/1\",\"seq\":1,\"ts\":\"then\"}\n"
        );
    }
}
