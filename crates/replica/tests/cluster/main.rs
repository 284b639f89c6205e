//! Three replicas in one process: what a cell does as a whole.

extern crate synod_replica as replica;

mod auth;
mod changes;
mod disk;
mod harness;
mod leases;
mod locks;
mod membership;
mod places;
mod reads;
mod removals;
mod repair;
mod snapshots;
mod upkeep;
mod watches;
