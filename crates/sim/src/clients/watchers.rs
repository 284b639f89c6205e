//! Clients that watch.

use super::*;
use replica::WatchBody;
use state::auth::Caller;

impl Watcher {
    /// A watch may not be. The response does not name it: it is the first that is not open yet.
    fn on_denied(&mut self, response: &WatchResponse, history: &History) -> Check {
        let mut asked = self
            .watches
            .iter()
            .filter(|(_, (_, oracle))| !oracle.open());
        let Some((&watch, (create, _))) = asked.next() else {
            return Err((
                "S1",
                format!("nobody asked for what is refused: {response:?}"),
            ));
        };
        history.check_watch(create, response)?;
        self.watches.remove(&watch);
        Ok(())
    }
}

impl Clients {
    /// On whose behalf a member took a watch.
    pub fn on_let_in(&mut self, client: usize, watch: i64, caller: Caller) {
        if let Kind::Watcher(watcher) = &mut self.clients[client].kind
            && let Some((create, _)) = watcher.watches.get_mut(&watch)
        {
            create.caller = caller;
        }
    }

    /// A watcher opens its stream, or does something with it.
    pub(super) fn watch(&mut self, client: usize, model: &Model) {
        let draw = self.rng.below(10);
        let stream = StreamId(self.number());
        let watches = self.rng.between(1, 3);
        let member = self.clients[client].member;
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        let Some(present) = watcher.stream else {
            watcher.stream = Some(stream);
            watcher.senseless = 0;
            self.actions.push(Action::Open {
                client,
                member,
                stream,
            });
            self.actions.push(Action::Credit {
                stream,
                // Some give so much that every revision gets a response of its own.
                responses: if stream.0.is_multiple_of(3) { 64 } else { 4 },
                after: 0,
            });
            self.resume(client, model);
            let Kind::Watcher(watcher) = &self.clients[client].kind else {
                unreachable!("a watcher stays one")
            };
            for _ in watcher.watches.len() as u64..watches {
                self.create_watch(client);
            }
            return self.wake_after(client, 3_000_000);
        };
        if !self.closing && !self.load.users && self.rng.chance(100) {
            self.ask_nonsense(client, present);
            return self.wake_after(client, 3_000_000);
        }
        match draw {
            0 if !self.closing => {
                self.actions.push(Action::Close { stream: present });
                watcher.stream = None;
                self.go_elsewhere(client);
                self.wake_after(client, 100_000);
            }
            1 if !self.closing && watcher.watches.len() > 1 => {
                let watch = *watcher.watches.keys().next().expect("there are some");
                self.actions.push(Action::Watch {
                    stream: present,
                    request: WatchRequest::Cancel { watch },
                });
                self.wake_after(client, 3_000_000);
            }
            2 | 3 if !self.closing && watcher.watches.len() < 4 => {
                self.create_watch(client);
                self.wake_after(client, 3_000_000);
            }
            _ => {
                self.actions.push(Action::Watch {
                    stream: present,
                    request: WatchRequest::Progress,
                });
                self.wake_after(client, 3_000_000);
            }
        }
    }

    /// Asks again for all watches on a new stream, each from where it stopped.
    fn resume(&mut self, client: usize, model: &Model) {
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        let stream = watcher.stream.expect("it was opened");
        watcher.watches.retain(|_, (_, oracle)| !oracle.ended());
        for (create, oracle) in watcher.watches.values_mut() {
            if let Some(revision) = oracle.resume_revision(model) {
                create.start_revision = revision;
            }
            *oracle = WatchOracle::new(create.clone());
            self.actions.push(Action::Watch {
                stream,
                request: WatchRequest::Create(create.clone()),
            });
        }
    }

    /// A watch under the number of one that is open, of no keys, or of revisions that never were.
    fn ask_nonsense(&mut self, client: usize, stream: StreamId) {
        let draw = self.rng.below(3);
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        // The newest is not about to be cancelled.
        let newest = watcher.watches.last_key_value();
        let open = newest.filter(|(_, (_, oracle))| oracle.open());
        let (watch, range_end, start_revision) = match (draw, open) {
            (0, Some((&watch, _))) => (watch, "n", 0),
            (0 | 1, _) => (watcher.next_watch, "k", 0),
            _ => (watcher.next_watch, "n", -1),
        };
        watcher.next_watch += 1;
        watcher.senseless += 1;
        let create = WatchCreate {
            watch,
            key: "k".into(),
            range_end: range_end.into(),
            start_revision,
            ..WatchCreate::default()
        };
        let request = WatchRequest::Create(create);
        self.actions.push(Action::Watch { stream, request });
    }

