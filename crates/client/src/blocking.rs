//! The client for programs that are not asynchronous. What goes on in the background, such as keeping sessions alive, does so on a thread of its own.
//!
//! What has no form here runs by [`Session::run`].

use crate::{ClientError, Fence, KeyValue};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

type Outcome<T> = Result<T, ClientError>;

/// A client of one cell; see [`crate::Client`].
#[derive(Clone)]
pub struct Client {
    runtime: Arc<Runtime>,
    inner: crate::Client,
}

impl Client {
    /// Makes a client of these endpoints; see [`crate::Client::new`].
    ///
    /// # Errors
    /// An endpoint is none, or there is none.
    ///
    /// # Panics
    /// The system gives no thread.
    pub fn new<S: AsRef<str>>(endpoints: impl IntoIterator<Item = S>) -> Outcome<Client> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("synod-client")
            .enable_all()
            .build()
            .expect("the system gives a thread");
        // Connections are prepared inside of the runtime that will make them.
        let entered = runtime.enter();
        let inner = crate::Client::new(endpoints)?;
        drop(entered);
        Ok(Client {
            runtime: Arc::new(runtime),
            inner,
        })
    }

    /// The client that this one stands for.
    pub fn inner(&self) -> &crate::Client {
        &self.inner
    }

    /// Runs something asynchronous to its end.
    ///
    /// # Panics
    /// It is called in asynchronous code.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// A session with a cell; see [`crate::Session`].
#[derive(Clone)]
pub struct Session {
    client: Client,
    inner: crate::Session,
}

impl Session {
    /// Opens a session that lives for so long without this process.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn open(client: &Client, ttl: Duration) -> Outcome<Session> {
        let inner = client.run(crate::Session::open_with_ttl(&client.inner, ttl))?;
        Ok(Session {
            client: client.clone(),
            inner,
        })
    }

    /// The session that this one stands for: all recipes can be made of it.
    pub fn inner(&self) -> &crate::Session {
        &self.inner
    }

    /// Whether it certainly lives on.
    pub fn is_alive(&self) -> bool {
        self.inner.is_alive()
    }

    /// Runs something asynchronous to its end.
    ///
    /// # Panics
    /// It is called in asynchronous code.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.client.run(work)
    }

    /// Ends the session in order.
    ///
    /// # Errors
    /// See [`crate::Session::close`].
    pub fn close(self) -> Outcome<()> {
        self.client.run(self.inner.close())
    }

    fn guard(&self, guard: crate::Guard) -> Guard {
        Guard {
            session: self.clone(),
            inner: guard,
        }
    }
}

/// Something held; see [`crate::Guard`].
#[must_use = "it is given up when it is dropped"]
pub struct Guard {
    session: Session,
    inner: crate::Guard,
}

impl Guard {
    /// The fencing token.
    pub fn token(&self) -> u64 {
        self.inner.token()
    }

    /// Name and token, to go with requests.
    pub fn fence(&self) -> Fence {
        self.inner.fence()
    }

    /// Whether its session certainly lives on.
    pub fn is_held(&self) -> bool {
        self.inner.is_held()
    }

    /// Calls this, on a thread of the client, when the session is lost or closed.
    pub fn on_lost(&self, call: impl FnOnce(String) + Send + 'static) {
        let session = self.session.inner.clone();
        let runtime = &self.session.client.runtime;
        runtime.spawn(async move { call(session.lost().await) });
    }

    /// Gives it up now.
    ///
    /// # Errors
    /// See [`crate::Guard::release`].
    pub fn release(self) -> Outcome<()> {
        self.session.client.run(self.inner.release())
    }
}

/// A lock that one holds at a time; see [`crate::Mutex`].
#[derive(Clone)]
pub struct Mutex {
    session: Session,
    inner: crate::Mutex,
}

