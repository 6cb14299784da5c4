//! The witness's client: one key of an etcd, by its JSON gateway (API v3).
//!
//! A question is one or two small HTTP requests, each within a share of the
//! time in which an answer is of use; members are tried in turn, beginning with
//! the one that answered last. What comes back is bounded, and anything that is
//! not understood counts as no answer. A cell that holds anything but a claim counts as an
//! empty one: nobody can have lent anything by it.

use crate::log::Log;
use anyhow::{Context, Result, bail, ensure};
use holdfast_ha::{Claim, Held, WitnessAnswer, WitnessAsk};
use holdfast_node::{WitnessCall, claim_text, parse_claim};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

/// An answer is never longer; etcd's are some hundred bytes.
const ANSWER_LIMIT: u64 = 16 * 1024;
/// Letters of base64 (RFC 4648), which the gateway wants for keys and values.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// So much of a value that is no claim is told.
const TOLD: usize = 60;

/// What the cell holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    /// Nothing.
    Empty,
    /// What a node has written.
    Claim(Held),
    /// Something else, with its revision.
    Rubbish(String, u64),
}

impl Content {
    /// The claim, if there is one.
    fn claim(&self) -> Option<Held> {
        match self {
            Content::Claim(held) => Some(*held),
            Content::Empty | Content::Rubbish(..) => None,
        }
    }
}

/// Where a question is asked, and what is told of the cell.
struct Witness<'a> {
    member: SocketAddr,
    key: &'a str,
    log: &'a Log,
}

/// Asks the witness, one question at a time.
pub struct WitnessClient {
    log: Arc<Log>,
    /// The question that is under way.
    asking: RefCell<Option<JoinHandle<()>>>,
    /// The member that answered last.
    favourite: Rc<Cell<usize>>,
}

impl WitnessClient {
    /// A client that has asked nothing.
    pub fn new(log: Arc<Log>) -> WitnessClient {
        WitnessClient { log, asking: RefCell::default(), favourite: Rc::default() }
    }

    /// Asks; the question before is given up. `tell` gets the answer.
    pub fn ask<F: Future<Output = ()>>(&self, call: WitnessCall, tell: impl FnOnce(u32, WitnessAnswer) -> F + 'static) {
        let (favourite, log) = (Rc::clone(&self.favourite), Arc::clone(&self.log));
        let asking = spawn_local(async move {
            let answer = ask_members(&call, &favourite, &log).await;
            tell(call.number, answer).await;
        });
        if let Some(before) = self.asking.replace(Some(asking)) {
            before.abort();
        }
    }
}

/// Tries each member once.
async fn ask_members(call: &WitnessCall, favourite: &Cell<usize>, log: &Log) -> WitnessAnswer {
    let members = call.members.len();
    let share = call.patience / u32::try_from(members.max(1)).unwrap_or(u32::MAX);
    for turn in 0..members {
        let index = (favourite.get() + turn) % members;
        let key = encode(call.key.as_bytes());
        let witness = Witness { member: call.members[index], key: &key, log };
        if let Ok(Ok(answer)) = timeout(share, witness.ask(call.ask)).await {
            favourite.set(index);
            return answer;
        }
    }
    WitnessAnswer::Unreachable
}

