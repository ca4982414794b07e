//! 4: processes that stand still and wake up: Redis, the daemon, and the zombie whose work somebody else has done.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::Rng as _;
use rustix::process::Signal;

use super::books::{Against, Books};
use super::hand_over::Look;
use super::house::{House, Shape, signal, wait};
use super::load::{Load, Policy};
use super::resp::Client;
use super::trial::Field;
use crate::daemon::{Control, Daemon};
use crate::report::Goal;
use crate::server::Keeps;

const PER_S: u64 = 3_000;
/// To be told unhealthy, and healthy again.
const TOLD_MS: f64 = 2_000.0;
/// Longer than a lease, and than a shared entry may be held.
const STOP: Duration = Duration::from_millis(4_500);

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    redis(field).context("Redis stopped")?;
    for shape in Shape::BOTH {
        daemons(field, shape).with_context(|| format!("daemons stopped, {}", shape.name()))?;
        late_commits(field, shape).with_context(|| format!("late commits, {}", shape.name()))?;
    }
    Ok(())
}

fn redis(field: &mut Field<'_>) -> Result<()> {
    let house = House::new(field, Keeps::EverySecond, Shape::OwnedCount)?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("s{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Again]);
    house.watch()?.wait_counted(0)?;
    let mut control = Control::open(&daemon.socket())?;
    let (mut degraded, mut healed) = (Vec::new(), Vec::new());
    for _ in 0..if field.quick { 1 } else { 3 } {
        let limit = Duration::from_secs(if field.quick { 5 } else { 10 });
        signal(house.server.pid(), Signal::STOP)?;
        let stopped = Instant::now();
        let told = wait("the daemon to say that Redis hangs", limit, || {
            Ok((!control.is_healthy()?).then(|| stopped.elapsed()))
        });
        std::thread::sleep(limit.saturating_sub(stopped.elapsed()));
        signal(house.server.pid(), Signal::CONT)?;
        degraded.push(told?.as_secs_f64() * 1e3);
        let woken = Instant::now();
        let told = wait("the daemon to be healthy", Duration::from_secs(30), || {
            Ok(control.is_healthy()?.then(|| woken.elapsed()))
        })?;
        healed.push(told.as_secs_f64() * 1e3);
    }
    let record = load.stop()?;
    let mut books = Books::settle(&house, &daemon, &record, Against::Stream)?;
    daemon.drain()?;
    books.names_left(&house)?;
    books.tell(field, "Redis stopped: ");
    field.worst(
        "Redis stopped: told unhealthy after",
        "ms",
        &degraded,
        TOLD_MS,
    );
    field.worst("Redis goes on: healthy after", "ms", &healed, TOLD_MS);
    Ok(())
}

/// Owner and competitor of the shared stage alike are stopped at random instants while the other one takes over.
fn daemons(field: &mut Field<'_>, shape: Shape) -> Result<()> {
    let rounds = if field.quick { 2 } else { 12 };
    let house = House::new(field, Keeps::EverySecond, shape)?;
    let mut pair = [house.daemon("one")?, house.daemon("two")?];
    for daemon in &mut pair {
        daemon.wait_healthy()?;
    }
    let name = format!("z{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    let mut look = Look::open(&house)?;
    for _ in 0..rounds {
        let owner = wait("an owner", Duration::from_secs(30), || {
            let (owner, _) = look.now()?;
            Ok((!owner.is_empty()).then_some(owner))
        })?;
        let zombie = &pair[usize::from(!owner.starts_with("one-"))];
        std::thread::sleep(Duration::from_millis(field.random.random_range(50..=800)));
        signal(zombie.pid(), Signal::STOP)?;
        let stopped = Instant::now();
        wait("the other to take over", Duration::from_secs(30), || {
            let (now, _) = look.now()?;
            Ok((!now.is_empty() && now != owner).then_some(()))
        })?;
        std::thread::sleep(STOP.saturating_sub(stopped.elapsed()));
        signal(zombie.pid(), Signal::CONT)?;
        let what = "the zombie to be healthy again";
        let mut control = Control::open(&zombie.socket())?;
        wait(what, Duration::from_secs(30), || {
            Ok(control.is_healthy()?.then_some(()))
        })?;
    }
    let record = load.stop()?;
    let mut books = Books::settle(&house, &pair[0], &record, Against::Stream)?;
    pair.into_iter().try_for_each(Daemon::drain)?;
    books.names_left(&house)?;
    let what = format!("daemon stopped {rounds} times, {}: ", shape.name());
    books.tell(field, &what);
    Ok(())
}

/// A worker that is parked with a batch in its hands, before or after its commit, until somebody else has done its work:
/// when it goes on, nothing at all changes.
fn late_commits(field: &mut Field<'_>, shape: Shape) -> Result<()> {
    let house = House::new(field, Keeps::EverySecond, shape)?;
    let args = ["--test-commands"];
    let (mut changes, mut refused, mut rounds) = (0, 0, 0);
    let points: &[&str] = if field.quick {
        &["before_commit"]
    } else {
        &["after_read", "before_commit", "after_commit"]
    };
    for point in points {
        for stage in ["enrich", "count"] {
            let mut pair = [
                house.daemon_with("one", &args, &[])?,
                house.daemon_with("two", &args, &[])?,
            ];
            for daemon in &mut pair {
                daemon.wait_healthy()?;
            }
            let is_owned = (stage == "count") == (shape == Shape::OwnedCount);
            let mut look = Look::open(&house)?;
            let owner = wait("an owner", Duration::from_secs(30), || {
                let (owner, _) = look.now()?;
                Ok((!owner.is_empty()).then_some(owner))
            })?;
            let zombies = if is_owned {
                vec![owner.clone()]
            } else {
                workers(&pair[0], stage)?
            };
            let home = if is_owned && owner.starts_with("two-") {
                &pair[1]
            } else {
                &pair[0]
            };
            for zombie in &zombies {
                home.pipectl(&["x-fault", "park", zombie, point])?;
            }
            let logged = home.whole_log().len();
            // Each round has a name, and so events, of its own; all of them are in the sums at the end.
            let name = format!("l{:x}{point}{stage}.", field.seed);
            let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
            std::thread::sleep(Duration::from_millis(400));
            let record = load.stop()?;
            rounds += 1;
            let other = &pair[usize::from(std::ptr::eq(home, &pair[0]))];
            other.pipectl(&["ledger", "--wait-settled", "--timeout", "60s"])?;
            let before = digest(&mut house.client()?)?;
            for zombie in &zombies {
                home.pipectl(&["x-fault", "release", zombie])?;
            }
            if is_owned {
                wait("the owner to be refused", Duration::from_secs(20), || {
                    let log = home.whole_log();
                    let new = log.get(logged..).unwrap_or_default();
                    Ok(new.contains("owns the stage no more").then_some(()))
                })?;
                refused += 1;
            }
            // A shared worker says nothing of it: what it does late it does at once.
            std::thread::sleep(Duration::from_secs(1));
            let after = digest(&mut house.client()?)?;
            if before != after {
                field.say(&format!("{point}, {stage}: {before:?} became {after:?}"));
            }
            changes += u64::from(before != after);
            let acked = record.acked();
            let applied = after_total(&mut house.client()?)?;
            field.say(&format!(
                "{point}, {stage}: {acked} events, {applied} counted in all"
            ));
            pair.into_iter().try_for_each(Daemon::drain)?;
        }
    }
    let what = format!("late commits, {}: ", shape.name());
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    {
        field.figure(
            &format!("{what}zombies woken"),
            "",
            f64::from(rounds),
            Goal::None,
        );
        field.figure(
            &format!("{what}of an owner, and told as refused"),
            "",
            f64::from(refused),
            Goal::AtLeast(points.len() as f64),
        );
    }
    field.none(&format!("{what}that changed the state"), "", changes);
    let mut client = house.client()?;
    let (total, in_all) = (
        after_total(&mut client)?,
        client.call(&["XLEN", "events"])?.number(),
    );
    field.none(
        &format!("{what}events counted not exactly once"),
        "events",
        total.abs_diff(in_all),
    );
    Ok(())
}

fn after_total(client: &mut Client) -> Result<u64> {
    Ok(client
        .call(&["HGET", "{events}:counts", "total_count"])?
        .number())
}

/// The consumer names of a daemon's workers in a stage.
fn workers(daemon: &Daemon, stage: &str) -> Result<Vec<String>> {
    let rows = daemon.pipectl(&["consumers", "ls", "--stage", stage])?;
    let rows = rows["rows"].as_array().cloned().unwrap_or_default();
    let names = rows.iter().filter_map(|row| row["name"].as_str());
    Ok(names
        .filter(|name| name.starts_with("one-"))
        .map(str::to_owned)
        .collect())
}

/// Everything that a commit could change, as Redis tells it.
fn digest(client: &mut Client) -> Result<Vec<String>> {
    let mut told = Vec::new();
    for command in [
        &["HGETALL", "{events}:counts"][..],
        &["HGETALL", "{events}:sessions:0"],
        &["HGETALL", "{events}:sessions:1"],
        &["HGET", "{events}:ledger", "enrich:forwarded"],
        &["HGET", "{events}:ledger", "count:ended"],
        &["XLEN", "{events}:enrich"],
        &["XLEN", "{events}:dead"],
        &["XPENDING", "events", "event_group"],
        &["XPENDING", "{events}:enrich", "count"],
        &["XINFO", "GROUPS", "events"],
        &["XINFO", "GROUPS", "{events}:enrich"],
        &["HLEN", "{events}:seen:0"],
        &["HLEN", "{events}:seen:1"],
        &["HGETALL", "{events}:position:enrich"],
        &["HGETALL", "{events}:position:count"],
    ] {
        let reply = client.try_call(command)?;
        let mut text = format!("{reply:?}");
        if command[0] == "XINFO" {
            // How many consumers there are is no effect: the zombie makes its own anew when it reads again.
            let rows = reply.items().iter().map(|row| {
                ["name", "pending", "last-delivered-id", "lag"]
                    .map(|name| format!("{:?}", row.get(name)))
                    .join(" ")
            });
            text = rows.collect::<Vec<_>>().join("; ");
        }
        told.push(format!("{command:?} {}", super::digest(&[&text])));
    }
    Ok(told)
}
