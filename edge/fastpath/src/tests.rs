//! What can be said without rights; the rest is proven by `proof/fastpath`.

use super::*;
use std::io;

#[test]
fn a_refusal_says_what_is_missing() {
    let refused =
        |kind| FastPathError::Load { what: "tc program", source: Box::new(io::Error::from(kind)) }.to_string();
    assert!(refused(io::ErrorKind::PermissionDenied).contains("needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"));
    assert!(!refused(io::ErrorKind::NotFound).contains("CAP_BPF"));
}

#[test]
fn of_the_verifiers_walk_only_its_last_word_is_told() {
    let walk = "refused. Verifier output: 0: (bf) r6 = r1\n1: (61) r1\nR2 is no pointer\nprocessed 2 insns\n";
    let told = FastPathError::Load { what: "tc program", source: Box::new(io::Error::other(walk)) }.to_string();
    assert!(told.ends_with("refused. The verifier says: R2 is no pointer"), "{told}");
}

#[test]
fn the_committed_object_names_what_the_owner_asks_for() {
    let maps = [layout::FLOWS, layout::NODE, layout::FLOATING, layout::HOST, layout::TAPS, layout::COUNTS];
    for name in maps.into_iter().chain(["holdfast_tc", "holdfast_xdp"]) {
        let wanted = [&[0], name.as_bytes(), &[0]].concat();
        assert!(OBJECT.windows(wanted.len()).any(|window| window == wanted), "no {name} in the object");
    }
}
