//! The walk through the lists of pending entries and dead letters, page by page, for what a selection wants. What an owner
//! has in hand is walked through behind the pending entries of its stage, where it is asked for.
//!
//! Used by plans (to freeze ids) and by the doors (to list pages). Changes nothing.

use pipectl_shared::rpc::{Code, Error};

use super::in_flight::InFlight;
use super::select::{CHUNK_WITH_FIELDS, Wanted, entry_id};
use super::words::{quote, store_error};
use crate::record::EntryId;
use crate::store::{Admin, DeadRow, Layout, PendingRow};

/// Rows looked at for one page: a selection that matches hardly anything answers with a short page and a cursor instead
/// of holding the connection for minutes.
const LOOKED_MAX: usize = 20_000;

/// Where a page of pending entries goes on: `stage:id`, or `#n` in a list of named ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    In { stage: usize, after: EntryId },
    Named(usize),
}

impl Place {
    fn read(text: &str, wanted: &Wanted, layout: &Layout) -> Result<Self, Error> {
        let bad = || {
            Error::new(
                Code::InvalidParams,
                format!("{} is no cursor of this list", quote(text)),
            )
        };
        if let Some(n) = text.strip_prefix('#') {
            return n.parse().map(Self::Named).map_err(|_| bad());
        }
        let (stage, id) = text.rsplit_once(':').ok_or_else(bad)?;
        let (stage, _) = layout.stage(stage).ok_or_else(bad)?;
        if !wanted.stages().contains(&stage) {
            return Err(bad());
        }
        Ok(Self::In {
            stage,
            after: id.parse().map_err(|_| bad())?,
        })
    }

    fn text(self, layout: &Layout) -> String {
        match self {
            Self::In { stage, after } => format!("{}:{after}", layout.stages[stage].name),
            Self::Named(n) => format!("#{n}"),
        }
    }
}

/// One row of a page of pending entries.
#[derive(Debug)]
pub struct Listed {
    /// Index of its stage.
    pub stage: usize,
    /// The entry.
    pub row: PendingRow,
    /// Whether it is not pending but in the hands of its stage's owner.
    pub in_flight: bool,
}

impl Listed {
    fn pending(stage: usize, row: PendingRow) -> Self {
        Self {
            stage,
            row,
            in_flight: false,
        }
    }

    fn in_flight(stage: usize, row: PendingRow) -> Self {
        Self {
            stage,
            row,
            in_flight: true,
        }
    }
}

/// One page of pending entries, oldest first within a stage, those in flight behind them, and where to go on. A page may be
/// short, even empty, while more follows: only `None` is the end.
pub async fn pending_page(
    admin: &dyn Admin,
    layout: &Layout,
    wanted: &Wanted,
    in_flight: &InFlight,
    cursor: Option<&str>,
    limit: usize,
) -> Result<(Vec<Listed>, Option<String>), Error> {
    let place = cursor
        .map(|text| Place::read(text, wanted, layout))
        .transpose()?;
    let (rows, next) = if wanted.ids().is_empty() {
        let start = match place {
            Some(Place::In { stage, after }) => (stage, after),
            _ => (wanted.stages().first().copied().unwrap_or(0), EntryId::MIN),
        };
        walk_pending(admin, wanted, in_flight, start, limit).await?
    } else {
        let from = if let Some(Place::Named(n)) = place {
            n
        } else {
            0
        };
        named_pending(admin, wanted, in_flight, from, limit).await?
    };
    Ok((rows, next.map(|place| place.text(layout))))
}

