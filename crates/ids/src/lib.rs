//! Identifiers, pure: how ids are made from what a cell hands out, without asking it for each of them.
//!
//! Two kinds. A [`Generator`] makes 64-bit ids ordered by time: the cell lends it a worker number together with a [`Window`] of milliseconds that no
//! other owner of the number ever gets, and it never leaves its window. A pair of [`Segments`] counts through ranges of plain numbers that the cell
//! hands out in blocks, and asks for the next block before the present one is used up. Beside them a [`UuidGenerator`], which needs no cell.
//!
//! **Invariants**: no id twice, whatever clocks and restarts do (I1); the ids of one issuer rise. Neither rests on a clock: uniqueness comes from the
//! windows, and the time in an id is the cell's, carried on by the caller's monotonic clock. Wall clocks are never read, so their steps have no effect.
//!
//! **Lacks**, on purpose: the requests to the cell, threads, clocks.

mod generator;
mod layout;
mod segments;
mod uuid;

pub use generator::{Generator, NotYet, Window};
pub use layout::{Layout, LayoutError, Parts};
pub use segments::Segments;
pub use uuid::{ParseUuidError, Uuid, UuidGenerator};
