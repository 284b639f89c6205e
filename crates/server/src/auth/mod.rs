//! Who a request comes from. A token, the name in a client's certificate, or a name and a password stand for a user of the replicated state; what that
//! user may do, the state decides.
//!
//! Nothing here must be remembered: tokens are signed with a key in the replicated state (or an operator's, for JWT), so every member knows the tokens of
//! all. What is kept beside, bounded, only saves work: which tokens and passwords were found right before.

mod backoff;
#[cfg(feature = "aws-lc")]
mod jwt;
mod password;
mod settings;
mod token;
mod verified;

pub use settings::{AuthSettings, JwtSettings, SignMethod, TokenSettings};

use bytes::Bytes;
use etcd::Status;
use etcd::auth::auth_rejection;
use http::HeaderValue;
use password::Passwords;
pub(crate) use password::given_hash;
use state::auth::{Auth, AuthRejection, Caller, Principal, User};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use token::Token;
use verified::{Bound, Verified, VerifiedTokens};

/// aws-lc-rs, or ring, which has the same interface for what is used here.
#[cfg(feature = "aws-lc")]
use aws_lc_rs as crypto;
#[cfg(all(feature = "ring", not(feature = "aws-lc")))]
use ring as crypto;

/// What a request says about its user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Its token.
    pub token: Option<HeaderValue>,
    /// The common name in its certificate; counts where there is no token.
    pub common_name: Option<Arc<str>>,
}

/// How tokens are made and known.
enum Tokens {
    /// Signed with the key in the state; extended by use.
    Simple { ttl: Duration },
    /// JSON web tokens, signed with the operator's key.
    #[cfg(feature = "aws-lc")]
    Jwt(jwt::Jwt),
}

/// A token that says no end, or a late one, is looked at again after so long.
#[cfg(feature = "aws-lc")]
const ENDLESS_REMEMBERED: Duration = Duration::from_secs(300);

/// Finds users by what requests say.
pub struct Authenticator {
    tokens: Tokens,
    verified: Mutex<VerifiedTokens>,
    passwords: Passwords,
}

impl Authenticator {
    /// Makes one; reads the key files of JWT.
    ///
    /// # Errors
    /// A key is missing or unfit.
    pub fn new(settings: &AuthSettings) -> Result<Authenticator, String> {
        let tokens = match &settings.token {
            TokenSettings::Simple => Tokens::Simple { ttl: settings.ttl },
            #[cfg(feature = "aws-lc")]
            TokenSettings::Jwt(jwt) => Tokens::Jwt(jwt::Jwt::load(jwt)?),
            #[cfg(not(feature = "aws-lc"))]
            TokenSettings::Jwt(_) => {
                return Err(
                    "auth-token: this binary was built without aws-lc, which jwt needs; use simple"
                        .into(),
                );
            }
        };
        Ok(Authenticator {
            tokens,
            verified: Mutex::default(),
            passwords: Passwords::new(settings.bcrypt_cost),
        })
    }

    /// On whose behalf a request runs; nobody's while authentication is off, or if it says nothing of its user.
    ///
    /// # Errors
    /// Its token is not, or no longer, valid.
    pub fn caller(&self, auth: &Auth, credentials: &Credentials) -> Result<Caller, Status> {
        if !auth.is_enabled() {
            return Ok(Caller::default());
        }
        match (&credentials.token, &credentials.common_name) {
            (Some(token), _) => match &self.tokens {
                Tokens::Simple { ttl } => self.simple(auth, token, *ttl),
                #[cfg(feature = "aws-lc")]
                Tokens::Jwt(jwt) => self.jwt(jwt, token),
            }
            .ok_or(Status::INVALID_TOKEN),
            (None, Some(name)) => Ok(Caller {
                user: name.as_ref().to_owned(),
                revision: auth.revision(),
            }),
            (None, None) => Ok(Caller::default()),
        }
    }

    fn simple(&self, auth: &Auth, text: &HeaderValue, ttl: Duration) -> Option<Caller> {
        let now = Instant::now();
        let mut verified = self.verified();
        let user = match verified.get(text.as_bytes(), now) {
            Some(found) => {
                if !is_good(auth, found) {
                    return None;
                }
                // Use extends it.
                found.until = now + ttl;
                found.user.clone()
            }
            None => {
                let key = auth.token_key();
                let token = Token::verify(key, text.to_str().ok()?)?;
                let revision = token.password_revision;
                if token.expires_ms <= wall_ms() || !is_current(auth.user(&token.user), revision) {
                    return None;
                }
                let known = Verified {
                    user: token.user.clone(),
                    bound: Bound::Password {
                        revision,
                        key: key.clone(),
                        seen: auth.hash(),
                    },
                    until: now + ttl,
                };
                verified.insert(text.as_bytes(), known);
                token.user
            }
        };
        Some(Caller {
            user,
            revision: auth.revision(),
        })
    }

