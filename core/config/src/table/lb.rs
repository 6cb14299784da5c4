//! Rows about servers, services, monitors and vservers.

use super::net::{DISABLED_ONLY, ON_OFF};
use super::{Arg, Change, Effect, Opt, Row, View};
use crate::command::Action;
use crate::value::{Choice, Type, no, yes};

pub(super) const YES_NO: &[Choice] = &[yes("YES"), yes("NO")];
pub(super) const NO_ONLY: &[Choice] = &[yes("NO"), no("YES")];
const OFF_ONLY: &[Choice] = &[yes("OFF"), no("ON")];
const NONE_ONLY: &[Choice] = &[yes("NONE")];
/// Longest time-out, a year.
const YEAR: u64 = 31_536_000;

const TYPES: &[Choice] = &[
    yes("TCP"),
    yes("UDP"),
    yes("ANY"),
    yes("HTTP"),
    yes("FTP"),
    yes("SSL"),
    yes("SSL_BRIDGE"),
    yes("SSL_TCP"),
    yes("DTLS"),
    yes("NNTP"),
    yes("DNS"),
    yes("DHCPRA"),
    yes("SIP_UDP"),
    yes("SIP_TCP"),
    yes("SIP_SSL"),
    yes("DNS_TCP"),
    yes("RTSP"),
    yes("PUSH"),
    yes("SSL_PUSH"),
    yes("RADIUS"),
    yes("RDP"),
    yes("MYSQL"),
    yes("MSSQL"),
    yes("DIAMETER"),
    yes("SSL_DIAMETER"),
    yes("TFTP"),
    yes("ORACLE"),
    yes("SMPP"),
    yes("SYSLOGTCP"),
    yes("SYSLOGUDP"),
    yes("FIX"),
    yes("SSL_FIX"),
    yes("USER_TCP"),
    yes("USER_SSL_TCP"),
    yes("PROXY"),
    yes("QUIC"),
    yes("QUIC_BRIDGE"),
    yes("HTTP_QUIC"),
    yes("MONGO"),
    yes("MONGO_TLS"),
    yes("MQTT"),
    yes("MQTT_TLS"),
    yes("IPFIX"),
    yes("LOGSTREAM"),
];
const METHODS: &[Choice] = &[
    yes("ROUNDROBIN"),
    yes("LEASTCONNECTION"),
    yes("LEASTRESPONSETIME"),
    yes("LRTM"),
    yes("LEASTBANDWIDTH"),
    yes("LEASTPACKETS"),
    yes("SOURCEIPHASH"),
    yes("DESTINATIONIPHASH"),
    yes("SRCIPDESTIPHASH"),
    yes("SRCIPSRCPORTHASH"),
    yes("CUSTOMLOAD"),
    no("URLHASH"),
    no("DOMAINHASH"),
    no("TOKEN"),
    no("CALLIDHASH"),
    no("LEASTREQUEST"),
    no("AUDITLOGHASH"),
    no("STATICPROXIMITY"),
    no("USER_TOKEN"),
];
const BACKUP_METHODS: &[Choice] = &[
    yes("ROUNDROBIN"),
    yes("LEASTCONNECTION"),
    yes("LEASTRESPONSETIME"),
    yes("SOURCEIPHASH"),
    yes("LEASTBANDWIDTH"),
    yes("LEASTPACKETS"),
    yes("CUSTOMLOAD"),
];
const PERSISTENCE: &[Choice] = &[
    yes("SOURCEIP"),
    yes("DESTIP"),
    yes("SRCIPDESTIP"),
    yes("NONE"),
    no("COOKIEINSERT"),
    no("SSLSESSION"),
    no("RULE"),
    no("URLPASSIVE"),
    no("CUSTOMSERVERID"),
    no("CALLID"),
    no("RTSPSID"),
    no("DIAMETER"),
    no("FIXSESSION"),
    no("USERSESSION"),
];
const FAILOVER: &[Choice] = &[yes("DISABLED"), yes("STATEFUL"), yes("STATELESS")];
pub(super) const STATE: Opt =
    Opt::new("state", Type::Choice(ON_OFF), "state", "State after creation.").default("ENABLED");
