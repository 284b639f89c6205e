//! Passwords: hashed and compared on threads of their own, a few at a time, because one takes as long as thousands of requests.
//!
//! A password that was found right is remembered by a keyed hash of it together with the hash it was held against, so that the next time costs nothing and a
//! changed password is a different thing. The key is random and never leaves the process.

use super::backoff::Backoff;
use super::crypto::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use etcd::{Code, Status};
use state::auth::User;
use std::collections::{HashSet, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;

/// Passwords that may wait for a thread; more are refused at once. At a tenth of a second each, whoever came later would give up before its turn.
const JOBS_MAX: usize = 64;
/// Passwords remembered at most.
const KNOWN_MAX: usize = 8192;
/// Bytes of a password at most; bcrypt looks at no more.
const PASSWORD_BYTES_MAX: usize = 72;
/// Threads that hash at most.
const THREADS_MAX: usize = 4;
/// How far these threads stand back behind all others.
const NICENESS: i32 = 10;

/// Hashes and compares passwords.
pub(super) struct Passwords {
    cost: u32,
    /// The way to the threads, which begin with the first password.
    jobs: OnceLock<SyncSender<Job>>,
    known: Mutex<Known>,
    backoff: Mutex<Backoff>,
}

enum Job {
    Hash {
        password: String,
        cost: u32,
        done: oneshot::Sender<Option<String>>,
    },
    Compare {
        password: Vec<u8>,
        hash: Bytes,
        done: oneshot::Sender<bool>,
    },
}

/// Passwords that were found right.
struct Known {
    key: hmac::Key,
    prints: HashSet<Print>,
    order: VecDeque<Print>,
}

type Print = [u8; 32];

impl Known {
    fn print(&self, hash: &[u8], password: &[u8]) -> Print {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(hash.len() as u64).to_be_bytes());
        context.update(hash);
        context.update(password);
        let mut print = Print::default();
        print.copy_from_slice(context.sign().as_ref());
        print
    }

    fn insert(&mut self, print: Print) {
        if self.prints.insert(print) {
            self.order.push_back(print);
        }
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.prints.remove(&oldest);
        }
    }
}

/// Ends an attempt's wait even if its client leaves in the middle.
struct Waiting<'a> {
    backoff: &'a Mutex<Backoff>,
    user: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.backoff).waited(self.user);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Passwords {
    /// With this cost of a hash; each step doubles its time.
    pub fn new(cost: u32) -> Passwords {
        let mut key = Print::default();
        getrandom::fill(&mut key).expect("the system has randomness");
        Passwords {
            cost,
            jobs: OnceLock::new(),
            known: Mutex::new(Known {
                key: hmac::Key::new(hmac::HMAC_SHA256, &key),
                prints: HashSet::new(),
                order: VecDeque::new(),
            }),
            backoff: Mutex::default(),
        }
    }

    /// Hashes a password.
    ///
    /// # Errors
    /// It is too long, or too many wait.
    pub async fn hash(&self, password: &str) -> Result<Bytes, Status> {
        if password.len() > PASSWORD_BYTES_MAX {
            let text = "bcrypt: password length exceeds 72 bytes";
            return Err(Status::new(Code::Unknown, text));
        }
        let hash = self
            .ask(|done| Job::Hash {
                password: password.to_owned(),
                cost: self.cost,
                done,
            })
            .await?;
        let failed = || Status::new(Code::Unknown, "bcrypt: the password cannot be hashed");
        hash.map(Bytes::from).ok_or_else(failed)
    }

    /// Whether this is the password of a user. One that does not exist takes as long as one that does.
    ///
    /// # Errors
    /// Too many wait.
    pub async fn check(
        &self,
        name: &str,
        user: Option<&User>,
        password: &str,
    ) -> Result<bool, Status> {
        // What is beyond counts for nothing, and must cost nothing.
        let password = &password.as_bytes()[..password.len().min(PASSWORD_BYTES_MAX)];
        let nobody = self.nobody();
        let hash = user.map_or(&nobody, |user| &user.password_hash);
        let print = lock(&self.known).print(hash, password);
        if lock(&self.known).prints.contains(&print) {
            return Ok(true);
        }
        // Names that nobody has share one place, or guessing at names would drive real ones out.
        let slow = if user.is_some() { name } else { "" };
        let Some(wait) = lock(&self.backoff).begin(slow, Instant::now()) else {
            return Err(Status::TOO_MANY_REQUESTS);
        };
        if !wait.is_zero() {
            let _waiting = Waiting {
                backoff: &self.backoff,
                user: slow,
            };
            tokio::time::sleep(wait).await;
        }
        let right = self
            .ask(|done| Job::Compare {
                password: password.to_vec(),
                hash: hash.clone(),
                done,
            })
            .await?
            && user.is_some();
        lock(&self.backoff).ended(slow, right, Instant::now());
        if right {
            lock(&self.known).insert(print);
        }
        Ok(right)
    }

    /// A hash that no password has, at the cost of the others.
    fn nobody(&self) -> Bytes {
        Bytes::from(format!("$2a${:02}${}", self.cost, ".".repeat(53)))
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, Status> {
        let (done, answer) = oneshot::channel();
        let jobs = self.jobs.get_or_init(start_threads);
        match jobs.try_send(job(done)) {
            Ok(()) => answer.await.map_err(|_| Status::STOPPED),
            Err(TrySendError::Full(_)) => Err(Status::TOO_MANY_REQUESTS),
            Err(TrySendError::Disconnected(_)) => Err(Status::STOPPED),
        }
    }
}

/// The hash that a client made itself, in base64.
///
/// # Errors
/// It is no base64; the text is etcd's.
pub(crate) fn given_hash(text: &str) -> Result<Bytes, Status> {
    let hash = STANDARD.decode(text).map_err(|_| no_password_user())?;
    Ok(hash.into())
}

/// What someone who gives a password for a user without one is told.
pub(super) fn no_password_user() -> Status {
    let text = "auth: authentication failed, password was given for no password user";
    Status::new(Code::Unknown, text)
}

/// Half of the processors may hash; what serves requests goes first.
fn start_threads() -> SyncSender<Job> {
    let (jobs, waiting) = sync_channel(JOBS_MAX);
    let waiting = Arc::new(Mutex::new(waiting));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..(cores / 2).clamp(1, THREADS_MAX) {
        let waiting = waiting.clone();
        std::thread::Builder::new()
            .name("password".into())
            .spawn(move || work(&waiting))
            .expect("the system has room for a thread");
    }
    jobs
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    // On Linux this is the thread's own niceness. Where it is refused, hashing is merely less polite.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    loop {
        let Ok(job) = lock(waiting).recv() else {
            return;
        };
        match job {
            // Its client left while it waited.
            Job::Hash { done, .. } if done.is_closed() => {}
            Job::Compare { done, .. } if done.is_closed() => {}
            Job::Hash {
                password,
                cost,
                done,
            } => {
                let _ = done.send(hash(&password, cost));
            }
            Job::Compare {
                password,
                hash,
                done,
            } => {
                let hash = std::str::from_utf8(&hash).unwrap_or_default();
                let _ = done.send(bcrypt::verify(&password, hash).unwrap_or(false));
            }
        }
    }
}

