//! The healing of a split: the flows that only the loser has go on at the winner.
//!
//! The loser follows the winner and is told its state as any secondary. Its own flows stay in its table until then,
//! set aside, and travel the other way meanwhile: a short stream of the mirror's own kind, from the secondary
//! to the primary. First go those that no peer was ever told of, at once; when this node has caught up, and so
//! knows what the winner has, those that were told before the split and that the winner lacks all the same.
//!
//! ```text
//!    loser                                                winner
//!      │ ◄═════════════ mirror session, as ever ═══════════╡   silent about strays while
//!      ╞═══ offer: untold flows ═════════════════════════►│   the loser's hellos say
//!      │      caught up                                    │   that it has something to offer
//!      ╞═══ offer: what else is lacking, and the end ════►│   adopts what takes nothing from it
//!      │ ◄═════════════ what it adopted, in the session ═══╡
//!      │ ◄─── ack of the end: all that is stored here ─────╡
//!      │ sweeps what is not in the session                 │
//! ```
//! Until the end is acknowledged nothing of its own goes at the loser. So a flow that both ends believe in is in
//! the loser's table, or in the session, whichever of the nodes dies.

use core::net::IpAddr;
use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::{BulkStep, Engine, FlowRecord, FlowRef};
use holdfast_ha::Role;
use holdfast_mirror::wire::{self, Message};
use holdfast_mirror::{Digest, Item, Limits, Receiver, Record, RecordKind, Sender, Source, WireError};

use crate::effect::Level;
use crate::envelope::MessageKind;
use crate::mirroring::{self, BULK_SLOTS_PER_TURN, Mirroring};
use crate::node::Node;
use crate::stream::RECORDS_PER_TURN;

/// Set in the numbers of offers, and in no mirror session's: two nodes that both lead under one term begin a session
/// each, and neither must take the other's for an offer.
const OFFER: u32 = 1 << 31;
/// The first HA version that knows of offers.
pub(crate) const OFFER_VERSION: u8 = 3;
/// How long a winner is silent about strays at most, for one meeting. A million flows are told in two seconds, and
/// an offer follows at once; a client whose connection is gone waits for its reset no longer than this.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);
/// How long one sign of another primary keeps a winner silent that has not heard its peer yet: a session is made and
/// a hello comes much sooner. All of them together do so for [`SILENCE`] while the peer is away: anybody can forge them.
const SUSPICION: Duration = Duration::from_secs(1);
/// How long the loser goes on offering to a winner that takes something: what the slowest transfer may take. Later its flows are of no use to anybody.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far an offer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// There is none.
    #[default]
    Idle,
    /// Walking the table for flows that no peer was ever told of.
    Untold(u32),
    /// Waiting until the winner has told what it has.
    CatchUp,
    /// Walking the table for what is not in the session then.
    Lacking(u32),
    /// All of it is pushed; the winner has not acknowledged the end.
    Told,
}

/// What the peer knows of this node's flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Knows {
    /// Nothing certain.
    #[default]
    Nothing,
    /// Everything: it is there, and one of us has told the other.
    All,
    /// This life of it knew everything when it was lost.
    Until(u64, Instant),
}

/// The end of an offer, at the winner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// It has not come.
    #[default]
    Open,
    /// It was read: what was adopted waits to be written.
    Read,
    /// All that was adopted stands below this position of the session.
    Written(u64),
    /// Another session has begun since: all of it has to be told again, and written.
    Retold,
    /// The loser has stored what was adopted.
    Stored,
}

/// As loser of a split.
struct Offer {
    /// This node leads, or has led since it last followed: it has flows of its own.
    own: bool,
    knows: Knows,
    stage: Stage,
    /// When it is given up.
    until: Instant,
    /// What was told before is lacking only if it was used since then; `None`: whatever is lacking.
    used_since: Option<Instant>,
    sender: Sender,
    last_session: u32,
    /// Records written before this offer.
    before: u64,
}

/// As winner.
struct Intake {
    receiver: Receiver,
    /// The peer's life and the number of its latest offer.
    begun: Option<(u64, u32)>,
    /// The mirror session in which what is adopted is told to the loser.
    told_in: Option<u32>,
    end: End,
    /// The peer's hellos say that it has something to offer, and strays are met with silence for it.
    awaited: bool,
    /// Claims of floating addresses by another host, as of the last look.
    claims: u64,
    /// Until when strays are ignored by signs that prove nothing, and for how long in all since the peer was lost.
    suspicious: (Instant, Duration),
}

