//! What holds for every Snapshot, every size and every row of keys: nothing panics, no control character reaches a cell,
//! and nothing acts that was not confirmed where it was read.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use pipectl_shared::chaos;
use pipectl_shared::plan::{Action, Plan, PlanParams, State as PlanState};
use pipectl_shared::rpc::Role;
use pipectl_shared::snapshot::*;
use pipectl_shared::untrusted::corpus;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::fixtures::{self, Desk, Scene, THEME};
use crate::keys::Key;
use crate::message::{Answer, Effect, LinkMsg, Msg, Question};
use crate::model::{Focus, FormOf, Layer, Model, PlanStep};
use crate::place::Id;
use crate::theme::{Charset, Depth, Theme};
use crate::update::update;
use crate::view::view;
use crate::widgets::Ink;

/// Texts of strangers, the megabytes left out: those have a test of their own where they are cleaned.
fn hostile() -> impl Strategy<Value = String> {
    // The corpus is made once; its long texts are rare here, because 200 rows of them say no more than one.
    static TEXTS: LazyLock<(Vec<String>, Vec<String>)> = LazyLock::new(|| {
        corpus::hostile()
            .iter()
            .filter(|hostile| hostile.bytes.len() <= 50_000)
            .map(|hostile| String::from_utf8_lossy(&hostile.bytes).into_owned())
            .partition(|text| text.len() < 1_000)
    });
    let (short, long) = TEXTS.clone();
    prop_oneof![
        60 => select(short),
        1 => select(long),
        20 => Just(String::new()),
        40 => "[a-z]{1,9}",
    ]
}

fn figure() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(f64::MAX),
        Just(f64::MIN),
        Just(f64::MIN_POSITIVE),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-1.0),
        0.0..1e6,
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(i64::MAX as u64),
        0..100_000u64,
    ]
}

fn maybe<T: std::fmt::Debug + Clone + 'static>(
    of: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Option<T>> {
    proptest::option::of(of).boxed()
}

fn state() -> impl Strategy<Value = State> {
    select(vec![
        State::Starting,
        State::Running,
        State::Degraded,
        State::Draining,
        State::Paused,
        State::Failed,
    ])
}

fn ledger() -> BoxedStrategy<Ledger> {
    (
        number(),
        number(),
        number(),
        any::<i64>(),
        maybe(any::<i64>()),
    )
        .prop_map(
            |(accepted, applied, rest, unaccounted, duplicated)| Ledger {
                accepted,
                applied,
                spawned: rest,
                dead: rest,
                lost: rest,
                pending: rest,
                undelivered: rest,
                unaccounted,
                duplicated,
                rejected: accepted,
                balanced: unaccounted == 0,
                ..Ledger::default()
            },
        )
        .boxed()
}

fn stage() -> BoxedStrategy<Stage> {
    (
        (hostile(), hostile(), state(), maybe(hostile())),
        (
            maybe(figure()),
            maybe(figure()),
            maybe(figure()),
            maybe(figure()),
        ),
        (maybe(number()), maybe(number()), number(), maybe(ledger())),
        proptest::collection::vec(hostile(), 0..4),
        maybe(owner()),
    )
        .prop_map(|(texts, figures, numbers, operators, owner)| Stage {
            name: texts.0,
            from: texts.1.clone(),
            stream: texts.1.clone(),
            group: texts.1.clone(),
            delivery: if owner.is_some() {
                "owned".to_owned()
            } else {
                texts.1
            },
            owner,
            operators,
            workers: u32::try_from(numbers.2).unwrap_or(u32::MAX),
            state: texts.2,
            reason: texts.3,
            in_per_s: figures.0,
            out_per_s: figures.1,
            p50_ms: figures.2,
            p99_ms: figures.3,
            lag: numbers.0,
            lag_estimated: numbers.0.is_some(),
            lag_ms: numbers.1,
            pending: numbers.1,
            oldest_pending_ms: numbers.0,
            errors: numbers.2,
            retries: numbers.2,
            dead: numbers.2,
            ledger: numbers.3,
        })
        .boxed()
}

