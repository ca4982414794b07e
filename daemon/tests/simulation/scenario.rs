//! A scenario: a pipeline, its daemons and a list of steps, all from one seed. Plain data, so that a failing one can be
//! made smaller step by step and printed. Living it is `life.rs`.

use pipelined::chaos::Point;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// Everything that a seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) pipe: Pipe,
    /// Machines that may run a daemon.
    pub(crate) daemons: usize,
    /// Whether those that are down in the end, but for the first, never come back.
    pub(crate) gone: bool,
    /// In order of their times.
    pub(crate) steps: Vec<Step>,
}

/// The pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Pipe {
    pub(crate) stages: Vec<Stage>,
    /// Whether event ids are remembered.
    pub(crate) window: bool,
    pub(crate) attempts: u32,
    pub(crate) backoff_ms: (u64, u64),
    /// How long finished entries are kept.
    pub(crate) keep_ms: u64,
}

/// One stage.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// Index of the stage it reads from; `None` = the source.
    pub(crate) from: Option<usize>,
    pub(crate) owned: bool,
    pub(crate) chain: Vec<Op>,
    pub(crate) workers: u32,
    pub(crate) batch: u32,
    pub(crate) prefetch: u32,
    pub(crate) claim_after_ms: u64,
    pub(crate) timeout_ms: u64,
}

/// An operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Validate,
    Filter,
    Lookup,
    /// Keyed state: owned stages only.
    Count,
    Aggregate,
}

/// One event; the same number is the same event, whoever sends it how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) n: u32,
    pub(crate) key: u8,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    /// Validation rejects it.
    Poison,
    /// The filter ends it.
    Unwanted,
    /// Its door could not parse it.
    Unparsed,
}

/// What happens when.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) at_ms: u64,
    pub(crate) what: What,
}

/// `nth` picks from what is there at that time, modulo.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// XADD by another client.
    Foreign(Vec<Event>),
    /// A door of this daemon.
    Door {
        daemon: usize,
        checked: bool,
        events: Vec<Event>,
    },
    /// A generator of this daemon.
    Source {
        daemon: usize,
        n: u64,
        rate: f64,
    },
    /// kill -9.
    Crash {
        daemon: usize,
    },
    /// SIGTERM.
    Drain {
        daemon: usize,
    },
    Start {
        daemon: usize,
    },
    Park {
        daemon: usize,
        stage: usize,
        worker: u32,
        point: Point,
        for_ms: u64,
    },
    Storm {
        daemon: usize,
        kind: Storm,
        for_ms: u64,
    },
    /// All connections break; nothing else.
    Cut,
    Pause {
        daemon: usize,
        stage: usize,
        for_ms: u64,
    },
    Scale {
        daemon: usize,
        stage: usize,
        workers: u32,
    },
    Claim {
        daemon: usize,
        stage: usize,
        n: usize,
        min_idle_ms: u64,
    },
    RetryNow {
        stage: usize,
        n: usize,
    },
    Discard {
        stage: usize,
        nth: usize,
    },
    Kill {
        stage: usize,
        nth: usize,
    },
    /// Twice at once: two people press the same key.
    Redrive {
        nth: usize,
        twice: bool,
    },
    Purge {
        nth: usize,
    },
    LookupAway {
        for_ms: u64,
    },
    LookupSlow {
        delay_ms: u64,
        for_ms: u64,
    },
    BreakKey {
        key: u8,
        for_ms: u64,
    },
    Meddle(Meddle),
}

/// What goes wrong with calls while it lasts, in percent where it is a chance.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Storm {
    Refuses(u32),
    LosesAnswers(u32),
    Belates(u32, u64),
    Repeats(u32, u64),
    Slow(u64),
    /// Nothing gets through, in either direction, until it is over.
    Frozen,
}

/// Third parties and bad luck.
#[derive(Debug, Clone)]
pub(crate) enum Meddle {
    Ack { stage: usize, nth: usize },
    DeletePending { stage: usize, nth: usize },
    DeleteUnread { stage: usize },
    TrimTo { stage: usize, n: usize },
    Read { stage: usize, n: usize },
    SetBack { stage: usize, nth: usize },
    Destroy { stage: usize },
    DeleteConsumer { stage: usize, nth: usize },
    DeleteStream { stage: usize },
    Flush,
    Remember,
    RollBack,
    JumpServer { ms: u64 },
    JumpDaemon { daemon: usize, ms: i64 },
    Spoil { for_ms: u64 },
}

