//! Identifiers that are never given out twice, made here without asking for each of them.

use crate::call::Kind;
use crate::{ClientError, Session, clock};
use ::ids::{Generator, NotYet, Window};
pub use ::ids::{Layout, Parts};
use proto::synod::v1 as api;
use proto::synod::v1::id_client::IdClient;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::sleep;

/// How much time a worker number is lent for at once.
const AHEAD: Duration = Duration::from_secs(60);
/// A renewed window is fetched when so much is left of it.
const RENEW_BELOW: Duration = Duration::from_secs(20);

/// 64-bit ids that rise in time, as Twitter's Snowflake makes them, but on a worker number and a time that the cell lends: no clock's step and no restart
/// makes one twice. A clone makes ids from the same worker number.
#[derive(Clone)]
pub struct Ids {
    source: Arc<Source>,
}

struct Source {
    session: Session,
    pool: String,
    layout: Layout,
    /// How far ids may be ahead of the present.
    ahead: Duration,
    generator: Mutex<Option<Generator>>,
    /// One fetches, the others wait for it.
    fetching: tokio::sync::Mutex<()>,
}

impl Ids {
    /// Makes ids of the pool `default` with 10 bits for the worker and 12 for the sequence.
    pub fn new(session: &Session) -> Ids {
        Ids::with_layout(session, "default", Layout::default())
    }

    /// Makes ids of a pool of one's own with other bits. All who use a pool use the same layout.
    pub fn with_layout(session: &Session, pool: &str, layout: Layout) -> Ids {
        Ids::make(session.clone(), pool.to_owned(), layout, Duration::ZERO)
    }

    /// The same, with ids that may run so far ahead of the present when many are wanted at once; their time is borrowed. To be called before the first
    /// id: the number and its time are lent anew, and what was lent before is over first.
    pub fn ahead(self, time: Duration) -> Ids {
        let source = &self.source;
        Ids::make(
            source.session.clone(),
            source.pool.clone(),
            source.layout,
            time,
        )
    }

    fn make(session: Session, pool: String, layout: Layout, ahead: Duration) -> Ids {
        Ids {
            source: Arc::new(Source {
                session,
                pool,
                layout,
                ahead,
                generator: Mutex::new(None),
                fetching: tokio::sync::Mutex::new(()),
            }),
        }
    }

    /// The next id: greater than all that this value and its clones made before.
    ///
    /// # Errors
    /// See [`ClientError`]. Once a worker number is lent, ids go on for a minute without any member.
    pub async fn next(&self) -> Result<u64, ClientError> {
        loop {
            match self.source.make_one() {
                Some((Ok(id), plenty)) => {
                    if !plenty {
                        self.renew_aside();
                    }
                    return Ok(id);
                }
                Some((Err(NotYet::Wait(time)), _)) => sleep(time).await,
                Some((Err(NotYet::WindowOver), _)) | None => self.source.renew(false).await?,
            }
        }
    }

    /// What an id of this layout says.
    pub fn parts(&self, id: u64) -> Option<Parts> {
        self.source.layout.parts(id)
    }

    /// Fetches a longer window before the present one is over.
    fn renew_aside(&self) {
        let source = self.source.clone();
        tokio::spawn(async move {
            // If it fails, the window still lasts for a while, and then the caller hears of it.
            let _ = source.renew(true).await;
        });
    }
}

impl Source {
    fn generator(&self) -> std::sync::MutexGuard<'_, Option<Generator>> {
        self.generator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The next id, and whether the window lasts for a while; `None` before there is a window.
    fn make_one(&self) -> Option<(Result<u64, NotYet>, bool)> {
        let now = clock::now();
        let mut generator = self.generator();
        let generator = generator.as_mut()?;
        Some((generator.next(now), generator.left(now) > RENEW_BELOW))
    }

