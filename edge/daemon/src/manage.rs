//! The management thread: whatever may take its time.

use crate::control::{self, Clients};
use crate::data::Pulse;
use crate::key;
use crate::links::{LinkJob, SharedAddresses};
use crate::log::Log;
use crate::notify::ServiceManager;
use crate::probe::probe;
use crate::queue::{InboxSender, Input, Job};
use crate::role_hooks::RoleHooks;
use crate::store::Store;
use crate::witness::WitnessClient;
use anyhow::{Context, Result};
use holdfast_fastpath::Sweeper;
use holdfast_node::{Level, ProbeRequest};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

/// Time for the hand-over to the peer after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// Pause before a term that could not be stored is tried again.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// Probes under way at the same time; the others wait their turn.
const PROBE_LIMIT: usize = 512;

/// All that the management thread works with.
pub struct Manager {
    /// To the data thread.
    pub inbox: InboxSender,
    /// To the thread that watches interfaces.
    pub links: SyncSender<LinkJob>,
    /// The host's addresses.
    pub addresses: SharedAddresses,
    /// Files.
    pub store: Store,
    /// Lines.
    pub log: Arc<Log>,
    /// Turns of the data thread.
    pub pulse: Arc<Pulse>,
    /// systemd, if there.
    pub manager: ServiceManager,
    /// Random; marks our echo requests.
    pub secret: u64,
}

/// Tasks of the manager that jobs are given to.
struct Desk {
    manager: Rc<Manager>,
    clients: Clients,
    terms: watch::Sender<u64>,
    configs: mpsc::Sender<(u64, String)>,
    probes: Arc<Semaphore>,
    hooks: RoleHooks,
    witness: WitnessClient,
}

impl Manager {
    /// Serves until the node has stopped, or must be.
    pub async fn run(self, mut jobs: mpsc::Receiver<Job>, listener: std::os::unix::net::UnixListener) -> Result<()> {
        let manager = Rc::new(self);
        let listener = tokio::net::UnixListener::from_std(listener).context("cannot serve the command socket")?;
        let desk = Desk::open(&manager, listener);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut dump = signal(SignalKind::user_defined1())?;
        spawn_local(feed_watchdog(Rc::clone(&manager)));
        manager.manager.ready();
        manager.log.info("ready");
        let mut give_up_at = None;
        loop {
            let deadline = async {
                match give_up_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = terminate.recv() => if manager.stop(&mut give_up_at).await { return Ok(()) },
                _ = interrupt.recv() => if manager.stop(&mut give_up_at).await { return Ok(()) },
                _ = dump.recv() => manager.inbox.deliver(Input::Dump).await,
                () = deadline => {
                    manager.log.warn("the peer did not take over in time: stopping without a hand-over");
                    return Ok(());
                }
                job = jobs.recv() => match job {
                    Some(Job::Stopped) | None => {
                        manager.log.info("stopped");
                        return Ok(());
                    }
                    Some(job) => desk.take(job),
                },
            }
        }
    }

    /// The first signal asks for a hand-over, the second one ends at once (`true`).
    async fn stop(&self, give_up_at: &mut Option<Instant>) -> bool {
        if give_up_at.is_some() {
            self.log.warn("told to stop a second time: stopping without a hand-over");
            return true;
        }
        *give_up_at = Some(Instant::now() + STOP_LIMIT);
        self.manager.stopping();
        self.log.info("told to stop: handing over to the peer");
        self.inbox.deliver(Input::Stop).await;
        false
    }

    fn link_job(&self, job: LinkJob) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.links.try_send(job) {
            self.log.error("the interface watcher does not answer; a change of interfaces or of the guard is lost");
        }
    }
}

impl Desk {
    fn open(manager: &Rc<Manager>, listener: tokio::net::UnixListener) -> Desk {
        let clients = Clients::default();
        let (terms, terms_taken) = watch::channel(0);
        let (configs, configs_taken) = mpsc::channel(64);
        spawn_local(control::serve(listener, clients.clone(), manager.inbox.clone()));
        spawn_local(store_terms(Rc::clone(manager), terms_taken));
        spawn_local(store_configs(Rc::clone(manager), configs_taken));
        let probes = Arc::new(Semaphore::new(PROBE_LIMIT));
        let hooks = RoleHooks::new(Arc::clone(&manager.log));
        let witness = WitnessClient::new(Arc::clone(&manager.log));
        Desk { manager: Rc::clone(manager), clients, terms, configs, probes, hooks, witness }
    }

