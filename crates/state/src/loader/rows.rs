//! Sections of rows: messages, each after its length.

use super::{Checked, Loader, Section};
use crate::State;
use prost::Message;

impl Loader {
    /// Takes the rows of a section.
    pub(super) fn take_rows(&mut self, section: Section, content: &[u8]) -> Checked<()> {
        let (state, totals) = (&mut self.state, &mut self.totals);
        match section {
            Section::Lock => each(content, &mut totals.locks, |lock| {
                state.locks.restore_lock(lock)
            }),
            Section::Claim => each(content, &mut totals.claims, |claim| {
                let State { locks, leases, .. } = &mut *state;
                locks.restore_claim(claim, leases)
            }),
            Section::Client => each(content, &mut totals.clients, |client| {
                state.restore_client(client)
            }),
            Section::Answered => each(content, &mut totals.answered, |answered| {
                state.restore_answered(answered)
            }),
            Section::Number => each(content, &mut totals.numbers, |number| {
                state.restore_number(number)
            }),
            Section::Worker => each(content, &mut totals.workers, |worker| {
                state.restore_worker(worker)
            }),
            other => unreachable!("section {other:?} has no rows"),
        }
    }
}

/// Takes one row after the other, and counts them.
fn each<R: Message + Default>(
    mut content: &[u8],
    count: &mut u64,
    mut take: impl FnMut(R) -> Checked<()>,
) -> Checked<()> {
    while !content.is_empty() {
        let row = R::decode_length_delimited(&mut content);
        take(row.map_err(|error| error.to_string())?)?;
        *count += 1;
    }
    Ok(())
}
