//! What several experiments share: parts of a Spec, and the choice of workers.

use pipectl_shared::role::Role;
use pipectl_shared::spec::{Param, ParamKind, Risk, Scope, Spec};
use rand::seq::SliceRandom as _;
use rand::{SeedableRng as _, rngs::SmallRng};

use super::experiment::{POINTS, Scene, SceneStage};

/// The Spec of an experiment.
pub(super) fn spec(
    name: &str,
    summary: &str,
    scope: Scope,
    risk: Risk,
    params: Vec<Param>,
) -> Spec {
    Spec {
        name: name.to_owned(),
        summary: summary.to_owned(),
        params,
        scope,
        risk,
        // The right `chaos` decides, beside the role.
        role: Role::Viewer,
    }
}

/// A duration with its range.
pub(super) fn span(
    name: &str,
    summary: &str,
    (min_ms, max_ms): (u64, u64),
    default: &str,
) -> Param {
    Param {
        name: name.to_owned(),
        summary: summary.to_owned(),
        kind: ParamKind::Span { min_ms, max_ms },
        default: Some(default.to_owned()),
    }
}

/// A share in whole percent with its range.
pub(super) fn share(name: &str, summary: &str, (min, max): (u8, u8), default: &str) -> Param {
    Param {
        name: name.to_owned(),
        summary: summary.to_owned(),
        kind: ParamKind::Share { min, max },
        default: Some(default.to_owned()),
    }
}

/// A whole number with its range.
pub(super) fn number(name: &str, summary: &str, (min, max): (i64, i64), default: &str) -> Param {
    Param {
        name: name.to_owned(),
        summary: summary.to_owned(),
        kind: ParamKind::Integer { min, max },
        default: Some(default.to_owned()),
    }
}

/// One of several words.
pub(super) fn choice(name: &str, summary: &str, words: &[&str], default: &str) -> Param {
    Param {
        name: name.to_owned(),
        summary: summary.to_owned(),
        kind: ParamKind::Choice(words.iter().map(|word| (*word).to_owned()).collect()),
        default: Some(default.to_owned()),
    }
}

/// Which stage; empty = one is drawn.
pub(super) fn stage() -> Param {
    Param {
        name: "stage".to_owned(),
        summary: "Stage; without one it is drawn from the seed.".to_owned(),
        kind: ParamKind::Stage,
        default: Some(String::new()),
    }
}

/// Where a worker is met.
pub(super) fn at_point() -> Param {
    let words: Vec<&str> = POINTS.iter().map(|(word, _)| *word).collect();
    choice("point", "Where the worker is met.", &words, "before_commit")
}

/// Randomness of a run's targets.
pub(super) fn random(scene: &Scene) -> SmallRng {
    SmallRng::seed_from_u64(scene.seed)
}

/// The stage with this name, or one that is drawn among those that `fits`; why there is none.
pub(super) fn pick<'a>(
    scene: &'a Scene,
    name: &str,
    what: &str,
    fits: impl Fn(&SceneStage) -> bool,
) -> Result<&'a SceneStage, String> {
    if !name.is_empty() {
        let stage = scene.stages.iter().find(|stage| stage.name == name);
        let stage = stage.ok_or_else(|| format!("no stage is named {name}"))?;
        return if fits(stage) {
            Ok(stage)
        } else {
            Err(format!("stage {name} has no {what}"))
        };
    }
    let mut fitting: Vec<&SceneStage> = scene.stages.iter().filter(|stage| fits(stage)).collect();
    fitting.shuffle(&mut random(scene));
    fitting
        .first()
        .copied()
        .ok_or_else(|| format!("no stage has a {what} in this daemon"))
}

/// A stage whose workers are hurt: the one that was named, else one that is drawn, among those that have others left if there
/// are any.
pub(super) fn with_workers<'a>(scene: &'a Scene, name: &str) -> Result<&'a SceneStage, String> {
    let has_others = |stage: &SceneStage| stage.workers.len() > 1;
    if name.is_empty() && scene.stages.iter().any(has_others) {
        return pick(scene, name, "worker", has_others);
    }
    pick(scene, name, "worker", |stage| !stage.workers.is_empty())
}

/// So many workers of a stage, drawn; never more than half of them where there are several.
pub(super) fn workers(
    scene: &Scene,
    stage: &SceneStage,
    count: u64,
) -> Result<Vec<String>, String> {
    let n = stage.workers.len() as u64;
    let most = (n / 2).max(1);
    if count > most {
        return Err(format!(
            "stage {} has {n} workers here; an experiment takes half of them at most: {most}",
            stage.name
        ));
    }
    let mut names = stage.workers.clone();
    // Another stream of randomness than the one that drew the stage, or the one would decide the other.
    names.shuffle(&mut SmallRng::seed_from_u64(!scene.seed));
    names.truncate(usize::try_from(count).unwrap_or(1));
    Ok(names)
}

/// How long the fault lasts: what somebody asked for, else `default_ms`; refused beyond the limit of the configuration.
pub(super) fn lasts(scene: &Scene, for_ms: Option<u64>, default_ms: u64) -> Result<u64, String> {
    let ms = for_ms.unwrap_or(default_ms);
    if ms > scene.max_ms {
        return Err(format!(
            "it would last {} s; [chaos] max_duration allows {} s",
            ms.div_ceil(1_000),
            scene.max_ms / 1_000
        ));
    }
    Ok(ms.max(500))
}