impl Witness<'_> {
    async fn ask(&self, ask: WitnessAsk) -> Result<WitnessAnswer> {
        match ask {
            WitnessAsk::Look => Ok(WitnessAnswer::Holds(self.read().await?.claim())),
            WitnessAsk::Confirm(claim) => Ok(granted_or_held(&self.read().await?, claim)),
            WitnessAsk::Swap { expect: Some(expect), to } => {
                let value = encode(claim_text(expect).as_bytes());
                let compare = json!({"target": "VALUE", "result": "EQUAL", "key": self.key, "value": value});
                self.swap(&compare, to).await
            }
            WitnessAsk::Swap { expect: None, to } => {
                let unchanged = |revision: u64| {
                    let revision = revision.to_string();
                    json!({"target": "MOD", "result": "EQUAL", "key": self.key, "mod_revision": revision})
                };
                let compare = match self.read().await? {
                    Content::Empty => {
                        json!({"target": "CREATE", "result": "EQUAL", "key": self.key, "create_revision": "0"})
                    }
                    Content::Rubbish(_, revision) => unchanged(revision),
                    Content::Claim(held) if held.claim.term < to.term => unchanged(held.revision),
                    held @ Content::Claim(_) => return Ok(granted_or_held(&held, to)),
                };
                self.swap(&compare, to).await
            }
        }
    }

    /// Reads the cell, from the members' majority.
    async fn read(&self) -> Result<Content> {
        self.note(content(&post(self.member, "/v3/kv/range", &json!({"key": self.key})).await?)?)
    }

    /// Writes if the comparison holds, or if it was written so before.
    async fn swap(&self, compare: &Value, to: Claim) -> Result<WitnessAnswer> {
        let value = encode(claim_text(to).as_bytes());
        let question = json!({
            "compare": [compare],
            "success": [{"request_put": {"key": self.key, "value": value}}],
            "failure": [{"request_range": {"key": self.key}}],
        });
        let answer = post(self.member, "/v3/kv/txn", &question).await?;
        if answer.get("succeeded").and_then(Value::as_bool) == Some(true) {
            ensure!(answer.pointer("/responses/0/response_put").is_some(), "a success that wrote nothing");
            return Ok(WitnessAnswer::Granted);
        }
        let range = answer.pointer("/responses/0/response_range").context("neither success nor failure")?;
        Ok(granted_or_held(&self.note(content(range)?)?, to))
    }

    /// Tells of a value that no node can have written.
    fn note(&self, content: Content) -> Result<Content> {
        if let Content::Rubbish(text, _) = &content {
            self.log.warn(&format!(
                "the witness at {} holds {text:?} in this pair's cell, which no node has written: it counts as empty, and the \
                 next primary that registers replaces it",
                self.member
            ));
        }
        Ok(content)
    }
}

/// Whether the cell holds what was asked for.
fn granted_or_held(content: &Content, claim: Claim) -> WitnessAnswer {
    match content.claim() {
        Some(held) if held.claim == claim => WitnessAnswer::Granted,
        held => WitnessAnswer::Holds(held),
    }
}

/// The answer to a range of one key.
fn content(range: &Value) -> Result<Content> {
    ensure!(range.is_object() && range.get("error").is_none(), "not the answer to a range");
    let pairs = match range.get("kvs") {
        // A real one tells the cluster's revision, at the least.
        None => {
            ensure!(range.get("header").is_some(), "an empty answer without a header");
            return Ok(Content::Empty);
        }
        Some(pairs) => pairs.as_array().context("kvs is no list")?,
    };
    let [pair] = &pairs[..] else { bail!("{} values of one key", pairs.len()) };
    let revision = pair.get("mod_revision").and_then(Value::as_str).context("no revision")?.parse()?;
    // Without a value it holds an empty text.
    let value = pair.get("value").map_or(Some(""), Value::as_str).and_then(decode).context("no value")?;
    let text = String::from_utf8_lossy(&value);
    Ok(match parse_claim(&text) {
        Some(claim) => Content::Claim(Held { claim, revision }),
        None => Content::Rubbish(text.chars().take(TOLD).collect(), revision),
    })
}

/// One request on a connection of its own.
async fn post(member: SocketAddr, path: &str, body: &Value) -> Result<Value> {
    let mut stream = TcpStream::connect(member).await?;
    stream.set_nodelay(true)?;
    let body = body.to_string();
    // With HTTP/1.0 the answer is one piece, and ends with the connection.
    let head = format!("POST {path} HTTP/1.0\r\nHost: {member}\r\nContent-Type: application/json\r\n");
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    let mut answer = Vec::new();
    (&mut stream).take(ANSWER_LIMIT + 1).read_to_end(&mut answer).await?;
    ensure!(answer.len() as u64 <= ANSWER_LIMIT, "the answer is too long");
    body_of(&answer)
}

/// The body of a response that says OK.
fn body_of(answer: &[u8]) -> Result<Value> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no head")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    ensure!(version.starts_with("HTTP/1.") && status == "200", "status {status:?}");
    Ok(serde_json::from_slice(&answer[end + 4..])?)
}

/// Base64, padded.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(*group.get(at).unwrap_or(&0)));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// The bytes of padded base64; `None` if it is not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let letters = group.iter().take_while(|&&letter| letter != b'=').count();
        if group.len() != 4 || letters < 2 {
            return None;
        }
        let mut bits = 0u32;
        for letter in &group[..letters] {
            let value = ALPHABET.iter().position(|known| known == letter)?;
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        bits <<= 6 * (4 - letters);
        bytes.extend_from_slice(&bits.to_be_bytes()[1..letters]);
    }
    // Only what is written so counts.
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests;
