//! Fencing tokens, signed for those who do not ask the cell (docs/decisions/0019). The key is part of the state, so every member signs alike.

use super::{Native, random_id};
use crate::grpc::door::{Answered, Outcome, unexpected};
use bytes::Bytes;
use etcd::{Advice, Change, Code, Read, Status};
use fencing::{Grant, Mode, SigningKey, VerifyingKeys};
use native::{SigningKeys, refusal};
use proto::synod::v1;
use replica::Consistency;
use state::auth::{Auth, AuthChange, AuthOperation, DrawSigningSeed, SIGNING_SEED_BYTES};
use state::lock::{ClaimView, Claimant, LockAnswer, LockQuery, LockRejection};
use state::{Answer, Operation, Query, Rejection, Reply};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The cell's key, once there is one.
fn signing_key(auth: &Auth) -> Option<SigningKey> {
    SigningKey::from_seed(auth.signing_seed()).ok()
}

/// What verifies tokens of the cell at this moment.
pub(crate) fn verifying_keys(auth: &Auth) -> VerifyingKeys {
    let mut keys = VerifyingKeys::new();
    for key in signing_keys(auth).list() {
        keys.add(&key.ed25519).expect("only keys are kept");
    }
    keys
}

fn signing_keys(auth: &Auth) -> SigningKeys<'_> {
    let public = signing_key(auth).map(|key| Bytes::copy_from_slice(key.public()));
    SigningKeys {
        auth,
        public: public.unwrap_or_default(),
        kid: fencing::kid,
        now_unix_ms: since_1970().as_millis() as u64,
    }
}

fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

fn random_seed() -> Result<Bytes, Status> {
    let mut seed = [0; SIGNING_SEED_BYTES];
    getrandom::fill(&mut seed).map_err(|error| {
        Status::new(Code::Internal, format!("no randomness for a key: {error}"))
    })?;
    Ok(Bytes::copy_from_slice(&seed))
}

