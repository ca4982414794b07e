//! 13: the stream is trimmed beyond what was read, and beyond what is pending, under a backlog.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::Rng as _;
use rustix::process::Signal;

use super::books::{Against, Books};
use super::house::{House, Shape, signal};
use super::load::{Load, Policy};
use super::trial::Field;
use crate::report::Goal;
use crate::server::Keeps;

const PER_S: u64 = 3_000;
const ROUNDS: usize = 6;
const ROUNDS_QUICK: usize = 2;

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    for shape in Shape::BOTH {
        part(field, shape).with_context(|| shape.name())?;
    }
    Ok(())
}

fn part(field: &mut Field<'_>, shape: Shape) -> Result<()> {
    let house = House::new(field, Keeps::EverySecond, shape)?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("t{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    house.watch()?.wait_counted(500)?;
    let mut client = house.client()?;
    for n in 0..if field.quick { ROUNDS_QUICK } else { ROUNDS } {
        // It stands still or is dead, with what it had read pending, while the rest piles up and most of it is cut off.
        let kept = field.random.random_range(0..400).to_string();
        let away = Duration::from_millis(field.random.random_range(200..700));
        if n % 2 == 0 {
            signal(daemon.pid(), Signal::STOP)?;
            std::thread::sleep(away);
            client.call(&["XTRIM", "events", "MAXLEN", &kept])?;
            signal(daemon.pid(), Signal::CONT)?;
        } else {
            daemon.kill()?;
            std::thread::sleep(away);
            client.call(&["XTRIM", "events", "MAXLEN", &kept])?;
            daemon = house.daemon("one")?;
            daemon.wait_healthy()?;
        }
        std::thread::sleep(Duration::from_millis(800));
    }
    let record = load.stop()?;
    let mut books = Books::settle(&house, &daemon, &record, Against::Hop)?;
    daemon.drain()?;
    books.names_left(&house)?;
    let what = format!("XTRIM, {}: ", shape.name());
    books.tell(field, &what);
    let declared = books.ledger("lost");
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    field.figure(
        &format!("{what}cut off unread or pending, and told as lost"),
        "events",
        declared as f64,
        Goal::AtLeast(1.0),
    );
    field.none(
        &format!("{what}cut off and not told, or told and not cut off"),
        "events",
        books.not_applied.abs_diff(declared),
    );
    Ok(())
}
