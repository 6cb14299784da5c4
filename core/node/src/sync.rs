//! Whether this node's configuration is the primary's, and what to do if it is not.
//!
//! A secondary compares fingerprints at named positions of the mirror stream. If they differ it asks the primary
//! for the whole configuration, which comes in the running session and is applied by the difference: flows and what
//! the nodes know of them are not touched. What cannot be carried out here is told on both nodes and tried again,
//! less and less often: the mirror goes on meanwhile.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_config::{self as config, CommandError, Message, Replaced, Warning, messages};
use holdfast_ha::{HaStatus, Hello, Role};

use crate::aside::{Aside, HA_VERSION, OLDEST_HA_VERSION, SyncCode};
use crate::effect::Level;
use crate::envelope::MessageKind;
use crate::node::Node;
use crate::offer::OFFER_VERSION;

/// Time between two requests for the configuration while none comes.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// The primary sends its configuration no more often than this.
const SEND_INTERVAL: Duration = Duration::from_millis(100);
/// Longest pause between two attempts that have failed.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Longest reason that is sent or kept, in bytes.
const MAX_REASON: usize = 256;

/// Hellos that may have been on their way when the peer reported a failure, and say nothing of it yet.
const LATE_HELLOS: u64 = 2;

/// A request: send the configuration.
const WANT: u8 = 1;
/// A report: it could not be taken over, for the reason that follows.
const REFUSED: u8 = 2;
/// With [`WANT`]: take it over whatever `-haSync` says.
const FORCE: u8 = 4;
/// With [`WANT`]: save it afterwards.
const SAVE: u8 = 8;
/// With [`REFUSED`]: it was a single change.
const CHANGE: u8 = 16;
/// The first HA version that understands a report without [`WANT`].
const REPORT_VERSION: u8 = 2;

/// Where this node's configuration stands, seen as a secondary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is on its way, or was not compared yet.
    Waiting,
    /// It is the primary's.
    Equal,
    /// It is not, and an attempt to change that has failed.
    Failed,
}

/// What is on the way with a configuration: the words of the line that begins it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heading {
    /// The primary's incarnation.
    incarnation: Option<u32>,
    force: bool,
    save: bool,
}

/// What the peer's last hello said.
#[derive(Clone, Copy, Debug)]
struct Heard {
    boot: u64,
    seq: u64,
    aside: Aside,
    fingerprint: u64,
}

/// Synchronisation of the configuration, both ends.
#[derive(Debug)]
pub(crate) struct ConfigSync {
    standing: Standing,
    /// Why it has failed.
    reason: String,
    /// A configuration was taken over since the fingerprints were equal last.
    taken: bool,
    /// The primary's fingerprint at the last failure.
    failed_at: Option<u64>,
    ask_at: Option<Instant>,
    pause: Duration,
    /// With the next request.
    wishes: u8,
    /// What is being taken over.
    heading: Heading,
    failures: u64,
    incarnation: u32,
    unsaved: bool,
    versions: (u8, u8),
    peer: Option<Heard>,
    peer_reason: String,
    /// The peer's last hello when it gave the reason.
    reason_seq: u64,
    /// As primary: when the configuration was sent last, on request.
    sent: Option<Instant>,
    /// Commands with this word are Greek to us, as if this build were older.
    #[cfg(feature = "sabotage")]
    misunderstood: Option<String>,
}

impl Default for ConfigSync {
    fn default() -> ConfigSync {
        ConfigSync {
            standing: Standing::Waiting,
            reason: String::new(),
            taken: false,
            failed_at: None,
            ask_at: None,
            pause: ASK_INTERVAL,
            wishes: 0,
            heading: Heading::default(),
            failures: 0,
            incarnation: 0,
            unsaved: false,
            versions: (HA_VERSION, OLDEST_HA_VERSION),
            peer: None,
            peer_reason: String::new(),
            reason_seq: 0,
            sent: None,
            #[cfg(feature = "sabotage")]
            misunderstood: None,
        }
    }
}

impl Heading {
    /// As the beginning of a configuration carries it.
    fn text(self) -> String {
        let mut text = format!("incarnation={}", self.incarnation.unwrap_or(0));
        text.push_str(if self.force { " force" } else { "" });
        text.push_str(if self.save { " save" } else { "" });
        text
    }

