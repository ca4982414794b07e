//! The names of the screens and their groups (contract.md, keys of the console). What a screen shows is in `screens/`.

/// The question that a group of screens answers; its number is its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Group {
    /// Is it well?
    Health,
    /// What is stuck, and what has failed?
    Work,
    /// What comes out, and how fast?
    Data,
    /// Does it hold when something breaks?
    Drill,
    /// What happened?
    Log,
    /// What is it running on?
    System,
}

impl Group {
    /// In the order of the bar.
    pub(crate) const ALL: [Self; 6] = [
        Self::Health,
        Self::Work,
        Self::Data,
        Self::Drill,
        Self::Log,
        Self::System,
    ];

    /// The digit that jumps to it.
    pub(crate) fn digit(self) -> u8 {
        match self {
            Self::Health => 1,
            Self::Work => 2,
            Self::Data => 3,
            Self::Drill => 4,
            Self::Log => 5,
            Self::System => 6,
        }
    }

    /// Its name in the bar.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Health => "Health",
            Self::Work => "Work",
            Self::Data => "Data",
            Self::Drill => "Drill",
            Self::Log => "Log",
            Self::System => "System",
        }
    }
}

/// One screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Id {
    /// Stages with their state, trends, ledger, alerts, last events.
    Overview,
    /// The flow from sources through stages to the end.
    Topology,
    /// Entries delivered and not acknowledged.
    Pending,
    /// Dead letters.
    Dead,
    /// Dead letters folded by cause.
    Causes,
    /// Groups and their consumers.
    Consumers,
    /// Counts by type, product and session.
    Results,
    /// Histogram, percentiles, heatmap.
    Latency,
    /// Experiments, and the one that is under way.
    Chaos,
    /// Experiments that were run.
    Runs,
    /// Events of the daemon.
    Events,
    /// Open alerts.
    Alerts,
    /// Who did what.
    Audit,
    /// Host, process, Redis.
    System,
}

impl Id {
    /// In the order of the gallery.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 14] = [
        Self::Overview,
        Self::Topology,
        Self::Pending,
        Self::Dead,
        Self::Causes,
        Self::Consumers,
        Self::Results,
        Self::Latency,
        Self::Chaos,
        Self::Runs,
        Self::Events,
        Self::Alerts,
        Self::Audit,
        Self::System,
    ];
}
