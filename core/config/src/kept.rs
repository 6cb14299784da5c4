//! Types of the market that stay in the configuration and are not served: whoever binds them to each
//! other finds them as they were, and DOWN.

/// Idle time-out of TCP in seconds.
pub(crate) const TCP_IDLE_S: u64 = 9000;
/// Idle time-out of UDP and of anything else, in seconds.
pub(crate) const UDP_IDLE_S: u64 = 120;

/// What packets of a type travel by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Both, and echo.
    Any,
}

impl Transport {
    /// Whether one packet could be meant for both.
    pub(crate) fn overlaps(self, other: Transport) -> bool {
        self == other || self == Transport::Any || other == Transport::Any
    }
}

/// A type that is not served.
#[derive(Debug, PartialEq, Eq)]
pub struct KeptType {
    /// The market's word.
    pub(crate) word: &'static str,
    /// What it travels by: two vservers at one place must not overlap, served or not.
    pub(crate) transport: Transport,
    /// The market's idle time-outs, in seconds; shown, as all the rest.
    pub(crate) client_idle_s: u64,
    pub(crate) server_idle_s: u64,
}

const fn tcp(word: &'static str) -> KeptType {
    KeptType { word, transport: Transport::Tcp, client_idle_s: TCP_IDLE_S, server_idle_s: TCP_IDLE_S }
}

const fn udp(word: &'static str) -> KeptType {
    KeptType { word, transport: Transport::Udp, client_idle_s: UDP_IDLE_S, server_idle_s: UDP_IDLE_S }
}

/// Connections that carry requests do not idle for hours.
const fn web(word: &'static str) -> KeptType {
    KeptType { client_idle_s: 180, server_idle_s: 360, ..tcp(word) }
}

/// All of them; the table of commands offers the same words.
pub(crate) const KEPT: &[KeptType] = &[
    web("HTTP"),
    web("SSL"),
    tcp("SSL_TCP"),
    udp("DTLS"),
    tcp("NNTP"),
    udp("DNS"),
    udp("DHCPRA"),
    udp("SIP_UDP"),
    tcp("SIP_TCP"),
    tcp("SIP_SSL"),
    tcp("DNS_TCP"),
    tcp("RTSP"),
    tcp("PUSH"),
    tcp("SSL_PUSH"),
    udp("RADIUS"),
    tcp("RDP"),
    tcp("MYSQL"),
    tcp("MSSQL"),
    tcp("DIAMETER"),
    tcp("SSL_DIAMETER"),
    udp("TFTP"),
    tcp("ORACLE"),
    tcp("SMPP"),
    tcp("SYSLOGTCP"),
    udp("SYSLOGUDP"),
    tcp("FIX"),
    tcp("SSL_FIX"),
    tcp("USER_TCP"),
    tcp("USER_SSL_TCP"),
    tcp("PROXY"),
    udp("QUIC"),
    udp("QUIC_BRIDGE"),
    udp("HTTP_QUIC"),
    tcp("MONGO"),
    tcp("MONGO_TLS"),
    tcp("MQTT"),
    tcp("MQTT_TLS"),
    udp("IPFIX"),
    tcp("LOGSTREAM"),
];
