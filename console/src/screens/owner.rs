//! Owned stages in words: who owns one, what is parked and in flight there, and taking its partition over.

use pipectl_shared::snapshot::{Stage, State};

use super::stages::{Piece, aged, aged_role, amount};
use crate::model::{Item, ItemKind, Model};
use crate::output::human::or_unknown;
use crate::place::Id;
use crate::theme::Role;
use crate::widgets::Ink;

/// Whether one owner works it in order.
pub(super) fn is_owned(stage: &Stage) -> bool {
    stage.delivery == "owned"
}

/// Who works an owned stage: `owned here by a-detect-0`, `owned elsewhere by b-detect-0`, `owned by nobody now`.
pub(super) fn owner_words(stage: &Stage) -> String {
    let Some(owner) = &stage.owner else {
        return "owner unknown now".to_owned();
    };
    let Some(name) = &owner.consumer else {
        return "owned by nobody now".to_owned();
    };
    let place = if owner.here { "here" } else { "elsewhere" };
    let expired = if owner.expired {
        ", its lease ran out"
    } else {
        ""
    };
    format!("owned {place} by {name}{expired}")
}

/// In the cells of a figure: `owner` (a worker of this daemon is), `standby` (another daemon's is), `?`.
pub(super) fn part(stage: &Stage) -> &'static str {
    match &stage.owner {
        Some(owner) if owner.here => "owner",
        Some(_) => "standby",
        None => "?",
    }
}

/// Owned stages that a filter on the pending entries lets through, each in words; that of the cursor's row first.
pub(super) fn pieces(model: &Model, ink: &Ink<'_>, at_cursor: Option<&str>) -> Vec<Piece> {
    let wanted = model.selection(Id::Pending).stage;
    let stages = model
        .facts
        .snapshot()
        .map_or(&[][..], |snapshot| &snapshot.status.stages);
    let is_wanted =
        |stage: &&Stage| is_owned(stage) && wanted.as_ref().is_none_or(|name| *name == stage.name);
    let mut owned: Vec<&Stage> = stages.iter().filter(is_wanted).collect();
    owned.sort_by_key(|stage| at_cursor != Some(stage.name.as_str()));
    owned
        .into_iter()
        .map(|stage| {
            let parked = aged(ink, or_unknown(stage.pending, amount));
            let in_flight = stage.owner.as_ref().and_then(|owner| owner.in_flight);
            let in_flight = match in_flight {
                Some(n) => format!(", {} in flight", aged(ink, amount(n))),
                // Only its own daemon knows.
                None => String::new(),
            };
            let is_wrong = stage
                .owner
                .as_ref()
                .is_some_and(|owner| owner.expired || owner.consumer.is_none());
            let role = if is_wrong { Role::Warn } else { Role::Plain };
            let text = format!(
                "{}: {parked} parked{in_flight}, {}",
                stage.name,
                owner_words(stage)
            );
            (text, aged_role(ink, role))
        })
        .collect()
}

/// Why this daemon cannot take over a stage; `None` = it can.
fn why_not(stage: &Stage) -> Option<String> {
    let name = &stage.name;
    if !is_owned(stage) {
        return Some(format!("{name} is shared, every worker works it"));
    }
    let Some(owner) = &stage.owner else {
        return Some(format!("nobody knows who owns {name} now"));
    };
    if owner.here {
        return Some(format!("{name} is owned here already"));
    }
    if stage.state == State::Paused {
        return Some(format!("{name} is paused in this daemon; resume it first"));
    }
    if stage.workers == 0 {
        return Some(format!(
            "{name} has no worker in this daemon; scale it to 1 first"
        ));
    }
    None
}

/// Taking a stage's partition over to the daemon that is asked; told why not where that cannot be.
pub(super) fn take_over(stage: &Stage) -> Item {
    let name = &stage.name;
    let (label, kind) = match why_not(stage) {
        Some(why) => (
            format!("take over partition -- no: {why}"),
            ItemKind::Off(why),
        ),
        None => (
            format!("take over partition of {name}: {}", owner_words(stage)),
            ItemKind::Command {
                name: "stage.take".to_owned(),
                given: vec![("stage".to_owned(), name.clone())],
            },
        ),
    };
    Item {
        letter: 'o',
        label,
        kind,
    }
}

/// Whether a consumer is the owner of a stage.
pub(super) fn is_owner(model: &Model, stage: &str, consumer: &str) -> bool {
    let stages = model.facts.snapshot().map(|s| &s.status.stages);
    let found = stages.and_then(|stages| stages.iter().find(|known| known.name == stage));
    let owner = found.and_then(|stage| stage.owner.as_ref()?.consumer.as_deref());
    owner == Some(consumer)
}

/// Taking over a stage by its name; `None` = there is no such stage.
pub(super) fn take_over_of(model: &Model, stage: &str) -> Option<Item> {
    let stages = &model.facts.snapshot()?.status.stages;
    let found = stages.iter().find(|known| known.name == stage)?;
    Some(take_over(found))
}

#[cfg(test)]
mod tests {
    use pipectl_shared::snapshot::Owner;

    use super::*;

    fn owned(consumer: Option<&str>, here: bool) -> Stage {
        Stage {
            name: "detect".to_owned(),
            delivery: "owned".to_owned(),
            state: State::Running,
            workers: 1,
            owner: Some(Owner {
                consumer: consumer.map(str::to_owned),
                here,
                ..Owner::default()
            }),
            ..Stage::default()
        }
    }

    #[test]
    fn a_partition_is_taken_over_only_from_elsewhere_by_a_daemon_that_can_work_it() {
        let other = || owned(Some("b-detect-0"), false);
        let table = [
            ("elsewhere", other(), None),
            ("nobody has it", owned(None, false), None),
            (
                "here",
                owned(Some("a-detect-0"), true),
                Some("owned here already"),
            ),
            (
                "shared",
                Stage {
                    delivery: "shared".to_owned(),
                    owner: None,
                    ..other()
                },
                Some("is shared"),
            ),
            (
                "paused",
                Stage {
                    state: State::Paused,
                    ..other()
                },
                Some("is paused in this daemon"),
            ),
            (
                "no worker",
                Stage {
                    workers: 0,
                    ..other()
                },
                Some("no worker in this daemon"),
            ),
            (
                "Redis is away",
                Stage {
                    owner: None,
                    ..other()
                },
                Some("nobody knows who owns"),
            ),
        ];
        for (desc, stage, why) in table {
            let item = take_over(&stage);
            match (item.kind, why) {
                (ItemKind::Command { name, given }, None) => {
                    assert_eq!(name, "stage.take", "{desc}");
                    assert_eq!(given, [("stage".to_owned(), "detect".to_owned())], "{desc}");
                }
                (ItemKind::Off(said), Some(why)) => {
                    assert!(said.contains(why), "{desc}: {said}");
                    assert!(item.label.contains(&said), "{desc}: {}", item.label);
                }
                (kind, _) => panic!("{desc}: {kind:?}"),
            }
        }
    }
}
