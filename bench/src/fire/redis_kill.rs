//! 2: Redis is killed at random moments under load, and started again at once on what its files hold.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;

use super::books::{Against, Books};
use super::house::{House, Shape, wait};
use super::load::{Load, Policy};
use super::trial::Field;
use crate::report::Goal;
use crate::server::Keeps;

const KILLS: usize = 50;
const KILLS_QUICK: usize = 4;
const PER_S: u64 = 2_000;
/// From the first commits after a restart to the next kill.
const LIFE_MS: std::ops::RangeInclusive<u64> = 50..=1_500;
/// From the first answer of the server to the first commit.
const RECONNECT_MS: f64 = 3_000.0;
/// Acknowledged writes that `appendfsync everysec` may cost.
const WINDOW_MS: f64 = 2_000.0;

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    let kills = if field.quick { KILLS_QUICK } else { KILLS };
    for keeps in [Keeps::Always, Keeps::EverySecond] {
        for shape in Shape::BOTH {
            part(field, keeps, shape, kills / 2)
                .with_context(|| format!("{keeps:?}, {}", shape.name()))?;
        }
    }
    Ok(())
}

fn part(field: &mut Field<'_>, keeps: Keeps, shape: Shape, kills: usize) -> Result<()> {
    let mut house = House::new(field, keeps, shape)?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    // One producer sends again what it is not sure of, one does not.
    let policies = [Policy::Again, Policy::Once];
    let name = format!("r{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &policies);
    house.watch()?.wait_counted(0)?;
    let (mut reconnects, mut instants) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        let life = field.random.random_range(LIFE_MS);
        std::thread::sleep(Duration::from_millis(life));
        instants.push(load.begun().elapsed().as_secs_f64() * 1e3);
        house.server.kill()?;
        house.server.start_again()?;
        let opened = Instant::now();
        let mut watch = house.watch()?;
        let before = watch.done()?;
        // Both stages again.
        wait("commits after a restart", Duration::from_secs(30), || {
            let done = watch.done()?;
            Ok((done[0] > before[0] && done[1] > before[1]).then_some(()))
        })?;
        reconnects.push(opened.elapsed().as_secs_f64() * 1e3);
        ensure!(
            daemon.ended()?.is_none(),
            "the daemon ended with its Redis\n{}",
            daemon.log()
        );
    }
    let record = load.stop()?;
    let mut books = Books::settle(&house, &daemon, &record, Against::Stream)?;
    daemon.drain()?;
    books.names_left(&house)?;
    let mode = if keeps == Keeps::Always {
        "always"
    } else {
        "everysec"
    };
    let what = format!("{mode}, {}: ", shape.name());
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    field.figure(&format!("{what}kills"), "", kills as f64, Goal::None);
    books.tell(field, &what);
    // Each event that is gone went with the first kill after its acknowledgement.
    let window = books.gone_ms.iter().map(|&ms| {
        let ms = f64::from(ms);
        instants.iter().find(|&&kill| kill >= ms).unwrap_or(&ms) - ms
    });
    let window = window.fold(0.0, f64::max);
    if keeps == Keeps::Always {
        field.none(
            &format!("{what}acknowledged, and gone with Redis"),
            "events",
            books.gone,
        );
    } else {
        #[expect(clippy::cast_precision_loss, reason = "a few million events")]
        field.figure(
            &format!("{what}acknowledged, and gone with Redis"),
            "events",
            books.gone as f64,
            Goal::None,
        );
        field.figure(
            &format!("{what}oldest of them before its kill"),
            "ms",
            window,
            Goal::AtMost(WINDOW_MS),
        );
    }
    field.worst(
        &format!("{what}Redis up to commits of both stages"),
        "ms",
        &reconnects,
        RECONNECT_MS,
    );
    Ok(())
}
