//! Following who holds a name: a lock, a leader, a group.

use super::{Native, stamped};
use crate::grpc::context::Context;
use crate::grpc::door::{Door, REQUEST_TIMEOUT, StreamFate, unexpected};
use crate::grpc::failure;
use crate::observers::Observing;
use etcd::{Read, Status};
use futures_util::Stream;
use native::{Headed, Header, ObservedGroup, advised, refusal};
use proto::synod::v1;
use replica::Consistency;
use state::lock::{LockAnswer, LockDetail, LockQuery, PAGE_MAX};
use state::{Answer, Query};
use tokio::sync::watch;

/// One client's view of a name.
struct Observer {
    door: Door,
    context: Context,
    name: String,
    following: Option<Observing>,
    fate: watch::Receiver<StreamFate>,
    /// The version told last, of a name that was in use; `None` before the first.
    told: Option<Option<u64>>,
}

impl Native<'_> {
    /// Follows a lock.
    pub fn observe(
        &self,
        request: v1::ObserveRequest,
    ) -> impl Stream<Item = Result<v1::ObserveResponse, Status>> + Send + use<> {
        self.follow(request.name, PAGE_MAX, |detail| {
            Ok(native::observed(detail))
        })
    }

    /// Follows who leads.
    pub fn observe_leader(
        &self,
        request: v1::ObserveRequest,
    ) -> impl Stream<Item = Result<v1::LeaderResponse, Status>> + Send + use<> {
        self.follow(request.name, 1, native::observed_leader)
    }

    /// Follows the members of a group.
    pub fn observe_group(
        &self,
        request: v1::ObserveGroupRequest,
    ) -> impl Stream<Item = Result<v1::ObserveGroupResponse, Status>> + Send + use<> {
        let mut known = ObservedGroup::default();
        self.follow(request.name, usize::MAX, move |detail| known.tell(detail))
    }

    /// The states of a name, as it is now and whenever its holders change; who reads slowly gets the newest.
    fn follow<R, F>(
        &self,
        name: String,
        limit: usize,
        tell: F,
    ) -> impl Stream<Item = Result<R, Status>> + Send + use<R, F>
    where
        R: Headed + Send + 'static,
        F: FnMut(Option<LockDetail>) -> Result<R, Status> + Send + 'static,
    {
        let observer = Observer {
            door: self.door.clone(),
            context: self.context.clone(),
            name,
            following: None,
            fate: self.door.fate.clone(),
            told: None,
        };
        futures_util::stream::try_unfold(
            (observer, tell),
            move |(mut observer, mut tell)| async move {
                let next = observer.next(limit).await;
                let (header, detail) = next.map_err(advised)?;
                Ok(Some((header.on(tell(detail)?), (observer, tell))))
            },
        )
    }
}

impl Observer {
    async fn next(&mut self, limit: usize) -> Result<(Header, Option<LockDetail>), Status> {
        native::check_name(&self.name)?;
        loop {
            let following = match &mut self.following {
                Some(following) => following,
                None => {
                    let following = self.door.handle.observe(self.name.as_bytes());
                    self.following.insert(following.map_err(failure::status)?)
                }
            };
            following.look();
            let (header, detail) = self.read(limit).await?;
            let version = detail.as_ref().map(|detail| detail.lock.version);
            if self.told.replace(version) != Some(version) {
                return Ok((header, detail));
            }
            let following = self.following.as_mut().expect("it was put there above");
            tokio::select! {
                () = following.changed() => {}
                status = StreamFate::end(&mut self.fate, self.context.require_leader) => return Err(status),
            }
        }
    }

    /// Reads the name with up to so many acquisitions, all of one version.
    async fn read(&self, limit: usize) -> Result<(Header, Option<LockDetail>), Status> {
        let mut whole: Option<LockDetail> = None;
        loop {
            let skip = whole.as_ref().map_or(0, |whole| whole.claims.len());
            let (header, page) = self.page(skip, (limit - skip).min(PAGE_MAX)).await?;
            let more = page.as_ref().is_some_and(|page| page.more);
            let same = match (&mut whole, page) {
                (Some(whole), Some(page)) if whole.lock.version == page.lock.version => {
                    whole.claims.extend(page.claims);
                    true
                }
                (Some(_), _) => false,
                (None, page) => {
                    whole = page;
                    true
                }
            };
            let read = whole.as_ref().map_or(0, |whole| whole.claims.len());
            if !same {
                // It changed between two pages.
                whole = None;
            } else if !more || read >= limit {
                return Ok((header, whole));
            }
        }
    }

    /// One page. The first state is as fresh as the request wants; the later ones are what this member has, which is no older.
    async fn page(
        &self,
        skip: usize,
        limit: usize,
    ) -> Result<(Header, Option<LockDetail>), Status> {
        let mut context = self.context.clone();
        if self.told.is_some() {
            context.consistency = Some(Consistency::Local);
        }
        let query = Query::Lock(LockQuery::Show {
            name: self.name.clone().into(),
            skip,
            limit,
        });
        let read = Read {
            query,
            serializable: false,
        };
        let (header, answer, stamp) = self.door.read(&context, read, REQUEST_TIMEOUT).await?;
        match answer {
            Answer::Lock(LockAnswer::Show(detail)) => Ok((stamped(&header, stamp), detail)),
            Answer::Rejected(rejection) => Err(refusal(rejection)),
            _ => Err(unexpected()),
        }
    }
}
