//! Rows about addresses, routes, modes, ports and the node itself.

use super::{Arg, Change, Effect, Opt, Row, View};
use crate::command::Action;
use crate::value::{Choice, Type, also, no, yes};

pub(super) const ON_OFF: &[Choice] = &[also("ENABLED", "ON"), also("DISABLED", "OFF")];
pub(super) const DISABLED_ONLY: &[Choice] = &[yes("DISABLED"), no("ENABLED")];

const IP_KINDS: &[Choice] =
    &[yes("SNIP"), yes("VIP"), no("NSIP"), no("MIP"), no("GSLBsiteIP"), no("CLIP"), no("LSN"), no("ADNSsvcIP")];

const IP: Arg =
    Arg::required("IPAddress", Type::Network, "ipaddress", "IPv4 or IPv6 address; IPv6 with its prefix length.");
const IP6: Arg = Arg::required("IPv6Address", Type::Network, "ipv6address", "IPv6 address with its prefix length.");
const SHOWN_IP: Arg = Arg::optional("IPAddress", Type::Network, "ipaddress", "Only this address.");

const ARP: Opt = Opt::new("arp", Type::Choice(ON_OFF), "arp", "Answer ARP requests for it.").default("ENABLED");
const ND: Opt = Opt::new("nd", Type::Choice(ON_OFF), "nd", "Answer neighbour solicitations for it.").default("ENABLED");
const ICMP: Opt = Opt::new("icmp", Type::Choice(ON_OFF), "icmp", "Answer echo requests to it.").default("ENABLED");
const KIND: Opt =
    Opt::new("type", Type::Choice(IP_KINDS), "type", "SNIP: source of server-side traffic; VIP: address of vservers.")
        .default("SNIP");
const STATE: Opt =
    Opt::new("state", Type::Choice(ON_OFF), "state", "Disabled addresses answer for nothing.").default("ENABLED");
const MGMT: Opt = Opt::neutral("mgmtAccess", Type::Choice(DISABLED_ONLY));
const VSERVER: Opt = Opt::neutral("vServer", Type::Choice(&[yes("ENABLED"), no("DISABLED")]));

const ROUTE_ARGS: &[Arg] = &[
    Arg::required("network", Type::Network, "network", "Destination network."),
    Arg::required("netmask", Type::Mask, "netmask", "Its mask."),
    Arg::required("gateway", Type::Address, "gateway", "Next hop, in a connected subnet."),
];
const ROUTE6_ARGS: &[Arg] = &[
    Arg::required("network", Type::Network, "network", "Destination network with its prefix length."),
    Arg::required("gateway", Type::Address, "gateway", "Next hop, in a connected subnet."),
];

const MODES: &[Choice] = &[
    also("L3", "L3mode"),
    also("USIP", "UseSourceIP"),
    no("FR"),
    no("FastRamp"),
    no("L2"),
    no("L2mode"),
    no("CKA"),
    no("ClientKeepAlive"),
    no("TCPB"),
    no("TCPBuffering"),
    no("MBF"),
    no("MACbasedforwarding"),
    no("Edge"),
    no("USNIP"),
    no("PMTUD"),
    no("SRADV"),
    no("DRADV"),
    no("IRADV"),
];
const FEATURES: Arg = Arg::required(
    "feature",
    Type::Choices(&[
        also("LB", "LoadBalancing"),
        also("SP", "SurgeProtection"),
        no("CS"),
        no("ContentSwitch"),
        no("SSL"),
        no("SSLOffloading"),
        no("CMP"),
        no("WL"),
        no("CR"),
        no("IC"),
        no("AAA"),
        no("GSLB"),
        no("AppFw"),
        no("ApplicationFirewall"),
        no("REWRITE"),
        no("RESPONDER"),
    ]),
    "feature",
    "LB: load balancing, always on. SP: surge protection. The others are not offered.",
);
const SURGE: &[Opt] = &[
    Opt::new(
        "baseThreshold",
        Type::Number(0, 32767),
        "basethreshold",
        "Connections of a service that are let in at once; else by throttle: 200, 16, 500.",
    ),
    Opt::new(
        "throttle",
        Type::Choice(&[yes("Normal"), yes("Aggressive"), yes("Relaxed")]),
        "throttle",
        "How much new ones are slowed above that.",
    )
    .default("Normal"),
];
const MODE_ARGS: &[Arg] = &[Arg::required(
    "mode",
    Type::Choices(MODES),
    "mode",
    "L3: route what belongs to no flow. USIP: default of -usip.",
)];

