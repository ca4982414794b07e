//! Many seeds on all cores, and what is said of one that failed.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::life::{Without, live};
use super::scenario::Scenario;
use super::shrink::shrink;

/// What the environment asks for; `./scripts/simulate` sets it.
pub(crate) struct Asked {
    pub(crate) from: u64,
    pub(crate) n: u64,
    pub(crate) without: Without,
    pub(crate) trace: bool,
    /// Go on after a failure and print one line for each.
    pub(crate) survey: bool,
}

impl Asked {
    /// # Panics
    /// When a variable says what it cannot mean.
    pub(crate) fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let number = |name: &str| {
            text(name).map(|text| match text.parse::<u64>() {
                Ok(n) => n,
                Err(_) => panic!("{name} is to be a number, not \"{text}\""),
            })
        };
        let without = text("PIPELINED_SIM_WITHOUT").map_or(Without::Nothing, |name| {
            let names: Vec<_> = Without::all().into_iter().map(Without::name).collect();
            let found = Without::all().into_iter().find(|w| w.name() == name);
            found.unwrap_or_else(|| panic!("there is no guard \"{name}\"; there are {names:?}"))
        });
        let seed = number("PIPELINED_SIM_SEED");
        Self {
            from: seed.or(number("PIPELINED_SIM_FROM")).unwrap_or(0),
            n: seed.map_or_else(|| number("PIPELINED_SIM_SEEDS").unwrap_or(10_000), |_| 1),
            without,
            trace: text("PIPELINED_SIM_TRACE").is_some(),
            survey: text("PIPELINED_SIM_SURVEY").is_some(),
        }
    }
}

/// A seed that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) violation: String,
}

/// The least of these seeds that violates something. Threads share nothing but the number of the next seed, and stop once
/// all below the least failure are done.
pub(crate) fn find(from: u64, n: u64, without: Without, tells: bool) -> Option<Failure> {
    let next = AtomicU64::new(from);
    let worst: Mutex<Option<Failure>> = Mutex::new(None);
    let began = tokio::time::Instant::now();
    let n_threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let least = |worst: &Option<Failure>| worst.as_ref().map(|f| f.seed);
                    let stop = least(&worst.lock().unwrap_or_else(PoisonError::into_inner));
                    if seed >= from + n || stop.is_some_and(|stop| seed > stop) {
                        return;
                    }
                    let done = seed - from;
                    if tells && done > 0 && done.is_multiple_of(1_000) {
                        println!(
                            "{done} of {n} seeds, {:.0} s",
                            began.elapsed().as_secs_f64()
                        );
                    }
                    let outcome = live(&Scenario::of(seed), without, false);
                    let Some(violation) = outcome.violation else {
                        continue;
                    };
                    let mut worst = worst.lock().unwrap_or_else(PoisonError::into_inner);
                    if least(&worst).is_none_or(|least| seed < least) {
                        *worst = Some(Failure { seed, violation });
                    }
                }
            });
        }
    });
    if tells {
        let seconds = began.elapsed().as_secs_f64();
        println!("{n} seeds in {seconds:.1} s, {n_threads} threads");
    }
    worst.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Lives all of them, whatever fails; prints one line for each that does. Returns how many did.
pub(crate) fn survey(from: u64, n: u64, without: Without) -> u64 {
    let (next, n_failed) = (AtomicU64::new(from), AtomicU64::new(0));
    let n_threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + n {
                        return;
                    }
                    let outcome = live(&Scenario::of(seed), without, false);
                    if let Some(violation) = outcome.violation {
                        n_failed.fetch_add(1, Ordering::Relaxed);
                        println!("seed {seed}: {violation}");
                    }
                }
            });
        }
    });
    n_failed.into_inner()
}

/// Everything that a person needs: the seed, the command, the smallest scenario, its trace.
pub(crate) fn report(failure: &Failure, without: Without) -> String {
    let whole = Scenario::of(failure.seed);
    let small = shrink(&whole, |scenario| {
        live(scenario, without, false).violation.is_some()
    });
    let outcome = live(&small, without, true);
    let mut text = String::new();
    let flag = match without {
        Without::Nothing => String::new(),
        other => format!(" --without {}", other.name()),
    };
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "seed {} violates: {}\n\nreplay:\n    ./scripts/simulate {}{flag}\n\nmade smaller ({} of {} steps): {}\n\npipeline: {:#?}\ndaemons: {}\nsteps:\n",
        failure.seed,
        failure.violation,
        failure.seed,
        small.steps.len(),
        whole.steps.len(),
        outcome.violation.unwrap_or_default(),
        small.pipe,
        small.daemons
    );
    for step in &small.steps {
        let _ = writeln!(text, "{:>6} ms  {:?}", step.at_ms, step.what);
    }
    let _ = write!(text, "\ntrace:\n{}", outcome.lines.join("\n"));
    text
}