pub(super) const COMMENT: Opt = Opt::new("comment", Type::Text(255), "comment", "Free text.").default("");
pub(super) const CLT_TIMEOUT: Opt = Opt::new(
    "cltTimeout",
    Type::Number(1, YEAR),
    "clttimeout",
    "Idle time-out of clients in seconds; by type: TCP and SSL_BRIDGE 9000, UDP and ANY 120.",
);
pub(super) const SVR_TIMEOUT: Opt = Opt::new(
    "svrTimeout",
    Type::Number(1, YEAR),
    "svrtimeout",
    "Idle time-out of servers in seconds; by type: TCP and SSL_BRIDGE 9000, UDP and ANY 120.",
);
pub(super) const USIP: Opt =
    Opt::new("usip", Type::Choice(YES_NO), "usip", "Servers see the client's address; else mode USIP decides.")
        .always();
pub(super) const PROXY_PORT: Opt =
    Opt::new("useproxyport", Type::Choice(YES_NO), "useproxyport", "With USIP the client's port is kept: only NO.")
        .default("NO");
pub(super) const HEALTH: Opt =
    Opt::new("healthMonitor", Type::Choice(YES_NO), "healthmonitor", "Probe it; unprobed services are always UP.")
        .default("YES");
pub(super) const THRESHOLD: Opt = Opt::new(
    "monThreshold",
    Type::Number(0, 65535),
    "monthreshold",
    "Sum of the weights of UP monitors that makes it UP; 0: all.",
)
.default("0");

pub(super) const HASH_ID: Opt =
    Opt::new("hashId", Type::Number(1, 4_294_967_295), "hashid", "What hashes know it by; else its address and port.");

const SERVER: Arg = Arg::required("name", Type::Name, "name", "Name of the server.");
const SERVICE: Arg = Arg::required("name", Type::Name, "name", "Name of the service.");
const VSERVER: Arg = Arg::required("name", Type::Name, "name", "Name of the vserver.");
pub(super) const SERVICE_TYPE: Arg = Arg::required(
    "serviceType",
    Type::Choice(TYPES),
    "servicetype",
    "What it carries. TCP, UDP, ANY, FTP and SSL_BRIDGE are served; the others are kept and DOWN.",
);
pub(super) const NEW_NAME: Arg = Arg::required("newName", Type::Name, "newname", "Its name from now on.");
const ONLY: Arg = Arg::optional("name", Type::Name, "name", "Only this one.");
const SESSIONS_OF: Arg = Arg::optional("vServer", Type::Name, "vserver", "Only those of this vserver.");
const BOUND: Arg =
    Arg::required("serviceName", Type::Name, "servicename", "Name of the service, or of the service group.");
pub(super) const MONITOR_NAME: Opt =
    Opt::new("monitorName", Type::Name, "monitor_name", "Name of the monitor.").required();
const DELAY: Arg = Arg::optional(
    "delay",
    Type::Number(0, YEAR),
    "delay",
    "Seconds in which clients whose persistence session names it still come.",
);
/// The same where an argument has no place.
pub(super) const DELAY_OPT: Opt = Opt::new("delay", DELAY.kind, DELAY.json, DELAY.doc);
pub(super) const GRACEFUL: Opt =
    Opt::new("graceFul", Type::Choice(YES_NO), "graceful", "YES: the same until its last connection has ended.")
        .default("NO");
pub(super) const MON_STATE: Opt = Opt::new("monState", Type::Choice(ON_OFF), "monstate", "Use it.").default("ENABLED");
pub(super) const WEIGHT: Opt = Opt::new("weight", Type::Number(1, 100), "weight", "Its share.").default("1");

const SERVER_OPTS: &[Opt] = &[STATE, COMMENT];
const SERVICE_ADD: &[Opt] = &[
    USIP,
    PROXY_PORT,
    TCPB,
    CLT_TIMEOUT,
    SVR_TIMEOUT,
    HEALTH,
    THRESHOLD,
    HASH_ID,
    STATE,
    COMMENT,
    GSLB,
    MAX_CLIENT,
    MAX_REQ,
    CIP,
    SP,
    CKA,
    CMP,
    ACCESS_DOWN,
    TD,
];
const SERVICE_SET: &[Opt] =
    &[USIP, PROXY_PORT, MAX_CLIENT, SP, TCPB, CLT_TIMEOUT, SVR_TIMEOUT, HEALTH, THRESHOLD, HASH_ID, COMMENT];
