//! Why a payload was refused.

use core::fmt;

/// Why a payload was refused as a whole: nothing of it was stored, applied or
/// acknowledged. One counter per reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WireError {
    /// It ends inside a field.
    Truncated,
    /// It is longer than [`crate::MAX_PAYLOAD`].
    TooLong,
    /// Its version is not ours.
    Version,
    /// Not the kind of message that belongs here.
    MessageKind,
    /// A variable-length number is longer than ten bytes or above 64 bits.
    Varint,
    /// A data message carries no record.
    Empty,
    /// A record kind that must be understood is not known here.
    UnknownRecord,
    /// A tail field that must be understood is not known here.
    UnknownField,
    /// A field holds a value that has no meaning.
    Value,
    /// A reference to an earlier record of the datagram that does not exist.
    Reference,
    /// A stamp of 0, or of 2^62 and above.
    Stamp,
    /// Journal text is not UTF-8.
    Text,
    /// A journal line is longer than [`crate::MAX_JOURNAL_TEXT`], or its
    /// fragments do not belong together.
    Journal,
    /// The sequence number is out of range (2^63 or above).
    Sequence,
    /// An acknowledgement names a datagram that was never sent.
    AckBeyondSent,
    /// An acknowledgement's bitmap is wider than the window.
    AckTooWide,
}

impl WireError {
    /// Every reason, in the order of [`WireError::index`].
    pub const ALL: [WireError; 16] = [
        WireError::Truncated,
        WireError::TooLong,
        WireError::Version,
        WireError::MessageKind,
        WireError::Varint,
        WireError::Empty,
        WireError::UnknownRecord,
        WireError::UnknownField,
        WireError::Value,
        WireError::Reference,
        WireError::Stamp,
        WireError::Text,
        WireError::Journal,
        WireError::Sequence,
        WireError::AckBeyondSent,
        WireError::AckTooWide,
    ];

    /// Index into a counter table of `WireError::ALL.len()` entries.
    pub fn index(self) -> usize {
        self as usize
    }

    /// What is wrong, in a few words.
    pub fn text(self) -> &'static str {
        match self {
            WireError::Truncated => "ends inside a field",
            WireError::TooLong => "longer than a payload may be",
            WireError::Version => "unknown version",
            WireError::MessageKind => "unexpected kind of message",
            WireError::Varint => "malformed variable-length number",
            WireError::Empty => "no record",
            WireError::UnknownRecord => "unknown mandatory record",
            WireError::UnknownField => "unknown mandatory field",
            WireError::Value => "value without meaning",
            WireError::Reference => "reference to nothing",
            WireError::Stamp => "stamp out of range",
            WireError::Text => "text is not UTF-8",
            WireError::Journal => "journal line too long or out of step",
            WireError::Sequence => "sequence number out of range",
            WireError::AckBeyondSent => "acknowledges what was not sent",
            WireError::AckTooWide => "acknowledgement too wide",
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for WireError {}
