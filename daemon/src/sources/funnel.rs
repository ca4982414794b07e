//! The path of a visitor through a shop: a small Markov chain over event types. Pure; the generator draws from it.

use rand::Rng;

/// What a visitor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Signup,
    Search,
    View,
    Click,
    Purchase,
    Logout,
}

impl Step {
    /// The value of the type role.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Signup => "signup",
            Self::Search => "search",
            Self::View => "view",
            Self::Click => "click",
            Self::Purchase => "purchase",
            Self::Logout => "logout",
        }
    }

    /// Whether it is about a product.
    pub(crate) fn has_product(self) -> bool {
        match self {
            Self::Search | Self::View | Self::Click | Self::Purchase => true,
            Self::Signup | Self::Logout => false,
        }
    }

    /// What may follow, in per cent; what is missing to 100 leaves without a word. The figures are invented to look like
    /// a shop: about one session in five buys, and a session has about four events.
    fn followers(self) -> &'static [(Self, u32)] {
        match self {
            Self::Signup => &[(Self::Search, 40), (Self::View, 55)],
            Self::Search => &[(Self::View, 62), (Self::Search, 14), (Self::Click, 10)],
            Self::View => &[(Self::Click, 42), (Self::View, 24), (Self::Search, 10)],
            Self::Click => &[
                (Self::Purchase, 20),
                (Self::View, 34),
                (Self::Search, 10),
                (Self::Click, 8),
            ],
            Self::Purchase => &[(Self::Logout, 35), (Self::View, 25)],
            Self::Logout => &[],
        }
    }

    /// How a session begins.
    const FIRST: &[(Self, u32)] = &[
        (Self::View, 48),
        (Self::Search, 37),
        (Self::Click, 10),
        (Self::Signup, 5),
    ];

    pub(crate) fn first(random: &mut impl Rng) -> Self {
        // The figures add up to 100, so the default is never used.
        pick(Self::FIRST, random).unwrap_or(Self::View)
    }

    /// The next step; `None` = the visitor left.
    pub(crate) fn next(self, random: &mut impl Rng) -> Option<Self> {
        pick(self.followers(), random)
    }
}

fn pick(of: &[(Step, u32)], random: &mut impl Rng) -> Option<Step> {
    let mut drawn = random.random_range(0..100);
    for (step, share) in of {
        if drawn < *share {
            return Some(*step);
        }
        drawn -= share;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_per_cents_and_every_session_ends() {
        let all = [
            Step::Signup,
            Step::Search,
            Step::View,
            Step::Click,
            Step::Purchase,
            Step::Logout,
        ];
        for step in all {
            let sum: u32 = step.followers().iter().map(|(_, share)| share).sum();
            assert!(sum < 100, "{step:?} never leaves");
        }
        let sum: u32 = Step::FIRST.iter().map(|(_, share)| share).sum();
        assert_eq!(sum, 100);
        assert!(
            Step::Logout.followers().is_empty(),
            "nothing follows a logout"
        );
    }
}
