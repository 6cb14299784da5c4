//! Tests of what the front door does not reach.

use core::net::IpAddr;
use core::time::Duration;

use crate::connections::{
    ConnectionFilter, ConnectionRow, FlowRole, connection_header, connection_json, connection_line,
};
use crate::model::{ConnFailover, ServiceType};
use crate::table::{Row, rows};
use crate::value::Type;
use crate::{parse, time};

#[test]
fn every_row_is_documented_and_consistent() {
    let mut titles = Vec::new();
    for row in rows() {
        let title = row.title();
        assert!(row.doc.ends_with('.'), "{title} has a sentence");
        assert!(!titles.contains(&title), "{title} is there once");
        let optional = row.args.iter().position(|a| !a.required).unwrap_or(row.args.len());
        assert!(row.args[optional..].iter().all(|a| !a.required), "{title}: required arguments come first");
        for arg in row.args {
            assert!(arg.doc.ends_with('.') && !arg.json.is_empty(), "{title} {}", arg.name);
        }
        for opt in row.opts {
            assert!(opt.doc.ends_with('.') && (opt.neutral || !opt.json.is_empty()), "{title} -{}", opt.name);
            assert_eq!(row.opts.iter().filter(|o| o.name.eq_ignore_ascii_case(opt.name)).count(), 1, "{title}");
            let _ = opt.default_value();
        }
        titles.push(title);
    }
    assert!(titles.len() > 70);
}

/// The words of a row as short as they may be.
fn shortest(row: &'static Row) -> String {
    let lengths = |word: &'static str| (1..=word.len()).map(move |n| &word[..n]);
    let same = |line: &str| {
        let tokens = crate::lexer::tokens(line).unwrap_or_default();
        crate::parse::find_row(&tokens).is_ok_and(|(found, used)| core::ptr::eq(found, row) && used == tokens.len())
    };
    let full: Vec<&str> = core::iter::once(row.verb).chain(row.object.iter().copied()).collect();
    let mut words = full.clone();
    for i in 0..words.len() {
        let with = |short: &str| {
            let mut line: Vec<&str> = words.clone();
            line[i] = short;
            line.join(" ")
        };
        let word: &'static str = if i == 0 { row.verb } else { row.object[i - 1] };
        let found = lengths(word).find(|short| same(&with(short)));
        words[i] = found.unwrap_or_else(|| panic!("{} cannot be typed", full.join(" ")));
    }
    words.join(" ")
}

#[test]
fn every_command_can_be_typed_in_full_and_shortened() {
    for row in rows() {
        let tokens = crate::lexer::tokens(&row.title()).unwrap();
        assert!(core::ptr::eq(crate::parse::find_row(&tokens).unwrap().0, row), "{}", row.title());
        assert!(shortest(row).len() <= row.title().len());
    }
    let short = |title: &str| shortest(rows().find(|r| r.title() == title).unwrap());
    assert_eq!(short("show lb vserver"), "sh l v");
    assert_eq!(short("force HA failover"), "fo H f");
}

#[test]
fn the_group_word_may_be_left_out() {
    for row in rows().filter(|r| r.object.len() == 2) {
        let line = format!("{} {}", row.verb, row.object[1]);
        let tokens = crate::lexer::tokens(&line).unwrap();
        assert!(core::ptr::eq(crate::parse::find_row(&tokens).unwrap().0, row), "{line}");
    }
}

#[test]
fn a_stat_says_how_often_it_is_shown_and_whether_its_counters_begin_anew() {
    let read = |line| parse(line).map(|command| (command.times(), command.clears_counters()));
    assert_eq!(read("stat HA node"), Ok((1, false)));
    assert_eq!(read("stat node -nt 3 -detail"), Ok((3, false)));
    assert_eq!(read("stat node -ntimes 0 -clearstats full"), Ok((0, true)));
    assert_eq!(read("show HA node"), Ok((1, false)));
}

#[test]
fn calendar_dates_are_right() {
    assert_eq!(time::calendar(0), "Thu Jan  1 00:00:00 1970");
    assert_eq!(time::calendar(951_782_400_000), "Tue Feb 29 00:00:00 2000");
    assert_eq!(time::calendar(1_610_774_153_000), "Sat Jan 16 05:15:53 2021");
    assert_eq!(time::calendar(4_107_542_399_000), "Sun Feb 28 23:59:59 2100");
    assert!(!time::calendar(u64::MAX).is_empty());
}

#[test]
fn spans_and_decimals_are_exact() {
    let interval = |text: &str| parse(&format!("add lb monitor m TCP -interval {text}")).map(|c| c.canonical());
    assert_eq!(interval("0.05").unwrap(), "add lb monitor m TCP -interval 0.05");
    assert_eq!(interval("1500 ms").unwrap(), "add lb monitor m TCP -interval 1.5");
    assert_eq!(interval("2 MIN").unwrap(), "add lb monitor m TCP -interval 120");
    assert!(interval("0.0001").is_err());
    assert!(interval("5.").is_err());
    assert!(interval("1 m").is_err(), "MSEC or MIN?");
}

