//! Simulated user events: pure and seeded. The same seed and nonce give the same events but for their times.
//!
//! Users and products are Zipf-like, sessions follow a funnel (`funnel`), purchases have heavy-tailed values. It knows
//! no clock and no rate: `runtime/intake` says when an event is meant to happen, and sends it.

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};
use pipectl_shared::config;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, LogNormal, Zipf};

use super::funnel::Step;
use crate::record::{FIELD_SENT, Fields};

/// Sessions under way at most; each takes about 32 bytes.
const N_SESSIONS_MAX: usize = 10_000;

/// Sessions under way for each event a second: a visitor acts every ten seconds on average.
const THINK_S: f64 = 10.0;

/// Exponents near 1 are what is measured for popularity (Zipf's law); users differ less than products.
const USER_EXPONENT: f64 = 0.9;
const PRODUCT_EXPONENT: f64 = 1.1;

/// Logarithm of the median purchase (40.00) and its spread: one in a thousand is over 880.00, the mean is 66.
const VALUE_MU: f64 = 3.688_879;
const VALUE_SIGMA: f64 = 1.0;

/// Bounds of a purchase in hundredths: nobody pays nothing, and the far tail of the distribution is no price.
const CENTS: std::ops::RangeInclusive<f64> = 50.0..=5_000_000.0;

/// The most popular products have names that people read easily on a screen.
const PRODUCTS: &[&str] = &[
    "laptop",
    "phone",
    "headphones",
    "monitor",
    "keyboard",
    "mouse",
    "tablet",
    "camera",
    "printer",
    "router",
    "speaker",
    "charger",
    "backpack",
    "desk",
    "chair",
    "lamp",
    "watch",
    "drone",
    "console",
    "microphone",
];

/// A stream of events without end.
pub struct Generator {
    random: StdRng,
    names: Names,
    users: Zipf<f64>,
    products: Zipf<f64>,
    values: LogNormal<f64>,
    event_ids: Ids,
    session_ids: Ids,
    sessions: Vec<Session>,
    n_sessions_wanted: usize,
}

/// The fields' names by role; an empty one is left out.
struct Names {
    id: Bytes,
    key: Bytes,
    kind: Bytes,
    product: Bytes,
    session: Bytes,
    value: Bytes,
    time: Bytes,
}

/// One visit under way.
#[derive(Clone, Copy)]
struct Session {
    n: u64,
    user: u64,
    product: u64,
    step: Step,
}

impl Generator {
    /// `nonce` is another one at each start, so that a restart repeats no event id and no session id.
    pub fn new(config: &config::Generator, event: &config::Event, nonce: u64) -> Self {
        let name = |name: &str| Bytes::copy_from_slice(name.as_bytes());
        let zipf = |n: u32, exponent| {
            Zipf::new(f64::from(n.max(1)), exponent)
                .expect("n is at least 1 and the exponent positive")
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a small positive range"
        )]
        let n_sessions_wanted = (config.rate * THINK_S).clamp(1.0, 10_000.0) as usize;
        Self {
            random: StdRng::seed_from_u64(config.seed),
            names: Names {
                id: name(&event.id),
                key: name(&event.key),
                kind: name(&event.kind),
                product: name(&event.product),
                session: name(&event.session),
                value: name(&event.value),
                time: name(&event.time),
            },
            users: zipf(config.users, USER_EXPONENT),
            products: zipf(config.products, PRODUCT_EXPONENT),
            values: LogNormal::new(VALUE_MU, VALUE_SIGMA).expect("the constants are finite"),
            event_ids: Ids::new(config.seed, nonce, 0),
            session_ids: Ids::new(config.seed, nonce, 1),
            sessions: Vec::new(),
            n_sessions_wanted: n_sessions_wanted.min(N_SESSIONS_MAX),
        }
    }

    /// The next event, meant to happen at `now_us` (microseconds since 1970): its time role says so in milliseconds and
    /// `_t` in microseconds.
    pub fn next(&mut self, now_us: u64) -> Fields {
        let session = self.act();
        let value = (session.step == Step::Purchase).then(|| self.cents());
        // One buffer for all values of the event: 16 + 24 + short words and numbers.
        let mut writer = Writer {
            buffer: BytesMut::with_capacity(160),
            ends: Vec::with_capacity(8),
        };
        let names = &self.names;
        writer.field(&names.id, |text| self.event_ids.write_next(text));
        writer.field(&names.key, |text| write!(text, "user_{}", session.user));
        writer.field(&names.kind, |text| text.write_str(session.step.name()));
        if session.step.has_product() {
            writer.field(&names.product, |text| write_product(text, session.product));
        }
        writer.field(&names.session, |text| {
            text.write_str("session_")?;
            self.session_ids.write(session.n, text)
        });
        if let Some(cents) = value {
            writer.field(&names.value, |text| {
                write!(text, "{}.{:02}", cents / 100, cents % 100)
            });
        }
        writer.field(&names.time, |text| write!(text, "{}", now_us / 1_000));
        writer.field(&Bytes::from_static(FIELD_SENT), |text| {
            write!(text, "{now_us}")
        });
        writer.finish()
    }

    /// One visitor's next step, or the first step of a new one.
    fn act(&mut self) -> Session {
        let is_room = self.sessions.len() < self.n_sessions_wanted;
        // A visitor who left without a word is replaced by a new one, so every call has an event to show.
        let goes_on = !self.sessions.is_empty() && (!is_room || self.random.random_bool(0.5));
        if !goes_on {
            return self.begin(None);
        }
        let at = self.random.random_range(0..self.sessions.len());
        let mut session = self.sessions[at];
        let Some(step) = session.step.next(&mut self.random) else {
            return self.begin(Some(at));
        };
        // Who looks at something looks at something else each time; a click and a purchase are about what was seen.
        if matches!(step, Step::View | Step::Search) {
            session.product = self.product();
        }
        session.step = step;
        if step == Step::Logout {
            self.sessions.swap_remove(at);
        } else {
            self.sessions[at] = session;
        }
        session
    }

    /// Begins a session in place of an old one, or beside them.
    fn begin(&mut self, at: Option<usize>) -> Session {
        let session = Session {
            n: self.session_ids.take(),
            user: whole(self.users.sample(&mut self.random)),
            product: self.product(),
            step: Step::first(&mut self.random),
        };
        match at {
            Some(at) => self.sessions[at] = session,
            None => self.sessions.push(session),
        }
        session
    }

    fn product(&mut self) -> u64 {
        whole(self.products.sample(&mut self.random))
    }

    fn cents(&mut self) -> u64 {
        let drawn = self.values.sample(&mut self.random) * 100.0;
        whole(drawn.round().clamp(*CENTS.start(), *CENTS.end()))
    }
}