async fn walk_pending(
    admin: &dyn Admin,
    wanted: &Wanted,
    in_flight: &InFlight,
    (first, mut after): (usize, EntryId),
    limit: usize,
) -> Result<(Vec<Listed>, Option<Place>), Error> {
    let mut rows: Vec<Listed> = Vec::new();
    let mut n_looked = 0;
    for &stage in wanted.stages().iter().filter(|s| **s >= first) {
        let begin = rows.len();
        loop {
            if rows.len() >= limit || n_looked >= LOOKED_MAX {
                return Ok((rows, Some(Place::In { stage, after })));
            }
            let page = admin
                .pending(stage, &wanted.query(after, limit - rows.len()))
                .await
                .map_err(store_error)?;
            // At least one: a store that finds nothing but goes on must not turn this into an endless loop.
            n_looked += page.rows.len().max(1);
            rows.extend(
                page.rows
                    .into_iter()
                    .filter(|row| wanted.holds_pending(row))
                    .map(|row| Listed::pending(stage, row)),
            );
            match page.next {
                Some(next) if next > after => after = next,
                _ => break,
            }
        }
        // What an owner has in hand lies behind its position, and all that it parked before it: the order stays, and the
        // same cursor goes on here. A foreign reader may have taken some of it as well; that is told once.
        if let Some(last) = rows[begin..].last() {
            after = after.max(last.row.id);
        }
        loop {
            let n_max = (limit - rows.len()).min(CHUNK_WITH_FIELDS);
            let found = in_flight.rows(admin, stage, after, n_max.max(1)).await;
            let found = found.map_err(store_error)?;
            let Some(last) = found.last() else { break };
            if n_max == 0 || n_looked >= LOOKED_MAX {
                return Ok((rows, Some(Place::In { stage, after })));
            }
            n_looked += found.len();
            after = last.id;
            let wanted = found.into_iter().filter(|row| wanted.holds_pending(row));
            rows.extend(wanted.map(|row| {
                // A page tells sizes; it does not keep what may be megabytes a row.
                let row = PendingRow {
                    fields: None,
                    ..row
                };
                Listed::in_flight(stage, row)
            }));
        }
        after = EntryId::MIN;
    }
    Ok((rows, None))
}

async fn named_pending(
    admin: &dyn Admin,
    wanted: &Wanted,
    in_flight: &InFlight,
    from: usize,
    limit: usize,
) -> Result<(Vec<Listed>, Option<Place>), Error> {
    let mut rows = Vec::new();
    for (n, id) in wanted.ids().iter().enumerate().skip(from) {
        if rows.len() >= limit {
            return Ok((rows, Some(Place::Named(n))));
        }
        for &stage in wanted.stages() {
            let found = find_pending(admin, in_flight, stage, *id).await?;
            rows.extend(found.filter(|found| wanted.holds_pending(&found.row)));
        }
    }
    Ok((rows, None))
}

/// An entry of a stage, pending or in flight.
pub async fn find_pending(
    admin: &dyn Admin,
    in_flight: &InFlight,
    stage: usize,
    id: EntryId,
) -> Result<Option<Listed>, Error> {
    let pending = admin.pending_entry(stage, id).await.map_err(store_error)?;
    if let Some(row) = pending {
        return Ok(Some(Listed::pending(stage, row)));
    }
    let in_hand = in_flight.entry(admin, stage, id).await;
    let in_hand = in_hand.map_err(store_error)?;
    Ok(in_hand.map(|row| Listed::in_flight(stage, row)))
}

/// One page of dead letters, newest first, and where to go on.
pub async fn dead_page(
    admin: &dyn Admin,
    wanted: &Wanted,
    cursor: Option<&str>,
    limit: usize,
) -> Result<(Vec<DeadRow>, Option<String>), Error> {
    let mut rows = Vec::new();
    if !wanted.ids().is_empty() {
        let from = match cursor {
            None => 0,
            Some(text) => text
                .strip_prefix('#')
                .and_then(|n| n.parse().ok())
                .ok_or_else(|| {
                    Error::new(
                        Code::InvalidParams,
                        format!("{} is no cursor of this list", quote(text)),
                    )
                })?,
        };
        for (n, id) in wanted.ids().iter().enumerate().skip(from) {
            if rows.len() >= limit {
                return Ok((rows, Some(format!("#{n}"))));
            }
            if let Some(row) = admin.dead_entry(*id).await.map_err(store_error)?
                && wanted.holds_dead(&row)
            {
                rows.push(row);
            }
        }
        return Ok((rows, None));
    }
    let mut before = cursor.map(entry_id).transpose()?.unwrap_or(EntryId::MAX);
    let mut n_looked = 0;
    loop {
        if rows.len() >= limit || n_looked >= LOOKED_MAX {
            return Ok((rows, Some(before.to_string())));
        }
        // A dead letter carries its fields.
        let n_max = (limit - rows.len()).min(CHUNK_WITH_FIELDS);
        let page = admin.dead(before, n_max).await.map_err(store_error)?;
        // Only an empty answer is the end: a store may answer with less than was asked for.
        let Some(last) = page.last() else {
            return Ok((rows, None));
        };
        before = last.id;
        n_looked += page.len();
        rows.extend(page.into_iter().filter(|row| wanted.holds_dead(row)));
    }
}
