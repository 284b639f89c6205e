//! Changes of client records, as they stand in the log. The tags are the format.

/// A change of client records.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ClientCommand {
    /// Which.
    #[prost(oneof = "ClientOperation", tags = "1")]
    pub operation: Option<ClientOperation>,
}

/// The kinds of changes.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum ClientOperation {
    /// Makes a record; repeated, it gives the same one.
    #[prost(message, tag = "1")]
    Register(Register),
}

/// See [`ClientOperation::Register`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Register {
    /// The lease that the record ends with. A lease has one record at most.
    #[prost(int64, tag = "1")]
    pub lease: i64,
}
