//! Every limit of the mirror, each with the reason for its size.

/// Largest payload of either message, bytes. With the envelope it fits an
/// Ethernet MTU of 1500 over IPv6, so a datagram is never fragmented.
pub const MAX_PAYLOAD: usize = 1320;

/// Datagrams in flight that the protocol allows at most: the width of the
/// acknowledgement's bitmap, so that whatever arrives can be acknowledged.
pub const MAX_WINDOW: u16 = 1024;

/// Sizes of the sender's and the receiver's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Datagrams written and not yet acknowledged; 1 to [`MAX_WINDOW`]. They are
    /// kept byte for byte: 1.4 MB at the default of 1024.
    pub window: u16,
    /// Datagrams in flight above which no bulk item is written: a record with a
    /// held packet behind it waits until the peer has read those before it, some
    /// 60 us each. Default 48.
    pub bulk_window: u16,
    /// Urgent items waiting, above which [`crate::Sender::wants_marks`] is false
    /// and marks stay in the engine, which bounds them itself. Default 65,536.
    pub marks: u32,
    /// Urgent items waiting at most; one more sets
    /// [`crate::Sender::needs_restart`]. Default 262,144: the marks above plus
    /// the journal of a large configuration.
    pub urgent: u32,
    /// Bytes of journal text waiting at most, else as above. Default 32 MiB.
    pub journal_bytes: u32,
    /// Bulk items waiting, above which [`crate::Sender::wants_bulk`] is false.
    /// Default 4,096: one window's worth is found by the next slice of the scan.
    pub bulk: u32,
    /// Datagrams that the receiver keeps, in order or beyond a gap, at least
    /// `window`. Default 2,048 (2.8 MB).
    pub receive: u16,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            window: MAX_WINDOW,
            bulk_window: 48,
            marks: 65_536,
            urgent: 262_144,
            journal_bytes: 32 << 20,
            bulk: 4_096,
            receive: 2_048,
        }
    }
}
