//! Making a plan: which entries, which are passed over, the equal shell command. Reads the store, changes nothing.

use pipectl_shared::plan::{Action, Plan, PlanEntry, PlanParams, Skipped, State};
use pipectl_shared::rpc::{Code, Error};

use super::book::Kept;
use super::in_flight::InFlight;
use super::run::NAMED_MAX;
use super::select::{List, Wanted};
use super::walk::{dead_page, pending_page};
use super::words::{hint_names, quote, store_error};
use super::{EXPIRES_AFTER, IDS_MAX, Setup};
use crate::clock::rfc3339;
use crate::record::EntryId;

/// Ids that the equal shell command names; more are meant by the plan's id.
const IN_COMMAND_MAX: usize = 20;
/// Rows asked for at once.
const PAGE: usize = 1_000;

/// What a selection matched.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    /// In the order in which they will be dealt with: by stage, oldest first.
    pub(super) entries: Vec<PlanEntry>,
    /// At most 1,000.
    pub(super) skipped: Vec<Skipped>,
}

impl Frozen {
    fn take(&mut self, stage: &str, id: EntryId) -> Result<(), Error> {
        if self.entries.len() >= IDS_MAX {
            let message = format!("more than {IDS_MAX} entries match");
            return Err(Error::new(Code::TooLarge, message)
                .hint("narrow the selection: by stage, consumer, idle time, tries, cause or an expression"));
        }
        self.entries.push(PlanEntry {
            stage: stage.to_owned(),
            id: id.to_string(),
        });
        Ok(())
    }

    fn skip(&mut self, id: EntryId, reason: &str) {
        if self.skipped.len() < NAMED_MAX {
            self.skipped.push(Skipped {
                id: id.to_string(),
                reason: reason.to_owned(),
            });
        }
    }
}

/// Chooses. Errors: `InvalidParams` (selection), `TooLarge`, `Unavailable` (store).
pub(super) async fn freeze(params: &PlanParams, setup: &Setup) -> Result<Frozen, Error> {
    if params.select.is_empty() {
        return Err(Error::new(Code::InvalidParams, "nothing is selected")
            .hint("say which entries, or --all"));
    }
    if params.to.is_some() && params.action != Action::Claim {
        let message = format!(
            "a {} plan is not handed to a consumer",
            params.action.word()
        );
        return Err(Error::new(Code::InvalidParams, message));
    }
    let frozen = match params.action {
        Action::Claim | Action::Ack | Action::Retry | Action::Dead => {
            freeze_pending(params, setup).await?
        }
        Action::Redrive | Action::Purge => freeze_dead(params, setup).await?,
    };
    if let Some(to) = &params.to {
        check_consumer(to, &frozen, setup)?;
    }
    Ok(frozen)
}

async fn freeze_pending(params: &PlanParams, setup: &Setup) -> Result<Frozen, Error> {
    let wanted = Wanted::read(&params.select, List::Pending, &setup.layout)?;
    let name = |stage: usize| setup.layout.stages[stage].name.as_str();
    let mut frozen = Frozen::default();
    if wanted.ids().is_empty() {
        let mut cursor = None;
        loop {
            let (rows, next) = pending_page(
                &*setup.admin,
                &setup.layout,
                &wanted,
                // Theirs alone: nobody else may finish it.
                &InFlight::default(),
                cursor.as_deref(),
                PAGE,
            )
            .await?;
            for listed in rows {
                frozen.take(name(listed.stage), listed.row.id)?;
            }
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(frozen),
            }
        }
    }
    let in_flight = InFlight::of(&setup.handle, setup.clock.now_ms(), |_, _| true);
    for id in wanted.ids() {
        let mut holders = Vec::new();
        let mut is_passed_over = false;
        let mut in_hand = None;
        for &stage in wanted.stages() {
            if let Some(row) = setup
                .admin
                .pending_entry(stage, *id)
                .await
                .map_err(store_error)?
            {
                if wanted.holds_pending(&row) {
                    holders.push(name(stage));
                } else {
                    is_passed_over = true;
                }
            } else {
                in_hand = in_hand.or(in_flight.holder(stage, *id));
            }
        }
        match holders[..] {
            [stage] => frozen.take(stage, *id)?,
            [] if is_passed_over => frozen.skip(*id, "does not match the other selectors"),
            [] => match in_hand {
                Some(owner) => {
                    let why = format!(
                        "in flight: the owner, {owner}, has it in hand; wait, or have another daemon take over"
                    );
                    frozen.skip(*id, &why);
                }
                None => frozen.skip(*id, "no longer pending"),
            },
            _ => {
                let message = format!("{id} is pending in the stages {}", holders.join(" and "));
                return Err(Error::new(Code::InvalidParams, message)
                    .hint(format!("say which: --stage {}", holders[0])));
            }
        }
    }
    // Chunks are of one stage each; the order within a stage stays as it was given.
    frozen
        .entries
        .sort_by_key(|e| setup.layout.stage(&e.stage).map(|(index, _)| index));
    Ok(frozen)
}

