//! A user's name and password, and the token they gave. The token is fetched with the first request, and anew when a member no longer takes it.

use proto::etcdserverpb::AuthenticateRequest;
use proto::etcdserverpb::auth_client::AuthClient;
use std::sync::{Mutex, PoisonError};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Where requests carry their token.
pub(crate) const TOKEN_METADATA: &str = "token";

pub(crate) type Token = MetadataValue<Ascii>;

/// Who the client is to the members.
pub(crate) struct Login {
    name: String,
    password: String,
    held: Mutex<Held>,
    /// One fetches, the others wait for it.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
enum Held {
    Nothing,
    /// Authentication was off when it was asked for.
    NotNeeded,
    Token(Token),
}

impl Login {
    pub(crate) fn new(name: String, password: String) -> Login {
        Login {
            name,
            password,
            held: Mutex::new(Held::Nothing),
            fetching: tokio::sync::Mutex::new(()),
        }
    }

    /// The token, fetched if there is none; `None` while authentication is off.
    pub(crate) async fn token(&self, channel: &Channel) -> Result<Option<Token>, Status> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let _fetching = self.fetching.lock().await;
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let request = AuthenticateRequest {
            name: self.name.clone(),
            password: self.password.clone(),
        };
        let held = match AuthClient::new(channel.clone()).authenticate(request).await {
            Ok(answer) => {
                let token = answer.into_inner().token;
                let token = token
                    .parse()
                    .map_err(|_| Status::internal("the member gave a token that cannot be sent"))?;
                Held::Token(token)
            }
            Err(status) if is_off(&status) => Held::NotNeeded,
            Err(status) => return Err(status),
        };
        *self.held() = held.clone();
        Ok(held.token())
    }

    /// This token, or none, was refused: unless another is held by now, the next request fetches one.
    pub(crate) fn refused(&self, token: Option<&Token>) {
        let mut held = self.held();
        if held.clone().token().as_ref() == token {
            *held = Held::Nothing;
        }
    }

    fn known(&self) -> Option<Option<Token>> {
        match &*self.held() {
            Held::Nothing => None,
            known => Some(known.clone().token()),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn token(self) -> Option<Token> {
        match self {
            Held::Token(token) => Some(token),
            Held::Nothing | Held::NotNeeded => None,
        }
    }
}

fn is_off(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
        && status.message() == "etcdserver: authentication is not enabled"
}

/// By these a member says that the request needs another token, and that nothing has happened.
const WANTS_TOKEN: [&str; 3] = [
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
];

/// Another token may help.
pub(crate) fn wants_token(message: &str) -> bool {
    WANTS_TOKEN.iter().any(|text| message.ends_with(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_is_forgotten_unless_it_was_replaced() {
        let login = Login::new("ann".into(), "secret".into());
        let (old, new): (Token, Token) = ("old".parse().unwrap(), "new".parse().unwrap());
        *login.held() = Held::Token(new.clone());
        login.refused(Some(&old));
        assert_eq!(login.known(), Some(Some(new.clone())));
        login.refused(Some(&new));
        assert_eq!(login.known(), None);
        *login.held() = Held::NotNeeded;
        assert_eq!(login.known(), Some(None));
        login.refused(None);
        assert_eq!(login.known(), None, "authentication was switched on");
    }

    #[test]
    fn texts_are_recognised_alone_and_as_watches_give_them() {
        assert!(wants_token("etcdserver: invalid auth token"));
        assert!(wants_token(
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
        ));
        assert!(!wants_token("etcdserver: permission denied"));
    }
}
