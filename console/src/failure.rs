//! How a command ends: exit codes (contract.md) and what is told on stderr.

use pipectl_shared::{chaos, rpc};

/// The exit codes of contract.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok,
    /// Failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// No daemon answers.
    Unreachable,
    /// Permission, read-only, policy, or no confirmation.
    Refused,
    /// Some of it was done.
    Partly,
    /// `--fail-empty` and nothing matched.
    NothingMatched,
    /// Time ran out.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
    /// What came of experiments, which has codes of its own.
    Experiment(chaos::Verdict),
}

impl Exit {
    /// The number for the shell.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::Partly => 5,
            Self::NothingMatched => 6,
            Self::TimedOut => 7,
            Self::Interrupted => 130,
            Self::Experiment(verdict) => verdict.exit_code(),
        }
    }
}

/// Why a command stops before its end.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For the shell.
    pub(crate) exit: Exit,
    /// `what: why`, untrusted; `None` ends in silence (stdout was closed by its reader).
    pub(crate) message: Option<String>,
    /// The next step, untrusted.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure that is told as `pipectl: message`.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: Some(message.into()),
            hint: None,
        }
    }

    /// Ends in silence.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self {
            exit,
            message: None,
            hint: None,
        }
    }

    /// Adds the next step.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The exit code of a refusal by the daemon.
pub(crate) fn exit_of(error: &rpc::Error) -> Exit {
    if error.is(rpc::Code::InvalidParams) {
        Exit::Usage
    } else if error.is(rpc::Code::Refused) {
        Exit::Refused
    } else {
        Exit::Failed
    }
}
