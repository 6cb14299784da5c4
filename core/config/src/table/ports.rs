//! Rows about data ports and what belongs to several of them.

use super::{Arg, Change, Effect, Opt, PortChange, Row, View};
use crate::value::{Choice, Type, yes};

const ON_OFF: &[Choice] = &[yes("ON"), yes("OFF")];
/// Longest id of a data port, and longest name of a device.
const WORD: usize = 15;

const INTERFACE: Arg = Arg::required("id", Type::Token(WORD), "id", "Id of the data port, 1/1.");
const DEVICE: Opt =
    Opt::new("device", Type::Token(WORD), "device", "Extension. Linux network interface behind the port.");
const HA_MONITOR: Opt =
    Opt::new("haMonitor", Type::Choice(ON_OFF), "hamonitor", "Its failure makes the node hand over.").default("ON");
const HA_HEARTBEAT: Opt =
    Opt::new("haHeartbeat", Type::Choice(ON_OFF), "haheartbeat", "Hellos leave by it.").default("ON");

const FIS: Arg = Arg::required("name", Type::Name, "name", "Name of the failover interface set.");
const MEMBERS: Arg = Arg::required("ifnum", Type::Tokens(WORD), "ifnum", "Ids of data ports.");
const VRID: Arg = Arg::required("id", Type::Number(1, 255), "id", "Last byte of the MAC address 00:00:5e:00:01:id.");
const IFNUM: Opt = Opt::new("ifnum", Type::Tokens(WORD), "ifnum", "Ids of data ports.").required();

pub(super) const ROWS: &[Row] = &[
    Row::new("add", &["interface"], Effect::Local(Change::Ports(PortChange::AddInterface)), "Declares a data port.")
        .args(&[INTERFACE])
        .opts(&[DEVICE.required(), HA_MONITOR, HA_HEARTBEAT])
        .nitro("interface")
        .extension(),
    Row::new("set", &["interface"], Effect::Local(Change::Ports(PortChange::SetInterface)), "Changes a data port.")
        .args(&[INTERFACE])
        .sets(&[DEVICE, HA_MONITOR, HA_HEARTBEAT])
        .nitro("interface"),
    Row::new(
        "unset",
        &["interface"],
        Effect::Local(Change::Ports(PortChange::UnsetInterface)),
        "Puts settings of a data port back.",
    )
    .args(&[INTERFACE])
    .clears(&[HA_MONITOR, HA_HEARTBEAT])
    .nitro("interface"),
    Row::new("rm", &["interface"], Effect::Local(Change::Ports(PortChange::RmInterface)), "Removes a data port.")
        .args(&[INTERFACE])
        .nitro("interface")
        .extension(),
    Row::new(
        "enable",
        &["interface"],
        Effect::Local(Change::Ports(PortChange::EnableInterface)),
        "Enables a data port.",
    )
    .args(&[INTERFACE])
    .nitro("interface"),
    Row::new(
        "disable",
        &["interface"],
        Effect::Local(Change::Ports(PortChange::DisableInterface)),
        "Disables a data port: it carries nothing and is not monitored.",
    )
    .args(&[INTERFACE])
    .nitro("interface"),
    Row::new("show", &["interface"], Effect::Show(View::Interface), "Shows data ports.")
        .args(&[Arg::optional("id", Type::Token(WORD), "id", "Only this one.")])
        .nitro("interface"),
    Row::new(
        "add",
        &["fis"],
        Effect::Local(Change::Ports(PortChange::AddFis)),
        "Adds a set of data ports of which one must work.",
    )
    .args(&[FIS])
    .nitro("fis"),
    Row::new("rm", &["fis"], Effect::Local(Change::Ports(PortChange::RmFis)), "Removes a failover interface set.")
        .args(&[FIS])
        .nitro("fis"),
    Row::new("bind", &["fis"], Effect::Local(Change::Ports(PortChange::BindFis)), "Puts data ports into a set.")
        .args(&[FIS, MEMBERS])
        .nitro("fis_interface_binding"),
    Row::new("unbind", &["fis"], Effect::Local(Change::Ports(PortChange::UnbindFis)), "Takes data ports out of a set.")
        .args(&[FIS, MEMBERS])
        .nitro("fis_interface_binding"),
    Row::new("show", &["fis"], Effect::Show(View::Fis), "Shows failover interface sets.")
        .args(&[Arg::optional("name", Type::Name, "name", "Only this one.")])
        .nitro("fis"),
    Row::new("add", &["vrID"], Effect::Local(Change::Ports(PortChange::AddVrid)), "Adds a virtual MAC address.")
        .args(&[VRID])
        .nitro("vrid"),
    Row::new(
        "rm",
        &["vrID"],
        Effect::Local(Change::Ports(PortChange::RmVrid)),
        "Removes a virtual MAC address, or all.",
    )
    .args(&[Arg { required: false, ..VRID }])
    .opts(&[Opt::new("all", Type::Flag, "all", "All of them.")])
    .nitro("vrid"),
    Row::new(
        "bind",
        &["vrID"],
        Effect::Local(Change::Ports(PortChange::BindVrid)),
        "Lets data ports answer for floating addresses with the virtual MAC address.",
    )
    .args(&[VRID])
    .opts(&[IFNUM])
    .nitro("vrid_interface_binding"),
    Row::new(
        "unbind",
        &["vrID"],
        Effect::Local(Change::Ports(PortChange::UnbindVrid)),
        "Gives data ports their own MAC address back.",
    )
    .args(&[VRID])
    .opts(&[IFNUM])
    .nitro("vrid_interface_binding"),
    Row::new("show", &["vrID"], Effect::Show(View::Vrid), "Shows virtual MAC addresses.")
        .args(&[Arg { required: false, ..VRID }])
        .nitro("vrid"),
];