const GSLB: Opt = Opt::neutral("gslb", Type::Choice(NONE_ONLY));
pub(super) const MAX_CLIENT: Opt = Opt::new(
    "maxClient",
    Type::Number(0, 4_294_967_294),
    "maxclient",
    "Established connections at which it gets no new ones; 0: no limit.",
)
.default("0");
pub(super) const MAX_REQ: Opt = Opt::neutral("maxReq", Type::Number(0, 0));
pub(super) const CIP: Opt = Opt::neutral("cip", Type::Choice(DISABLED_ONLY));
pub(super) const SP: Opt = Opt::new(
    "sp",
    Type::Choice(&[yes("ON"), yes("OFF")]),
    "sp",
    "ON: new TCP connections wait while it has many (enable ns feature SP).",
)
.default("OFF");
pub(super) const CKA: Opt = Opt::neutral("CKA", Type::Choice(NO_ONLY));
pub(super) const TCPB: Opt = Opt::new(
    "TCPB",
    Type::Choice(YES_NO),
    "tcpb",
    "Kept and shown; packets are forwarded, not buffered. YES: no vserver of it may be STATEFUL.",
)
.default("NO");
pub(super) const CMP: Opt = Opt::neutral("CMP", Type::Choice(NO_ONLY));
const ACCESS_DOWN: Opt = Opt::neutral("accessDown", Type::Choice(NO_ONLY));
pub(super) const TD: Opt = Opt::neutral("td", Type::Number(0, 0));

const PERSISTENCE_TYPE: Opt =
    Opt::new("persistenceType", Type::Choice(PERSISTENCE), "persistencetype", "What is remembered about clients.")
        .default("NONE");
const TIMEOUT: Opt =
    Opt::new("timeout", Type::Number(2, 1440), "timeout", "Life of a persistence session in minutes.").default("2");
const PERSIST_MASK: Opt =
    Opt::new("persistMask", Type::Mask, "persistmask", "Bits of IPv4 addresses that count.").default("255.255.255.255");
const V6_PERSIST: Opt =
    Opt::new("v6persistmasklen", Type::Number(1, 128), "v6persistmasklen", "Bits of IPv6 addresses that count.")
        .default("128");
const LB_METHOD: Opt =
    Opt::new("lbMethod", Type::Choice(METHODS), "lbmethod", "How a service is chosen.").default("LEASTCONNECTION");
const NETMASK: Opt = Opt::new("netmask", Type::Mask, "netmask", "Bits of IPv4 addresses that a hash of them goes by.")
    .default("255.255.255.255");