/// For how long things go on before everything is healed, milliseconds of virtual time.
const SPAN_MS: u64 = 7_000;
/// Keys of records.
pub(crate) const KEYS: u8 = 4;

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x5ce9_a210);
        let random = &mut random;
        let pipe = Pipe::draw(random);
        let daemons = [1, 1, 2, 2, 3][random.random_range(0..5)];
        let gone = random.random_bool(0.3);
        let mut steps = vec![];
        let n_events = random.random_range(8..40);
        let mut n = 0;
        while n < n_events {
            let events = draw_events(random, &mut n);
            let what = match random.random_range(0..10) {
                0..5 => What::Foreign(events),
                5..9 => What::Door {
                    daemon: random.random_range(0..daemons),
                    checked: random.random_bool(0.6),
                    events,
                },
                _ => What::Source {
                    daemon: random.random_range(0..daemons),
                    n: random.random_range(1..12),
                    rate: f64::from(random.random_range(1..60)),
                },
            };
            push(&mut steps, random, what);
        }
        // A third of the worlds is left in peace by third parties: there the ledger is exact at any instant.
        let meddled = random.random_bool(0.6);
        for _ in 0..random.random_range(1..12) {
            let n_kinds = if meddled { 24 } else { 15 };
            draw_trouble(random, &pipe, daemons, n_kinds, &mut steps);
        }
        for _ in 0..random.random_range(0..3) {
            draw_plot(random, &pipe, daemons, &mut n, &mut steps);
        }
        steps.sort_by_key(|step| step.at_ms);
        Self {
            seed,
            pipe,
            daemons,
            gone,
            steps,
        }
    }
}

fn push(steps: &mut Vec<Step>, random: &mut SmallRng, what: What) -> u64 {
    let at_ms = random.random_range(0..SPAN_MS);
    steps.push(Step { at_ms, what });
    at_ms
}

fn draw_events(random: &mut SmallRng, n: &mut u32) -> Vec<Event> {
    let size = random.random_range(1..7);
    let mut events = Vec::new();
    for _ in 0..size {
        // An old number now and then: a duplicate.
        let number = if *n > 0 && random.random_bool(0.2) {
            random.random_range(0..*n)
        } else {
            *n += 1;
            *n - 1
        };
        events.push(event(number));
    }
    events
}

