//! Digests over the mirrored flows, per bucket, so that a session that follows
//! another sends only what differs.
//!
//! A flow falls into a bucket by its client-side key and has a *share*, a hash
//! of its latest record that was written or applied. A bucket's `told` is the
//! XOR of the shares of all its flows that were ever told, in whatever session;
//! it changes with each of them and with nothing else. When a session begins
//! both nodes note `told` as the bucket's *base*. A bucket whose bases are equal
//! at both ends is *kept*: its flows are in the session without a record.
//!
//! ```text
//!            told in an earlier session     written or applied in this one
//!   open            not in the session             in the session
//!   kept              in the session               in the session
//!   spoiled         not in the session             in the session
//! ```
//! A bucket of the sender is *spoiled* when a flow that is not in the session
//! goes before the bucket is decided: the peer would keep it for ever. One of the
//! receiver is when a flow of it had to make room, or when it is not to be kept.

/// Buckets of the digest: a bucket that differs costs its flows, which are a few
/// dozen of a million, and a summary of all costs half a hundred datagrams.
pub const BUCKETS: usize = 8_192;
/// Buckets whose bases travel in one message.
pub const BUCKETS_PER_PART: usize = 128;
/// Messages for all buckets.
pub const PARTS: usize = BUCKETS / BUCKETS_PER_PART;

/// What the running session knows of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// Nothing yet.
    #[default]
    Open,
    /// Both ends began with the same flows: all told ones are in the session.
    Kept,
    /// It cannot be kept in this session.
    Spoiled,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// XOR of the shares of all told flows, and how many.
    told: u64,
    count: u32,
    /// Of these, what was written or applied in the running session.
    fresh: u64,
    fresh_count: u32,
    /// `told` when the session began.
    base: u64,
    fate: Fate,
}

/// All buckets, and the digest over the session.
#[derive(Debug)]
pub(crate) struct Buckets {
    all: Vec<Bucket>,
    digest: u64,
    flows: u32,
}

impl Buckets {
    pub(crate) fn new() -> Buckets {
        Buckets { all: vec![Bucket::default(); BUCKETS], digest: 0, flows: 0 }
    }

    /// The bucket of flows whose client-side key has this hash.
    pub(crate) fn of(hash: u64) -> u16 {
        (hash % BUCKETS as u64) as u16
    }

    /// Another session begins: nothing is in it.
    pub(crate) fn begin(&mut self) {
        for bucket in &mut self.all {
            let Bucket { told, count, .. } = *bucket;
            *bucket = Bucket { told, count, base: told, ..Bucket::default() };
        }
        (self.digest, self.flows) = (0, 0);
    }

    /// No flow is left.
    pub(crate) fn clear(&mut self) {
        self.all.fill(Bucket::default());
        (self.digest, self.flows) = (0, 0);
    }

    /// XOR over the flows in the session.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Flows in the session.
    pub(crate) fn flows(&self) -> u32 {
        self.flows
    }

    /// Whether nothing is decided about the bucket yet.
    pub(crate) fn is_open(&self, bucket: u16) -> bool {
        self.at(bucket).fate == Fate::Open
    }

    /// Whether told flows of the bucket are in the session without a record.
    pub(crate) fn is_kept(&self, bucket: u16) -> bool {
        self.at(bucket).fate == Fate::Kept
    }

    /// A flow with this share was written or applied in the session.
    pub(crate) fn enter(&mut self, bucket: u16, share: u64) {
        self.digest ^= share;
        self.flows += 1;
        let bucket = self.at_mut(bucket);
        (bucket.told, bucket.fresh) = (bucket.told ^ share, bucket.fresh ^ share);
        (bucket.count, bucket.fresh_count) = (bucket.count + 1, bucket.fresh_count + 1);
    }

    /// A told flow is about to be told anew, or is gone at both ends; `fresh`: it
    /// was written or applied in the session.
    pub(crate) fn leave(&mut self, bucket: u16, share: u64, fresh: bool) {
        let at = self.at_mut(bucket);
        (at.told, at.count) = (at.told ^ share, at.count - 1);
        if fresh {
            (at.fresh, at.fresh_count) = (at.fresh ^ share, at.fresh_count - 1);
        }
        if fresh || at.fate == Fate::Kept {
            self.digest ^= share;
            self.flows -= 1;
        }
    }

    /// The bucket cannot be kept in this session, unless it is already.
    pub(crate) fn spoil(&mut self, bucket: u16) {
        let bucket = self.at_mut(bucket);
        if bucket.fate == Fate::Open {
            bucket.fate = Fate::Spoiled;
        }
    }

    /// The bases of part `part`; none beyond [`PARTS`].
    pub(crate) fn bases(&self, part: usize) -> impl Iterator<Item = u64> {
        self.all.chunks(BUCKETS_PER_PART).nth(part).unwrap_or_default().iter().map(|bucket| bucket.base)
    }

    /// Whether any flow had been told when the session began.
    pub(crate) fn has_bases(&self) -> bool {
        self.all.iter().any(|bucket| bucket.base != 0)
    }

    /// Keeps the bucket if it may be; true if it is kept from here on.
    pub(crate) fn keep(&mut self, bucket: u16) -> bool {
        let at = self.at_mut(bucket);
        if at.fate != Fate::Open {
            return at.fate == Fate::Kept;
        }
        at.fate = Fate::Kept;
        let (share, flows) = (at.told ^ at.fresh, at.count - at.fresh_count);
        self.digest ^= share;
        self.flows += flows;
        true
    }

    /// What the bucket's base was.
    pub(crate) fn base(&self, bucket: u16) -> u64 {
        self.at(bucket).base
    }

    fn at(&self, bucket: u16) -> &Bucket {
        &self.all[usize::from(bucket)]
    }

    fn at_mut(&mut self, bucket: u16) -> &mut Bucket {
        &mut self.all[usize::from(bucket)]
    }
}
