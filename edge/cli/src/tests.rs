//! The shell without a node, and with one that is a thread of the test.

use crate::client::{Client, Outcome};
use crate::print::question_in;
use crate::status::{Verdict, judge};
use crate::words::{command_line, has_secret};
use crate::{Args, batch, shell};
use clap::Parser;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;

fn words(line: &[&str]) -> String {
    command_line(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

#[test]
fn arguments_become_one_line_and_keep_their_blanks() {
    assert_eq!(words(&["show", "lb", "vserver"]), "show lb vserver");
    assert_eq!(words(&["show lb vserver"]), "show lb vserver");
    assert_eq!(words(&["set", "x", "-comment", "a \"b\" c\\"]), r#"set x -comment "a \"b\" c\\""#);
    assert_eq!(words(&["set", "x", ""]), "set x \"\"");
}

/// What a shell hands over of a filter with quotes of its own means what it means in our shell.
#[test]
fn a_filter_keeps_its_quotes_on_the_way_to_the_node() {
    let filter = |line: &str| {
        let command = holdfast_config::parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        holdfast_config::ConnectionFilter::parse(command.connection_filter().unwrap()).unwrap()
    };
    for (typed, tail) in [
        ("VSVRNAME == \"nat\"", &[][..]),
        ("VSVRNAME == \"nat\" && STATE == 'ESTABLISHED'", &[]),
        ("CONNECTION.LB_VSERVER.NAME.EQ(\"nat\")", &[]),
        ("VSVRNAME == \"nat\"", &["-detail", "NAME"]),
    ] {
        let args = [&["holdfast", "show", "ns", "connectiontable", typed], tail].concat();
        let args = Args::try_parse_from(args).unwrap();
        let in_shell = ["show ns connectiontable", typed, &tail.join(" ")].join(" ");
        assert_eq!(filter(&command_line(&args.words)), filter(&in_shell), "{typed}");
        assert_eq!(filter(&in_shell), filter(&in_shell.replace(['"', '\''], "")), "{typed}");
    }
}

#[test]
fn lines_with_passwords_are_known_however_they_are_shortened() {
    for line in [
        "set ns rpcNode 10.0.0.1 -password x",
        "set rpc 10.0.0.1 -PASS x -secure ON",
        "add HA node 1 10.0.0.2 -rpcNodePassword x",
        "add node 1 10.0.0.2 -rpc x -inc ENABLED",
    ] {
        assert!(has_secret(line), "{line}");
    }
    for line in ["show ns rpcNode", "set HA node -haProp DISABLED", "bind HA node -routeMonitor *"] {
        assert!(!has_secret(line), "{line}");
    }
}

#[test]
fn options_of_commands_are_not_options_of_the_program() {
    let args = Args::try_parse_from(["holdfast", "--json", "set", "lb", "vserver", "v", "-connFailover", "STATEFUL"]);
    let args = args.unwrap();
    assert!(args.json);
    assert_eq!(args.words[3..], ["v", "-connFailover", "STATEFUL"]);
}

#[test]
fn completions_replace_the_last_word_and_values_are_only_shown() {
    let found = shell::suggestions("sho");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].value.as_str(), found[0].span.start, found[0].span.end), ("show", 0, 3));
    let own = shell::suggestions("add server s");
    assert!(own.iter().all(|found| !found.value.starts_with('<')), "{own:?}");
}

/// A node that answers `good` in two parts and everything else with an error.
fn fake_node(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("holdfast-cli-{name}-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 0 {
            let request: Value = serde_json::from_str(&line).unwrap();
            let parts = match request["line"].as_str().unwrap() {
                "good" => vec![
                    json!({"text": "one\n", "ok": true, "last": false}),
                    json!({"text": "two", "ok": true, "last": true}),
                ],
                other => vec![json!({"text": format!("ERROR: No such command [{other}]"), "ok": false, "last": true})],
            };
            for part in parts {
                writeln!(&stream, "{part}").unwrap();
            }
            line.clear();
        }
    });
    path
}