fn owner() -> BoxedStrategy<Owner> {
    (
        maybe(hostile()),
        number(),
        any::<bool>(),
        maybe(hostile()),
        maybe(number()),
    )
        .prop_map(|(consumer, epoch, here, position, in_flight)| Owner {
            consumer,
            expired: !here,
            epoch,
            here,
            position,
            in_flight,
        })
        .boxed()
}

fn alert() -> BoxedStrategy<Alert> {
    (hostile(), hostile(), hostile(), maybe(hostile()), hostile())
        .prop_map(|(name, severity, message, hint, since)| Alert {
            name,
            severity,
            message,
            hint,
            since,
        })
        .boxed()
}

fn consumer() -> BoxedStrategy<Consumer> {
    (
        (hostile(), hostile(), hostile(), maybe(hostile())),
        (number(), maybe(number()), maybe(number()), any::<bool>()),
    )
        .prop_map(|(texts, numbers)| Consumer {
            name: texts.0,
            stage: texts.1,
            state: texts.2,
            reason: texts.3,
            pending: numbers.0,
            oldest_ms: numbers.1,
            idle_ms: numbers.2,
            inactive_ms: numbers.1,
            ours: numbers.3,
        })
        .boxed()
}

fn group() -> BoxedStrategy<Group> {
    (maybe(hostile()), hostile(), number(), maybe(number()))
        .prop_map(|(stage, stream, n, lag)| Group {
            stage,
            group: stream.clone(),
            last_delivered: stream.clone(),
            stream,
            consumers: n,
            pending: n,
            lag,
            lag_estimated: n == 0,
            length: n,
        })
        .boxed()
}

fn latency() -> BoxedStrategy<Latency> {
    let bucket = (figure(), number()).prop_map(|(le_ms, count)| Bucket { le_ms, count });
    (
        hostile(),
        select(vec!["wait", "service", "total", "end_to_end", "?"]),
        number(),
        maybe(figure()),
        proptest::collection::vec(bucket, 0..70),
    )
        .prop_map(|(stage, measure, count, figure, buckets)| Latency {
            stage,
            measure: measure.to_owned(),
            count,
            min: figure,
            p50: figure,
            p90: figure,
            p95: figure,
            p99: figure,
            p999: figure,
            p9999: figure,
            max: figure,
            buckets,
            out_of_range: count,
            coarse: count == 0,
            hdr: None,
        })
        .boxed()
}

fn event() -> BoxedStrategy<Event> {
    (number(), number(), hostile(), hostile(), maybe(hostile()))
        .prop_map(|(seq, ts_ms, level, message, stage)| Event {
            seq,
            ts_ms,
            name: level.clone(),
            level,
            message,
            stage,
        })
        .boxed()
}

fn aggregates() -> BoxedStrategy<Aggregates> {
    let counts = || proptest::collection::btree_map(hostile(), number(), 0..20);
    (
        number(),
        maybe(figure()),
        counts(),
        counts(),
        maybe(hostile()),
    )
        .prop_map(
            |(n, value, event_types, products, last_updated)| Aggregates {
                total_count: n,
                total_value: value,
                event_types,
                products,
                sessions: n,
                session: None,
                last_updated,
                windows: None,
            },
        )
        .boxed()
}

fn source() -> BoxedStrategy<Source> {
    (
        hostile(),
        hostile(),
        maybe(hostile()),
        maybe(figure()),
        number(),
    )
        .prop_map(|(name, state, reason, per_s, n)| Source {
            kind: state.clone(),
            name,
            state,
            reason,
            per_s,
            sent: n,
            rejected: n,
            accept_ms: per_s,
            spooled: n,
        })
        .boxed()
}