#[test]
fn every_service_type_on_offer_is_one() {
    let row = rows().find(|row| row.title() == "add service").unwrap();
    let words = row.args[2].kind.words();
    assert!(words.iter().all(|word| ServiceType::of_word(word).is_some_and(|kind| kind.word() == *word)));
    assert_eq!(words.len(), ServiceType::SERVED.len() + crate::kept::KEPT.len(), "and every one is on offer");
}

#[test]
fn enumerations_know_their_words() {
    for row in rows() {
        for kind in row.args.iter().map(|a| a.kind).chain(row.opts.iter().map(|o| o.kind)) {
            if let Type::Choice(choices) | Type::Choices(choices) = kind {
                assert!(choices.iter().any(|c| c.offered), "{}", row.title());
                for c in choices.iter().filter(|c| c.offered) {
                    assert!(kind.read("x", &c.word.to_ascii_lowercase(), None).is_ok(), "{}", c.word);
                }
            }
        }
    }
}

fn row() -> ConnectionRow {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    ConnectionRow {
        source: ip("192.0.2.1"),
        source_port: 40000,
        destination: ip("192.0.2.10"),
        destination_port: 21,
        link_source: (ip("198.51.100.2"), 1024),
        link_destination: (ip("198.51.100.21"), 21),
        kind: ServiceType::Any,
        idle: Duration::from_millis(4200),
        state: "ESTABLISHED",
        vserver: "vs_ftp".to_owned(),
        service: "svc_a".to_owned(),
        failover: ConnFailover::Stateful,
        role: FlowRole::Protected,
    }
}

#[test]
fn connection_filters_select() {
    let holds = |text: &str| ConnectionFilter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).matches(&row());
    for yes in [
        "",
        "SOURCEIP == 192.0.2.1",
        "sourceip==192.0.2.1&&destport eq 21",
        "DESTPORT != 22",
        "IDLETIME >= 4 && IDLETIME < 5",
        "IDLETIME BETWEEN 4 5",
        "SVCNAME == svc_a",
        "STATE == established",
        "SOURCEIP == 203.0.113.1 || VSVRNAME == vs_ftp",
        "CONNECTION.SRCIP.EQ(192.0.2.1)",
        "CONNECTION.IP.EQ(198.51.100.21) && CONNECTION.DSTPORT.BETWEEN(20,22)",
        "CONNECTION.LB_VSERVER.NAME.STARTSWITH(vs_) && CONNECTION.SVCNAME.ENDSWITH(_a)",
        "CONNECTION.SERVICE_TYPE.EQ(ANY)",
        "-detail CONNFAILOVER",
        "PORT == 40000 -det link name",
        "'PORT == 40000' -detail full",
        "VSVRNAME == \"vs_ftp\"",
        "VSVRNAME == 'vs_ftp' && STATE == \"established\"",
        "CONNECTION.LB_VSERVER.NAME.EQ(\"vs_ftp\")",
        // As a shell's words arrive, quoted a second time.
        r#""VSVRNAME == \"vs_ftp\"""#,
        r#""VSVRNAME == \"vs_ftp\" && PORT == 40000 -detail NAME""#,
        r#""VSVRNAME == \"vs_ftp\"" -detail NAME"#,
        r#""CONNECTION.LB_VSERVER.NAME.EQ(\"vs_ftp\")" && "PORT == 40000""#,
        r#"VSVRNAME == "vs_ftp" || VSVRNAME == "other""#,
        "SVCTYPE == any",
        "ROLE != HELD",
    ] {
        assert!(holds(yes), "{yes}");
    }
    for no in ["SOURCEIP != 192.0.2.1", "DESTPORT > 21", "VSVRNAME == other", "CONNECTION.IDLETIME.GT(4)"] {
        assert!(!holds(no), "{no}");
    }
    for bad in [
        "SOURCEIP",
        "SOURCEIP == x",
        "SOURCEIP > 192.0.2.1",
        "PORT == ",
        "NONSENSE == 1",
        "CONNECTION.PORT.EQ(1",
        "&&",
        "STATE == NONSENSE",
        "STATE == \"\"",
        "TCPSTATE != x",
        "SVCTYPE == HTTP",
        "ROLE == x",
        "CONNFAILOVER == x",
        "CONNECTION.STATE.EQ(x)",
        "'PORT == 1' PORT == 2",
        "'PORT == 1",
    ] {
        assert!(ConnectionFilter::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn connection_rows_line_up_with_their_heading() {
    let filter = ConnectionFilter::parse("-detail FULL").unwrap();
    let (heading, line) = (connection_header(&filter), connection_line(&filter, &row()));
    for (title, value) in
        [("DSTIP", "192.0.2.10"), ("STATE", "ESTABLISHED"), ("MIRROR", "PROTECTED"), ("L-DSTIP", "198.51.100.21")]
    {
        assert_eq!(heading.find(title), line.find(value), "{heading}\n{line}");
    }
    assert!(connection_json(&row()).starts_with(r#"{"sourceip":"192.0.2.1","sourceport":40000,"#));
}

#[test]
fn a_number_may_begin_with_any_character() {
    for text in ["é4", "\u{fffd}\u{fffd}4", "-", "-é", "٣"] {
        let error = crate::parse(&format!("set HA node -helloInterval {text}")).expect_err(text);
        assert_eq!(error.code, crate::messages::INVALID_ARGUMENT_VALUE.code, "{text}");
    }
}