/// Both ends of an offer, of which one is in use at a time.
pub(crate) struct Offers {
    offer: Offer,
    intake: Intake,
    /// Offers that were not acknowledged in time.
    given_up: u64,
    /// Signs of another primary that prove nothing: that made this node silent for a while, and that did not any more.
    suspicions: [u64; 2],
}

impl Offers {
    pub fn new() -> Offers {
        Offers {
            offer: Offer {
                own: false,
                knows: Knows::Nothing,
                stage: Stage::Idle,
                until: Instant::ZERO,
                used_since: None,
                sender: Sender::new(Limits::default()),
                last_session: 0,
                before: 0,
            },
            intake: Intake {
                receiver: Receiver::new(Limits::default()),
                begun: None,
                told_in: None,
                end: End::Open,
                awaited: false,
                claims: 0,
                suspicious: (Instant::ZERO, Duration::ZERO),
            },
            given_up: 0,
            suspicions: [0; 2],
        }
    }

    /// This node leads: what it opens from here on is its own, and what it had set aside is so again.
    pub fn note_promoted(&mut self) {
        self.stop();
        self.offer.own = true;
        self.intake.awaited = false;
    }

    /// The peer is gone: whoever comes back has to say anew that it has something to offer.
    pub fn note_lost(&mut self) {
        self.intake.awaited = false;
        self.intake.suspicious.1 = Duration::ZERO;
    }

    /// For how long one more sign, which proves nothing, makes this node silent: until then.
    fn suspect(&mut self, now: Instant) -> Option<Instant> {
        let (until, so_far) = self.intake.suspicious;
        let left = SILENCE.saturating_sub(so_far);
        self.suspicions[usize::from(left.is_zero())] += 1;
        if left.is_zero() {
            return None;
        }
        let more = (now + SUSPICION).since(now.max(until)).min(left);
        let until = now.max(until) + more;
        self.intake.suspicious = (until, so_far + more);
        Some(until)
    }

    /// Signs that made this node silent, and signs that did not any more.
    pub fn suspicions(&self) -> [u64; 2] {
        self.suspicions
    }

    /// This node leads no more. `handed_over`: the successor was told everything first.
    pub fn note_demoted(&mut self, handed_over: bool) {
        self.offer.own &= !handed_over;
        self.intake.receiver.stop();
        (self.intake.end, self.intake.awaited) = (End::Open, false);
    }

    /// The peer and this node have the same.
    pub fn note_synced(&mut self) {
        self.offer.knows = Knows::All;
    }

    /// The peer's life `boot` may lack something, since it was lost or is told everything anew: what happened after
    /// `since`.
    pub fn note_apart(&mut self, boot: u64, since: Instant) {
        match self.offer.knows {
            Knows::All => self.offer.knows = Knows::Until(boot, since),
            Knows::Until(known, _) if known == boot => {}
            Knows::Until(..) | Knows::Nothing => self.offer.knows = Knows::Nothing,
        }
    }

    /// Whether this node has flows that its primary may lack: it says so in its hellos.
    pub fn has_any(&self) -> bool {
        self.offer.own || self.is_pending()
    }

    /// Whether an offer is under way: nothing may be swept.
    pub fn is_pending(&self) -> bool {
        self.offer.stage != Stage::Idle
    }

    /// Offers that were not acknowledged in time.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// The flows that were set aside are offered to the primary's life `boot`.
    fn begin(&mut self, now: Instant, boot: u64) {
        let offer = &mut self.offer;
        offer.used_since = match offer.knows {
            Knows::All => Some(now),
            Knows::Until(known, lost) if known == boot => Some(lost),
            Knows::Until(..) | Knows::Nothing => None,
        };
        offer.last_session += 1;
        offer.sender.start(now, OFFER | offer.last_session);
        offer.before = written(&offer.sender, now);
        (offer.stage, offer.until) = (Stage::Untold(0), now + PATIENCE);
    }

