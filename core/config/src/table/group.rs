//! Rows about service groups.

use super::lb::{
    CIP, CKA, CLT_TIMEOUT, CMP, COMMENT, DELAY_OPT, GRACEFUL, HASH_ID, HEALTH, MAX_CLIENT, MAX_REQ, MON_STATE,
    MONITOR_NAME, NEW_NAME, PROXY_PORT, SERVICE_TYPE, SP, STATE, SVR_TIMEOUT, TCPB, TD, THRESHOLD, USIP, WEIGHT,
};
use super::net::DISABLED_ONLY;
use super::{Arg, Change, Effect, GroupChange, Opt, Row, View};
use crate::value::Type;

const GROUP: Arg = Arg::required("serviceGroupName", Type::Name, "servicegroupname", "Name of the service group.");
const ONLY: Arg = Arg::optional("serviceGroupName", Type::Name, "servicegroupname", "Only this one.");
const MEMBER_SERVER: Arg = Arg::optional(
    "serverName",
    Type::Name,
    "servername",
    "The member: name of a server, or an address (bind makes a server of that name).",
);
const MEMBER_PORT: Arg = Arg::optional("port", Type::Port, "port", "The member's port; * keeps the client's.");
const MEMBER: &[Arg] = &[GROUP, MEMBER_SERVER, MEMBER_PORT];
const MONITOR: Opt = Opt { required: false, doc: "A monitor instead of a member.", ..MONITOR_NAME };

const AUTO_SCALE: Opt = Opt::neutral("autoScale", Type::Choice(DISABLED_ONLY));
const GROUP_ADD: &[Opt] = &[
    USIP,
    PROXY_PORT,
    TCPB,
    CLT_TIMEOUT,
    SVR_TIMEOUT,
    HEALTH,
    THRESHOLD,
    STATE,
    COMMENT,
    MAX_CLIENT,
    MAX_REQ,
    CIP,
    SP,
    CKA,
    CMP,
    TD,
    AUTO_SCALE,
];
const GROUP_SET: &[Opt] =
    &[USIP, PROXY_PORT, MAX_CLIENT, SP, TCPB, CLT_TIMEOUT, SVR_TIMEOUT, HEALTH, THRESHOLD, COMMENT, WEIGHT_OF, HASH_OF];
/// All that can be set but what belongs to one member, which stands last.
const GROUP_UNSET: &[Opt] = match GROUP_SET {
    [rest @ .., _, _] => rest,
    _ => &[],
};
/// `set` and `unset` have no default to put in: what is not named stays.
const WEIGHT_OF: Opt = Opt { default: None, doc: "Share of the member that is named.", ..WEIGHT };
const HASH_OF: Opt = Opt { doc: "What hashes know the member by that is named.", ..HASH_ID };

pub(super) const ROWS: &[Row] = &[
    Row::new("add", &["serviceGroup"], Effect::Shared(Change::Group(GroupChange::Add)), "Adds a service group.")
        .args(&[GROUP, SERVICE_TYPE])
        .opts(GROUP_ADD)
        .nitro("servicegroup"),
    Row::new(
        "set",
        &["serviceGroup"],
        Effect::Shared(Change::Group(GroupChange::Set)),
        "Changes a service group, or weight and hash id of one member.",
    )
    .args(MEMBER)
    .sets(GROUP_SET)
    .nitro("servicegroup"),
    Row::new(
        "unset",
        &["serviceGroup"],
        Effect::Shared(Change::Group(GroupChange::Unset)),
        "Puts settings of a service group back.",
    )
    .args(&[GROUP])
    .clears(GROUP_UNSET)
    .nitro("servicegroup"),
    Row::new(
        "rm",
        &["serviceGroup"],
        Effect::Shared(Change::Group(GroupChange::Rm)),
        "Removes a service group, bound or not.",
    )
    .args(&[GROUP])
    .nitro("servicegroup"),
    Row::new(
        "enable",
        &["serviceGroup"],
        Effect::Shared(Change::Group(GroupChange::Enable)),
        "Enables a service group, or one member.",
    )
    .args(MEMBER)
    .nitro("servicegroup"),
    Row::new(
        "disable",
        &["serviceGroup"],
        Effect::Shared(Change::Group(GroupChange::Disable)),
        "Disables a service group, or one member; their flows go on.",
    )
    .args(MEMBER)
    .opts(&[DELAY_OPT, GRACEFUL])
    .nitro("servicegroup"),
    Row::new(
        "bind",
        &["serviceGroup"],
        Effect::Shared(Change::Group(GroupChange::Bind)),
        "Binds a member (server and port), or a monitor of all members.",
    )
    .args(MEMBER)
    .opts(&[MONITOR, MON_STATE, WEIGHT, STATE, HASH_ID])
    .nitro("servicegroup_servicegroupmember_binding"),
    Row::new(
        "unbind",
        &["serviceGroup"],
        Effect::Shared(Change::Group(GroupChange::Unbind)),
        "Unbinds a member, or a monitor.",
    )
    .args(MEMBER)
    .opts(&[MONITOR])
    .nitro("servicegroup_servicegroupmember_binding"),
    Row::new(
        "rename",
        &["serviceGroup"],
        Effect::Shared(Change::Group(GroupChange::Rename)),
        "Renames a service group; flows of its members go on.",
    )
    .args(&[GROUP, NEW_NAME])
    .nitro("servicegroup"),
    Row::new("show", &["serviceGroup"], Effect::Show(View::Group), "Shows service groups; one: with its members.")
        .args(&[ONLY])
        .opts(&[Opt::new("includeMembers", Type::Flag, "includemembers", "With the members of all.")])
        .nitro("servicegroup"),
    Row::new("stat", &["serviceGroup"], Effect::Show(View::StatGroup), "Shows counters of members.")
        .args(&[ONLY])
        .nitro("servicegroup"),
];