pub(super) const ROWS: &[Row] = &[
    Row::new("add", &["ns", "ip"], Effect::Shared(Change::AddIp), "Adds a floating address.")
        .args(&[IP, Arg::optional("netmask", Type::Mask, "netmask", "Its mask, unless the address has a length.")])
        .opts(&[KIND, ARP, ICMP, STATE, VSERVER, MGMT])
        .nitro("nsip"),
    Row::new("add", &["ns", "ip6"], Effect::Shared(Change::AddIp), "Adds an IPv6 floating address.")
        .args(&[IP6])
        .opts(&[KIND, ND, ICMP, STATE, VSERVER, MGMT])
        .nitro("nsip6"),
    Row::new("set", &["ns", "ip"], Effect::Shared(Change::SetIp), "Changes a floating address.")
        .args(&[IP])
        .sets(&[ARP, ND, ICMP])
        .nitro("nsip"),
    Row::new("set", &["ns", "ip6"], Effect::Shared(Change::SetIp), "Changes an IPv6 floating address.")
        .args(&[IP6])
        .sets(&[ND, ICMP])
        .nitro("nsip6"),
    Row::new("unset", &["ns", "ip"], Effect::Shared(Change::UnsetIp), "Puts settings of a floating address back.")
        .args(&[IP])
        .clears(&[ARP, ND, ICMP])
        .nitro("nsip"),
    Row::new("rm", &["ns", "ip"], Effect::Shared(Change::RmIp), "Removes a floating address.")
        .args(&[IP])
        .nitro("nsip"),
    Row::new("rm", &["ns", "ip6"], Effect::Shared(Change::RmIp), "Removes an IPv6 floating address.")
        .args(&[IP6])
        .nitro("nsip6"),
    Row::new("enable", &["ns", "ip"], Effect::Shared(Change::EnableIp), "Enables a floating address.")
        .args(&[IP])
        .nitro("nsip"),
    Row::new("disable", &["ns", "ip"], Effect::Shared(Change::DisableIp), "Disables a floating address.")
        .args(&[IP])
        .nitro("nsip"),
    Row::new("show", &["ns", "ip"], Effect::Show(View::Ip), "Shows addresses.").args(&[SHOWN_IP]).nitro("nsip"),
    Row::new("show", &["ns", "ip6"], Effect::Show(View::Ip), "Shows addresses.").args(&[SHOWN_IP]).nitro("nsip6"),
    Row::new("add", &["route"], Effect::Shared(Change::AddRoute), "Adds a static route.")
        .args(ROUTE_ARGS)
        .nitro("route"),
    Row::new("set", &["route"], Effect::Shared(Change::SetRoute), "Gives a static route another gateway.")
        .args(ROUTE_ARGS)
        .nitro("route"),
    Row::new("rm", &["route"], Effect::Shared(Change::RmRoute), "Removes a static route.")
        .args(ROUTE_ARGS)
        .nitro("route"),
    Row::new("show", &["route"], Effect::Show(View::Route), "Shows routes.").nitro("route"),
    Row::new("add", &["route6"], Effect::Shared(Change::AddRoute), "Adds a static IPv6 route.")
        .args(ROUTE6_ARGS)
        .nitro("route6"),
    Row::new("set", &["route6"], Effect::Shared(Change::SetRoute), "Gives a static IPv6 route another gateway.")
        .args(ROUTE6_ARGS)
        .nitro("route6"),
    Row::new("rm", &["route6"], Effect::Shared(Change::RmRoute), "Removes a static IPv6 route.")
        .args(ROUTE6_ARGS)
        .nitro("route6"),
    Row::new("show", &["route6"], Effect::Show(View::Route), "Shows routes.").nitro("route6"),
    Row::new("enable", &["ns", "mode"], Effect::Shared(Change::EnableMode), "Switches modes on.")
        .args(MODE_ARGS)
        .nitro("nsmode"),
    Row::new("disable", &["ns", "mode"], Effect::Shared(Change::DisableMode), "Switches modes off.")
        .args(MODE_ARGS)
        .nitro("nsmode"),
    Row::new("show", &["ns", "mode"], Effect::Show(View::Mode), "Shows modes.").nitro("nsmode"),
    Row::new("enable", &["ns", "feature"], Effect::Shared(Change::EnableFeature), "Switches features on.")
        .args(&[FEATURES])
        .nitro("nsfeature"),
    Row::new("disable", &["ns", "feature"], Effect::Shared(Change::DisableFeature), "Switches features off.")
        .args(&[FEATURES])
        .nitro("nsfeature"),
    Row::new("show", &["ns", "feature"], Effect::Show(View::Feature), "Shows features.").nitro("nsfeature"),
    Row::new("set", &["ns", "spParams"], Effect::Shared(Change::SetSurge), "Changes surge protection.")
        .sets(SURGE)
        .nitro("nsspparams"),
    Row::new("unset", &["ns", "spParams"], Effect::Shared(Change::UnsetSurge), "Puts surge protection back.")
        .clears(SURGE)
        .nitro("nsspparams"),
    Row::new("show", &["ns", "spParams"], Effect::Show(View::Surge), "Shows surge protection.").nitro("nsspparams"),
    Row::new("flush", &["ns", "surgeQ"], Effect::Act(Action::FlushSurgeQueue), "Forgets clients that wait.")
        .opts(&[Opt::new("name", Type::Name, "name", "Only those of this vserver, service or service group.")])
        .nitro("nssurgeq"),
    Row::new(
        "set",
        &["ns", "config"],
        Effect::Local(Change::SetNsConfig),
        "Names this node's management address, a kernel address.",
    )
    .sets(&[
        Opt::new("IPAddress", Type::Address, "ipaddress", "The NSIP."),
        Opt::new("netmask", Type::Mask, "netmask", "Its mask or prefix length."),
    ])
    .nitro("nsconfig"),
    Row::new("show", &["ns", "config"], Effect::Show(View::NsConfig), "Shows this node's management address.")
        .nitro("nsconfig"),
    Row::new(
        "save",
        &["ns", "config"],
        Effect::Act(Action::SaveConfig),
        "Writes the running configuration to the file.",
    )
    .nitro("nsconfig"),
    Row::new(
        "show",
        &["ns", "runningConfig"],
        Effect::Show(View::RunningConfig),
        "Shows the configuration as commands that replay.",
    )
    .opts(&[Opt::new("withDefaults", Type::Flag, "withdefaults", "With settings that have their default.")])
    .nitro("nsrunningconfig"),
    Row::new("show", &["ns", "version"], Effect::Show(View::Version), "Shows the version.").nitro("nsversion"),
    Row::new("show", &["ns", "dataplane"], Effect::Show(View::DataPlane), "Shows which way packets go, and why.")
        .nitro("nsdataplane"),
    Row::new("show", &["ns", "connectiontable"], Effect::Show(View::ConnectionTable), "Shows flows.")
        .args(&[Arg::optional(
            "filterexpression",
            Type::Rest,
            "filterexpression",
            "SOURCEIP == x, or CONNECTION.SRCIP.EQ(x), joined by && or ||; then -detail.",
        )])
        .nitro("nsconnectiontable"),
    Row::new("quit", &[], Effect::Act(Action::Quit), "Ends the session."),
    Row::new("exit", &[], Effect::Act(Action::Quit), "Ends the session."),
];
