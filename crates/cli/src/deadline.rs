//! How long a command may take that asks several things one after the other.

use client::Client;
use std::time::Instant;

/// When the command must be over.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// After the time that the client gives a single request.
    pub(crate) fn of(client: &Client) -> Deadline {
        Deadline(Instant::now() + client.timeout())
    }

    /// The client with what is left of the time.
    pub(crate) fn rest(self, client: &Client) -> Client {
        let left = self.0.saturating_duration_since(Instant::now());
        client.clone().with_timeout(left)
    }

    /// The client with three quarters of what is left, for a request that others follow.
    pub(crate) fn most(self, client: &Client) -> Client {
        let rest = self.rest(client);
        let most = rest.timeout() / 4 * 3;
        rest.with_timeout(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn requests_share_the_time() {
        let client = Client::new(["h:1"]).expect("an endpoint");
        let second = Duration::from_secs(1);
        let deadline = Deadline::of(&client.clone().with_timeout(second));
        // Whatever the client is told otherwise.
        let client = client.with_timeout(second * 60);
        assert!(deadline.most(&client).timeout() <= second / 4 * 3);
        assert!(deadline.rest(&client).timeout() <= second);
        let over = Deadline(Instant::now());
        assert_eq!(over.rest(&client).timeout(), Duration::ZERO);
    }
}
