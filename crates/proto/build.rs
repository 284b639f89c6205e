//! Turns our `.proto` files into messages, service stubs, JSON forms and an OpenAPI document, without `protoc`.

#[path = "build/openapi.rs"]
mod openapi;
#[path = "build/shapes.rs"]
mod shapes;

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 13] = [
    "kv.proto",
    "auth.proto",
    "rpc.proto",
    "lock.proto",
    "election.proto",
    "members.proto",
    "backup.proto",
    "synod/v1/kv.proto",
    "synod/v1/watch.proto",
    "synod/v1/lease.proto",
    "synod/v1/lock.proto",
    "synod/v1/coordination.proto",
    "synod/v1/id.proto",
];
const PACKAGES: [&str; 7] = [
    ".mvccpb",
    ".authpb",
    ".etcdserverpb",
    ".v3lockpb",
    ".v3electionpb",
    ".synodpb",
    ".synod.v1",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build");
    let descriptors = protox::compile(FILES, ["proto"])?;

    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .build_server(feature("SERVER"))
        .build_client(feature("CLIENT"))
        .build_transport(feature("CLIENT"))
        .compile_fds_with_config(descriptors.clone(), config)?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("shapes.rs"), shapes::table(&descriptors)?)?;
    if feature("JSON") {
        std::fs::write(out.join("openapi.json"), openapi::document(&descriptors)?)?;
        let mut json = pbjson_build::Builder::new();
        for file in descriptors.file {
            json.register_file_descriptor(file);
        }
        json.preserve_proto_field_names()
            .ignore_unknown_fields()
            .btree_map([".synod.v1"])
            .build(&PACKAGES)?;
    }
    Ok(())
}

fn feature(name: &str) -> bool {
    std::env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}