    /// Unknown words are those of a later version.
    pub fn read(text: &str) -> Heading {
        let words = || text.split(' ');
        Heading {
            incarnation: words().find_map(|word| word.strip_prefix("incarnation=")?.parse().ok()),
            force: words().any(|word| word == "force"),
            save: words().any(|word| word == "save"),
        }
    }
}

impl ConfigSync {
    /// A session begins: the configuration comes with it.
    pub fn begin(&mut self) {
        self.standing = Standing::Waiting;
        self.taken = false;
        self.ask_at = None;
    }

    /// Another primary is followed: what is known of the former one's is nothing to this one.
    pub fn follow(&mut self) {
        self.begin();
        self.failed_at = None;
        self.pause = ASK_INTERVAL;
        self.reason.clear();
    }

    /// A change that both nodes have, or should have.
    pub fn count_change(&mut self) {
        self.incarnation = self.incarnation.wrapping_add(1);
    }

    /// Configurations that could not be taken over.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// A save has ended.
    pub fn note_saved(&mut self, ok: bool) {
        self.unsaved = !ok;
    }

    /// When to ask next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Fingerprint of the peer's configuration, as of its last hello.
    pub fn peer_fingerprint(&self) -> u64 {
        self.peer.map_or(0, |heard| heard.fingerprint)
    }

    /// There is another peer, or none.
    pub fn forget_peer(&mut self) {
        self.peer = None;
        self.peer_reason.clear();
    }

    /// What the peer has said of itself; of one that was not heard: nothing.
    pub fn peer(&self) -> Option<Aside> {
        self.peer.map(|heard| heard.aside)
    }

    /// Why the peer's synchronisation has failed.
    pub fn peer_reason(&self) -> &str {
        &self.peer_reason
    }

    /// Ask now.
    fn ask(&mut self, now: Instant, wishes: u8) {
        self.wishes |= wishes;
        self.ask_at = Some(now);
        if self.standing == Standing::Equal {
            self.standing = Standing::Waiting;
        }
    }

    /// True if the reason is news.
    fn fail(&mut self, now: Instant, theirs: Option<u64>, reason: &str) -> bool {
        let news = self.standing != Standing::Failed || self.reason != reason;
        let again = self.failed_at.is_some() && self.failed_at == theirs;
        self.pause = if again { (self.pause * 2).min(MAX_PAUSE) } else { ASK_INTERVAL };
        self.standing = Standing::Failed;
        reason.clone_into(&mut self.reason);
        self.failed_at = theirs.or(self.failed_at);
        self.taken = false;
        self.failures += 1;
        self.ask_at = Some(now + self.pause);
        news
    }

    fn succeed(&mut self) {
        self.standing = Standing::Equal;
        self.reason.clear();
        self.failed_at = None;
        self.pause = ASK_INTERVAL;
        self.taken = false;
        self.ask_at = None;
    }

    /// Whether the words of a hello are newer than those that are known.
    fn is_news(&self, hello: &Hello) -> bool {
        !self.peer.is_some_and(|heard| heard.boot == hello.boot && heard.seq > hello.seq)
    }
}

impl Node {
    /// What this node says in its hellos.
    pub(crate) fn aside(&self) -> Aside {
        let ha = self.config.ha();
        let (version, oldest) = self.sync.versions;
        Aside {
            version,
            oldest,
            sync: self.sync_state(),
            propagation_off: !ha.propagation,
            inc: ha.inc,
            sync_off: !ha.sync,
            unsaved: self.sync.unsaved,
            offers: version >= OFFER_VERSION && self.ha.role() == Role::Secondary && self.offers.has_any(),
            incarnation: self.sync.incarnation,
        }
    }

    /// This node's synchronisation; the primary has nothing to follow.
    pub(crate) fn sync_state(&self) -> SyncCode {
        match self.ha.role() {
            Role::Init | Role::Primary | Role::Draining => SyncCode::Enabled,
            Role::Secondary if !self.gets_on_with_peer() => SyncCode::Failed,
            Role::Secondary if !self.config.ha().sync => SyncCode::Disabled,
            Role::Secondary => match self.sync.standing {
                Standing::Waiting => SyncCode::InProgress,
                Standing::Equal => SyncCode::Success,
                Standing::Failed => SyncCode::Failed,
            },
        }
    }