/// In the form that etcd writes, so that users can be taken there and back.
fn hash(password: &str, cost: u32) -> Option<String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).ok()?;
    let parts = bcrypt::hash_with_salt(password, cost, salt).ok()?;
    Some(parts.format_for_version(bcrypt::Version::TwoA))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(hash: Bytes) -> User {
        let mut user = User::default();
        user.password_hash = hash;
        user
    }

    #[tokio::test]
    async fn a_password_is_known_again_until_it_changes() {
        let passwords = Passwords::new(4);
        let first = user(passwords.hash("secret").await.unwrap());
        assert!(first.password_hash.starts_with(b"$2a$04$"));
        for _ in 0..2 {
            assert!(
                passwords
                    .check("ann", Some(&first), "secret")
                    .await
                    .unwrap()
            );
            assert!(!passwords.check("ann", Some(&first), "wrong").await.unwrap());
        }
        assert_eq!(lock(&passwords.known).order.len(), 1);
        let second = user(passwords.hash("other").await.unwrap());
        assert!(
            !passwords
                .check("ann", Some(&second), "secret")
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn nobody_has_no_password_and_an_empty_hash_fits_none() {
        let passwords = Passwords::new(4);
        assert!(!passwords.check("bob", None, "").await.unwrap());
        let empty = user(Bytes::new());
        assert!(!passwords.check("ann", Some(&empty), "").await.unwrap());
    }

    #[tokio::test]
    async fn only_the_first_bytes_count_as_in_etcd() {
        let passwords = Passwords::new(4);
        let ann = user(passwords.hash(&"x".repeat(72)).await.unwrap());
        assert!(
            passwords
                .check("ann", Some(&ann), &"x".repeat(2000))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .check("ann", Some(&ann), &"x".repeat(71))
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn long_passwords_are_refused_in_etcds_words() {
        let refused = Passwords::new(4).hash(&"x".repeat(73)).await.unwrap_err();
        assert_eq!(refused.text, "bcrypt: password length exceeds 72 bytes");
        assert!(Passwords::new(4).hash(&"x".repeat(72)).await.is_ok());
    }

    #[tokio::test]
    async fn hashes_of_all_versions_are_understood() {
        let passwords = Passwords::new(4);
        let ours = String::from_utf8(passwords.hash("pw").await.unwrap().to_vec()).unwrap();
        for version in ["$2a$", "$2b$", "$2y$"] {
            let other = user(Bytes::from(ours.replacen("$2a$", version, 1)));
            assert!(passwords.check("ann", Some(&other), "pw").await.unwrap());
        }
    }

    #[tokio::test]
    async fn only_so_many_wait_for_a_thread() {
        let passwords = Passwords::new(10);
        let all = (0..JOBS_MAX + 40).map(|_| passwords.hash("x"));
        let outcomes = futures_util::future::join_all(all).await;
        let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert!(refused >= 40 - THREADS_MAX, "{refused} were refused");
        assert!(
            outcomes
                .iter()
                .flat_map(|outcome| outcome.as_ref().err())
                .all(|status| *status == Status::TOO_MANY_REQUESTS)
        );
    }
}
