//! Passwords as they lie in `ns.conf`: closed under a key of this node.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use core::fmt::Write as _;

/// Bytes before the password: what makes two closings of one password differ.
pub(crate) const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// Whose password it is. One of another kind does not open: whoever may set a monitor's password must not get the
/// pair's sent to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    RpcNode,
    Monitor,
}

impl Owner {
    fn about(self) -> &'static [u8] {
        match self {
            Owner::RpcNode => b"holdfast rpcNode password",
            Owner::Monitor => b"holdfast monitor password",
        }
    }
}

/// Hexadecimal digits of nonce, closed password and tag.
pub(crate) fn close(owner: Owner, key: &[u8; 32], nonce: [u8; NONCE_LEN], password: &str) -> String {
    let mut bytes = password.as_bytes().to_vec();
    let cipher = ChaCha20Poly1305::new(&(*key).into());
    // Only a text of more than 2^38 bytes has no tag.
    let tag = cipher.encrypt_inout_detached(&Nonce::from(nonce), owner.about(), bytes.as_mut_slice().into());
    let tag = tag.unwrap_or_default();
    let mut hex = String::new();
    for byte in nonce.iter().chain(&bytes).chain(tag.iter()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The password; `None` if it was closed under another key or for another owner, or is not what `close` wrote.
pub(crate) fn open(owner: Owner, key: &[u8; 32], hex: &str) -> Option<String> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|&[high, low]| Some((digit(high)? << 4 | digit(low)?) as u8)).collect();
    let bytes = bytes.filter(|_| rest.is_empty())?;
    let (nonce, bytes) = bytes.split_first_chunk::<NONCE_LEN>()?;
    let (closed, tag) = bytes.split_last_chunk::<TAG_LEN>()?;
    let mut password = closed.to_vec();
    let cipher = ChaCha20Poly1305::new(&(*key).into());
    let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
    cipher.decrypt_inout_detached(&nonce, owner.about(), password.as_mut_slice().into(), &tag).ok()?;
    String::from_utf8(password).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_comes_back_under_its_key_only() {
        let closed = close(Owner::RpcNode, &[1; 32], [2; NONCE_LEN], "s3cret");
        assert!(!closed.contains("s3cret"));
        assert_eq!(open(Owner::RpcNode, &[1; 32], &closed).as_deref(), Some("s3cret"));
        assert_ne!(close(Owner::RpcNode, &[1; 32], [3; NONCE_LEN], "s3cret"), closed);
        assert_eq!(open(Owner::RpcNode, &[2; 32], &closed), None);
        assert_eq!(open(Owner::Monitor, &[1; 32], &closed), None, "another owner's");
        for bent in [&closed[1..], &closed[2..], "", "zz", &format!("{closed}0"), &format!("é{closed}")] {
            assert_eq!(open(Owner::RpcNode, &[1; 32], bent), None, "{bent}");
        }
    }
}
