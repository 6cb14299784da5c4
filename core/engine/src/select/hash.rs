//! Consistent hashing: weighted rendezvous over the servers' addresses, or what stands for them (`-hashId`).
//!
//! Both nodes of a pair, and a node after a restart, choose the same server
//! from the configuration and the health of services alone. Each server gets a
//! score from (key, server) under fixed hash keys; the best score wins. Removing
//! a server moves only the clients it had.
//!
//! The score of weight `w` is `w / -log2(u)` with `u` uniform in (0, 1]: the
//! share of each server is then exactly its weight's share. The logarithm is
//! computed in integers, so that every build gives the same answer.

use holdfast_base::StableHasher;

use crate::plan::{Binding, Service, Vserver};
use crate::roster::Roster;

/// Keys of the hash: part of the behaviour, never changed.
const KEYS: (u64, u64) = (0x636f_6e73_6973_7465, 0x6e74_2068_6173_6831);

/// The usable service of `vserver` that `key` belongs to.
pub(crate) fn choose(vserver: &Vserver, roster: &Roster, key: &[u8]) -> Option<Binding> {
    let mut best: Option<(Binding, u64)> = None;
    for binding in &vserver.services {
        let Some(service) = roster.usable(binding.service) else { continue };
        let cost = cost(key, service);
        // Smaller cost per weight wins; the first bound wins a tie.
        let better = best.is_none_or(|(other, least)| {
            u128::from(cost) * u128::from(other.weight) < u128::from(least) * u128::from(binding.weight)
        });
        if better {
            best = Some((*binding, cost));
        }
    }
    best.map(|(binding, _)| binding)
}

/// `-log2(u)` in units of 2^-32, for the uniform `u` of (key, server).
fn cost(key: &[u8], service: &Service) -> u64 {
    let mut hasher = StableHasher::new(KEYS.0, KEYS.1);
    match service.hash_id {
        0 => hasher.write(&service.server.addr.0).write(&service.server.port.to_be_bytes()),
        id => hasher.write(&id.to_be_bytes()),
    };
    minus_log2(hasher.write(key).finish())
}

/// `64 - log2(hash + 1)` in units of 2^-32: integer part from the leading bit,
/// fraction by repeated squaring.
pub(crate) fn minus_log2(hash: u64) -> u64 {
    let value = u128::from(hash) + 1;
    let exponent = value.ilog2();
    // The mantissa in 1..2 as a fixed-point number with 63 fraction bits.
    let mut mantissa = if exponent > 63 { value >> (exponent - 63) } else { value << (63 - exponent) };
    let mut fraction = 0u64;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        fraction <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    (64 << 32) - ((u64::from(exponent) << 32) | fraction)
}
