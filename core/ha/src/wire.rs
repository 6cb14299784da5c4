//! The hello as bytes; drawn in `docs/ha.md`. Integers are big-endian.

use crate::{Answered, HaStatus, Hello, HelloError, HelloKind, NodeHealth, Role};

/// The version of the hello format that this node speaks. Later ones keep the fixed part, the roles and the
/// TLVs of this one and add to them: a peer that cannot be understood would count as silent, and be deposed alive.
pub const VERSION: u8 = 1;
/// The longest hello that [`Hello::encode`] writes.
pub const MAX_HELLO: usize = FIXED + 6 * (4 + 8) + (4 + 16);

/// The part before the TLV tail.
const FIXED: usize = 44;
/// TLV: milliseconds since the last client packet; absent: never.
const TLV_CLIENT_PACKET: u16 = 1;
/// TLV: the term that the sender outbid; absent: none.
const TLV_DECIDED_OVER: u16 = 2;
/// TLV: milliseconds until the sender takes records again; absent: it takes them.
const TLV_QUARANTINE: u16 = 3;
/// TLV: the mirror session whose flows the sender has no room for; absent: none.
const TLV_FULL: u16 = 4;
/// TLV: what the node says beside the election; absent: nothing.
const TLV_ASIDE: u16 = 16;
/// TLV: what is wrong with the sender; absent: nothing.
const TLV_HEALTH: u16 = 5;
/// TLV: the sender asks a witness; boot and number of the hello that it answers;
/// absent: no witness.
const TLV_WITNESS: u16 = 7;
/// The sender holds the last primary's state.
const FLAG_CAUGHT_UP: u8 = 1;
/// The sender would promote if it were its turn.
const FLAG_READY: u8 = 2;
/// The sender must listen first.
const FLAG_LISTENING: u8 = 4;

impl Hello {
    /// Appends the bytes of this hello to `out`; at most [`MAX_HELLO`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, nonce) = kind_to_wire(self.kind);
        let flags = u8::from(self.caught_up) * FLAG_CAUGHT_UP
            + u8::from(self.ready) * FLAG_READY
            + u8::from(self.listening) * FLAG_LISTENING;
        out.extend_from_slice(&[VERSION, kind, role_to_wire(self.role), status_to_wire(self.status)]);
        out.extend_from_slice(&[flags, 0, 0, 0]);
        out.extend_from_slice(&self.boot.to_be_bytes());
        out.extend_from_slice(&self.seq.to_be_bytes());
        for word in [nonce, self.synced_session, self.promise_ms, self.dead_ms, self.silence_ms] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        if self.last_client_packet_ago != u64::MAX {
            tlv(out, TLV_CLIENT_PACKET, self.last_client_packet_ago);
        }
        if self.decided_over != 0 {
            tlv(out, TLV_DECIDED_OVER, self.decided_over);
        }
        if self.quarantine_ms != 0 {
            tlv(out, TLV_QUARANTINE, self.quarantine_ms);
        }
        if self.full_session != 0 {
            tlv(out, TLV_FULL, self.full_session.into());
        }
        if self.aside != 0 {
            tlv(out, TLV_ASIDE, self.aside);
        }
        if self.health != NodeHealth::Up {
            tlv(out, TLV_HEALTH, health_to_wire(self.health));
        }
        if let Some(answered) = self.witness {
            let value = u128::from(answered.boot) << 64 | u128::from(answered.seq);
            write_tail_value(out, TLV_WITNESS, &value.to_be_bytes());
        }
    }

    /// Reads a hello of this version or a later one. Unknown TLVs and flags are skipped, so that a later
    /// version can say more to this one; a kind that only it knows is a hello at least, and a status ENABLED.
    pub fn decode(bytes: &[u8]) -> Result<Hello, HelloError> {
        let (fixed, tail) = bytes.split_at_checked(FIXED).ok_or(HelloError::Truncated)?;
        if fixed[0] < VERSION {
            return Err(HelloError::Version(fixed[0]));
        }
        let is_later = fixed[0] > VERSION;
        let flags = fixed[4];
        let mut hello = Hello {
            kind: or_at_least(is_later, kind_from_wire(fixed[1], word(fixed, 24)), HelloKind::Hello)?,
            boot: long(fixed, 8),
            seq: long(fixed, 16),
            role: role_from_wire(fixed[2])?,
            status: or_at_least(is_later, status_from_wire(fixed[3]), HaStatus::Enabled)?,
            caught_up: flags & FLAG_CAUGHT_UP != 0,
            ready: flags & FLAG_READY != 0,
            listening: flags & FLAG_LISTENING != 0,
            synced_session: word(fixed, 28),
            promise_ms: word(fixed, 32),
            dead_ms: word(fixed, 36),
            silence_ms: word(fixed, 40),
            last_client_packet_ago: u64::MAX,
            decided_over: 0,
            quarantine_ms: 0,
            full_session: 0,
            aside: 0,
            health: NodeHealth::Up,
            witness: None,
        };
        read_tail(tail, &mut hello)?;
        Ok(hello)
    }
}

/// What was told; of a later version's word that is not known here, what it means at least.
fn or_at_least<T>(is_later: bool, told: Result<T, HelloError>, meaning: T) -> Result<T, HelloError> {
    if is_later { Ok(told.unwrap_or(meaning)) } else { told }
}

