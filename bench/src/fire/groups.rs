//! What redis-cli shows of the groups, against the truth, at many instants of a run: XINFO GROUPS and XPENDING against what
//! the producers added and what took effect.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rand::Rng as _;

use super::books::{Against, Books};
use super::house::{GROUPS, HOP, House, Shape, wait};
use super::load::{Load, Policy};
use super::resp::{Client, Value, command};
use super::trial::Field;
use crate::report::Goal;
use crate::server::Keeps;

const PER_S: u64 = 4_000;
/// From a restarted server's first answer to a right lag.
const HEALED_MS: f64 = 2_000.0;

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    for shape in Shape::BOTH {
        part(field, shape).with_context(|| shape.name())?;
    }
    Ok(())
}

fn part(field: &mut Field<'_>, shape: Shape) -> Result<()> {
    let mut house = House::new(field, Keeps::EverySecond, shape)?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("x{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Again]);
    house.watch()?.wait_counted(500)?;
    let mut seen = Seen::default();
    let mut healed = Vec::new();
    let (looks, restarts) = if field.quick { (60, 1) } else { (400, 6) };
    for round in 0..restarts {
        // Kills of the daemon in between leave entries pending and a lag behind.
        for part in 0..3 {
            look(&house, field, &mut seen, looks / 3, load.acked())?;
            if part == 1 {
                daemon.kill()?;
                look(&house, field, &mut seen, 20, load.acked())?;
                daemon = house.daemon("one")?;
            }
        }
        daemon.wait_healthy()?;
        if round + 1 == restarts {
            break;
        }
        house.server.kill()?;
        house.server.start_again()?;
        let begun = Instant::now();
        let mut client = house.client()?;
        wait("a right lag", Duration::from_secs(20), || {
            Ok((shown(&mut client)?.wrong() == 0).then_some(()))
        })?;
        healed.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let record = load.stop()?;
    let mut books = Books::settle(&house, &daemon, &record, Against::Stream)?;
    daemon.drain()?;
    books.names_left(&house)?;
    let what = format!("{}: ", shape.name());
    books.tell(field, &what);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    {
        let n = |n: u64| n as f64;
        field.figure(&format!("{what}instants"), "", n(seen.looks), Goal::None);
        field.figure(
            &format!("{what}instants with open entries, of both groups"),
            "",
            n(seen.open),
            Goal::AtLeast(1.0),
        );
        field.figure(
            &format!("{what}instants with pending entries"),
            "",
            n(seen.pending),
            Goal::None,
        );
    }
    field.none(
        &format!("{what}instants with a wrong lag or pending"),
        "",
        seen.wrong,
    );
    if !healed.is_empty() {
        field.worst(
            &format!("{what}Redis up after kill -9 to a right lag"),
            "ms",
            &healed,
            HEALED_MS,
        );
    }
    Ok(())
}

#[derive(Default)]
struct Seen {
    looks: u64,
    wrong: u64,
    open: u64,
    pending: u64,
}

fn look(
    house: &House,
    field: &mut Field<'_>,
    seen: &mut Seen,
    looks: u64,
    acked: u64,
) -> Result<()> {
    let mut client = house.client()?;
    for _ in 0..looks {
        std::thread::sleep(Duration::from_micros(
            field.random.random_range(100..12_000),
        ));
        let shown = shown(&mut client)?;
        // The producers' record is no later than what Redis has.
        if shown.added[0] < acked {
            bail!(
                "{} events in the stream, {acked} acknowledged",
                shown.added[0]
            );
        }
        seen.looks += 1;
        seen.open += u64::from(shown.open() > 0);
        seen.pending += u64::from(shown.pending.iter().sum::<u64>() > 0);
        if shown.wrong() > 0 {
            seen.wrong += 1;
            if seen.wrong < 4 {
                field.say(&format!("wrong: {shown:?}"));
            }
        }
    }
    Ok(())
}

/// One instant.
#[derive(Debug)]
struct Shown {
    /// Entries that were added to each stream.
    added: [u64; 2],
    /// Of them, those with their effects: a hop's entry, a count.
    effected: [u64; 2],
    lag: [Option<u64>; 2],
    pending: [u64; 2],
    /// The same by XPENDING.
    xpending: [u64; 2],
}

impl Shown {
    fn open(&self) -> u64 {
        (0..2)
            .map(|i| self.added[i].saturating_sub(self.effected[i]))
            .sum()
    }

    /// How many of the groups show something that is not so.
    fn wrong(&self) -> usize {
        let is_wrong = |i: &usize| {
            let open = self.added[*i].checked_sub(self.effected[*i]);
            let told = self.lag[*i].map(|lag| lag + self.pending[*i]);
            open.is_none() || told != open || self.pending[*i] != self.xpending[*i]
        };
        (0..2).filter(is_wrong).count()
    }
}

/// Everything in one transaction.
fn shown(client: &mut Client) -> Result<Shown> {
    let commands: [&[&str]; 9] = [
        &["MULTI"],
        &["XLEN", "events"],
        &["XLEN", HOP],
        &["HGET", "{events}:counts", "total_count"],
        &["XINFO", "GROUPS", GROUPS[0].0],
        &["XINFO", "GROUPS", GROUPS[1].0],
        &["XPENDING", GROUPS[0].0, GROUPS[0].1],
        &["XPENDING", GROUPS[1].0, GROUPS[1].1],
        &["EXEC"],
    ];
    let mut out = Vec::new();
    for words in commands {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        out.extend(command(&words));
    }
    client.send(&out)?;
    for _ in 1..commands.len() {
        client.reply()?;
    }
    let reply = client.reply()?;
    let [source, hop, counted, group, next, pending, after] = reply.items() else {
        bail!("EXEC answered {reply:?}");
    };
    let field = |groups: &Value, name: &str| {
        let row = groups.items().first()?;
        match row.get(name)? {
            Value::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    };
    let first = |reply: &Value| reply.items().first().map_or(0, Value::number);
    Ok(Shown {
        added: [source.number(), hop.number()],
        effected: [hop.number(), counted.number()],
        lag: [field(group, "lag"), field(next, "lag")],
        pending: [group, next].map(|g| field(g, "pending").unwrap_or(0)),
        xpending: [first(pending), first(after)],
    })
}
