//! A flight recorder: the newest frames of every cable, kept by the kernel in rings and written as pcap files on demand.
//!
//! Each cable has an AF_PACKET ring (TPACKET_V3). The kernel fills block after block; a block goes back to it only when
//! few free ones are left, so what lies in the ring is the recent past, and nothing is copied until somebody asks.

use crate::lab::Lab;
use crate::ns::Namespace;
use crate::sys;
use anyhow::{Context, Result, anyhow};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes kept of each frame: all headers, and the lead of a stream.
const SNAP: u32 = 112;
const BLOCK_SIZE: usize = 256 * 1024;
/// 24 MB a cable: some twenty seconds of a campaign.
const BLOCKS: usize = 96;
/// Blocks that are always free for the kernel to fill.
const FREE_BLOCKS: usize = 12;
/// A block that is not full is handed over after this time, in ms.
const RETIRE_MS: u32 = 500;
const FRAME_SIZE: usize = 2048;

/// A running recorder; stops on drop.
pub struct Recorder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Ring>>>,
}

impl Recorder {
    /// Records all cables of the lab: seven at the switch's end, and the one between the nodes.
    pub fn start(lab: &Lab) -> Result<Recorder> {
        let mut rings = Vec::new();
        for cable in ["cl", "a-c", "b-c", "a-s", "b-s", "s1", "s2"] {
            rings.push(Ring::open(&lab.switch, cable, cable)?);
        }
        rings.push(Ring::open(&lab.nodes[0], "eth-p", "peer")?);
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::spawn(move || {
            while !flag.load(Ordering::SeqCst) {
                rings.iter_mut().for_each(Ring::recycle);
                sys::pause(Duration::from_millis(20));
            }
            rings
        });
        Ok(Recorder { stop, thread: Some(thread) })
    }

    /// Stops and writes `<cable>.pcap` into `directory`.
    pub fn write(mut self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        // What was seen last lies in blocks that the kernel still has.
        sys::pause(Duration::from_millis(u64::from(2 * RETIRE_MS)));
        for ring in self.end()? {
            let path = directory.join(format!("{}.pcap", ring.name));
            std::fs::write(&path, ring.pcap()).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Vec<Ring>> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().ok_or_else(|| anyhow!("the recorder has ended"))?;
        thread.join().map_err(|_| anyhow!("the recorder panicked"))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.end();
        }
    }
}

/// One cable's ring.
struct Ring {
    name: String,
    memory: *mut u8,
    /// The oldest block that is ours.
    first: usize,
    /// Keeps the mapping's socket open.
    _socket: OwnedFd,
}

// SAFETY: the mapping belongs to this value alone; the kernel's side is synchronised by each block's status word.
unsafe impl Send for Ring {}

impl Ring {
    fn open(namespace: &Namespace, interface: &str, name: &str) -> Result<Ring> {
        let socket = namespace.inside(|| sys::packet_socket(interface))?;
        let off: libc::c_int = 0;
        set(&socket, libc::PACKET_IGNORE_OUTGOING, &off)?;
        sys::truncate_received(&socket, SNAP)?;
        set(&socket, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as libc::c_int))?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_SIZE as u32,
            tp_block_nr: BLOCKS as u32,
            tp_frame_size: FRAME_SIZE as u32,
            tp_frame_nr: (BLOCK_SIZE / FRAME_SIZE * BLOCKS) as u32,
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::PACKET_RX_RING, &request)?;
        // SAFETY: a fresh shared mapping of the ring's size; its pages live until Drop unmaps them.
        let memory = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), BLOCK_SIZE * BLOCKS, access, libc::MAP_SHARED, socket.as_raw_fd(), 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("map the ring");
        }
        Ok(Ring { name: name.into(), memory: memory.cast(), first: 0, _socket: socket })
    }

    fn block(&self, index: usize) -> *mut u8 {
        // SAFETY: the index is taken modulo the number of blocks, so the result lies within the mapping.
        unsafe { self.memory.add(index % BLOCKS * BLOCK_SIZE) }
    }

    /// The word that says whose a block is.
    fn status(&self, index: usize) -> &AtomicU32 {
        let offset = std::mem::offset_of!(libc::tpacket_block_desc, hdr);
        // SAFETY: the status is the first word of the block's header, aligned, and shared with the kernel as an atomic.
        unsafe { &*self.block(index).add(offset).cast::<AtomicU32>() }
    }

    fn is_ours(&self, index: usize) -> bool {
        self.status(index).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// Gives the oldest blocks back until enough are free.
    fn recycle(&mut self) {
        let mut ours = (0..BLOCKS).take_while(|offset| self.is_ours(self.first + offset)).count();
        while ours > BLOCKS - FREE_BLOCKS {
            self.status(self.first).store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.first = (self.first + 1) % BLOCKS;
            ours -= 1;
        }
    }

    /// All that is in the ring, as a pcap file with nanoseconds.
    fn pcap(&self) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, SNAP, 1] {
            file.extend(u32::to_ne_bytes(word));
        }
        for index in (0..BLOCKS).map(|offset| self.first + offset).take_while(|index| self.is_ours(*index)) {
            self.add_block(index, &mut file);
        }
        file
    }

    fn add_block(&self, index: usize, file: &mut Vec<u8>) {
        let start = self.block(index);
        // SAFETY: the block is ours; its descriptor was filled by the kernel.
        let (count, mut at) = unsafe {
            let descriptor = &*start.cast::<libc::tpacket_block_desc>();
            (descriptor.hdr.bh1.num_pkts, descriptor.hdr.bh1.offset_to_first_pkt as usize)
        };
        for _ in 0..count {
            if at + std::mem::size_of::<libc::tpacket3_hdr>() > BLOCK_SIZE {
                return;
            }
            // SAFETY: the header lies within the block, aligned as the kernel aligns it.
            let header = unsafe { &*start.add(at).cast::<libc::tpacket3_hdr>() };
            let (begin, length) = (at + usize::from(header.tp_mac), header.tp_snaplen as usize);
            if begin + length > BLOCK_SIZE {
                return;
            }
            for word in [header.tp_sec, header.tp_nsec, header.tp_snaplen, header.tp_len] {
                file.extend(word.to_ne_bytes());
            }
            // SAFETY: the range was just checked to lie within the block.
            file.extend_from_slice(unsafe { std::slice::from_raw_parts(start.add(begin), length) });
            if header.tp_next_offset == 0 {
                return;
            }
            at += header.tp_next_offset as usize;
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the very mapping made in `open`; no reference into it outlives this value.
        unsafe { libc::munmap(self.memory.cast(), BLOCK_SIZE * BLOCKS) };
    }
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> Result<()> {
    let length = std::mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the value and its length belong together, and the kernel only reads it.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, std::ptr::from_ref(value).cast(), length)
    };
    if done == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error()).with_context(|| format!("packet socket option {option}"))
}
