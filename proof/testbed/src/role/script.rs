//! What one connection of the campaign does, told by its client in a header, and the two byte streams that follow.
//!
//! ```text
//! client → server   header (40 bytes), then `total` bytes of pattern 2·id     (exchange, sink)
//! server → client   greeting (8 bytes), then `total` bytes of pattern 2·id+1  (exchange, source)
//!
//! header    magic (4) script (4) id (8) total (8) chunk (8) interval in µs (8), big-endian
//! greeting  magic (4) number of the server (4)
//! ```

use super::pattern;
use std::io::{ErrorKind, Write};
use std::time::Duration;

/// Length of the header.
pub const HEADER: usize = 40;
/// Length of the greeting.
pub const GREETING: usize = 8;
const MAGIC: [u8; 4] = *b"hfcn";

/// Who sends what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Script {
    /// The server answers each byte with one of its own.
    Exchange,
    /// Only the server sends, at the pace of the header.
    Source,
    /// The server closes its direction at once and receives.
    Sink,
}

/// How fast how much is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// All of it, in bytes.
    pub total: u64,
    /// Bytes sent at a time.
    pub chunk: u64,
    /// Time between two chunks.
    pub interval: Duration,
}

/// The first bytes of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Number of the connection.
    pub id: u64,
    /// What to do.
    pub script: Script,
    /// The client's pace; the server's if the server is the source.
    pub pace: Pace,
}

impl Header {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let script: u32 = match self.script {
            Script::Exchange => 0,
            Script::Source => 1,
            Script::Sink => 2,
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(script.to_be_bytes());
        let interval = self.pace.interval.as_micros() as u64;
        for word in [self.id, self.pace.total, self.pace.chunk, interval] {
            bytes.extend(word.to_be_bytes());
        }
        bytes
    }

    /// From bytes; `None` if they are no header.
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        let script = match bytes.strip_prefix(&MAGIC)?.first_chunk::<4>()? {
            [0, 0, 0, 0] => Script::Exchange,
            [0, 0, 0, 1] => Script::Source,
            [0, 0, 0, 2] => Script::Sink,
            _ => return None,
        };
        let word = |index: usize| Some(u64::from_be_bytes(*bytes.get(8 + 8 * index..)?.first_chunk::<8>()?));
        let pace = Pace { total: word(1)?, chunk: word(2)?.max(1), interval: Duration::from_micros(word(3)?) };
        Some(Header { id: word(0)?, script, pace })
    }

    /// Bytes of pattern that the client sends.
    pub fn up(&self) -> u64 {
        if self.script == Script::Source { 0 } else { self.pace.total }
    }

    /// Bytes of pattern that the server sends.
    pub fn down(&self) -> u64 {
        if self.script == Script::Sink { 0 } else { self.pace.total }
    }
}

/// The server's first bytes.
pub fn greeting(server: u32) -> Vec<u8> {
    [MAGIC, server.to_be_bytes()].concat()
}

/// The number in a greeting.
pub fn greeted_by(bytes: &[u8]) -> Option<u32> {
    bytes.strip_prefix(&MAGIC)?.first_chunk::<4>().map(|word| u32::from_be_bytes(*word))
}

/// One sending direction: a lead (header or greeting), then pattern.
pub struct Outgoing {
    stream: u64,
    lead: Vec<u8>,
    queued: u64,
    sent: u64,
}

impl Outgoing {
    /// Everything of `lead` may be sent at once.
    pub fn new(stream: u64, lead: Vec<u8>) -> Outgoing {
        Outgoing { stream, queued: lead.len() as u64, lead, sent: 0 }
    }

    /// Allows pattern up to this many bytes.
    pub fn allow(&mut self, pattern: u64) {
        self.queued = self.queued.max(self.lead.len() as u64 + pattern);
    }

    /// Pattern bytes allowed so far.
    pub fn allowed(&self) -> u64 {
        self.queued - self.lead.len() as u64
    }

    /// Bytes handed to the kernel, lead included.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether all that is allowed is with the kernel.
    pub fn is_flushed(&self) -> bool {
        self.sent == self.queued
    }

    /// Hands over what the kernel takes. A real error shows at the next read as well.
    pub fn flush(&mut self, socket: &mut impl Write) -> std::io::Result<()> {
        while self.sent < self.queued {
            let written = match self.lead.get(self.sent as usize..).filter(|rest| !rest.is_empty()) {
                Some(rest) => socket.write(rest),
                None => {
                    let mut bytes = [0; 16 * 1024];
                    let count = (self.queued - self.sent).min(bytes.len() as u64) as usize;
                    pattern::fill(self.stream, self.sent - self.lead.len() as u64, &mut bytes[..count]);
                    socket.write(&bytes[..count])
                }
            };
            match written {
                Ok(count) => self.sent += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// One receiving direction: a lead that is kept, then pattern that is checked.
pub struct Incoming {
    stream: u64,
    lead_length: usize,
    lead: Vec<u8>,
    checked: u64,
}

impl Incoming {
    /// Nothing has arrived.
    pub fn new(stream: u64, lead_length: usize) -> Incoming {
        Incoming { stream, lead_length, lead: Vec::new(), checked: 0 }
    }

    /// Which pattern follows; the server learns it from the lead.
    pub fn set_stream(&mut self, stream: u64) {
        self.stream = stream;
    }

    /// The lead, once it is whole.
    pub fn lead(&self) -> Option<&[u8]> {
        (self.lead.len() == self.lead_length).then_some(&self.lead)
    }

    /// Pattern bytes received.
    pub fn checked(&self) -> u64 {
        self.checked
    }

    /// Bytes received.
    pub fn received(&self) -> u64 {
        self.lead.len() as u64 + self.checked
    }

    /// Takes what belongs to the lead; returns the rest.
    pub fn take_lead<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (lead, rest) = bytes.split_at(bytes.len().min(self.lead_length - self.lead.len()));
        self.lead.extend_from_slice(lead);
        rest
    }

    /// Takes pattern; returns how many bytes are wrong.
    pub fn take_pattern(&mut self, bytes: &[u8]) -> u64 {
        let mut expected = vec![0; bytes.len()];
        pattern::fill(self.stream, self.checked, &mut expected);
        self.checked += bytes.len() as u64;
        expected.iter().zip(bytes).filter(|(wanted, got)| wanted != got).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_as_it_was() {
        let pace = Pace { total: 5000, chunk: 77, interval: Duration::from_micros(12_345) };
        for script in [Script::Exchange, Script::Source, Script::Sink] {
            let header = Header { id: 42, script, pace };
            assert_eq!(header.encode().len(), HEADER);
            assert_eq!(Header::decode(&header.encode()), Some(header));
        }
        assert_eq!(Header::decode(&[0; HEADER]), None);
    }

    #[test]
    fn what_one_end_sends_the_other_accepts_and_a_flipped_bit_counts() {
        let mut out = Outgoing::new(9, greeting(2));
        out.allow(50_000);
        let mut wire = Vec::new();
        assert!(out.flush(&mut wire).is_ok() && out.is_flushed());
        let mut incoming = Incoming::new(9, GREETING);
        let mut wrong = 0;
        for chunk in wire.chunks(7) {
            let rest = incoming.take_lead(chunk);
            wrong += incoming.take_pattern(rest);
        }
        assert_eq!((wrong, incoming.checked(), incoming.lead().and_then(greeted_by)), (0, 50_000, Some(2)));
        wire[100] ^= 1;
        wire[200] ^= 4;
        let mut second = Incoming::new(9, GREETING);
        let rest = second.take_lead(&wire);
        assert_eq!(second.take_pattern(rest), 2);
    }
}
