//! The tries of one request: whom it goes to, one after the other, and what each of them said.

use crate::connection::Connection;
use crate::error::SILENT;
use crate::links::Route;
use crate::retry::Backoff;
use crate::{Client, ClientError};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long one endpoint may take for what may be repeated, while there are others to ask.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// See the module.
pub(crate) struct Tries<'a> {
    client: &'a Client,
    /// The endpoint whose turn it is; numbers go round.
    turn: usize,
    /// Where all have had their turn.
    round_end: usize,
    /// When the request's time is over, if ever.
    deadline: Option<Instant>,
    backoff: Backoff,
    /// What each of those that were asked said last.
    troubles: BTreeMap<usize, String>,
    /// One of them may have done it.
    pub may_be_done: bool,
}

impl<'a> Tries<'a> {
    pub fn new(client: &'a Client, first: usize, deadline: Option<Instant>) -> Tries<'a> {
        Tries {
            client,
            turn: first,
            round_end: first + client.links.len(),
            deadline,
            backoff: Backoff::new(),
            troubles: BTreeMap::new(),
            may_be_done: false,
        }
    }

    /// Those of a stream, which goes on where it was.
    pub fn near(client: &'a Client, last: Option<usize>) -> Tries<'a> {
        let choose = || client.links.choose(Route::Near, client.zone.as_deref());
        let deadline = Instant::now() + client.timeout;
        Tries::new(client, last.unwrap_or_else(choose), Some(deadline))
    }

    /// The next endpoint that speaks.
    ///
    /// # Errors
    /// There is no time for another try; says what went wrong with each.
    pub async fn reach(&mut self) -> Result<(usize, Connection), ClientError> {
        let links = &self.client.links;
        loop {
            let all = self.turn..self.turn + links.len();
            let left = all.filter(|number| !(self.client.once && self.was_asked(*number)));
            let left: Vec<usize> = left.collect();
            let trouble = |number: usize, reason: &str| {
                let text = format!("{}: {reason}", links.at(number).name);
                note(&mut self.troubles, number % links.len(), &text);
            };
            let reaching = links.reach(left.into_iter(), trouble);
            let reached = match self.deadline {
                Some(deadline) => timeout_at(deadline, reaching).await.ok().flatten(),
                None => reaching.await,
            };
            if let Some((number, connection)) = reached {
                self.turn = number;
                return Ok((number, connection));
            }
            self.turn += links.len();
            self.pause(Duration::ZERO).await?;
        }
    }

    /// Until when the endpoint whose turn it is may take for what may be repeated: those behind it have theirs within the time there is.
    pub fn patience(&self) -> Instant {
        let now = Instant::now();
        let count = self.client.links.len();
        let left = self.deadline.map(|end| end.saturating_duration_since(now));
        let behind = self.round_end.saturating_sub(self.turn).clamp(1, count);
        let share = left.map_or(ATTEMPT_TIMEOUT, |left| left / behind as u32);
        match self.deadline {
            Some(deadline) if count == 1 => deadline,
            _ => now + share.min(ATTEMPT_TIMEOUT),
        }
    }

    /// Takes note of what the endpoint said whose turn it was, and waits until the next one may be asked.
    ///
    /// # Errors
    /// As [`Tries::reach`]; or another try would end no other way.
    pub async fn failed(
        &mut self,
        error: ClientError,
        at_least: Duration,
    ) -> Result<(), ClientError> {
        if !error.is_transient() {
            return Err(error);
        }
        let links = &self.client.links;
        if let Some(trouble) = error.trouble() {
            note(&mut self.troubles, self.turn % links.len(), trouble);
        }
        if !error.is_stale() {
            links.failed(self.turn);
        }
        self.turn += 1;
        self.pause(at_least).await
    }

    /// The error with which the endpoint whose turn it is ended the request, with what it said before it fell silent.
    pub fn ends_with(&mut self, error: ClientError) -> ClientError {
        let number = self.turn % self.client.links.len();
        if let Some(trouble) = error.trouble() {
            note(&mut self.troubles, number, trouble);
        }
        let said = self.troubles.remove(&number);
        match (error, said) {
            (ClientError::Unknown { .. }, Some(reason)) => ClientError::Unknown { reason },
            (ClientError::Unreachable { .. }, Some(reason)) => ClientError::Unreachable { reason },
            (error, _) => error,
        }
    }

    /// Goes on with this endpoint.
    pub fn go_to(&mut self, number: usize) {
        self.turn = number;
    }

    fn was_asked(&self, number: usize) -> bool {
        let number = number % self.client.links.len();
        self.troubles.contains_key(&number)
    }

    async fn pause(&mut self, at_least: Duration) -> Result<(), ClientError> {
        let count = self.client.links.len();
        let mut pause = self.client.budget.take(Instant::now()).max(at_least);
        if self.turn >= self.round_end {
            self.round_end = self.turn + count;
            pause = pause.max(self.backoff.next());
        }
        let enough = self.client.once && self.troubles.len() == count;
        let end = Instant::now() + pause;
        if enough || self.deadline.is_some_and(|deadline| end >= deadline) {
            let troubles = std::mem::take(&mut self.troubles);
            let troubles = troubles.into_values().collect();
            return Err(ClientError::of_all(troubles, self.may_be_done));
        }
        sleep(pause).await;
        Ok(())
    }
}

/// Silence does not cover what was said before it.
fn note(troubles: &mut BTreeMap<usize, String>, number: usize, text: &str) {
    let text = match troubles.get(&number) {
        Some(before) if text.ends_with(SILENT) && !before.ends_with(SILENT) => {
            format!("{before}, then {SILENT}")
        }
        _ => text.to_owned(),
    };
    troubles.insert(number, text);
}
