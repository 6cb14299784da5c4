//! The steps of a handshake on the wire. All have the same length, so that
//! nobody can make a node send more than was sent to it.
//!
//! ```text
//!  0  1  step: 1 hail, 2 offer, 3 answer, 4 refusal
//!  1  1  flags: 1 the sender wants the payload encrypted; others are ignored
//!  2  1  role that the sender claims (hail): 0 init, 1 secondary, 2 primary, 3 draining
//!  3  1  offer: 1 answer with your former password; refusal: 1 passwords differ, 2 `-secure` differs
//!  4  4  zero
//!  8  8  cookie: to be returned by who answers; made by the sender for this path
//! 16  8  the receiver's cookie, 0 = not known
//! 24  8  number of the attempt: random, chosen by who offers
//! 32 32  point of the sender (offer, answer)
//! 64 16  proof of the secret (answer)
//! ```

use super::session::PROOF_LEN;
use crate::envelope::Refused;

/// Where the cookie lies.
pub(crate) const COOKIE_AT: usize = 8;
/// Length of each step.
pub(crate) const STEP_LEN: usize = 80;

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// "Here I am, without a session; this is my cookie."
    Hail,
    /// The initiator's point.
    Offer,
    /// The responder's point, and its proof.
    Answer,
    /// Why there is no session. Unproven: for eyes only.
    Refusal,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub kind: StepKind,
    pub encrypt: bool,
    pub role: u8,
    pub detail: u8,
    pub cookie: u64,
    pub echo: u64,
    pub attempt: u64,
    pub point: [u8; 32],
    pub proof: [u8; PROOF_LEN],
}

impl Step {
    /// A step with nothing but its kind.
    pub fn new(kind: StepKind) -> Step {
        Step {
            kind,
            encrypt: false,
            role: 0,
            detail: 0,
            cookie: 0,
            echo: 0,
            attempt: 0,
            point: [0; 32],
            proof: [0; PROOF_LEN],
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.push(match self.kind {
            StepKind::Hail => 1,
            StepKind::Offer => 2,
            StepKind::Answer => 3,
            StepKind::Refusal => 4,
        });
        out.extend_from_slice(&[u8::from(self.encrypt), self.role, self.detail, 0, 0, 0, 0]);
        for word in [self.cookie, self.echo, self.attempt] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&self.point);
        out.extend_from_slice(&self.proof);
        debug_assert_eq!(out.len() - begin, STEP_LEN);
    }

    pub fn decode(bytes: &[u8]) -> Result<Step, Refused> {
        let bytes: &[u8; STEP_LEN] = bytes.try_into().map_err(|_| Refused::Malformed)?;
        let kind = match bytes[0] {
            1 => StepKind::Hail,
            2 => StepKind::Offer,
            3 => StepKind::Answer,
            4 => StepKind::Refusal,
            _ => return Err(Refused::Malformed),
        };
        let word = |at: usize| bytes[at..at + 8].iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        let mut step = Step {
            encrypt: bytes[1] & 1 != 0,
            role: bytes[2],
            detail: bytes[3],
            cookie: word(8),
            echo: word(16),
            attempt: word(24),
            ..Step::new(kind)
        };
        step.point.copy_from_slice(&bytes[32..64]);
        step.proof.copy_from_slice(&bytes[64..]);
        Ok(step)
    }
}