fn status() -> BoxedStrategy<Status> {
    let n = || prop_oneof![3 => 0..5usize, 1 => 150..200usize];
    (
        (hostile(), state(), maybe(hostile()), hostile()),
        (figure(), maybe(figure()), maybe(figure()), maybe(number())),
        (maybe(ledger()), maybe(running())),
        n().prop_flat_map(|n| proptest::collection::vec(stage(), n)),
        n().prop_flat_map(|n| proptest::collection::vec(alert(), n)),
    )
        .prop_map(|(texts, figures, (ledger, chaos), stages, alerts)| Status {
            pipeline: texts.0,
            state: texts.1,
            reason: texts.2.clone(),
            healthy: ledger.is_none(),
            uptime_s: figures.0,
            redis: Redis {
                url: texts.3.clone(),
                version: texts.2.clone(),
                state: texts.3.clone(),
                used_memory_bytes: figures.3,
                max_memory_bytes: figures.3,
                mode: texts.3.clone(),
                down_ms: figures.3,
                error: texts.2,
                durability: texts.3.clone(),
                spooled: figures.3.unwrap_or_default(),
            },
            throughput: Throughput {
                in_per_s: figures.1,
                out_per_s: figures.2,
            },
            latency_ms: Percentiles {
                p50: figures.1,
                p95: figures.2,
                p99: figures.1,
                p999: figures.2,
            },
            ledger,
            stages,
            alerts,
            chaos,
            daemon: Daemon {
                pid: 1,
                version: texts.3.clone(),
                rss_bytes: figures.3,
                cpu_cores: figures.1,
                instance: texts.3,
                history_bytes: u64::MAX,
            },
        })
        .boxed()
}

fn phase() -> impl Strategy<Value = chaos::Phase> {
    select(vec![
        chaos::Phase::Preparing,
        chaos::Phase::Before,
        chaos::Phase::During,
        chaos::Phase::After,
        chaos::Phase::Draining,
        chaos::Phase::Verifying,
        chaos::Phase::Ended,
    ])
}

fn running() -> BoxedStrategy<chaos::Running> {
    (
        (hostile(), hostile(), phase()),
        (number(), maybe(number()), maybe(number())),
        proptest::collection::vec(hostile(), 0..4),
    )
        .prop_map(|(texts, times, targets)| chaos::Running {
            id: texts.0.clone(),
            experiment: texts.1,
            phase: texts.2,
            started_ms: times.0,
            injected_ms: times.1,
            reverted_ms: times.2,
            until_ms: times.2.or(times.1),
            targets,
            by: texts.0,
        })
        .boxed()
}

/// How far a run is, or its end, whatever a daemon makes of it.
fn progress() -> BoxedStrategy<chaos::Progress> {
    let mark = (number(), number(), hostile()).prop_map(|(seq, t_ms, text)| chaos::Mark {
        seq,
        t_ms,
        kind: text.clone(),
        text,
    });
    let slot = (
        (number(), phase(), figure()),
        (maybe(figure()), maybe(number()), maybe(figure())),
        (any::<u32>(), any::<u32>()),
    )
        .prop_map(|(first, figures, (good, probes))| chaos::Slot {
            t_ms: first.0,
            phase: first.1,
            in_per_s: first.2,
            out_per_s: figures.0,
            lag: figures.1,
            p99_ms: figures.2,
            fresh_ms: figures.2,
            good,
            probes,
        });
    let verdict = select(vec![
        chaos::Verdict::Pass,
        chaos::Verdict::Deviated,
        chaos::Verdict::Refused,
    ]);
    (
        running(),
        proptest::collection::vec(mark, 0..9),
        proptest::collection::vec(slot, 0..90),
        (hostile(), maybe(verdict), maybe(figure()), maybe(number())),
    )
        .prop_map(|(running, marks, slots, (text, verdict, figure, n))| {
            let run = verdict.map(|verdict| {
                let mut run = fixtures::document();
                run.id.clone_from(&running.id);
                run.verdict = verdict;
                run.measurements.availability = figure;
                run.measurements.recover_ms = figure;
                run.measurements.unavailable_ms = figure.unwrap_or(f64::NAN);
                run.measurements.peak_lag = n;
                run.started_ms = n.unwrap_or_default();
                run.folder.clone_from(&text);
                for check in &mut run.hypothesis {
                    check.name.clone_from(&text);
                    check.after = Some(text.clone());
                }
                Box::new(run)
            });
            chaos::Progress {
                running,
                seed: n.unwrap_or_default(),
                verdict,
                why: text,
                marks,
                slots,
                run,
            }
        })
        .boxed()
}