    /// Fetches a window, unless somebody else has done so meanwhile.
    async fn renew(&self, early: bool) -> Result<(), ClientError> {
        let _fetching = match early {
            // Whoever fetches does it for all.
            true => match self.fetching.try_lock() {
                Ok(fetching) => fetching,
                Err(_) => return Ok(()),
            },
            false => self.fetching.lock().await,
        };
        let enough = if early { RENEW_BELOW } else { Duration::ZERO };
        let now = clock::now();
        if let Some(generator) = self.generator().as_ref()
            && generator.left(now) > enough
        {
            return Ok(());
        }
        let (change, _ticket) = self.session.change(&[]).await;
        let request = api::WorkerRequest {
            change,
            pool: self.pool.clone(),
            session: self.session.number(),
            workers: self.layout.workers().min(1 << 16),
            ahead_ms: crate::session::millis(AHEAD + self.ahead),
        };
        let call = async |channel, request| IdClient::new(channel).worker(request).await;
        let answer = self.session.client().unary(Kind::Once, request, call).await;
        let answer = answer?.message;
        let window = Window {
            worker: answer.worker,
            now_ms: answer.now_unix_ms,
            from_ms: answer.from_unix_ms,
            until_ms: answer.until_unix_ms,
        };
        self.take(window);
        Ok(())
    }

    fn take(&self, window: Window) {
        let now = clock::now();
        let mut generator = self.generator();
        match generator.as_mut() {
            Some(generator) => generator.renew(window, now),
            None => {
                let first = Generator::new(self.layout, window, now);
                *generator = Some(first.with_ahead(self.ahead));
            }
        }
    }
}

/// After so many numbers without a wait the runtime gets a turn.
const TURN: u64 = 1024;

/// Plain numbers from ranges that the cell hands out: the fastest ids there are. They are unique, and rise for each value of this type; numbers of ranges
/// that were not used up are left out.
#[derive(Clone)]
pub struct Segments {
    source: Arc<Ranges>,
}

struct Ranges {
    session: Session,
    name: String,
    count: u64,
    ranges: Mutex<::ids::Segments>,
    /// One fetches, the others wait for it.
    fetching: tokio::sync::Mutex<()>,
}

impl Segments {
    /// Numbers of this sequence, fetched so many at a time.
    pub fn new(session: &Session, name: &str, count: u64) -> Segments {
        Segments {
            source: Arc::new(Ranges {
                session: session.clone(),
                name: name.to_owned(),
                count,
                ranges: Mutex::new(::ids::Segments::new()),
                fetching: tokio::sync::Mutex::new(()),
            }),
        }
    }

    /// The next number. While half a range is left, the next one is fetched in the background.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next(&self) -> Result<u64, ClientError> {
        loop {
            let (number, wants) = self.source.take();
            if wants && number.is_some() {
                self.fetch_aside();
            }
            match number {
                Some(number) => {
                    // A loop around this never waits; the session's renewals and the next range need their turn.
                    if number % TURN == 0 {
                        yield_now().await;
                    }
                    return Ok(number);
                }
                None => self.source.fetch(true).await?,
            }
        }
    }

    fn fetch_aside(&self) {
        let source = self.source.clone();
        if source.fetching.try_lock().is_err() {
            return;
        }
        tokio::spawn(async move {
            // If it fails, the caller hears of it when there are no numbers left.
            let _ = source.fetch(false).await;
        });
    }
}

impl Ranges {
    fn ranges(&self) -> std::sync::MutexGuard<'_, ::ids::Segments> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number, and whether another range is wanted.
    fn take(&self) -> (Option<u64>, bool) {
        let mut ranges = self.ranges();
        (ranges.take(), ranges.wants())
    }

    /// Fetches a range, unless somebody else has done so meanwhile. `now`: there is no number left.
    async fn fetch(&self, now: bool) -> Result<(), ClientError> {
        let _fetching = match self.fetching.try_lock() {
            Ok(fetching) => fetching,
            Err(_) if !now => return Ok(()),
            Err(_) => self.fetching.lock().await,
        };
        let enough = {
            let ranges = self.ranges();
            if now {
                ranges.left() > 0
            } else {
                !ranges.wants()
            }
        };
        if enough {
            return Ok(());
        }
        let (change, _ticket) = self.session.change(&[]).await;
        let request = api::SegmentRequest {
            change,
            name: self.name.clone(),
            count: self.count,
        };
        let call = async |channel, request| IdClient::new(channel).segment(request).await;
        let answer = self.session.client().unary(Kind::Once, request, call).await;
        let answer = answer?.message;
        let range = answer.first..=answer.first + (answer.count - 1);
        // Nobody else fetches, so there is room for it; if not, its numbers are left out.
        let _ = self.ranges().give(range);
        Ok(())
    }
}
