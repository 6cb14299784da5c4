//! What a node says of itself beside the election, in every hello: which HA version it speaks, and how its
//! configuration stands. Drawn in `docs/ha.md` (TLV 16).

use holdfast_config::SyncState;

/// The HA version of this build: grows with every change of what nodes tell each other.
pub(crate) const HA_VERSION: u8 = 3;
/// The oldest HA version that this build can work with.
pub(crate) const OLDEST_HA_VERSION: u8 = 1;
/// What a node speaks that does not say it.
const SILENT_VERSION: u8 = 1;

const PROPAGATION_OFF: u8 = 1;
const INC: u8 = 2;
const SYNC_OFF: u8 = 4;
const UNSAVED: u8 = 8;
const OFFERS: u8 = 16;

/// The words of one hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aside {
    /// HA version of the sender.
    pub version: u8,
    /// The oldest that it can work with.
    pub oldest: u8,
    /// How its configuration follows the primary's.
    pub sync: SyncCode,
    /// It sends no changes, or wants none.
    pub propagation_off: bool,
    /// It was told that the nodes are in different subnets.
    pub inc: bool,
    /// It takes over no configuration.
    pub sync_off: bool,
    /// Its last save did not reach the disk.
    pub unsaved: bool,
    /// It follows, and has flows of its own that the primary may lack.
    pub offers: bool,
    /// Changes so far that both nodes should have.
    pub incarnation: u32,
}

/// Synchronisation in one byte, numbered as the market does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncCode {
    Enabled,
    Failed,
    Success,
    InProgress,
    Disabled,
}

impl SyncCode {
    const fn code(self) -> u8 {
        match self {
            SyncCode::Enabled => 0,
            SyncCode::Failed => 0x04,
            SyncCode::Success => 0x10,
            SyncCode::InProgress => 0x20,
            SyncCode::Disabled => 0x40,
        }
    }

    /// A code that a later version may have is taken for the one that says nothing.
    fn read(code: u8) -> SyncCode {
        let all = [SyncCode::Failed, SyncCode::Success, SyncCode::InProgress, SyncCode::Disabled];
        all.into_iter().find(|sync| sync.code() == code).unwrap_or(SyncCode::Enabled)
    }

    /// For `show`, with what is known of the reason.
    pub fn shown(self, reason: &str) -> SyncState {
        match self {
            SyncCode::Enabled => SyncState::Enabled,
            SyncCode::Failed => SyncState::Failed { reason: reason.to_owned() },
            SyncCode::Success => SyncState::Success,
            SyncCode::InProgress => SyncState::InProgress,
            SyncCode::Disabled => SyncState::Disabled,
        }
    }
}

impl Aside {
    /// As a hello carries it.
    pub fn word(&self) -> u64 {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = flag(self.propagation_off, PROPAGATION_OFF)
            | flag(self.inc, INC)
            | flag(self.sync_off, SYNC_OFF)
            | flag(self.unsaved, UNSAVED)
            | flag(self.offers, OFFERS);
        let head = u32::from_be_bytes([self.version, self.oldest, self.sync.code(), flags]);
        u64::from(head) << 32 | u64::from(self.incarnation)
    }

    /// Out of a hello. 0, of a build that says nothing, is the first HA version.
    pub fn read(word: u64) -> Aside {
        let [version, oldest, sync, flags, incarnation @ ..] = word.to_be_bytes();
        Aside {
            version: version.max(SILENT_VERSION),
            oldest: oldest.max(SILENT_VERSION),
            sync: SyncCode::read(sync),
            propagation_off: flags & PROPAGATION_OFF != 0,
            inc: flags & INC != 0,
            sync_off: flags & SYNC_OFF != 0,
            unsaved: flags & UNSAVED != 0,
            offers: flags & OFFERS != 0,
            incarnation: u32::from_be_bytes(incarnation),
        }
    }

    /// Whether two nodes have an HA version in common.
    pub fn gets_on_with(&self, other: &Aside) -> bool {
        self.version >= other.oldest && other.version >= self.oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Aside = Aside {
        version: 3,
        oldest: 2,
        sync: SyncCode::InProgress,
        propagation_off: true,
        inc: false,
        sync_off: true,
        unsaved: false,
        offers: false,
        incarnation: 0x0102_0304,
    };

    #[test]
    fn a_word_is_read_back() {
        for sync in [SyncCode::Enabled, SyncCode::Failed, SyncCode::Success, SyncCode::InProgress, SyncCode::Disabled] {
            for bits in 0..32u32 {
                let on = |bit: u32| bits & bit != 0;
                let aside = Aside {
                    sync,
                    propagation_off: on(1),
                    inc: on(2),
                    sync_off: on(4),
                    unsaved: on(8),
                    offers: on(16),
                    ..SOME
                };
                assert_eq!(Aside::read(aside.word()), aside);
            }
        }
        assert_eq!(SOME.word(), 0x0302_2005_0102_0304, "as drawn in docs/ha.md");
    }

    #[test]
    fn who_says_nothing_speaks_the_first_version() {
        let silent = Aside::read(0);
        assert_eq!((silent.version, silent.oldest, silent.sync), (1, 1, SyncCode::Enabled));
        assert_eq!(Aside::read(0x0101_ff00_0000_0000).sync, SyncCode::Enabled, "an unknown code");
    }

    #[test]
    fn versions_that_overlap_get_on() {
        let speaks = |version, oldest| Aside { version, oldest, ..SOME };
        for (ours, theirs, fit) in [
            ((2, 1), (1, 1), true),
            ((2, 1), (2, 2), true),
            ((2, 1), (9, 2), true),
            ((2, 1), (9, 3), false),
            ((9, 3), (2, 1), false),
        ] {
            let (ours, theirs) = (speaks(ours.0, ours.1), speaks(theirs.0, theirs.1));
            assert_eq!(ours.gets_on_with(&theirs), fit, "{ours:?} {theirs:?}");
            assert_eq!(theirs.gets_on_with(&ours), fit, "{theirs:?} {ours:?}");
        }
    }
}
