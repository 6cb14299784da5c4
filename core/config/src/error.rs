//! Errors and warnings of commands: the market's codes and texts.

use core::fmt;

use crate::json::Json;

/// A code with its text. The market's own below 60000, ours from 60000 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Number that REST clients compare.
    pub code: u32,
    /// Text that people read.
    pub text: &'static str,
}

/// Why a command was refused. Shown as `ERROR: <text> [word]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    /// The code.
    pub code: u32,
    /// Its text.
    pub text: String,
    /// The offending word or words: `serviceType, HTTP`.
    pub word: Option<String>,
    /// What would have been accepted in its place, if that is a short list.
    pub allowed: Vec<&'static str>,
    /// The word that was probably meant.
    pub did_you_mean: Option<&'static str>,
}

impl CommandError {
    /// An error without a word.
    pub fn new(message: Message) -> Self {
        let text = message.text.to_owned();
        CommandError { code: message.code, text, word: None, allowed: Vec::new(), did_you_mean: None }
    }

    /// An error about `word`.
    pub fn with(message: Message, word: impl Into<String>) -> Self {
        CommandError { word: Some(word.into()), ..CommandError::new(message) }
    }

    /// An error about an argument and the value that it was given.
    pub(crate) fn about(message: Message, argument: &str, value: &str) -> Self {
        CommandError::with(message, format!("{argument}, {value}"))
    }

    /// As NITRO words it: `{"errorcode":258,"message":"…","severity":"ERROR"}`.
    pub fn to_json(&self) -> String {
        let text = self.to_string();
        let message = text.strip_prefix("ERROR: ").unwrap_or(&text);
        Json::Object(vec![
            ("errorcode", u64::from(self.code).into()),
            ("message", message.to_owned().into()),
            ("severity", "ERROR".into()),
        ])
        .write()
    }

    pub(crate) fn allowing(self, allowed: Vec<&'static str>) -> Self {
        CommandError { allowed, ..self }
    }

    pub(crate) fn meaning(self, did_you_mean: Option<&'static str>) -> Self {
        CommandError { did_you_mean, ..self }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR: {}", self.text)?;
        if let Some(word) = &self.word {
            write!(f, " [{word}]")?;
        }
        if !self.allowed.is_empty() {
            write!(f, " (allowed: {})", self.allowed.join(", "))?;
        }
        if let Some(meant) = self.did_you_mean {
            write!(f, " (did you mean {meant}?)")?;
        }
        Ok(())
    }
}

impl core::error::Error for CommandError {}

/// Something the operator should know although the command was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The code.
    pub code: u32,
    /// Its text.
    pub text: String,
    /// What it is about.
    pub word: Option<String>,
}

impl Warning {
    /// A warning without a word.
    pub fn new(message: Message) -> Self {
        Warning { code: message.code, text: message.text.to_owned(), word: None }
    }

    /// As NITRO words it: `{"errorcode":349,"message":"…","severity":"WARNING"}`.
    pub fn to_json(&self) -> String {
        let text = self.to_string();
        let message = text.strip_prefix("Warning: ").unwrap_or(&text);
        Json::Object(vec![
            ("errorcode", u64::from(self.code).into()),
            ("message", message.to_owned().into()),
            ("severity", "WARNING".into()),
        ])
        .write()
    }

    /// A warning about `word`.
    pub fn with(message: Message, word: impl Into<String>) -> Self {
        Warning { code: message.code, text: message.text.to_owned(), word: Some(word.into()) }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Warning: {}", self.text)?;
        match &self.word {
            Some(word) => write!(f, " [{word}]"),
            None => Ok(()),
        }
    }
}

/// Every message that this program can answer with.
pub mod messages {
    use super::Message;

