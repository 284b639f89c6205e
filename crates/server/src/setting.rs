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
        value: "HOST:PORT",
        default: "127.0.0.1:2379",
        help: "Where to listen for clients; port 0 lets the system choose. Keep it on loopback or a private network: there is no TLS yet",
    },
    Setting {
        name: "peer-addr",
        value: "HOST:PORT",
        default: "127.0.0.1:2380",
        help: "Where to listen for the other members. Keep it on loopback or a private network: there is no TLS yet",
    },
    Setting {
        name: "advertise-client-addr",
        value: "HOST:PORT",
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
        name: "state-bytes-max",
        value: "BYTES",
        default: "2GiB",
        help: "Keys, values and history held in memory at most; above it only deletes and compaction pass. The same on every member",
    },
    Setting {
        name: "request-bytes-max",
        value: "BYTES",
        default: "1536KiB",
        help: "Size of one change at most; larger ones are refused",
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
];
