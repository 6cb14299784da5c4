//! Rows about the pair.

use super::{Arg, Change, Effect, Opt, Row, View};
use crate::command::Action;
use crate::value::{Choice, Type, also, no, yes};

const STATUS: &[Choice] = &[also("ENABLED", "UP"), yes("STAYSECONDARY"), yes("STAYPRIMARY"), yes("DISABLED")];
const MIRROR: &[Choice] = &[yes("STRICT"), yes("ASYNC")];
const SWITCH: &[Choice] = &[yes("ENABLED"), yes("DISABLED")];
const YES_NO: &[Choice] = &[yes("YES"), yes("NO")];
const SYNC: Opt = Opt::new(
    "haSync",
    Type::Choice(SWITCH),
    "hasync",
    "Take over the primary's configuration when this node joins or has another one.",
)
.default("ENABLED");
const PROPAGATION: Opt =
    Opt::new("haProp", Type::Choice(SWITCH), "haprop", "Send changes to the peer as they are made here.")
        .default("ENABLED");

const NODE_OPTS: &[Opt] = &[
    Opt::new("haStatus", Type::Choice(STATUS), "hastatus", "Part of this node in the pair.").default("ENABLED"),
    Opt::new("helloInterval", Type::Number(10, 1000), "hellointerval", "Time between hellos in milliseconds.")
        .default("100"),
    Opt::new(
        "deadInterval",
        Type::Seconds(30, 60_000),
        "deadinterval",
        "Silence that means death, in seconds; at least three hellos.",
    )
    .default("0.4"),
    Opt::new(
        "mirrorMode",
        Type::Choice(MIRROR),
        "mirrormode",
        "Extension. STRICT: packets wait until the peer has their flow; ASYNC: they do not.",
    )
    .default("STRICT"),
    Opt::new(
        "holdLimit",
        Type::Number(10, 60_000),
        "holdlimit",
        "Extension. Longest time in milliseconds that a packet waits for a peer that is there; then it goes unprotected.",
    )
    .default("1000"),
    SYNC,
    PROPAGATION,
    Opt::neutral("failSafe", Type::Choice(&[yes("OFF"), no("ON")])),
    Opt::neutral("maxFlips", Type::Number(0, 0)),
    Opt::neutral("maxFlipTime", Type::Number(0, 0)),
];
const UNSET_OPTS: &[Opt] = {
    let [status, hello, dead, mirror, hold, ..] = NODE_OPTS else { panic!() };
    &[*status, *hello, *dead, *mirror, *hold, SYNC, PROPAGATION]
};

const INC: Opt = Opt::new(
    "inc",
    Type::Choice(SWITCH),
    "inc",
    "The nodes are in different subnets: SNIPs and routes are each node's own, and no vserver may be STATEFUL.",
)
.default("DISABLED");
const ID: Arg = Arg::required("id", Type::Number(0, 255), "id", "Id of the peer, 1-64; the own id is 0.");
const RPC: Arg = Arg::required("IPAddress", Type::Address, "ipaddress", "NSIP of the node.");
const PASSWORD: Opt =
    Opt::new("password", Type::Secret, "password", "The password, the same for a node on both nodes. Never shown.");
const SRC_IP: Opt =
    Opt::new("srcIP", Type::AddressOrStar, "srcip", "Source of connections to it; * is the NSIP.").default("*");
const ENCRYPTED: Opt = Opt::new(
    "encrypted",
    Type::Flag,
    "encrypted",
    "The password is closed under this node's key, as `save` writes it.",
);
const ENCRYPT_METHOD: Opt =
    Opt::new("encryptmethod", Type::Choice(&[yes("ENCMTHD_3")]), "encryptmethod", "How it is closed.");
const SECURE: Opt = Opt::new(
    "secure",
    Type::Choice(&[also("ON", "YES"), also("OFF", "NO")]),
    "secure",
    "ON: messages are encrypted; OFF: only authenticated. The same on both nodes.",
)
.default("ON");
const VALIDATE_CERT: Opt = Opt::neutral("validateCert", Type::Choice(&[also("NO", "OFF"), no("YES"), no("ON")]));

pub(super) const ROWS: &[Row] = &[
    Row::new("add", &["HA", "node"], Effect::Local(Change::AddHaNode), "Names the peer; makes its RPC entry.")
        .args(&[ID, Arg::required("IPAddress", Type::Address, "ipaddress", "NSIP of the peer.")])
        .opts(&[INC])
        .nitro("hanode"),
    Row::new("set", &["HA", "node"], Effect::Local(Change::SetHaNode), "Changes how this node takes part.")
        .sets(NODE_OPTS)
        .nitro("hanode"),
    Row::new("unset", &["HA", "node"], Effect::Local(Change::UnsetHaNode), "Puts settings back.")
        .clears(UNSET_OPTS)
        .nitro("hanode"),
    Row::new("rm", &["HA", "node"], Effect::Local(Change::RmHaNode), "Forgets the peer.").args(&[ID]).nitro("hanode"),
    Row::new("show", &["HA", "node"], Effect::Show(View::HaNode), "Shows the pair.")
        .args(&[Arg::optional("id", Type::Number(0, 64), "id", "Only this node.")])
        .nitro("hanode"),
    Row::new("stat", &["HA", "node"], Effect::Show(View::StatHaNode), "Shows counters of the pair.").nitro("hanode"),
    Row::new(
        "force",
        &["HA", "failover"],
        Effect::Act(Action::ForceFailover { force: false }),
        "Hands over to the peer.",
    )
    .opts(&[Opt::new("force", Type::Flag, "force", "Without a question.")])
    .nitro("hafailover"),
    Row::new(
        "force",
        &["HA", "sync"],
        Effect::Act(Action::ForceSync { force: false, save: false }),
        "Makes the secondary take over the primary's configuration; on either node.",
    )
    .opts(&[
        Opt::new("force", Type::Flag, "force", "Also if -haSync is DISABLED on the secondary."),
        Opt::new("save", Type::Choice(YES_NO), "save", "Then save it on the secondary.").default("NO"),
    ])
    .nitro("hasync"),
    Row::new(
        "failover",
        &["rehearse"],
        Effect::Show(View::Rehearse),
        "Extension. Tells what would be lost if this node died now, per vserver, and why.",
    )
    .nitro("failoverrehearsal"),
    Row::new("set", &["ns", "rpcNode"], Effect::Local(Change::SetRpcNode), "Sets the password between nodes.")
        .args(&[RPC])
        .sets(&[PASSWORD, ENCRYPTED, ENCRYPT_METHOD, SRC_IP, SECURE, VALIDATE_CERT])
        .nitro("nsrpcnode"),
    Row::new("unset", &["ns", "rpcNode"], Effect::Local(Change::UnsetRpcNode), "Puts settings back.")
        .args(&[RPC])
        .clears(&[PASSWORD, SRC_IP, SECURE])
        .nitro("nsrpcnode"),
    Row::new("show", &["ns", "rpcNode"], Effect::Show(View::RpcNode), "Shows the RPC entries, without passwords.")
        .args(&[Arg::optional("IPAddress", Type::Address, "ipaddress", "Only this one.")])
        .nitro("nsrpcnode"),
];
