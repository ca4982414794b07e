//! 7 and 8: a network that parts, is slow, cuts everything into bytes and breaks connections; by a proxy between the daemons
//! and their server. Producers have a line of their own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use pipelined::chaos::{Faults, Proxy};
use rand::RngCore as _;
use tokio::runtime::Runtime;

use super::books::{Against, Books};
use super::house::{House, Shape, wait};
use super::load::{Load, Policy};
use super::trial::Field;
use crate::daemon::{Control, Daemon};
use crate::host;
use crate::report::Goal;
use crate::server::Keeps;

const PER_S: u64 = 2_000;
const DETECTED_MS: f64 = 5_000.0;
const RESUMED_MS: f64 = 5_000.0;
/// What a partition may cost in memory.
const GROWN_MIB: f64 = 32.0;
/// Of one core, while nothing can be done.
const SPIN_PERCENT: f64 = 20.0;
/// Least events a second at a round trip of 50 ms.
const SLOW_PER_S: f64 = 5_000.0;

/// A proxy with the runtime that it runs on.
struct Net {
    runtime: Runtime,
    proxy: Proxy,
}

impl Net {
    /// Between the daemons of a house and its server.
    fn before(house: &mut House, seed: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let socket: PathBuf = house.server.dir().join("proxy.sock");
        let proxy = {
            let _on = runtime.enter();
            Proxy::start(&socket, &house.server.socket(), seed).context("start the proxy")?
        };
        house.through = Some(socket);
        Ok(Self { runtime, proxy })
    }

    fn set(&self, faults: Faults) {
        let _on = self.runtime.enter();
        self.proxy.set(faults);
    }
}

