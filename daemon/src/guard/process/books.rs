//! The run's own record against what is really there: its events in every stream between stages, in the results and among
//! the dead letters, each counted by its id or its session.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};

use super::canary::counted;
use super::load::{Names, Record, SESSIONS};
use crate::chaos::{Server, words};
use crate::store::redis::Answer;

/// Entries of one page of a stream.
const PAGE: &str = "2000";

/// Lost or doubled events that are named.
const EXAMPLES: usize = 20;

/// The comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// Events acknowledged to the run's producers.
    pub(super) acknowledged: u64,
    /// Acknowledged and not in the source; their ages when the server died are the judge's affair.
    pub(super) gone: Vec<usize>,
    /// Should be in effect and are not; `None` = cannot be told.
    pub(super) lost: Option<u64>,
    /// Effects beyond one of an event; `None` = cannot be told.
    pub(super) duplicated: Option<u64>,
    /// Dead letters of the run's events: entry ids in the stream of dead letters.
    pub(super) dead: Vec<String>,
    /// Events that were sent without what the pipeline requires, and are in.
    pub(super) poison: u64,
    /// Copies beyond the first that are in the source.
    pub(super) copies: u64,
    /// By what it was judged, for a person.
    pub(super) judged_by: Vec<String>,
    /// Some that were lost or doubled, and where.
    pub(super) examples: Vec<String>,
}

/// Where to look.
pub(super) struct Where<'a> {
    pub(super) names: &'a Names,
    /// Streams between stages.
    pub(super) hops: &'a [String],
    /// Stream of dead letters.
    pub(super) dead: &'a str,
    /// Results by session; `None` = the pipeline does not count by session.
    pub(super) sessions: Option<[String; 2]>,
    /// No entry of the run is older, as an id.
    pub(super) since: String,
    /// Whether somebody removed entries from the source on purpose: then what is acknowledged should be in effect, whatever
    /// is in the source.
    pub(super) is_cut: bool,
}

/// How often each event of the record is in a stream.
struct Tally {
    times: Vec<u8>,
    /// Entry ids of those found, where wanted.
    entries: Vec<(usize, String)>,
    /// Whether the stream still begins before the run.
    whole: bool,
}

impl Books {
    /// Reads all streams anew: a few seconds for a few hundred thousand events.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(super) async fn read(server: &mut Server, record: &Record, at: &Where<'_>) -> Result<Self> {
        let mut books = Self {
            acknowledged: record.sent.iter().filter(|s| s.acked_ms.is_some()).count() as u64,
            ..Self::default()
        };
        let n = record.sent.len();
        let source = Tally::of(server, &at.names.source, at, n, false).await?;
        let dead = Tally::of(server, at.dead, at, n, true).await?;
        let is_dead: BTreeSet<usize> = dead.entries.iter().map(|(n, _)| *n).collect();
        books.dead = dead.entries.into_iter().map(|(_, entry)| entry).collect();
        let mut wanted = vec![false; n];
        for (n, sent) in record.sent.iter().enumerate() {
            let is_in = source.times[n] > 0;
            books.copies += u64::from(source.times[n].saturating_sub(1));
            books.poison += u64::from(sent.poison && (is_in || sent.acked_ms.is_some()));
            if sent.acked_ms.is_some() && !is_in && source.whole && !at.is_cut {
                books.gone.push(n);
            }
            let should = if at.is_cut || !source.whole {
                sent.acked_ms.is_some()
            } else {
                is_in
            };
            wanted[n] = should && !is_dead.contains(&n);
        }
        let (mut lost, mut doubled) = (None::<u64>, None::<u64>);
        let worst = |figure: &mut Option<u64>, n: u64| *figure = Some(figure.unwrap_or(0).max(n));
        for hop in at.hops {
            let tally = Tally::of(server, hop, at, n, false).await?;
            if !tally.whole {
                books.judged_by.push(format!(
                    "not by {hop}: entries of the run were trimmed from it already"
                ));
                continue;
            }
            let missing = wanted
                .iter()
                .zip(&tally.times)
                .filter(|(w, t)| **w && **t == 0)
                .count();
            let extra: u64 = wanted
                .iter()
                .zip(&tally.times)
                .map(|(w, t)| u64::from(t.saturating_sub(u8::from(*w))))
                .sum();
            for (n, (wanted, times)) in wanted.iter().zip(&tally.times).enumerate() {
                let (wanted, times) = (u8::from(*wanted), *times);
                if wanted != times {
                    books.example(|| {
                        format!(
                            "{} is {times} times in {hop}, not {wanted}",
                            at.names.event(n)
                        )
                    });
                }
            }
            worst(&mut lost, missing as u64);
            worst(&mut doubled, extra);
            books.judged_by.push(format!("every event id in {hop}"));
        }
        match &at.sessions {
            Some(keys) => {
                let (missing, extra) =
                    sessions(server, keys, at.names, &wanted, &mut books).await?;
                worst(&mut lost, missing);
                worst(&mut doubled, extra);
                books.judged_by.push("the results by session".to_owned());
                (books.lost, books.duplicated) = (lost, doubled);
            }
            None => books.judged_by.push(
                "no last stage counts by session, so that what is in the results cannot be told"
                    .to_owned(),
            ),
        }
        Ok(books)
    }
}