    fn stop(&mut self) {
        self.offer.sender.stop();
        self.offer.stage = Stage::Idle;
    }

    /// Queues a slice of what is to be offered.
    fn collect(&mut self, engine: &mut Engine, caught_up: bool) {
        let Offer { stage, sender, used_since, .. } = &mut self.offer;
        let mut slots = BULK_SLOTS_PER_TURN;
        while slots > 0 && sender.wants_bulk() {
            let (from, then) = match *stage {
                Stage::Untold(from) => (from, Stage::CatchUp),
                Stage::CatchUp if caught_up => (0, Stage::Told),
                Stage::Lacking(from) => (from, Stage::Told),
                Stage::CatchUp | Stage::Idle | Stage::Told => return,
            };
            let mut cursor = from;
            let (step, on) = if then == Stage::CatchUp {
                (engine.next_untold_aside(&mut cursor, slots), Stage::Untold(cursor))
            } else {
                (engine.next_aside(&mut cursor, slots, *used_since), Stage::Lacking(cursor))
            };
            slots = slots.saturating_sub((cursor - from).max(1));
            *stage = on;
            match step {
                BulkStep::Flow(flow) => sender.push_bulk(Item::Flow(flow)),
                BulkStep::Kept | BulkStep::Scanned => {}
                BulkStep::Done => {
                    *stage = then;
                    if then == Stage::Told {
                        sender.push_bulk(Item::BulkEnd);
                    }
                }
            }
        }
    }

    /// Whether another turn should follow at once.
    pub fn is_busy(&self, caught_up: bool) -> bool {
        let walks = match self.offer.stage {
            Stage::Untold(_) | Stage::Lacking(_) => true,
            Stage::CatchUp => caught_up,
            Stage::Idle | Stage::Told => false,
        };
        walks && self.offer.sender.wants_bulk() || self.intake.receiver.is_ready()
    }

    /// When something is due here, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let limit = Some(self.offer.until).filter(|_| self.is_pending());
        limit.into_iter().chain(self.offer.sender.poll_timeout()).min()
    }

    /// As loser: an acknowledgement of the winner.
    pub fn handle_ack(&mut self, now: Instant, payload: &[u8]) -> Result<(), WireError> {
        self.offer.sender.handle_ack(now, payload, &mut |_, _| ())
    }

    /// As winner: the next acknowledgement. What was stored is acknowledged when it was judged, and the end when
    /// the loser has stored what was adopted.
    fn poll_ack(&mut self, now: Instant, mirroring: &Mirroring, engine: &Engine, ack: &mut Vec<u8>) -> bool {
        let intake = &mut self.intake;
        let same = intake.told_in.is_some() && mirroring.sender.session() == intake.told_in;
        let written = mirroring.sender.written().filter(|_| !engine.has_marks());
        let rewritten = mirroring.bulk_written().filter(|_| !engine.has_marks());
        if intake.end == End::Retold && rewritten.is_some() {
            intake.told_in = mirroring.sender.session();
        }
        intake.end = match intake.end {
            End::Read | End::Written(_) if !same => End::Retold,
            End::Read => written.map_or(End::Read, End::Written),
            End::Written(position) if mirroring.sender.stored_below() >= position => End::Stored,
            End::Retold => rewritten.map_or(End::Retold, End::Written),
            end @ (End::Open | End::Written(_) | End::Stored) => end,
        };
        let may = match intake.end {
            End::Open => !intake.receiver.is_ready(),
            End::Stored => true,
            End::Read | End::Written(_) | End::Retold => false,
        };
        may && intake.receiver.poll_ack(now, ack)
    }
}

impl Node {
    /// This node follows a primary: the flows that it has from leading itself are set aside and offered, all
    /// others go.
    pub(crate) fn part_with_flows(&mut self, now: Instant) {
        let has_any = self.offers.has_any() && self.engine.counts().flows > 0;
        self.offers.offer.own = false;
        match self.following.filter(|_| has_any && self.may_offer()) {
            Some((boot, _)) => {
                self.engine.set_aside();
                self.offers.begin(now, boot);
            }
            None => {
                self.engine.clear(now);
                self.offers.stop();
            }
        }
        let pending = self.offers.is_pending();
        if !pending {
            self.note_offered();
        }
        self.mirroring.let_sweep(!pending);
    }

