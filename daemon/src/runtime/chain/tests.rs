use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::effect::Counter;
use crate::operators::testing::{event, fields, record};

/// An operator made of a closure.
struct Closure<F>(F);

impl<F: Fn(&mut Record, &mut Effects) -> Flow + Send + Sync> Operator for Closure<F> {
    fn kind(&self) -> &'static str {
        "closure"
    }

    fn apply(&self, record: &mut Record, _loaded: &Loaded, effects: &mut Effects) -> Flow {
        (self.0)(record, effects)
    }
}

fn closure(
    apply: impl Fn(&mut Record, &mut Effects) -> Flow + Send + Sync + 'static,
) -> Arc<dyn Operator> {
    Arc::new(Closure(apply))
}

fn count(effects: &mut Effects) {
    effects
        .adds
        .push((Counter::Count(Bytes::from_static(b"n")), 1));
}

fn layout(output: Option<&str>, reads_source: bool) -> StageLayout {
    StageLayout {
        name: "s".into(),
        stream: "events".into(),
        group: "g".into(),
        reads_source,
        output: output.map(str::to_owned),
        output_readers: u32::from(output.is_some()),
        aggregates: false,
        owned: false,
        state: Vec::new(),
    }
}

fn chain(operators: Vec<Arc<dyn Operator>>, output: Option<&str>, reads_source: bool) -> Chain {
    Chain::of(operators, vec![], 1_000, &layout(output, reads_source))
}

fn stage(operators: Vec<config::Operator>) -> config::Stage {
    config::Stage {
        name: "s".into(),
        from: config::From::Source,
        group: "g".into(),
        delivery: config::Delivery::Shared,
        workers: 1,
        operators,
        timeout: Duration::from_secs(30),
        claim_after: Duration::from_secs(60),
        batch: 500,
        prefetch: 1,
        max_entry: 1_000,
    }
}

fn run(chain: &Chain, of: &[(&str, &[u8])]) -> Ended {
    chain.run(&record(of), &Loaded::default())
}