impl Books {
    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }
}

/// Events that are missing from the results, and effects that are too many.
async fn sessions(
    server: &mut Server,
    keys: &[String; 2],
    names: &Names,
    wanted: &[bool],
    books: &mut Books,
) -> Result<(u64, u64)> {
    let mut sums = vec![0_u64; SESSIONS.min(wanted.len())];
    for (n, wanted) in wanted.iter().enumerate() {
        sums[n % SESSIONS] += u64::from(*wanted);
    }
    let ids: Vec<_> = (0..sums.len()).map(|at| names.session(at)).collect();
    let there = counted(server, keys, &ids)
        .await
        .context("read the results by session")?;
    let pairs = || sums.iter().zip(&there);
    for (session, (wanted, there)) in ids.iter().zip(pairs()) {
        if wanted != there {
            books.example(|| format!("session {session} counts {there} events, not {wanted}"));
        }
    }
    let missing = pairs()
        .map(|(wanted, there)| wanted.saturating_sub(*there))
        .sum();
    let extra = pairs()
        .map(|(wanted, there)| there.saturating_sub(*wanted))
        .sum();
    Ok((missing, extra))
}

impl Tally {
    async fn of(
        server: &mut Server,
        stream: &str,
        at: &Where<'_>,
        n: usize,
        keep: bool,
    ) -> Result<Self> {
        let first = server
            .call(&["XRANGE", stream, "-", "+", "COUNT", "1"])
            .await?;
        // An empty stream tells nothing of what was in it: whole only where nothing was ever removed.
        let begins = first
            .items()
            .first()
            .and_then(|e| e.items().first())
            .map(Answer::text);
        let mut tally = Self {
            times: vec![0; n],
            entries: Vec::new(),
            whole: begins.is_none_or(|id| before(&id, &at.since))
                || nothing_removed(server, stream).await?,
        };
        let field = at.names.roles.id.as_str();
        let mut from = at.since.clone();
        loop {
            let page = server
                .call(&["XRANGE", stream, &from, "+", "COUNT", PAGE])
                .await?;
            let Some(last) = page.items().last() else {
                return Ok(tally);
            };
            let last = last.items().first().map(Answer::text).unwrap_or_default();
            from = format!("({last}");
            for entry in page.items() {
                let [id, fields] = entry.items() else {
                    bail!("{stream} holds an entry that is none");
                };
                let Some(Answer::Text(event)) = fields.get(field) else {
                    continue;
                };
                let Some(number) = at.names.number(event) else {
                    continue;
                };
                if let Some(times) = tally.times.get_mut(number) {
                    *times = times.saturating_add(1);
                    if keep {
                        tally.entries.push((number, id.text()));
                    }
                }
            }
        }
    }
}

/// Whether the first id is earlier than the second by its milliseconds.
fn before(id: &str, since: &str) -> bool {
    let ms = |id: &str| id.split('-').next().and_then(|ms| ms.parse::<u64>().ok());
    ms(id) < ms(since)
}

/// Whether every entry that was ever added is still there.
async fn nothing_removed(server: &mut Server, stream: &str) -> Result<bool> {
    let Ok(info) = server.call(&["XINFO", "STREAM", stream]).await else {
        // There is no such stream: nothing was ever added.
        return Ok(server.call(&["EXISTS", stream]).await?.number() == Some(0));
    };
    let figure = |name| info.get(name).and_then(Answer::number);
    Ok(figure("entries-added") == figure("length"))
}

/// Deletes dead letters of the run, as `pipectl dead purge` does: the ledger does not change.
///
/// # Errors
/// When the server does not answer.
pub(super) async fn purge(server: &mut Server, stream: &str, entries: &[String]) -> Result<u64> {
    let mut gone = 0;
    for part in entries.chunks(500) {
        let mut command = words(&["XDEL", stream]);
        command.extend(part.iter().map(|id| id.as_bytes().to_vec()));
        gone += server.call(&command).await?.number().unwrap_or(0);
    }
    Ok(gone)
}