    /// From here on the peer that is there may lack something: what it did not hear, and what waited for it then.
    pub(crate) fn note_apart(&mut self, now: Instant) {
        let held = Duration::from_millis(self.config.ha().hold_limit_ms.into());
        if let Some(boot) = self.peer_boot {
            self.offers.note_apart(boot, self.ha.out_of_hearing_since(now) - held);
        }
    }

    /// As loser, at the end of a turn: writes the next datagrams of the offer.
    pub(crate) fn tell_offer(&mut self, now: Instant) {
        if !self.offers.is_pending() {
            return;
        }
        self.offers.collect(&mut self.engine, self.mirroring.caught_up());
        let head = self.letterhead();
        let unanswered = self.offers.offer.sender.oldest_unacked(now).is_some_and(|age| age > self.hello_interval());
        let path = if unanswered { None } else { Some(self.channel.mirror_path(now, self.patience())) };
        let (sender, channel) = (&mut self.offers.offer.sender, &mut self.channel);
        mirroring::transmit(sender, now, &mut OfferSource(&mut self.engine), |payload| {
            channel.send(path, MessageKind::MirrorData, head, payload);
        });
    }

    /// As winner, at the end of a turn.
    pub(crate) fn acknowledge_offer(&mut self, now: Instant) {
        let mut ack = Vec::new();
        if self.offers.poll_ack(now, &self.mirroring, &self.engine, &mut ack) {
            let (head, path) = (self.letterhead(), self.channel.mirror_path(now, self.patience()));
            // On every path: the end is acknowledged once, or when it was sent again.
            let path = Some(path).filter(|_| self.offers.intake.end == End::Open);
            self.channel.send(path, MessageKind::MirrorAck, head, &ack);
        }
    }

    /// What is due for an offer, either way.
    pub(crate) fn watch_offer(&mut self, now: Instant) {
        self.offers.offer.sender.handle_timeout(now);
        self.adopt_offers(now);
        if self.peer_in_quarantine() {
            // It takes nothing yet, and says for how long.
            self.offers.offer.until = now + PATIENCE;
        }
        let Offer { stage, until, before, sender, .. } = &self.offers.offer;
        let count = written(sender, now) - before;
        if *stage == Stage::Told && sender.is_drained() {
            self.end_offer();
            self.note_offered();
            if count > 0 {
                self.event(Level::Info, format!("flows offered to the primary, which may lack them: {count}"));
            }
        } else if *stage != Stage::Idle && now >= *until {
            self.offers.given_up += 1;
            self.end_offer();
            self.event(
                Level::Warn,
                format!("offer of flows given up: the primary has not acknowledged all of it ({count} flows written)"),
            );
        }
    }

    /// The primary has what this node had. Not so after an offer that was given up: what was lacking before is lacking
    /// still.
    fn note_offered(&mut self) {
        self.offers.offer.knows = Knows::All;
    }

    fn end_offer(&mut self) {
        self.offers.stop();
        self.mirroring.let_sweep(true);
    }

    /// As winner: a datagram of an offer. It is stored; a turn may have many, and judges a slice of them all.
    pub(crate) fn hear_offer(&mut self, now: Instant, boot: u64, payload: &[u8]) {
        let follows = self.ha.peer_role() == Some(Role::Secondary);
        if self.peer_boot != Some(boot) || !follows || !self.may_offer() || self.quarantine.refuses() {
            return;
        }
        let Ok((Message::Data, session)) = wire::peek(payload) else {
            self.payloads_refused += 1;
            return;
        };
        if !is_offer(session) {
            return;
        }
        let intake = &mut self.offers.intake;
        if !intake.begun.is_some_and(|(known, latest)| known == boot && session <= latest) {
            intake.receiver.start(session);
            (intake.begun, intake.end) = (Some((boot, session)), End::Open);
            intake.told_in = self.mirroring.sender.session();
        }
        if intake.receiver.handle_data(now, payload).is_err() {
            self.payloads_refused += 1;
        }
    }

