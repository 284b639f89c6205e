//! What an operator says about tokens and passwords, in etcd's form.

use std::path::PathBuf;
use std::time::Duration;

/// How users are authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// Which kind of token.
    pub token: TokenSettings,
    /// How long a simple token lives after its last use.
    pub ttl: Duration,
    /// The cost of hashing a password; each step doubles it.
    pub bcrypt_cost: u32,
}

/// The kinds of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSettings {
    /// Signed with a key in the replicated state.
    Simple,
    /// JSON web tokens.
    Jwt(JwtSettings),
}

/// How JSON web tokens are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// The algorithm.
    pub method: SignMethod,
    /// Verifies; not needed where the private key is.
    pub public_key: Option<PathBuf>,
    /// Signs; without it tokens come from elsewhere.
    pub private_key: Option<PathBuf>,
    /// How long a token lives.
    pub ttl: Duration,
}

macro_rules! methods {
    ($($name:ident)*) => {
        /// The algorithms of RFC 7518 that etcd knows.
        #[allow(missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum SignMethod { $($name),* }

        impl SignMethod {
            /// All of them.
            pub const ALL: &'static [SignMethod] = &[$(SignMethod::$name),*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(SignMethod::$name => stringify!($name)),* }
            }
        }
    };
}

methods! { RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA HS256 HS384 HS512 }

/// How long a JSON web token lives unless it is said.
const JWT_TTL: Duration = Duration::from_secs(300);

impl TokenSettings {
    /// Reads `simple` or `jwt,sign-method=…,pub-key=…,priv-key=…,ttl=…`.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<TokenSettings, String> {
        let mut parts = text.split(',');
        match parts.next() {
            Some("simple") => match parts.next() {
                None => Ok(TokenSettings::Simple),
                Some(option) => Err(format!("{option:?}: simple takes no options")),
            },
            Some("jwt") => jwt(parts).map(TokenSettings::Jwt),
            _ => Err(format!(
                "{text:?} is no kind of token; write simple, or jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=5m"
            )),
        }
    }
}

fn jwt<'a>(options: impl Iterator<Item = &'a str>) -> Result<JwtSettings, String> {
    let (mut method, mut public_key, mut private_key, mut ttl) = (None, None, None, None);
    for option in options {
        let Some((name, value)) = option.split_once('=') else {
            return Err(format!("{option:?} is not NAME=VALUE"));
        };
        let given = match name {
            "sign-method" => {
                let known = SignMethod::ALL.iter().find(|known| known.name() == value);
                let known = known.ok_or_else(|| {
                    let names = SignMethod::ALL.iter().map(|method| method.name());
                    let names: Vec<&str> = names.collect();
                    format!(
                        "sign-method {value:?} is not known, {} are",
                        names.join(", ")
                    )
                })?;
                method.replace(*known).is_some()
            }
            "pub-key" => public_key.replace(PathBuf::from(value)).is_some(),
            "priv-key" => private_key.replace(PathBuf::from(value)).is_some(),
            "ttl" => {
                let known = crate::config::parse_duration(value).filter(|ttl| !ttl.is_zero());
                let known =
                    known.ok_or_else(|| format!("ttl {value:?} is no duration; write 5m"))?;
                ttl.replace(known).is_some()
            }
            _ => {
                return Err(format!(
                    "{name:?} is no option of jwt; sign-method, pub-key, priv-key and ttl are"
                ));
            }
        };
        if given {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(JwtSettings {
        method: method.ok_or("jwt needs sign-method, such as sign-method=RS256")?,
        public_key,
        private_key,
        ttl: ttl.unwrap_or(JWT_TTL),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_read_as_etcd_writes_them() {
        assert_eq!(TokenSettings::parse("simple"), Ok(TokenSettings::Simple));
        let jwt =
            TokenSettings::parse("jwt,pub-key=a.pub,priv-key=a.key,sign-method=ES256,ttl=10m");
        let wanted = JwtSettings {
            method: SignMethod::ES256,
            public_key: Some("a.pub".into()),
            private_key: Some("a.key".into()),
            ttl: Duration::from_secs(600),
        };
        assert_eq!(jwt, Ok(TokenSettings::Jwt(wanted)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("", "simple"),
            ("opaque", "opaque"),
            ("simple,ttl=1", "no options"),
            ("jwt", "sign-method"),
            ("jwt,sign-method=none", "none"),
            ("jwt,sign-method=RS256,ttl=soon", "soon"),
            ("jwt,sign-method=RS256,sign-method=RS256", "twice"),
            ("jwt,sign-method", "NAME=VALUE"),
            ("jwt,colour=red", "colour"),
        ] {
            let refused = TokenSettings::parse(text).unwrap_err();
            assert!(refused.contains(named), "{text}: {refused}");
        }
    }
}
