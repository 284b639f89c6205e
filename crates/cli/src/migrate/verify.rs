//! The comparison at the end: the same keys, values and leases, and the same order of creations and changes.

use super::range::{Pages, present};
use super::target::Target;
use crate::output::{Failed, hex};
use client::Client;
use proto::mvccpb::KeyValue;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// What both sides hold.
pub(super) struct Verified {
    pub keys: u64,
    pub leases: usize,
    /// Of all keys, values and leases in order.
    pub sha256: String,
}

/// Compares the source, as of the revision that is done, with the destination.
pub(super) async fn verify(source: &Client, target: &Target) -> Result<Verified, Failed> {
    let range = target.range();
    let now = present(target.client(), range).await?.revision;
    let mut there = Pages::new(source, range, target.done(), true);
    let mut here = Stream::new(Pages::new(target.client(), range, now, true));
    let (mut sha, mut keys) = (Sha256::new(), 0);
    let (mut created, mut changed) = (Vec::new(), Vec::new());
    loop {
        let page = there.next().await?;
        if page.is_empty() {
            break;
        }
        for kv in page {
            let other = here.next(target).await?;
            let same = other.as_ref().is_some_and(|other| {
                (&other.key, &other.value, other.lease) == (&kv.key, &kv.value, kv.lease)
            });
            let Some(other) = other.filter(|_| same) else {
                return Err(differs(&kv.key));
            };
            keys += 1;
            created.push((kv.create_revision, other.create_revision));
            changed.push((kv.mod_revision, other.mod_revision));
            for part in [&kv.key, &kv.value] {
                sha.update((part.len() as u64).to_le_bytes());
                sha.update(part);
            }
            sha.update(kv.lease.to_le_bytes());
        }
    }
    if let Some(extra) = here.next(target).await? {
        return Err(differs(&extra.key));
    }
    for (what, revisions) in [("creations", created), ("changes", changed)] {
        check_order(what, revisions)?;
    }
    let leases = |told: client::Answer<proto::etcdserverpb::LeaseLeasesResponse>| {
        let leases = told.message.leases.into_iter();
        leases.map(|lease| lease.id).collect::<BTreeSet<i64>>()
    };
    let living = leases(source.lease_list().await?);
    let copied = leases(target.client().lease_list().await?);
    Ok(Verified {
        keys,
        leases: living.intersection(&copied).count(),
        sha256: hex(&sha.finalize()),
    })
}

/// Keys one by one, without the migration's own.
struct Stream<'a> {
    pages: Pages<'a>,
    page: std::vec::IntoIter<KeyValue>,
}

impl<'a> Stream<'a> {
    fn new(pages: Pages<'a>) -> Stream<'a> {
        Stream {
            pages,
            page: Vec::new().into_iter(),
        }
    }

    async fn next(&mut self, target: &Target) -> Result<Option<KeyValue>, Failed> {
        loop {
            if let Some(kv) = self.page.next() {
                if target.is_own(&kv.key) {
                    continue;
                }
                return Ok(Some(kv));
            }
            self.page = self.pages.next().await?.into_iter();
            if self.page.as_slice().is_empty() {
                return Ok(None);
            }
        }
    }
}

fn differs(key: &[u8]) -> Failed {
    Failed::Refused(format!(
        "the two differ at key {:?}: somebody else writes to the destination, or an earlier migration was left there; give the command again with --force to make it like the source",
        String::from_utf8_lossy(key)
    ))
}

/// Revisions of both sides rise together.
fn check_order(what: &str, mut revisions: Vec<(i64, i64)>) -> Result<(), Failed> {
    revisions.sort_unstable();
    for pair in revisions.windows(2) {
        let ((there_a, here_a), (there_b, here_b)) = (pair[0], pair[1]);
        if there_a < there_b && here_a >= here_b {
            return Err(Failed::Refused(format!(
                "the order of {what} is not kept: source revisions {there_a} and {there_b} are {here_a} and {here_b} in the destination"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_is_not_kept_is_found() {
        assert!(check_order("changes", vec![(5, 2), (3, 1), (5, 2), (9, 4)]).is_ok());
        assert!(check_order("changes", vec![(3, 2), (5, 2)]).is_err());
        assert!(check_order("changes", vec![(5, 1), (3, 2)]).is_err());
    }
}
