//! ICMP and ICMPv6: echo answers, errors that the node makes itself, and
//! errors of others that speak of a flow.

use crate::frame::{Frame, Offload, OwnedFrame, PortId};
use crate::network::Network;
use crate::outbox::Outbox;
use crate::passage::checksum_of;
use crate::record::{FlowKey, L2Disc};
use crate::verdict::{Drop, Verdict};
use holdfast_base::{Duration, Instant};
use holdfast_wire::build::{self, ErrorReport, Link, Quote};
use holdfast_wire::{Addr, Endpoint, Ethernet, IpPacket, Rewrite, Transport};

/// Errors (and other replies of the node) that may follow each other at once.
pub(crate) const REPLY_BURST: u32 = 1_000;

/// A frame as it came in, for the quote in an error about it: neither its
/// Ethernet nor its IP header edited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// Where it came in.
    pub(crate) port: PortId,
    /// Its Ethernet header.
    pub(crate) ethernet: &'a Ethernet,
    /// What the parser found in it.
    pub(crate) packet: &'a IpPacket,
    /// All of it.
    pub(crate) bytes: &'a [u8],
}

/// Which side of a flow an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorSide {
    /// It speaks of what the server sent: the quoted packet goes VIP → client.
    Client,
    /// It speaks of what the client sent: the quoted packet goes source → server.
    Server,
}

/// The four ends of a flow, as far as the translation of errors needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The client.
    pub(crate) client: Endpoint,
    /// What the client calls.
    pub(crate) vip: Endpoint,
    /// The server.
    pub(crate) server: Endpoint,
    /// Who the server sees.
    pub(crate) source: Endpoint,
}

/// A bucket of tokens that bounds what the node says on its own behalf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    /// Time that one token takes to grow.
    interval: Duration,
    /// Tokens that fit.
    burst: u32,
    /// The bucket is full again at this instant.
    full_at: Instant,
}

impl TokenBucket {
    /// A full bucket that grows `per_second` tokens a second.
    pub(crate) fn new(per_second: u32, burst: u32) -> TokenBucket {
        let interval = Duration::from_secs(1) / per_second.max(1);
        TokenBucket { interval, burst: burst.max(1), full_at: Instant::ZERO }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let allowed = self.has_token(now);
        if allowed {
            self.full_at = self.full_after_next(now);
        }
        allowed
    }

    /// Whether there is a token.
    fn has_token(&self, now: Instant) -> bool {
        self.full_after_next(now).since(now) <= self.interval * self.burst
    }

    /// When the bucket will be full again if a token is taken: every token
    /// moves that instant one interval on, and an empty bucket is `burst`
    /// intervals away from it.
    fn full_after_next(&self, now: Instant) -> Instant {
        self.full_at.max(now) + self.interval
    }
}

/// Makes the errors that the node sends on its own behalf, at a bounded rate.
#[derive(Debug)]
pub(crate) struct ErrorMaker {
    bucket: TokenBucket,
}

impl ErrorMaker {
    /// A maker of at most `per_second` errors a second ([`REPLY_BURST`] at once).
    pub(crate) fn new(per_second: u32) -> ErrorMaker {
        ErrorMaker { bucket: TokenBucket::new(per_second, REPLY_BURST) }
    }

    /// Whether the node may say one more thing on its own behalf at `now`; for
    /// replies other than ICMP errors (resets), which share the bucket.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        self.bucket.take(now)
    }

    /// Tells the sender of `received` what is wrong with it: back out of the
    /// port and to the Ethernet address it came from. Answers whether something
    /// was sent: not about packets that no error may be sent about (RFC 1122
    /// section 3.2.2, RFC 4443 section 2.4 e), and not beyond the rate.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        network: &Network,
        received: &Received<'_>,
        report: ErrorReport,
        out: &mut Outbox,
    ) -> bool {
        let packet = received.packet;
        let Some(port) = network.port(received.port) else { return false };
        let Some(own) = speaker(network, packet) else { return false };
        if received.ethernet.src.is_group() || !self.bucket.has_token(now) {
            return false;
        }
        let mut bytes = out.buffer();
        bytes.resize(build::MAX_REPLY, 0);
        let link = Link::answer(received.ethernet, port.mac);
        let quote = Quote { frame: received.bytes, packet };
        match build::icmp_error(&mut bytes, link, own, quote, report) {
            Some(len) => {
                self.bucket.take(now);
                bytes.truncate(len);
                out.push(OwnedFrame { port: port.id, offload: Offload::default(), bytes });
                true
            }
            None => {
                out.recycle(bytes);
                false
            }
        }
    }
}

/// Who speaks for the node about `packet`: the floating address it was sent to,
/// else the one that faces its sender.
fn speaker(network: &Network, packet: &IpPacket) -> Option<Addr> {
    let called = network.floating(packet.dst).map(|own| own.addr);
    called.or_else(|| network.facing(packet.src))
}

/// Answers the echo request in `frame` if it is sent to a floating address
/// that answers: in place, back to where it came from. The caller has verified
/// the checksums.
pub(crate) fn answer_echo(network: &Network, frame: &mut Frame<'_>, packet: &IpPacket) -> Verdict {
    let answers = network.floating(packet.dst).is_some_and(|own| own.icmp);
    let Some(port) = network.port(frame.port) else { return Verdict::Drop(Drop::Unserved) };
    if answers && build::echo_reply_in_place(frame.bytes, packet, port.mac, checksum_of(&frame.offload)) {
        Verdict::Forward(frame.port)
    } else {
        Verdict::Drop(Drop::Unserved)
    }
}

/// How the flow, of whose packet the error `packet` speaks, names the packets
/// that travel the other way: the key under which the flow is found.
pub(crate) fn key_of_quoted(packet: &IpPacket, l2: L2Disc) -> Option<FlowKey> {
    let Transport::IcmpError(error) = packet.transport else { return None };
    Some(FlowKey { proto: error.inner.proto, l2, src: error.inner.dst, dst: error.inner.src })
}

/// Turns an error about a flow's packet into one for the end that sent it, as
/// that end knows the flow. `side` is where the error comes from. Answers
/// `false`, and nothing changed, if `packet` is no such error.
///
/// An error made by the far end itself comes from the address that the near
/// end knows it by; one made by a router between keeps the router's address
/// (RFC 5508 section 4.2).
pub(crate) fn translate_error(frame: &mut Frame<'_>, packet: &IpPacket, ends: &Ends, side: ErrorSide) -> bool {
    let (speaker, known_as, listener, inner_src, inner_dst) = match side {
        ErrorSide::Server => (ends.server, ends.vip, ends.client, ends.client, ends.vip),
        ErrorSide::Client => (ends.client, ends.source, ends.server, ends.server, ends.source),
    };
    let src = if packet.src == speaker.addr { known_as.addr } else { packet.src };
    let portless = |addr| Endpoint { addr, port: 0 };
    let outer = Rewrite { src: portless(src), dst: portless(listener.addr), decrement_ttl: true };
    let inner = Rewrite { src: inner_src, dst: inner_dst, decrement_ttl: false };
    holdfast_wire::rewrite_icmp_error(frame.bytes, packet, &outer, &inner, checksum_of(&frame.offload))
}

#[cfg(test)]
mod tests;
