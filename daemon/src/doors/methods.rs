//! What can be asked over the control socket: one table of names and least roles, and what each does.
//!
//! Reads run side by side; acts go through the session's lane. Each act leaves exactly one row in the audit file when it
//! changes something or is refused; `plan.create` and `ingest.*` change no entry by themselves, so only their refusal by
//! role does (a run of a plan is one row, an ingested input is one row).

use pipectl_shared::rpc::{Code, Error, Role};
use pipectl_shared::untrusted;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::plans::words::{hint_names, quote};

/// One thing that can be asked.
#[derive(Debug)]
pub(super) struct Method {
    /// `noun.verb`.
    pub(super) name: &'static str,
    /// The least role; a command of the gallery may ask for more.
    pub(super) role: Role,
    /// Whether the right to run experiments is needed as well.
    pub(super) chaos: bool,
    pub(super) call: Call,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Read(Read),
    Act(ActCall),
}

/// Changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Status,
    StatsWatch,
    StatsStop,
    EventsWatch,
    EventsStop,
    Ledger,
    Aggregates,
    Latency,
    PendingPage,
    PendingShow,
    DeadPage,
    DeadShow,
    DeadCauses,
    Groups,
    TapWatch,
    TapStop,
    PlanShow,
    PlanList,
    History,
    Audit,
    LatencySlots,
    Series,
    ChaosList,
    ChaosGet,
    ChaosHistory,
    ChaosReport,
}

/// Changes something, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActCall {
    PlanCreate,
    PlanRun,
    PlanCancel,
    PlanUndo,
    Command,
    IngestOpen,
    IngestPush,
    IngestClose,
    ChaosRun,
    ChaosStop,
    ChaosLever,
}

const fn read_as(name: &'static str, call: Read) -> Method {
    Method {
        name,
        role: Role::Viewer,
        chaos: false,
        call: Call::Read(call),
    }
}

const fn act_as(name: &'static str, call: ActCall) -> Method {
    Method {
        name,
        role: Role::Operator,
        chaos: false,
        call: Call::Act(call),
    }
}

const fn chaos_as(name: &'static str, call: ActCall) -> Method {
    Method {
        name,
        role: Role::Viewer,
        chaos: true,
        call: Call::Act(call),
    }
}

/// Every method: the whole policy.
pub(super) static METHODS: &[Method] = &[
    read_as("status.get", Read::Status),
    read_as("stats.watch", Read::StatsWatch),
    read_as("stats.stop", Read::StatsStop),
    read_as("events.watch", Read::EventsWatch),
    read_as("events.stop", Read::EventsStop),
    read_as("ledger.get", Read::Ledger),
    read_as("aggregates.get", Read::Aggregates),
    read_as("latency.get", Read::Latency),
    read_as("pending.page", Read::PendingPage),
    read_as("pending.show", Read::PendingShow),
    read_as("dead.page", Read::DeadPage),
    read_as("dead.show", Read::DeadShow),
    read_as("dead.causes", Read::DeadCauses),
    read_as("groups.get", Read::Groups),
    read_as("tap.watch", Read::TapWatch),
    read_as("tap.stop", Read::TapStop),
    read_as("plan.show", Read::PlanShow),
    read_as("plan.list", Read::PlanList),
    read_as("history.range", Read::History),
    read_as("audit.page", Read::Audit),
    read_as("latency.slots", Read::LatencySlots),
    read_as("history.series", Read::Series),
    read_as("chaos.list", Read::ChaosList),
    read_as("chaos.get", Read::ChaosGet),
    read_as("chaos.history", Read::ChaosHistory),
    read_as("chaos.report", Read::ChaosReport),
    act_as("plan.create", ActCall::PlanCreate),
    act_as("plan.run", ActCall::PlanRun),
    act_as("plan.cancel", ActCall::PlanCancel),
    act_as("plan.undo", ActCall::PlanUndo),
    act_as("command.run", ActCall::Command),
    act_as("ingest.open", ActCall::IngestOpen),
    act_as("ingest.push", ActCall::IngestPush),
    act_as("ingest.close", ActCall::IngestClose),
    chaos_as("chaos.run", ActCall::ChaosRun),
    chaos_as("chaos.stop", ActCall::ChaosStop),
    chaos_as("chaos.lever", ActCall::ChaosLever),
];

/// The method with this name.
pub(super) fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

/// The answer to a method that does not exist.
pub(super) fn unknown(name: &str) -> Error {
    let names = METHODS.iter().map(|method| method.name);
    Error::new(
        Code::MethodNotFound,
        format!("there is no method {}", quote(name)),
    )
    .hint(hint_names(name, names))
}

/// Parameters as a type: an object, or nothing. Errors: `InvalidParams`, cleaned.
pub(super) fn parse<T: DeserializeOwned>(params: Value) -> Result<T, Error> {
    let params = match params {
        Value::Null => json!({}),
        Value::Object(_) => params,
        _ => return Err(Error::new(Code::InvalidParams, "params are an object")),
    };
    serde_json::from_value(params).map_err(|e| {
        let text = e.to_string();
        Error::new(
            Code::InvalidParams,
            untrusted::escape(&text[..text.floor_char_boundary(300)]),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_method_once_and_only_acts_need_more_than_viewer() {
        let mut names = std::collections::HashSet::new();
        for method in METHODS {
            assert!(names.insert(method.name), "{} twice", method.name);
            let expected = match method.call {
                Call::Read(_) => Role::Viewer,
                // Experiments are a right of their own.
                Call::Act(_) if method.name.starts_with("chaos.") => Role::Viewer,
                Call::Act(_) => Role::Operator,
            };
            assert_eq!(method.role, expected, "{}", method.name);
            let is_act = matches!(method.call, Call::Act(_));
            assert_eq!(
                method.chaos,
                is_act && method.name.starts_with("chaos."),
                "{}",
                method.name
            );
        }
    }

    #[test]
    fn an_unknown_method_is_told_with_the_nearest_name() {
        let error = unknown("ledger.gte");
        assert!(error.is(Code::MethodNotFound));
        assert_eq!(
            error.data.unwrap().hint.unwrap(),
            "did you mean ledger.get?"
        );
        let error = unknown(&"\u{1b}[2J".repeat(100_000));
        assert!(error.message.len() < 500 && !error.message.contains('\u{1b}'));
    }
}
