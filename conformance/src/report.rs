//! What a test says while it runs: one line per check, and whether all held.

use crate::Outcome;
use std::time::Instant;

/// Collects checks and prints each as it is made.
#[derive(Debug)]
pub struct Report {
    since: Instant,
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Default for Report {
    fn default() -> Report {
        Report {
            since: Instant::now(),
            passed: 0,
            failed: Vec::new(),
            skipped: Vec::new(),
        }
    }
}

impl Report {
    /// Notes whether `what` held; `detail` says what was seen.
    pub fn check(&mut self, what: &str, held: bool, detail: impl std::fmt::Display) {
        let mark = if held { "ok  " } else { "FAIL" };
        println!(
            "{:7.1} s  {mark}  {what}: {detail}",
            self.since.elapsed().as_secs_f64()
        );
        if held {
            self.passed += 1;
        } else {
            self.failed.push(format!("{what}: {detail}"));
        }
    }

    /// Notes a step that must simply succeed, and gives its result when it did.
    pub fn step<T>(&mut self, what: &str, result: Outcome<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.check(what, true, "done");
                Some(value)
            }
            Err(error) => {
                self.check(what, false, error);
                None
            }
        }
    }

    /// Notes something left out, and why.
    pub fn skip(&mut self, what: &str, why: &str) {
        println!(
            "{:7.1} s  skip  {what}: {why}",
            self.since.elapsed().as_secs_f64()
        );
        self.skipped.push(what.to_string());
    }

    /// Says something that is no check.
    pub fn note(&self, text: impl std::fmt::Display) {
        println!("{:7.1} s        {text}", self.since.elapsed().as_secs_f64());
    }

    /// Prints the sum. True when nothing failed.
    pub fn finish(&self) -> bool {
        println!(
            "\n{} checks held, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.skipped.len()
        );
        for failed in &self.failed {
            println!("failed: {failed}");
        }
        for skipped in &self.skipped {
            println!("skipped: {skipped}");
        }
        self.failed.is_empty()
    }
}
