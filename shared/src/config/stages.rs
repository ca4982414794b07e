//! Stages and their operators: what each reads, in which order they stand, and what only all of them together show.

use super::build::{Reader, Scope};
use super::fault::{nearest, shown};
use super::names::RESERVED_STAGES;
use super::tree::{FILE, Place};
use super::types::*;
use super::walk::Named;

/// Group of the first stage that reads the source stream (contract.md).
const FIRST_GROUP: &str = "event_group";

/// Builds the stages in an order in which each comes after what it reads from.
pub(super) fn build(reader: &mut Reader<'_, '_>, event: &Event) -> Vec<Stage> {
    let names = reader.walked.stages.clone();
    if names.is_empty()
        && !reader
            .walked
            .wrong
            .iter()
            .any(|path| path.starts_with("stage"))
    {
        let place = Place::new(FILE, &(0..0));
        let hint = "add [stage.NAME] with its operators; the shipped pipeline.toml has two";
        reader.report.fault(
            place,
            "there is no stage, so nothing would be done",
            Some(hint),
        );
    }
    let scopes: Vec<Scope> = names
        .iter()
        .enumerate()
        .map(|(i, named)| reader.named("stage", i, named))
        .collect();
    let mut inputs = Vec::with_capacity(names.len());
    for (named, scope) in names.iter().zip(&scopes) {
        refuse_reserved(reader, named, event);
        inputs.push(input(reader, scope, &names, event));
    }
    let first = inputs.iter().position(|from| *from == From::Source);
    let mut stages = Vec::with_capacity(names.len());
    for (i, (named, scope)) in names.iter().zip(&scopes).enumerate() {
        let own = if first == Some(i) {
            FIRST_GROUP
        } else {
            &named.name
        };
        let group = reader.derived(scope, "group", own);
        stages.push(stage(reader, named, scope, inputs[i].clone(), group));
    }
    refuse_shared_groups(reader, &stages, &scopes, event);
    refuse_cycles(reader, &stages, &scopes);
    refuse_second_aggregate(reader, &stages);
    in_order(stages)
}

fn refuse_reserved(reader: &mut Reader<'_, '_>, named: &Named, event: &Event) {
    let why = if named.name == event.stream {
        "is the name of the source stream"
    } else if RESERVED_STAGES.contains(&named.name.as_str()) {
        "is the name of one of pipelined's own keys"
    } else {
        return;
    };
    let what = format!("a stage cannot be named `{}`: that {why}", named.name);
    reader
        .report
        .fault(named.place, &what, Some("choose another name"));
}

fn input(reader: &mut Reader<'_, '_>, scope: &Scope, names: &[Named], event: &Event) -> From {
    let text = reader.derived(scope, "from", &event.stream);
    if text == event.stream {
        return From::Source;
    }
    let known = names.iter().any(|named| named.name == text);
    // A table whose own name is at fault is no second fault here.
    let wrong = reader.walked.wrong.contains(&format!("stage.{text}"));
    if let (false, false, Some(place)) = (known, wrong, reader.place(scope, "from")) {
        let all = names
            .iter()
            .map(|named| named.name.as_str())
            .chain([event.stream.as_str()]);
        let hint = match nearest(&text, all.clone()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("known here: {}", all.collect::<Vec<_>>().join(", ")),
        };
        let what = format!(
            "`{}`: there is no stage \"{}\", and the source stream is \"{}\"",
            scope.path("from"),
            shown(&text),
            shown(&event.stream)
        );
        reader.report.fault(place, &what, Some(&hint));
    }
    From::Stage(text)
}

