//! What a parameter's kind says beyond being text, so that a wrong value is told where it was typed.

use std::time::Duration;

use pipectl_shared::spec::{Param, ParamKind};
use pipectl_shared::units;

/// Checks what a parameter's kind says beyond being text; a sentence where it does not fit.
pub(super) fn misfit(param: &Param, text: &str) -> Option<String> {
    match &param.kind {
        ParamKind::Duration => units::parse_duration(text)
            .err()
            .map(|_| format!("{}: {text} is no duration such as 30s", param.name)),
        ParamKind::Span { min_ms, max_ms } => {
            let (min, max) = (
                Duration::from_millis(*min_ms),
                Duration::from_millis(*max_ms),
            );
            let fits = units::parse_duration(text).is_ok_and(|span| (min..=max).contains(&span));
            (!fits).then(|| {
                format!(
                    "{}: {text} is no duration from {} to {}",
                    param.name,
                    units::print_duration(min),
                    units::print_duration(max)
                )
            })
        }
        ParamKind::Share { min, max } => {
            let share = text
                .strip_suffix('%')
                .unwrap_or(text)
                .trim_end()
                .parse::<u8>();
            let fits = share.is_ok_and(|share| (*min..=*max).contains(&share));
            (!fits).then(|| format!("{}: {text} is no share from {min}% to {max}%", param.name))
        }
        ParamKind::Text
        | ParamKind::Integer { .. }
        | ParamKind::Stage
        | ParamKind::Consumer
        | ParamKind::Choice(_) => None,
    }
}