#[test]
fn parts_are_joined_and_errors_are_outcomes() {
    let path = fake_node("parts");
    let mut client = Client::connect(&path).unwrap();
    assert_eq!(client.ask("good", false).unwrap(), (Outcome::Done, "one\ntwo".to_owned()));
    let (outcome, text) = client.ask("bad", false).unwrap();
    assert_eq!((outcome, text.as_str()), (Outcome::Failed, "ERROR: No such command [bad]"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_batch_goes_on_after_a_failure_and_tells_it_in_the_end() {
    let path = fake_node("batch");
    let mut client = Client::connect(&path).unwrap();
    let outcome = batch::run(&mut client, &b"# comment\n\ngood\nbad\ngood\nquit\nbad\n"[..], false).unwrap();
    assert_eq!(outcome, Outcome::Failed);
    let outcome = batch::run(&mut client, &b"good\n"[..], false).unwrap();
    assert_eq!(outcome, Outcome::Done);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_node_that_is_not_there_is_explained() {
    let error = Client::connect("/nonexistent/holdfast.sock".as_ref()).err().unwrap();
    assert!(format!("{error:#}").contains("is holdfastd running?"), "{error:#}");
}

#[test]
fn the_status_is_the_worst_finding() {
    let own = json!({"state": "Primary", "hastatus": "UP", "caughtup": true, "downifaces": "", "unprotectedflows": 0});
    let peer =
        |state: &str| json!({"state": "Secondary", "hastatus": state, "peerchannel": "UP", "ipaddress": "192.0.2.2"});
    let vserver = |state: &str, up: &str| json!({"name": "v", "state": "ENABLED", "curstate": state, "activeservices": up, "totalservices": "2"});
    let verdict = |nodes: &[Value], vservers: &[Value]| judge(nodes, vservers).verdict;
    assert_eq!(verdict(&[own.clone(), peer("UP")], &[vserver("UP", "2")]), Verdict::Good);
    assert_eq!(verdict(&[own.clone(), peer("NOT UP")], &[vserver("UP", "2")]), Verdict::Degraded);
    let mut behind = peer("UP");
    behind["hasync"] = json!("FAILED");
    assert_eq!(verdict(&[own.clone(), behind], &[vserver("UP", "2")]), Verdict::Degraded);
    let mut crowded = own.clone();
    (crowded["flows"], crowded["maxflows"]) = (json!(90), json!(100));
    assert_eq!(verdict(&[crowded.clone(), peer("UP")], &[vserver("UP", "2")]), Verdict::Degraded);
    crowded["flows"] = json!(89);
    assert_eq!(verdict(&[crowded, peer("UP")], &[vserver("UP", "2")]), Verdict::Good);
    assert_eq!(verdict(std::slice::from_ref(&own), &[vserver("UP", "1")]), Verdict::Degraded);
    assert_eq!(verdict(&[own, peer("NOT UP")], &[vserver("DOWN", "0")]), Verdict::Bad);
    assert_eq!(verdict(&[], &[]), Verdict::Bad);
}

#[test]
fn no_answer_to_the_question_after_a_forced_synchronisation_means_yes() {
    for (answer, meant) in [("\n", "YES"), ("y\n", "YES"), ("Yes", "YES"), (" n\n", "NO"), ("NO\n", "NO"), ("", "YES")]
    {
        assert_eq!(crate::shell::save_answer(answer), meant, "{answer:?}");
    }
}

#[test]
fn a_question_of_the_node_is_told_from_a_refusal() {
    let question = holdfast_config::messages::CONFIRM_FAILOVER.text;
    let asked = format!("ERROR: Reason(s): the peer is ROUTEMONITORFAIL. {question}");
    assert_eq!(question_in(&asked), Some("Reason(s): the peer is ROUTEMONITORFAIL."));
    assert_eq!(question_in("ERROR: Operation not permitted on stand-alone node"), None);
}
