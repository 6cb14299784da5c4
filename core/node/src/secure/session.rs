//! The keys of one session: how a datagram is closed and opened.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use holdfast_base::Instant;
use zeroize::Zeroize;

use super::Password;
use crate::envelope::{HEADER_LEN, TAG_LEN};

/// Separates what is made of a secret here from what anybody else makes of it.
const CONTEXT: &str = "holdfast peer channel 2 session keys";
/// Two keys, a number, a proof.
const MATERIAL: usize = 32 + 32 + 4 + PROOF_LEN;
/// Bytes of the answering side's proof that it has the secret.
pub(crate) const PROOF_LEN: usize = 16;

/// Which end of the handshake we were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// We offered.
    Offering,
    /// We answered.
    Answering,
}

/// Keys of one handshake, one for each direction. A sequence number is used
/// once under each.
pub(crate) struct Session {
    /// Names the session on the wire; never 0.
    pub id: u32,
    /// The peer's life that it was made with.
    pub boot: u64,
    /// The payload is encrypted, not only authenticated.
    pub encrypted: bool,
    /// The password under which it was made.
    pub password: Password,
    /// When it was made.
    pub made: Instant,
    /// When something last came under it.
    pub heard: Option<Instant>,
    /// Bytes closed under it.
    pub bytes: u64,
    closing: ChaCha20Poly1305,
    opening: ChaCha20Poly1305,
}

/// What both ends make of the secret.
pub(crate) struct Material {
    bytes: [u8; MATERIAL],
}

impl Material {
    /// Wipes the secret.
    pub fn of(mut secret: [u8; 64]) -> Material {
        let mut bytes = [0; MATERIAL];
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&secret);
        hasher.finalize_xof().fill(&mut bytes);
        secret.zeroize();
        Material { bytes }
    }

    /// What the answering end shows for it.
    pub fn proof(&self) -> [u8; PROOF_LEN] {
        let mut proof = [0; PROOF_LEN];
        proof.copy_from_slice(&self.bytes[68..]);
        proof
    }

    /// Compares in constant time.
    pub fn proves(&self, proof: &[u8; PROOF_LEN]) -> bool {
        let wide = |proof: &[u8; PROOF_LEN]| {
            let mut wide = [0; 32];
            wide[..PROOF_LEN].copy_from_slice(proof);
            blake3::Hash::from_bytes(wide)
        };
        wide(&self.proof()) == wide(proof)
    }
}

impl Drop for Material {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl Session {
    pub fn new(now: Instant, material: &Material, end: End, boot: u64, encrypted: bool, password: Password) -> Session {
        let key = |at: usize| {
            let mut key = [0; 32];
            key.copy_from_slice(&material.bytes[at..at + 32]);
            let cipher = ChaCha20Poly1305::new(&key.into());
            key.zeroize();
            cipher
        };
        let (forth, back) = (key(0), key(32));
        let (closing, opening) = match end {
            End::Offering => (forth, back),
            End::Answering => (back, forth),
        };
        let mut id = [0; 4];
        id.copy_from_slice(&material.bytes[64..68]);
        Session {
            id: u32::from_be_bytes(id).max(1),
            boot,
            encrypted,
            password,
            made: now,
            heard: None,
            bytes: 0,
            closing,
            opening,
        }
    }

    /// When it last showed that it works; at first, when it was made.
    pub fn last(&self) -> Instant {
        self.heard.unwrap_or(self.made)
    }

    /// Closes what `datagram` holds behind its header, and appends the tag.
    pub fn close(&mut self, sequence: u64, datagram: &mut Vec<u8>) {
        self.bytes += datagram.len() as u64;
        let nonce = nonce(sequence);
        let tag = if self.encrypted {
            let (header, payload) = datagram.split_at_mut(HEADER_LEN);
            self.closing.encrypt_inout_detached(&nonce, header, payload.into())
        } else {
            self.closing.encrypt_inout_detached(&nonce, datagram, (&mut [][..]).into())
        };
        // Only a datagram of more than 2^38 bytes has no tag.
        datagram.extend_from_slice(&tag.unwrap_or_default());
    }

    /// The payload, if nobody changed a bit of header or payload.
    pub fn open(&self, sequence: u64, datagram: &[u8]) -> Option<Vec<u8>> {
        let (covered, tag) = datagram.split_last_chunk::<TAG_LEN>()?;
        let (header, payload) = covered.split_first_chunk::<HEADER_LEN>()?;
        let (nonce, tag, mut payload) = (nonce(sequence), Tag::from(*tag), payload.to_vec());
        let opened = if self.encrypted {
            self.opening.decrypt_inout_detached(&nonce, header, payload.as_mut_slice().into(), &tag)
        } else {
            self.opening.decrypt_inout_detached(&nonce, covered, (&mut [][..]).into(), &tag)
        };
        opened.ok().map(|()| payload)
    }
}

fn nonce(sequence: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    nonce.into()
}
