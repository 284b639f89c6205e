//! One leader at a time, whom everybody can look up.

use crate::call::{Kind, Wait};
use crate::follow::Follow;
use crate::guard::{Acquisition, certainly};
use crate::session::millis;
use crate::{Client, ClientError, Guard, Session};
use proto::synod::v1 as api;
use proto::synod::v1::election_client::ElectionClient;
use std::time::Duration;

/// An election: candidates wait in a queue, and one leads at a time.
#[derive(Clone)]
pub struct Election {
    session: Session,
    name: String,
    priority: i32,
    lock_delay: Duration,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The leader's word: its address, say.
    pub text: String,
    /// Fencing token of its leadership.
    pub token: u64,
    /// Its session.
    pub session: i64,
    /// Since when: milliseconds since 1970, by the cell's clock.
    pub since_unix_ms: u64,
}

impl Election {
    /// The election of this name, for this session.
    pub fn new(session: &Session, name: &str) -> Election {
        Election {
            session: session.clone(),
            name: name.to_owned(),
            priority: 0,
            lock_delay: Duration::ZERO,
        }
    }

    /// The same election; among those who wait, a higher priority leads first. The default is 0.
    pub fn with_priority(mut self, priority: i32) -> Election {
        self.priority = priority;
        self
    }

    /// The same election, in which nobody leads for so long (a minute at most) after this one's session was lost while it led.
    pub fn with_lock_delay(mut self, delay: Duration) -> Election {
        self.lock_delay = delay;
        self
    }

    /// Waits until this candidate leads. The text is the leader's word. Dropping the future takes the candidate back.
    ///
    /// # Errors
    /// See [`ClientError`]; the session may be lost while this waits.
    pub async fn campaign(&self, text: &str) -> Result<Leadership, ClientError> {
        let guard = certainly(self.stand(text, Wait::Ever).await?)?;
        Ok(Leadership { guard })
    }

    /// The same for so long at most.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn campaign_within(
        &self,
        text: &str,
        time: Duration,
    ) -> Result<Option<Leadership>, ClientError> {
        let guard = self.stand(text, Wait::within(time)).await?;
        Ok(guard.map(|guard| Leadership { guard }))
    }

    async fn stand(&self, text: &str, wait: Wait) -> Result<Option<Guard>, ClientError> {
        let make = |id, wait_ms| api::CampaignRequest {
            change: None,
            name: self.name.clone(),
            session: self.session.number(),
            id,
            text: text.to_owned(),
            priority: self.priority,
            wait_ms,
            lock_delay_ms: millis(self.lock_delay),
            sign: false,
        };
        let call = async |channel, request| ElectionClient::new(channel).campaign(request).await;
        Acquisition::new(&self.session, &self.name)
            .wait(wait, make, call, |answer: &api::CampaignResponse| {
                answer.token
            })
            .await
    }

    /// Who leads now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn leader(&self) -> Result<Option<Leader>, ClientError> {
        leader(self.session.client(), &self.name).await
    }

    /// Follows who leads.
    pub fn observe(&self) -> Leaders {
        Leaders::of(self.session.client(), &self.name)
    }
}

/// Who leads now, for those who are no candidates and need no session.
///
/// # Errors
/// See [`ClientError`].
pub async fn leader(client: &Client, name: &str) -> Result<Option<Leader>, ClientError> {
    let request = api::LeaderRequest {
        consistency: None,
        name: name.to_owned(),
    };
    let call = async |channel, request| ElectionClient::new(channel).leader(request).await;
    let answer = client.unary(Kind::Read, request, call).await?;
    Ok(answer.message.leader.map(Leader::of))
}

impl Leader {
    fn of(acquisition: api::Acquisition) -> Leader {
        Leader {
            text: acquisition.text,
            token: acquisition.token,
            session: acquisition.session,
            since_unix_ms: acquisition.since_unix_ms,
        }
    }
}

/// Leadership, given up when it is dropped.
#[must_use = "it is given up when it is dropped"]
pub struct Leadership {
    guard: Guard,
}

impl Leadership {
    /// What holds it: its token goes with the leader's writes.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What holds it, alone.
    pub fn into_guard(self) -> Guard {
        self.guard
    }

    /// The fencing token: greater than those of all leaders before.
    pub fn token(&self) -> u64 {
        self.guard.token()
    }

    /// Waits until leadership is lost, and says how; see [`Guard::lost`].
    pub async fn lost(&self) -> String {
        self.guard.lost().await
    }

    /// Changes the leader's word.
    ///
    /// # Errors
    /// See [`ClientError`]; refused if this one does not lead any more.
    pub async fn proclaim(&self, text: &str) -> Result<(), ClientError> {
        self.guard.set_text(text).await
    }

    /// Steps down now.
    ///
    /// # Errors
    /// See [`Guard::release`].
    pub async fn resign(self) -> Result<(), ClientError> {
        self.guard.release().await
    }
}

/// Follows who leads.
pub struct Leaders(Follow<api::ObserveRequest, api::LeaderResponse>);

impl Leaders {
    /// Follows an election, without being a candidate.
    pub fn of(client: &Client, name: &str) -> Leaders {
        Leaders(Follow::leader(client, name))
    }

    /// Who leads at first, then after each change; `None` while nobody does. Whoever reads slowly hears the newest.
    ///
    /// # Errors
    /// No endpoint could serve for as long as a request may take.
    pub async fn next(&mut self) -> Result<Option<Leader>, ClientError> {
        Ok(self.0.next().await?.leader.map(Leader::of))
    }
}