    macro_rules! messages {
        ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
            $($(#[$doc])* pub const $name: Message = Message { code: $code, text: $text };)*
            /// All of them, in the order of this file.
            pub const ALL: &[Message] = &[$($name),*];
        };
    }

    messages! {
        /// The command cannot be carried out on this object.
        NOT_PERMITTED = 257, "Operation not permitted";
        /// The named object does not exist.
        NO_SUCH_RESOURCE = 258, "No such resource";
        /// An object of that name exists.
        EXISTS = 273, "Resource already exists";
        /// The words make no sense together.
        INVALID_ARGUMENT = 278, "Invalid argument";
        /// Vserver and server are of different IP versions.
        FAMILY_MISMATCH = 303, "Address family not supported by protocol family";
        /// Another object has that address (and port).
        ADDRESS_IN_USE = 304, "Address already in use";
        /// Other objects need it.
        IN_USE = 315, "Resource in use";
        /// A change that the peer did not get.
        PROPAGATION_FAILED = 347, "Command propagation failed";
        /// A pair has two nodes.
        TOO_MANY_NODES = 348, "Too many nodes";
        /// The peer could not carry out a change.
        SECONDARY_FAILED = 349, "Command failed on secondary node,  but succeeded on primary node. Configuration will be synchronized to ensure secondary and primary have same configuration.";
        /// The named server does not exist.
        NO_SUCH_SERVER = 351, "No such server";
        /// A change that did not reach a peer whose password, or `-secure`, differs.
        PROPAGATION_UNAUTHORIZED = 358, "Command propagation failed due to user authentication problems";
        /// The node's own id is 0, a peer's 1 to 64.
        INVALID_NODE_ID = 362, "Invalid node ID specified";
        /// There is no pair.
        STAND_ALONE = 363, "Operation not permitted on stand-alone node";
        /// The peer cannot take over.
        INVALID_PEER_STATE = 364, "Operation not possible due to invalid peer state. Rectify and retry.";
        /// This node cannot do that in its role.
        INVALID_SYSTEM_STATE = 365, "Operation not possible as system state is invalid. Use show node for more information.";
        /// Something else is going on.
        NOT_NOW = 366, "Operation not possible now. Please wait for system to stabilize before retrying.";
        /// What a secondary answers to changes of the shared configuration.
        PRIMARY_ONLY = 368, "Operation permitted only on primary node.";
        /// `rm HA node` while routes are monitored.
        ROUTE_MONITORS_BOUND = 377, "Unbind all route monitors before making node standalone.";
        /// `force HA sync` although the secondary was told not to.
        SYNC_DISABLED = 410, "Synchronization disabled";
        /// `force HA sync` with a node that takes no part.
        NODE_DISABLED = 411, "Node disabled";
        /// `force HA sync` while one is under way.
        SYNC_IN_PROGRESS = 412, "Synchronization is in progress";
        /// Nodes in different subnets need INC mode.
        PEER_ON_OTHER_SUBNET = 414, "Peer IP should be on the NSIP subnet if INC mode is disabled";
        /// The address cannot be a peer's.
        INVALID_PEER_IP = 415, "Not a valid peer IP";
        /// The backup vserver does not exist, or is the vserver itself.
        NO_SUCH_BACKUP = 430, "No such backup vserver";
        /// `set` without options.
        NOTHING_TO_SET = 431, "No arguments to set";
        /// The peer was lost before it had a change.
        PEER_UNREACHABLE = 457, "Unable to establish connection with the secondary. Command propagation failed";
        /// The peer has not confirmed a change in time.
        PROPAGATION_TIMED_OUT = 458, "There is no response from the secondary. Propagation timed out";
        /// A floating address that is the peer's own.
        PEER_ADDRESS = 994, "Cannot add ip address. This is peers NSIP";
        /// Builds that have no language in common.
        VERSION_MISMATCH = 1017, "HA version mismatch between primary and secondary";
        /// Greeting of a secondary.
        CONNECTED_TO_SECONDARY = 1028, "You are connected to a secondary node; configuration changes made in this session will not be propagated to, or saved on, other nodes";
        /// A value that the market knows and this program does not offer.
        INVALID_VALUE = 1074, "Invalid value";
        /// A name with forbidden characters.
        INVALID_NAME = 1075, "Invalid name; names must begin with an alphanumeric character or underscore and must contain only alphanumerics, _, #, .,  , :, @, = or -";
        /// The words are no command.
        NO_SUCH_COMMAND = 1088, "No such command";
        /// The words begin several commands.
        AMBIGUOUS_COMMAND = 1089, "Ambiguous command name";
        /// The command has no such option.
        NO_SUCH_ARGUMENT = 1090, "No such argument";
        /// An option without its value.
        VALUE_MISSING = 1091, "Required argument value missing";
        /// Two words that exclude each other, or one given twice.
        MUTUALLY_EXCLUSIVE = 1092, "Arguments cannot both be specified";
        /// An option without the one that it belongs to.
        PREREQUISITE_MISSING = 1093, "Argument pre-requisite missing";
        /// A required word is missing.
        ARGUMENT_MISSING = 1095, "Required argument missing";
        /// A value that is no such thing.
        INVALID_ARGUMENT_VALUE = 1097, "Invalid argument value";
        /// The word begins several options.
        AMBIGUOUS_ARGUMENT = 1099, "Ambiguous argument name";
        /// The word begins several values.
        AMBIGUOUS_VALUE = 1105, "Ambiguous argument value";
        /// Longer than allowed.
        STRING_TOO_LONG = 1106, "String length exceeds maximum";
        /// Above the range.
        ABOVE_MAXIMUM = 1108, "Integer value exceeds maximum";
        /// Below the range.
        BELOW_MINIMUM = 1109, "Integer value below minimum";
        /// Not an IPv4 or IPv6 address, or of the wrong family.
        INVALID_IP = 1110, "Invalid IP address";
        /// Not a mask.
        INVALID_NETMASK = 1111, "Invalid netmask";
        /// `[9-3]`.
        BAD_RANGE = 1113, "Range minimum exceeds range maximum";
        /// A quote without its end.
        UNMATCHED_QUOTE = 1115, "Unmatched quote";
        /// A bracket range that is not `[a-b]`.
        INVALID_RANGE = 1116, "Invalid range specification";
        /// Two ranges of different sizes.
        MISMATCHED_RANGES = 1117, "Ranges are different sizes";
        /// Two ranges in one word.
        MULTIPLE_RANGES = 1118, "Only one range allowed per argument";
        /// Answer to `save ns config`; not an error.
        CONFIG_SAVED = 1130, "The running configuration has been saved";
        /// An IPv6 address without its prefix length.
        PREFIX_LENGTH_MISSING = 1142, "Prefix length must be given with an IPv6 address";
        /// What `force HA failover` asks back.
        CONFIRM_FAILOVER = 1146, "Please confirm whether you want force-failover (Y/N)? [N]:";
        /// Why `force HA failover` asks back.
        PEER_NOT_OPTIMUM = 1147, "Force Failover may cause configuration loss, peer health not optimum. Reason(s):";
        /// Question of a shell after `force HA sync`.
        SAVE_AFTER_SYNC = 1149, "Do you want to save the config after sync (Y/N)? [Y]:";
        /// Counters come from the running node only.
        NOT_A_LOG_FILE = 1159, "Not a NetScaler log file";
        /// A sessionless vserver that counts connections.
        SESSIONLESS_METHOD = 1280, "Incompatible LB method for sessionless vserver";
        /// A sessionless vserver that remembers clients.
        SESSIONLESS_PERSISTENCE = 1281, "Incompatible persistence method for sessionless vserver";
        /// A sessionless vserver of a type with connections.
        SESSIONLESS_TYPE = 1282, "Sessionless vserver must be of type ANY, DNS or UDP";
        /// A sessionless vserver that rewrites addresses.
        SESSIONLESS_MODE = 1283, "Sessionless vserver must have MAC or IPTUNNEL mode set";
        /// A sessionless vserver and a service without USIP.
        SESSIONLESS_NEEDS_USIP = 1284, "Service bound to a sessionless vserver must have UseSourceIP mode enabled";
        /// Spill-over by a threshold needs one.
        SPILL_THRESHOLD = 1288, "Spill-over threshold should be a non-zero value";
        /// A STATELESS vserver and a service without USIP.
        FAILOVER_NEEDS_USIP = 1289, "Service must have Use Source IP option set in order to be bound to a connection failover enabled virtual server";
        /// STATELESS on another type than ANY.
        FAILOVER_NEEDS_ANY = 1290, "Connection failover can only be enabled on a virtual server of service type ANY";
        /// The limits of the services are the threshold.
        SPILL_NO_THRESHOLD = 1291, "Spill-over threshold cannot be set for dynamic connection spill-over method";
        /// A flow that is nowhere kept cannot survive.
        FAILOVER_OF_SESSIONLESS = 1293, "Connection Failover is not supported for sessionless lb vserver";
        /// Vserver and service carry different things.
        TYPE_MISMATCH = 1304, "Service type mismatch between the vserver and service";
        /// The limits of the services are the threshold, and one has none.
        SPILL_MAX_CLIENT = 1313, "No spillover on the vserver due to max client setting '0' on a bound service";
        /// STATEFUL needs the same SNIPs on both nodes.
        FAILOVER_IN_INC = 1323, "Stateful connection failover cannot be enabled in INC mode";
        /// What a node has buffered dies with it; asked of the vserver.
        FAILOVER_SET_BUFFERING = 1324, "Stateful connection failover cannot be enabled on a vserver that binds services with TCP buffering enabled";
        /// The same, asked of the binding.
        FAILOVER_BIND_BUFFERING = 1326, "Service with TCP buffering enabled cannot be bound to a vserver with stateful connection failover enabled";
        /// The same, asked of the service.
        BUFFERING_WITH_FAILOVER = 1327, "TCP buffering cannot be enabled on a service bound to a vserver with stateful connection failover enabled";
        /// STATEFUL on a type whose flows are not mirrored.
        FAILOVER_TYPE = 1328, "Stateful connection failover cannot be enabled on a vserver of this service type";
        /// A TLS session dies with its node; asked of the binding.
        FAILOVER_BIND_SSL_TCP = 1329, "SSL TCP service cannot be bound to a TCP vserver with stateful connection failover enabled";
        /// `add HA node -inc ENABLED` beside a STATEFUL vserver.
        INC_WITH_FAILOVER = 1330, "Ha node with INC mode enabled cannot be added to the system that has vserver(s) with stateful connection failover enabled";
        /// A TLS session dies with its node; asked of the vserver.
        FAILOVER_SET_SSL_TCP = 1331, "Stateful connection failover cannot be enabled on a vserver that binds services of type SSL_TCP";
        /// A method that would stand in for itself.
        BACKUP_IS_PRIMARY = 1334, "Backup load balancing method must be different from the load balancing method";
        /// Binding a service on a loopback address.
        FAILOVER_BIND_LOOPBACK = 1338, "Loopback service cannot be bound to vserver with connection failover enabled ";
        /// Setting failover while such a service is bound.
        FAILOVER_SET_LOOPBACK = 1339, "Connection Failover cannot be set to STATEFUL/STATELESS on vserver with bound loopback service";
        /// A vserver of many addresses.
        FAILOVER_OF_PATTERN = 1342, "Connection Failover is not supported for pattern based vservers";
        /// `rm HA node` while a SYNC VLAN is set.
        SYNC_VLAN_SET = 1385, "Please unset sync vlan, before removing the HA node.";
        /// `force HA failover` on a node told to stay primary.
        STAY_PRIMARY = 1441, "Cannot failover as Node State set to STAYPRIMARY";
        /// `force HA sync` with a build that has no language in common with ours.
        VERSION_FORBIDS_SYNC = 1447, "HA version mismatch. Prop and sync not allowed";
        /// A change that stays here, because this node was told so.
        PROPAGATION_DISABLED = 1448, "Propagation disabled";
        /// `force HA failover` without a peer.
        ONE_NODE_DOWN = 1449, "Failover not permitted as one node is up and another node is down";
        /// A change that stays here, because the peer was told so.
        PEER_PROPAGATION_DISABLED = 1450, "Command propagation disabled.";
        /// A monitor that would probe again before the answer is due.
        INTERVAL_TOO_SHORT = 2128, "Interval should be greater than resptimeout";
        /// A vserver that keeps the packet's destination must be meant for any.
        REDIRECTION_NEEDS_ANY = 2329, "MAC/IPTUNNEL mode can be set only for a VIP with wildcard IP or with service type ANY or for a sessionless VIP";
        /// An interface that is in a set already, or has a virtual MAC address.
        INTERFACE_BOUND = 3329, "Interface already bound";
        /// An interface that is not in the set.
        INTERFACE_NOT_BOUND = 3330, "Interface not bound";
        /// No data port has that id.
        NO_SUCH_INTERFACE = 3331, "No such interface";
        /// Ours: how would a successor find the server?
        STATELESS_NEEDS_KEY = 60001, "Stateless connection failover needs SOURCEIP persistence or the SRCIPSRCPORTHASH method";
        /// Ours: how would a successor find the vserver of a server's packet?
        STATELESS_ONE_VSERVER = 60002, "A service of a vserver with stateless connection failover can be bound to that vserver only";
        /// Ours: the client's port is always kept with USIP.
        USIP_KEEPS_PORT = 60003, "Use Source IP keeps the client's port; Use Proxy Port must be NO";
        /// Ours: a single lost hello must not look like a death.
        DEAD_TOO_SHORT = 60004, "Dead interval must be at least three times the hello interval";
        /// Ours: names of objects are for those who use them.
        NAME_RESERVED = 60005, "The name belongs to a built-in object";
        /// Ours: `sync HA files` has nothing to do.
        NO_FILES_TO_SYNC = 60006, "There are no such files; the configuration is synchronized without this command";
        /// Ours, a warning: whoever was secondary must not become a second primary by that.
        PAIR_ENDED = 60007, "The pair has ended while both nodes are up: the node that was secondary is STAYSECONDARY now, and serves nobody until its -haStatus is changed";
        /// Ours: the peer would lose this node, and both would lead.
        NSIP_OF_A_PAIR = 60008, "The IP address cannot be changed while an HA node is configured; remove it first";
        /// Ours, a warning: the peer link needs it.
        NSIP_NOT_OF_HOST = 60009, "This host does not have the IP address";
        /// An FTP vserver or service with wildcards.
        FTP_NEEDS_PORT = 60010, "FTP needs one IP address and one port";
        /// Close on response means datagrams.
        ANSWER_NEEDS_UDP = 60011, "Close on response can only be enabled on a virtual server of service type UDP";
        /// A successor must find the server from the packet alone.
        STATELESS_SPILLS = 60012, "Stateless connection failover cannot be combined with a backup vserver, spillover, a health threshold or a service with maxClient";
        /// Ours, a warning: without a password nobody is the peer.
        NO_PASSWORD = 60013, "No rpcNode password is set, so the nodes will not talk to each other. On both nodes, for both addresses: set ns rpcNode <address> -password <password>";
        /// Ours, a warning: it stays in the configuration, DOWN.
        NOT_SERVED = 60020, "Not served by this release";
    }
}
