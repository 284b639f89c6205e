//! S1: nobody reads, watches or changes what its permissions forbid where its request takes effect, and nobody is refused what they allow.
//!
//! Changes are foretold by the [`Model`](crate::model::Model) at their place in the log. A read or the beginning of a watch names an index or a
//! revision, at which users may have changed: it must be right for the users as they were at one of those moments.

use super::{Check, broken};
use crate::model::Users;
use replica::{Body, WatchBody, WatchResponse};
use state::auth::AuthRejection;
use state::{Answer, Rejection, Reply};

/// The oracle.
#[derive(Debug, Default)]
pub struct Rights {
    /// The users from before the first change on.
    first: Users,
    /// The users as each change left them, with the index of its batch.
    since: Vec<(u64, Users)>,
    denied: u64,
}

impl Rights {
    /// Changes of users, and requests that were denied.
    pub fn counts(&self) -> (u64, u64) {
        (self.since.len() as u64, self.denied)
    }

    /// A request was answered.
    pub fn on_answer(&mut self, body: &Body) {
        if let Body::Reply(Reply::Rejected(Rejection::Auth(_)))
        | Body::Answer(Answer::Rejected(Rejection::Auth(_))) = body
        {
            self.denied += 1;
        }
    }

    /// A batch was decided, and its commands left the users so.
    pub fn on_batch(&mut self, index: u64, users: &[Users]) {
        let here = users.iter().map(|users| (index, users.clone()));
        self.since.extend(here);
    }

    /// The users as they were at some moment from the end of one index to that of another.
    fn between(&self, from: u64, to: u64) -> impl Iterator<Item = &Users> {
        let first = self.since.partition_point(|(index, _)| *index <= from);
        let last = self.since.partition_point(|(index, _)| *index <= to);
        let before = first.checked_sub(1).map(|before| &self.since[before].1);
        let later = self.since[first..last].iter().map(|(_, users)| users);
        std::iter::once(before.unwrap_or(&self.first)).chain(later)
    }

    /// The answer to a question in a view at an index or, unless the whole of its batch must have been `seen`, in the midst of that.
    pub fn check(
        &self,
        (index, seen): (u64, bool),
        answer: &Answer,
        judge: impl Fn(&Users) -> Result<(), AuthRejection>,
    ) -> Check {
        let verdict = match answer {
            Answer::Rejected(Rejection::Auth(denied)) => Err(*denied),
            _ => Ok(()),
        };
        let from = if seen { index } else { index.saturating_sub(1) };
        if self
            .between(from, index)
            .all(|users| judge(users) != verdict)
        {
            let judged: Vec<_> = self.between(from, index).map(judge).collect();
            broken!("S1", "permissions at index {index} say {judged:?}");
        }
        Ok(())
    }

    /// The beginning of a watch, or its refusal. `after` are the revisions after each index.
    pub fn check_watch(
        &self,
        after: &[(i64, i64)],
        response: &WatchResponse,
        judge: impl Fn(&Users) -> Result<(), AuthRejection>,
    ) -> Check {
        let verdict = match &response.body {
            WatchBody::Denied(denied) => Err(*denied),
            WatchBody::Created => Ok(()),
            _ => return Ok(()),
        };
        let index_before = |revision| after.partition_point(|(at, _)| *at < revision) as u64;
        let from = index_before(response.revision).saturating_sub(1);
        let to = index_before(response.revision + 1);
        if self.between(from, to).all(|users| judge(users) != verdict) {
            let judged: Vec<_> = self.between(from, to).map(judge).collect();
            let revision = response.revision;
            broken!(
                "S1",
                "a watch is told {:?}, and permissions while revision {revision} stood say {judged:?}",
                response.body
            );
        }
        Ok(())
    }
}
