//! What a request becomes: what the state is to do, and how its reply turns into the answer.

use crate::guard::guards;
use crate::refusal::{self, no_session, refusal};
use etcd::{Code, Status};
use proto::synod::v1;
use state::{Answer, Command, Operation, Query, Rejection, Reply};

/// Where in history an answer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// How much history it has seen, as text.
    pub stamp: String,
    /// The key revision.
    pub revision: i64,
    /// The member that answers.
    pub member: u64,
}

/// An answer that begins with a header.
pub trait Headed: Default {
    /// Its header.
    fn header(&mut self) -> &mut Option<v1::Header>;
}

macro_rules! headed {
    ($($message:ident)*) => {
        $(impl Headed for v1::$message {
            fn header(&mut self) -> &mut Option<v1::Header> {
                &mut self.header
            }
        })*
    };
}

headed! {
    PutResponse GetResponse RangeResponse DeleteResponse TxnResponse WatchResponse
    GrantResponse RevokeResponse RefreshResponse RegisterResponse GetLeaseResponse ListLeasesResponse
    OpenSessionResponse RefreshSessionResponse CloseSessionResponse ListSessionsResponse
    AcquireResponse ReleaseResponse ForceReleaseResponse SetTextResponse ListLocksResponse ShowLockResponse
    FindResponse CheckResponse SignResponse KeysResponse RotateKeyResponse DropKeyResponse ObserveResponse
    CampaignResponse ProclaimResponse ResignResponse LeaderResponse
    AcquirePermitsResponse EnterResponse LeaveResponse LatchResponse WaitLatchResponse
    JoinResponse UpdateMemberResponse LeaveGroupResponse ListGroupResponse ObserveGroupResponse
    NextResponse UuidResponse WorkerResponse SegmentResponse AddResponse
}

impl Header {
    /// Puts it on an answer.
    pub fn on<R: Headed>(self, mut answer: R) -> R {
        *answer.header() = Some(self.message(false));
        answer
    }

    fn message(self, answer_dropped: bool) -> v1::Header {
        v1::Header {
            stamp: self.stamp,
            revision: self.revision,
            member: self.member,
            answer_dropped,
        }
    }
}

/// A request that changes something.
pub struct Change<R> {
    /// What the state is to do.
    pub command: Command,
    /// It may take as long as its caller waits.
    pub waits: bool,
    /// The session that the request ends, which is refused by its name if there is none.
    session: Option<i64>,
    answer: Box<dyn FnOnce(Reply) -> Result<R, Status> + Send>,
}

impl<R: Headed> Change<R> {
    /// Wraps an operation in its envelope.
    ///
    /// # Errors
    /// The envelope makes no sense.
    pub(crate) fn new(
        envelope: Option<v1::Change>,
        operation: Operation,
        answer: impl FnOnce(Reply) -> Result<R, Status> + Send + 'static,
    ) -> Result<Change<R>, Status> {
        let v1::Change {
            client,
            sequence,
            acknowledged_below,
            guards: named,
        } = envelope.unwrap_or_default();
        if client == 0 && (sequence != 0 || acknowledged_below != 0) {
            let text = "change.client: 0 has no sequence; open a session and name its client id";
            return Err(refusal::invalid(text));
        }
        Ok(Change {
            command: Command {
                client,
                sequence,
                acknowledged_below,
                guards: guards(named)?,
                operation: Some(operation),
                ..Command::default()
            },
            waits: false,
            session: None,
            answer: Box::new(answer),
        })
    }

    /// The same, whose lease is a session.
    pub(crate) fn of_session(self, session: i64) -> Change<R> {
        Change {
            session: Some(session),
            ..self
        }
    }

    /// The same, which may take as long as its caller waits.
    pub(crate) fn waiting(self, waits: bool) -> Change<R> {
        Change { waits, ..self }
    }

    /// What the state is to do, and how its reply becomes the answer.
    pub fn split(
        self,
    ) -> (
        Command,
        impl FnOnce(Header, Reply) -> Result<R, Status> + Send,
    ) {
        let Change {
            command,
            session,
            answer,
            ..
        } = self;
        let answered = move |header, reply| match (reply, session) {
            (Reply::Rejected(Rejection::LeaseNotFound), Some(session)) => Err(no_session(session)),
            (reply, _) => answered(header, reply, answer),
        };
        (command, answered)
    }
}

fn answered<R: Headed>(
    header: Header,
    reply: Reply,
    answer: impl FnOnce(Reply) -> Result<R, Status>,
) -> Result<R, Status> {
    match reply {
        Reply::Rejected(rejection) => Err(refusal(rejection)),
        Reply::Applied => {
            let mut dropped = R::default();
            *dropped.header() = Some(header.message(true));
            Ok(dropped)
        }
        reply => answer(reply).map(|answer| header.on(answer)),
    }
}

/// The state answered something else than asked.
pub(crate) fn mismatch<R>() -> Result<R, Status> {
    Err(Status::new(
        Code::Internal,
        "the state answered something else than asked",
    ))
}

/// How fresh an answer must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// As if there were one copy.
    #[default]
    Linearizable,
    /// Sees what this stamp has seen.
    AtLeast(String),
    /// Not older than so many milliseconds.
    Bounded(u64),
    /// What the member has.
    Local,
}

impl Level {
    /// What a message asks for; `None` if it does not say.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn of(message: Option<v1::Consistency>) -> Result<Option<Level>, Status> {
        let Some(message) = message else {
            return Ok(None);
        };
        let level = v1::Level::try_from(message.level).map_err(|_| {
            let text = format!("consistency.level: {} is none of 0 to 3", message.level);
            refusal::invalid(text)
        })?;
        let level = match level {
            v1::Level::Linearizable => Level::Linearizable,
            v1::Level::AtLeast => Level::AtLeast(message.stamp),
            v1::Level::Bounded => Level::Bounded(message.age_ms),
            v1::Level::Local => Level::Local,
        };
        Ok(Some(level))
    }
}

/// A request that only reads.
pub struct Ask<R> {
    /// The question.
    pub query: Query,
    /// How fresh the answer must be, if it is said.
    pub level: Option<Level>,
    answer: Box<dyn FnOnce(Answer) -> Result<R, Status> + Send>,
}

impl<R: Headed> Ask<R> {
    /// A question.
    ///
    /// # Errors
    /// The freshness makes no sense.
    pub(crate) fn new(
        consistency: Option<v1::Consistency>,
        query: Query,
        answer: impl FnOnce(Answer) -> Result<R, Status> + Send + 'static,
    ) -> Result<Ask<R>, Status> {
        Ok(Ask {
            query,
            level: Level::of(consistency)?,
            answer: Box::new(answer),
        })
    }

    /// Turns the state's answer into the message.
    ///
    /// # Errors
    /// The state refused.
    pub fn answer(self, header: Header, answer: Answer) -> Result<R, Status> {
        match answer {
            Answer::Rejected(rejection) => Err(refusal(rejection)),
            answer => (self.answer)(answer).map(|message| header.on(message)),
        }
    }
}
