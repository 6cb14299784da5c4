//! What the nodes tell each other of their interfaces, for `show HA node` only.
//!
//! It rides behind the hello, in a value that the election does not look at: one
//! byte of flags, then five lists of ids, each behind a line feed: enabled,
//! disabled, monitored, silent (hellos are missing on them), failed.

use holdfast_config::PeerPorts;
use holdfast_ha::{Hello, HelloKind, tail_value, write_tail_value};

use crate::node::Node;
use crate::view::silent_ports;

/// The value's type in the tail of a hello.
const TLV_PORTS: u16 = 6;
/// The longest value; more is not told.
const MAX_PORTS: usize = 512;
/// Lists in it.
const LISTS: usize = 5;
/// Flag: `failSafe` is on.
const FAIL_SAFE: u8 = 1;

impl Node {
    /// Appends what the peer's operator may want to see; only to the periodic hello.
    pub(crate) fn tell_ports(&mut self, hello: &Hello, payload: &mut Vec<u8>) {
        if hello.kind != HelloKind::Hello {
            return;
        }
        let all = self.config.interfaces();
        let ids = |fits: fn(&holdfast_config::Interface) -> bool| {
            all.iter().filter(|port| fits(port)).map(|port| port.id.clone()).collect()
        };
        let ports = PeerPorts {
            enabled: ids(|port| port.enabled),
            disabled: ids(|port| !port.enabled),
            monitored: ids(|port| port.ha_monitor),
            silent: silent_ports(self),
            failed: self.fitness.failed_ports().to_vec(),
            fail_safe: self.config.ha().fail_safe,
        };
        let value = write(&ports);
        if value.len() <= MAX_PORTS {
            write_tail_value(payload, TLV_PORTS, &value);
        } else {
            self.ports_untold += 1;
        }
    }

    /// Takes note of what the peer tells in `payload`, a hello that was accepted.
    pub(crate) fn hear_ports(&mut self, payload: &[u8]) {
        if let Some(value) = tail_value(payload, TLV_PORTS) {
            self.peer_ports = read(value);
        }
    }
}

fn write(ports: &PeerPorts) -> Vec<u8> {
    let mut value = vec![u8::from(ports.fail_safe) * FAIL_SAFE];
    for list in [&ports.enabled, &ports.disabled, &ports.monitored, &ports.silent, &ports.failed] {
        value.push(b'\n');
        value.extend_from_slice(list.join(" ").as_bytes());
    }
    value
}

/// Nothing, if it makes no sense. Ids hold only what ours may.
fn read(value: &[u8]) -> Option<PeerPorts> {
    let (flags, text) = value.split_first()?;
    let text = core::str::from_utf8(text).ok()?.strip_prefix('\n')?;
    let fits = |c: char| c.is_ascii_alphanumeric() || " \n_./:@-".contains(c);
    if !text.chars().all(fits) {
        return None;
    }
    let lists: Vec<Vec<String>> =
        text.split('\n').map(|list| list.split_whitespace().map(str::to_owned).collect()).collect();
    let [enabled, disabled, monitored, silent, failed] = <[_; LISTS]>::try_from(lists).ok()?;
    Some(PeerPorts { enabled, disabled, monitored, silent, failed, fail_safe: flags & FAIL_SAFE != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read() {
        let ids = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let ports = PeerPorts {
            enabled: ids(&["1/1", "1/2"]),
            disabled: Vec::new(),
            monitored: ids(&["1/1"]),
            silent: ids(&["1/2"]),
            failed: ids(&["1/1"]),
            fail_safe: true,
        };
        assert_eq!(read(&write(&ports)), Some(ports));
        assert_eq!(read(&write(&PeerPorts::default())), Some(PeerPorts::default()));
    }

    #[test]
    fn nonsense_is_not_shown() {
        for value in [
            &b""[..],
            b"\x01",
            b"\x01x",
            b"\x01\n1/1\n",
            b"\x01\n\x1b[2J\n\n\n\n",
            b"\x00\n\n\n\n\n\n",
            b"\x00\n\xff\n\n\n\n",
        ] {
            assert_eq!(read(value), None, "{value:?}");
        }
    }
}