fn stage(
    reader: &mut Reader<'_, '_>,
    named: &Named,
    scope: &Scope,
    from: From,
    group: String,
) -> Stage {
    let delivery = match reader.text(scope, "delivery").as_str() {
        "owned" => Delivery::Owned,
        _ => Delivery::Shared,
    };
    let chain = reader.walked.operators.get(&named.name);
    let chain = chain.cloned().unwrap_or_default();
    if chain.is_empty() {
        // Otherwise the keys of the operators stand for the list.
        let _ = reader.names(scope, "operators");
    }
    let mut operators = Vec::with_capacity(chain.len());
    for (i, entry) in chain.iter().enumerate() {
        let Some(kind) = entry.kind else { continue };
        let inside = reader.operator(scope, i, kind, entry.place);
        let Some(operator) = operator(reader, &inside, kind, entry.place) else {
            continue;
        };
        if let Operator::Count(count) = &operator {
            refuse_unfit_count(reader, named, delivery, &operators, count, entry.place);
        }
        operators.push(operator);
    }
    Stage {
        name: named.name.clone(),
        from,
        group,
        delivery,
        workers: reader.number(scope, "workers"),
        operators,
        timeout: reader.duration(scope, "timeout"),
        claim_after: reader.duration(scope, "claim_after"),
        batch: reader.number(scope, "batch"),
        prefetch: reader.number(scope, "prefetch"),
        max_entry: reader.integer(scope, "max_entry"),
    }
}

/// One operator; `None` if a fault leaves nothing to build it from.
fn operator(
    reader: &mut Reader<'_, '_>,
    scope: &Scope,
    kind: &str,
    place: Place,
) -> Option<Operator> {
    let _ = reader.text(scope, "kind");
    Some(match kind {
        "validate" => {
            let validate = Validate {
                required: reader.names(scope, "required"),
                integers: reader.names(scope, "integers"),
                numbers: reader.names(scope, "numbers"),
            };
            let given = ["required", "integers", "numbers"]
                .iter()
                .any(|name| reader.is_given(scope, name));
            if !given {
                let what = format!("`{}` checks nothing", scope.table());
                let hint = "give it required, integers or numbers, or leave it out";
                reader.report.fault(place, &what, Some(hint));
            }
            Operator::Validate(validate)
        }
        "filter" => Operator::Filter(Filter {
            keep: reader.expression(scope, "keep")?,
        }),
        "lookup" => {
            let cache = reader.inner(scope, "cache");
            Operator::Lookup(Lookup {
                key: reader.text(scope, "key"),
                into: reader.text(scope, "into"),
                hash: reader.text(scope, "hash"),
                cache_entries: reader.integer(&cache, "entries"),
                ttl: reader.duration(&cache, "ttl"),
                negative_ttl: reader.duration(&cache, "negative_ttl"),
                stale_ok: reader.duration(scope, "stale_ok"),
            })
        }
        "count" => Operator::Count(Count {
            key: reader.text(scope, "key"),
            into: reader.text(scope, "into"),
            forget_after: reader.duration(scope, "forget_after"),
        }),
        "aggregate" => Operator::Aggregate(Aggregate {
            by: reader
                .names(scope, "by")
                .iter()
                .map(|name| match name.as_str() {
                    "type" => By::Type,
                    "product" => By::Product,
                    _ => By::Session,
                })
                .collect(),
            session_keep: reader.duration(scope, "session_keep"),
        }),
        _ => return None,
    })
}

/// What would make the numbers of a `count` wrong.
fn refuse_unfit_count(
    reader: &mut Reader<'_, '_>,
    named: &Named,
    delivery: Delivery,
    before: &[Operator],
    count: &Count,
    place: Place,
) {
    if delivery == Delivery::Shared {
        let what = format!(
            "`count` keeps state, but the workers of stage `{}` share its entries: two would number the same key at once",
            named.name
        );
        let hint = format!("set stage.{}.delivery = \"owned\"", named.name);
        reader.report.fault(place, &what, Some(&hint));
    }
    let same = |op: &&Operator| matches!(op, Operator::Count(other) if other.into == count.into);
    if before.iter().any(|op| same(&op)) {
        let what = format!(
            "a second `count` into \"{}\" in stage `{}`: both would keep their numbers under one name",
            shown(&count.into),
            named.name
        );
        let hint = "give each its own into";
        reader.report.fault(place, &what, Some(hint));
    }
    if count.into == count.key {
        let what = format!(
            "`count` would write the number over its key \"{}\"",
            shown(&count.key)
        );
        reader
            .report
            .fault(place, &what, Some("give into another name"));
    }
    let makes_key = |op: &Operator| match op {
        Operator::Lookup(lookup) => count.key.starts_with(&format!("{}.", lookup.into)),
        Operator::Count(other) => other.into == count.key,
        _ => false,
    };
    if before.iter().any(makes_key) {
        let what = format!(
            "the key \"{}\" of `count` is written by an operator before it, but state is loaded by what the stage reads",
            shown(&count.key)
        );
        let hint = "put the count into a stage of its own that reads this one";
        reader.report.fault(place, &what, Some(hint));
    }
}

