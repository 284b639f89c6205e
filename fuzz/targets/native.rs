//! What programs send to the native API: a life of requests to one state. Any bytes are a request or are refused, what is let in can be applied, and what
//! the state replies is an answer to what was asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use native::{Ask, Change, Headed, Header, Txn};
use prost::Message;
use proto::synod::v1;
use state::{Batch, Budget, Group, Settings, State};

/// Requests of a life.
const REQUESTS_MAX: usize = 16;
/// Operations of a transaction at most, in each of its lists.
const OPERATIONS_MAX: usize = 128;
/// The session and the acquire id that the door would draw.
const SESSION: i64 = 7;
const CHOSEN: u64 = 9;
/// Time that goes by from one request to the next, so that sessions end too.
const STEP_MS: u64 = 400;

/// A state, and what has been applied to it.
struct Life {
    state: State,
    index: u64,
}

fuzz_target!(|bytes: &[u8]| {
    let mut life = Life {
        state: State::new(Settings::default()),
        index: 0,
    };
    let mut rest = bytes;
    for _ in 0..REQUESTS_MAX {
        let Some(([kind, low, high], tail)) = rest.split_first_chunk::<3>() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (request, tail) = tail.split_at(length);
        rest = tail;
        life.take(*kind, request);
    }
});

impl Life {
    fn take(&mut self, kind: u8, bytes: &[u8]) {
        match kind % 38 {
            0 => self.change(bytes, native::put),
            1 => self.change(bytes, native::delete),
            2 => self.txn(bytes),
            3 => self.ask(bytes, native::get),
            4 => self.ask(bytes, native::range),
            5 => self.change(bytes, |request| native::grant(request, SESSION)),
            6 => self.change(bytes, native::revoke),
            7 => self.ask(bytes, native::get_lease),
            8 => self.ask(bytes, native::leases),
            9 => self.open_session(bytes),
            10 => self.change(bytes, native::session_revoke),
            11 => self.ask(bytes, native::sessions),
            12 => self.change(bytes, |request| native::acquire(request, CHOSEN)),
            13 => self.change(bytes, |request| native::acquire_permits(request, CHOSEN)),
            14 => self.change(bytes, |request| native::campaign(request, CHOSEN)),
            15 => self.change(bytes, |request| native::enter(request, CHOSEN)),
            16 => self.change(bytes, |request| native::wait_latch(request, CHOSEN)),
            17 => self.change(bytes, |request| native::join(request, CHOSEN)),
            18 => self.change(bytes, |request| native::register(request, SESSION, 5_000)),
            19 => self.change(bytes, native::leave),
            20 => self.change(bytes, native::release),
            21 => self.change(bytes, native::resign),
            22 => self.change(bytes, native::group_leave),
            23 => self.change(bytes, native::set_text),
            24 => self.change(bytes, native::proclaim),
            25 => self.change(bytes, native::update_member),
            26 => self.change(bytes, native::force_release),
            27 => self.change(bytes, native::set_latch),
            28 => self.change(bytes, native::count_down),
            29 => self.ask(bytes, native::get_latch),
            30 => self.ask(bytes, native::list_locks),
            31 => self.ask(bytes, native::show),
            32 => self.ask(bytes, native::find),
            33 => self.ask(bytes, native::check),
            34 => self.ask(bytes, native::leader),
            35 => self.ask(bytes, native::group),
            36 => self.change(bytes, native::worker),
            _ => self.change(bytes, native::segment),
        }
    }

    fn txn(&mut self, bytes: &[u8]) {
        let Ok(request) = v1::TxnRequest::decode(bytes) else {
            return;
        };
        match native::txn(request, OPERATIONS_MAX) {
            Ok(Txn::Read(ask)) => self.answer(ask),
            Ok(Txn::Write(change)) => self.apply(change),
            Err(_) => {}
        }
    }

    fn open_session(&mut self, bytes: &[u8]) {
        let Ok(request) = v1::OpenSessionRequest::decode(bytes) else {
            return;
        };
        if let Ok((lease, client)) = native::open_session(&request, SESSION) {
            self.apply(lease);
            self.apply(client);
        }
    }

    fn change<Q: Message + Default, R: Headed>(
        &mut self,
        bytes: &[u8],
        door: impl FnOnce(Q) -> Result<Change<R>, etcd::Status>,
    ) {
        if let Ok(Ok(change)) = Q::decode(bytes).map(door) {
            self.apply(change);
        }
    }

    fn ask<Q: Message + Default, R: Headed>(
        &mut self,
        bytes: &[u8],
        door: impl FnOnce(Q) -> Result<Ask<R>, etcd::Status>,
    ) {
        if let Ok(Ok(ask)) = Q::decode(bytes).map(door) {
            self.answer(ask);
        }
    }

    fn apply<R: Headed>(&mut self, change: Change<R>) {
        let waits = change.waits;
        let (command, answer) = change.split();
        self.index += 1;
        let batch = Batch {
            format: state::FORMAT,
            clock_ms: self.index * STEP_MS,
            groups: vec![Group {
                commands: vec![command],
                ..Group::default()
            }],
            ..Batch::default()
        };
        let begun = self.state.apply_begin(self.index, &batch.encode_to_vec());
        begun.expect("what was let in can be read again");
        let applied = loop {
            if let Some(applied) = self.state.apply_step(Budget(1000)) {
                break applied;
            }
        };
        let mut replies = applied.groups.into_iter().flat_map(|group| group.replies);
        let (reply, _) = replies.next().expect("one command, one reply");
        // Who waits is told by what happens later.
        if !waits {
            check(answer(Header::default(), reply));
        }
    }

    fn answer<R: Headed>(&mut self, ask: Ask<R>) {
        let mut cursor = self.state.query_begin(ask.query.clone());
        let (answer, _) = loop {
            if let Some(answer) = self.state.query_step(&mut cursor, Budget(1000)) {
                break answer;
            }
        };
        check(ask.answer(Header::default(), answer));
    }
}

/// The door must not be asked about what it cannot say.
fn check<R>(outcome: Result<R, etcd::Status>) {
    if let Err(status) = outcome {
        assert_ne!(status.code, etcd::Code::Internal, "{}", status.text);
    }
}
