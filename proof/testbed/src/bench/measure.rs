//! Reading clocks and counters from outside: CPU time of processes, bytes on a link, memory, what a node counts.

use crate::node::Node;
use crate::ns::Namespace;
use crate::sys;
use anyhow::{Context, Result};
use std::time::{Duration, SystemTime};

/// A node answers a signal with its counters within this time.
const DUMP_LIMIT: Duration = Duration::from_secs(5);
/// Ticks a second in /proc/stat (`USER_HZ`, 100 on every architecture that Linux supports).
const TICK_NS: u64 = 10_000_000;

/// CPU time of all threads of a process, in nanoseconds.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("a process to be measured")?.flatten() {
        // A thread may end between the listing and the reading.
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// CPU time of the whole machine that was not idle, in nanoseconds; what a hypervisor took away is not in it.
pub fn machine_ns() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, …
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    Ok(busy * TICK_NS)
}

/// Resident memory of a process, bytes.
pub fn resident(pid: u32) -> Result<u64> {
    status_kib(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// How much of it lies in huge pages, bytes.
pub fn resident_huge(pid: u32) -> Result<u64> {
    status_kib(&format!("/proc/{pid}/smaps_rollup"), "AnonHugePages:")
}

fn status_kib(path: &str, label: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(label)).with_context(|| format!("{label} in {path}"))?;
    let kib: u64 = line.split_whitespace().next().context("a number")?.parse()?;
    Ok(kib * 1024)
}

/// What an interface has carried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// Bytes received, Ethernet headers included.
    pub rx_bytes: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes sent, Ethernet headers included.
    pub tx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
}

impl Link {
    /// The counters of `device` in a namespace.
    pub fn read(namespace: &Namespace, device: &str) -> Result<Link> {
        namespace.inside(|| Link::here(device))
    }

    /// The counters of `device` in the calling thread's namespace.
    pub fn here(device: &str) -> Result<Link> {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'));
        let words: Vec<u64> = line.context("the interface")?.split_whitespace().map_while(|w| w.parse().ok()).collect();
        let at = |index: usize| words.get(index).copied().unwrap_or(0);
        Ok(Link { rx_bytes: at(0), rx_packets: at(1), tx_bytes: at(8), tx_packets: at(9) })
    }

    /// What was carried since `before`.
    pub fn since(self, before: Link) -> Link {
        Link {
            rx_bytes: self.rx_bytes - before.rx_bytes,
            rx_packets: self.rx_packets - before.rx_packets,
            tx_bytes: self.tx_bytes - before.tx_bytes,
            tx_packets: self.tx_packets - before.tx_packets,
        }
    }

    /// Both directions.
    pub fn bytes(self) -> u64 {
        self.rx_bytes + self.tx_bytes
    }

    /// Both directions.
    pub fn packets(self) -> u64 {
        self.rx_packets + self.tx_packets
    }
}

/// What a node's mirror sender has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sender {
    /// Payload bytes, without envelope.
    pub bytes: u64,
    /// Records written.
    pub records: u64,
    /// Datagrams written.
    pub datagrams: u64,
    /// Datagrams sent again.
    pub retransmits: u64,
}

impl Sender {
    /// Asks a node for its counters (SIGUSR1) and reads them from its log.
    pub fn read(node: &Node) -> Result<Sender> {
        let before = std::fs::metadata(node.log())?.len();
        sys::signal(node.pid().context("a living node")?, libc::SIGUSR1)?;
        sys::wait_until("the node has written its counters", DUMP_LIMIT, || {
            let log = std::fs::read(node.log())?;
            let fresh = String::from_utf8_lossy(&log[usize::try_from(before)?.min(log.len())..]).into_owned();
            // The last line of a dump tells that all before it is there.
            if !fresh.lines().any(|line| line.contains(" node: ")) {
                return Ok(None);
            }
            Ok(fresh.lines().find_map(|line| line.split_once("mirror sender: ")).map(|(_, list)| Sender::parse(list)))
        })
    }

    /// `name value, name value`; what is not there is 0.
    fn parse(list: &str) -> Sender {
        let mut sender = Sender::default();
        for (name, value) in list.split(", ").filter_map(|pair| pair.split_once(' ')) {
            let value = value.parse().unwrap_or(0);
            match name {
                "bytes" => sender.bytes = value,
                "records" => sender.records = value,
                "datagrams" => sender.datagrams = value,
                "retransmits" => sender.retransmits = value,
                _ => {}
            }
        }
        sender
    }

    /// What was counted since `before`.
    pub fn since(self, before: Sender) -> Sender {
        Sender {
            bytes: self.bytes - before.bytes,
            records: self.records - before.records,
            datagrams: self.datagrams - before.datagrams,
            retransmits: self.retransmits - before.retransmits,
        }
    }
}

/// Seconds since midnight UTC, the scale on which log lines and our own readings are compared.
pub fn time_of_day() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() % 86_400.0
}

/// The time of a log line on the scale of [`time_of_day`].
pub fn line_time(line: &str) -> Option<f64> {
    let clock = line.split_once('T')?.1.split_once('Z')?.0;
    let mut parts = clock.split(':').map(str::parse::<f64>);
    let (hours, minutes, seconds) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    Some(hours * 3600.0 + minutes * 60.0 + seconds)
}

/// The value below which `share` of `values` lie; NaN if there are none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// The middle value; NaN if there are none.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((median(&values), quantile(&values, 0.99), quantile(&values, 1.0)), (50.0, 99.0, 100.0));
        assert!(median(&[]).is_nan());
        assert_eq!(quantile(&[3.0], 0.01), 3.0);
    }

    #[test]
    fn the_time_of_a_log_line_is_read() {
        let line = "2026-01-31T01:02:03.250000Z INFO caught up";
        assert_eq!(line_time(line), Some(3723.25));
        assert_eq!(line_time("no time"), None);
    }

    #[test]
    fn counters_of_a_dump_are_read_and_absent_ones_are_zero() {
        let sender = Sender::parse("datagrams 3, bytes 120, records 9");
        assert_eq!((sender.datagrams, sender.bytes, sender.records, sender.retransmits), (3, 120, 9, 0));
    }
}
