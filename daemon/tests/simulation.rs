//! Whole pipelines in virtual time, each decided by one seed: sources and doors, several daemons, operators, faults at every
//! port, crashes, third parties. `./scripts/simulate --help` says how a seed is replayed.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "progress of many seeds and the trace of one are what is asked for"
)]

mod simulation {
    pub(crate) mod history;
    pub(crate) mod life;
    pub(crate) mod recorder;
    pub(crate) mod runner;
    pub(crate) mod scenario;
    pub(crate) mod shrink;
    pub(crate) mod weather;
}

use simulation::life::{Without, live};
use simulation::runner::{Asked, find, report, survey};
use simulation::scenario::Scenario;

/// What `./scripts/simulate` asks for, else 10,000 seeds.
#[test]
fn every_invariant_holds_on_every_seed() {
    let asked = Asked::from_environment();
    if asked.survey {
        let n_failed = survey(asked.from, asked.n, asked.without);
        assert_eq!(n_failed, 0, "of {} seeds", asked.n);
        return;
    }
    if let Some(failure) = find(asked.from, asked.n, asked.without, true) {
        panic!("{}", report(&failure, asked.without));
    }
    if let (1, true) = (asked.n, asked.trace) {
        let outcome = live(&Scenario::of(asked.from), asked.without, true);
        println!("{}", outcome.lines.join("\n"));
    }
}

#[test]
fn the_same_seed_lives_the_same_life() {
    for seed in 0..50 {
        let scenario = Scenario::of(seed);
        let lives = [(); 2].map(|()| live(&scenario, Without::Nothing, true));
        let [one, other] = &lives;
        let differs = one.lines.iter().zip(&other.lines).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.hash, other.hash, "seed {seed}");
    }
}

/// A test of the test: each guard of the model and each precaution of the workers is missed within 1,000 seeds.
#[test]
fn no_guard_can_be_left_out_unnoticed() {
    let mut unnoticed = Vec::new();
    for without in Without::all() {
        match find(0, 1_000, without, false) {
            Some(failure) => println!(
                "{:<20} seed {:>4}: {}",
                without.name(),
                failure.seed,
                failure.violation
            ),
            None => unnoticed.push(without.name()),
        }
    }
    assert!(unnoticed.is_empty(), "nobody misses {unnoticed:?}");
}