    fn create_watch(&mut self, client: usize) {
        let (key, range_end) = match self.rng.below(7) {
            0 => (self.key('k'), Bytes::new()),
            // Whose end is a key that changes, too.
            1 => {
                let (one, other) = (self.key('k'), self.key('k'));
                if one < other {
                    (one, other)
                } else {
                    (other, Bytes::new())
                }
            }
            2 => (Bytes::from_static(b"k"), Bytes::from_static(b"m")),
            3 => (Bytes::from_static(b"l"), Bytes::from_static(b"\0")),
            4 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            5 => (Bytes::from_static(b"m"), Bytes::from_static(b"m\xff")),
            _ => (Bytes::from_static(b"a"), Bytes::from_static(b"z")),
        };
        let start_revision = match self.rng.below(4) {
            0 | 1 => 0,
            2 => (self.revision - self.rng.below(80) as i64).max(1),
            _ => self.revision + self.rng.below(20) as i64,
        };
        let mut create = WatchCreate {
            caller: Caller::default(),
            watch: 0,
            key,
            range_end,
            start_revision,
            progress_notify: self.rng.chance(300),
            no_put: self.rng.chance(100),
            no_delete: self.rng.chance(100),
            prev_kv: self.rng.chance(300),
            fragment: self.rng.chance(200),
        };
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        create.watch = watcher.next_watch;
        watcher.next_watch += 1;
        let stream = watcher.stream.expect("it was opened");
        watcher.watches.insert(
            create.watch,
            (create.clone(), WatchOracle::new(create.clone())),
        );
        self.actions.push(Action::Watch {
            stream,
            request: WatchRequest::Create(create),
        });
    }

    /// Responses arrived on a stream.
    pub fn on_watch_responses(
        &mut self,
        client: usize,
        stream: StreamId,
        responses: &[WatchResponse],
        at: Micros,
        history: &History,
    ) -> Check {
        let model = history.model();
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        if watcher.stream != Some(stream) {
            return Ok(());
        }
        for response in responses {
            if let WatchBody::Denied(_) = response.body {
                watcher.on_denied(response, history)?;
                continue;
            }
            if let WatchBody::Refused(_) = response.body {
                let left = watcher.senseless.checked_sub(1);
                watcher.senseless = left.ok_or_else(|| {
                    let text = format!("a watch that makes sense is refused: {response:?}");
                    ("W1", text)
                })?;
                continue;
            }
            if response.watch == -1 {
                watcher
                    .watches
                    .values_mut()
                    .try_for_each(|(_, oracle)| oracle.on_progress(response.revision, model))?;
                continue;
            }
            let Some((create, oracle)) = watcher.watches.get_mut(&response.watch) else {
                // Cancelled before the client heard that compaction had ended it.
                if response.body == WatchBody::Canceled {
                    continue;
                }
                return Err((
                    "W2",
                    format!("a response for a watch that is not open: {response:?}"),
                ));
            };
            history.check_watch(create, response)?;
            let before = oracle.delivered();
            oracle.on_response(response, model, history.blame())?;
            self.events_delivered += oracle.delivered() - before;
            if oracle.ended() {
                watcher.watches.remove(&response.watch);
            }
        }
        let after = if watcher.slow && !self.closing {
            // Sometimes it reads nothing for a while.
            if self.rng.chance(50) {
                watcher.reads_from = at + self.rng.between(1_000_000, 5_000_000);
            }
            self.rng
                .wait(400_000)
                .max(watcher.reads_from.saturating_sub(at))
        } else {
            self.rng.wait(300)
        };
        self.actions.push(Action::Credit {
            stream,
            responses: responses.len() as u32,
            after,
        });
        Ok(())
    }

    /// The connection of a stream broke.
    pub fn on_stream_lost(&mut self, client: usize, stream: StreamId) {
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        if watcher.stream == Some(stream) {
            watcher.stream = None;
            self.go_elsewhere(client);
            self.wake_after(client, 100_000);
        }
    }

    /// W12 for the watches of one stream, if its client reads at once. `reached`: what the member could have told it by now, if it could tell anything.
    pub fn check_fed(
        &mut self,
        client: usize,
        stream: StreamId,
        reached: Option<i64>,
        at: Micros,
        model: &Model,
    ) -> Check {
        match &mut self.clients[client].kind {
            Kind::Watcher(watcher) if watcher.stream == Some(stream) && !watcher.slow => {
                let mut oracles = watcher.watches.values_mut().map(|(_, oracle)| oracle);
                oracles.try_for_each(|oracle| oracle.check_fed(reached, at, model))
            }
            _ => Ok(()),
        }
    }

    /// Watch events delivered.
    pub fn events_delivered(&self) -> u64 {
        self.events_delivered
    }

    /// Everything decided was delivered to every open watch, and every watch asked for is open.
    pub fn check_watches(&self, model: &Model) -> Check {
        for client in &self.clients {
            let Kind::Watcher(watcher) = &client.kind else {
                continue;
            };
            for (create, oracle) in watcher.watches.values() {
                if watcher.stream.is_none() || !oracle.open() {
                    return Err((
                        "V1",
                        format!(
                            "a watch was never opened on n{}: {create:?}",
                            client.member + 1
                        ),
                    ));
                }
                oracle.check_complete(model)?;
            }
        }
        Ok(())
    }
}
