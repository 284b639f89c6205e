//! How a request finds its way: which endpoint is asked, how often, and what of its fate is known in the end.

use crate::links::Route;
use crate::login::{TOKEN_METADATA, Token, wants_token};
use crate::session::millis;
use crate::tries::{ATTEMPT_TIMEOUT, Tries};
use crate::{
    Answer, CONSISTENCY_METADATA, Client, ClientError, GUARD_METADATA, STAMP_METADATA, Stamp,
};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Where a member says how long to wait before another try.
const RETRY_AFTER_METADATA: &str = "synod-retry-after-ms";
/// The reasons of refusals that say: it was not free in the time asked for.
const NOT_IN_TIME: [&str; 2] = ["lock-busy", "lock-timeout"];

/// How long an acquisition waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// Until then.
    Until(Instant),
    /// As long as its session lives.
    Ever,
}

impl Wait {
    /// For so long from now on.
    pub(crate) fn within(time: Duration) -> Wait {
        Instant::now()
            .checked_add(time)
            .map_or(Wait::Ever, Wait::Until)
    }

    /// What is left, as requests say it.
    fn left_ms(self) -> Option<u64> {
        match self {
            Wait::No => Some(0),
            Wait::Until(end) => Some(millis(end.saturating_duration_since(Instant::now()))),
            Wait::Ever => None,
        }
    }
}

/// Where a request goes, and whether it may be repeated when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes nothing.
    Read,
    /// Changes something, a second time if it is repeated.
    Change,
    /// Changes something once, however often it is sent.
    Once,
}

impl Kind {
    fn route(self) -> Route {
        match self {
            Kind::Read => Route::Near,
            Kind::Change | Kind::Once => Route::Leader,
        }
    }

    fn may_repeat(self, error: &ClientError) -> bool {
        match error {
            ClientError::Unknown { .. } => self != Kind::Change,
            error => error.is_transient(),
        }
    }
}

impl Client {
    /// Asks one endpoint after the other until one answers, the time is over, or nobody may be asked again.
    pub(crate) async fn unary<Q: Clone, A>(
        &self,
        kind: Kind,
        request: Q,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<Answer<A>, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let links = &self.links;
        let first = links.choose(kind.route(), self.zone.as_deref());
        let mut tries = Tries::new(self, first, Some(deadline));
        let mut is_first = true;
        loop {
            let (endpoint, connection) = tries.reach().await?;
            let link = links.at(endpoint);
            let patience = match kind {
                Kind::Change => deadline,
                Kind::Read | Kind::Once => tries.patience(),
            };
            let attempt = self.attempt(&connection.channel, &request, &call);
            let mut at_least = Duration::ZERO;
            let error = match timeout_at(patience, attempt).await {
                Ok(Ok(response)) => return Ok(self.answered(endpoint, response)),
                Ok(Err(status)) => {
                    at_least = retry_after(&status);
                    link.failed(&connection, &status)
                }
                Err(_) => link.silent(&connection, kind != Kind::Read, patience == deadline),
            };
            if !kind.may_repeat(&error) {
                if error.is_transient() {
                    links.failed(endpoint);
                }
                return Err(tries.ends_with(error));
            }
            tries.may_be_done |= kind != Kind::Read && matches!(error, ClientError::Unknown { .. });
            let stale = error.is_stale();
            tries.failed(error, at_least).await?;
            if stale
                && is_first
                && let Some(leader) = links.leader()
            {
                tries.go_to(leader);
            }
            is_first = false;
        }
    }

