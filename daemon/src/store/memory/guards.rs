//! Which guards of the store are on. All of them, but in a test of the tests: with one switched off, the simulation must
//! notice (`daemon/tests/simulation`). The Redis store has no such switches; `scripts/mutate` takes its guards out of the
//! source.

/// Something that keeps effects, ledger or order right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard {
    /// An owner's commit needs the lease's epoch.
    OwnedEpoch,
    /// An owner's commit begins at the stored position.
    OwnedPosition,
    /// No effect without an acknowledgement that counted (XACK gave 1).
    Acknowledgement,
    /// A failed try is noted by the holder only.
    RetryHolder,
    /// What was settled before a group was reset is known.
    SettledMark,
    /// A group is made anew at the settled mark, not at the end.
    GroupAtMark,
    /// An event id that is known with another entry is a duplicate.
    IdWindow,
    /// A door that checks answers a known event id and adds nothing.
    DoorWindow,
    /// A redriven entry takes over its event id, so that it is no duplicate of itself.
    RedriveWindow,
    /// A dead letter is redriven once.
    RedrivenOnce,
    /// A heartbeat takes nothing back from who has claimed it.
    HeartbeatHolder,
    /// A sweep takes only what was idle for long enough.
    SweepIdle,
    /// A sweep passes over what is not to be tried yet.
    SweepBackoff,
    /// A consumer that holds something is not deleted.
    RetirePending,
    /// Trimming stops at what a group still needs.
    TrimBound,
    /// An entry whose payload is gone is booked as lost.
    LostBooked,
    /// Counters are checked before the first write.
    CountersChecked,
    /// A repeated commit may find its work done.
    Repeated,
    /// A lease that has not run out is nobody else's.
    LeaseHeld,
    /// A lease is given up by its own epoch only.
    LeaseReleased,
    /// The group of an owned stage goes with its position.
    GroupInStep,
}

impl Guard {
    /// Every guard.
    pub const ALL: &[Self] = &[
        Self::OwnedEpoch,
        Self::OwnedPosition,
        Self::Acknowledgement,
        Self::RetryHolder,
        Self::SettledMark,
        Self::GroupAtMark,
        Self::IdWindow,
        Self::DoorWindow,
        Self::RedriveWindow,
        Self::RedrivenOnce,
        Self::HeartbeatHolder,
        Self::SweepIdle,
        Self::SweepBackoff,
        Self::RetirePending,
        Self::TrimBound,
        Self::LostBooked,
        Self::CountersChecked,
        Self::Repeated,
        Self::LeaseHeld,
        Self::LeaseReleased,
        Self::GroupInStep,
    ];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnedEpoch => "owned_epoch",
            Self::OwnedPosition => "owned_position",
            Self::Acknowledgement => "acknowledgement",
            Self::RetryHolder => "retry_holder",
            Self::SettledMark => "settled_mark",
            Self::GroupAtMark => "group_at_mark",
            Self::IdWindow => "id_window",
            Self::DoorWindow => "door_window",
            Self::RedriveWindow => "redrive_window",
            Self::RedrivenOnce => "redriven_once",
            Self::HeartbeatHolder => "heartbeat_holder",
            Self::SweepIdle => "sweep_idle",
            Self::SweepBackoff => "sweep_backoff",
            Self::RetirePending => "retire_pending",
            Self::TrimBound => "trim_bound",
            Self::LostBooked => "lost_booked",
            Self::CountersChecked => "counters_checked",
            Self::Repeated => "repeated",
            Self::LeaseHeld => "lease_held",
            Self::LeaseReleased => "lease_released",
            Self::GroupInStep => "group_in_step",
        }
    }
}

/// Those that are off; none by default.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Guards(Option<Guard>);

impl Guards {
    /// All but this one.
    pub(super) fn without(guard: Guard) -> Self {
        Self(Some(guard))
    }

    /// Whether it is on.
    pub(super) fn on(self, guard: Guard) -> bool {
        self.0 != Some(guard)
    }
}
