//! The table of settings: what each is called, what it does, in which unit, and what holds if nobody sets it.

/// A setting, as every place that reads or explains it knows it.
#[derive(Debug)]
pub struct Setting {
    /// Its name: the flag without dashes and the key in the file.
    pub name: &'static str,
    /// What a value looks like.
    pub value: &'static str,
    /// What holds if nobody sets it, in words or as a value.
    pub default: &'static str,
    /// What it does, and when to change it.
    pub help: &'static str,
}

impl Setting {
    /// The environment variable that sets it.
    pub fn environment(&self) -> String {
        format!("SYNOD_{}", self.name.replace('-', "_").to_uppercase())
    }
}

/// The value of a setting that is on or off; written without a value it is on.
pub const SWITCH: &str = "true|false";

/// Every setting of `serve`.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "name",
        value: "NAME",
        default: "n1",
        help: "Name of this member, unique in the cluster; one of those in --cluster",
    },
    Setting {
        name: "data-dir",
        value: "DIR",
        default: "./synod-data",
        help: "Directory that holds everything this member must not forget; made if missing, used by one process at a time",
    },
    Setting {
        name: "client-addr",
        value: "HOST:PORT,...",
        default: "127.0.0.1:2379",
        help: "Where to listen for clients; port 0 lets the system choose. Keep it on loopback or a private network, or give it certificates (--cert-file); behind http:// an address speaks plain text even then",
    },
    Setting {
        name: "metrics-addr",
        value: "HOST:PORT,...",
        default: "none",
        help: "Where to show metrics and health besides, and nothing else; behind http:// in plain text even with certificates, without them being asked for one",
    },
    Setting {
        name: "peer-addr",
        value: "HOST:PORT,...",
        default: "127.0.0.1:2380",
        help: "Where to listen for the other members. Keep it on loopback or a private network, or give it certificates (--peer-cert-file)",
    },
    Setting {
        name: "advertise-client-addr",
        value: "HOST:PORT,...",
        default: "same as --client-addr",
        help: "Where clients reach this member; set it when --client-addr is 0.0.0.0 or behind address translation",
    },
    Setting {
        name: "advertise-peer-addr",
        value: "HOST:PORT",
        default: "this member's address in --cluster",
        help: "Where the other members reach this one; must be its address in --cluster",
    },
    Setting {
        name: "cluster",
        value: "NAME=HOST:PORT,...",
        default: "this member alone",
        help: "All members the cluster begins with, this one included, with their peer addresses; the same on every member",
    },
    Setting {
        name: "cluster-state",
        value: "new|existing",
        default: "new",
        help: "existing: with an empty directory, only join the cluster that prepared a place for this member's peer address, never found one",
    },
    Setting {
        name: "heartbeat-interval",
        value: "DURATION",
        default: "100ms",
        help: "Time between a leader's heartbeats, 10ms to 10s; raise it with --election-timeout on slow networks, the same on every member",
    },
    Setting {
        name: "election-timeout",
        value: "DURATION",
        default: "500ms",
        help: "Silence after which a member asks for an election, at least 3 heartbeats; each round waits up to twice as long, drawn at random",
    },
    Setting {
        name: "leader-priority",
        value: "NUMBER",
        default: "0",
        help: "Preference of this member as the leader, 0 to 1000: one that is ready and has a higher number takes leadership over",
    },
    Setting {
        name: "state-bytes-max",
        value: "BYTES",
        default: "2GiB",
        help: "Keys, values and history held in memory at most; above it only deletes and compaction pass. The leader's holds; 0 means 2GiB, as in etcd",
    },
    Setting {
        name: "state-bytes-warn",
        value: "BYTES",
        default: "4/5 of --state-bytes-max",
        help: "Keys, values and history above which a member warns, in its log and as a metric, before writes are refused",
    },
    Setting {
        name: "auto-compaction-mode",
        value: "periodic|revision",
        default: "periodic",
        help: "Whether --auto-compaction-retention is a time or a number of revisions; the leader's holds",
    },
    Setting {
        name: "auto-compaction-retention",
        value: "DURATION|COUNT",
        default: "0",
        help: "History kept without being asked: a time such as 1h or 30m, or in hours; in mode revision a number of revisions; 0 keeps all until a client compacts",
    },
    Setting {
        name: "request-bytes-max",
        value: "BYTES",
        default: "1536KiB",
        help: "Size of one change at most; larger ones are refused",
    },
    Setting {
        name: "txn-operations-max",
        value: "COUNT",
        default: "10000",
        help: "Comparisons or operations in one list of a transaction at most, besides --request-bytes-max; etcd's default is 128",
    },
    Setting {
        name: "cors",
        value: "ORIGIN,...",
        default: "*",
        help: "Web pages that browsers let talk to this member, by their origin, such as https://console.example; * is all",
    },
    Setting {
        name: "concurrent-streams-max",
        value: "COUNT",
        default: "10000",
        help: "Calls and streams open at once on one client connection at most; the client's library queues the rest",
    },
    Setting {
        name: "connections-max",
        value: "COUNT",
        default: "50000",
        help: "Client connections of this member at most; further ones are told so and closed",
    },
    Setting {
        name: "watches-max",
        value: "COUNT",
        default: "1000000",
        help: "Watches of this member at most, over all connections; further ones are refused. An idle one costs about half a KiB",
    },
    Setting {
        name: "stream-watches-max",
        value: "COUNT",
        default: "250000",
        help: "Watches in one stream at most; further ones are refused",
    },
    Setting {
        name: "leases-max",
        value: "COUNT",
        default: "1000000",
        help: "Leases of the cluster at which this member grants no more; each counts 128 bytes of --state-bytes-max besides",
    },
    Setting {
        name: "snapshot-log-bytes",
        value: "BYTES",
        default: "64MiB",
        help: "A snapshot is taken when the log since the last one exceeds this and the size of the state; lower it for a faster start",
    },
    Setting {
        name: "snapshot-keep-entries",
        value: "COUNT",
        default: "10000",
        help: "Log entries kept behind a snapshot, so that a member a little behind needs no snapshot",
    },
    Setting {
        name: "log-segment-bytes",
        value: "BYTES",
        default: "16MiB",
        help: "Length of a file of the log; one more than is in use is always reserved",
    },
    Setting {
        name: "disk-low-water-bytes",
        value: "BYTES",
        default: "256MiB",
        help: "Free space on the disk below which only deletes and compaction pass",
    },
    Setting {
        name: "stop-timeout",
        value: "DURATION",
        default: "5s",
        help: "How long a stopping member may take to hand over leadership and end its requests",
    },
    Setting {
        name: "cert-file",
        value: "FILE",
        default: "none",
        help: "Certificate for clients, in PEM form, followed by those between it and its authority; with it the client port speaks TLS only. Files are read again when they change",
    },
    Setting {
        name: "key-file",
        value: "FILE",
        default: "none",
        help: "Key of --cert-file, in PEM form",
    },
    Setting {
        name: "trusted-ca-file",
        value: "FILE",
        default: "none",
        help: "Authorities of clients; with it every client must show a certificate of theirs",
    },
    Setting {
        name: "client-cert-auth",
        value: SWITCH,
        default: "false",
        help: "Demand a certificate from every client; its common name is its user name unless it gives a token. --trusted-ca-file does so too",
    },
    Setting {
        name: "client-crl-file",
        value: "FILE",
        default: "none",
        help: "Revocation list for clients' certificates, in PEM or DER form",
    },
    Setting {
        name: "client-cert-allowed-hostname",
        value: "HOST,...",
        default: "everyone",
        help: "Let in only clients whose certificate is made out for one of these hosts",
    },
    Setting {
        name: "auto-tls",
        value: SWITCH,
        default: "false",
        help: "Make a certificate for clients at the start: hides what is sent, proves nothing. --cert-file goes before it",
    },
    Setting {
        name: "peer-cert-file",
        value: "FILE",
        default: "none",
        help: "Certificate for the other members, shown when they dial and when this one does; with it the peer port speaks TLS only. On every member or on none",
    },
    Setting {
        name: "peer-key-file",
        value: "FILE",
        default: "none",
        help: "Key of --peer-cert-file",
    },
    Setting {
        name: "peer-trusted-ca-file",
        value: "FILE",
        default: "none",
        help: "Authorities of the members; each must show a certificate of theirs",
    },
    Setting {
        name: "peer-client-cert-auth",
        value: SWITCH,
        default: "false",
        help: "Demand a certificate from every member that dials; --peer-trusted-ca-file does so too",
    },
    Setting {
        name: "peer-crl-file",
        value: "FILE",
        default: "none",
        help: "Revocation list for members' certificates, in PEM or DER form",
    },
    Setting {
        name: "peer-cert-allowed-cn",
        value: "NAME,...",
        default: "everyone",
        help: "Let in only members whose certificate has one of these common names; without it any certificate of the authorities makes a member",
    },
    Setting {
        name: "peer-cert-allowed-hostname",
        value: "HOST,...",
        default: "everyone",
        help: "Let in only members whose certificate is made out for one of these hosts",
    },
    Setting {
        name: "peer-client-cert-file",
        value: "FILE",
        default: "none",
        help: "Certificate to show when this member dials, if it differs from --peer-cert-file",
    },
    Setting {
        name: "peer-client-key-file",
        value: "FILE",
        default: "none",
        help: "Key of --peer-client-cert-file",
    },
    Setting {
        name: "peer-auto-tls",
        value: SWITCH,
        default: "false",
        help: "Make a certificate for members at the start: hides what is sent, proves nothing. On every member or on none",
    },
    Setting {
        name: "tls-min-version",
        value: "TLS1.2|TLS1.3",
        default: "TLS1.2",
        help: "Lowest version of TLS spoken on either port",
    },
    Setting {
        name: "tls-max-version",
        value: "TLS1.2|TLS1.3",
        default: "TLS1.3",
        help: "Highest version of TLS spoken on either port",
    },
    Setting {
        name: "cipher-suites",
        value: "NAME,...",
        default: "all that are safe",
        help: "Cipher suites spoken, under their standard names; leave it out for all that are safe. Those of TLS 1.3 are all spoken unless one of them is named",
    },
    Setting {
        name: "auth-token",
        value: "KIND",
        default: "simple",
        help: "Tokens that users get for their password: simple, or jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=5m. The same on every member",
    },
    Setting {
        name: "auth-token-ttl",
        value: "SECONDS",
        default: "300",
        help: "How long a simple token stays valid after its last use, as a number of seconds or a duration; the same on every member",
    },
    Setting {
        name: "bcrypt-cost",
        value: "COUNT",
        default: "10",
        help: "Work that hashing a password takes, 4 to 31; each step doubles it, for who guesses at passwords and for every new log-in",
    },
    Setting {
        name: "enable-distributed-tracing",
        value: SWITCH,
        default: "false",
        help: "Send traces of requests, step by step through the members, to --distributed-tracing-address: OpenTelemetry's OTLP over gRPC, in plain text",
    },
    Setting {
        name: "distributed-tracing-address",
        value: "HOST:PORT",
        default: "localhost:4317",
        help: "Collector that traces are sent to; one that does not answer costs traces, never requests",
    },
    Setting {
        name: "distributed-tracing-service-name",
        value: "NAME",
        default: "synod",
        help: "What traces call this service; the same on every member",
    },
    Setting {
        name: "distributed-tracing-instance-id",
        value: "NAME",
        default: "the member's name",
        help: "What traces call this member",
    },
    Setting {
        name: "distributed-tracing-sampling-rate",
        value: "COUNT",
        default: "0",
        help: "Requests of a million that are traced unasked; those whose client says that it traces them (traceparent) always are",
    },
];
