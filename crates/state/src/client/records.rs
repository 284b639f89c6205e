//! What is kept of clients: rows as they stand in a snapshot, and what follows from them.

use crate::hash;
use crate::table::{Row, Table};
use std::collections::BTreeMap;
use std::ops::Bound;

/// A client.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Client {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// It ends with this lease.
    #[prost(int64, tag = "2")]
    pub lease: i64,
    /// Who registered it; nobody else gets its replies.
    #[prost(string, tag = "3")]
    pub principal: String,
    /// Replies below are freed.
    #[prost(uint64, tag = "4")]
    pub acknowledged_below: u64,
}

/// A request of a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub(crate) struct Request {
    #[prost(uint64, tag = "1")]
    pub client: u64,
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
}

/// A request that was applied, and what it was answered.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answered {
    #[prost(message, required, tag = "1")]
    pub request: Request,
    /// The revision told with the reply.
    #[prost(int64, tag = "2")]
    pub revision: i64,
    #[prost(bytes = "vec", tag = "3")]
    pub reply: Vec<u8>,
}

/// Counted for a client besides the name of who registered it.
pub(crate) const CLIENT_BYTES: u64 = 256;
/// Counted for a reply besides its bytes.
const ANSWERED_BYTES: u64 = 96;

impl Client {
    fn bytes(&self) -> u64 {
        CLIENT_BYTES + self.principal.len() as u64
    }
}

impl Answered {
    fn bytes(&self) -> u64 {
        ANSWERED_BYTES + self.reply.len() as u64
    }
}

impl Row for Client {
    type Key = u64;

    fn key(&self) -> &u64 {
        &self.id
    }

    fn hash(&self) -> u64 {
        hash::message(self)
    }
}

impl Row for Answered {
    type Key = Request;

    fn key(&self) -> &Request {
        &self.request
    }

    fn hash(&self) -> u64 {
        hash::message(self)
    }
}

/// All client records.
#[derive(Default)]
pub(crate) struct Clients {
    clients: Table<Client>,
    answered: Table<Answered>,
    // What follows from them.
    by_lease: BTreeMap<i64, u64>,
    /// Bytes of replies by client.
    kept: BTreeMap<u64, u64>,
    bytes: u64,
}

impl Clients {
    /// Pins the rows.
    pub fn pin(&self) -> (Table<Client>, Table<Answered>) {
        (self.clients.clone(), self.answered.clone())
    }

    /// Of all rows; `None` while there are none.
    pub fn hash(&self) -> Option<u64> {
        (self.clients.len() > 0).then(|| {
            hash::mix_all(&[
                self.clients.sum(),
                self.clients.len() as u64,
                self.answered.sum(),
                self.answered.len() as u64,
            ])
        })
    }

    /// Counted against the limit of the state.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.clients.len()
    }

    pub fn get(&self, client: u64) -> Option<&Client> {
        self.clients.get(&client)
    }

    /// The record that ends with a lease.
    pub fn of_lease(&self, lease: i64) -> Option<u64> {
        self.by_lease.get(&lease).copied()
    }

    pub fn answered(&self, request: Request) -> Option<&Answered> {
        self.answered.get(&request)
    }

    /// The newest request of a client whose reply is kept.
    #[cfg(feature = "mutations")]
    pub fn newest_of(&self, client: u64) -> u64 {
        let first = Request {
            client,
            sequence: 0,
        };
        let of_client = self.answered.range(Bound::Included(&first));
        let of_client = of_client.take_while(|answered| answered.request.client == client);
        of_client
            .last()
            .map_or(0, |answered| answered.request.sequence)
    }

    /// Bytes of replies kept for a client.
    pub fn kept(&self, client: u64) -> u64 {
        self.kept.get(&client).copied().unwrap_or(0)
    }

    pub fn set(&mut self, client: Client) {
        self.by_lease.insert(client.lease, client.id);
        self.bytes += client.bytes();
        if let Some(old) = self.clients.set(client) {
            self.bytes -= old.bytes();
        }
    }

    pub fn keep(&mut self, answered: Answered) {
        let bytes = answered.bytes();
        self.bytes += bytes;
        *self.kept.entry(answered.request.client).or_default() += bytes;
        let old = self.answered.set(answered);
        assert!(old.is_none(), "{old:?} is answered twice");
    }

    /// Frees the oldest reply of a client below a sequence; false if there is none.
    pub fn free_one(&mut self, client: u64, below: u64) -> bool {
        let first = Request {
            client,
            sequence: 0,
        };
        let next = self.answered.range(Bound::Included(&first)).next();
        let Some(request) = next.map(|answered| answered.request) else {
            return false;
        };
        if request.client != client || request.sequence >= below {
            return false;
        }
        let bytes = self
            .answered
            .remove(&request)
            .expect("it was found")
            .bytes();
        self.bytes -= bytes;
        *self.kept.get_mut(&client).expect("it has replies") -= bytes;
        true
    }

    /// Forgets a client whose replies are all freed.
    pub fn remove(&mut self, client: u64) {
        if let Some(old) = self.clients.remove(&client) {
            self.by_lease.remove(&old.lease);
            self.kept.remove(&client);
            self.bytes -= old.bytes();
        }
    }
}
