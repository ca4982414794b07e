//! 23: SIGTERM under load, and two daemons restarted one after the other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rustix::process::Signal;

use super::books::{Against, Books, group_state};
use super::house::{GROUPS, House, Shape, signal};
use super::load::{Load, Policy};
use super::trial::Field;
use crate::daemon::Daemon;
use crate::server::Keeps;

const PER_S: u64 = 3_000;
const EXIT_MS: f64 = 10_000.0;

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    for shape in Shape::BOTH {
        alone(field, shape).with_context(|| format!("alone, {}", shape.name()))?;
        rolling(field, shape).with_context(|| format!("rolling, {}", shape.name()))?;
    }
    field.not_run("reload and mixed versions: there is one version, and no reload");
    Ok(())
}

/// Asks it to end and waits; how long it took.
fn terminate(mut daemon: Daemon) -> Result<f64> {
    let begun = Instant::now();
    signal(daemon.pid(), Signal::TERM)?;
    let status = daemon.wait_ended()?;
    ensure!(
        status.success(),
        "SIGTERM ended it with {status}\n{}",
        daemon.log()
    );
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn alone(field: &mut Field<'_>, shape: Shape) -> Result<()> {
    let house = House::new(field, Keeps::EverySecond, shape)?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("a{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    let mut client = house.client()?;
    let (mut took, mut pending) = (Vec::new(), 0);
    for _ in 0..if field.quick { 3 } else { 20 } {
        std::thread::sleep(Duration::from_millis(field.random.random_range(50..=1_000)));
        daemon.wait_healthy()?;
        took.push(terminate(daemon)?);
        for (stream, group) in GROUPS {
            pending += group_state(&mut client, stream, group)?.pending;
        }
        daemon = house.daemon("one")?;
    }
    daemon.wait_healthy()?;
    let record = load.stop()?;
    let mut books = Books::settle(&house, &daemon, &record, Against::Stream)?;
    daemon.drain()?;
    books.names_left(&house)?;
    let what = format!("SIGTERM, {}: ", shape.name());
    books.tell(field, &what);
    field.none(
        &format!("{what}left pending by any of them"),
        "events",
        pending,
    );
    field.worst(&format!("{what}to exit code 0"), "ms", &took, EXIT_MS);
    Ok(())
}

fn rolling(field: &mut Field<'_>, shape: Shape) -> Result<()> {
    let house = House::new(field, Keeps::EverySecond, shape)?;
    let mut pair = [house.daemon("one")?, house.daemon("two")?];
    for daemon in &mut pair {
        daemon.wait_healthy()?;
    }
    let name = format!("o{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    house.watch()?.wait_counted(0)?;
    let (mut took, mut standstills) = (Vec::new(), Vec::new());
    for n in 0..if field.quick { 4 } else { 20 } {
        let which = n % 2;
        std::thread::sleep(Duration::from_millis(field.random.random_range(100..=600)));
        // The longest time without a commit of the last stage, while one leaves and comes back.
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (still, result) = std::thread::scope(|scope| {
            let still = scope.spawn(|| standstill(&house, &stop));
            let name = ["one", "two"][which];
            let result = (|| {
                let next = || -> Result<Daemon> {
                    let mut daemon = house.daemon(name)?;
                    daemon.wait_healthy()?;
                    Ok(daemon)
                };
                let old = &mut pair[which];
                let begun = Instant::now();
                signal(old.pid(), Signal::TERM)?;
                let status = old.wait_ended()?;
                ensure!(status.success(), "it ended with {status}\n{}", old.log());
                let took = begun.elapsed().as_secs_f64() * 1e3;
                *old = next()?;
                Ok(took)
            })();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            (still.join(), result)
        });
        took.push(result?);
        standstills.push(still.map_err(|_| anyhow::anyhow!("the observer panicked"))??);
    }
    let record = load.stop()?;
    let mut books = Books::settle(&house, &pair[0], &record, Against::Stream)?;
    pair.into_iter().try_for_each(Daemon::drain)?;
    books.names_left(&house)?;
    let what = format!("rolling restart, {}: ", shape.name());
    books.tell(field, &what);
    field.worst(&format!("{what}to exit code 0"), "ms", &took, EXIT_MS);
    field.worst(
        &format!("{what}without a commit of the last stage"),
        "ms",
        &standstills,
        2_000.0,
    );
    Ok(())
}

/// The longest time between two commits of the last stage.
fn standstill(house: &House, stop: &std::sync::atomic::AtomicBool) -> Result<f64> {
    let mut watch = house.watch()?;
    let (mut done, mut last, mut longest) = (watch.done()?[1], Instant::now(), Duration::ZERO);
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let now = watch.done()?[1];
        if now != done {
            longest = longest.max(last.elapsed());
            (done, last) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(longest.max(last.elapsed()).as_secs_f64() * 1e3)
}
