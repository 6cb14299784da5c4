//! The two bounded queues between the data thread and everybody else.

use crate::hooks::Hook;
use holdfast_engine::PortId;
use holdfast_fastpath::Sweeper;
use holdfast_ha::WitnessAnswer;
use holdfast_netio::{HostAddress, PortSockets};
use holdfast_node::{HookRun, Level, PortState, ProbeOutcome, ProbeRequest, Reply, WitnessCall};
use holdfast_wire::MacAddr;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, mpsc};

/// Inputs that may wait for the data thread.
const INBOX_LIMIT: usize = 1024;

/// Jobs that may wait for the management thread.
pub const JOB_LIMIT: usize = 4096;

/// Jobs that wait at the data thread when the management thread is behind.
/// Beyond it they are lost, counted and reported as an error.
const BACKLOG_LIMIT: usize = 65_536;

/// What the data thread is told.
pub enum Input {
    /// The data ports as they are.
    Ports {
        /// For the node.
        states: Vec<PortState>,
        /// Freshly opened ones.
        opened: Vec<Opened>,
        /// Ports whose device went away.
        closed: Vec<PortId>,
    },
    /// What the host's kernel owns.
    HostAddresses(Vec<HostAddress>),
    /// An operator's line.
    Command {
        /// Comes back in replies.
        request: u64,
        /// The words.
        line: String,
        /// Answer in JSON.
        json: bool,
    },
    /// A derived key.
    PeerKey {
        /// Of `Effect::DeriveKey`.
        request: u64,
        /// The key.
        key: [u8; 32],
    },
    /// A term is durable.
    TermStored(u64),
    /// A configuration is durable, or not.
    ConfigStored {
        /// Of `Effect::StoreConfig`.
        request: u64,
        /// Why not.
        result: Result<(), String>,
    },
    /// A probe is over.
    ProbeOutcome {
        /// Of the request.
        id: u64,
        /// What it found.
        outcome: ProbeOutcome,
    },
    /// The witness has answered, or has not.
    Witness {
        /// Of the question.
        number: u32,
        /// What came of it.
        answer: WitnessAnswer,
    },
    /// Write the driver's counters to the log.
    Dump,
    /// SIGTERM.
    Stop,
    /// Do harm, for tests (`--debug-hooks`).
    Hook(Hook),
}

/// A port that was opened.
pub struct Opened {
    /// Its number.
    pub port: PortId,
    /// How it receives and sends.
    pub sockets: PortSockets,
    /// How the fast path watches it, for `show`.
    pub how: String,
}

/// What the data thread wants done elsewhere.
#[derive(Debug)]
pub enum Job {
    /// Write a line.
    Log(Level, String),
    /// Make a term durable.
    StoreTerm(u64),
    /// Write the configuration.
    StoreConfig {
        /// Comes back.
        request: u64,
        /// The file.
        text: String,
    },
    /// Stretch a password.
    DeriveKey {
        /// Comes back.
        request: u64,
        /// What to stretch.
        password: String,
        /// With what.
        salt: Vec<u8>,
    },
    /// The wanted data ports: (id, device).
    Interfaces(Vec<(String, String)>),
    /// Ethernet addresses that devices let in beside their own: (device, address).
    FloatingMacs(Vec<(String, MacAddr)>),
    /// What the host's stack must not see.
    Guard {
        /// The node's own addresses.
        floating: Vec<IpAddr>,
        /// All transit too.
        transit: bool,
    },
    /// Probe a server.
    Probe(ProbeRequest),
    /// Ask the witness.
    Witness(WitnessCall),
    /// Run a program of the operator's.
    Hook(HookRun),
    /// Answer an operator.
    Reply(Reply),
    /// Close a socket where waiting does no harm.
    Close(PortSockets),
    /// Take out copies that nobody names any more.
    Sweep(Sweeper),
    /// A port failed: look at the interfaces now.
    CheckLinks,
    /// The hand-over is complete.
    Stopped,
}

/// Wakes a thread that waits on descriptors.
#[derive(Debug)]
struct EventFd(OwnedFd);

impl EventFd {
    fn new() -> io::Result<EventFd> {
        // SAFETY: plain system call; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a descriptor that nobody else owns.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn raise(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is eight readable bytes. A full counter is raised already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: `count` is eight writable bytes. An empty counter is clear already.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

/// The data thread's end of the queue towards it.
pub struct Inbox {
    receiver: mpsc::Receiver<Input>,
    wake: Arc<EventFd>,
}

/// Everybody else's end.
#[derive(Clone)]
pub struct InboxSender {
    sender: mpsc::SyncSender<Input>,
    wake: Arc<EventFd>,
}

/// Both ends of the queue towards the data thread.
pub fn inbox() -> io::Result<(InboxSender, Inbox)> {
    let wake = Arc::new(EventFd::new()?);
    let (sender, receiver) = mpsc::sync_channel(INBOX_LIMIT);
    Ok((InboxSender { sender, wake: Arc::clone(&wake) }, Inbox { receiver, wake }))
}

impl Inbox {
    /// The descriptor that is readable while inputs wait.
    pub fn raw_fd(&self) -> RawFd {
        self.wake.0.as_raw_fd()
    }

    /// Up to `limit` inputs. If more are left, the descriptor stays readable.
    pub fn take(&self, limit: usize) -> Vec<Input> {
        self.wake.clear();
        let inputs: Vec<Input> = self.receiver.try_iter().take(limit).collect();
        if inputs.len() == limit {
            self.wake.raise();
        }
        inputs
    }
}

impl InboxSender {
    /// Queues an input, or gives it back when the queue is full.
    pub fn try_send(&self, input: Input) -> Result<(), Input> {
        self.sender.try_send(input).map_err(|error| match error {
            mpsc::TrySendError::Full(input) | mpsc::TrySendError::Disconnected(input) => input,
        })?;
        self.wake.raise();
        Ok(())
    }

    /// Queues an input; waits while the queue is full. For threads that may.
    pub fn send(&self, input: Input) {
        if self.sender.send(input).is_ok() {
            self.wake.raise();
        }
    }

    /// Queues an input; waits while the queue is full. For tasks.
    pub async fn deliver(&self, mut input: Input) {
        while let Err(back) = self.try_send(input) {
            input = back;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

/// The data thread's end of the queue of jobs. Never waits.
pub struct JobSender {
    sender: tokio::sync::mpsc::Sender<Job>,
    backlog: VecDeque<Job>,
    lost: u64,
}

impl JobSender {
    /// Sends into `sender`.
    pub fn new(sender: tokio::sync::mpsc::Sender<Job>) -> JobSender {
        JobSender { sender, backlog: VecDeque::new(), lost: 0 }
    }

    /// Queues a job, in order. A term is never lost: without it the node could
    /// not lead again.
    pub fn send(&mut self, job: Job) {
        if self.backlog.len() >= BACKLOG_LIMIT && !matches!(job, Job::StoreTerm(_)) {
            self.lost += 1;
            return;
        }
        self.backlog.push_back(job);
        self.push_on();
    }

    /// Queues a log line.
    pub fn log(&mut self, level: Level, text: impl Into<String>) {
        self.send(Job::Log(level, text.into()));
    }

    /// Moves on what had to wait; returns whether nothing waits any more.
    pub fn push_on(&mut self) -> bool {
        use tokio::sync::mpsc::error::TrySendError;
        while let Some(job) = self.backlog.pop_front() {
            if let Err(TrySendError::Full(job) | TrySendError::Closed(job)) = self.sender.try_send(job) {
                self.backlog.push_front(job);
                return false;
            }
        }
        true
    }

    /// Jobs lost since the start.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}