/// What event `n` is: the number alone decides, so that a duplicate says the same.
fn event(n: u32) -> Event {
    let mut random = SmallRng::seed_from_u64(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let kind = match random.random_range(0..20) {
        0..2 => Kind::Poison,
        2..4 => Kind::Unwanted,
        4 => Kind::Unparsed,
        _ => Kind::Good,
    };
    Event {
        n,
        key: random.random_range(0..KEYS),
        kind,
    }
}

impl Scenario {
    /// How long after healing something may still be on its way.
    pub(crate) fn aftermath_ms(&self) -> u64 {
        let is_late = |step: &Step| match &step.what {
            What::Storm { kind, .. } => matches!(
                kind,
                Storm::Belates(..) | Storm::Repeats(..) | Storm::Frozen
            ),
            _ => false,
        };
        if self.steps.iter().any(is_late) {
            4_500
        } else {
            500
        }
    }
}

impl Pipe {
    fn draw(random: &mut SmallRng) -> Self {
        let n_stages = random.random_range(1..4);
        let mut stages: Vec<Stage> = Vec::new();
        for i in 0..n_stages {
            let from = if i == 0 || random.random_bool(0.25) {
                None
            } else {
                Some(random.random_range(0..i))
            };
            let mut chain = Vec::new();
            for (op, chance) in [(Op::Validate, 0.5), (Op::Filter, 0.3), (Op::Lookup, 0.5)] {
                if random.random_bool(chance) {
                    chain.push(op);
                }
            }
            let owned = random.random_bool(0.45);
            if owned && random.random_bool(0.4) {
                chain.push(Op::Count);
            }
            stages.push(Stage {
                from,
                owned,
                chain,
                workers: random.random_range(1..3),
                batch: [1, 2, 3, 8, 50][random.random_range(0..5)],
                prefetch: random.random_range(0..3),
                claim_after_ms: random.random_range(1_000..2_000),
                timeout_ms: random.random_range(300..1_500),
            });
        }
        // One stage may count, and nothing may read from it.
        if random.random_bool(0.85) {
            let is_end = |i: &usize| stages.iter().all(|stage| stage.from != Some(*i));
            let ends: Vec<usize> = (0..stages.len()).filter(is_end).collect();
            stages[ends[random.random_range(0..ends.len())]]
                .chain
                .push(Op::Aggregate);
        }
        Self {
            stages,
            window: random.random_bool(0.8),
            attempts: random.random_range(1..5),
            backoff_ms: [(10, 100), (50, 400), (200, 1_500), (3_000, 8_000)]
                [random.random_range(0..4)],
            keep_ms: [0, 0, 500, 3_600_000][random.random_range(0..4)],
        }
    }
}

/// Adds one trouble with all the steps that belong to it.
fn draw_trouble(
    random: &mut SmallRng,
    pipe: &Pipe,
    daemons: usize,
    n_kinds: u32,
    steps: &mut Vec<Step>,
) {
    let daemon = random.random_range(0..daemons);
    let stage = random.random_range(0..pipe.stages.len());
    let nth = random.random_range(0..50);
    let for_ms = [100, 300, 800, 1_600, 2_500, 4_000][random.random_range(0..6)];
    let after = |steps: &mut Vec<Step>, at_ms: u64, what: What| {
        steps.push(Step { at_ms, what });
    };
    let what = match random.random_range(0..n_kinds) {
        0 | 1 => {
            let at_ms = push(steps, random, What::Crash { daemon });
            let back = at_ms + random.random_range(0..2_500);
            return after(steps, back, What::Start { daemon });
        }
        2 => {
            let at_ms = push(steps, random, What::Drain { daemon });
            let back = at_ms + random.random_range(0..2_500);
            return after(steps, back, What::Start { daemon });
        }
        3 | 4 => What::Park {
            daemon,
            stage,
            worker: random.random_range(1..3),
            point: [Point::AfterRead, Point::BeforeCommit, Point::AfterCommit]
                [random.random_range(0..3)],
            for_ms,
        },
        5 | 6 => {
            let percent = random.random_range(5..100);
            let late_ms = random.random_range(1..4_000);
            let kind = match random.random_range(0..6) {
                0 => Storm::Refuses(percent),
                1 => Storm::LosesAnswers(percent),
                2 => Storm::Belates(percent, late_ms),
                3 => Storm::Repeats(percent, late_ms),
                4 => Storm::Slow(random.random_range(1..600)),
                _ => Storm::Frozen,
            };
            What::Storm {
                daemon,
                kind,
                for_ms,
            }
        }
        7 => What::Pause {
            daemon,
            stage,
            for_ms,
        },
        8 => {
            let up = What::Scale {
                daemon,
                stage,
                workers: random.random_range(0..4),
            };
            let at_ms = push(steps, random, up);
            let back = at_ms + random.random_range(0..3_000);
            let workers = random.random_range(1..4);
            return after(
                steps,
                back,
                What::Scale {
                    daemon,
                    stage,
                    workers,
                },
            );
        }
        9 => What::Claim {
            daemon,
            stage,
            n: random.random_range(1..6),
            min_idle_ms: [0, 0, 500][random.random_range(0..3)],
        },
        10 => match random.random_range(0..4) {
            0 => What::RetryNow {
                stage,
                n: random.random_range(1..6),
            },
            1 => What::Discard { stage, nth },
            2 => What::Kill { stage, nth },
            _ => What::Purge { nth },
        },
        11 => What::Redrive {
            nth,
            twice: random.random_bool(0.4),
        },
        12 => match random.random_range(0..2) {
            0 => What::LookupAway { for_ms },
            _ => What::LookupSlow {
                delay_ms: random.random_range(1..2_000),
                for_ms,
            },
        },
        13 => What::BreakKey {
            key: random.random_range(0..KEYS),
            for_ms,
        },
        14 => match random.random_range(0..3) {
            0 => What::Cut,
            1 => What::Meddle(Meddle::JumpDaemon {
                daemon,
                ms: random.random_range(-5_000..5_000),
            }),
            _ => What::Meddle(Meddle::Spoil { for_ms }),
        },
        15 => What::Meddle(Meddle::Ack { stage, nth }),
        16 => What::Meddle(Meddle::DeletePending { stage, nth }),
        17 => match random.random_range(0..2) {
            0 => What::Meddle(Meddle::DeleteUnread { stage }),
            _ => What::Meddle(Meddle::TrimTo {
                stage,
                n: random.random_range(0..6),
            }),
        },
        18 => What::Meddle(Meddle::Read {
            stage,
            n: random.random_range(1..5),
        }),
        19 | 20 => What::Meddle(Meddle::SetBack { stage, nth }),
        21 => What::Meddle(Meddle::Destroy { stage }),
        22 => match random.random_range(0..3) {
            0 => What::Meddle(Meddle::DeleteConsumer { stage, nth }),
            1 => What::Meddle(Meddle::JumpServer {
                ms: random.random_range(1..5_000),
            }),
            _ => What::Meddle(Meddle::DeleteStream { stage }),
        },
        _ => {
            if random.random_bool(0.2) {
                What::Meddle(Meddle::Flush)
            } else {
                let at_ms = push(steps, random, What::Meddle(Meddle::Remember));
                let back = at_ms + random.random_range(1..2_500);
                return after(steps, back, What::Meddle(Meddle::RollBack));
            }
        }
    };
    push(steps, random, what);
}

/// Several troubles that make a bad time of it only together, each at the right moment.
fn draw_plot(
    random: &mut SmallRng,
    pipe: &Pipe,
    daemons: usize,
    n_events: &mut u32,
    steps: &mut Vec<Step>,
) {
    let daemon = random.random_range(0..daemons);
    let stage = random.random_range(0..pipe.stages.len());
    let at_ms = random.random_range(0..SPAN_MS);
    let mut events = draw_events(random, n_events);
    events.extend(draw_events(random, n_events));
    let fails = random.random_bool(0.5);
    let mut add = |after_ms: u64, what: What| {
        steps.push(Step {
            at_ms: at_ms + after_ms,
            what,
        });
    };
    let key = random.random_range(0..KEYS);
    let fail = What::BreakKey { key, for_ms: 4_000 };
    match random.random_range(0..4) {
        // A zombie: it stalls with work in hand, others take over, then it goes on.
        0 => {
            if fails {
                add(0, fail);
            }
            let points = [Point::AfterRead, Point::BeforeCommit];
            for worker in 1..3 {
                let point = points[random.random_range(0..2)];
                let for_ms = random.random_range(1_500..4_500);
                add(
                    1,
                    What::Park {
                        daemon,
                        stage,
                        worker,
                        point,
                        for_ms,
                    },
                );
            }
            add(2, What::Foreign(events));
        }
        // It dies while entries wait for their next try.
        1 => {
            add(0, fail);
            add(1, What::Foreign(events));
            add(random.random_range(5..500), What::Crash { daemon });
            add(random.random_range(500..5_000), What::Start { daemon });
        }
        // A worker leaves, comes back and has work again before its leaving has got through.
        2 => {
            let kind = Storm::Belates(100, 3_000);
            let for_ms = 400;
            add(
                0,
                What::Storm {
                    daemon,
                    kind,
                    for_ms,
                },
            );
            let scale = |workers| What::Scale {
                daemon,
                stage,
                workers,
            };
            add(50, scale(0));
            add(600, scale(2));
            if fails {
                add(610, fail);
            }
            add(700, What::Foreign(events));
        }
        // The store answers nothing of what it does, under load.
        _ => {
            let kind = Storm::LosesAnswers(random.random_range(50..100));
            let for_ms = random.random_range(200..1_500);
            add(
                0,
                What::Storm {
                    daemon,
                    kind,
                    for_ms,
                },
            );
            add(1, What::Foreign(events));
            if fails {
                add(random.random_range(5..800), What::Drain { daemon });
                add(random.random_range(800..3_000), What::Start { daemon });
            }
        }
    }
}