fn snapshot() -> BoxedStrategy<Snapshot> {
    let n = || prop_oneof![3 => 0..5usize, 1 => 150..200usize];
    (
        (number(), number(), maybe(number())),
        status(),
        n().prop_flat_map(|n| proptest::collection::vec(consumer(), n)),
        proptest::collection::vec(group(), 0..9),
        proptest::collection::vec(latency(), 0..9),
        aggregates(),
        proptest::collection::vec(source(), 0..5),
        proptest::collection::vec(event(), 0..20),
        (hostile(), maybe(figure()), maybe(number())),
    )
        .prop_map(
            |(numbers, status, consumers, groups, latency, aggregates, sources, events, host)| {
                Snapshot {
                    seq: numbers.0,
                    ts_ms: numbers.1,
                    status,
                    consumers,
                    groups,
                    latency,
                    aggregates,
                    aggregates_age_ms: numbers.2,
                    sources,
                    host: Host {
                        name: host.0,
                        cores: u32::MAX,
                        cpu: host.1,
                        load_1m: host.1,
                        memory_used_bytes: host.2,
                        memory_total_bytes: host.2,
                        disk_free_bytes: host.2,
                        disk_total_bytes: host.2,
                        open_files: host.2,
                        threads: host.2,
                    },
                    events,
                    truncated: BTreeMap::from([("consumers".to_owned(), numbers.0)]),
                }
            },
        )
        .boxed()
}

fn theme() -> impl Strategy<Value = Theme> {
    let depths = vec![Depth::Mono, Depth::Sixteen, Depth::Many];
    let charsets = vec![Charset::Unicode, Charset::Ascii];
    (select(depths), select(charsets)).prop_map(|(depth, charset)| Theme { depth, charset })
}

/// Draws, and looks at every cell.
fn check_picture(model: &Model, (columns, rows): (u16, u16)) {
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
    let theme = model.options.theme;
    view(model, &mut Ink::new(&mut buffer, theme));
    for cell in &buffer.content {
        let symbol = cell.symbol();
        let is_clean = !symbol.chars().any(is_unwanted);
        assert!(
            is_clean,
            "{:?}: {symbol:?} at {columns}x{rows}",
            model.screen
        );
        if theme.is_ascii() {
            assert!(symbol.is_ascii(), "{:?}: {symbol:?}", model.screen);
        }
    }
}

/// Controls, and format characters that turn or hide text. A joiner inside an emoji is neither.
pub(crate) fn is_unwanted(c: char) -> bool {
    c.is_control()
        || matches!(
            u32::from(c),
            0x200b | 0x200c | 0x200e | 0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff
                | 0xe0000..=0xe007f
        )
}

/// Opens one of the layers that a screen can lie under.
fn open_layer(desk: &mut Desk, which: usize) {
    match which {
        0 => {}
        1 => desk.press("x"),
        2 => desk.press(":"),
        3 => desk.press("?"),
        4 => desk.press("@"),
        5 => desk.press("x C"),
        6 => desk.press("x c"),
        11 => desk.press("4 c L"),
        12 => desk.press("4 c Enter Enter"),
        13 => desk.press("4 r Enter"),
        14 => desk.press("4 c x l a"),
        7 => {
            desk.press(":");
            desk.type_text("stage.scale");
            desk.press("Enter");
        }
        8 => desk.press("/ a"),
        9 => desk.press("x C 4 1 8 Enter Tab Tab Enter"),
        _ => desk.press("Enter"),
    }
}

