//! Listens to a node's cables, from the switch's end: does it speak for a floating address, and when does it announce them?
//!
//! A node that is not primary may send what its host sends (monitors, the peer link, neighbour discovery of kernel
//! addresses) and heartbeats, and nothing else.

use crate::lab::{Family, Lab};
use crate::sys;
use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Room for what comes while the listener is not run: a burst of a thousand frames does not fit into the usual buffer.
const RECEIVE_BUFFER: usize = 16 << 20;

/// What a watch has seen.
#[derive(Default)]
pub struct Seen {
    /// Frames in the name of a floating address.
    pub count: u64,
    /// The first of them, in words.
    pub first: Option<String>,
    /// When the first and the last of them were seen.
    pub span: Option<(Instant, Instant)>,
}

/// Listens to both data cables of a node; stops on drop.
pub struct Listener<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

/// Does the node speak for a floating address?
pub type Watch = Listener<Seen>;

/// When each floating address was first announced.
pub type Announcements = Listener<BTreeMap<IpAddr, Instant>>;

impl Watch {
    /// Watches from now on.
    pub fn start(lab: &Lab, node: usize) -> Result<Watch> {
        Watch::start_after(lab, node, Duration::ZERO)
    }

    /// Watches when `grace` is over.
    pub fn start_after(lab: &Lab, node: usize, grace: Duration) -> Result<Watch> {
        let own = Family::ALL.map(|family| family.server_net(11 + node as u8));
        let own: Vec<IpAddr> = own.iter().filter_map(|address| address.parse().ok()).collect();
        let started = Instant::now();
        Listener::open(lab, node, move |seen: &mut Seen, at, frame| {
            let after = at.saturating_duration_since(started);
            if after >= grace
                && let Some(story) = floating(frame, &own)
            {
                seen.count += 1;
                seen.span = Some((seen.span.map_or(at, |(first, _)| first), at));
                seen.first.get_or_insert_with(|| format!("{story}, {} ms after the failure", after.as_millis()));
            }
        })
    }
}

impl Announcements {
    /// Listens from now on.
    pub fn start(lab: &Lab, node: usize) -> Result<Announcements> {
        Listener::open(lab, node, |first: &mut BTreeMap<IpAddr, Instant>, at, frame| {
            if let Some(address) = announced(frame) {
                first.entry(address).or_insert(at);
            }
        })
    }
}

impl<T: Default + Send + 'static> Listener<T> {
    fn open(
        lab: &Lab,
        node: usize,
        mut note: impl FnMut(&mut T, Instant, &[u8]) + Send + 'static,
    ) -> Result<Listener<T>> {
        let prefix = ["a", "b"][node];
        let sockets = lab.switch.inside(|| {
            Ok([sys::packet_socket(&format!("{prefix}-c"))?, sys::packet_socket(&format!("{prefix}-s"))?])
        })?;
        for socket in &sockets {
            sys::force_receive_buffer(socket, RECEIVE_BUFFER)?;
            // Asked for the first time the kernel begins to keep it.
            sys::received_at(socket);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut told = T::default();
            listen(&sockets, &flag, |at, frame| note(&mut told, at, frame));
            told
        });
        Ok(Listener { stop, thread: Some(thread) })
    }

    /// Stops and tells.
    pub fn finish(mut self) -> Result<T> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().ok_or_else(|| anyhow!("the listener has ended"))?;
        thread.join().map_err(|_| anyhow!("the listener panicked"))
    }
}

impl<T> Drop for Listener<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Notes each frame with the time at which the kernel had it: this thread may get to it late.
fn listen(sockets: &[OwnedFd; 2], stop: &AtomicBool, mut note: impl FnMut(Instant, &[u8])) {
    let mut polls = sockets.each_ref().map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    while !stop.load(Ordering::SeqCst) {
        // SAFETY: two valid pollfd.
        unsafe { libc::poll(polls.as_mut_ptr(), 2, 20) };
        for fd in sockets {
            let mut frame = [0u8; 128];
            loop {
                // SAFETY: the buffer and its length belong together; longer frames are cut, which is enough here.
                let count =
                    unsafe { libc::recv(fd.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
                let Ok(count) = usize::try_from(count) else { break };
                note(sys::received_at(fd), &frame[..count]);
            }
        }
    }
}

/// The address that a gratuitous ARP packet or an unsolicited neighbour advertisement is about.
fn announced(frame: &[u8]) -> Option<IpAddr> {
    match frame.get(12..14)? {
        [0x08, 0x06] => {
            let (sender, target) = (frame.get(28..32)?.first_chunk::<4>()?, frame.get(38..42)?);
            (sender == target).then(|| IpAddr::from(*sender))
        }
        [0x86, 0xdd] if frame.get(20) == Some(&58) && frame.get(54) == Some(&136) => {
            Some(IpAddr::from(*frame.get(62..78)?.first_chunk::<16>()?))
        }
        _ => None,
    }
}

/// What a frame says in the name of an address that is not the host's own; `None` if it does not.
fn floating(frame: &[u8], own: &[IpAddr]) -> Option<String> {
    let at16 = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let v4 = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(*frame.get(at..)?.first_chunk::<4>()?)));
    let v6 = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(*frame.get(at..)?.first_chunk::<16>()?)));
    let foreign = |address: IpAddr| {
        let local = matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
        !local && !address.is_unspecified() && !own.contains(&address)
    };
    match at16(12)? {
        0x0806 => v4(28).filter(|sender| foreign(*sender)).map(|sender| format!("ARP by {sender}")),
        0x0800 => {
            let (source, target, protocol) = (v4(26)?, v4(30)?, *frame.get(23)?);
            foreign(source).then(|| format!("IPv4 protocol {protocol} {source} to {target}"))
        }
        0x86dd => {
            let (source, target, protocol) = (v6(22)?, v6(38)?, *frame.get(20)?);
            let advertisement = protocol == 58 && frame.get(54) == Some(&136);
            let subject = if advertisement { v6(62)? } else { source };
            foreign(subject).then(|| format!("IPv6 protocol {protocol} {source} to {target} about {subject}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arp(sender: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0; 42];
        frame[12..14].copy_from_slice(&[8, 6]);
        frame[28..32].copy_from_slice(&sender);
        frame
    }

    #[test]
    fn arp_for_a_floating_address_is_noticed_and_for_the_hosts_own_is_not() {
        let own = [IpAddr::from([198, 51, 100, 11])];
        assert!(floating(&arp([192, 0, 2, 100]), &own).is_some());
        assert!(floating(&arp([198, 51, 100, 11]), &own).is_none());
    }

    #[test]
    fn only_an_announcement_is_about_its_own_sender() {
        let mut frame = arp([192, 0, 2, 100]);
        assert_eq!(announced(&frame), None);
        frame[38..42].copy_from_slice(&[192, 0, 2, 100]);
        assert_eq!(announced(&frame), Some(IpAddr::from([192, 0, 2, 100])));
    }

    #[test]
    fn heartbeats_have_an_ethernet_type_of_their_own_and_forwarded_packets_are_noticed() {
        let mut frame = vec![0; 60];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[23] = 17;
        frame[26..30].copy_from_slice(&[192, 0, 2, 10]);
        assert!(floating(&frame, &[]).is_some());
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        assert!(floating(&frame, &[]).is_none());
    }
}
