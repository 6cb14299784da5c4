//! The command socket: one JSON object per line, both ways.
//!
//! Request: `{"line":"show lb vserver","json":false}`. Answer: one or more
//! `{"text":"…","ok":true,"last":false}`; the one with `last` ends it.

use crate::queue::{InboxSender, Input};
use anyhow::{Context, Result, bail};
use holdfast_node::Reply;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;
use tokio::time::timeout;

/// Longest request in bytes.
const LINE_LIMIT: usize = 64 * 1024;

/// Clients at the same time. One more takes the place of the one that has been
/// idle for longest.
const CLIENT_LIMIT: usize = 64;

/// Parts of an answer that may wait for a slow client; beyond it the client is cut off.
const PARTS_LIMIT: usize = 4096;

/// The node answers in microseconds; only a save or a hand-over takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Binds the command socket so that only its owner can use it. Call it before
/// there are other threads: it changes the process's umask for a moment.
pub fn bind(path: &Path) -> Result<std::os::unix::net::UnixListener> {
    let attempt = || format!("cannot open the command socket {} (choose another one with --socket)", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(attempt)?;
    }
    remove_stale(path).with_context(attempt)?;
    // SAFETY: no preconditions; restored two lines below.
    let old = unsafe { libc::umask(0o177) };
    let listener = std::os::unix::net::UnixListener::bind(path);
    // SAFETY: no preconditions.
    unsafe { libc::umask(old) };
    let listener = listener.with_context(attempt)?;
    listener.set_nonblocking(true).with_context(attempt)?;
    Ok(listener)
}

/// A killed daemon leaves its socket file behind; a living one answers on it.
fn remove_stale(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(found) if !found.file_type().is_socket() => bail!("a file that is no socket is in the way"),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => bail!("another holdfastd serves it"),
        Err(_) => Ok(std::fs::remove_file(path)?),
    }
}

/// Requests under way, and the clients that wait for them.
#[derive(Clone, Default)]
pub struct Clients {
    waiting: Rc<RefCell<HashMap<u64, mpsc::Sender<Reply>>>>,
    last_request: Rc<RefCell<u64>>,
    /// Clients that have asked nothing, or whose request is not complete: the longest idle first.
    idle: Rc<RefCell<VecDeque<Rc<Notify>>>>,
    count: Rc<()>,
}

impl Clients {
    /// Hands a part of an answer to the client that asked. A client that does
    /// not read is forgotten: its connection ends without the last part.
    pub fn reply(&self, reply: Reply) {
        let mut waiting = self.waiting.borrow_mut();
        let (request, last) = (reply.request, reply.last);
        let delivered = waiting.get(&request).is_some_and(|client| client.try_send(reply).is_ok());
        if last || !delivered {
            waiting.remove(&request);
        }
    }

    fn register(&self) -> (u64, mpsc::Receiver<Reply>) {
        let (sender, receiver) = mpsc::channel(PARTS_LIMIT);
        let mut last = self.last_request.borrow_mut();
        *last += 1;
        self.waiting.borrow_mut().insert(*last, sender);
        (*last, receiver)
    }

    fn forget(&self, request: u64) {
        self.waiting.borrow_mut().remove(&request);
    }

    /// Tells the client that has been idle for longest to go. False if none is idle.
    fn dismiss_one(&self) -> bool {
        let longest = self.idle.borrow_mut().pop_front();
        longest.is_some_and(|client| {
            client.notify_one();
            true
        })
    }

    /// The client has nothing to be done: it may be dismissed.
    fn rest(&self, client: &Rc<Notify>) {
        self.idle.borrow_mut().push_back(Rc::clone(client));
    }

    /// Reads a resting client's request; `None` if it must go before that is complete.
    async fn next_request(
        &self,
        read: &mut BufReader<OwnedReadHalf>,
        client: &Rc<Notify>,
    ) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let outcome = tokio::select! {
            biased;
            read = async { read.take(LINE_LIMIT as u64 + 1).read_until(b'\n', &mut line).await } => read.map(Some),
            () = client.notified() => Ok(None),
        };
        self.idle.borrow_mut().retain(|other| !Rc::ptr_eq(other, client));
        Ok(outcome?.map(|_| line))
    }
}

/// Serves clients for ever.
pub async fn serve(listener: UnixListener, clients: Clients, inbox: InboxSender) {
    loop {
        match listener.accept().await {
            Ok((mut stream, _)) => {
                // One count is the caller's own, one is ours.
                if Rc::strong_count(&clients.count) - 2 >= CLIENT_LIMIT && !clients.dismiss_one() {
                    let refusal = part("ERROR: Too many clients are connected", false, true);
                    spawn_local(async move { stream.write_all(refusal.as_bytes()).await });
                    continue;
                }
                let (clients, inbox, client) = (clients.clone(), inbox.clone(), Rc::new(Notify::new()));
                clients.rest(&client);
                // A client that went away needs no answer.
                spawn_local(async move { serve_one(stream, &clients, &client, &inbox).await });
            }
            // Out of descriptors: do not spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve_one(
    stream: UnixStream,
    clients: &Clients,
    client: &Rc<Notify>,
    inbox: &InboxSender,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let Some(line) = clients.next_request(&mut read, client).await?.filter(|line| !line.is_empty()) else {
            return Ok(());
        };
        if line.len() > LINE_LIMIT {
            return write.write_all(part("ERROR: The request is longer than 64 KiB", false, true).as_bytes()).await;
        }
        let Some((command, json)) = parse_request(&line) else {
            let refusal = part("ERROR: A request is {\"line\":\"<command>\",\"json\":false}", false, true);
            write.write_all(refusal.as_bytes()).await?;
            clients.rest(client);
            continue;
        };
        let (request, mut replies) = clients.register();
        inbox.deliver(Input::Command { request, line: command, json }).await;
        let outcome = forward_answer(&mut replies, &mut write).await;
        clients.forget(request);
        outcome?;
        clients.rest(client);
    }
}

/// Passes on all parts of one answer.
async fn forward_answer(replies: &mut mpsc::Receiver<Reply>, write: &mut OwnedWriteHalf) -> std::io::Result<()> {
    loop {
        let Ok(reply) = timeout(ANSWER_LIMIT, replies.recv()).await else {
            return write.write_all(part("ERROR: The node did not answer in time", false, true).as_bytes()).await;
        };
        // Forgotten because we did not read in time.
        let Some(reply) = reply else { return Err(ErrorKind::BrokenPipe.into()) };
        // Who asks and does not read is not waited for.
        timeout(ANSWER_LIMIT, write.write_all(part(&reply.text, reply.ok, reply.last).as_bytes())).await??;
        if reply.last {
            return Ok(());
        }
    }
}

pub(crate) fn parse_request(line: &[u8]) -> Option<(String, bool)> {
    let request: Value = serde_json::from_slice(line).ok()?;
    let command = request.get("line")?.as_str()?.to_owned();
    Some((command, request.get("json").and_then(Value::as_bool).unwrap_or(false)))
}

fn part(text: &str, ok: bool, last: bool) -> String {
    json!({ "text": text, "ok": ok, "last": last }).to_string() + "\n"
}
