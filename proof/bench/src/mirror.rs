//! The mirror stream from a sender to a receiver, in memory.

use std::time::Instant as Clock;

use holdfast_base::Instant;
use holdfast_engine::{FlowRecord, FlowRef, L2Disc, Phase};
use holdfast_mirror::{Digest, Item, Limits, Receiver, Sender, Source};
use holdfast_wire::{Addr, Endpoint};

/// What a bulk transfer cost.
pub struct Cost {
    /// Payload bytes per record, without envelope.
    pub bytes_per_record: f64,
    /// Records per second, both ends on one thread.
    pub records_per_second: f64,
}

struct Table {
    v6: bool,
}

impl Source for Table {
    fn record(&mut self, flow: FlowRef) -> Option<FlowRecord> {
        let addr = |net: u8, host: u32| {
            let [_, b, c, d] = host.to_be_bytes();
            if !self.v6 {
                return Addr::v4([10, net, c, d]);
            }
            Addr([0x20, 1, 0xd, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, 0, b, c, d])
        };
        Some(FlowRecord {
            stamp: u64::from(flow.slot) + 1,
            proto: 6,
            l2: L2Disc(0),
            client: Endpoint { addr: addr(1, flow.slot.wrapping_mul(2_654_435_761) >> 16), port: flow.slot as u16 },
            vip: Endpoint { addr: addr(2, 100), port: 80 },
            server: Endpoint { addr: addr(3, flow.slot % 16), port: 80 },
            source: Endpoint { addr: addr(3, 200), port: (flow.slot as u16) | 1024 },
            phase: Phase::Opening,
            client_idle_s: 9000,
            server_idle_s: 9000,
        })
    }

    fn digest(&mut self) -> Digest {
        Digest::default()
    }
}

/// Sends `records` flow records through the stream.
pub fn bulk(records: u32, v6: bool) -> Cost {
    let now = Instant::ZERO;
    let (mut sender, mut receiver) = (Sender::new(Limits::default()), Receiver::new(Limits::default()));
    sender.start(now, 1);
    receiver.start(1);
    let (mut pushed, mut received) = (0, 0);
    let (mut payload, mut ack) = (Vec::new(), Vec::new());
    let start = Clock::now();
    while received < records {
        while pushed < records && sender.wants_bulk() {
            sender.push_bulk(Item::Flow(FlowRef { slot: pushed, generation: 1 }));
            pushed += 1;
        }
        while sender.wants_marks() && sender.poll_transmit(now, &mut Table { v6 }, &mut payload) {
            receiver.handle_data(now, &payload).expect("our own payload");
        }
        while receiver.poll_record().is_some() {
            received += 1;
        }
        if receiver.poll_ack(now, &mut ack) {
            sender.handle_ack(now, &ack, &mut |_, _| {}).expect("our own ack");
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    Cost {
        bytes_per_record: sender.stats(now).bytes as f64 / f64::from(records),
        records_per_second: f64::from(records) / seconds,
    }
}