    /// What a JSON web token claims is bound to the revision it was made at, so that alone decides whether it is still good for keys.
    #[cfg(feature = "aws-lc")]
    fn jwt(&self, jwt: &jwt::Jwt, text: &HeaderValue) -> Option<Caller> {
        let now = Instant::now();
        let mut verified = self.verified();
        if let Some(found) = verified.get(text.as_bytes(), now)
            && let Bound::Revision(revision) = found.bound
        {
            let user = found.user.clone();
            return Some(Caller { user, revision });
        }
        let claims = jwt.verify(text.to_str().ok()?, wall_ms())?;
        let left = claims.expires_ms.map_or(ENDLESS_REMEMBERED, |end| {
            Duration::from_millis(end.saturating_sub(wall_ms()))
        });
        let known = Verified {
            user: claims.user.clone(),
            bound: Bound::Revision(claims.revision),
            until: now + left.min(ENDLESS_REMEMBERED),
        };
        verified.insert(text.as_bytes(), known);
        Some(Caller {
            user: claims.user,
            revision: claims.revision,
        })
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, VerifiedTokens> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a password and makes a token. `auth` gives the users as they are now: a password that is changed while it is being checked is checked again.
    ///
    /// # Errors
    /// Authentication is off, the name or the password is wrong, or too many passwords wait to be checked.
    pub async fn authenticate(
        &self,
        auth: impl Fn() -> Arc<Auth>,
        name: &str,
        password: &str,
    ) -> Result<String, Status> {
        loop {
            let before = auth();
            if !before.is_enabled() {
                return Err(Status::AUTHENTICATION_NOT_ENABLED);
            }
            let user = before.user(name);
            if user.is_some_and(|user| user.no_password) {
                return Err(password::no_password_user());
            }
            let right = self.passwords.check(name, user, password).await?;
            let (Some(user), true) = (user, right) else {
                tracing::info!(user = name, "password refused");
                return Err(Status::AUTHENTICATION_FAILED);
            };
            let after = auth();
            if after.is_enabled() && is_current(after.user(name), user.password_revision) {
                return self.token(&after, before.revision(), name, user);
            }
        }
    }

    fn token(&self, auth: &Auth, checked: u64, name: &str, user: &User) -> Result<String, Status> {
        match &self.tokens {
            Tokens::Simple { ttl } => Ok(Token {
                user: name.to_owned(),
                password_revision: user.password_revision,
                expires_ms: wall_ms() + ttl.as_millis() as u64,
            }
            .sign(auth.token_key())),
            #[cfg(feature = "aws-lc")]
            Tokens::Jwt(jwt) => jwt.sign(name, checked, wall_ms()),
        }
        .inspect(|_| tracing::debug!(user = name, checked, "user authenticated"))
    }

    /// The hash under which a password is kept.
    ///
    /// # Errors
    /// It is too long, or too many wait to be hashed.
    pub async fn hash(&self, password: &str) -> Result<Bytes, Status> {
        self.passwords.hash(password).await
    }
}

/// A simple token found before is good still: looked at again only when users or roles have changed.
fn is_good(auth: &Auth, found: &mut Verified) -> bool {
    match &mut found.bound {
        Bound::Password { seen, .. } if *seen == auth.hash() => true,
        Bound::Password {
            revision,
            key,
            seen,
        } => {
            let good = *key == *auth.token_key() && is_current(auth.user(&found.user), *revision);
            if good {
                *seen = auth.hash();
            }
            good
        }
        #[cfg(feature = "aws-lc")]
        Bound::Revision(_) => false,
    }
}

/// The user is there, and its password is still the one of that revision.
fn is_current(user: Option<&User>, password_revision: u64) -> bool {
    user.is_some_and(|user| user.password_revision == password_revision)
}

/// Whether a caller may do what only administrators, or only users, may; for calls that the state does not see.
pub(crate) fn check(
    auth: &Auth,
    caller: &Caller,
    rule: fn(&Auth, Principal<'_>) -> Result<(), AuthRejection>,
) -> Result<(), Status> {
    rule(auth, caller.principal()).map_err(auth_rejection)
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
