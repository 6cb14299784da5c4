//! What can be said without rights; the rest is proven by `proof/fastpath`.

use super::*;
use std::io;

#[test]
fn a_refusal_says_what_is_missing() {
    let refused =
        |kind| FastPathError::Load { what: "tc program", source: Box::new(io::Error::from(kind)) }.to_string();
    assert!(refused(io::ErrorKind::PermissionDenied).contains("needs CAP_BPF and CAP_NET_ADMIN"));
    assert!(!refused(io::ErrorKind::NotFound).contains("CAP_BPF"));
}

#[test]
fn the_committed_object_names_what_the_owner_asks_for() {
    let maps = [layout::FLOWS, layout::NODE, layout::FLOATING, layout::HOST, layout::TAPS, layout::COUNTS];
    for name in maps.into_iter().chain(["holdfast_tc", "holdfast_xdp"]) {
        let wanted = [&[0], name.as_bytes(), &[0]].concat();
        assert!(OBJECT.windows(wanted.len()).any(|window| window == wanted), "no {name} in the object");
    }
}