fn failure(ended: Ended) -> Failure {
    match ended {
        Ended::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stage_with_an_output_emits_the_changed_record_with_its_reserved_fields() {
    let set = closure(|record, effects| {
        record.set(Bytes::from_static(b"b"), Bytes::from_static(b"2"));
        count(effects);
        Flow::Next
    });
    let before: &[(&str, &[u8])] = &[
        ("_t", b"1"),
        ("a", b"1"),
        ("traceparent", b"x"),
        ("_origin", b"y"),
    ];
    let ended = run(&chain(vec![Arc::clone(&set)], Some("out"), false), before);
    let mut after = fields(before);
    after.push((Bytes::from_static(b"b"), Bytes::from_static(b"2")));
    let mut want = Effects {
        children: vec![after],
        ..Effects::default()
    };
    count(&mut want);
    assert_eq!(ended, Ended::Apply(want));

    let mut want = Effects::default();
    count(&mut want);
    assert_eq!(
        run(&chain(vec![set], None, false), before),
        Ended::Apply(want),
        "a terminal stage emits nothing"
    );
}

#[test]
fn a_chain_without_operators_passes_records_on() {
    let ended = run(&chain(vec![], Some("out"), true), &[("a", b"1")]);
    assert_eq!(
        ended,
        Ended::Apply(Effects {
            children: vec![fields(&[("a", b"1")])],
            ..Effects::default()
        })
    );
    assert_eq!(
        run(&chain(vec![], None, true), &[("a", b"1")]),
        Ended::Apply(Effects::default())
    );
}

#[test]
fn children_of_an_operator_replace_the_record_and_terminal_stages_drop_them() {
    let split = closure(|_, effects| {
        effects.children.push(fields(&[("x", b"1")]));
        effects.children.push(fields(&[("x", b"2")]));
        Flow::Next
    });
    let want = Effects {
        children: vec![fields(&[("x", b"1")]), fields(&[("x", b"2")])],
        ..Effects::default()
    };
    assert_eq!(
        run(&chain(vec![Arc::clone(&split)], Some("out"), false), &[]),
        Ended::Apply(want)
    );
    assert_eq!(
        run(&chain(vec![split], None, false), &[]),
        Ended::Apply(Effects::default())
    );
}

#[test]
fn an_ended_record_meets_no_further_operator() {
    let never = || closure(|_, _| panic!("must not run"));
    let counting = |flow: Flow| {
        closure(move |_, effects| {
            count(effects);
            effects.children.push(vec![]);
            flow.clone()
        })
    };
    let run = |flow| {
        run(
            &chain(vec![counting(flow), never()], Some("out"), false),
            &[("a", b"1")],
        )
    };
    let mut counted = Effects::default();
    count(&mut counted);
    assert_eq!(
        run(Flow::Done),
        Ended::Apply(counted),
        "applied with its effects, nothing emitted"
    );
    assert_eq!(run(Flow::Filtered), Ended::Filtered);
    assert_eq!(run(Flow::Late), Ended::Late);
    let failure = Failure {
        class: Class::Reject,
        reason: "rejected",
        error: "no".into(),
    };
    assert_eq!(run(Flow::Failed(failure.clone())), Ended::Failed(failure));
}

#[test]
fn a_panic_is_a_failed_try_of_that_record_alone() {
    let picky = closure(|record, effects| {
        count(effects);
        match record.text("do") {
            Some("str") => panic!("plain \x1b[2J"),
            Some("string") => panic!("no {}", record.size()),
            Some("index") => {
                let at = record.fields.len();
                let _ = &record.fields[at];
                Flow::Next
            }
            Some("any") => std::panic::panic_any(7),
            Some("long") => panic!("{}", "x".repeat(100_000)),
            _ => Flow::Next,
        }
    });
    let chain = chain(vec![picky], None, false);
    let table: &[(&[u8], &str)] = &[
        (b"str", "operator closure panicked: plain \\u{1b}[2J"),
        (b"string", "operator closure panicked: no 8"),
        (
            b"index",
            "operator closure panicked: index out of bounds: the len is 1 but the index is 1",
        ),
        (b"any", "operator closure panicked: no message"),
    ];
    for (what, error) in table {
        let failure = failure(run(&chain, &[("do", what)]));
        assert_eq!((failure.class, failure.reason), (Class::Retry, "panic"));
        assert_eq!(failure.error, *error);
    }
    assert!(failure(run(&chain, &[("do", b"long")])).error.len() < 400);
    let mut want = Effects::default();
    count(&mut want);
    assert_eq!(
        run(&chain, &[("do", b"work")]),
        Ended::Apply(want),
        "the next record is worked as ever"
    );
}

#[test]
fn the_original_record_is_never_changed() {
    let spoil = closure(|record, _| {
        record.fields.clear();
        panic!("after the damage")
    });
    let before = record(&[("a", b"1")]);
    let record = before.clone();
    assert!(matches!(
        chain(vec![spoil], None, false).run(&record, &Loaded::default()),
        Ended::Failed(_)
    ));
    assert_eq!(record, before);
}

#[test]
fn an_entry_over_the_limit_is_rejected_before_any_operator() {
    let never = closure(|_, _| panic!("must not run"));
    let chain = chain(vec![never], None, true);
    let large = failure(run(&chain, &[("ab", &[b'x'; 999])]));
    assert_eq!((large.class, large.reason), (Class::Reject, "too_large"));
    assert_eq!(
        large.error,
        "entry of 1001 bytes is over max_entry of 1000 bytes"
    );
    let at_the_limit = failure(run(&chain, &[("ab", &[b'x'; 998])]));
    assert_eq!(at_the_limit.reason, "panic", "the operator was met");
}

#[test]
fn an_entry_of_thousands_of_fields_is_neither_worked_nor_made() {
    let of = |n: usize| {
        let mut record = record(&[]);
        record.fields = (0..n)
            .map(|i| (Bytes::from(i.to_string()), Bytes::from_static(b"x")))
            .collect();
        record
    };
    let chain =
        |operator, output| Chain::of(vec![operator], vec![], 1 << 20, &layout(output, true));
    let never = closure(|_, _| panic!("must not run"));
    let refused = chain(never, None).run(&of(FIELDS_MAX + 1), &Loaded::default());
    let refused = failure(refused);
    assert_eq!(
        (refused.class, refused.reason),
        (Class::Reject, "too_many_fields")
    );
    let adds = || {
        closure(|record, _| {
            record.set(Bytes::from_static(b"one more"), Bytes::new());
            Flow::Next
        })
    };
    let forwards = chain(adds(), Some("out"));
    let made = failure(forwards.run(&of(FIELDS_MAX), &Loaded::default()));
    assert_eq!(made.reason, "too_many_fields");
    let ends = chain(adds(), None).run(&of(FIELDS_MAX), &Loaded::default());
    assert!(
        matches!(ends, Ended::Apply(_)),
        "nothing is forwarded: {ends:?}"
    );
}

#[test]
fn the_first_stage_rejects_what_no_door_could_parse() {
    let unparsed: &[(&str, &[u8])] = &[
        ("raw", b"{"),
        ("parse_error", b"line 7: expected \x1b value"),
    ];
    let first = chain(vec![], Some("out"), true);
    let refused = failure(run(&first, unparsed));
    assert_eq!(
        (refused.class, refused.reason),
        (Class::Reject, "parse_error")
    );
    assert_eq!(refused.error, "line 7: expected \\u{1b} value");
    assert_eq!(
        failure(run(&first, &[("parse_error", b"")])).error,
        "the line could not be parsed"
    );
    let long = vec![b'x'; 900];
    assert_eq!(
        failure(run(&first, &[("parse_error", &long)])).error,
        format!("{}...", "x".repeat(256))
    );

    let later = chain(vec![], Some("out"), false);
    assert!(
        matches!(run(&later, unparsed), Ended::Apply(_)),
        "in later stages it is a field like any other"
    );
}

fn all_kinds() -> Vec<config::Operator> {
    let second = Duration::from_secs(1);
    let lookup = |key: &str| {
        config::Operator::Lookup(config::Lookup {
            key: key.into(),
            into: key.into(),
            hash: format!("{key}:"),
            cache_entries: 10,
            ttl: second,
            negative_ttl: second,
            stale_ok: second,
        })
    };
    vec![
        config::Operator::Validate(config::Validate {
            required: vec!["user_id".into()],
            integers: vec![],
            numbers: vec![],
        }),
        lookup("user_id"),
        config::Operator::Filter(config::Filter {
            keep: pipectl_shared::expression::Expression::parse("user_id == \"u1\"").unwrap(),
        }),
        lookup("product"),
        config::Operator::Count(config::Count {
            key: "session_id".into(),
            into: "n".into(),
            forget_after: second,
        }),
        config::Operator::Aggregate(config::Aggregate {
            by: vec![],
            session_keep: second,
        }),
    ]
}

#[test]
fn every_kind_of_the_configuration_is_in_the_gallery() {
    for operator in all_kinds() {
        // A new variant must be added to `all_kinds`: this match says where.
        match operator {
            config::Operator::Validate(_)
            | config::Operator::Filter(_)
            | config::Operator::Lookup(_)
            | config::Operator::Count(_)
            | config::Operator::Aggregate(_) => {}
        }
        let chain = Chain::build(
            &stage(vec![operator.clone()]),
            &event(),
            &layout(None, true),
        );
        assert_eq!(chain.operators[0].kind(), operator.kind());
    }
    let names: std::collections::BTreeSet<_> = OPERATORS.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), OPERATORS.len(), "no name twice");
}

