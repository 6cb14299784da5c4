//! Persistence: which server an address was given last, that of a client or the one it calls.
//!
//! Sessions are values, keyed by what clients call and by the server's address,
//! so that they can be taken over before this node knows the configuration.

use core::hash::Hasher;
use core::time::Duration;
use std::collections::BTreeMap;

use hashbrown::HashTable;
use holdfast_base::{Instant, Rng, TimerWheel};
use holdfast_wire::{Addr, Endpoint};
use siphasher::sip::SipHasher13;

use crate::record::{PersistenceRecord, SessionOf};

/// Time-out of a session whose vserver is not in the plan.
const UNBOUND_TIMEOUT: Duration = Duration::from_secs(120);

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionKey {
    /// The vserver's address and port (0 = `*`).
    pub(crate) vip: Endpoint,
    /// 6 TCP, 17 UDP, 0 ANY.
    pub(crate) proto: u8,
    /// Which packets it is of.
    pub(crate) of: SessionOf,
}

impl SessionKey {
    /// Whose session a record tells of.
    pub(crate) fn of_record(record: &PersistenceRecord) -> SessionKey {
        SessionKey { vip: record.vip, proto: record.proto, of: record.of }
    }

    /// What is told of it: where it leads, or that it has ended.
    pub(crate) fn record(self, stamp: u64, server: Option<Endpoint>) -> PersistenceRecord {
        let SessionKey { vip, proto, of } = self;
        PersistenceRecord { stamp, vip, proto, of, server }
    }
}

#[derive(Clone, Copy, Debug)]
struct Session {
    key: SessionKey,
    /// As configured in the service (port 0 = `*`). `None`: the slot is free.
    server: Option<Endpoint>,
    stamp: u64,
    last_used: Instant,
    timeout: Duration,
    /// Serial of the mirror session in which it was applied or offered.
    session: u32,
    /// No record told of it, only a flow.
    inferred: bool,
}

/// All sessions of this node.
pub(crate) struct Sessions {
    slots: Vec<Session>,
    free: Vec<u32>,
    index: HashTable<u32>,
    limit: usize,
    hash_keys: (u64, u64),
    wheel: TimerWheel,
    /// Sessions of each vserver, by its address, port and protocol.
    by_vserver: BTreeMap<(Endpoint, u8), u32>,
}

impl Sessions {
    /// No sessions; at most `limit`, for which all memory is reserved here.
    pub(crate) fn new(now: Instant, limit: u32, seed: u64) -> Sessions {
        let mut rng = Rng::from_seed(seed ^ 0x7065_7273);
        Sessions {
            slots: Vec::with_capacity(limit as usize),
            free: Vec::new(),
            index: HashTable::with_capacity(limit as usize),
            limit: limit as usize,
            hash_keys: (rng.next_u64(), rng.next_u64()),
            wheel: TimerWheel::new(now, limit as usize),
            by_vserver: BTreeMap::new(),
        }
    }

    /// Sessions in the table.
    pub(crate) fn len(&self) -> u32 {
        self.index.len() as u32
    }

    /// Sessions of one vserver.
    pub(crate) fn of_vserver(&self, vip: Endpoint, proto: u8) -> u32 {
        self.by_vserver.get(&(vip, proto)).copied().unwrap_or(0)
    }

    /// Slots ever used: the range for walks.
    pub(crate) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The server of a session, if there is one.
    pub(crate) fn find(&self, key: &SessionKey) -> Option<Endpoint> {
        self.slots[self.slot(key)? as usize].server
    }

    /// The stamp of a session, 0 if there is none.
    pub(crate) fn stamp(&self, key: &SessionKey) -> u64 {
        self.slot(key).map_or(0, |slot| self.slots[slot as usize].stamp)
    }

    /// Whether there is a session, and it is of the time before this node gave way to another primary, up to
    /// `floor`: it says what this node chose, and gives way to whatever that one says.
    pub(crate) fn is_aside(&self, key: &SessionKey, floor: u32) -> bool {
        floor > 0 && self.slot(key).is_some_and(|slot| self.slots[slot as usize].session <= floor)
    }

    /// Notes that the session was used.
    pub(crate) fn touch(&mut self, now: Instant, key: &SessionKey) {
        if let Some(slot) = self.slot(key) {
            self.slots[slot as usize].last_used = now;
        }
    }

    /// Stores or moves a session. False: the table is full.
    pub(crate) fn store(&mut self, now: Instant, key: SessionKey, server: Endpoint, stamp: u64, serial: u32) -> bool {
        let slot = match self.slot(&key) {
            Some(slot) => slot,
            None => match self.claim(key, now) {
                Some(slot) => slot,
                None => return false,
            },
        };
        let session = &mut self.slots[slot as usize];
        (session.server, session.stamp, session.last_used) = (Some(server), stamp, now);
        (session.session, session.inferred) = (serial, false);
        true
    }

    /// Stores a session that a flow of the peer implies, as [`Sessions::store`], with the smallest stamp: whatever the primary
    /// says about it wins.
    pub(crate) fn infer(&mut self, now: Instant, key: SessionKey, server: Endpoint, serial: u32) -> bool {
        let stored = self.store(now, key, server, 1, serial);
        if let Some(slot) = self.slot(&key) {
            self.slots[slot as usize].inferred = true;
        }
        stored
    }

