//! The process that holds the lock and is stopped. It does what it is told by lines of JSON, and writes with the page's own statements and scripts.

use super::{Mark, PATIENCE, Resource, Written, lock};
use crate::Outcome;
use crate::puppet::Puppet;
use client::{Client, Guard, Mutex, Session};
use proto::synod::v1 as api;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Short, so that the stops are; not so short that a busy machine loses the lock before it is stopped.
const TTL: Duration = Duration::from_secs(2);

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
pub enum Told {
    /// Take the lock of this key and write.
    Take(u64),
    /// Write again, with the token it has.
    Write(u64),
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    token: u64,
    signed: String,
    /// By resource.
    written: Vec<Written>,
}

/// Does what it is told until there is nothing more.
///
/// # Errors
/// When the lock cannot be had, or a resource fails.
pub async fn hold(endpoints: Vec<String>, resources: &str) -> Outcome<bool> {
    let resources: Vec<Resource> = serde_json::from_str(resources)?;
    let client = Client::new(&endpoints)?;
    let mut told = BufReader::new(tokio::io::stdin()).lines();
    let mut held: Option<(Guard, String)> = None;
    while let Some(line) = told.next_line().await? {
        let (key, value) = match serde_json::from_str(&line)? {
            Told::Take(key) => {
                let session = Session::open_with_ttl(&client, TTL).await?;
                let guard = Mutex::new(&session, &lock(key)).lock().await?;
                let signed = guard.sign().await?;
                held = Some((guard, signed));
                (key, "first")
            }
            Told::Write(key) => (key, "late"),
        };
        let (guard, signed) = held.as_ref().ok_or("nothing is held")?;
        let mark = Mark {
            lock: lock(key),
            token: guard.token(),
        };
        let mut written = Vec::new();
        for resource in &resources {
            written.push(resource.write(&mark, key, value).await?);
        }
        let answer = Answer {
            token: mark.token,
            signed: signed.clone(),
            written,
        };
        println!("{}", serde_json::to_string(&answer)?);
    }
    Ok(true)
}

/// Waits until nobody holds a lock.
pub async fn until_free(client: &Client, name: &str) -> Outcome<()> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let show = api::ShowLockRequest {
            name: name.to_owned(),
            ..api::ShowLockRequest::default()
        };
        if client
            .lock_show(show)
            .await?
            .message
            .acquisitions
            .is_empty()
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("{name} is still held after {PATIENCE:?}").into())
}

/// A grant, as the process that has it tells of it.
pub struct Granted {
    pub mark: Mark,
    pub signed: String,
}

/// The process.
pub struct Holder {
    process: Puppet,
    /// What became of its last writes, by resource.
    pub written: Vec<Written>,
}

impl Holder {
    pub fn start(endpoints: &[String], resources: &[Resource]) -> Outcome<Holder> {
        let (endpoints, resources) = (endpoints.join(","), serde_json::to_string(resources)?);
        let what = ["--endpoints", &endpoints, "--resources", &resources];
        Ok(Holder {
            process: Puppet::start(&[&["hold-resources"], &what[..]].concat())?,
            written: Vec::new(),
        })
    }

    /// Tells it something and waits until it is done.
    pub async fn tell(&mut self, told: &Told) -> Outcome<Granted> {
        self.process.say(&serde_json::to_string(told)?).await?;
        let answer: Answer = self.process.hear().await?;
        self.written = answer.written;
        let (Told::Take(key) | Told::Write(key)) = *told;
        Ok(Granted {
            mark: Mark {
                lock: lock(key),
                token: answer.token,
            },
            signed: answer.signed,
        })
    }

    /// Stops it, or lets it go on.
    pub fn pause(&self, paused: bool) -> Outcome<()> {
        self.process.pause(paused)
    }
}