const V6_NETMASK: Opt = Opt::new(
    "v6netmasklen",
    Type::Number(1, 128),
    "v6netmasklen",
    "Bits of IPv6 addresses that a hash of them goes by.",
)
.default("128");
const BACKUP_METHOD: Opt = Opt::new(
    "backupLBMethod",
    Type::Choice(BACKUP_METHODS),
    "backuplbmethod",
    "How a service is chosen while the method cannot: LRTM before every service has answered, CUSTOMLOAD always.",
)
.default("ROUNDROBIN");
const PERSISTENCE_BACKUP: Opt = Opt::neutral("persistenceBackup", Type::Choice(&[yes("NONE"), no("SOURCEIP")]));
const SO_PERSISTENCE: Opt = Opt::neutral("soPersistence", Type::Choice(DISABLED_ONLY));
const SO_PERSISTENCE_TIMEOUT: Opt = Opt::neutral("soPersistenceTimeOut", Type::Number(2, 2));
const DISABLE_ON_DOWN: Opt = Opt::neutral("disablePrimaryOnDown", Type::Choice(DISABLED_ONLY));
const NEW_SERVICE: Opt = Opt::neutral("newServiceRequest", Type::Number(0, 0));
const NEW_SERVICE_INTERVAL: Opt = Opt::neutral("newServiceRequestIncrementInterval", Type::Number(0, 0));
const CONN_FAILOVER: Opt = Opt::new(
    "connFailover",
    Type::Choice(FAILOVER),
    "connfailover",
    "DISABLED: flows end with the node. STATEFUL (TCP, UDP, ANY, FTP, SSL_BRIDGE): they are mirrored. STATELESS (ANY, USIP): rebuilt from packets.",
)
.default("DISABLED");
const BACKUP_VSERVER: Opt = Opt::new(
    "backupVServer",
    Type::Name,
    "backupvserver",
    "Vserver of the same type that serves new flows while this one is DOWN or has enough.",
);
const HEALTH_THRESHOLD: Opt = Opt::new(
    "healthThreshold",
    Type::Number(0, 100),
    "healththreshold",
    "Percent of its services that must be UP, or it is DOWN; 0: one of them.",
)
.default("0");
const SO_METHOD: Opt = Opt::new(
    "soMethod",
    Type::Choice(&[yes("NONE"), yes("CONNECTION"), yes("DYNAMICCONNECTION"), yes("BANDWIDTH"), yes("HEALTH")]),
    "somethod",
    "What it has enough of: connections, connections by its services' -maxClient, kbit/s, or too few services UP (percent).",
)
.default("NONE");
const SO_THRESHOLD: Opt = Opt::new("soThreshold", Type::Number(0, 4_294_967_287), "sothreshold", "How much is enough.");
const SO_ACTION: Opt = Opt::new(
    "soBackupAction",
    Type::Choice(&[yes("DROP"), yes("ACCEPT"), no("REDIRECT")]),
    "sobackupaction",
    "With enough, and no backup that can serve: DROP new flows, or ACCEPT them all the same.",
)
.default("DROP");
const CLOSE_ON_RESPONSE: Opt = Opt::new(
    "closeOnResponse",
    Type::Choice(ON_OFF),
    "closeonresponse",
    "UDP: a flow ends with its server's first datagram. An extension.",
)
.default("DISABLED");
const SESSIONLESS: Opt = Opt::new(
    "sessionless",
    Type::Choice(ON_OFF),
    "sessionless",
    "ENABLED: each packet is balanced by itself. Kept and shown; such a vserver is not served.",
)
.default("DISABLED");
const REDIRECTIONS: &[Choice] = &[yes("IP"), yes("MAC"), yes("IPTUNNEL"), no("TOS")];
const REDIRECTION: Opt = Opt::new(
    "m",
    Type::Choice(REDIRECTIONS),
    "m",
    "How packets reach a server. MAC, IPTUNNEL: kept and shown; such a vserver is not served.",
)
.default("IP");
const IP_PATTERN: Opt = Opt::new(
    "IPPattern",
    Type::Address,
    "ippattern",
    "IPv4 pattern instead of an address; its port may stand behind -IPMask. Kept and shown; such a vserver is not served.",
);
const IP_MASK: Opt =
    Opt::new("IPMask", Type::Address, "ipmask", "Bits of the pattern that count: some first ones, or some last ones.");
const RTSP_NAT: Opt = Opt::neutral("rtspNat", Type::Choice(OFF_ONLY));
const L2_CONN: Opt = Opt::neutral("l2Conn", Type::Choice(OFF_ONLY));
const VSERVER_ADD: &[Opt] = &[
    IP_PATTERN,
    IP_MASK,
    PERSISTENCE_TYPE,
    TIMEOUT,
    PERSIST_MASK,
    V6_PERSIST,
    LB_METHOD,
    REDIRECTION,
    SESSIONLESS,
    NETMASK,
    V6_NETMASK,
    BACKUP_METHOD,
    CONN_FAILOVER,
    CLOSE_ON_RESPONSE,
    BACKUP_VSERVER,
    HEALTH_THRESHOLD,
    SO_METHOD,
    SO_THRESHOLD,
    SO_ACTION,
    CLT_TIMEOUT,
    STATE,
    COMMENT,
    RTSP_NAT,
    L2_CONN,
    TD,
    SO_PERSISTENCE,
    SO_PERSISTENCE_TIMEOUT,
    DISABLE_ON_DOWN,
    PERSISTENCE_BACKUP,
    NEW_SERVICE,
    NEW_SERVICE_INTERVAL,
];
const VSERVER_SET: &[Opt] = &[
    VSERVER_ADDRESS,
    PERSISTENCE_TYPE,
    TIMEOUT,
    PERSIST_MASK,
    V6_PERSIST,
    LB_METHOD,
    REDIRECTION,
    SESSIONLESS,
    NETMASK,
    V6_NETMASK,
    BACKUP_METHOD,
    CONN_FAILOVER,
    CLOSE_ON_RESPONSE,
    BACKUP_VSERVER,
    HEALTH_THRESHOLD,
    SO_METHOD,
    SO_THRESHOLD,
    SO_ACTION,
    CLT_TIMEOUT,
    COMMENT,
];
/// All that can be set but the address, which stands first.
const VSERVER_UNSET: &[Opt] = match VSERVER_SET {
    [_, rest @ ..] => rest,
    [] => &[],
};
const VSERVER_ADDRESS: Opt = Opt::new("IPAddress", Type::AddressOrStar, "ipv46", "Its address.");