pub(crate) fn partition(field: &mut Field<'_>) -> Result<()> {
    let mut house = House::new(field, Keeps::EverySecond, Shape::OwnedCount)?;
    let net = Net::before(&mut house, field.random.next_u64())?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("p{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    house.watch()?.wait_counted(500)?;
    let mut control = Control::open(&daemon.socket())?;
    let (mut detected, mut resumed, mut grown, mut spun) = (vec![], vec![], vec![], vec![]);
    let ways = [(true, true), (true, false), (false, true)];
    for (holds_requests, holds_replies) in ways {
        let (memory, cpu) = (
            host::mib(daemon.pid(), "VmRSS")?,
            host::cpu_s(daemon.pid())?,
        );
        net.set(Faults {
            holds_requests,
            holds_replies,
            ..Faults::default()
        });
        let parted = Instant::now();
        let told = wait("the partition to be told", Duration::from_secs(30), || {
            Ok((!control.is_healthy()?).then(|| parted.elapsed()))
        })?;
        detected.push(told.as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_secs(8).saturating_sub(parted.elapsed()));
        let share = (host::cpu_s(daemon.pid())? - cpu) / parted.elapsed().as_secs_f64();
        spun.push(share * 100.0);
        grown.push(host::mib(daemon.pid(), "VmRSS")? - memory);
        resumed.push(resume(&house, || net.set(Faults::default()))?);
        let what = "healthy after a partition";
        wait(what, Duration::from_secs(30), || {
            Ok(control.is_healthy()?.then_some(()))
        })?;
    }
    exact(
        field,
        &house,
        daemon,
        load,
        "parted both ways and each way: ",
    )?;
    field.worst("told after", "ms", &detected, DETECTED_MS);
    field.worst(
        "healed to commits of both stages",
        "ms",
        &resumed,
        RESUMED_MS,
    );
    field.worst("memory grown meanwhile", "MiB", &grown, GROWN_MIB);
    field.worst("CPU meanwhile", "% core", &spun, SPIN_PERCENT);
    Ok(())
}

/// Milliseconds until both stages commit after `act`.
fn resume(house: &House, act: impl FnOnce()) -> Result<f64> {
    let mut watch = house.watch()?;
    let before = watch.done()?;
    act();
    let begun = Instant::now();
    wait("commits of both stages", Duration::from_secs(60), || {
        let done = watch.done()?;
        Ok((done[0] > before[0] && done[1] > before[1])
            .then(|| begun.elapsed().as_secs_f64() * 1e3))
    })
}

fn exact(
    field: &mut Field<'_>,
    house: &House,
    daemon: Daemon,
    load: Load,
    what: &str,
) -> Result<()> {
    let record = load.stop()?;
    let mut books = Books::settle(house, &daemon, &record, Against::Stream)?;
    daemon.drain()?;
    books.names_left(house)?;
    books.tell(field, what);
    Ok(())
}

pub(crate) fn slow(field: &mut Field<'_>) -> Result<()> {
    let ms = Duration::from_millis;
    for shape in Shape::BOTH {
        throughput(field, shape, ms(25), ms(5), Some(SLOW_PER_S))?;
    }
    throughput(field, Shape::OwnedCount, ms(100), ms(10), None)?;
    let slices = Faults {
        slice: 1,
        ..Faults::default()
    };
    let thin = Faults {
        bytes_per_s: 125_000,
        ..Faults::default()
    };
    for (what, faults, per_s) in [
        ("slices of one byte: ", slices, 300),
        ("1 Mbit/s: ", thin, 100),
    ] {
        let mut house = House::new(field, Keeps::Nothing, Shape::OwnedCount)?;
        let net = Net::before(&mut house, field.random.next_u64())?;
        net.set(faults);
        let mut daemon = house.daemon("one")?;
        daemon.wait_healthy()?;
        let name = format!("q{:x}.", field.seed);
        let load = Load::start(&house.server.socket(), &name, per_s, &[Policy::Once]);
        std::thread::sleep(Duration::from_secs(4));
        exact(field, &house, daemon, load, what)?;
    }
    let mut house = House::new(field, Keeps::EverySecond, Shape::OwnedEnrich)?;
    let net = Net::before(&mut house, field.random.next_u64())?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("b{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    for _ in 0..if field.quick { 10 } else { 50 } {
        let pause = 20 + field.random.next_u64() % 300;
        std::thread::sleep(Duration::from_millis(pause));
        net.proxy.break_all();
    }
    exact(field, &house, daemon, load, "connections broken: ")
}

/// How fast a backlog is drained over such a line, and whether anything was taken for a timeout.
fn throughput(
    field: &mut Field<'_>,
    shape: Shape,
    delay: Duration,
    jitter: Duration,
    goal: Option<f64>,
) -> Result<()> {
    let n: u64 = if field.quick { 20_000 } else { 60_000 };
    let mut house = House::new(field, Keeps::Nothing, shape)?;
    let net = Net::before(&mut house, field.random.next_u64())?;
    let name = format!("n{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, 40_000, &[Policy::Once; 2]);
    wait("a backlog", Duration::from_secs(60), || {
        Ok((load.acked() >= n).then_some(()))
    })?;
    load.rate(0);
    net.set(Faults {
        delay,
        jitter,
        ..Faults::default()
    });
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let mut watch = house.watch()?;
    let mut first = None;
    let cpu = host::cpu_s(daemon.pid())?;
    let all = load.acked();
    let per_s = wait("the backlog to be done", Duration::from_secs(120), || {
        let done = watch.done()?[1];
        let now = Instant::now();
        if done == 0 {
            return Ok(None);
        }
        let (begun, at) = *first.get_or_insert((now, done));
        #[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
        Ok((done >= all).then(|| (done - at) as f64 / now.duration_since(begun).as_secs_f64()))
    })?;
    let cpu = host::cpu_s(daemon.pid())? - cpu;
    let log = daemon.whole_log();
    let timeouts: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("no answer") || line.contains("timed out"))
        .collect();
    for line in &timeouts {
        field.say(line);
    }
    let timeouts = timeouts.len() as u64;
    let what = format!("round trip {:?}, {}: ", 2 * delay, shape.name());
    exact(field, &house, daemon, load, &what)?;
    let goal = goal.map_or(Goal::None, Goal::AtLeast);
    field.figure(&format!("{what}backlog drained"), "events/s", per_s, goal);
    field.none(&format!("{what}spurious timeouts"), "", timeouts);
    field.figure(&format!("{what}CPU of the daemon"), "s", cpu, Goal::None);
    Ok(())
}
