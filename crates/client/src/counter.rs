//! A number that many add to.

use crate::call::Kind;
use crate::{ClientError, Session};
use proto::synod::v1 as api;
use proto::synod::v1::id_client::IdClient;

/// A number that many add to, each addition once. It begins at 0 and outlives its users.
#[derive(Clone)]
pub struct Counter {
    session: Session,
    name: String,
}

impl Counter {
    /// The counter of this name.
    pub fn new(session: &Session, name: &str) -> Counter {
        Counter {
            session: session.clone(),
            name: name.to_owned(),
        }
    }

    /// Adds, and gives the sum. Added once, however often it has to be sent.
    ///
    /// # Errors
    /// See [`ClientError`]; refused if the sum is no 64-bit number.
    pub async fn add(&self, delta: i64) -> Result<i64, ClientError> {
        let (change, _ticket) = self.session.change(&[]).await;
        let request = api::AddRequest {
            change,
            name: self.name.clone(),
            delta,
        };
        let call = async |channel, request| IdClient::new(channel).add(request).await;
        let answer = self.session.client().unary(Kind::Once, request, call).await;
        Ok(answer?.message.value)
    }

    /// The sum.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self) -> Result<i64, ClientError> {
        self.add(0).await
    }
}