/// A drawn number as an integer; all that are drawn here lie between 1 and 2^32.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and 2^32 by construction"
)]
fn whole(drawn: f64) -> u64 {
    drawn as u64
}

/// `laptop`, ..., `microphone`, `laptop-2`, ...; `n` counts from 1.
fn write_product(text: &mut BytesMut, n: u64) -> std::fmt::Result {
    let n_names = PRODUCTS.len() as u64;
    let idx = n.saturating_sub(1);
    let name = usize::try_from(idx % n_names).map_or("", |at| PRODUCTS[at]);
    match idx / n_names {
        0 => text.write_str(name),
        series => write!(text, "{name}-{}", series + 1),
    }
}

/// Fields whose values lie in one buffer.
struct Writer {
    buffer: BytesMut,
    ends: Vec<(Bytes, usize)>,
}

impl Writer {
    fn field(&mut self, name: &Bytes, write: impl FnOnce(&mut BytesMut) -> std::fmt::Result) {
        if name.is_empty() {
            return;
        }
        write(&mut self.buffer).expect("a buffer in memory grows");
        self.ends.push((name.clone(), self.buffer.len()));
    }

    fn finish(self) -> Fields {
        let buffer = self.buffer.freeze();
        let mut start = 0;
        let cut = |(name, end)| {
            let value = buffer.slice(start..end);
            start = end;
            (name, value)
        };
        self.ends.into_iter().map(cut).collect()
    }
}

/// Ids of 16 characters that no other start has: 40 bits of a hash of seed and nonce, then 40 bits of a counter. Sixteen
/// bytes are what the id window holds without hashing.
struct Ids {
    seed: u64,
    nonce: u64,
    purpose: u64,
    next: u64,
}

/// Crockford's base 32: no letters that people mix up.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Half of an id.
const HALF_BITS: u32 = 40;

impl Ids {
    fn new(seed: u64, nonce: u64, purpose: u64) -> Self {
        Self {
            seed,
            nonce,
            purpose,
            next: 0,
        }
    }

    fn take(&mut self) -> u64 {
        let n = self.next;
        self.next += 1;
        n
    }

    fn write_next(&mut self, text: &mut BytesMut) -> std::fmt::Result {
        let n = self.take();
        self.write(n, text)
    }

    fn write(&self, n: u64, text: &mut BytesMut) -> std::fmt::Result {
        // After 2^40 ids (35 years at 1,000 a second) the first half changes, so that even then none repeats.
        let era = n >> HALF_BITS;
        let start = [self.seed, self.nonce, self.purpose, era]
            .iter()
            .fold(0, |hash, part| mix(hash ^ part));
        for half in [start, n] {
            for digit in (0..HALF_BITS / 5).rev() {
                let value = (half >> (digit * 5)) & 31;
                text.put_u8(ALPHABET[usize::try_from(value).unwrap_or(0)]);
            }
        }
        Ok(())
    }
}

/// SplitMix64's step (Steele, Lea, Flood, 2014): every input bit moves every output bit.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
