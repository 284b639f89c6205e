//! What clients were told, and whether what they read and watch agrees with it.
//!
//! Each key has one writer, which writes 1, 2, 3 and so on. A write that was acknowledged must be there; one whose outcome is unknown may take effect
//! once, at any time, or never; a read never gives less than what was acknowledged or read before it began, unless it is such an unknown one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The record of one run.
#[derive(Debug)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    keys: BTreeMap<String, Key>,
    breaches: Vec<String>,
    acknowledged: u64,
    unknown: u64,
    reads: u64,
    last_acknowledgement: Instant,
    longest_gap: Duration,
}

#[derive(Debug, Default)]
struct Key {
    attempted: u64,
    acknowledged: u64,
    read: u64,
    unknown: BTreeSet<u64>,
    watched: Vec<u64>,
}

/// The sum of a run.
#[derive(Clone, Debug)]
pub struct Sum {
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Writes with an unknown outcome.
    pub unknown: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// The longest time without an acknowledged write.
    pub longest_gap: Duration,
    /// Everything that must not be.
    pub breaches: Vec<String>,
}

impl Default for Ledger {
    fn default() -> Ledger {
        let inner = Inner {
            keys: BTreeMap::new(),
            breaches: Vec::new(),
            acknowledged: 0,
            unknown: 0,
            reads: 0,
            last_acknowledgement: Instant::now(),
            longest_gap: Duration::ZERO,
        };
        Ledger {
            inner: Mutex::new(inner),
        }
    }
}

impl Ledger {
    /// A write begins; gives the number to write.
    pub fn begin_write(&self, key: &str) -> u64 {
        let mut inner = self.lock();
        let key = inner.keys.entry(key.to_string()).or_default();
        key.attempted += 1;
        key.attempted
    }

    /// The write of `number` was acknowledged.
    pub fn acknowledge(&self, key: &str, number: u64) {
        let mut inner = self.lock();
        let gap = inner.last_acknowledgement.elapsed();
        inner.longest_gap = inner.longest_gap.max(gap);
        inner.last_acknowledgement = Instant::now();
        inner.acknowledged += 1;
        let key = inner.keys.entry(key.to_string()).or_default();
        key.acknowledged = key.acknowledged.max(number);
    }

    /// Nobody knows whether the write of `number` took or will take effect.
    pub fn lose_sight(&self, key: &str, number: u64) {
        let mut inner = self.lock();
        inner.unknown += 1;
        inner
            .keys
            .entry(key.to_string())
            .or_default()
            .unknown
            .insert(number);
    }

    /// What a read that begins now must give at least.
    pub fn floor(&self, key: &str) -> u64 {
        self.lock()
            .keys
            .get(key)
            .map_or(0, |key| key.acknowledged.max(key.read))
    }

    /// A linearizable read that began at `floor` gave `number`; 0 for an absent key.
    pub fn finish_read(&self, name: &str, floor: u64, number: u64) {
        let mut inner = self.lock();
        inner.reads += 1;
        let key = inner.keys.entry(name.to_string()).or_default();
        let (attempted, floating) = (key.attempted, key.unknown.contains(&number));
        // A late unknown write may set the value back; only what was read beyond doubt raises the floor.
        if !floating && number <= attempted {
            key.read = key.read.max(number);
        }
        if number < floor && !floating {
            inner.breaches.push(format!(
                "KV1: {name} read {number}, but {floor} was acknowledged or read before"
            ));
        } else if number > attempted {
            inner.breaches.push(format!(
                "C3: {name} read {number}, which nobody wrote; the last attempt was {attempted}"
            ));
        }
    }

    /// A watch showed that `name` was set to `number`.
    pub fn watched(&self, name: &str, number: u64) {
        self.lock()
            .keys
            .entry(name.to_string())
            .or_default()
            .watched
            .push(number);
    }

    /// Something must not be.
    pub fn breach(&self, text: String) {
        self.lock().breaches.push(text);
    }