/// So many cases; a failing one is printed and goes into a test of its own.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn any_snapshot_on_any_screen_under_any_layer_at_any_size_is_drawn_and_clean(
        snapshot in snapshot(),
        theme in theme(),
        sizes in proptest::collection::vec((0..200u16, 0..80u16), 1..4),
        layer in 0..15usize,
        is_stale in any::<bool>(),
        told in maybe(progress()),
        screens in subsequence(fixtures::all_screens().collect::<Vec<_>>(), 1..4),
    ) {
        let snapshot_id = snapshot.status.chaos.as_ref().map_or(String::new(), |run| run.id.clone());
        for id in screens {
            let mut desk = Desk::with((80, 24), theme, false);
            desk.come_up_after(2);
            desk.go(id);
            desk.stats(snapshot.clone());
            // Two in a row, so that what changes between two has something to change.
            let mut next = snapshot.clone();
            next.ts_ms = next.ts_ms.saturating_add(1_000);
            desk.stats(next);
            if let Some(told) = &told {
                // Of whatever run the console watches, or opened.
                let mut told = told.clone();
                for id in [fixtures::RUN_ID, &snapshot_id] {
                    told.running.id = id.to_owned();
                    desk.model.take_progress(id, Ok(told.clone()));
                }
            }
            open_layer(&mut desk, layer);
            if is_stale {
                desk.pass(12_000);
            }
            for size in &sizes {
                desk.take(Msg::Resize(size.0, size.1));
                check_picture(&desk.model, *size);
            }
        }
    }
}

/// A plan whose every text is a stranger's.
fn hostile_plan() -> BoxedStrategy<Plan> {
    let actions = vec![
        Action::Claim,
        Action::Ack,
        Action::Retry,
        Action::Dead,
        Action::Redrive,
        Action::Purge,
    ];
    let states = vec![
        PlanState::Ready,
        PlanState::Running,
        PlanState::Done,
        PlanState::Cancelled,
        PlanState::Interrupted,
        PlanState::Expired,
        PlanState::Undone,
    ];
    (
        (select(actions), select(states), number(), number()),
        (hostile(), hostile(), maybe(hostile()), any::<bool>()),
    )
        .prop_map(|((action, state, matched, progress), (a, b, to, bulk))| {
            let params = PlanParams {
                action,
                select: Default::default(),
                to: to.clone(),
            };
            let plan = fixtures::plan(&params);
            Plan {
                matched,
                progress,
                state,
                bulk,
                to,
                command: a.clone(),
                by: b.clone(),
                reason: Some(b.clone()),
                skipped: vec![pipectl_shared::plan::Skipped {
                    id: a,
                    reason: b.clone(),
                }],
                sample: plan
                    .sample
                    .iter()
                    .take(5)
                    .map(|entry| pipectl_shared::plan::PlanEntry {
                        stage: b.clone(),
                        id: entry.id.clone(),
                    })
                    .collect(),
                result: Some(pipectl_shared::plan::Outcome {
                    applied: matched,
                    dead: progress,
                    failed: matched,
                    waiting: progress,
                    ..Default::default()
                }),
                ..plan
            }
        })
        .boxed()
}

/// What happens to a console.
#[derive(Debug, Clone)]
enum Step {
    Press(Key),
    /// The daemon answers the oldest question, or refuses.
    Answer(bool),
    /// Another answer than the question wants.
    Unfit(Plan),
    Progress(Plan),
    Stats(u64),
    /// Its experiments are at another point.
    Scene(Scene),
    Up(Role),
    Down,
    Refused,
    Resize(u16, u16),
    Pass(u64),
    Paste(String),
}

