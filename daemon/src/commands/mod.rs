//! Gallery of control commands. `command.rs` is the contract, one file per command, the slice below is the catalogue in
//! the order users see.

mod command;
mod consumer_retire;
mod context;
mod daemon_drain;
mod fault_park;
mod fault_release;
mod stage_pause;
mod stage_resume;
mod stage_scale;
mod stage_take;

pub use command::{Command, Run};
pub use context::Context;

/// Every command.
pub static COMMANDS: &[Command] = &[
    stage_pause::COMMAND,
    stage_resume::COMMAND,
    stage_scale::COMMAND,
    stage_take::COMMAND,
    consumer_retire::COMMAND,
    daemon_drain::COMMAND,
    fault_park::COMMAND,
    fault_release::COMMAND,
];

/// The command with this name, hidden ones only where test commands are on.
pub fn find(name: &str, test_commands: bool) -> Option<&'static Command> {
    visible(test_commands).find(|command| (command.spec)().name == name)
}

/// The commands that a daemon shows: hidden ones only where test commands are on.
pub fn visible(test_commands: bool) -> impl Iterator<Item = &'static Command> + Clone {
    COMMANDS
        .iter()
        .filter(move |command| test_commands || !(command.spec)().name.starts_with("x-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spec_is_complete_and_named_once() {
        let mut names = std::collections::HashSet::new();
        for command in COMMANDS {
            let spec = (command.spec)();
            assert!(spec.name.contains('.'), "{}", spec.name);
            assert!(spec.summary.ends_with('.'), "{}", spec.name);
            assert!(names.insert(spec.name.clone()), "{} twice", spec.name);
            for param in &spec.params {
                assert!(param.summary.ends_with('.'), "{} {}", spec.name, param.name);
            }
        }
    }

    #[test]
    fn hidden_commands_are_found_only_with_test_commands_on() {
        assert!(find("x-fault.park", false).is_none());
        assert!(find("x-fault.park", true).is_some());
        assert!(find("stage.pause", false).is_some());
        assert!(visible(false).all(|c| !(c.spec)().name.starts_with("x-")));
    }
}
