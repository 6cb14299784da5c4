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

const STRICT_STATUS: Opt = Opt::neutral("syncStatusStrictMode", Type::Choice(&[yes("ENABLED"), no("DISABLED")]));

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
    Opt::new(
        "failSafe",
        Type::Choice(&[yes("ON"), yes("OFF")]),
        "failsafe",
        "ON: leads even if it is not healthy, when nobody healthier can.",
    )
    .default("OFF"),
    Opt::new(
        "maxFlips",
        Type::Number(0, 65_535),
        "maxflips",
        "Changes of role for health's sake within maxFlipTime, after which the primary stays primary; 0: no limit.",
    )
    .default("0"),
    Opt::new("maxFlipTime", Type::Number(0, 65_535), "maxfliptime", "In seconds; 0: no limit.").default("0"),
    Opt::new(
        "syncvlan",
        Type::Number(1, 4094),
        "syncvlan",
        "Kept and shown; the peer link travels where the host routes the peer's address.",
    ),
    Opt::new(
        "witness",
        Type::Text(255),
        "witness",
        "Extension. Members of one etcd that decides who leads when the nodes do not hear each other, as \
         http://<address>:<port>, separated by commas. The same on both nodes.",
    ),
    STRICT_STATUS,
];
const UNSET_OPTS: &[Opt] = {
    let [status, hello, dead, mirror, hold, sync, propagation, safe, flips, flip_time, vlan, witness, strict] =
        NODE_OPTS
    else {
        panic!()
    };
    &[*status, *hello, *dead, *mirror, *hold, *sync, *propagation, *safe, *flips, *flip_time, *vlan, *witness, *strict]
};

const INC: Opt = Opt::new(
    "inc",
    Type::Choice(SWITCH),
    "inc",
    "The nodes are in different subnets: SNIPs and routes are each node's own, and no vserver may be STATEFUL.",
)
.default("DISABLED");
const RPC_NODE_PASSWORD: Opt = Opt::new(
    "rpcNodePassword",
    Type::Secret,
    "rpcnodepassword",
    "Password of the peer's RPC entry, and of this node's if that has none. Never shown.",
);
const ID: Arg = Arg::required("id", Type::Number(0, 255), "id", "Id of the peer, 1-64; the own id is 0.");
const OWN_ID: Arg = Arg::optional("id", Type::Number(0, 64), "id", "Id of this node: 0.");
const ROUTE_MONITOR: Opt = Opt::new(
    "routeMonitor",
    Type::Monitored,
    "routemonitor",
    "Route to this network or host, of this node's own table; * is a default route.",
)
.required();
const NETMASK: Opt = Opt::new("netmask", Type::Mask, "netmask", "Its mask, unless it stands behind the address.");
const FILE_MODES: &[Choice] = &[
    yes("all"),
    yes("bookmarks"),
    yes("ssl"),
    yes("htmlinjection"),
    yes("imports"),
    yes("misc"),
    yes("all_plus_misc"),
];
const STAT_OPTS: &[Opt] = &[
    Opt::new("detail", Type::Flag, "detail", "With rates, flips and the channel's handshakes."),
    Opt::new("fullValues", Type::Flag, "fullvalues", "Accepted: numbers and words are never shortened."),
    Opt::new(
        "ntimes",
        Type::Number(0, 4_294_967_295),
        "ntimes",
        "The command line shows it so many times, every seven seconds; 0: until it is interrupted.",
    )
    .default("1"),
    Opt::new("logFile", Type::Text(255), "logfile", "Refused (1159): counters come from the running node only."),
    Opt::new(
        "clearstats",
        Type::Choice(&[yes("basic"), yes("full")]),
        "clearstats",
        "Shows them; then heartbeats, propagation timeouts and sync failures count from zero.",
    ),
];
const HOOK: Arg = Arg::required("name", Type::Name, "name", "Name of the hook.");
const RPC: Arg = Arg::required("IPAddress", Type::Address, "ipaddress", "NSIP of the node.");
const PASSWORD: Opt =
    Opt::new("password", Type::Secret, "password", "The password, the same for a node on both nodes. Never shown.");