#[test]
fn a_built_chain_names_its_needs_and_runs_to_the_end() {
    let chain = Chain::build(&stage(all_kinds()), &event(), &layout(Some("out"), true));
    let hashes: Vec<_> = chain
        .lookups()
        .iter()
        .map(|lookup| lookup.hash.as_str())
        .collect();
    assert_eq!(hashes, ["user_id:", "product:"]);

    let record = record(&[("user_id", b"u1"), ("product", b"p1")]);
    let mut needs = Vec::new();
    chain.needs(&record, &mut needs);
    let need = |lookup, key: &'static [u8]| Need {
        lookup,
        key: Bytes::from_static(key),
    };
    assert_eq!(needs, [need(0, b"u1"), need(1, b"p1")]);

    let mut loaded = Loaded::default();
    loaded.values.insert(
        need(0, b"u1"),
        Ok(Some(Arc::new(fields(&[("tier", b"gold")])))),
    );
    loaded.values.insert(need(1, b"p1"), Ok(None));
    let Ended::Apply(effects) = chain.run(&record, &loaded) else {
        panic!("not applied")
    };
    let child = fields(&[
        ("user_id", b"u1"),
        ("product", b"p1"),
        ("user_id.tier", b"gold"),
    ]);
    assert_eq!(effects.children, [child]);
    assert_eq!(effects.adds.len(), 1);
}

#[test]
fn a_refused_record_needs_nothing() {
    let chain = Chain::build(&stage(all_kinds()), &event(), &layout(None, true));
    let mut needs = Vec::new();
    chain.needs(
        &record(&[("user_id", b"u1"), ("parse_error", b"x")]),
        &mut needs,
    );
    chain.needs(
        &record(&[("user_id", b"u1"), ("x", &[b'x'; 2_000])]),
        &mut needs,
    );
    assert!(needs.is_empty());
}

