//! The file format of bbolt, which etcd keeps its state in and hands out as a snapshot: written front to back from sorted entries, and read
//! with strict bounds from a file that may be anything.
//!
//! A file is pages of 4096 bytes. Two *meta* pages name the root, a *freelist* page lists unused pages (here none), the root is a leaf that
//! names the *buckets*, and each bucket is a tree of *leaf* and *branch* pages. All numbers are little endian.
//! Source: the `page.go`, `meta.go` and `bucket.go` of go.etcd.io/bbolt 1.4.

mod page;
mod plan;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use page::{MAGIC, PAGE_BYTES};
pub use plan::{Plan, Planner};
pub use reader::{Damage, Reader, Source};
pub use writer::Writer;
