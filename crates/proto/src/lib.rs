//! Messages and service stubs of the etcd API and of our own. No logic.
//!
//! The modules are named as the protobuf packages. Stubs for servers and clients and the JSON form (etcd's: original field names, 64-bit
//! numbers as strings, bytes in base64) stand behind the features `server`, `client` and `json`.

/// Keys and their changes.
#[allow(missing_docs, clippy::all)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/mvccpb.serde.rs"));
}

/// Users, roles and permissions.
#[allow(missing_docs, clippy::all)]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/authpb.serde.rs"));
}

/// Requests, responses and services.
#[allow(missing_docs, clippy::all)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.serde.rs"));
}

/// The lock service.
#[allow(missing_docs, clippy::all)]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.serde.rs"));
}

/// The election service.
#[allow(missing_docs, clippy::all)]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.serde.rs"));
}

/// Calls of our own, beside those of etcd.
#[allow(missing_docs, clippy::all)]
pub mod synodpb {
    include!(concat!(env!("OUT_DIR"), "/synodpb.rs"));
    #[cfg(feature = "json")]
    include!(concat!(env!("OUT_DIR"), "/synodpb.serde.rs"));
}

/// The native API.
pub mod synod {
    /// Its first version.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/synod.v1.rs"));
        #[cfg(feature = "json")]
        include!(concat!(env!("OUT_DIR"), "/synod.v1.serde.rs"));
    }
}

/// The JSON form of the native API, as an OpenAPI document.
#[cfg(feature = "json")]
pub const OPENAPI: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

pub mod shape;