fn read_tail(mut tail: &[u8], hello: &mut Hello) -> Result<(), HelloError> {
    while !tail.is_empty() {
        let (head, rest) = tail.split_first_chunk::<4>().ok_or(HelloError::Truncated)?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (value, rest) = rest.split_at_checked(len).ok_or(HelloError::Truncated)?;
        match kind {
            TLV_CLIENT_PACKET => hello.last_client_packet_ago = tlv_long(value)?,
            TLV_DECIDED_OVER => hello.decided_over = tlv_long(value)?,
            TLV_QUARANTINE => hello.quarantine_ms = tlv_long(value)?,
            TLV_FULL => hello.full_session = u32::try_from(tlv_long(value)?).map_err(|_| HelloError::Length)?,
            TLV_ASIDE => hello.aside = tlv_long(value)?,
            TLV_WITNESS => hello.witness = Some(answered(value)?),
            TLV_HEALTH => hello.health = health_from_wire(tlv_long(value)?),
            _ => {}
        }
        tail = rest;
    }
    Ok(())
}

fn tlv(out: &mut Vec<u8>, kind: u16, value: u64) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&8u16.to_be_bytes());
    out.extend_from_slice(&value.to_be_bytes());
}

fn tlv_long(value: &[u8]) -> Result<u64, HelloError> {
    Ok(u64::from_be_bytes(value.try_into().map_err(|_| HelloError::Length)?))
}

fn answered(value: &[u8]) -> Result<Answered, HelloError> {
    let both = u128::from_be_bytes(value.try_into().map_err(|_| HelloError::Length)?);
    Ok(Answered { boot: (both >> 64) as u64, seq: both as u64 })
}

/// The first value of type `kind` in the tail of an encoded hello. Types that the
/// election does not know belong to whoever carries its hellos.
pub fn tail_value(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut tail = bytes.get(FIXED..)?;
    while !tail.is_empty() {
        let (head, rest) = tail.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (value, rest) = rest.split_at_checked(len)?;
        if u16::from_be_bytes([head[0], head[1]]) == kind {
            return Some(value);
        }
        tail = rest;
    }
    None
}

/// Appends a value to an encoded hello; at most 65,535 bytes.
pub fn write_tail_value(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let Ok(len) = u16::try_from(value.len()) else { return };
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
}

/// Reads 4 bytes inside the fixed part, whose length the caller has checked.
fn word(fixed: &[u8], at: usize) -> u32 {
    fixed[at..at + 4].iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// Reads 8 bytes inside the fixed part, whose length the caller has checked.
fn long(fixed: &[u8], at: usize) -> u64 {
    u64::from(word(fixed, at)) << 32 | u64::from(word(fixed, at + 4))
}

fn kind_to_wire(kind: HelloKind) -> (u8, u32) {
    match kind {
        HelloKind::Hello => (0, 0),
        HelloKind::Probe { nonce } => (1, nonce),
        HelloKind::ProbeReply { nonce } => (2, nonce),
        HelloKind::Goodbye => (3, 0),
        HelloKind::Release => (4, 0),
    }
}

fn kind_from_wire(kind: u8, nonce: u32) -> Result<HelloKind, HelloError> {
    match kind {
        0 => Ok(HelloKind::Hello),
        1 => Ok(HelloKind::Probe { nonce }),
        2 => Ok(HelloKind::ProbeReply { nonce }),
        3 => Ok(HelloKind::Goodbye),
        4 => Ok(HelloKind::Release),
        other => Err(HelloError::Kind(other)),
    }
}

fn role_to_wire(role: Role) -> u8 {
    match role {
        Role::Init => 0,
        Role::Secondary => 1,
        Role::Primary => 2,
        Role::Draining => 3,
    }
}

fn role_from_wire(byte: u8) -> Result<Role, HelloError> {
    match byte {
        0 => Ok(Role::Init),
        1 => Ok(Role::Secondary),
        2 => Ok(Role::Primary),
        3 => Ok(Role::Draining),
        other => Err(HelloError::Role(other)),
    }
}

/// The market's numbers (docs/ha.md).
fn health_to_wire(health: NodeHealth) -> u64 {
    match health {
        NodeHealth::Up => 3,
        NodeHealth::PartialFail => 4,
        NodeHealth::CompleteFail => 7,
        NodeHealth::RouteMonitorFail => 11,
    }
}

/// What a later version may say besides is a failure of some part.
fn health_from_wire(number: u64) -> NodeHealth {
    match number {
        3 => NodeHealth::Up,
        7 => NodeHealth::CompleteFail,
        11 => NodeHealth::RouteMonitorFail,
        _ => NodeHealth::PartialFail,
    }
}

fn status_to_wire(status: HaStatus) -> u8 {
    match status {
        HaStatus::Enabled => 0,
        HaStatus::StaySecondary => 1,
        HaStatus::StayPrimary => 2,
        HaStatus::Disabled => 3,
    }
}

fn status_from_wire(byte: u8) -> Result<HaStatus, HelloError> {
    match byte {
        0 => Ok(HaStatus::Enabled),
        1 => Ok(HaStatus::StaySecondary),
        2 => Ok(HaStatus::StayPrimary),
        3 => Ok(HaStatus::Disabled),
        other => Err(HelloError::Status(other)),
    }
}
