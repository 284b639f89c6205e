//! Where clients come in: listeners, and what is served behind each.

use super::crowd::Place;
use crate::tls::Admission;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use tokio::net::{TcpListener, TcpStream};

/// A listener.
pub(crate) struct Entrance {
    listener: TcpListener,
    admission: Arc<Admission>,
    pages_only: bool,
}

impl Entrance {
    /// With `pages_only` nothing but the operators' pages is served there.
    pub(crate) fn new(listener: TcpListener, admission: Admission, pages_only: bool) -> Entrance {
        Entrance {
            listener,
            admission: Arc::new(admission),
            pages_only,
        }
    }

    /// What its listener is given, by what there is room for.
    pub(super) fn narrow(&self, place: Place) -> Place {
        match place {
            Place::Inside if self.pages_only => Place::Pages,
            place => place,
        }
    }

    pub(super) fn admission(&self) -> Arc<Admission> {
        self.admission.clone()
    }
}

/// All listeners of a member.
pub(super) struct Entrances {
    all: Vec<Entrance>,
    /// Who is asked first: each in turn, so that a busy one keeps nobody waiting at another.
    first: usize,
}

impl Entrances {
    pub(super) fn new(all: Vec<Entrance>) -> Entrances {
        Entrances { all, first: 0 }
    }

    /// The next connection, and where it came in.
    pub(super) async fn accept(&mut self) -> io::Result<(TcpStream, &Entrance)> {
        let (all, first) = (&self.all, self.first);
        self.first = (first + 1) % all.len();
        poll_fn(|context| {
            let (before, from) = all.split_at(first);
            for entrance in from.iter().chain(before) {
                if let Poll::Ready(accepted) = entrance.listener.poll_accept(context) {
                    return Poll::Ready(accepted.map(|(stream, _)| (stream, entrance)));
                }
            }
            Poll::Pending
        })
        .await
    }
}