    /// Judges a slice of what was offered.
    fn adopt_offers(&mut self, now: Instant) {
        for _ in 0..RECORDS_PER_TURN {
            let Some(record) = self.offers.intake.receiver.poll_record() else { return };
            self.onlooker.see(now, &record);
            match record {
                Record::Flow(flow) => {
                    self.engine.adopt_offered(now, &flow, self.offers.intake.receiver.tail());
                }
                Record::BulkEnd(_) => self.offer_read(),
                // Nobody writes these into an offer; they would mean nothing there.
                Record::Close(_)
                | Record::CloseNumber { .. }
                | Record::Persistence(_)
                | Record::Health(_)
                | Record::Journal(_)
                | Record::Kept(_) => {}
            }
        }
    }

    /// All of it was judged: strays belong to nobody.
    fn offer_read(&mut self) {
        self.offers.intake.end = End::Read;
        self.engine.end_silence();
        let counters = self.engine.counters();
        let (adopted, refused) = (counters.offers_adopted, counters.offers_refused());
        if adopted + refused > 0 {
            let text = format!("the other side's flows: {adopted} adopted, {refused} refused since the start");
            self.event(Level::Info, text);
        }
    }

    /// Two nodes that lead have met: if it is us who stays, the other one may have flows to offer. What went through
    /// that one was not seen here, so no flow is idle for longer than since now.
    pub(crate) fn await_offer(&mut self, now: Instant) {
        self.engine.forgive_idleness(now);
        self.engine.keep_silent(now + SILENCE);
    }

    /// A peer joins while this node leads. It may lead, too, and hosts may have turned to this node already: who stays is
    /// known an answer later, which may be lost on its way (seed 6737).
    pub(crate) fn await_role(&mut self, now: Instant) {
        self.engine.keep_silent(now + SUSPICION);
    }

    /// There is a sign, which proves nothing, that another node leads: the network may be one again a moment before the
    /// nodes can hear each other, and hosts may turn to this node at once. Nothing more follows from it, not for longer
    /// than a meeting takes, and nothing at all while the peer is heard.
    pub(crate) fn suspect_primary(&mut self, now: Instant) {
        if self.ha.role() == Role::Primary
            && self.peer_boot.is_none()
            && self.config.ha().peer.is_some()
            && let Some(until) = self.offers.suspect(now)
        {
            self.engine.keep_silent(until);
        }
    }

    /// After a frame: another host may have claimed a floating address.
    pub(crate) fn watch_claims(&mut self, now: Instant) {
        let claims = self.engine.network_counters().address_conflicts;
        if core::mem::replace(&mut self.offers.intake.claims, claims) != claims {
            self.suspect_primary(now);
        }
        if let Some((addr, mac)) = self.engine.take_claimed() {
            let text = format!(
                "the station {mac} claims {}, which is this node's: hosts are told again where it is, but not at every claim",
                IpAddr::from(addr)
            );
            self.event(Level::Warn, text);
        }
    }

    /// The peer's hello says whether it has flows to offer, after the hello has had its consequences.
    pub(crate) fn hear_offering(&mut self, now: Instant) {
        let follows = self.ha.peer_role() == Some(Role::Secondary);
        if self.ha.role() != Role::Primary || !follows {
            return;
        }
        let offers = self.may_offer() && self.sync.peer().is_some_and(|aside| aside.offers);
        let before = core::mem::replace(&mut self.offers.intake.awaited, offers);
        if offers && !before {
            self.await_offer(now);
        } else if !offers {
            self.engine.end_silence();
        }
    }
}

/// Whether a stream with this number is an offer.
pub(crate) fn is_offer(session: u32) -> bool {
    session & OFFER != 0
}

/// Flow records written so far.
fn written(sender: &Sender, now: Instant) -> u64 {
    sender.stats(now).records.get(RecordKind::Flow)
}

/// The engine as the sender reads it while it writes a datagram of an offer.
struct OfferSource<'a>(&'a mut Engine);

impl Source for OfferSource<'_> {
    fn record(&mut self, flow: FlowRef) -> Option<FlowRecord> {
        self.0.offered_record(flow)
    }

    fn tail(&self, flow: FlowRef) -> &[u8] {
        self.0.tail(flow)
    }

    /// An offer's end says only that it is the end.
    fn digest(&mut self) -> Digest {
        Digest::default()
    }
}

#[cfg(test)]
mod tests;
