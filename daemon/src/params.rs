//! Checks parameters against a `Spec`, all faults at once, so that no command and no experiment checks for itself.

use std::time::Duration;

use pipectl_shared::rpc::{Code, Error};
use pipectl_shared::spec::{Param, ParamKind, Spec};
use pipectl_shared::units::{parse_duration, print_duration};
use serde_json::{Map, Value};

use crate::plans::words::{hint_names, nearest, quote};
use crate::store::Layout;

/// Longest text of a parameter, in bytes: names and reasons, no payloads.
const TEXT_MAX: usize = 1_024;

/// The parameters with defaults filled in and integers as numbers. Errors: `InvalidParams` with every fault, and the
/// nearest name of an unknown one as hint.
pub fn check(
    spec: &Spec,
    given: &Map<String, Value>,
    layout: &Layout,
) -> Result<Map<String, Value>, Error> {
    let mut faults = Vec::new();
    let mut hint = None;
    let names = || spec.params.iter().map(|p| p.name.as_str());
    for name in given
        .keys()
        .filter(|name| names().all(|known| known != name.as_str()))
        .take(10)
    {
        faults.push(format!("{} is no parameter", quote(name)));
        hint = hint.or_else(|| match names().count() {
            0 => Some(format!("{} has no parameters", spec.name)),
            _ => Some(hint_names(name, names())),
        });
    }
    let mut checked = Map::new();
    for param in &spec.params {
        let value = match (
            given.get(&param.name).filter(|v| !v.is_null()),
            &param.default,
        ) {
            (None, None) => Err((
                format!("{} is missing", param.name),
                Some(param.summary.clone()),
            )),
            // An empty default means that it may be left out.
            (None, Some(default)) if default.is_empty() => continue,
            (None, Some(default)) => read(param, &Value::from(default.as_str()), layout),
            (Some(value), _) => read(param, value, layout),
        };
        match value {
            Ok(value) => drop(checked.insert(param.name.clone(), value)),
            Err((fault, what)) => {
                faults.push(fault);
                hint = hint.or(what);
            }
        }
    }
    if faults.is_empty() {
        return Ok(checked);
    }
    let error = Error::new(
        Code::InvalidParams,
        format!("{}: {}", spec.name, faults.join("; ")),
    );
    Err(match hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

/// One value, or what is wrong with it and what to do.
fn read(param: &Param, value: &Value, layout: &Layout) -> Result<Value, (String, Option<String>)> {
    let name = &param.name;
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        _ => return Err((format!("{name} must be a text or a number"), None)),
    };
    if text.len() > TEXT_MAX {
        return Err((format!("{name} is longer than {TEXT_MAX} bytes"), None));
    }
    let bad = |expected: &str| (format!("{name} is {}, not {expected}", quote(&text)), None);
    match &param.kind {
        ParamKind::Text | ParamKind::Consumer => {
            if text.is_empty() {
                return Err((format!("{name} is empty"), None));
            }
            Ok(Value::String(text))
        }
        ParamKind::Integer { min, max } => match text.parse::<i64>() {
            Ok(n) if (*min..=*max).contains(&n) => Ok(Value::from(n)),
            _ => Err(bad(&format!("a whole number from {min} to {max}"))),
        },
        ParamKind::Duration => {
            if is_duration(&text) {
                return Ok(Value::String(text));
            }
            Err(bad("a duration such as 30s"))
        }
        ParamKind::Span { min_ms, max_ms } => {
            let (min, max) = (
                Duration::from_millis(*min_ms),
                Duration::from_millis(*max_ms),
            );
            match parse_duration(&text) {
                Ok(span) if (min..=max).contains(&span) => Ok(Value::String(text)),
                _ => Err(bad(&format!(
                    "a duration from {} to {}",
                    print_duration(min),
                    print_duration(max)
                ))),
            }
        }
        ParamKind::Share { min, max } => match text.trim_end_matches('%').parse::<u8>() {
            Ok(n) if (*min..=*max).contains(&n) => Ok(Value::from(n)),
            _ => Err(bad(&format!("a share from {min}% to {max}%"))),
        },
        ParamKind::Stage => {
            if layout.stage(&text).is_some() {
                return Ok(Value::String(text));
            }
            let stages = layout.stages.iter().map(|s| s.name.as_str());
            Err((
                format!("no stage is named {}", quote(&text)),
                Some(hint_names(&text, stages)),
            ))
        }
        ParamKind::Choice(words) => {
            if words.contains(&text) {
                return Ok(Value::String(text));
            }
            let meant = nearest(&text, words.iter().map(String::as_str))
                .map(|word| format!("did you mean {word}?"));
            Err((bad(&format!("one of {}", words.join(", "))).0, meant))
        }
    }
}

fn is_duration(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (1..=12).contains(&digits) && matches!(&text[digits..], "ms" | "s" | "m" | "h" | "d")
}

#[cfg(test)]
mod tests {
    use pipectl_shared::rpc::Role;
    use pipectl_shared::spec::{Risk, Scope};
    use serde_json::json;

    use super::*;
    use crate::plans::testkit;

    fn spec() -> Spec {
        let param = |name: &str, kind, default: Option<&str>| Param {
            name: name.to_owned(),
            summary: format!("The {name}."),
            kind,
            default: default.map(str::to_owned),
        };
        Spec {
            name: "test.all".to_owned(),
            summary: "All kinds.".to_owned(),
            params: vec![
                param("stage", ParamKind::Stage, None),
                param("workers", ParamKind::Integer { min: 0, max: 64 }, Some("2")),
                param("wait", ParamKind::Duration, Some("30s")),
                param(
                    "point",
                    ParamKind::Choice(vec!["after_read".to_owned(), "after_commit".to_owned()]),
                    Some("after_read"),
                ),
            ],
            scope: Scope::Stage,
            risk: Risk::Low,
            role: Role::Operator,
        }
    }

    #[test]
    fn parameters_are_checked_against_their_kinds() {
        let table = [
            ("defaults", json!({"stage": "enrich"}), Ok(json!(2))),
            (
                "a number as text",
                json!({"stage": "enrich", "workers": "7"}),
                Ok(json!(7)),
            ),
            (
                "a number",
                json!({"stage": "enrich", "workers": 0}),
                Ok(json!(0)),
            ),
            (
                "out of range",
                json!({"stage": "enrich", "workers": 65}),
                Err("whole number from 0 to 64"),
            ),
            (
                "below the range",
                json!({"stage": "enrich", "workers": -1}),
                Err("whole number"),
            ),
            (
                "a fraction",
                json!({"stage": "enrich", "workers": 1.5}),
                Err("whole number"),
            ),
            (
                "huge",
                json!({"stage": "enrich", "workers": 1e300}),
                Err("whole number"),
            ),
            ("missing", json!({}), Err("stage is missing")),
            (
                "null is missing",
                json!({"stage": null}),
                Err("stage is missing"),
            ),
            (
                "unknown stage",
                json!({"stage": "enrch"}),
                Err("no stage is named \"enrch\""),
            ),
            ("an object", json!({"stage": {}}), Err("must be a text")),
            (
                "unknown name",
                json!({"stage": "enrich", "worker": 1}),
                Err("\"worker\" is no parameter"),
            ),
            (
                "a bad duration",
                json!({"stage": "enrich", "wait": "30 parsecs"}),
                Err("a duration"),
            ),
            (
                "a bad choice",
                json!({"stage": "enrich", "point": "after_reed"}),
                Err("one of after_read, after_commit"),
            ),
            (
                "hostile",
                json!({"stage": "\u{1b}[2J"}),
                Err("no stage is named"),
            ),
        ];
        let layout = testkit::layout();
        for (desc, given, expected) in table {
            let checked = check(&spec(), given.as_object().unwrap(), &layout);
            match (checked, expected) {
                (Ok(checked), Ok(workers)) => assert_eq!(checked["workers"], workers, "{desc}"),
                (Err(error), Err(part)) => {
                    assert!(error.is(Code::InvalidParams), "{desc}");
                    assert!(error.message.contains(part), "{desc}: {}", error.message);
                    assert!(!error.message.contains('\u{1b}'), "{desc}");
                }
                (checked, _) => panic!("{desc}: {checked:?}"),
            }
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let given = json!({"stage": "x", "workers": "many", "wat": 1});
        let error = check(&spec(), given.as_object().unwrap(), &testkit::layout()).unwrap_err();
        for part in ["wat", "no stage", "workers"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
    }
}