impl Mutex {
    /// The lock of this name, for this session.
    pub fn new(session: &Session, name: &str) -> Mutex {
        Mutex {
            session: session.clone(),
            inner: crate::Mutex::new(&session.inner, name),
        }
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn lock(&self) -> Outcome<Guard> {
        let guard = self.session.run(self.inner.lock())?;
        Ok(self.session.guard(guard))
    }

    /// Takes the lock if it is free now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn try_lock(&self) -> Outcome<Option<Guard>> {
        let guard = self.session.run(self.inner.try_lock())?;
        Ok(guard.map(|guard| self.session.guard(guard)))
    }

    /// Waits for the lock for so long at most.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn lock_within(&self, time: Duration) -> Outcome<Option<Guard>> {
        let within = async { self.inner.lock_within(time).await };
        let guard = self.session.run(within)?;
        Ok(guard.map(|guard| self.session.guard(guard)))
    }
}

/// Permits that sessions share; see [`crate::Semaphore`].
#[derive(Clone)]
pub struct Semaphore {
    session: Session,
    inner: crate::Semaphore,
}

impl Semaphore {
    /// The semaphore of this name with so many permits, for this session.
    pub fn new(session: &Session, name: &str, limit: u64) -> Semaphore {
        Semaphore {
            session: session.clone(),
            inner: crate::Semaphore::new(&session.inner, name, limit),
        }
    }

    /// Waits for so many permits.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn acquire(&self, permits: u64) -> Outcome<Guard> {
        let guard = self.session.run(self.inner.acquire(permits))?;
        Ok(self.session.guard(guard))
    }

    /// Takes so many permits if they are free now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn try_acquire(&self, permits: u64) -> Outcome<Option<Guard>> {
        let guard = self.session.run(self.inner.try_acquire(permits))?;
        Ok(guard.map(|guard| self.session.guard(guard)))
    }
}

/// One leader at a time; see [`crate::Election`].
#[derive(Clone)]
pub struct Election {
    session: Session,
    inner: crate::Election,
}

impl Election {
    /// The election of this name, for this session.
    pub fn new(session: &Session, name: &str) -> Election {
        Election {
            session: session.clone(),
            inner: crate::Election::new(&session.inner, name),
        }
    }

    /// Waits until this candidate leads. The text is the leader's word.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn campaign(&self, text: &str) -> Outcome<Guard> {
        let leadership = self.session.run(self.inner.campaign(text))?;
        Ok(self.session.guard(leadership.into_guard()))
    }

    /// Who leads now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn leader(&self) -> Outcome<Option<crate::election::Leader>> {
        self.session.run(self.inner.leader())
    }
}

/// Keys; see [`crate::Kv`].
#[derive(Clone)]
pub struct Kv {
    client: Client,
    inner: crate::Kv,
}

impl Kv {
    /// The keys of a cell.
    pub fn new(client: &Client) -> Kv {
        Kv {
            client: client.clone(),
            inner: crate::Kv::new(&client.inner),
        }
    }

    /// The same keys, written only while this holds.
    pub fn guarded(&self, guard: &Guard) -> Kv {
        Kv {
            client: self.client.clone(),
            inner: self.inner.guarded(&guard.inner),
        }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Outcome<Option<KeyValue>> {
        self.client.run(self.inner.get(key))
    }

    /// Reads all keys that begin so.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn list(&self, prefix: impl AsRef<[u8]>) -> Outcome<Vec<KeyValue>> {
        self.client.run(self.inner.list(prefix))
    }

    /// Sets a key; gives the revision.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Outcome<i64> {
        self.client.run(self.inner.put(key, value))
    }

    /// Removes a key; says whether there was one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Outcome<bool> {
        self.client.run(self.inner.delete(key))
    }

    /// Changes a value by looking at it; see [`crate::Kv::update`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn update(
        &self,
        key: impl AsRef<[u8]>,
        change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Outcome<Option<Vec<u8>>> {
        self.client.run(self.inner.update(key, change))
    }
}
