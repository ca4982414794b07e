//! 1: the daemon is killed at random moments under load, and started again at once.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::Rng as _;

use super::books::{Against, Books, SETTLE_MAX};
use super::house::{CLAIM_AFTER, House, Shape, wait};
use super::load::{Load, Policy};
use super::trial::Field;
use crate::daemon::{Control, Daemon};
use crate::report::Goal;
use crate::server::Keeps;

const KILLS: usize = 200;
const KILLS_QUICK: usize = 10;
const PER_S: u64 = 3_000;
/// From the start to a kill.
const LIFE_MS: std::ops::RangeInclusive<u64> = 50..=1_500;
/// From the start to the first event.
const FIRST_MS: f64 = 2_000.0;

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    let kills = if field.quick { KILLS_QUICK } else { KILLS };
    // Both deliveries, each as the first and as the last stage.
    for shape in Shape::BOTH {
        part(field, shape, kills / 2).with_context(|| shape.name())?;
    }
    Ok(())
}

fn part(field: &mut Field<'_>, shape: Shape, kills: usize) -> Result<()> {
    let house = House::new(field, Keeps::EverySecond, shape)?;
    let mut watch = house.watch()?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("k{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once; 2]);
    let (mut firsts, mut last_stage) = (Vec::new(), Vec::new());
    let mut sockets_dead = 0;
    for n in 0..kills {
        // Three in four are killed that long after their first event, so that the first event is seen whenever it comes;
        // the others that long after their start, wherever they are by then.
        if n % 4 != 3 {
            let [first, last] = first_events(&mut watch, &daemon)?;
            firsts.push(first);
            last_stage.push(last);
            // A socket file is there from the one before.
            sockets_dead += u64::from(Control::open(&daemon.socket()).is_err());
        }
        let life = field.random.random_range(LIFE_MS);
        std::thread::sleep(Duration::from_millis(life));
        daemon.kill()?;
        daemon = house.daemon("one")?;
        if n % 20 == 19 {
            field.say(&format!("{}: {} of {kills} kills", shape.name(), n + 1));
        }
    }
    daemon.wait_healthy()?;
    let record = load.stop()?;
    daemon.pipectl(&["ledger", "--wait-settled", "--timeout", "180s"])?;
    let settled = daemon.begun().elapsed();
    let mut books = Books::settle(&house, &daemon, &record, Against::Stream)?;
    daemon.drain()?;
    books.names_left(&house)?;
    let what = format!("{}: ", shape.name());
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    field.figure(&format!("{what}kills"), "", kills as f64, Goal::None);
    books.tell(field, &what);
    field.none(
        &format!("{what}acknowledged, and not in the stream"),
        "events",
        books.gone,
    );
    field.worst(
        &format!("{what}start to the first event"),
        "ms",
        &firsts,
        FIRST_MS,
    );
    field.worst(
        &format!("{what}start to the first event of the last stage"),
        "ms",
        &last_stage,
        FIRST_MS,
    );
    field.none(
        &format!("{what}control sockets not replaced"),
        "",
        sockets_dead,
    );
    field.figure(
        &format!("{what}last start to nothing pending"),
        "s",
        settled.as_secs_f64(),
        Goal::AtMost((CLAIM_AFTER + SETTLE_MAX).as_secs_f64()),
    );
    Ok(())
}

/// Milliseconds from the daemon's start to its first effects, in the first stage and in the last.
fn first_events(watch: &mut super::house::Watch, daemon: &Daemon) -> Result<[f64; 2]> {
    let before = watch.done()?;
    let mut first = None;
    wait("the first event", Duration::from_secs(30), || {
        let done = watch.done()?;
        let now = daemon.begun().elapsed().as_secs_f64() * 1e3;
        if done[0] > before[0] && first.is_none() {
            first = Some(now);
        }
        Ok(first.filter(|_| done[1] > before[1]).map(|f| [f, now]))
    })
}