    /// Asks for something that may be answered much later, and goes on asking under the same name as long as it is wanted; `None`: not in time.
    /// `make` makes the request for what is left of the time.
    pub(crate) async fn waiting<Q: Clone, A>(
        &self,
        wait: Wait,
        make: impl Fn(Option<u64>) -> Q,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<Option<A>, ClientError> {
        let give_up = match wait {
            Wait::No => Some(Instant::now() + self.timeout),
            Wait::Until(end) => Some(end + self.timeout),
            Wait::Ever => None,
        };
        let first = self.links.choose(Route::Leader, self.zone.as_deref());
        let share = ATTEMPT_TIMEOUT.min(self.timeout / self.links.len() as u32);
        let mut tries = Tries::new(self, first, give_up);
        loop {
            let (endpoint, connection) = tries.reach().await?;
            let link = self.links.at(endpoint);
            let request = make(wait.left_ms());
            let attempt = self.attempt(&connection.channel, &request, &call);
            let mut at_least = Duration::ZERO;
            // Who waits for ever hears of a lost connection only.
            let answered = match wait {
                Wait::Ever => Ok(attempt.await),
                Wait::No => timeout(share, attempt).await,
                Wait::Until(end) => timeout_at(end.max(Instant::now()) + share, attempt).await,
            };
            let error = match answered {
                Ok(Ok(response)) => return Ok(Some(self.answered(endpoint, response).message)),
                Ok(Err(status)) => {
                    at_least = retry_after(&status);
                    link.failed(&connection, &status)
                }
                Err(_) => link.silent(&connection, false, false),
            };
            if NOT_IN_TIME.contains(&error.reason()) {
                return Ok(None);
            }
            tries.failed(error, at_least).await?;
        }
    }

    /// Takes note of an answer.
    fn answered<A>(&self, endpoint: usize, response: Response<A>) -> Answer<A> {
        self.links.answered(endpoint);
        let answer = answer(response);
        if let Some(stamp) = &answer.stamp {
            self.seen.see(Stamp::new(stamp));
        }
        answer
    }

    /// Asks one endpoint; once more if it wants another token, as then nothing has happened.
    pub(crate) async fn attempt<Q: Clone, A>(
        &self,
        channel: &Channel,
        request: &Q,
        call: &impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<Response<A>, Status> {
        let token = self.token(channel).await?;
        let first = self.request(request.clone(), token.as_ref());
        let outcome = call(channel.clone(), first).await;
        match (&self.login, &outcome) {
            (Some(login), Err(status)) if wants_token(status.message()) => {
                login.refused(token.as_ref());
                let token = self.token(channel).await?;
                let second = self.request(request.clone(), token.as_ref());
                call(channel.clone(), second).await
            }
            _ => outcome,
        }
    }

    pub(crate) async fn token(&self, channel: &Channel) -> Result<Option<Token>, Status> {
        match &self.login {
            Some(login) => login.token(channel).await,
            None => Ok(None),
        }
    }

    pub(crate) fn request<Q>(&self, message: Q, token: Option<&Token>) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(token) = token {
            request.metadata_mut().insert(TOKEN_METADATA, token.clone());
        }
        if let Some(consistency) = &self.consistency {
            request
                .metadata_mut()
                .insert(CONSISTENCY_METADATA, consistency.clone());
        }
        for fence in &self.fences {
            request.metadata_mut().append(GUARD_METADATA, fence.clone());
        }
        request
    }
}

/// How long the member asks to wait before another try.
fn retry_after(status: &Status) -> Duration {
    let text = status.metadata().get(RETRY_AFTER_METADATA);
    let text = text.and_then(|text| text.to_str().ok());
    let ms = text.and_then(|text| text.parse().ok()).unwrap_or(0);
    Duration::from_millis(ms).min(ATTEMPT_TIMEOUT)
}

/// An answer with its stamp.
fn answer<A>(response: Response<A>) -> Answer<A> {
    let stamp = response.metadata().get(STAMP_METADATA);
    let stamp = stamp.and_then(|stamp| stamp.to_str().ok());
    Answer {
        stamp: stamp.map(str::to_owned),
        message: response.into_inner(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::{silent, speaking};
    use std::cell::Cell;

    async fn fails(client: &Client, kind: Kind, statuses: &[Status]) -> (ClientError, usize) {
        let asked = Cell::new(0);
        let call = async |_, _: Request<()>| {
            let turn = asked.replace(asked.get() + 1).min(statuses.len() - 1);
            Err::<Response<()>, _>(statuses[turn].clone())
        };
        let failed = client.unary(kind, (), call).await;
        (failed.expect_err("nobody serves"), asked.get())
    }

    async fn client() -> Client {
        let client = Client::new([speaking().await, speaking().await]).expect("endpoints");
        client.with_timeout(Duration::from_millis(200))
    }

    /// A numbered change was said to have not happened when its first try may have done it and all later ones had not.
    #[tokio::test]
    async fn what_one_endpoint_may_have_done_is_never_said_to_be_undone() {
        let statuses = [
            Status::unavailable("the connection broke"),
            Status::unavailable("etcdserver: no leader"),
        ];
        let (error, asked) = fails(&client().await, Kind::Once, &statuses).await;
        assert!(matches!(error, ClientError::Unknown { .. }), "{error:?}");
        assert!(asked > 2, "{asked}");
        let (error, _) = fails(&client().await, Kind::Once, &statuses[1..]).await;
        assert!(
            matches!(error, ClientError::Unreachable { .. }),
            "{error:?}"
        );
        let (error, _) = fails(&client().await, Kind::Read, &statuses).await;
        assert!(
            matches!(error, ClientError::Unreachable { .. }),
            "{error:?}"
        );
        let (error, asked) = fails(&client().await, Kind::Change, &statuses).await;
        assert!(matches!(error, ClientError::Unknown { .. }), "{error:?}");
        assert_eq!(asked, 1);
    }

    #[tokio::test]
    async fn the_error_tells_of_every_endpoint() {
        let statuses = [
            Status::unavailable("etcdserver: leader changed"),
            Status::unavailable("etcdserver: no leader"),
        ];
        let once = client().await.with_one_try();
        let names: Vec<&str> = once.endpoints().collect();
        let (error, asked) = fails(&once, Kind::Read, &statuses).await;
        assert_eq!(asked, 2);
        let text = format!(
            "none could serve: {}: etcdserver: leader changed; {}: etcdserver: no leader",
            names[0], names[1]
        );
        assert_eq!(error.to_string(), text);
    }

    /// A change was sent to the first endpoint before it had spoken: it ended as unknown, and the others were not asked.
    #[tokio::test]
    async fn endpoints_that_stand_still_are_passed_over_and_sent_nothing() {
        let endpoints = [silent().await, silent().await, speaking().await];
        for kind in [Kind::Read, Kind::Change, Kind::Once] {
            let client = Client::new(&endpoints).expect("endpoints");
            let sent = Cell::new(0);
            let call = async |_, _: Request<()>| {
                sent.set(sent.get() + 1);
                Ok(Response::new(()))
            };
            let since = Instant::now();
            let answer = client.unary(kind, (), call).await;
            answer.expect("the third one serves");
            assert_eq!(sent.get(), 1, "{kind:?}");
            assert!(since.elapsed() < Duration::from_secs(2), "{kind:?}");
        }
    }

    /// What a member says of its cluster tells more than its silence after that.
    #[tokio::test]
    async fn silence_does_not_cover_what_was_said_before() {
        let client = Client::new([speaking().await]).expect("an endpoint");
        let client = client.with_timeout(Duration::from_millis(500));
        for kind in [Kind::Read, Kind::Change, Kind::Once] {
            let asked = Cell::new(0);
            let call = async |_, _: Request<()>| {
                if asked.replace(asked.get() + 1) > 0 {
                    std::future::pending::<()>().await;
                }
                Err::<Response<()>, _>(Status::unavailable("etcdserver: no leader"))
            };
            let failed = client.unary(kind, (), call).await;
            let text = failed.expect_err("nobody serves").to_string();
            assert!(
                text.contains("etcdserver: no leader, then no answer in time"),
                "{kind:?}: {text}"
            );
        }
    }

    /// Of three endpoints that no longer answered the third was never asked.
    #[tokio::test]
    async fn all_endpoints_have_their_turn_within_the_time() {
        let endpoints = [speaking().await, speaking().await, speaking().await];
        let client = Client::new(&endpoints).expect("endpoints");
        let client = client.with_timeout(Duration::from_secs(1));
        let asked = Cell::new(0);
        let call = async |_, _: Request<()>| {
            if asked.replace(asked.get() + 1) < 2 {
                std::future::pending::<()>().await;
            }
            Ok(Response::new(()))
        };
        let answer = client.unary(Kind::Read, (), call).await;
        answer.expect("the third one serves");
        asked.set(0);
        let failed = client.unary(Kind::Change, (), call).await;
        let error = failed.expect_err("nobody knows whether it was applied");
        assert!(matches!(error, ClientError::Unknown { .. }), "{error:?}");
        assert_eq!(asked.get(), 1, "{error}");
    }
}
