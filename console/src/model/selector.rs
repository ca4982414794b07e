//! The filter line of lists that the daemon pages: words that the daemon understands become a Selection, the rest is
//! looked for in the rows that are loaded.

use pipectl_shared::plan::Selection;

use crate::output::human::parse_duration;

/// A filter line, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selector {
    /// For the daemon; `all` is not set.
    pub(crate) select: Selection,
    /// For the loaded rows; empty = every row.
    pub(crate) text: String,
}

/// Reads `stage=enrich consumer=a-1 idle>60s tries>=3 cause=1f2e where value > 5`, and other words as text. `where` takes
/// the rest of the line as an expression over the entry's fields.
///
/// # Errors
/// A sentence that says which word is wrong and how to write it.
pub(crate) fn parse_selector(line: &str) -> Result<Selector, String> {
    let mut selector = Selector::default();
    let (words, expression) = match line.split_once("where ") {
        Some((before, after)) if before.is_empty() || before.ends_with(' ') => {
            (before, Some(after.trim()))
        }
        _ => (line, None),
    };
    if let Some(expression) = expression.filter(|text| !text.is_empty()) {
        selector.select.matching = Some(expression.to_owned());
    }
    let mut rest = Vec::new();
    for word in words.split_whitespace() {
        if let Some(name) = word.strip_prefix("stage=") {
            selector.select.stage = Some(name.to_owned());
        } else if let Some(name) = word.strip_prefix("consumer=") {
            selector.select.consumer = Some(name.to_owned());
        } else if let Some(name) = word.strip_prefix("cause=") {
            selector.select.cause = Some(name.to_owned());
        } else if let Some(id) = word.strip_prefix("id=") {
            selector.select.ids.push(id.to_owned());
        } else if let Some(value) = word.strip_prefix("idle>") {
            let value = value.trim_start_matches('=');
            let idle = parse_duration(value).map_err(|why| format!("idle>{value}: {why}"))?;
            selector.select.min_idle_ms = Some(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        } else if let Some(value) = word.strip_prefix("tries>=") {
            selector.select.min_tries = Some(value.parse().map_err(|_| {
                format!("tries>={value}: a number of failed tries, such as tries>=3")
            })?);
        } else {
            rest.push(word);
        }
    }
    selector.text = rest.join(" ");
    Ok(selector)
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
}