async fn freeze_dead(params: &PlanParams, setup: &Setup) -> Result<Frozen, Error> {
    let wanted = Wanted::read(&params.select, List::Dead, &setup.layout)?;
    let mut frozen = Frozen::default();
    let mut cursor = None;
    let mut seen = std::collections::HashSet::new();
    loop {
        let (rows, next) = dead_page(&*setup.admin, &wanted, cursor.as_deref(), PAGE).await?;
        for row in rows {
            seen.insert(row.id);
            if params.action == Action::Redrive && row.redriven.is_some() {
                frozen.skip(row.id, "already redriven");
            } else {
                frozen.take(&row.stage, row.id)?;
            }
        }
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    for id in wanted.ids().iter().filter(|id| !seen.contains(id)) {
        frozen.skip(
            *id,
            "no such dead letter, or it does not match the other selectors",
        );
    }
    if wanted.ids().is_empty() {
        // The list is newest first; what died first is redriven first.
        frozen.entries.reverse();
    }
    Ok(frozen)
}

/// `--to` must be a worker of the one stage whose entries are claimed.
fn check_consumer(to: &str, frozen: &Frozen, setup: &Setup) -> Result<(), Error> {
    let Some(first) = frozen.entries.first() else {
        return Ok(());
    };
    if frozen.entries.iter().any(|e| e.stage != first.stage) {
        return Err(Error::new(
            Code::InvalidParams,
            "entries of several stages cannot be handed to one consumer",
        )
        .hint("say which stage: --stage NAME"));
    }
    let workers = setup
        .handle
        .stage(&first.stage)
        .map(|(_, stage)| stage.workers())
        .unwrap_or_default();
    if workers.iter().any(|w| w.consumer == to) {
        return Ok(());
    }
    let message = format!(
        "{} is no worker of stage {} in this daemon",
        quote(to),
        first.stage
    );
    let hint = hint_names(to, workers.iter().map(|w| w.consumer.as_str()));
    Err(Error::new(Code::InvalidParams, message).hint(hint))
}

/// The plan around a frozen list.
pub(super) fn kept(
    id: &str,
    params: PlanParams,
    frozen: &Frozen,
    ids_hash: String,
    now: u64,
    by: &str,
) -> Kept {
    let expires_ms =
        now.saturating_add(u64::try_from(EXPIRES_AFTER.as_millis()).unwrap_or(u64::MAX));
    let bulk = params.select.is_bulk();
    let command = command(id, params.action, params.to.as_deref(), bulk, frozen);
    let mut select = params.select;
    // The frozen list is what counts; how it was named is kept for people.
    select.ids.truncate(IN_COMMAND_MAX);
    let plan = Plan {
        id: id.to_owned(),
        action: params.action,
        select,
        to: params.to,
        matched: frozen.entries.len() as u64,
        skipped: frozen.skipped.clone(),
        ids_hash,
        sample: frozen.entries.iter().take(NAMED_MAX).cloned().collect(),
        bulk,
        state: State::Ready,
        progress: 0,
        result: None,
        can_undo: false,
        created: rfc3339(now),
        expires: rfc3339(expires_ms),
        by: by.to_owned(),
        reason: None,
        command,
    };
    Kept {
        plan,
        created_ms: now,
        expires_ms,
        ran_by: None,
    }
}

/// The equal shell command: ids only, never text from an entry. Long lists are meant by the plan's id.
fn command(id: &str, action: Action, to: Option<&str>, bulk: bool, frozen: &Frozen) -> String {
    let entries = &frozen.entries;
    let confirm = if bulk {
        format!(" --confirm {}", entries.len())
    } else {
        String::new()
    };
    let stages: std::collections::BTreeSet<_> = entries.iter().map(|e| e.stage.as_str()).collect();
    let is_pending = action.noun() == "pending";
    if entries.is_empty() || entries.len() > IN_COMMAND_MAX || (is_pending && stages.len() > 1) {
        return format!("pipectl plan run {id}{confirm}");
    }
    let mut text = format!("pipectl {} {}", action.noun(), action.word());
    if let (true, Some(stage)) = (is_pending, stages.first()) {
        text.push_str(&format!(" --stage {}", shell(stage)));
    }
    text.push_str(" --id");
    for entry in entries {
        text.push_str(&format!(" {}", shell(&entry.id)));
    }
    if let Some(to) = to {
        text.push_str(&format!(" --to {}", shell(to)));
    }
    text + &confirm
}

/// One word of a shell command. What is not plainly harmless stands in `$'...'` with its bytes escaped, so that neither
/// the shell nor the terminal it is pasted into can be tricked.
fn shell(word: &str) -> String {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/@%+,".contains(b);
    if !word.is_empty() && word.as_bytes().iter().all(is_plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("$'");
    for byte in word.bytes() {
        match byte {
            b'\'' | b'\\' => quoted.push_str(&format!("\\{}", char::from(byte))),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\x{byte:02x}")),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_command_cannot_break_out() {
        let table = [
            ("plain", "1700000000000-0", "1700000000000-0"),
            ("empty", "", "$''"),
            ("quote", "a'; rm -rf /", "$'a\\'; rm -rf /'"),
            ("substitution", "$(x)`y`", "$'$(x)`y`'"),
            ("escape sequence", "\u{1b}[2J\n", "$'\\x1b[2J\\x0a'"),
            ("bidi", "\u{202e}", "$'\\xe2\\x80\\xae'"),
        ];
        for (desc, word, quoted) in table {
            assert_eq!(shell(word), quoted, "{desc}");
        }
    }
}