fn key() -> impl Strategy<Value = Key> {
    let likely = "4 2 5 p d u c t a j k g G x : ? @ / s S f q v A n e y h r C F R l 0 1 4 8"
        .split(' ')
        .chain([
            "Enter",
            "Enter",
            "Enter",
            "Enter",
            "Tab",
            "Tab",
            "Tab",
            "S-Tab",
            "Esc",
            "Space",
            "Up",
            "Down",
            "Left",
            "Right",
            "Home",
            "End",
            "PgUp",
            "PgDn",
            "Backspace",
            "Delete",
            "C-d",
            "C-u",
            "C-l",
            "C-\\",
            "[",
            "]",
            "L",
        ])
        .map(|text| Key::parse(text).expect("a key"))
        .collect::<Vec<_>>();
    prop_oneof![12 => select(likely), 1 => any::<char>().prop_map(Key::Char)]
}

fn step() -> impl Strategy<Value = Step> {
    let role = select(vec![Role::Viewer, Role::Operator, Role::Admin]);
    prop_oneof![
        40 => key().prop_map(Step::Press),
        12 => prop::bool::weighted(0.9).prop_map(Step::Answer),
        1 => hostile_plan().prop_map(Step::Unfit),
        1 => hostile_plan().prop_map(Step::Progress),
        2 => (0..900u64).prop_map(Step::Stats),
        2 => select(Scene::ALL.to_vec()).prop_map(Step::Scene),
        2 => role.prop_map(Step::Up),
        1 => Just(Step::Down),
        1 => Just(Step::Refused),
        1 => (0..200u16, 0..80u16).prop_map(|(x, y)| Step::Resize(x, y)),
        10 => select(vec![0, 50, 149, 150, 200, 1_000, 4_000]).prop_map(Step::Pass),
        1 => hostile().prop_map(Step::Paste),
    ]
}

/// What a person must have seen and chosen for a question that acts to be right.
#[derive(Debug, PartialEq)]
enum Confirmed {
    Nothing,
    /// The plan under Run, with its count typed where it is many.
    Plan(String),
    /// Stopping what runs.
    Cancel(String),
    /// The command under "Do it".
    Command(String),
    /// The experiment under "Run it".
    Experiment(String, Option<u64>),
    /// The key that stops, or the word.
    Stop,
    /// The lever under "Do it".
    Lever(bool),
}

fn confirmed(model: &Model, key: Option<Key>) -> Confirmed {
    match (model.layers.last(), key) {
        (Some(Layer::Plan(step)), Some(key)) => match &**step {
            PlanStep::Confirm(confirm)
                if key == Key::Enter
                    && confirm.focus == Focus::Run
                    && confirm.count_fits()
                    && !confirm.is_sent =>
            {
                Confirmed::Plan(confirm.plan.id.clone())
            }
            PlanStep::Running(plan, false) if key == Key::Char('c') => {
                Confirmed::Cancel(plan.id.clone())
            }
            _ => Confirmed::Nothing,
        },
        (Some(Layer::Form(form)), Some(Key::Enter))
            if form.focus == form.run() && matches!(form.would, Some(Ok(_))) && !form.is_sent =>
        {
            match form.of {
                FormOf::Command => Confirmed::Command(form.spec.name.clone()),
                FormOf::Lever(pull) => Confirmed::Lever(pull),
                // Its button only shows.
                FormOf::Experiment => Confirmed::Nothing,
            }
        }
        (Some(Layer::Rehearsal(rehearsal)), Some(Key::Enter))
            if rehearsal.focus == Focus::Run
                && !rehearsal.is_sent
                && rehearsal.preview.refused.is_none() =>
        {
            let params = &rehearsal.params;
            Confirmed::Experiment(params.name.clone(), params.seed)
        }
        (None, Some(Key::Char('S'))) if model.screen == Id::Chaos => Confirmed::Stop,
        // By its name, or its letter in the menu.
        (Some(Layer::Palette(_)), Some(Key::Enter)) => Confirmed::Stop,
        (Some(Layer::Menu(_)), Some(Key::Enter | Key::Char('s'))) => Confirmed::Stop,
        _ => Confirmed::Nothing,
    }
}

