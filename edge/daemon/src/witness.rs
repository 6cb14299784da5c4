//! The witness's client: one key of an etcd, by its JSON gateway (API v3).
//!
//! A question is one or two small HTTP requests, each within a share of the
//! time in which an answer is of use; members are tried in turn, beginning with
//! the one that answered last. What comes back is bounded, and anything that is
//! not understood counts as no answer.

use anyhow::{Context, Result, bail, ensure};
use holdfast_ha::{Claim, Held, WitnessAnswer, WitnessAsk};
use holdfast_node::{WitnessCall, claim_text, parse_claim};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

/// An answer is never longer; etcd's are some hundred bytes.
const ANSWER_LIMIT: u64 = 16 * 1024;
/// Letters of base64 (RFC 4648), which the gateway wants for keys and values.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Asks the witness, one question at a time.
#[derive(Default)]
pub struct WitnessClient {
    /// The question that is under way.
    asking: RefCell<Option<JoinHandle<()>>>,
    /// The member that answered last.
    favourite: Rc<Cell<usize>>,
}

impl WitnessClient {
    /// Asks; the question before is given up. `tell` gets the answer.
    pub fn ask<F: Future<Output = ()>>(&self, call: WitnessCall, tell: impl FnOnce(u32, WitnessAnswer) -> F + 'static) {
        let favourite = Rc::clone(&self.favourite);
        let asking = spawn_local(async move {
            let answer = ask_members(&call, &favourite).await;
            tell(call.number, answer).await;
        });
        if let Some(before) = self.asking.replace(Some(asking)) {
            before.abort();
        }
    }
}

/// Tries each member once.
async fn ask_members(call: &WitnessCall, favourite: &Cell<usize>) -> WitnessAnswer {
    let members = call.members.len();
    let share = call.patience / u32::try_from(members.max(1)).unwrap_or(u32::MAX);
    for turn in 0..members {
        let index = (favourite.get() + turn) % members;
        if let Ok(Ok(answer)) = timeout(share, ask_member(call.members[index], &call.key, call.ask)).await {
            favourite.set(index);
            return answer;
        }
    }
    WitnessAnswer::Unreachable
}

async fn ask_member(member: SocketAddr, key: &str, ask: WitnessAsk) -> Result<WitnessAnswer> {
    let key = encode(key.as_bytes());
    match ask {
        WitnessAsk::Look => Ok(WitnessAnswer::Holds(read(member, &key).await?)),
        WitnessAsk::Confirm(claim) => {
            let held = read(member, &key).await?;
            Ok(if held.is_some_and(|held| held.claim == claim) {
                WitnessAnswer::Granted
            } else {
                WitnessAnswer::Holds(held)
            })
        }
        WitnessAsk::Swap { expect: Some(expect), to } => {
            let value = encode(claim_text(expect).as_bytes());
            let compare = json!({"target": "VALUE", "result": "EQUAL", "key": key, "value": value});
            swap(member, &key, &compare, to).await
        }
        WitnessAsk::Swap { expect: None, to } => {
            let compare = match read(member, &key).await? {
                None => json!({"target": "CREATE", "result": "EQUAL", "key": key, "create_revision": "0"}),
                Some(held) if held.claim.term < to.term => {
                    let revision = held.revision.to_string();
                    json!({"target": "MOD", "result": "EQUAL", "key": key, "mod_revision": revision})
                }
                Some(held) if held.claim == to => return Ok(WitnessAnswer::Granted),
                held @ Some(_) => return Ok(WitnessAnswer::Holds(held)),
            };
            swap(member, &key, &compare, to).await
        }
    }
}

/// Reads the cell, from the members' majority.
async fn read(member: SocketAddr, key: &str) -> Result<Option<Held>> {
    held(&post(member, "/v3/kv/range", &json!({"key": key})).await?)
}

/// Writes if the comparison holds, or if it was written so before.
async fn swap(member: SocketAddr, key: &str, compare: &Value, to: Claim) -> Result<WitnessAnswer> {
    let value = encode(claim_text(to).as_bytes());
    let question = json!({
        "compare": [compare],
        "success": [{"request_put": {"key": key, "value": value}}],
        "failure": [{"request_range": {"key": key}}],
    });
    let answer = post(member, "/v3/kv/txn", &question).await?;
    if answer.get("succeeded").and_then(Value::as_bool) == Some(true) {
        ensure!(answer.pointer("/responses/0/response_put").is_some(), "a success that wrote nothing");
        return Ok(WitnessAnswer::Granted);
    }
    let range = answer.pointer("/responses/0/response_range").context("neither success nor failure")?;
    let held = held(range)?;
    Ok(if held.is_some_and(|held| held.claim == to) { WitnessAnswer::Granted } else { WitnessAnswer::Holds(held) })
}

/// The answer to a range of one key.
fn held(range: &Value) -> Result<Option<Held>> {
    ensure!(range.is_object() && range.get("error").is_none(), "not the answer to a range");
    let pairs = match range.get("kvs") {
        // A real one tells the cluster's revision, at the least.
        None => {
            ensure!(range.get("header").is_some(), "an empty answer without a header");
            return Ok(None);
        }
        Some(pairs) => pairs.as_array().context("kvs is no list")?,
    };
    let [pair] = &pairs[..] else { bail!("{} values of one key", pairs.len()) };
    let text = pair.get("value").and_then(Value::as_str).and_then(decode).context("no value")?;
    let revision = pair.get("mod_revision").and_then(Value::as_str).context("no revision")?.parse()?;
    let claim = std::str::from_utf8(&text).ok().and_then(parse_claim).context("somebody else's value")?;
    Ok(Some(Held { claim, revision }))
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
