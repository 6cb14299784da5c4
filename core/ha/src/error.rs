//! Refusals that an operator sees, and the reasons why bytes are not a hello.

use core::fmt;

/// Why `force HA failover` is refused. The text is the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 363: no peer is configured.
    Standalone,
    /// 364: the peer was never heard, stays secondary, is disabled, or is not healthy enough to lead.
    PeerState,
    /// 365: this node is not primary.
    OwnState,
    /// 366: a switchover is under way, or the peer has not caught up.
    NotNow,
    /// 1441: this node stays primary.
    StayPrimary,
    /// 1449: the peer is down.
    PeerDown,
}

impl Refusal {
    /// The model's error number.
    pub fn code(self) -> u32 {
        match self {
            Refusal::Standalone => 363,
            Refusal::PeerState => 364,
            Refusal::OwnState => 365,
            Refusal::NotNow => 366,
            Refusal::StayPrimary => 1441,
            Refusal::PeerDown => 1449,
        }
    }

    /// The model's error text.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::Standalone => "Operation not permitted on stand-alone node",
            Refusal::PeerState => "Operation not possible due to invalid peer state. Rectify and retry.",
            Refusal::OwnState => {
                "Operation not possible as system state is invalid. Use show node for more information."
            }
            Refusal::NotNow => "Operation not possible now. Please wait for system to stabilize before retrying.",
            Refusal::StayPrimary => "Cannot failover as Node State set to STAYPRIMARY",
            Refusal::PeerDown => "Failover not permitted as one node is up and another node is down",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Refusal {}

/// Why bytes are not a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HelloError {
    /// Fewer bytes than the fixed part, or a TLV that runs past the end.
    Truncated,
    /// A version that this node does not speak.
    Version(u8),
    /// An unknown kind.
    Kind(u8),
    /// An unknown role.
    Role(u8),
    /// An unknown status.
    Status(u8),
    /// A known TLV of the wrong length.
    Length,
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HelloError::Truncated => f.write_str("hello is truncated"),
            HelloError::Version(v) => write!(f, "hello version {v} is not spoken here"),
            HelloError::Kind(v) => write!(f, "unknown hello kind {v}"),
            HelloError::Role(v) => write!(f, "unknown role {v}"),
            HelloError::Status(v) => write!(f, "unknown status {v}"),
            HelloError::Length => f.write_str("a field of the hello has the wrong length"),
        }
    }
}

impl core::error::Error for HelloError {}
