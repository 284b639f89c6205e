//! Locks and acquisitions as messages.

use crate::names::text;
use prost::Message;
use proto::synod::v1;
use proto::synod::v1::obstacle;
use state::lock::{ClaimView, Kind, LockView, Mode, Obstacle};

/// A name in use.
pub fn lock_info(view: LockView) -> v1::LockInfo {
    v1::LockInfo {
        name: text(&view.name),
        kind: kind(view.kind).into(),
        limit: view.limit,
        holders: view.holders as u64,
        waiters: view.waiters as u64,
        used: view.used,
        newest_token: view.newest,
        closed_ms: view.closed_ms,
        version: view.version,
    }
}

fn kind(kind: Kind) -> v1::Kind {
    match kind {
        Kind::Lock => v1::Kind::Lock,
        Kind::Semaphore => v1::Kind::Semaphore,
        Kind::Group => v1::Kind::Group,
        Kind::Latch => v1::Kind::Latch,
        Kind::Barrier => v1::Kind::Barrier,
    }
}

/// An acquisition.
pub fn acquisition(view: ClaimView) -> v1::Acquisition {
    let mode = match view.mode {
        Mode::Shared => v1::LockMode::Shared,
        _ => v1::LockMode::Exclusive,
    };
    // A group keeps attributes there.
    let text = match view.mode {
        Mode::Member => String::new(),
        _ => text(&view.value),
    };
    v1::Acquisition {
        name: crate::names::text(&view.name),
        session: view.claimant.session,
        id: view.claimant.id,
        owner: view.owner,
        mode: mode.into(),
        permits: view.permits,
        priority: view.priority,
        token: view.token,
        since_unix_ms: view.since_wall_ms,
        text,
        waits_for: view.waits_for.map(|waits| v1::Obstacle {
            obstacle: Some(obstacle(waits)),
        }),
    }
}

fn obstacle(waits: Obstacle) -> obstacle::Obstacle {
    match waits {
        Obstacle::Closed { ms } => obstacle::Obstacle::ClosedMs(ms),
        Obstacle::Queue { ahead } => obstacle::Obstacle::Ahead(ahead as u64),
        Obstacle::Held { holders } => obstacle::Obstacle::Holders(holders as u64),
        Obstacle::Permits { missing } => obstacle::Obstacle::Permits(missing),
        Obstacle::Latch { count } => obstacle::Obstacle::Latch(count),
        Obstacle::Barrier { missing } => obstacle::Obstacle::Parties(missing),
    }
}

/// A member of a group.
pub fn group_member(view: ClaimView) -> v1::GroupMember {
    let attributes = v1::Attributes::decode(&view.value[..]).unwrap_or_default();
    v1::GroupMember {
        session: view.claimant.session,
        id: view.claimant.id,
        token: view.token,
        since_unix_ms: view.since_wall_ms,
        attributes: attributes.attributes,
    }
}
