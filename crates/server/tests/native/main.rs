//! The native API on three real members.

mod cluster;
mod levels;
mod locks;
