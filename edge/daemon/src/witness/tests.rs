//! The client against members that lie, stall and talk too much. (The testbed
//! has the real etcd.)

use super::*;
use holdfast_ha::NodeId;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_millis(300);

fn log() -> Log {
    Log::new(crate::log::Format::Text)
}

fn claim(term: u64) -> Claim {
    Claim { owner: NodeId(0xffff_0a00_0001), term }
}

fn call(members: Vec<SocketAddr>, ask: WitnessAsk) -> WitnessCall {
    WitnessCall { number: 1, members, key: "/holdfast/10.0.0.1,10.0.0.2/primary".into(), ask, patience: PATIENCE }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

/// A member that says this to everybody, and then closes, or does not.
async fn member(answer: Vec<u8>, closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let place = listener.local_addr().expect("it is bound");
    spawn_local(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let mut question = [0; 4096];
            let _ = stream.read(&mut question).await;
            let _ = stream.write_all(&answer).await;
            if !closes {
                kept.push(stream);
            }
        }
    });
    place
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}").into_bytes()
}

fn range(value: &str) -> String {
    let value = encode(value.as_bytes());
    format!(
        r#"{{"header":{{"revision":"9"}},"kvs":[{{"key":"aw==","value":"{value}","mod_revision":"7"}}],"count":"1"}}"#
    )
}

#[test]
fn base64_is_what_others_make_of_it() {
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        assert_eq!(encode(bytes.as_bytes()), text);
        assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
    }
    for text in ["Z", "Zg=", "Zg", "Zh==", "Z===", "====", "Zm9v!", "Zm 9", "Zg==Zg=="] {
        assert_eq!(decode(text), None, "{text:?}");
    }
}

#[test]
fn what_the_cell_holds_is_read() {
    let holds = |value: &str| {
        run(async {
            let place = member(ok(&range(value)), true).await;
            ask_members(&call(vec![place], WitnessAsk::Look), &Cell::new(0), &log()).await
        })
    };
    assert_eq!(holds("10.0.0.1 5"), WitnessAnswer::Holds(Some(Held { claim: claim(5), revision: 7 })));
    // What no node has written is no claim, and the witness answers all the same.
    for rubbish in ["hello", "", "10.0.0.1 05", "\u{0}"] {
        assert_eq!(holds(rubbish), WitnessAnswer::Holds(None), "{rubbish:?}");
    }
}

#[test]
fn nonsense_is_no_answer() {
    let put = r#"{"succeeded":true,"responses":[{"response_put":{}}]}"#;
    let long = vec![b'x'; 100_000];
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH\r\n\r\n{}".to_vec(),
        b"HTTP/1.0 500 No\r\n\r\n{\"succeeded\":true}".to_vec(),
        format!("HTTP/1.0 302 Found\r\n\r\n{put}").into_bytes(),
        ok(""),
        ok("{"),
        ok("[]"),
        ok("7"),
        ok("{}"),
        ok(r#"{"succeeded":true}"#),
        ok(r#"{"succeeded":"true","responses":[{"response_put":{}}]}"#),
        ok(r#"{"error":"etcdserver: no leader","code":14}"#),
        ok(r#"{"kvs":{}}"#),
        ok(r#"{"kvs":[]}"#),
        ok(r#"{"kvs":[{},{}]}"#),
        ok(r#"{"kvs":[{"value":"!!!!","mod_revision":"1"}]}"#),
        ok(&range("10.0.0.1 5").replace("\"7\"", "\"-7\"")),
        ok(&"[".repeat(10_000)),
        ok(&" ".repeat(100_000)),
        long,
        vec![0xff; 300],
    ];
    for answer in bodies {
        for ask in [
            WitnessAsk::Look,
            WitnessAsk::Confirm(claim(5)),
            WitnessAsk::Swap { expect: Some(claim(4)), to: claim(5) },
            WitnessAsk::Swap { expect: None, to: claim(5) },
        ] {
            let told = String::from_utf8_lossy(&answer[..answer.len().min(80)]).into_owned();
            let got = run(async {
                let place = member(answer.clone(), true).await;
                ask_members(&call(vec![place], ask), &Cell::new(0), &log()).await
            });
            assert_eq!(got, WitnessAnswer::Unreachable, "{ask:?}: {told:?}");
        }
    }
}

#[test]
fn a_member_that_stalls_leaves_time_for_the_next() {
    run(async {
        let mute = member(Vec::new(), false).await;
        let drips = member(b"HTTP/1.0 200 OK\r\n".to_vec(), false).await;
        let good = member(ok(&range("10.0.0.1 5")), true).await;
        let favourite = Cell::new(0);
        let began = Instant::now();
        let ask = call(vec![mute, drips, good], WitnessAsk::Confirm(claim(5)));
        assert_eq!(ask_members(&ask, &favourite, &log()).await, WitnessAnswer::Granted);
        assert!(began.elapsed() < PATIENCE);
        // It is the first to be asked from now on.
        let began = Instant::now();
        assert_eq!(ask_members(&ask, &favourite, &log()).await, WitnessAnswer::Granted);
        assert!(began.elapsed() < PATIENCE / 3);
        let ask = call(vec![mute, drips], WitnessAsk::Look);
        assert_eq!(ask_members(&ask, &favourite, &log()).await, WitnessAnswer::Unreachable);
    });
}

#[test]
fn a_later_question_replaces_the_one_before() {
    run(async {
        let mute = member(Vec::new(), false).await;
        let good = member(ok(&range("10.0.0.1 5")), true).await;
        let client = WitnessClient::new(Arc::new(log()));
        let (told, mut heard) = tokio::sync::mpsc::channel(2);
        for (number, place) in [(1, mute), (2, good)] {
            let told = told.clone();
            let ask = WitnessCall { number, ..call(vec![place], WitnessAsk::Look) };
            client.ask(ask, move |number, _| async move { told.send(number).await.expect("the test listens") });
        }
        drop(told);
        // It ends when nobody is left who could tell.
        assert_eq!((heard.recv().await, heard.recv().await), (Some(2), None));
    });
}
