//! What is true of all experiments at once, above the screen; and the run under way, in the top bar of every screen.

use pipectl_shared::chaos::Phase;
use ratatui::layout::Rect;

use super::{ago, live, watched};
use crate::clock;
use crate::keys::Act;
use crate::model::Model;
use crate::output::human::duration_ms;
use crate::screens::body::take;
use crate::theme::Role;
use crate::widgets::Ink;

/// What is true of all experiments: off, the lever, what runs out of sight, what the schedule does next.
pub(super) fn draw_banners(model: &Model, ink: &mut Ink<'_>, left: &mut Rect) {
    let Some(catalogue) = &model.drill.catalogue else {
        return;
    };
    let key = |act| model.options.keymap.label(act).unwrap_or_default();
    let mut banner = |pieces: &[(&str, Role)]| {
        // A list of a few rows is worth more than the last banner.
        if left.height < 6 {
            return;
        }
        let text: String = pieces.iter().map(|(text, _)| *text).collect();
        let is_long = ink.width_of(&text) > left.width;
        if is_long && left.height >= 8 {
            let role = pieces.last().map_or(Role::Plain, |(_, role)| *role);
            let at = Rect::new(left.x, left.y, left.width, 3);
            let used = ink.wrapped(at, &text, role);
            ink.pieces(left.x, left.y, left.width, &pieces[..1]);
            take(left, used);
            return;
        }
        let line = take(left, 1);
        ink.pieces(line.x, line.y, line.width, pieces);
    };
    if !catalogue.enabled {
        banner(&[
            ("OFF", Role::Warn),
            (
                ": set [chaos] enabled = true in the daemon's configuration and restart it to run any.",
                Role::Strong,
            ),
        ]);
    }
    if catalogue.lever.pulled {
        let lever = &catalogue.lever;
        let by = lever.by.as_deref().unwrap_or("somebody");
        let since = lever.since_ms.and_then(|ms| ago(model, ms));
        let since = since.map_or(String::new(), |ms| format!(" {} ago", duration_ms(ms)));
        let why = lever.reason.as_deref().unwrap_or("no reason was given");
        let text = format!(" by {by}{since}: {why}. {} takes it back.", key(Act::Menu));
        banner(&[("LEVER PULLED", Role::Bad), (&text, Role::Strong)]);
    }
    if let Some(running) = model.running()
        && watched(model).is_none()
    {
        let where_ = live::whereabouts(model, running);
        let keys = format!(
            "  {} shows it, {} stops it",
            key(Act::Live),
            key(Act::Reverse)
        );
        banner(&[
            ("UNDER WAY ", Role::Warn),
            (&running.experiment, Role::Strong),
            ("  ", Role::Plain),
            (&where_, Role::Warn),
            (&keys, Role::Key),
        ]);
    }
    if let Some(next) = &catalogue.schedule {
        let at = clock::rfc3339(next.at_ms);
        let at = at.get(..16).unwrap_or(&at).replace('T', " ");
        let text = format!("{} at {at} UTC, seed {}", next.name, next.seed);
        banner(&[("by schedule next: ", Role::Dim), (&text, Role::Dim)]);
    }
}

/// The run under way in a few words for the top of every screen, the longest first: who shows it takes the first that
/// fits.
pub(crate) fn running_words(model: &Model) -> Vec<String> {
    /// A name of the catalogue is shorter; this one is from outside.
    const NAME_MAX: usize = 24;
    let told = model.facts.snapshot();
    let Some((snapshot, running)) =
        told.and_then(|snapshot| Some((snapshot, snapshot.status.chaos.as_ref()?)))
    else {
        return Vec::new();
    };
    let name: String = running.experiment.chars().take(NAME_MAX).collect();
    let left = running
        .until_ms
        .filter(|_| running.phase == Phase::During)
        .map(|until_ms| duration_ms(until_ms.saturating_sub(snapshot.ts_ms)));
    let (long, short) = match left {
        Some(left) => (format!("{left} left"), left),
        None => (
            running.phase.word().to_owned(),
            running.phase.word().to_owned(),
        ),
    };
    vec![
        format!("CHAOS {name} {long}"),
        format!("CHAOS {name} {short}"),
        format!("CHAOS {name}"),
        "CHAOS".to_owned(),
    ]
}
