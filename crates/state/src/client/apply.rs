//! Requests that are applied once (PROPERTIES E1-E3): what is asked before a command of a client runs, and what is kept after it.

use crate::client::records::{Answered, CLIENT_BYTES, Client, Request};
use crate::client::{
    CLIENTS_MAX, ClientCommand, ClientOperation, ClientRejection, ClientReply, KEPT_BYTES_MAX,
    REPLY_BYTES_MAX, Register, WINDOW, kept,
};
use crate::{Command, Rejection, Reply, State};

/// What becomes of a command of a client.
pub(crate) enum Admission {
    /// It runs; its reply is kept under this name, if it has one.
    New(Option<Request>),
    /// It ran before: this was its reply, at this revision.
    Repeated(Reply, i64),
    /// It is refused.
    Refused(ClientRejection),
}

impl State {
    /// Asks whether a command ran before. Frees the replies that its client has.
    pub(crate) fn admit(&mut self, command: &Command) -> Admission {
        let &Command {
            client: id,
            sequence,
            acknowledged_below,
            ..
        } = command;
        if id == 0 {
            return Admission::New(None);
        }
        let Some(client) = self.clients.get(id).filter(|client| {
            let alive = self.leases.is_alive(client.lease, self.clock.clock_ms);
            alive && client.principal == command.principal
        }) else {
            return Admission::Refused(ClientRejection::Unknown);
        };
        if sequence == 0 || acknowledged_below > sequence {
            return Admission::Refused(ClientRejection::Sequence);
        }
        let acknowledged = client.acknowledged_below.max(acknowledged_below);
        mutated!(
            FreedRuns,
            if sequence < acknowledged {
                return Admission::New(None);
            }
        );
        mutated!(
            OutOfOrderRefused,
            if self.clients.newest_of(id) > sequence {
                let request = Request {
                    client: id,
                    sequence,
                };
                if self.clients.answered(request).is_none() {
                    return Admission::Refused(ClientRejection::Freed {
                        acknowledged_below: acknowledged,
                    });
                }
            }
        );
        mutated!(
            FreedReplayed,
            if let Some(answered) = self.clients.answered(Request {
                client: id,
                sequence,
            }) {
                let reply = kept::decode(&answered.reply).expect("it was checked when it was kept");
                return Admission::Repeated(reply, answered.revision);
            }
        );
        if sequence < acknowledged {
            return Admission::Refused(ClientRejection::Freed {
                acknowledged_below: acknowledged,
            });
        }
        if sequence - acknowledged >= WINDOW {
            return Admission::Refused(ClientRejection::Window {
                end: acknowledged + WINDOW,
            });
        }
        if acknowledged > client.acknowledged_below {
            let mut client = client.clone();
            client.acknowledged_below = acknowledged;
            self.clients.set(client);
            // At most a window of them.
            let below = mutated!(OneReplyTooFewKept, acknowledged + 1, acknowledged);
            while !mutated!(FreedReplayed) && self.clients.free_one(id, below) {}
        }
        let request = Request {
            client: id,
            sequence,
        };
        match self.clients.answered(request) {
            Some(_) if mutated!(RepetitionRuns) => Admission::New(None),
            Some(answered) => {
                let reply = kept::decode(&answered.reply).expect("it was checked when it was kept");
                Admission::Repeated(reply, answered.revision)
            }
            None => Admission::New(Some(request)),
        }
    }

    /// Keeps the reply to a request of a client.
    pub(crate) fn keep_reply(&mut self, request: Request, reply: &Reply, revision: i64) {
        // The request may have ended its own record.
        if self.clients.get(request.client).is_none() {
            return;
        }
        let mut reply = kept::encode(reply);
        let kept = self.clients.kept(request.client);
        if reply.len() > REPLY_BYTES_MAX || kept + reply.len() as u64 > KEPT_BYTES_MAX {
            reply = kept::encode(&Reply::Applied);
        }
        self.clients.keep(Answered {
            request,
            revision,
            reply,
        });
    }

    pub(crate) fn change_client(
        &mut self,
        command: &ClientCommand,
        principal: &str,
    ) -> Result<Reply, Rejection> {
        let Some(ClientOperation::Register(Register { lease })) = command.operation else {
            return Err(Rejection::Client(ClientRejection::Unknown));
        };
        if !self.leases.is_alive(lease, self.clock.clock_ms) {
            return Err(Rejection::Client(ClientRejection::LeaseNotFound));
        }
        let known = self.clients.of_lease(lease);
        if let Some(client) = known.and_then(|id| self.clients.get(id)) {
            return if client.principal == principal {
                Ok(Reply::Client(ClientReply::Registered { client: client.id }))
            } else {
                Err(Rejection::Client(ClientRejection::Unknown))
            };
        }
        if self.clients.len() >= CLIENTS_MAX {
            let max = CLIENTS_MAX;
            return Err(Rejection::Client(ClientRejection::TooMany { max }));
        }
        self.check_space(CLIENT_BYTES + principal.len() as u64)?;
        self.ordinal += 1;
        let id = self.ordinal;
        self.clients.set(Client {
            id,
            lease,
            principal: principal.into(),
            acknowledged_below: 1,
        });
        Ok(Reply::Client(ClientReply::Registered { client: id }))
    }

    /// Forgets the client that ends with a lease; true when done.
    pub(crate) fn end_client(&mut self, lease: i64, fuel: &mut u64) -> bool {
        let Some(id) = self.clients.of_lease(lease) else {
            return true;
        };
        while self.clients.free_one(id, u64::MAX) {
            *fuel = fuel.saturating_sub(1);
            if *fuel == 0 {
                return false;
            }
        }
        self.clients.remove(id);
        true
    }

    /// Takes a client of a snapshot.
    ///
    /// # Errors
    /// It makes no sense, as the text says.
    pub(crate) fn restore_client(&mut self, client: Client) -> Result<(), String> {
        let (id, lease) = (client.id, client.lease);
        if self.clients.get(id).is_some() || self.clients.of_lease(lease).is_some() {
            return Err(format!("client {id} of lease {lease} is there twice"));
        }
        if self.leases.get(lease).is_none() || client.acknowledged_below == 0 {
            return Err(format!("client {id} is of no lease, or never began"));
        }
        self.clients.set(client);
        Ok(())
    }

    /// The same for a reply; its client was taken before.
    ///
    /// # Errors
    /// It makes no sense, as the text says.
    pub(crate) fn restore_answered(&mut self, answered: Answered) -> Result<(), String> {
        let request = answered.request;
        let client = self.clients.get(request.client);
        let client = client.ok_or_else(|| format!("{request:?} is of no client"))?;
        let first = client.acknowledged_below;
        if !(first..first.saturating_add(WINDOW)).contains(&request.sequence) {
            return Err(format!("{request:?} is outside of its client's window"));
        }
        if self.clients.answered(request).is_some() || kept::decode(&answered.reply).is_none() {
            return Err(format!("{request:?} is there twice, or its reply is none"));
        }
        self.clients.keep(answered);
        Ok(())
    }
}
