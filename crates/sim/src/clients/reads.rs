//! What the writers read: once, or page by page.

use super::*;

/// A read of all keys of a range, so many at a time, all as of the revision of the first page. It ends when its client is told of anything else.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    /// What is left to be read.
    left: Range,
    /// The request for the page that comes.
    request: u64,
    /// Further requests at most.
    requests_left: u32,
}

impl Clients {
    /// Reads something, or the next page.
    pub(super) fn read(&mut self, client: usize, request: u64) {
        let Kind::Writer { pages, .. } = &mut self.clients[client].kind else {
            unreachable!("only writers read")
        };
        let going_on = pages.take().filter(|pages| pages.requests_left > 0);
        let pages = match going_on {
            Some(pages) => pages,
            None if self.rng.chance(100) => self.first_page(),
            None => {
                let (consistency, query) = self.query(client, request);
                return self.ask(client, request, Request::Read(consistency, query));
            }
        };
        let consistency = match self.clients[client].stamp {
            // What the first page saw is there.
            Some(stamp) if pages.left.revision > 0 => Consistency::AtLeast(stamp),
            _ => Consistency::Linearizable,
        };
        let query = Query::Range(pages.left.clone());
        let Kind::Writer { pages: kept, .. } = &mut self.clients[client].kind else {
            unreachable!("a writer stays one")
        };
        *kept = Some(Pages { request, ..pages });
        self.ask(client, request, Request::Read(consistency, query));
    }

    fn first_page(&mut self) -> Pages {
        let (key, range_end) = *self.rng.pick(&[("\0", "\0"), ("a", "z"), ("k", "n")]);
        let many = if self.load.bulk { 200 } else { 8 };
        Pages {
            left: Range {
                key: key.into(),
                range_end: range_end.into(),
                limit: self.rng.between(1, many) as i64,
                keys_only: self.rng.chance(200),
                ..Range::default()
            },
            request: 0,
            requests_left: 12,
        }
    }

    /// A request ended; if it was for a page: what is left to read.
    pub(super) fn turn_page(&mut self, client: usize, request: u64, outcome: &Outcome) {
        let Kind::Writer { pages, .. } = &mut self.clients[client].kind else {
            return;
        };
        let Some(reading) = pages.as_mut().filter(|pages| pages.request == request) else {
            return;
        };
        reading.requests_left -= 1;
        // Without an answer the same page is read again, at another member.
        let Outcome::Ended(Ok(response)) = outcome else {
            return;
        };
        match &response.body {
            Body::Answer(Answer::Range(reply)) if reply.more => {
                let last = reply.kvs.last().expect("more than some");
                reading.left.key = Bytes::from([&last.key[..], &[0]].concat());
                if reading.left.revision == 0 {
                    reading.left.revision = response.revision;
                }
            }
            _ => *pages = None,
        }
    }

    /// It has not read the last page.
    pub(super) fn is_paging(&self, client: usize) -> bool {
        matches!(
            &self.clients[client].kind,
            Kind::Writer { pages: Some(_), .. }
        )
    }

    fn query(&mut self, client: usize, request: u64) -> (Consistency, Query) {
        let consistency = match (self.rng.below(10), self.clients[client].stamp) {
            (0..2, _) => Consistency::Local,
            (2..4, Some(stamp)) => Consistency::AtLeast(stamp),
            (4, _) => {
                Consistency::Bounded(std::time::Duration::from_millis(self.rng.between(0, 1_000)))
            }
            _ => Consistency::Linearizable,
        };
        let all = |key: &'static str, end: &'static str| Range {
            key: key.into(),
            range_end: end.into(),
            ..Range::default()
        };
        let query = match self.rng.below(30) {
            0 => Query::Range(all("a", "z")),
            1 => Query::Range(Range {
                limit: 1 + self.rng.below(5) as i64,
                ..all("k", "m")
            }),
            2 => Query::Range(Range {
                keys_only: true,
                ..all("k", "l")
            }),
            3 => Query::Range(Range {
                count_only: true,
                ..all("a", "z")
            }),
            4..7 => {
                let revision = (self.revision + 3 - self.rng.below(80) as i64).max(1);
                Query::Range(Range {
                    revision,
                    ..all("a", "z")
                })
            }
            7 => Query::HashKv { revision: 0 },
            8 => match self.rng.below(3) {
                0 => Query::Leases,
                _ => Query::LeaseTimeToLive {
                    id: *self.rng.pick(&self.leases()),
                    keys: self.rng.chance(900),
                },
            },
            9..15 => Query::Range(self.shapes(request, |shapes| shapes.range())),
            15..18 => Query::Txn(self.shapes(request, |shapes| shapes.read_txn())),
            _ => Query::Range(Range {
                key: self.key('k'),
                ..Range::default()
            }),
        };
        (consistency, query)
    }
}
