//! A service in front of the data, which does not believe every number: it verifies signed tokens by itself, or asks the cell.

use super::{Mark, Resource, Written};
use crate::{Failure, Outcome};
use client::Client;
use fencing::{Grant, SigningKey, VerifyingKeys};
use proto::synod::v1 as api;

/// What such a service needs.
pub struct Gate {
    /// Only for [`Gate::checked`].
    client: Client,
    keys: VerifyingKeys,
    /// Whose tokens it takes.
    cluster: String,
}

impl Gate {
    /// With the keys of a cell, and any token that it signed.
    pub fn new(client: Client, keys: &str, signed: &str) -> Outcome<Gate> {
        let keys = VerifyingKeys::from_jwks(keys)?;
        let cluster = keys.verify(signed)?.cluster;
        Ok(Gate {
            client,
            keys,
            cluster,
        })
    }

    /// Takes a write that comes with a signed token, without asking anybody; or says why it does not.
    pub async fn signed(
        &self,
        resource: &Resource,
        signed: &str,
        lock: &str,
        key: u64,
    ) -> Outcome<Result<Written, String>> {
        let grant = match self.keys.verify(signed) {
            Ok(grant) => grant,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if grant.cluster != self.cluster || grant.name != lock {
            return Ok(Err(format!("that is a token of {:?}", grant.name)));
        }
        let mark = Mark {
            lock: grant.name,
            token: grant.token,
        };
        Ok(Ok(resource.write(&mark, key, "late, signed").await?))
    }

    /// Takes a write after asking the cell whether its token still holds the lock; or says why it does not.
    pub async fn checked(
        &self,
        resource: &Resource,
        mark: &Mark,
        key: u64,
    ) -> Outcome<Result<Written, String>> {
        let request = api::CheckRequest {
            name: mark.lock.clone(),
            token: mark.token,
            ..api::CheckRequest::default()
        };
        let answer = self.client.lock_check(request).await?.message;
        if !answer.held {
            return Ok(Err("not held".into()));
        }
        Ok(Ok(resource.write(mark, key, "late, checked").await?))
    }

    /// The same token with another number, signed by somebody else who says that he is the cell.
    pub fn forged(&self, signed: &str, token: u64) -> Outcome<String> {
        let grant = Grant {
            token,
            ..self.keys.verify(signed)?
        };
        let stranger = SigningKey::from_seed(&[7; 32])?.sign(&grant);
        let parts = |text: &str| -> Outcome<Vec<String>> {
            let parts: Vec<String> = text.split('.').map(str::to_owned).collect();
            (parts.len() == 3)
                .then_some(parts)
                .ok_or_else(|| Failure::from("three parts"))
        };
        // With the head of the true one, which names the true key.
        let (real, made) = (parts(signed)?, parts(&stranger)?);
        Ok([&real[0], &made[1], &made[2]].map(String::as_str).join("."))
    }
}