    /// Why this node's synchronisation has failed.
    pub(crate) fn sync_reason(&self) -> &str {
        if self.gets_on_with_peer() { &self.sync.reason } else { messages::VERSION_MISMATCH.text }
    }

    /// Whether the peer, as far as it was heard, speaks an HA version that we understand.
    pub(crate) fn gets_on_with_peer(&self) -> bool {
        let (version, oldest) = self.sync.versions;
        let own = Aside { version, oldest, ..Aside::read(0) };
        self.sync.peer.is_none_or(|heard| own.gets_on_with(&heard.aside))
    }

    /// Whether this build and the peer's both know of flows that the loser of a split offers.
    pub(crate) fn may_offer(&self) -> bool {
        self.sync.versions.0 >= OFFER_VERSION && self.sync.peer().is_some_and(|aside| aside.version >= OFFER_VERSION)
    }

    /// Speaks another HA version, for tests of what then happens.
    #[cfg(feature = "sabotage")]
    pub fn speak_version(&mut self, version: u8, oldest: u8) {
        self.sync.versions = (version, oldest);
    }

    /// Does not know commands with this word any more, for tests of what then happens.
    #[cfg(feature = "sabotage")]
    pub fn misunderstand(&mut self, word: Option<&str>) {
        self.sync.misunderstood = word.map(str::to_owned);
    }

    /// A line of the primary as this build can read it.
    pub(crate) fn as_understood(&self, line: String) -> String {
        #[cfg(feature = "sabotage")]
        if self.sync.misunderstood.as_ref().is_some_and(|word| line.contains(word)) {
            return format!("mystify {line}");
        }
        line
    }

    /// The peer's hello says how its configuration stands. Before the hello has its consequences.
    pub(crate) fn hear_aside(&mut self, now: Instant, hello: &Hello, fingerprint: u64) {
        if !self.sync.is_news(hello) {
            return;
        }
        let aside = Aside::read(hello.aside);
        let before = self.sync.peer.filter(|heard| heard.boot == hello.boot).map(|heard| heard.aside);
        self.sync.peer = Some(Heard { boot: hello.boot, seq: hello.seq, aside, fingerprint });
        if before.is_none() && !self.gets_on_with_peer() {
            let (own, peer) = (self.sync.versions, (aside.version, aside.oldest));
            let text = format!(
                "version mismatch: this node speaks HA version {} (and back to {}), the peer {} (and back to {}); nothing is mirrored or synchronised",
                own.0, own.1, peer.0, peer.1
            );
            self.event(Level::Warn, text);
        }
        if before.is_none_or(|before| before.inc != aside.inc) && aside.inc != self.config.ha().inc && hello.aside != 0
        {
            self.event(Level::Warn, "INC mode is set on one node and not on the other".into());
        }
        if before.is_some_and(|before| before.propagation_off) && !aside.propagation_off {
            self.make_up(now);
        }
        if aside.sync != SyncCode::Failed && hello.seq > self.sync.reason_seq + LATE_HELLOS {
            self.sync.peer_reason.clear();
        }
    }

    /// The whole shared configuration goes to the peer, in the running session.
    pub(crate) fn heading(&self, force: bool, save: bool) -> String {
        Heading { incarnation: Some(self.sync.incarnation), force, save }.text()
    }

    fn send_config(&mut self, force: bool, save: bool) {
        let (heading, lines) = (self.heading(force, save), self.config.lines(config::Scope::Shared));
        self.mirroring.push_config(heading, lines);
        for record in self.health_records() {
            self.mirroring.sender.push(holdfast_mirror::Item::Health(record));
        }
        self.mirroring.check_soon();
    }

    /// As primary: the peer asks for the configuration, or says why it could not be taken over.
    pub(crate) fn handle_config_request(&mut self, now: Instant, session: u32, flags: u8, reason: &[u8]) {
        if self.mirroring.sender.session() != Some(session) {
            return;
        }
        if flags & REFUSED != 0 {
            let reason: String = String::from_utf8_lossy(&reason[..reason.len().min(MAX_REASON)]).into_owned();
            if flags & CHANGE != 0 {
                self.propagations.note_refused();
            }
            self.sync.reason_seq = self.sync.peer.map_or(0, |heard| heard.seq);
            if reason != self.sync.peer_reason {
                self.event(Level::Warn, format!("the peer could not take over the configuration: {reason}"));
                self.sync.peer_reason = reason;
            }
        }
        let due = self.sync.sent.is_none_or(|sent| now.since(sent) >= SEND_INTERVAL);
        if flags & WANT != 0 && due {
            self.sync.sent = Some(now);
            self.send_config(flags & FORCE != 0, flags & SAVE != 0);
        }
    }

