//! Turns our `.proto` files into messages, service stubs and JSON forms, without `protoc`.

use std::error::Error;

const FILES: [&str; 6] = [
    "kv.proto",
    "auth.proto",
    "rpc.proto",
    "lock.proto",
    "election.proto",
    "members.proto",
];
const PACKAGES: [&str; 6] = [
    ".mvccpb",
    ".authpb",
    ".etcdserverpb",
    ".v3lockpb",
    ".v3electionpb",
    ".synodpb",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;

    tonic_prost_build::configure()
        .bytes(".")
        .build_server(feature("SERVER"))
        .build_client(feature("CLIENT"))
        .build_transport(feature("CLIENT"))
        .compile_fds(descriptors.clone())?;

    if feature("JSON") {
        let mut json = pbjson_build::Builder::new();
        for file in descriptors.file {
            json.register_file_descriptor(file);
        }
        json.preserve_proto_field_names()
            .ignore_unknown_fields()
            .build(&PACKAGES)?;
    }
    Ok(())
}

fn feature(name: &str) -> bool {
    std::env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}
