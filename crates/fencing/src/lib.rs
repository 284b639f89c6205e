//! Fencing tokens outside of the cell. A cell signs that it granted a lock ([`SigningKey`]); a resource verifies that without asking
//! anybody ([`VerifyingKeys`]) and refuses whoever comes with a lower token than it has seen ([`HighWater`]).
//!
//! A signed token is a JSON web token (RFC 7519) signed with Ed25519 (RFC 8037), so any library for such tokens verifies it too. It proves that the
//! grant was made, **not** that it still holds: only the mark does the fencing. Its end is an advice: the time at which the holder's session
//! ends if nobody renews it.

mod grant;
mod keys;
mod mark;

pub use grant::{Grant, Mode};
pub use keys::{KeyError, SigningKey, VerifyError, VerifyingKeys, kid};
pub use mark::{HighWater, Stale};

/// aws-lc-rs, or ring, which has the same interface for what is used here.
#[cfg(feature = "aws-lc")]
use aws_lc_rs as crypto;
#[cfg(all(feature = "ring", not(feature = "aws-lc")))]
use ring as crypto;
