//! Many writers at once, each with tokens of its own: whoever looks sees them rise only, and in the end the greatest has written last.

use super::{Mark, Resource, Target, Written};
use crate::Outcome;
use crate::report::Report;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const WRITERS: usize = 6;
const TOKENS: u64 = 60;

fn mark(token: u64) -> Mark {
    Mark {
        lock: "race".into(),
        token,
    }
}

/// Runs it with one resource.
pub async fn run(resource: &Resource, report: &mut Report) -> Outcome<()> {
    let key = 1 << 21;
    resource.make(key).await?;
    resource.write(&mark(1), key, "1").await?;
    let mut writers = Vec::new();
    for first in (2..=TOKENS).take(WRITERS) {
        let resource = resource.clone();
        writers.push(tokio::spawn(async move {
            let mut refused = 0;
            for token in (first..=TOKENS).step_by(WRITERS) {
                let written = resource
                    .write(&mark(token), key, &token.to_string())
                    .await?;
                refused += usize::from(written == Written::Stale);
            }
            Outcome::Ok(refused)
        }));
    }
    let done = Arc::new(AtomicBool::new(false));
    let (reader, ends) = (resource.clone(), done.clone());
    let reader = tokio::spawn(async move {
        let (mut seen, mut looks, mut fell) = (0, 0, 0);
        while !ends.load(Ordering::Relaxed) {
            let (_, value) = reader.read("race", key).await?;
            let value = value.parse::<u64>()?;
            fell += usize::from(value < seen);
            seen = value;
            looks += 1;
        }
        Outcome::Ok((looks, fell))
    });
    let mut refused = 0;
    for writer in writers {
        refused += writer.await??;
    }
    done.store(true, Ordering::Relaxed);
    let (looks, fell) = reader.await??;
    let (token, value) = resource.read("race", key).await?;
    report.check(
        &format!("{}: writers at once", resource.name()),
        fell == 0 && token == TOKENS && value == TOKENS.to_string(),
        format!(
            "{WRITERS} writers, {refused} of {TOKENS} writes refused; {looks} looks, {fell} of them older than one before; last {value} of token {token}"
        ),
    );
    Ok(())
}

/// An object that has become what it was: who looked at it before must notice. Its tag says what is in it, not when it was written.
pub async fn back_again(resources: &[Resource], report: &mut Report) -> Outcome<()> {
    let key = 1 << 22;
    for resource in resources {
        let Target::Store(store @ super::script::Store::Objects(_)) = &resource.0 else {
            continue;
        };
        store.write(&mark(1), key, "A").await?;
        let between = store.half_way(1, key, "late").await?;
        store.write(&mark(2), key, "B").await?;
        store.write(&mark(2), key, "A").await?;
        let late = between.go_on().await?;
        let (token, value) = store.read(key).await?;
        report.check(
            "object: A, B, A behind the back of a writer that has looked",
            late == Written::Stale && (token, value.as_str()) == (2, "A"),
            format!("{late:?}; now {value:?} of token {token}"),
        );
    }
    Ok(())
}
