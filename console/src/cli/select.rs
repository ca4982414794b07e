//! The selection flags of `pending` and `dead` (contract.md), and what they mean on the wire.

use std::time::Duration;

use pipectl_shared::plan::Selection;

use crate::failure::{Exit, Failure};
use crate::output::human::parse_duration;

/// Which pending entries.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Selection (everything given must hold)")]
pub(super) struct PendingSelect {
    /// Only of this stage
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Only these entries
    #[arg(long, value_name = "ID", num_args = 1..)]
    id: Vec<String>,
    /// Only held by this consumer
    #[arg(long, value_name = "CONSUMER")]
    consumer: Option<String>,
    /// Only idle for at least this long, such as 60s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    min_idle: Option<Duration>,
    /// Only with at least this many failed tries
    #[arg(long, value_name = "N")]
    min_tries: Option<u32>,
    /// Only entries for whose fields this holds, such as 'event_type = click'
    #[arg(long = "match", value_name = "EXPR")]
    matching: Option<String>,
    /// Every entry; needed when nothing else narrows the choice of an action
    #[arg(long)]
    all: bool,
}

impl PendingSelect {
    pub(super) fn selection(self) -> Selection {
        Selection {
            stage: self.stage,
            ids: self.id,
            consumer: self.consumer,
            min_idle_ms: self
                .min_idle
                .map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
            min_tries: self.min_tries,
            cause: None,
            matching: self.matching,
            all: self.all,
        }
    }
}

/// Which dead letters.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Selection (everything given must hold)")]
pub(super) struct DeadSelect {
    /// Only those that died in this stage
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Only these dead letters
    #[arg(long, value_name = "ID", num_args = 1..)]
    id: Vec<String>,
    /// Only of this cause (see `pipectl dead causes`)
    #[arg(long, value_name = "FINGERPRINT")]
    cause: Option<String>,
    /// Only entries for whose fields this holds, such as 'event_type = click'
    #[arg(long = "match", value_name = "EXPR")]
    matching: Option<String>,
    /// Every dead letter; needed when nothing else narrows the choice of an action
    #[arg(long)]
    all: bool,
}

impl DeadSelect {
    pub(super) fn selection(self) -> Selection {
        Selection {
            stage: self.stage,
            ids: self.id,
            cause: self.cause,
            matching: self.matching,
            all: self.all,
            ..Selection::default()
        }
    }
}

/// An action without any choice is refused here, before a daemon is asked.
pub(super) fn not_empty(selection: &Selection) -> Result<(), Failure> {
    if selection.is_empty() {
        return Err(
            Failure::new(Exit::Usage, "choose entries: nothing was selected")
                .hint("narrow the choice (--id, --stage, ...), or say --all for every entry"),
        );
    }
    Ok(())
}
