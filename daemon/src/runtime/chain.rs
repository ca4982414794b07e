//! The chain: the operators of one stage, run over one record. Pure: no I/O, no clock, no tokio; the worker loads what
//! the chain needs, calls `run`, and makes commits of what comes back.
//!
//! The chain keeps the rules that are no operator's: entries over the stage's limit, entries that no door could parse, a
//! panic (a failed try of that one record), and what a stage emits.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use pipectl_shared::config;

use crate::effect::{Class, Effects, Failure, Flow};
use crate::operators::quote::cleaned;
use crate::operators::{Loaded, Need, OPERATORS, Operator, Setup};
use crate::record::{FIELD_PARSE_ERROR, Record};
use crate::store::StageLayout;

/// Characters of a foreign text (a parse error, a panic's message) that an error shows.
const SHOWN_MAX: usize = 256;

/// The operators of one stage, shared by all its workers.
pub struct Chain {
    operators: Vec<Arc<dyn Operator>>,
    lookups: Vec<config::Lookup>,
    has_output: bool,
    reads_source: bool,
    max_entry: u64,
}

/// How a record leaves the chain. The original record is never changed, so a retry begins with what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Apply these effects. With an output, the one child is the changed record (reserved fields such as `_t`,
    /// `traceparent` and `_origin` included); no child means that an operator ended it as done.
    Apply(Effects),
    /// Ended on purpose; what operators before had asked for is dropped.
    Filtered,
    /// Too late; what operators before had asked for is dropped.
    Late,
    /// Could not be done; nothing it asked for counts.
    Failed(Failure),
}

impl Chain {
    /// Builds the chain of a stage. The configuration was checked before.
    pub fn build(stage: &config::Stage, event: &config::Event, layout: &StageLayout) -> Self {
        let mut lookups = Vec::new();
        let operators = stage
            .operators
            .iter()
            .map(|operator| {
                let setup = Setup {
                    operator,
                    event,
                    lookup: lookups.len(),
                };
                if let config::Operator::Lookup(lookup) = operator {
                    lookups.push(lookup.clone());
                }
                OPERATORS
                    .iter()
                    .find(|kind| kind.name == operator.kind())
                    .and_then(|kind| (kind.build)(&setup))
                    .expect("the gallery has an item for every operator of the configuration; a test looks")
            })
            .collect();
        Self::of(operators, lookups, stage.max_entry, layout)
    }

    /// A chain of operators that are there already: for tests and for faults put around operators.
    pub fn of(
        operators: Vec<Arc<dyn Operator>>,
        lookups: Vec<config::Lookup>,
        max_entry: u64,
        layout: &StageLayout,
    ) -> Self {
        Self {
            operators,
            lookups,
            has_output: layout.output.is_some(),
            reads_source: layout.reads_source,
            max_entry,
        }
    }

    /// Lookups of the chain; [`Need::lookup`] is the index here.
    pub fn lookups(&self) -> &[config::Lookup] {
        &self.lookups
    }

    /// Names what must be loaded before [`Chain::run`]; nothing for a record that is refused anyway. The same need may
    /// be named by several records of a batch. A panic of an operator names nothing: `run` will meet it again.
    pub fn needs(&self, record: &Record, needs: &mut Vec<Need>) {
        if self.lookups.is_empty() || self.refused(record).is_some() {
            return;
        }
        let n_before = needs.len();
        let named = catch_unwind(AssertUnwindSafe(|| {
            for operator in &self.operators {
                operator.needs(record, needs);
            }
        }));
        if named.is_err() {
            needs.truncate(n_before);
        }
    }

    /// Runs the operators over a copy of the record (its bytes are shared). Never panics.
    pub fn run(&self, record: &Record, loaded: &Loaded) -> Ended {
        if let Some(failure) = self.refused(record) {
            return Ended::Failed(failure);
        }
        // Outside of the closure, so that it is known after a panic.
        let running = Cell::new("");
        // Unwind safe: the copy and the effects are dropped with the panic; operators are shared and keep no state of a
        // record, and their caches of names survive a poisoned lock.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            self.apply(record.clone(), loaded, &running)
        }));
        ended.unwrap_or_else(|payload| {
            Ended::Failed(Failure {
                class: Class::Retry,
                reason: "panic",
                error: format!(
                    "operator {} panicked: {}",
                    running.get(),
                    panic_text(payload.as_ref())
                ),
            })
        })
    }

    fn apply(&self, mut record: Record, loaded: &Loaded, running: &Cell<&'static str>) -> Ended {
        let mut effects = Effects::default();
        for operator in &self.operators {
            running.set(operator.kind());
            match operator.apply(&mut record, loaded, &mut effects) {
                Flow::Next => {}
                Flow::Done => {
                    effects.children.clear();
                    return Ended::Apply(effects);
                }
                Flow::Filtered => return Ended::Filtered,
                Flow::Late => return Ended::Late,
                Flow::Failed(failure) => return Ended::Failed(failure),
            }
        }
        if !self.has_output {
            // Nobody reads what a terminal stage emits, and the ledger must not count it as spawned.
            effects.children.clear();
        } else if effects.children.is_empty() {
            effects.children.push(record.fields);
        }
        Ended::Apply(effects)
    }

    /// Why no operator gets to see it.
    fn refused(&self, record: &Record) -> Option<Failure> {
        let size = record.size();
        if size > self.max_entry {
            return Some(Failure {
                class: Class::Reject,
                reason: "too_large",
                error: format!(
                    "entry of {size} bytes is over max_entry of {} bytes",
                    self.max_entry
                ),
            });
        }
        if !self.reads_source {
            return None;
        }
        let why = record.get(FIELD_PARSE_ERROR)?;
        Some(Failure {
            class: Class::Reject,
            reason: "parse_error",
            error: if why.is_empty() {
                "the line could not be parsed".to_owned()
            } else {
                shown(why)
            },
        })
    }
}

fn shown(text: &[u8]) -> String {
    let (mut shown, is_whole) = cleaned(text, SHOWN_MAX);
    if !is_whole {
        shown.push_str("...");
    }
    shown
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .map_or_else(|| "no message".to_owned(), |text| shown(text.as_bytes()))
}

#[cfg(test)]
mod tests {
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
                adds: vec![],
                children: vec![fields(&[("a", b"1")])]
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
            adds: vec![],
            children: vec![fields(&[("x", b"1")]), fields(&[("x", b"2")])],
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
}
