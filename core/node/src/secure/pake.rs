//! CPace (draft-irtf-cfrg-cpace-21, suite CPACE-RISTR255-SHA512, initiator and
//! responder): two sides that know the same password get the same secret.
//!
//! Who listens learns nothing that a guess of the password could be checked
//! against; who takes part can check one guess per run. The group and the hash
//! are other crates'; here are only the draft's inputs to them.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroize;

/// The suite's domain separation.
const DOMAIN: &[u8] = b"CPaceRistretto255";
/// The same for the secret.
const SECRET_DOMAIN: &[u8] = b"CPaceRistretto255_ISK";
/// Bytes that SHA-512 takes at a time.
const HASH_BLOCK: usize = 128;

/// What both sides must agree on before they begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// The password, stretched.
    pub password: &'a [u8],
    /// Who talks to whom (the draft's CI).
    pub channel: &'a [u8],
    /// Which run this is (the draft's sid): never the same twice.
    pub run: &'a [u8],
}

/// One side's part of a run, between sending its point and hearing the other's.
pub(crate) struct Part {
    scalar: Scalar,
    point: [u8; 32],
}

impl Part {
    /// Begins a run. `random` is used for nothing else.
    pub fn begin(terms: &Terms<'_>, mut random: [u8; 64]) -> Part {
        let scalar = Scalar::from_bytes_mod_order_wide(&random);
        random.zeroize();
        Part::with_scalar(terms, scalar)
    }

    fn with_scalar(terms: &Terms<'_>, scalar: Scalar) -> Part {
        let mut hash = [0; 64];
        hash.copy_from_slice(&Sha512::digest(generator_string(terms)));
        let generator = RistrettoPoint::from_uniform_bytes(&hash);
        Part { scalar, point: (generator * scalar).compress().to_bytes() }
    }

    /// What the other side must get.
    pub fn point(&self) -> [u8; 32] {
        self.point
    }

    /// Both sides' product; `None` for a point that is none, or the neutral one.
    fn product(&self, theirs: &[u8; 32]) -> Option<[u8; 32]> {
        let product = CompressedRistretto(*theirs).decompress()? * self.scalar;
        (!product.is_identity()).then(|| product.compress().to_bytes())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.scalar.zeroize();
    }
}

/// What one side has said: its point, and what it wants to be bound to it.
pub(crate) struct Said<'a> {
    pub point: &'a [u8; 32],
    pub bound: &'a [u8],
}

/// The secret of a run; `None` if the other side's point is not acceptable. It
/// is the same on both sides only if all terms and all that was said are.
pub(crate) fn secret(part: &Part, theirs: &[u8; 32], run: &[u8], said: [Said<'_>; 2]) -> Option<[u8; 64]> {
    let mut product = part.product(theirs)?;
    let mut hasher = Sha512::new();
    hasher.update(with_lengths(&[SECRET_DOMAIN, run, &product]));
    for Said { point, bound } in said {
        hasher.update(with_lengths(&[point, bound]));
    }
    product.zeroize();
    let mut secret = [0; 64];
    secret.copy_from_slice(&hasher.finalize());
    Some(secret)
}

/// Domain, password and a padding fill the first block, whatever the password's length.
fn generator_string(terms: &Terms<'_>) -> Vec<u8> {
    let used = with_lengths(&[terms.password, DOMAIN]).len() + 1;
    let padding = vec![0; HASH_BLOCK.saturating_sub(used)];
    with_lengths(&[DOMAIN, terms.password, &padding, terms.channel, terms.run])
}

/// Each part behind its length (LEB128).
pub(crate) fn with_lengths(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parts {
        let mut left = part.len();
        while left >= 0x80 {
            all.push(left as u8 | 0x80);
            left >>= 7;
        }
        all.push(left as u8);
        all.extend_from_slice(part);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let mut out = [0; N];
        for (index, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap();
        }
        assert_eq!(hex.len(), 2 * N);
        out
    }

    /// Appendix B.3 of the draft.
    #[test]
    fn the_published_vectors_come_out() {
        let run: [u8; 16] = bytes("7e4b4791d6a8ef019b936c79fb7f2c57");
        let terms = Terms { password: b"Password", channel: b"\x0bA_initiator\x0bB_responder", run: &run };
        let scalar = |hex| Scalar::from_bytes_mod_order(bytes(hex));
        let a = Part::with_scalar(&terms, scalar("da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08"));
        let b = Part::with_scalar(&terms, scalar("d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d"));
        assert_eq!(a.point(), bytes("d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157"));
        assert_eq!(b.point(), bytes("3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258"));
        let product = bytes("80b69a8a76457ab6a4d7f887a4bf6b55a2f80ac19c333f917a05fc9887c8b40f");
        assert_eq!((a.product(&b.point()), b.product(&a.point())), (Some(product), Some(product)));
        let expected = bytes(
            "b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dcae7b35cd\
             2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c3fa2068af7900447",
        );
        for (own, theirs) in [(&a, &b), (&b, &a)] {
            let said = [Said { point: &a.point, bound: b"ADa" }, Said { point: &b.point, bound: b"ADb" }];
            assert_eq!(secret(own, &theirs.point, &run, said), Some(expected));
        }
    }

    #[test]
    fn points_that_prove_nothing_are_refused() {
        let terms = Terms { password: b"p", channel: b"c", run: b"r" };
        let part = Part::begin(&terms, [9; 64]);
        let neutral = [0; 32];
        let no_point = bytes("2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c");
        assert_eq!((part.product(&neutral), part.product(&no_point)), (None, None));
    }
}
