//! What peers send: any bytes are a message or are refused, and a message means the same after another round on the wire.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let bytes = Bytes::copy_from_slice(bytes);
    match kind % 4 {
        0 => {
            if let Ok(message) = raft::Message::decode(bytes) {
                assert_eq!(raft::Message::decode(message.encode()), Ok(message));
            }
        }
        1 => {
            if let Ok(configuration) = raft::Configuration::decode(bytes) {
                let again = raft::Configuration::decode(configuration.encode());
                assert_eq!(again, Ok(configuration));
            }
        }
        2 => {
            if let Ok(message) = replica::Message::decode(bytes) {
                assert_eq!(replica::Message::decode(message.encode()), Ok(message));
            }
        }
        _ => {
            if let Ok(message) = replica::BootstrapMessage::decode(bytes) {
                let again = replica::BootstrapMessage::decode(message.encode());
                assert_eq!(again, Ok(message));
            }
        }
    }
});