    /// As secondary: asks for the configuration when it is time to.
    pub(crate) fn ask_for_config(&mut self, now: Instant) {
        if self.sync.ask_at.is_none_or(|at| now < at) {
            return;
        }
        let wanted = self.ha.role() == Role::Secondary && (self.config.ha().sync || self.sync.wishes & FORCE != 0);
        let Some(session) = self.mirroring.receiver.session().filter(|_| wanted && self.replacing.is_none()) else {
            (self.sync.ask_at, self.sync.wishes) = (None, 0);
            return;
        };
        self.sync.ask_at = Some(now + ASK_INTERVAL);
        let wishes = self.sync.wishes;
        self.send_request(session, WANT | wishes, "");
    }

    fn send_request(&mut self, session: u32, flags: u8, reason: &str) {
        let mut payload = session.to_be_bytes().to_vec();
        payload.push(flags);
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        payload.extend_from_slice(&reason.as_bytes()[..end]);
        let head = self.letterhead();
        self.channel.send(None, MessageKind::AskSession, head, &payload);
    }

    /// As secondary: the primary's whole configuration has come. Whether it is to be taken over.
    pub(crate) fn accepts_config(&mut self, heading: Heading) -> bool {
        let accepts = self.config.ha().sync || heading.force;
        if accepts {
            (self.sync.heading, self.sync.ask_at, self.sync.wishes) = (heading, None, 0);
        }
        accepts
    }

    /// It was taken over, as far as possible; `None`: nothing differed.
    pub(crate) fn config_taken(&mut self, now: Instant, replaced: Option<&Replaced>) {
        let heading = self.sync.heading;
        self.sync.incarnation = heading.incarnation.unwrap_or(self.sync.incarnation);
        self.sync.taken = true;
        if let Some(replaced) = replaced.filter(|replaced| replaced.refusals > 0) {
            let first = replaced.refused.first();
            let first = first.map(|refusal| format!("; the first: {} in `{}`", refusal.error, refusal.line));
            // Not of how many: the same refusal is no news after the next change.
            let reason = format!("commands refused: {}{}", replaced.refusals, first.unwrap_or_default());
            if self.config_failed(now, Some(replaced.fingerprint), &reason) {
                for refusal in replaced.refused.iter().skip(1) {
                    self.event(Level::Warn, format!("refused: {} in `{}`", refusal.error, refusal.line));
                }
            }
        }
        if heading.save {
            self.save(0);
        }
    }

    /// A command of the primary was refused here: the whole configuration may help.
    pub(crate) fn command_failed(&mut self, now: Instant, line: &str, error: &CommandError) {
        // What is secret in a line that cannot be read is not known: its options are not told.
        let unread = || line.split(" -").next().unwrap_or_default().to_owned();
        let line = config::parse(line).map_or_else(|_| unread(), |command| command.redacted());
        self.note_failure(now, None, &format!("a command was refused: {error} in `{line}`"), REFUSED | CHANGE);
        self.sync.ask(now, 0);
    }

    /// The fingerprints at a named position of the stream are equal, or not.
    pub(crate) fn config_compared(&mut self, now: Instant, equal: bool, theirs: u64) {
        if equal {
            if core::mem::replace(&mut self.sync.standing, Standing::Equal) == Standing::Failed {
                self.event(Level::Info, "the configuration is the primary's again".into());
            }
            return self.sync.succeed();
        }
        let keeps = self.sync.peer.is_some_and(|heard| heard.aside.propagation_off);
        if !self.config.ha().sync || !self.config.ha().propagation || keeps {
            // The operator wants it so.
            if self.sync.standing == Standing::Waiting {
                self.sync.standing = Standing::Equal;
            }
            return;
        }
        match self.sync.standing {
            Standing::Failed if self.sync.failed_at == Some(theirs) => {}
            Standing::Failed if self.sync.failed_at.is_none() => self.sync.failed_at = Some(theirs),
            Standing::Waiting | Standing::Equal | Standing::Failed if self.sync.taken => {
                self.config_failed(now, Some(theirs), "the configurations differ after a synchronisation");
            }
            // The primary's has changed since: that may have helped.
            Standing::Waiting | Standing::Equal | Standing::Failed => self.sync.ask(now, 0),
        }
    }