    fn take(&self, job: Job) {
        let manager = &self.manager;
        match job {
            Job::Log(level, text) => {
                manager.log.line(level, &text);
                if level == Level::Info {
                    manager.manager.status(&text);
                }
            }
            Job::StoreTerm(term) => drop(self.terms.send_replace(term)),
            Job::StoreConfig { request, text } => {
                if self.configs.try_send((request, text)).is_err() {
                    let result = Err("too many saves are under way".to_owned());
                    let inbox = manager.inbox.clone();
                    spawn_local(async move { inbox.deliver(Input::ConfigStored { request, result }).await });
                }
            }
            Job::DeriveKey { request, password, salt } => {
                spawn_local(derive_key(Rc::clone(manager), request, password, salt));
            }
            Job::Interfaces(wanted) => manager.link_job(LinkJob::Wanted(wanted)),
            Job::FloatingMacs(list) => manager.link_job(LinkJob::FloatingMacs(list)),
            Job::Guard { floating, transit } => manager.link_job(LinkJob::Guard { floating, transit }),
            Job::Close(socket) => manager.link_job(LinkJob::Close(socket)),
            Job::Sweep(sweeper) => {
                spawn_local(sweep(Rc::clone(manager), sweeper));
            }
            Job::CheckLinks => manager.link_job(LinkJob::Check),
            Job::Probe(request) => {
                spawn_local(run_probe(Rc::clone(manager), Arc::clone(&self.probes), request));
            }
            Job::Witness(call) => {
                let inbox = manager.inbox.clone();
                self.witness.ask(call, move |number, answer| async move {
                    inbox.deliver(Input::Witness { number, answer }).await;
                });
            }
            Job::Hook(run) => self.hooks.take(run),
            Job::Reply(reply) => self.clients.reply(reply),
            // The loop above looks for it first.
            Job::Stopped => {}
        }
    }
}

/// Stores the newest term, again and again until it is durable: the node does
/// not use a term before that.
async fn store_terms(manager: Rc<Manager>, mut terms: watch::Receiver<u64>) {
    while terms.changed().await.is_ok() {
        loop {
            let term = *terms.borrow_and_update();
            let store = manager.store.clone();
            match spawn_blocking(move || store.save_term(term)).await {
                Ok(Ok(())) => {
                    manager.inbox.deliver(Input::TermStored(term)).await;
                    break;
                }
                Ok(Err(error)) => {
                    manager.log.error(&format!("{error:#}; until it works a node of a pair cannot become primary"))
                }
                Err(error) => manager.log.error(&format!("cannot store the term: {error}")),
            }
            sleep(STORE_RETRY).await;
        }
    }
}

async fn store_configs(manager: Rc<Manager>, mut configs: mpsc::Receiver<(u64, String)>) {
    while let Some((request, text)) = configs.recv().await {
        let store = manager.store.clone();
        let result = match spawn_blocking(move || store.save_config(&text)).await {
            Ok(result) => result.map_err(|error| format!("{error:#}")),
            Err(error) => Err(error.to_string()),
        };
        manager.inbox.deliver(Input::ConfigStored { request, result }).await;
    }
}

async fn derive_key(manager: Rc<Manager>, request: u64, password: String, salt: Vec<u8>) {
    match spawn_blocking(move || key::derive(&password, &salt)).await {
        Ok(Ok(key)) => manager.inbox.deliver(Input::PeerKey { request, key }).await,
        Ok(Err(error)) => manager.log.error(&format!("cannot derive the peer key: {error}")),
        Err(error) => manager.log.error(&format!("cannot derive the peer key: {error}")),
    }
}

async fn sweep(manager: Rc<Manager>, sweeper: Sweeper) {
    match spawn_blocking(move || sweeper.run()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => manager.log.error(&format!("old copies stay in the fast path: {error}")),
        Err(error) => manager.log.error(&format!("old copies stay in the fast path: {error}")),
    }
}

async fn run_probe(manager: Rc<Manager>, probes: Arc<Semaphore>, request: ProbeRequest) {
    let Ok(_turn) = probes.acquire().await else { return };
    let host = manager.addresses.read().map(|list| list.clone()).unwrap_or_default();
    let outcome = probe(&request, &host, manager.secret).await;
    manager.inbox.deliver(Input::ProbeOutcome { id: request.id, outcome }).await;
}

/// Tells systemd that we live, but only while the data thread turns.
async fn feed_watchdog(manager: Rc<Manager>) {
    let Some(limit) = ServiceManager::watchdog_interval() else { return };
    let mut ticks = interval((limit / 3).max(Duration::from_millis(600)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = 0;
    loop {
        ticks.tick().await;
        let turns = manager.pulse.turns.load(Ordering::Relaxed);
        if turns != seen {
            manager.manager.alive();
        }
        seen = turns;
    }
}
