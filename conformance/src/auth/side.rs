//! One side of the comparison: connections, tokens by user, and what was answered.

use crate::Outcome;
use crate::connection::Connection;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::auth_client::AuthClient;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A step and its answer, without what differs between any two servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was asked, by whom.
    pub step: String,
    /// The answer or refusal.
    pub answer: String,
}

/// One side.
pub struct Side {
    members: Vec<Connection>,
    /// How often a member was asked: each step goes to the next one.
    asked: usize,
    /// Ask only the first member for now.
    pub steady: bool,
    tokens: BTreeMap<String, String>,
    /// All answers, in order.
    pub answers: Vec<Answered>,
}

impl Side {
    /// Waits until all members serve.
    ///
    /// # Errors
    /// One does not in time.
    pub async fn connect(addresses: &[SocketAddr], limit: Duration) -> Outcome<Side> {
        let mut members: Vec<Connection> = addresses.iter().copied().map(Connection::new).collect();
        for member in &mut members {
            member.ready(limit).await?;
        }
        Ok(Side {
            members,
            asked: 0,
            steady: false,
            tokens: BTreeMap::new(),
            answers: Vec::new(),
        })
    }

    /// The next member.
    pub fn member(&mut self) -> Connection {
        if self.steady {
            return self.members[0].clone();
        }
        self.asked += 1;
        self.members[self.asked % self.members.len()].clone()
    }

    /// The same, for calls about users.
    pub fn auth(&mut self) -> AuthClient<Channel> {
        AuthClient::new(self.member().channel)
    }

    /// The last token of a user; an empty name has none, and an unknown one a wrong one.
    pub fn token(&self, user: &str) -> String {
        match self.tokens.get(user) {
            Some(token) => token.clone(),
            None if user.is_empty() => String::new(),
            None => "no.1".into(),
        }
    }

    /// A request of a user.
    pub fn request<M>(&self, user: &str, message: M) -> Request<M> {
        with_token(&self.token(user), message)
    }

    /// Notes an answer.
    pub fn note<A: std::fmt::Debug>(&mut self, step: String, answer: Result<A, Status>) {
        let answer = match answer {
            Ok(answer) => blank(&format!("{answer:?}")),
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        };
        self.answers.push(Answered { step, answer });
    }

    /// Logs a user in and notes how that went.
    pub async fn log_in(&mut self, name: &str, password: &str) {
        let request = pb::AuthenticateRequest {
            name: name.into(),
            password: password.into(),
        };
        let answer = self.auth().authenticate(request).await;
        if let Ok(answer) = &answer {
            let token = answer.get_ref().token.clone();
            self.tokens.insert(name.into(), token);
        }
        let answer = answer.map(|answer| answer.into_inner().header);
        self.note(format!("log in as {name} with {password:?}"), answer);
    }

    /// Whether a token of `root` made elsewhere is good for keys.
    ///
    /// # Errors
    /// The refusal.
    pub async fn takes(&mut self, token: &str) -> Result<(), Status> {
        let put = pb::PutRequest {
            key: "taken".into(),
            ..Default::default()
        };
        self.member().kv.put(with_token(token, put)).await.map(drop)
    }
}

fn with_token<M>(token: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        let token = token.parse().expect("a token is text");
        request.metadata_mut().insert("token", token);
    }
    request
}

/// Fields whose numbers are each server's own, or tell how long ago something was (what is left of a lease).
const OWN: [&str; 5] = [
    "cluster_id: ",
    "member_id: ",
    "raft_term: ",
    "hash: ",
    ", ttl: ",
];

fn blank(text: &str) -> String {
    let mut text = text.to_owned();
    for field in OWN {
        let mut from = 0;
        while let Some(at) = text[from..].find(field) {
            let start = from + at + field.len();
            let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
            text.replace_range(start..start + digits, "N");
            from = start;
        }
    }
    text
}