fn run(steps: Vec<Step>, theme: Theme, read_only: bool, begin: usize) {
    let mut desk = Desk::with((80, 24), theme, read_only);
    desk.come_up_after(2);
    desk.press("2 p");
    open_layer(&mut desk, begin);
    for (n, step) in steps.into_iter().enumerate() {
        let mut key = None;
        let msg = match step {
            Step::Press(pressed) => {
                key = Some(pressed);
                Msg::Key(pressed)
            }
            Step::Answer(is_given) => {
                let Some((_, question)) = desk.asked.front().cloned() else {
                    continue;
                };
                if is_given {
                    let answer = desk.answer_to(&question);
                    desk.answer_with(answer);
                } else {
                    desk.answer_with(Err(fixtures::fault("\u{1b}[2Jno", Some("\u{202e}hint"))));
                }
                continue;
            }
            Step::Unfit(plan) => {
                if !desk.asked.is_empty() {
                    desk.answer_with(Ok(Answer::Plan(plan)));
                }
                continue;
            }
            Step::Progress(plan) => Msg::Link(LinkMsg::Progress(Box::new(plan))),
            Step::Stats(ago_s) => Msg::Link(LinkMsg::Stats(Box::new(fixtures::snapshot(ago_s)))),
            Step::Scene(scene) => {
                desk.set_scene(scene);
                continue;
            }
            Step::Up(role) => {
                desk.role = role;
                desk.greet();
                continue;
            }
            Step::Down => {
                desk.go_down();
                continue;
            }
            Step::Refused => Msg::Link(LinkMsg::Refused {
                why: "\u{9b}2Jwrong version".to_owned(),
                hint: None,
            }),
            Step::Resize(columns, rows) => Msg::Resize(columns, rows),
            Step::Pass(ms) => {
                desk.now_ms += ms;
                Msg::Tick
            }
            Step::Paste(text) => {
                let n_keys = text.len() as u64;
                Msg::Paste { text, n_keys }
            }
        };
        let before = confirmed(&desk.model, key);
        let may_act = desk.model.why_not_act().is_none();
        let may_chaos = desk.model.why_not_chaos().is_none();
        for effect in update(&mut desk.model, desk.now_ms, msg) {
            let Effect::Ask(ticket, question) = effect else {
                continue;
            };
            if question.acts() {
                let may = match &*question {
                    Question::RunExperiment(_)
                    | Question::StopExperiment(_)
                    | Question::Lever(_) => may_chaos,
                    _ => may_act,
                };
                assert!(!read_only && may, "{question:?} where nothing may act");
                let seen = match &*question {
                    Question::PlanRun(params) => Confirmed::Plan(params.id.clone()),
                    Question::PlanCancel(params) => Confirmed::Cancel(params.id.clone()),
                    Question::Command(params) => Confirmed::Command(params.name.clone()),
                    Question::RunExperiment(params) => {
                        Confirmed::Experiment(params.name.clone(), params.seed)
                    }
                    Question::StopExperiment(_) => Confirmed::Stop,
                    Question::Lever(params) => Confirmed::Lever(params.pull),
                    other => panic!("{other:?} acts"),
                };
                assert_eq!(seen, before, "{question:?} was not confirmed");
            }
            desk.asked.push_back((ticket, *question));
        }
        // Drawing is most of the cost of a step.
        if n % 8 != 0 {
            continue;
        }
        let size = desk.model.size;
        check_picture(&desk.model, (size.0.min(120), size.1.min(50)));
    }
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn no_row_of_keys_and_answers_acts_without_a_confirmation(
        steps in proptest::collection::vec(step(), 1..60),
        begin in 0..15usize,
    ) {
        run(steps, THEME, false, begin);
    }

    #[test]
    fn a_read_only_console_never_acts(
        steps in proptest::collection::vec(step(), 1..60),
        begin in 0..15usize,
    ) {
        let plain = Theme { depth: Depth::Mono, charset: Charset::Ascii };
        run(steps, plain, true, begin);
    }
}
