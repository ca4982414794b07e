//! The events that are drained: seven fields, as a shop's front end would add them.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::raw::Client;

/// Types, as the generator has them.
const TYPES: [&str; 6] = ["view", "click", "search", "purchase", "signup", "logout"];
/// Products; drawn so that a few get most.
const N_PRODUCTS: u64 = 200;
/// Sessions under way at a time: about 400 different ones in a batch of 500.
const N_SESSIONS: u64 = 1_000;
/// XADDs in one write.
const PIPELINE: u64 = 500;

/// Adds `n` events to the stream `events`. Their values are all 1.25, so that the sum is known too.
pub(crate) fn fill(socket: &Path, n: u64) -> Result<()> {
    let mut client = Client::connect(socket)?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut commands = String::new();
    let mut at = 0;
    while at < n {
        let till = n.min(at + PIPELINE);
        commands.clear();
        for i in at..till {
            event(&mut commands, i, &mut random);
        }
        client.send(commands.as_bytes())?;
        for _ in at..till {
            client.skip_reply()?;
        }
        at = till;
    }
    Ok(())
}

fn event(commands: &mut String, i: u64, random: &mut u64) {
    // xorshift64: only to spread the load, and the same in every run.
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let r = *random;
    let product = (r >> 8) % N_PRODUCTS;
    let product = product * product / N_PRODUCTS;
    commands.push_str("*17\r\n$4\r\nXADD\r\n$6\r\nevents\r\n$1\r\n*\r\n");
    let mut field = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = write!(
            commands,
            "${}\r\n{name}\r\n${}\r\n{value}\r\n",
            name.len(),
            value.len()
        );
    };
    field("event_id", &format!("{i:016x}{r:016x}"));
    field("user_id", &format!("user_{}", (r >> 20) % 5_000));
    field("event_type", TYPES[usize::try_from(r % 6).unwrap_or(0)]);
    field("product", &format!("product_{product}"));
    field("session_id", &format!("session_{}", (r >> 32) % N_SESSIONS));
    field("value", "1.25");
    field("ts", "1640995200000");
}
