//! What is known of the connection a request came over.

use std::sync::Arc;

/// Rides with each request of a client, among its extensions, if there is anything to say. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The common name of the client's certificate; known only if the port demands certificates and has checked this one.
    pub common_name: Option<Arc<str>>,
}