    /// All keys written to.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys.keys().cloned().collect()
    }

    /// Starts the clock of gaps anew, after a pause of the clients' own.
    pub fn forget_gap(&self) {
        self.lock().last_acknowledgement = Instant::now();
    }

    /// Compares what a gapless watch showed of each key with what the writers know and what is there in the end.
    pub fn settle(&self, finals: &BTreeMap<String, u64>) {
        let mut inner = self.lock();
        let mut breaches = Vec::new();
        for (name, key) in &inner.keys {
            let seen: BTreeSet<u64> = key.watched.iter().copied().collect();
            if seen.len() != key.watched.len() {
                breaches.push(format!(
                    "W2 or E: {name} was set twice to the same number: {:?}",
                    repeated(&key.watched)
                ));
            }
            let missing: Vec<u64> = (1..=key.attempted)
                .filter(|number| !seen.contains(number) && !key.unknown.contains(number))
                .collect();
            if !missing.is_empty() {
                breaches.push(format!(
                    "W3: the watch on {name} never showed the acknowledged {missing:?}"
                ));
            }
            let end = finals.get(name).copied().unwrap_or(0);
            if key.watched.last().copied().unwrap_or(0) != end {
                breaches.push(format!(
                    "W3: {name} is {end}, the watch showed {:?} last",
                    key.watched.last()
                ));
            }
            if end < key.acknowledged && !key.unknown.contains(&end) {
                breaches.push(format!(
                    "KV2: {name} is {end}, but {} was acknowledged",
                    key.acknowledged
                ));
            }
        }
        inner.breaches.append(&mut breaches);
    }

    /// The sum so far.
    pub fn sum(&self) -> Sum {
        let inner = self.lock();
        Sum {
            acknowledged: inner.acknowledged,
            unknown: inner.unknown,
            reads: inner.reads,
            longest_gap: inner.longest_gap,
            breaches: inner.breaches.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the ledger panics")
    }
}

fn repeated(numbers: &[u64]) -> BTreeSet<u64> {
    let mut once = BTreeSet::new();
    numbers
        .iter()
        .copied()
        .filter(|number| !once.insert(*number))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(ledger: &Ledger) -> usize {
        ledger.sum().breaches.len()
    }

    #[test]
    fn a_lost_acknowledged_write_is_a_breach() {
        let ledger = Ledger::default();
        for _ in 0..2 {
            let number = ledger.begin_write("k");
            ledger.acknowledge("k", number);
            ledger.watched("k", number);
        }
        ledger.finish_read("k", ledger.floor("k"), 1);
        assert_eq!(breaches(&ledger), 1, "the read went back");
        ledger.settle(&BTreeMap::from([("k".to_string(), 1)]));
        assert_eq!(breaches(&ledger), 3, "{:?}", ledger.sum().breaches);
    }

    #[test]
    fn an_unknown_write_may_appear_late_or_never() {
        let ledger = Ledger::default();
        let first = ledger.begin_write("k");
        ledger.lose_sight("k", first);
        let second = ledger.begin_write("k");
        ledger.acknowledge("k", second);
        ledger.finish_read("k", ledger.floor("k"), 2);
        ledger.finish_read("k", ledger.floor("k"), 1);
        ledger.watched("k", 2);
        ledger.watched("k", 1);
        ledger.settle(&BTreeMap::from([("k".to_string(), 1)]));
        assert_eq!(breaches(&ledger), 0, "{:?}", ledger.sum().breaches);
    }

    #[test]
    fn a_gap_and_a_repetition_in_a_watch_are_breaches() {
        let ledger = Ledger::default();
        for _ in 0..3 {
            let number = ledger.begin_write("k");
            ledger.acknowledge("k", number);
        }
        for number in [1, 3, 3] {
            ledger.watched("k", number);
        }
        ledger.settle(&BTreeMap::from([("k".to_string(), 3)]));
        assert_eq!(breaches(&ledger), 2, "{:?}", ledger.sum().breaches);
    }
}
