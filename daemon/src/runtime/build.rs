//! From the configuration to what runs: names in the store, chains, settings of each stage.

use std::sync::Arc;

use bytes::Bytes;
use pipectl_shared::backoff::Backoff;
use pipectl_shared::config::{self, Config};

use super::worker::Settings;
use crate::store::{Dedupe, Layout, StageLayout, StateLayout};

/// Names of everything in the store (semantics.md section 2).
pub fn layout(config: &Config) -> Layout {
    let source = format!("{}{}", config.redis.keys_prefix, config.event.stream);
    let output = |stage: &str| format!("{{{source}}}:{stage}");
    let stages = config
        .stages
        .iter()
        .map(|stage| {
            let readers = config
                .stages
                .iter()
                .filter(|s| s.from == config::From::Stage(stage.name.clone()))
                .count();
            StageLayout {
                name: stage.name.clone(),
                stream: match &stage.from {
                    config::From::Source => source.clone(),
                    config::From::Stage(parent) => output(parent),
                },
                group: stage.group.clone(),
                reads_source: stage.from == config::From::Source,
                output: (readers > 0).then(|| output(&stage.name)),
                output_readers: u32::try_from(readers).unwrap_or(u32::MAX),
                aggregates: stage
                    .operators
                    .iter()
                    .any(|o| matches!(o, config::Operator::Aggregate(_))),
                owned: stage.delivery == config::Delivery::Owned,
                state: stage.operators.iter().filter_map(kept).collect(),
            }
        })
        .collect();
    let window = config.event.dedupe_window;
    let dedupe = (!window.is_zero() && !config.event.id.is_empty()).then_some(Dedupe {
        window,
        max_ids: config.event.dedupe_max_ids,
    });
    let session_keep = config
        .stages
        .iter()
        .flat_map(|stage| &stage.operators)
        .filter_map(|operator| match operator {
            config::Operator::Aggregate(aggregate) => Some(aggregate.session_keep),
            _ => None,
        })
        .max()
        .unwrap_or_default();
    Layout {
        pipeline: config.name.clone(),
        source,
        stages,
        dedupe,
        session_keep,
        id_field: Bytes::from(config.event.id.clone()),
    }
}

/// The keyed state of an operator. A change of what is not in `made_of` goes on with the state that is there.
fn kept(operator: &config::Operator) -> Option<StateLayout> {
    match operator {
        config::Operator::Count(count) => Some(StateLayout {
            name: count.into.clone(),
            made_of: format!("count of key {}", count.key),
        }),
        _ => None,
    }
}

/// The numbers of one stage.
pub(super) fn settings(
    config: &Config,
    layout: &Layout,
    stage: &config::Stage,
    names: &StageLayout,
) -> Arc<Settings> {
    Arc::new(Settings {
        name: stage.name.clone(),
        batch: stage.batch as usize,
        prefetch: stage.prefetch as usize,
        timeout: stage.timeout,
        claim_after: stage.claim_after,
        attempts: config.retry.attempts,
        backoff: Backoff {
            min: config.retry.backoff_min,
            max: config.retry.backoff_max,
        },
        id_field: (names.reads_source && layout.dedupe.is_some())
            .then(|| config.event.id.clone().into_bytes()),
        key_field: config.event.key.clone().into_bytes(),
        owned: names.owned,
        terminal: names.output.is_none(),
    })
}