impl Native<'_> {
    /// Asks for a lock, and signs its token if that is wanted.
    pub async fn acquire(&self, request: v1::AcquireRequest) -> Outcome<v1::AcquireResponse> {
        let (session, sign) = (request.session, request.sign);
        let mut held = self.change(native::acquire(request, random_id()?)?).await?;
        if sign {
            held.message.signed_token = self.signed(session, held.message.id).await?;
        }
        Ok(held)
    }

    /// Asks to lead, and signs the token if that is wanted.
    pub async fn campaign(&self, request: v1::CampaignRequest) -> Outcome<v1::CampaignResponse> {
        let (session, sign) = (request.session, request.sign);
        let campaign = native::campaign(request, random_id()?)?;
        let mut held = self.change(campaign).await?;
        if sign {
            held.message.signed_token = self.signed(session, held.message.id).await?;
        }
        Ok(held)
    }

    /// Signs the token of an acquisition.
    pub async fn sign(&self, request: v1::SignRequest) -> Outcome<v1::SignResponse> {
        let signed_token = self.signed(request.session, request.id).await?;
        Ok(Answered::unstamped(self.unread().on(v1::SignResponse {
            header: None,
            signed_token,
        })))
    }

    /// The keys that verify.
    pub async fn keys(&self, _: v1::KeysRequest) -> Outcome<v1::KeysResponse> {
        self.key().await?;
        Ok(Answered::unstamped(self.unread().on(v1::KeysResponse {
            header: None,
            keys: self.verifying(),
        })))
    }

    /// Signs with a new key from now on.
    pub async fn rotate_key(
        &self,
        request: v1::RotateKeyRequest,
    ) -> Outcome<v1::RotateKeyResponse> {
        let seed = random_seed()?;
        let rotate = signing_keys(&self.door.handle.auth()).rotate(&request, seed.clone())?;
        let mut rotated = self.change(rotate).await?;
        if *self.door.handle.auth().signing_seed() != seed {
            let text = "somebody else rotated the key meanwhile; look at the keys again";
            let advice = Advice::permanent("other-key");
            return Err(Status::new(Code::Aborted, text).advised(advice));
        }
        rotated.message.keys = self.verifying();
        Ok(rotated)
    }

    /// Takes a key from those that verify.
    pub async fn drop_key(&self, request: v1::DropKeyRequest) -> Outcome<v1::DropKeyResponse> {
        let drop = signing_keys(&self.door.handle.auth()).drop_key(&request)?;
        let mut dropped = self.change(drop).await?;
        dropped.message.keys = self.verifying();
        Ok(dropped)
    }

    /// The keys of this moment, as far as this member knows; as much as any answer it gave.
    fn verifying(&self) -> Vec<v1::VerifyingKey> {
        signing_keys(&self.door.handle.auth()).list()
    }

    /// Asks whether a token holds, after verifying it if it is a signed one.
    pub async fn check(&self, mut request: v1::CheckRequest) -> Outcome<v1::CheckResponse> {
        if !request.signed_token.is_empty() {
            let grant = self.verified(&request.signed_token)?;
            (request.name, request.token) = (grant.name, grant.token);
        }
        self.ask(native::check(request)?).await
    }

    fn verified(&self, text: &str) -> Result<Grant, Status> {
        let invalid = |why: String| {
            let text = format!("signed_token: {why}");
            let advice = Advice::permanent("signed-token-invalid");
            Err(Status::new(Code::InvalidArgument, text).advised(advice))
        };
        let keys = verifying_keys(&self.door.handle.auth());
        if keys == VerifyingKeys::new() {
            return invalid("this cell has signed none".into());
        }
        match keys.verify(text) {
            Ok(grant) if grant.cluster == self.cluster() => Ok(grant),
            Ok(grant) => invalid(format!("it is of cluster {}", grant.cluster)),
            Err(error) => invalid(error.to_string()),
        }
    }

    async fn signed(&self, session: i64, id: u64) -> Result<String, Status> {
        let key = self.key().await?;
        let claimant = Claimant { session, id };
        let claim = self.claim(claimant).await?;
        let not_held = || refusal(Rejection::Lock(LockRejection::NotHeld));
        let claim = claim
            .filter(|claim| claim.token != 0)
            .ok_or_else(not_held)?;
        let remaining = self.remaining(session).await?;
        let expires = since_1970() + remaining;
        Ok(key.sign(&Grant {
            cluster: self.cluster(),
            cell: 0,
            name: String::from_utf8_lossy(&claim.name).into_owned(),
            mode: mode(&claim),
            token: claim.token,
            expires_unix_s: expires.as_secs(),
        }))
    }

    fn cluster(&self) -> String {
        format!("{:x}", self.door.handle.cluster())
    }

    /// The cell's key; drawn if there is none yet.
    async fn key(&self) -> Result<SigningKey, Status> {
        if let Some(key) = signing_key(&self.door.handle.auth()) {
            return Ok(key);
        }
        let seed = random_seed()?;
        let draw = AuthOperation::DrawSigningSeed(DrawSigningSeed { seed });
        let change = Change {
            operation: Some(Operation::Auth(AuthChange {
                operation: Some(draw),
            })),
            ..Change::default()
        };
        // It is nobody's request, so nothing that the caller said of its own goes with it.
        let mut context = self.context.clone();
        context.envelope = Default::default();
        match self.door.change(&context, change).await?.1 {
            Reply::Rejected(rejection) => Err(refusal(rejection)),
            // Whoever got an answer from this member sees users and keys as of that answer.
            _ => signing_key(&self.door.handle.auth()).ok_or_else(unexpected),
        }
    }

    /// What this member knows of an acquisition; as much as any answer it gave. Who may only look at locks gets none of their tokens signed.
    async fn claim(&self, claimant: Claimant) -> Result<Option<ClaimView>, Status> {
        let query = Query::Lock(LockQuery::Own { claimant });
        match self.local(query).await? {
            Answer::Lock(LockAnswer::Claim(claim)) => Ok(claim),
            _ => Err(unexpected()),
        }
    }

    async fn remaining(&self, session: i64) -> Result<Duration, Status> {
        let query = Query::LeaseTimeToLive {
            id: session,
            keys: false,
        };
        match self.local(query).await? {
            Answer::Lease(lease) => Ok(Duration::from_millis(
                lease.map_or(0, |lease| lease.remaining_ms),
            )),
            _ => Err(unexpected()),
        }
    }

    async fn local(&self, query: Query) -> Result<Answer, Status> {
        let mut context = self.context.clone();
        context.consistency = Some(Consistency::Local);
        let read = Read {
            query,
            serializable: true,
        };
        let timeout = crate::grpc::door::REQUEST_TIMEOUT;
        match self.door.read(&context, read, timeout).await?.1 {
            Answer::Rejected(rejection) => Err(refusal(rejection)),
            answer => Ok(answer),
        }
    }
}

fn mode(claim: &ClaimView) -> Mode {
    use state::lock::Mode as Held;
    match claim.mode {
        Held::Exclusive | Held::Pass => Mode::Exclusive,
        Held::Shared => Mode::Shared,
        Held::Permits => Mode::Permits,
        Held::Member => Mode::Member,
        Held::Enter => Mode::Enter,
    }
}
