//! Looking at locks and sessions, and the calls that stand for themselves. In the messages of the native API.

use crate::call::Kind;
use crate::follow::Follow;
use crate::{Answer, Client, ClientError};
use proto::synod::v1 as api;
use proto::synod::v1::id_client::IdClient;
use proto::synod::v1::lock_client::LockClient;
use proto::synod::v1::session_client::SessionClient;

/// A call that takes a message and gives one.
macro_rules! calls {
    ($($(#[$doc:meta])* $kind:ident $name:ident: $service:ident.$call:ident($request:ident) -> $answer:ident)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// See [`ClientError`].
                pub async fn $name(
                    &self,
                    request: api::$request,
                ) -> Result<Answer<api::$answer>, ClientError> {
                    self.unary(Kind::$kind, request, async |channel, request| {
                        $service::new(channel).$call(request).await
                    })
                    .await
                }
            )*
        }
    };
}

calls! {
    /// Lists names in use: locks, semaphores, groups, latches and barriers.
    Read lock_list: LockClient.list(ListLocksRequest) -> ListLocksResponse
    /// Tells who holds a name and who waits, since when and for what.
    Read lock_show: LockClient.show(ShowLockRequest) -> ShowLockResponse
    /// Asks whether a token still holds its lock, and whether it is the newest.
    Read lock_check: LockClient.check(CheckRequest) -> CheckResponse
    /// Takes a lock from its holder. Repeated, it finds that the grant is gone.
    Once lock_force_release: LockClient.force_release(ForceReleaseRequest) -> ForceReleaseResponse
    /// The keys that verify signed tokens.
    Read lock_keys: LockClient.keys(KeysRequest) -> KeysResponse
    /// Signs tokens with a new key from now on, a second time if it is repeated and does not name the key to be replaced.
    Change lock_rotate_key: LockClient.rotate_key(RotateKeyRequest) -> RotateKeyResponse
    /// Takes a key from those that verify signed tokens. Repeated, it finds that it is gone.
    Once lock_drop_key: LockClient.drop_key(DropKeyRequest) -> DropKeyResponse
    /// Lists sessions and other leases.
    Read session_list: SessionClient.list(ListSessionsRequest) -> ListSessionsResponse
    /// Ends a session, whoever opened it.
    Once session_close: SessionClient.close(CloseSessionRequest) -> CloseSessionResponse
    /// Makes ids at a member. Those of an answer that was lost are left out.
    Once id_next: IdClient.next(NextRequest) -> NextResponse
    /// Makes version 7 UUIDs at a member.
    Once id_uuid: IdClient.uuid(UuidRequest) -> UuidResponse
    /// Hands out a range of a sequence. A range whose answer was lost is left out.
    Once id_segment: IdClient.segment(SegmentRequest) -> SegmentResponse
    /// Adds to a counter, a second time if it is repeated; see [`crate::Counter`].
    Change id_add: IdClient.add(AddRequest) -> AddResponse
    /// Tells what an id says.
    Read id_decode: IdClient.decode(DecodeRequest) -> DecodeResponse
}

/// Follows who holds a name.
pub struct Holders(Follow<api::ObserveRequest, api::ObserveResponse>);

impl Holders {
    /// Follows this name.
    pub fn of(client: &Client, name: &str) -> Holders {
        Holders(Follow::lock(client, name))
    }

    /// Who holds it at first, then after each change. Whoever reads slowly hears the newest.
    ///
    /// # Errors
    /// No endpoint could serve for as long as a request may take.
    pub async fn next(&mut self) -> Result<api::ObserveResponse, ClientError> {
        self.0.next().await
    }
}