/// Two stages with one group on one stream would each get a part of the entries.
fn refuse_shared_groups(
    reader: &mut Reader<'_, '_>,
    stages: &[Stage],
    scopes: &[Scope],
    event: &Event,
) {
    for (i, (stage, scope)) in stages.iter().zip(scopes).enumerate() {
        let same = |other: &&Stage| other.from == stage.from && other.group == stage.group;
        let Some(other) = stages[..i].iter().find(same) else {
            continue;
        };
        let stream = match &stage.from {
            From::Source => &event.stream,
            From::Stage(name) => name,
        };
        let place = reader.place(scope, "group").unwrap_or(scope.place());
        let what = format!(
            "stage `{}` has the group \"{}\" on \"{}\", as stage `{}` has: each would get only a part of the entries",
            stage.name,
            shown(&stage.group),
            shown(stream),
            other.name
        );
        reader
            .report
            .fault(place, &what, Some("give each its own group"));
    }
}

/// Every stage has one input, so a cycle is found by following inputs until one comes back.
fn refuse_cycles(reader: &mut Reader<'_, '_>, stages: &[Stage], scopes: &[Scope]) {
    let mut reported = vec![false; stages.len()];
    for start in 0..stages.len() {
        let mut path = vec![start];
        let mut at = start;
        while let Some(next) = input_of(stages, at) {
            if next == start {
                break;
            }
            if path.contains(&next) {
                // A cycle further up, which is reported from one of its own stages.
                path.clear();
                break;
            }
            path.push(next);
            at = next;
        }
        if path.is_empty() || reported[start] || input_of(stages, at) != Some(start) {
            continue;
        }
        for i in &path {
            reported[*i] = true;
        }
        let names = path[1..].iter().chain([&start]);
        let names: Vec<&str> = names.map(|i| stages[*i].name.as_str()).collect();
        let what = format!(
            "stages read from each other in a circle: `{}` reads `{}`",
            stages[start].name,
            names.join("`, which reads `")
        );
        let place = reader.place(&scopes[start], "from");
        let hint = "let one of them read the source stream";
        reader
            .report
            .fault(place.unwrap_or(scopes[start].place()), &what, Some(hint));
    }
}

fn input_of(stages: &[Stage], i: usize) -> Option<usize> {
    match &stages[i].from {
        From::Source => None,
        From::Stage(name) => stages.iter().position(|stage| stage.name == *name),
    }
}

/// All aggregates count into the one `{stream}:counts`, so two of them would count entries twice.
fn refuse_second_aggregate(reader: &mut Reader<'_, '_>, stages: &[Stage]) {
    let mut first: Option<&str> = None;
    for stage in stages {
        let chain = reader.walked.operators.get(&stage.name);
        for entry in chain.cloned().unwrap_or_default() {
            if entry.kind != Some("aggregate") {
                continue;
            }
            if let Some(first) = first {
                let what = format!(
                    "a second aggregate, after that of stage `{first}`: both would count into the same counters"
                );
                let hint = "keep one, in a stage that nothing reads from";
                reader.report.fault(entry.place, &what, Some(hint));
            }
            first = first.or(Some(&stage.name));
        }
    }
}

/// The order of the file, but each stage after its input.
fn in_order(mut stages: Vec<Stage>) -> Vec<Stage> {
    let mut ordered: Vec<Stage> = Vec::with_capacity(stages.len());
    while !stages.is_empty() {
        let next = stages.iter().position(|stage| match &stage.from {
            From::Source => true,
            From::Stage(name) => ordered.iter().any(|done| done.name == *name),
        });
        // Only a cycle or an unknown input leaves none; both are reported, and the configuration is not used.
        ordered.push(stages.remove(next.unwrap_or(0)));
    }
    ordered
}
