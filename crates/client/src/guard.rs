//! What an acquisition gives: a guard that holds something until it is dropped, and the fence that others check.

use crate::call::{Kind, Wait};
use crate::follow::Follow;
use crate::{Client, ClientError, Session};
use proto::synod::v1 as api;
use proto::synod::v1::lock_client::LockClient;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// A lock's name and the token of a grant: what a request carries that must not be applied once the grant is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The lock.
    pub name: String,
    /// The token of the grant.
    pub token: u64,
}

impl Fence {
    /// Reads what [`Fence::text`] wrote.
    pub fn parse(text: &str) -> Option<Fence> {
        let (name, token) = text.rsplit_once(':')?;
        Some(Fence {
            name: name.to_owned(),
            token: token.parse().ok().filter(|token| *token > 0)?,
        })
    }

    /// Name and token with a colon between, as `synod put --guard` takes it.
    pub fn text(&self) -> String {
        format!("{}:{}", self.name, self.token)
    }

    /// As requests of etcd's API carry it: what is not plain in the name as a percent sign and two digits.
    pub(crate) fn metadata(&self) -> String {
        let mut text = String::new();
        for byte in self.name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                    text.push(char::from(byte));
                }
                other => text.push_str(&format!("%{other:02X}")),
            }
        }
        format!("{text}:{}", self.token)
    }

    pub(crate) fn guard(&self) -> api::Guard {
        api::Guard {
            name: self.name.clone(),
            token: self.token,
        }
    }
}

/// Something held: a mutex, a side of a read-write lock, permits of a semaphore, leadership, membership, a place in a barrier. It is given up when the
/// guard is dropped, in the background; [`Guard::release`] does it now, and says whether it worked.
///
/// That a guard exists does not prove that it still holds: this process may have been stopped for longer than its session lives. [`Guard::lost`] tells in
/// time; where that is not enough, [`Guard::fence`] goes with each write, and whoever takes the write checks the token.
#[must_use = "it is given up when it is dropped"]
pub struct Guard {
    session: Session,
    name: String,
    id: u64,
    token: u64,
    held: bool,
}

impl Guard {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fencing token: greater than that of everybody who held it before.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Name and token, to go with requests.
    pub fn fence(&self) -> Fence {
        Fence {
            name: self.name.clone(),
            token: self.token,
        }
    }

    /// The session that holds it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The acquisition's number within its session.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether its session certainly lives on; asks the clock, not the members.
    pub fn is_held(&self) -> bool {
        self.session.is_alive()
    }

    /// Waits until it is lost, and says how: its session is, or an operator took it away. If the session is lost, nobody else can have it yet.
    pub async fn lost(&self) -> String {
        tokio::select! {
            reason = self.session.lost() => reason,
            () = self.taken() => "it was taken away".into(),
        }
    }

    /// Ends when its token is not among the holders any more.
    async fn taken(&self) {
        let mut holders = Follow::lock(self.session.client(), &self.name);
        loop {
            let now = match holders.next().await {
                Ok(now) => now,
                Err(error) if error.is_transient() => continue,
                // Nobody will say: what is certain then is what the session knows.
                Err(_) => return std::future::pending().await,
            };
            let all = now.lock.as_ref().map_or(0, |lock| lock.holders);
            let told = now.holders.len() as u64;
            let ours = now.holders.iter().any(|holder| holder.token == self.token);
            if !ours && told >= all {
                return;
            }
        }
    }

    /// Changes the text that others see beside it.
    ///
    /// # Errors
    /// See [`ClientError`]; refused if it is not held any more.
    pub async fn set_text(&self, text: &str) -> Result<(), ClientError> {
        let (change, _ticket) = self.session.change(&[]).await;
        let request = api::SetTextRequest {
            change,
            session: self.session.number(),
            id: self.id,
            text: text.to_owned(),
        };
        let call = async |channel, request| LockClient::new(channel).set_text(request).await;
        let client = self.session.client();
        client.unary(Kind::Once, request, call).await.map(drop)
    }

    /// A form of the token that others can verify without asking. It proves that the grant was made, not that it still holds: whoever takes it also keeps
    /// the greatest token seen.
    ///
    /// # Errors
    /// See [`ClientError`]; refused if it is not held any more.
    pub async fn sign(&self) -> Result<String, ClientError> {
        let request = api::SignRequest {
            session: self.session.number(),
            id: self.id,
        };
        let call = async |channel, request| LockClient::new(channel).sign(request).await;
        let answer = self
            .session
            .client()
            .unary(Kind::Read, request, call)
            .await?;
        Ok(answer.message.signed_token)
    }

    /// Gives it up now.
    ///
    /// # Errors
    /// See [`ClientError`]; refused if it was not held any more. It is given up in any case, at the latest with its session.
    pub async fn release(mut self) -> Result<(), ClientError> {
        let (change, _ticket) = self.session.change(&[]).await;
        let request = api::ReleaseRequest {
            change,
            session: self.session.number(),
            id: self.id,
        };
        let call = async |channel, request| LockClient::new(channel).release(request).await;
        let client = self.session.client();
        let released = client.unary(Kind::Once, request, call).await;
        // What may still hold goes on being given up.
        self.held = released.as_ref().is_err_and(ClientError::is_transient);
        released.map(drop)
    }

    /// It is not there any more, and need not be given up.
    pub(crate) fn forget(mut self) {
        self.held = false;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.held {
            self.session.let_go(self.id);
        }
    }
}

/// One acquisition, from its first request on: dropped before it is a guard, it gives its place up.
pub(crate) struct Acquisition {
    guard: Guard,
}

impl Acquisition {
    pub(crate) fn new(session: &Session, name: &str) -> Acquisition {
        let guard = Guard {
            session: session.clone(),
            name: name.to_owned(),
            id: session.next_acquisition(),
            token: 0,
            held: true,
        };
        Acquisition { guard }
    }

    /// Asks until it is held; `None` if it is not within the time. `make` makes the request for what is left of that time, `token` reads the answer.
    pub(crate) async fn wait<Q: Clone, A>(
        self,
        wait: Wait,
        make: impl Fn(u64, Option<u64>) -> Q,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
        token: impl Fn(&A) -> u64,
    ) -> Result<Option<Guard>, ClientError> {
        let mut guard = self.guard;
        let (session, id) = (guard.session.clone(), guard.id);
        let client: &Client = session.client();
        let waiting = client.waiting(wait, |left_ms| make(id, left_ms), call);
        match session.while_alive(waiting).await {
            Ok(Some(answer)) => {
                guard.token = token(&answer);
                Ok(Some(guard))
            }
            // These are definite: there is no place to give up.
            Ok(None) => {
                guard.forget();
                Ok(None)
            }
            Err(error) => {
                guard.held = error.is_transient();
                Err(error)
            }
        }
    }
}

/// The guard of an acquisition that was waited for without end.
pub(crate) fn certainly(guard: Option<Guard>) -> Result<Guard, ClientError> {
    guard.ok_or_else(|| ClientError::Unreachable {
        reason: "the member gave up a wait that has no end".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_comes_back_from_its_text() {
        let fence = Fence {
            name: "a:b, c".into(),
            token: 7,
        };
        assert_eq!(Fence::parse(&fence.text()), Some(fence.clone()));
        assert_eq!(fence.metadata(), "a%3Ab%2C%20c:7");
        for text in ["", "a", "a:", "a:0", "a:-1"] {
            assert_eq!(Fence::parse(text), None, "{text}");
        }
    }
}