    /// Notes a failure and tells it, here and to the primary. True if it is news.
    fn config_failed(&mut self, now: Instant, theirs: Option<u64>, reason: &str) -> bool {
        self.note_failure(now, theirs, reason, REFUSED)
    }

    fn note_failure(&mut self, now: Instant, theirs: Option<u64>, reason: &str, flags: u8) -> bool {
        let news = self.sync.fail(now, theirs, reason);
        if news {
            self.event(Level::Warn, format!("configuration not synchronised: {reason}"));
        }
        let understood = self.sync.peer.is_some_and(|heard| heard.aside.version >= REPORT_VERSION);
        if let Some(session) = self.mirroring.receiver.session().filter(|_| understood) {
            self.send_request(session, flags, reason);
        }
        news
    }

    /// The operator has switched synchronisation or propagation on.
    pub(crate) fn follow_sync_settings(&mut self, now: Instant, before: &config::HaSettings) {
        let ha = self.config.ha();
        if ha.sync && !before.sync || ha.propagation && !before.propagation {
            self.make_up(now);
        }
    }

    /// As secondary: nothing stands between the primary's changes and this node any more.
    fn make_up(&mut self, now: Instant) {
        let open = self.config.ha().sync && self.ha.role() == Role::Secondary;
        if open && self.sync.peer_fingerprint() != self.fingerprint {
            self.sync.ask(now, 0);
        }
    }

    /// `force HA sync`, on either node.
    pub(crate) fn force_sync(&mut self, now: Instant, force: bool, save: bool) -> Result<(), CommandError> {
        let refuse = |message: Message| Err(CommandError::new(message));
        self.has_peer_that_takes_part()?;
        if !self.gets_on_with_peer() {
            return refuse(messages::VERSION_FORBIDS_SYNC);
        }
        let theirs = self.sync.peer.map(|heard| heard.aside);
        match self.ha.role() {
            Role::Primary => {
                if theirs.is_some_and(|aside| aside.sync_off) && !force {
                    return refuse(messages::SYNC_DISABLED);
                }
                if !self.mirroring.sender.is_active() || theirs.is_some_and(|aside| aside.sync == SyncCode::InProgress)
                {
                    return refuse(messages::SYNC_IN_PROGRESS);
                }
                self.send_config(force, save);
            }
            Role::Secondary => {
                if !self.config.ha().sync && !force {
                    return refuse(messages::SYNC_DISABLED);
                }
                if self.replacing.is_some() || self.mirroring.receiver.session().is_none() {
                    return refuse(messages::SYNC_IN_PROGRESS);
                }
                let wishes = if force { FORCE } else { 0 } | if save { SAVE } else { 0 };
                self.sync.ask(now, wishes);
            }
            Role::Init | Role::Draining => return refuse(messages::NOT_NOW),
        }
        self.event(Level::Info, "synchronisation of the configuration was asked for".into());
        Ok(())
    }

    /// `sync HA files`: refused where the market refuses it; else there is nothing to do.
    pub(crate) fn sync_files(&self) -> Result<Warning, CommandError> {
        self.has_peer_that_takes_part()?;
        Ok(Warning::new(messages::NO_FILES_TO_SYNC))
    }

    /// There is a peer, it is heard, and neither node is told to take no part.
    fn has_peer_that_takes_part(&self) -> Result<(), CommandError> {
        let refuse = |message: Message| Err(CommandError::new(message));
        if self.config.ha().peer.is_none() {
            return refuse(messages::STAND_ALONE);
        }
        let status = self.ha.status();
        let Some(peer) = status.peer else { return refuse(messages::INVALID_PEER_STATE) };
        match status.status == HaStatus::Disabled || peer.status == HaStatus::Disabled {
            true => refuse(messages::NODE_DISABLED),
            false => Ok(()),
        }
    }
}