/// An operator that numbers every record, and does with the record what `flow` says.
struct Keeping(Flow);

impl Operator for Keeping {
    fn kind(&self) -> &'static str {
        "keeping"
    }

    fn state_name(&self) -> Option<&str> {
        Some("k")
    }

    fn state_keys(&self, _record: &Record, keys: &mut Vec<Bytes>) {
        keys.push(Bytes::from("k:1"));
    }

    fn apply(&self, _record: &mut Record, _loaded: &Loaded, effects: &mut Effects) -> Flow {
        count(effects);
        let value = Change::Set(Bytes::from("1"));
        effects.kept.state.push((Bytes::from("k:1"), value));
        self.0.clone()
    }

    fn on_timer(&self, _key: &Bytes, state: Option<&Bytes>, kept: &mut Kept) {
        assert!(state.is_some(), "no state");
        kept.state.push((Bytes::from("k:1"), Change::Forget));
    }
}

#[test]
fn state_is_kept_where_a_record_ends_on_purpose_and_not_where_it_fails() {
    let failed = |class| {
        Flow::Failed(Failure {
            class,
            reason: "rejected",
            error: "no".into(),
        })
    };
    let table = [
        (Flow::Next, true),
        (Flow::Done, true),
        (Flow::Filtered, true),
        (Flow::Late, true),
        (failed(Class::Retry), false),
        (failed(Class::Reject), false),
        (failed(Class::Fatal), false),
    ];
    for (flow, is_kept) in table {
        // Also where it is a later operator that ends it.
        let later = flow.clone();
        let later = closure(move |_, _| later.clone());
        let keeping = |flow| -> Arc<dyn Operator> { Arc::new(Keeping(flow)) };
        for operators in [
            vec![keeping(flow.clone())],
            vec![keeping(Flow::Next), later],
        ] {
            let chain = chain(operators, Some("out"), false);
            let mut kept = Kept::default();
            let ended = chain.run_keeping(&record(&[]), &Loaded::default(), &mut kept);
            assert_eq!(kept.state.len(), usize::from(is_kept), "{flow:?} {ended:?}");
            if let Ended::Apply(effects) = ended {
                assert_eq!(
                    (effects.adds.len(), effects.kept),
                    (1, Kept::default()),
                    "{flow:?}"
                );
            }
        }
    }
    let panics = closure(|_, _| panic!("at the disco"));
    let chain = chain(
        vec![Arc::new(Keeping(Flow::Next)), panics],
        Some("out"),
        false,
    );
    let mut kept = Kept::default();
    let ended = chain.run_keeping(&record(&[]), &Loaded::default(), &mut kept);
    assert_eq!(failure(ended).reason, "panic");
    assert_eq!(kept, Kept::default());
}

#[test]
fn state_over_its_limit_is_a_rejected_record() {
    let huge = closure(|_, effects| {
        let value = Change::Set(Bytes::from(vec![b'x'; VALUE_MAX + 1]));
        effects.kept.state.push((Bytes::from("k:1"), value));
        Flow::Next
    });
    let chain = chain(vec![huge], None, false);
    let mut kept = Kept::default();
    let ended = chain.run_keeping(&record(&[]), &Loaded::default(), &mut kept);
    assert_eq!(failure(ended).reason, "state_too_large");
    assert_eq!(kept, Kept::default());
}

#[test]
fn a_timer_finds_its_operator_by_the_name_of_the_state() {
    let chain = chain(
        vec![closure(|_, _| Flow::Next), Arc::new(Keeping(Flow::Next))],
        None,
        false,
    );
    let key = Bytes::from("k:1");
    let kept = chain.on_timer(&key, Some(&key));
    assert!(
        matches!(&kept, Some(Ok(kept)) if kept.state.len() == 1),
        "{kept:?}"
    );
    let said = chain.on_timer(&key, None);
    assert!(
        matches!(&said, Some(Err(why)) if why.contains("operator keeping panicked: no state")),
        "{said:?}"
    );
    for key in ["kk:1", "", "k", ":k:1"] {
        let kept = chain.on_timer(&Bytes::from(key), Some(&Bytes::new()));
        assert_eq!(kept.is_some(), key == "k", "{key}");
    }
}