pub(super) const ROWS: &[Row] = &[
    Row::new("add", &["server"], Effect::Shared(Change::AddServer), "Adds a server.")
        .args(&[SERVER, Arg::required("IPAddress", Type::Address, "ipaddress", "Its address.")])
        .opts(SERVER_OPTS)
        .nitro("server"),
    Row::new("set", &["server"], Effect::Shared(Change::SetServer), "Changes a server.")
        .args(&[SERVER])
        .sets(&[Opt::new("IPAddress", Type::Address, "ipaddress", "Its address."), COMMENT])
        .nitro("server"),
    Row::new("unset", &["server"], Effect::Shared(Change::UnsetServer), "Puts settings of a server back.")
        .args(&[SERVER])
        .clears(&[COMMENT])
        .nitro("server"),
    Row::new("rm", &["server"], Effect::Shared(Change::RmServer), "Removes a server that no service uses.")
        .args(&[SERVER])
        .nitro("server"),
    Row::new("enable", &["server"], Effect::Shared(Change::EnableServer), "Enables a server.")
        .args(&[SERVER])
        .nitro("server"),
    Row::new(
        "disable",
        &["server"],
        Effect::Shared(Change::DisableServer),
        "Disables a server and with it its services.",
    )
    .args(&[SERVER, DELAY])
    .opts(&[GRACEFUL])
    .nitro("server"),
    Row::new("rename", &["server"], Effect::Shared(Change::RenameServer), "Renames a server; its services follow.")
        .args(&[SERVER, NEW_NAME])
        .nitro("server"),
    Row::new("show", &["server"], Effect::Show(View::Server), "Shows servers.").args(&[ONLY]).nitro("server"),
    Row::new("add", &["service"], Effect::Shared(Change::AddService), "Adds a service: one port of one server.")
        .args(&[
            SERVICE,
            Arg::required(
                "server",
                Type::Name,
                "servername",
                "Name of a server, or an address (a server of that name is made).",
            ),
            SERVICE_TYPE,
            Arg::required("port", Type::Port, "port", "Its port; * keeps the client's destination port."),
        ])
        .opts(SERVICE_ADD)
        .nitro("service"),
    Row::new("set", &["service"], Effect::Shared(Change::SetService), "Changes a service.")
        .args(&[SERVICE])
        .sets(SERVICE_SET)
        .nitro("service"),
    Row::new("unset", &["service"], Effect::Shared(Change::UnsetService), "Puts settings of a service back.")
        .args(&[SERVICE])
        .clears(SERVICE_SET)
        .nitro("service"),
    Row::new("rm", &["service"], Effect::Shared(Change::RmService), "Removes a service, bound or not.")
        .args(&[SERVICE])
        .nitro("service"),
    Row::new("enable", &["service"], Effect::Shared(Change::EnableService), "Enables a service.")
        .args(&[SERVICE])
        .nitro("service"),
    Row::new("disable", &["service"], Effect::Shared(Change::DisableService), "Disables a service; its flows go on.")
        .args(&[SERVICE, DELAY])
        .opts(&[GRACEFUL])
        .nitro("service"),
    Row::new(
        "bind",
        &["service"],
        Effect::Shared(Change::BindService),
        "Binds a monitor; the built-in one no longer counts.",
    )
    .args(&[SERVICE])
    .opts(&[MONITOR_NAME, MON_STATE, WEIGHT])
    .nitro("service_lbmonitor_binding"),
    Row::new("unbind", &["service"], Effect::Shared(Change::UnbindService), "Unbinds a monitor.")
        .args(&[SERVICE])
        .opts(&[MONITOR_NAME])
        .nitro("service_lbmonitor_binding"),
    Row::new("rename", &["service"], Effect::Shared(Change::RenameService), "Renames a service; its flows go on.")
        .args(&[SERVICE, NEW_NAME])
        .nitro("service"),
    Row::new("show", &["service"], Effect::Show(View::Service), "Shows services.").args(&[ONLY]).nitro("service"),
    Row::new("stat", &["service"], Effect::Show(View::StatService), "Shows counters of services.")
        .args(&[ONLY])
        .nitro("service"),
    Row::new("add", &["lb", "vserver"], Effect::Shared(Change::AddVserver), "Adds a load-balancing virtual server.")
        .args(&[
            VSERVER,
            SERVICE_TYPE,
            Arg::optional(
                "IPAddress",
                Type::AddressOrStar,
                "ipv46",
                "Its address; * is any. Without it nothing reaches it.",
            )
            .unless("IPPattern", "0.0.0.0"),
            Arg::optional("port", Type::PortOrZero, "port", "Its port; * is any."),
        ])
        .opts(VSERVER_ADD)
        .nitro("lbvserver"),
    Row::new("set", &["lb", "vserver"], Effect::Shared(Change::SetVserver), "Changes a vserver.")
        .args(&[VSERVER])
        .sets(VSERVER_SET)
        .nitro("lbvserver"),
    Row::new("unset", &["lb", "vserver"], Effect::Shared(Change::UnsetVserver), "Puts settings of a vserver back.")
        .args(&[VSERVER])
        .clears(VSERVER_UNSET)
        .nitro("lbvserver"),
    Row::new("rm", &["lb", "vserver"], Effect::Shared(Change::RmVserver), "Removes a vserver.")
        .args(&[VSERVER])
        .nitro("lbvserver"),
    Row::new("enable", &["lb", "vserver"], Effect::Shared(Change::EnableVserver), "Enables a vserver.")
        .args(&[VSERVER])
        .nitro("lbvserver"),
    Row::new("disable", &["lb", "vserver"], Effect::Shared(Change::DisableVserver), "Disables a vserver.")
        .args(&[VSERVER])
        .nitro("lbvserver"),
    Row::new(
        "bind",
        &["lb", "vserver"],
        Effect::Shared(Change::BindVserver),
        "Binds a service, or the members of a service group.",
    )
    .args(&[VSERVER, BOUND])
    .opts(&[WEIGHT])
    .nitro("lbvserver_service_binding"),
    Row::new(
        "unbind",
        &["lb", "vserver"],
        Effect::Shared(Change::UnbindVserver),
        "Unbinds a service, or a service group.",
    )
    .args(&[VSERVER, BOUND])
    .nitro("lbvserver_service_binding"),
    Row::new(
        "rename",
        &["lb", "vserver"],
        Effect::Shared(Change::RenameVserver),
        "Renames a vserver; its flows go on.",
    )
    .args(&[VSERVER, NEW_NAME])
    .nitro("lbvserver"),
    Row::new("show", &["lb", "vserver"], Effect::Show(View::Vserver), "Shows vservers.")
        .args(&[ONLY])
        .nitro("lbvserver"),
    Row::new(
        "show",
        &["lb", "persistentSessions"],
        Effect::Show(View::PersistentSessions),
        "Shows persistence sessions, up to 10,000.",
    )
    .args(&[SESSIONS_OF])
    .nitro("lbpersistentsessions"),
    Row::new(
        "clear",
        &["lb", "persistentSessions"],
        Effect::Act(Action::ClearSessions),
        "Ends persistence sessions on both nodes; connections stay where they are.",
    )
    .args(&[SESSIONS_OF])
    .opts(&[Opt::new("persistenceParameter", Type::Address, "persistenceparameter", "Only those with this address.")])
    .nitro("lbpersistentsessions"),
    Row::new("stat", &["lb", "vserver"], Effect::Show(View::StatVserver), "Shows counters of vservers.")
        .args(&[ONLY])
        .nitro("lbvserver"),
];
