//! The rules of connection failover as the reference tells them.

use core::fmt::Write as _;

use crate::error::{Message, messages};
use crate::model::ServiceType;

/// A rule, and the commands that ask it.
const RULES: &[(Message, &str)] = &[
    (messages::SESSIONLESS_METHOD, "`add`/`set lb vserver`: LEASTCONNECTION with `-sessionless ENABLED`"),
    (messages::SESSIONLESS_PERSISTENCE, "`add`/`set lb vserver`: persistence with `-sessionless ENABLED`"),
    (messages::SESSIONLESS_TYPE, "`add`/`set lb vserver`: `-sessionless ENABLED` on another type"),
    (messages::SESSIONLESS_MODE, "`add`/`set`/`unset lb vserver`: `-sessionless ENABLED` with `-m IP`"),
    (
        messages::SESSIONLESS_NEEDS_USIP,
        "`bind lb vserver`, `set lb vserver -sessionless ENABLED`, `set`/`unset service -usip`",
    ),
    (
        messages::FAILOVER_NEEDS_USIP,
        "`bind lb vserver`, `set lb vserver -connFailover STATELESS`, `set`/`unset service -usip`",
    ),
    (messages::FAILOVER_NEEDS_ANY, "`add`/`set lb vserver`: STATELESS on another type"),
    (messages::FAILOVER_OF_SESSIONLESS, "`add`/`set lb vserver`, whichever of the two comes second"),
    (messages::FAILOVER_IN_INC, "`add`/`set lb vserver`: STATEFUL on a node with a peer in INC mode"),
    (messages::FAILOVER_SET_BUFFERING, "`set lb vserver`: STATEFUL with a bound service that has `-TCPB YES`"),
    (messages::FAILOVER_BIND_BUFFERING, "`bind lb vserver`: a service that has `-TCPB YES`"),
    (messages::BUFFERING_WITH_FAILOVER, "`set service -TCPB YES`"),
    (messages::FAILOVER_TYPE, "`add`/`set lb vserver`: STATEFUL on a type that is not served"),
    (messages::FAILOVER_BIND_SSL_TCP, "`bind lb vserver`"),
    (messages::INC_WITH_FAILOVER, "`add HA node -inc ENABLED`"),
    (messages::FAILOVER_SET_SSL_TCP, "`set lb vserver`: STATEFUL with a bound SSL_TCP service"),
    (messages::FAILOVER_BIND_LOOPBACK, "`bind lb vserver`: a service on 127.0.0.0/8 or ::1"),
    (messages::FAILOVER_SET_LOOPBACK, "`set lb vserver`, `set server -IPAddress`"),
    (messages::FAILOVER_OF_PATTERN, "`add`/`set lb vserver`: any failover with `-IPPattern`"),
    (messages::REDIRECTION_NEEDS_ANY, "`add`/`set lb vserver`: `-m MAC` or `-m IPTUNNEL`"),
    (messages::STATELESS_NEEDS_KEY, "`add`/`set`/`unset lb vserver`"),
    (messages::STATELESS_ONE_VSERVER, "`bind lb vserver`, `set lb vserver -connFailover STATELESS`"),
];

/// Rules of the market about what this release does not have.
const UNREACHABLE: &[(u32, &str, &str)] = &[
    (932, "Connection fail-over not supported for v6 forwarding sessions", "there are no forwarding sessions"),
    (974, "TCPPROXY should be disabled for connection failover to work properly.", "there are no RNAT rules"),
    (2475, "Connection Mirroring is not supported in Cluster mode", "there are no clusters"),
    (3577, "FTP connection mirroring in LSN is not supported with DS-Lite nattype", "there is no LSN"),
];

/// The rules in Markdown.
pub(crate) fn markdown() -> String {
    let served = ServiceType::SERVED.map(ServiceType::word).join(", ");
    let mut text = format!(
        "\n## Service types\n\n\
         {served} are served; SSL_BRIDGE as TCP: TLS passes through. Vservers and services of the other types are kept,\n\
         saved and told to the peer as they are typed, and are DOWN: nothing is probed and no packet is theirs. The same\n\
         holds for vservers with `-IPPattern`, `-sessionless ENABLED`, `-m MAC` or `-m IPTUNNEL`. The command that makes\n\
         one answers `Warning: {}`, and `show` says `not served by this release`.\n\
         A service is bound to vservers of its own type ({}), an SSL_TCP service to TCP vservers, too. `-TCPB` has no\n\
         effect but the rules below: packets are forwarded, not buffered.\n\n\
         ## Rules of connection failover\n\n\
         | Code | Text | Asked by |\n|---|---|---|\n",
        messages::NOT_SERVED.text,
        messages::TYPE_MISMATCH.code,
    );
    for (Message { code, text: words }, asked) in RULES {
        let _ = writeln!(text, "| {code} | {} | {asked} |", words.trim_end());
    }
    text.push_str("\nRules of the market that nothing can break here:\n\n| Code | Text | Why |\n|---|---|---|\n");
    for (code, words, why) in UNREACHABLE {
        let _ = writeln!(text, "| {code} | {words} | {why} |");
    }
    text
}