    /// Sets how long the session lasts after its last use.
    pub(crate) fn set_timeout(&mut self, key: &SessionKey, timeout: Duration) {
        if let Some(slot) = self.slot(key) {
            let session = &mut self.slots[slot as usize];
            if session.timeout != timeout {
                session.timeout = timeout;
                self.wheel.set(slot, session.last_used + timeout);
            }
        }
    }

    /// Ends a session, if there is one.
    pub(crate) fn remove(&mut self, key: &SessionKey) {
        if let Some(slot) = self.slot(key) {
            self.free_slot(slot);
        }
    }

    /// A slot whose timer has fired, if any; for [`Sessions::expire`].
    pub(crate) fn poll_timer(&mut self, now: Instant) -> Option<u32> {
        self.wheel.poll(now)
    }

    /// Ends the session in `slot` if it is over, and says whose it was. While
    /// `running` is false (standby) nothing ends. Sessions count as used at
    /// `since` at least.
    pub(crate) fn expire(&mut self, now: Instant, slot: u32, running: bool, since: Instant) -> Option<SessionKey> {
        let session = self.slots.get(slot as usize).filter(|session| session.server.is_some())?;
        let (key, timeout) = (session.key, session.timeout);
        let deadline = session.last_used.max(since) + timeout;
        if running && deadline <= now {
            self.free_slot(slot);
            return Some(key);
        }
        self.wheel.set(slot, if deadline > now { deadline } else { now + timeout });
        None
    }

    /// When [`Sessions::poll_timer`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    /// The session in `slot` as a record, and the serial it was last applied or
    /// offered in; `None` if the slot is free.
    pub(crate) fn record_at(&self, slot: u32) -> Option<(PersistenceRecord, u32)> {
        let session = self.slots.get(slot as usize)?;
        let server = session.server?;
        Some((session.key.record(session.stamp, Some(server)), session.session))
    }

    /// Whether the session in `slot` may give way to one that the primary tells of in the mirror
    /// session with this serial: it does not speak of it, or it is only inferred. False if the slot is free.
    pub(crate) fn may_give_way(&self, slot: u32, serial: u32) -> bool {
        let session = self.slots.get(slot as usize).filter(|session| session.server.is_some());
        session.is_some_and(|session| session.session != serial || session.inferred)
    }

    /// Notes that the session in `slot` was offered to the peer.
    pub(crate) fn set_serial(&mut self, slot: u32, serial: u32) {
        self.slots[slot as usize].session = serial;
    }

    /// Ends the session in `slot`.
    pub(crate) fn free_slot(&mut self, slot: u32) {
        let hash = hash(self.hash_keys, &self.slots[slot as usize].key);
        let found = self.index.find_entry(hash, |&other| other == slot);
        found.expect("a session is indexed").remove();
        let session = &mut self.slots[slot as usize];
        session.server = None;
        let vserver = (session.key.vip, session.key.proto);
        let left = self.by_vserver.get_mut(&vserver).expect("its vserver's sessions are counted");
        *left -= 1;
        if *left == 0 {
            self.by_vserver.remove(&vserver);
        }
        self.free.push(slot);
        self.wheel.cancel(slot);
    }

    /// Forgets every session.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.free.clear();
        self.index.clear();
        self.by_vserver.clear();
    }

    /// How long the session in `slot` lasts from `now` on, if it counts as used at `since` at least.
    pub(crate) fn left(&self, now: Instant, slot: u32, since: Instant) -> Duration {
        let session = &self.slots[slot as usize];
        (session.last_used.max(since) + session.timeout).since(now)
    }

    /// The slot of a session, if there is one.
    pub(crate) fn slot(&self, key: &SessionKey) -> Option<u32> {
        let hash = hash(self.hash_keys, key);
        self.index.find(hash, |&slot| self.slots[slot as usize].key == *key).copied()
    }

    fn claim(&mut self, key: SessionKey, now: Instant) -> Option<u32> {
        let timeout = UNBOUND_TIMEOUT;
        let session = Session { key, server: None, stamp: 0, last_used: now, timeout, session: 0, inferred: false };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.limit => {
                self.slots.push(session);
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        self.slots[slot as usize] = session;
        *self.by_vserver.entry((key.vip, key.proto)).or_default() += 1;
        let (slots, keys) = (&self.slots, self.hash_keys);
        self.index.insert_unique(hash(keys, &key), slot, |&other| hash(keys, &slots[other as usize].key));
        self.wheel.set(slot, now + timeout);
        Some(slot)
    }
}

fn hash(keys: (u64, u64), key: &SessionKey) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(keys.0, keys.1);
    let (kind, source, destination) = match key.of {
        SessionOf::Source(source) => (0, source, Addr::UNSPECIFIED),
        SessionOf::Destination(destination) => (1, Addr::UNSPECIFIED, destination),
        SessionOf::Both { source, destination } => (2, source, destination),
    };
    let mut bytes = [0; 52];
    bytes[..16].copy_from_slice(&key.vip.addr.0);
    bytes[16..18].copy_from_slice(&key.vip.port.to_be_bytes());
    bytes[18..20].copy_from_slice(&[key.proto, kind]);
    bytes[20..36].copy_from_slice(&source.0);
    bytes[36..].copy_from_slice(&destination.0);
    hasher.write(&bytes);
    hasher.finish()
}