const SRC_IP: Opt =
    Opt::new("srcIP", Type::AddressOrStar, "srcip", "Source of connections to it; * is the NSIP.").default("*");
pub(super) const ENCRYPTED: Opt = Opt::new(
    "encrypted",
    Type::Flag,
    "encrypted",
    "The password is closed under this node's key, as `save` writes it.",
);
pub(super) const ENCRYPT_METHOD: Opt =
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
        .opts(&[INC, RPC_NODE_PASSWORD])
        .nitro("hanode"),
    Row::new("set", &["HA", "node"], Effect::Local(Change::SetHaNode), "Changes how this node takes part.")
        .sets(NODE_OPTS)
        .nitro("hanode"),
    Row::new("unset", &["HA", "node"], Effect::Local(Change::UnsetHaNode), "Puts settings back.")
        .clears(UNSET_OPTS)
        .nitro("hanode"),
    Row::new("rm", &["HA", "node"], Effect::Local(Change::RmHaNode), "Forgets the peer.").args(&[ID]).nitro("hanode"),
    Row::new(
        "bind",
        &["HA", "node"],
        Effect::Local(Change::BindHaNode),
        "Monitors a route: when it fails, the node hands over.",
    )
    .args(&[OWN_ID])
    .opts(&[ROUTE_MONITOR, NETMASK])
    .nitro("hanode_routemonitor_binding"),
    Row::new("unbind", &["HA", "node"], Effect::Local(Change::UnbindHaNode), "Monitors a route no longer.")
        .args(&[OWN_ID])
        .opts(&[ROUTE_MONITOR, NETMASK])
        .nitro("hanode_routemonitor_binding"),
    Row::new("show", &["HA", "node"], Effect::Show(View::HaNode), "Shows the pair.")
        .args(&[Arg::optional("id", Type::Number(0, 64), "id", "Only this node.")])
        .nitro("hanode"),
    Row::new("stat", &["HA", "node"], Effect::Show(View::StatHaNode), "Shows counters of the pair.")
        .opts(STAT_OPTS)
        .nitro("hanode"),
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
        "sync",
        &["HA", "files"],
        Effect::Act(Action::SyncFiles),
        "Accepted with a warning: a node has no files of these kinds, and the configuration needs no command.",
    )
    .args(&[Arg::optional("Mode", Type::Choices(FILE_MODES), "mode", "Kinds of files.")])
    .nitro("hafiles"),
    Row::new(
        "add",
        &["HA", "hook"],
        Effect::Local(Change::AddHook),
        "Runs a program at every change of this node's role.",
    )
    .args(&[HOOK])
    .opts(&[
        Opt::new("command", Type::Text(255), "command", "Absolute path of the program; it gets no arguments.")
            .required(),
        Opt::new("timeout", Type::Seconds(100, 300_000), "timeout", "It is ended after this time, in seconds.")
            .default("10"),
    ])
    .nitro("hahook")
    .extension(),
    Row::new("rm", &["HA", "hook"], Effect::Local(Change::RmHook), "Runs a program no longer.")
        .args(&[HOOK])
        .nitro("hahook")
        .extension(),
    Row::new("show", &["HA", "hook"], Effect::Show(View::Hook), "Shows the programs that are run at a change of role.")
        .args(&[Arg::optional("name", Type::Name, "name", "Only this one.")])
        .nitro("hahook")
        .extension(),
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
        .clears(&[PASSWORD, SRC_IP, SECURE, VALIDATE_CERT])
        .nitro("nsrpcnode"),
    Row::new("show", &["ns", "rpcNode"], Effect::Show(View::RpcNode), "Shows the RPC entries, without passwords.")
        .args(&[Arg::optional("IPAddress", Type::Address, "ipaddress", "Only this one.")])
        .nitro("nsrpcnode"),
];
