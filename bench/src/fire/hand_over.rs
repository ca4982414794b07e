//! Hand-over of an owned stage to a daemon that stands by: from the last commit of the one to the first of the other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rustix::process::Signal;

use super::books::{Against, Books};
use super::house::{House, Shape, signal, wait};
use super::load::{Load, Policy};
use super::resp::{Client, Value};
use super::trial::Field;
use crate::daemon::Daemon;
use crate::server::Keeps;

const ROUNDS: usize = 20;
const ROUNDS_QUICK: usize = 2;
const PER_S: u64 = 3_000;
const CRASH_MS: f64 = 2_000.0;
const LEAVE_MS: f64 = 100.0;

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    let rounds = if field.quick { ROUNDS_QUICK } else { ROUNDS };
    for shape in Shape::BOTH {
        part(field, shape, rounds).with_context(|| shape.name())?;
    }
    Ok(())
}

fn part(field: &mut Field<'_>, shape: Shape, rounds: usize) -> Result<()> {
    let house = House::new(field, Keeps::EverySecond, shape)?;
    let mut daemons = Vec::new();
    for name in ["one", "two"] {
        let mut daemon = house.daemon(name)?;
        daemon.wait_healthy()?;
        daemons.push((name, daemon));
    }
    let name = format!("h{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    let mut look = Look::open(&house)?;
    let (mut crashes, mut leaves) = (Vec::new(), Vec::new());
    let mut n = 0;
    while n < 2 * rounds {
        let owner = wait("an owner that commits", Duration::from_secs(30), || {
            let (owner, done) = look.now()?;
            Ok((!owner.is_empty() && done > 0).then_some(owner))
        })?;
        // Both stand on their feet, and the one who stands by knows it.
        for (_, daemon) in &mut daemons {
            daemon.wait_healthy()?;
        }
        std::thread::sleep(Duration::from_millis(
            field.random.random_range(300..=1_200),
        ));
        // Daemons hand stages to one another to share them out; then it is another's turn to be ended.
        if look.now()?.0 != owner {
            continue;
        }
        n += 1;
        let at = daemons
            .iter()
            .position(|(name, _)| owner.starts_with(&format!("{name}-")))
            .with_context(|| format!("the owner {owner} is neither of the two"))?;
        let (name, mut daemon) = daemons.remove(at);
        let is_crash = n % 2 == 1;
        if is_crash {
            let gap = look.gap(&owner, || daemon.kill())?;
            crashes.push(gap);
        } else {
            let gap = look.gap(&owner, || signal(daemon.pid(), Signal::TERM))?;
            leaves.push(gap);
            let status = daemon.wait_ended()?;
            ensure!(status.success(), "it left with {status}\n{}", daemon.log());
        }
        let again = house.daemon(name)?;
        daemons.push((name, again));
    }
    let record = load.stop()?;
    for (_, daemon) in &mut daemons {
        daemon.wait_healthy()?;
    }
    let mut books = Books::settle(&house, &daemons[0].1, &record, Against::Stream)?;
    daemons
        .into_iter()
        .try_for_each(|(_, daemon)| Daemon::drain(daemon))?;
    books.names_left(&house)?;
    let what = format!("{}: ", shape.name());
    books.tell(field, &what);
    field.worst(
        &format!("{what}after kill -9 of the owner"),
        "ms",
        &crashes,
        CRASH_MS,
    );
    field.worst(
        &format!("{what}after SIGTERM of the owner"),
        "ms",
        &leaves,
        LEAVE_MS,
    );
    Ok(())
}

/// Who owns the owned stage of a house, and what it has done.
pub(crate) struct Look {
    client: Client,
    lease: &'static str,
    field: &'static str,
}

impl Look {
    pub(crate) fn open(house: &House) -> Result<Self> {
        let (lease, field) = match house.shape {
            Shape::OwnedCount => ("{events}:lease:count", "count:ended"),
            Shape::OwnedEnrich => ("{events}:lease:enrich", "enrich:forwarded"),
        };
        Ok(Self {
            client: house.client()?,
            lease,
            field,
        })
    }

    pub(crate) fn now(&mut self) -> Result<(String, u64)> {
        let owner = self.client.call(&["HGET", self.lease, "owner"])?;
        let done = self.client.call(&["HGET", "{events}:ledger", self.field])?;
        Ok((owner.text(), Value::number(&done)))
    }

    /// Milliseconds from the last commit of `owner` to the first of another one, when `act` ends the first.
    fn gap(&mut self, owner: &str, act: impl FnOnce() -> Result<()>) -> Result<f64> {
        let (_, mut done) = self.now()?;
        let mut last = Instant::now();
        act()?;
        wait("another owner's commit", Duration::from_secs(30), || {
            let (now, n) = self.now()?;
            let grown = n > done;
            done = n;
            let gap = last.elapsed();
            if grown {
                if now != owner && !now.is_empty() {
                    return Ok(Some(gap.as_secs_f64() * 1e3));
                }
                last = Instant::now();
            }
            Ok(None)
        })
    }
}
