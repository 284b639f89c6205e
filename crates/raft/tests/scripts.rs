//! Golden scripts: what a cluster of pure Rafts does, step by step, is the expected output.
//!
//! A script is a text file under `tests/scripts/<topic>/`. Lines that are not indented are the script: comments (`#`), of which the first
//! says goal and method, and commands. Indented lines are what happened after the command above. `UPDATE_GOLDEN=1` rewrites them.
//! Disks complete their writes in `settle` and `run`, unless held.

mod cluster;

use cluster::{Cluster, Disk, configuration, peer};
use raft::{
    Configuration, Entry, Index, Input, MemberId, Payload, PeerId, Settings, Standing, Term,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use synod_raft as raft;
use synod_raft::mutation::{self, Mutation};

struct Script {
    cluster: Cluster,
    /// Directions that are cut.
    cut: BTreeSet<(u64, u64)>,
    saved: Vec<cluster::Envelope>,
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse()
        .unwrap_or_else(|_| panic!("`{word}` is no number"))
}

fn time(word: &str) -> Duration {
    match word.strip_suffix("ms") {
        Some(ms) => Duration::from_millis(number(ms)),
        None => Duration::from_secs(number(
            word.strip_suffix('s').expect("a time ends in ms or s"),
        )),
    }
}

fn peer_named(word: &str) -> PeerId {
    match word.split_once('.') {
        Some((member, incarnation)) => peer(number(member), number(incarnation)),
        None => peer(number(word), 0),
    }
}

/// Reads `1 2 learners 3 priority 2=5` into a configuration.
fn configuration_named(words: &[&str]) -> Configuration {
    let (mut voters, mut learners, mut section) = (Vec::new(), Vec::new(), "voters");
    let mut priorities = Vec::new();
    for word in words {
        match *word {
            "voters" | "learners" | "priority" => section = word,
            _ if section == "voters" => voters.push(peer_named(word)),
            _ if section == "learners" => learners.push(peer_named(word)),
            _ => priorities.push(word.split_once('=').expect("priority is member=value")),
        }
    }
    let mut configuration = configuration(&voters, &learners);
    for (member, priority) in priorities {
        configuration
            .members
            .get_mut(&MemberId(number(member)))
            .expect("a member")
            .priority = number(priority);
    }
    configuration
}

impl Script {
    fn new() -> Script {
        Script {
            cluster: Cluster::new(Settings::default(), 7),
            cut: BTreeSet::new(),
            saved: Vec::new(),
        }
    }

    fn say(&mut self, line: String) {
        self.cluster.trace.push(line);
    }

    fn set(&mut self, key: &str, value: &str) {
        let settings = &mut self.cluster.settings;
        match key {
            "append-bytes" => settings.append_bytes_max = number(value),
            "inflight-bytes" => settings.inflight_bytes_max = number(value),
            "inflight-count" => settings.inflight_count_max = number(value),
            "uncommitted-bytes" => settings.uncommitted_bytes_max = number(value),
            "cache-bytes" => settings.cache_bytes_max = number(value),
            _ => panic!("no setting {key}"),
        }
    }

    fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let arguments = &words[1..];
        match words[0] {
            "quietly" => {
                self.cluster.traced = false;
                self.run(&words[1..].join(" "));
                self.cluster.traced = true;
            }
            "set" => self.set(arguments[0], arguments[1]),
            "cluster" => self.create(arguments),
            "join" => self.cluster.add(
                peer_named(arguments[0]),
                Disk::new(Configuration::default()),
            ),
            "log" => self.rewrite_log(arguments),
            "elect" => self.elect(number(arguments[0])),
            "timeout" => self.time_out(number(arguments[0])),
            "fire" => self.cluster.fire(number(arguments[0])),
            "pass" => self.cluster.now = self.cluster.now + time(arguments[0]),
            "run" => self.let_run(time(arguments[0])),
            "settle" => self.settle(),
            "deliver" => self.deliver(arguments),
            "step" => self.step(arguments),
            "drop" | "duplicate" | "save" => self.pick(words[0], arguments),
            "replay" => self.cluster.network.append(&mut self.saved),
            "reverse" => self.cluster.network.reverse(),
            "cut" => self.cut(arguments),
            "heal" => self.cut.clear(),
            "hold" => {
                self.cluster
                    .nodes
                    .get_mut(&number(arguments[0]))
                    .expect("a member")
                    .disk_held = true
            }
            "unhold" => {
                self.cluster
                    .nodes
                    .get_mut(&number(arguments[0]))
                    .expect("a member")
                    .disk_held = false
            }
            "hold-fetches" => {
                self.cluster
                    .nodes
                    .get_mut(&number(arguments[0]))
                    .expect("a member")
                    .fetches_held = true
            }
            "fetched" => self.cluster.answer_fetches(number(arguments[0])),
            "unreadable" => {
                let (member, from) = (number(arguments[0]), Index(number(arguments[1])));
                let node = self.cluster.nodes.get_mut(&member).expect("a member");
                node.fetches.clear();
                self.cluster.handle(member, Input::Unreadable { from });
            }
            "persist" => self.cluster.complete_writes(
                number(arguments[0]),
                arguments.get(1).map_or(usize::MAX, |n| number(n)),
            ),
            "crash" => self.cluster.crash(number(arguments[0])),
            "start" => self.cluster.start(number(arguments[0])),
            "forget" => self.forget(number(arguments[0]), number(arguments[1])),
            "wipe" => self.wipe(number(arguments[0])),
            "propose" | "forward" | "read" => {
                self.request(words[0], number(arguments[0]), &arguments[1..])
            }
            "change" => {
                let outcome = self
                    .cluster
                    .change(number(arguments[0]), configuration_named(&arguments[1..]));
                self.say_refusal(outcome.map(|_| ()));
            }
            "transfer" => {
                let outcome = self.cluster.transfer(
                    number(arguments[0]),
                    arguments.get(1).map(|word| peer_named(word)),
                );
                self.say_refusal(outcome);
            }
            "reluctant" => {
                let peers = arguments[1..].iter().map(|word| peer_named(word));
                self.cluster
                    .set_reluctant(number(arguments[0]), peers.collect());
            }
            "lost" => {
                let refused = arguments[2] == "refused";
                let (member, lost) = (number(arguments[0]), peer_named(arguments[1]));
                self.cluster.handle(
                    member,
                    Input::PeerLost {
                        peer: lost,
                        refused,
                    },
                );
            }
            "compact" => self
                .cluster
                .compact(number(arguments[0]), Index(number(arguments[1]))),
            "snapshot" => self
                .cluster
                .carry_snapshot(number(arguments[0]), arguments.get(1) != Some(&"fails")),
            "stage" => self.stage(number(arguments[0]), number(arguments[1])),
            "status" => self.status(),
            verb => panic!("unknown command {verb}"),
        }
    }

    fn say_refusal<E: std::fmt::Debug>(&mut self, outcome: Result<(), E>) {
        if let Err(error) = outcome {
            self.say(format!("refused: {error:?}"));
        }
    }

    fn create(&mut self, words: &[&str]) {
        let configuration = configuration_named(words);
        self.cluster.traced = false;
        for peer in configuration.peers() {
            self.cluster.add(peer, Disk::new(configuration.clone()));
        }
        self.cluster.traced = true;
    }

    /// `log 1 vote 6 terms 1 1 4 [lost 2]`: restarts the member with this log.
    fn rewrite_log(&mut self, words: &[&str]) {
        let member: u64 = number(words[0]);
        if self.cluster.is_up(member) {
            self.cluster.crash(member);
        }
        let disk = &mut self.cluster.nodes.get_mut(&member).expect("a member").disk;
        disk.entries.clear();
        disk.commit = Index(0);
        let terms = &words[words
            .iter()
            .position(|word| *word == "terms")
            .expect("terms")
            + 1..];
        for (nth, term) in terms.iter().enumerate() {
            let index = Index(nth as u64 + 1);
            let payload = Payload::Batch(bytes::Bytes::from_static(b"e"));
            disk.entries.insert(
                index,
                Entry {
                    term: Term(number(term)),
                    index,
                    payload,
                },
            );
        }
        disk.vote.term = Term(number(words[2]));
        disk.vote.candidate = None;
        self.cluster.traced = false;
        self.cluster.start(member);
        self.cluster.traced = true;
    }

    /// Lets the member win an election, unseen.
    fn elect(&mut self, member: u64) {
        self.cluster.traced = false;
        for _ in 0..4 {
            if self.cluster.leader() == Some(member) {
                break;
            }
            self.cluster.now = self.cluster.now + Duration::from_millis(1001);
            self.time_out(member);
            self.settle();
        }
        self.cluster.traced = true;
        let term = self.cluster.raft(member).term();
        assert_eq!(
            self.cluster.leader(),
            Some(member),
            "{member} was not elected"
        );
        self.say(format!("{member} leads t{term}"));
    }

    /// Moves time to the member's next deadline and fires its timer.
    fn time_out(&mut self, member: u64) {
        let before = self.cluster.raft(member).role();
        for _ in 0..3 {
            let Some(timer) = self.cluster.nodes[&member].timer else {
                return;
            };
            self.cluster.now = self.cluster.now.max(timer);
            let noted = self.cluster.network.len() + self.cluster.trace.len();
            self.cluster.fire(member);
            if self.cluster.raft(member).role() != before
                || self.cluster.network.len() + self.cluster.trace.len() > noted
            {
                return;
            }
        }
    }

    fn settle(&mut self) {
        let cut = self.cut.clone();
        self.cluster
            .quiesce(&|from, to| cut.contains(&(from.member.0, to.member.0)));
    }

    fn let_run(&mut self, time: Duration) {
        let cut = self.cut.clone();
        self.cluster.run(time, &|from, to| {
            cut.contains(&(from.member.0, to.member.0))
        });
    }

    /// Takes the messages from and to the named members (all, if none are named) off the network.
    fn take(&mut self, words: &[&str]) -> Vec<cluster::Envelope> {
        let matches = |envelope: &cluster::Envelope| {
            words
                .first()
                .is_none_or(|from| envelope.from.member.0 == number(from))
                && words
                    .get(1)
                    .is_none_or(|to| envelope.to.member.0 == number(to))
        };
        let (taken, left) = std::mem::take(&mut self.cluster.network)
            .into_iter()
            .partition(matches);
        self.cluster.network = left;
        taken
    }

    fn deliver(&mut self, words: &[&str]) {
        for envelope in self.take(words) {
            if !self
                .cut
                .contains(&(envelope.from.member.0, envelope.to.member.0))
            {
                self.cluster.deliver(envelope);
            }
        }
    }

    /// Delivers the first of the matching messages.
    fn step(&mut self, words: &[&str]) {
        let mut taken = self.take(words);
        let first = taken.remove(0);
        self.cluster.network.extend(taken);
        self.cluster.deliver(first);
    }

    fn pick(&mut self, verb: &str, words: &[&str]) {
        let taken = self.take(words);
        match verb {
            "drop" => {}
            "duplicate" => {
                self.cluster.network.extend(taken.iter().cloned());
                self.cluster.network.extend(taken);
            }
            _ => {
                self.saved.extend(taken.iter().cloned());
                self.cluster.network.extend(taken);
            }
        }
    }

    /// `cut 1 | 2 3` splits; `cut 1 > 2` cuts one direction.
    fn cut(&mut self, words: &[&str]) {
        let place = words
            .iter()
            .position(|word| *word == "|" || *word == ">")
            .expect("cut needs | or >");
        for from in &words[..place] {
            for to in &words[place + 1..] {
                self.cut.insert((number(from), number(to)));
                if words[place] == "|" {
                    self.cut.insert((number(to), number(from)));
                }
            }
        }
    }

    /// The next start finds the last entries gone, and says so.
    fn forget(&mut self, member: u64, count: usize) {
        self.cluster.crash(member);
        let disk = &mut self.cluster.nodes.get_mut(&member).expect("a member").disk;
        for _ in 0..count {
            disk.entries.pop_last();
        }
        disk.entries_lost = true;
        self.cluster.start(member);
        assert_eq!(
            self.cluster.raft(member).status().standing,
            Standing::EntriesLost
        );
    }

    /// The member comes back with an empty disk, as the next incarnation.
    fn wipe(&mut self, member: u64) {
        self.cluster.crash(member);
        let node = self.cluster.nodes.get_mut(&member).expect("a member");
        node.id = peer(member, node.id.incarnation.0 + 1);
        node.disk = Disk::new(Configuration::default());
        self.cluster.start(member);
    }

    /// Several requests in one turn.
    fn request(&mut self, verb: &str, member: u64, words: &[&str]) {
        let now = self.cluster.now;
        if verb == "read" {
            for _ in 0..words.first().map_or(1, |count| number(count)) {
                self.cluster.read(member);
            }
            return self.cluster.drain(member);
        }
        for word in words {
            let boot = self.cluster.boot(member);
            let node = self.cluster.nodes.get_mut(&member).expect("a member");
            let (id, raft) = (node.id, node.raft.as_mut().expect("runs"));
            let body = bytes::Bytes::copy_from_slice(word.as_bytes());
            if verb == "propose" {
                let outcome = raft.propose(now, body);
                self.say_refusal(outcome.map(|_| ()));
            } else {
                let outcome = raft.forward(now, body);
                let term = raft.term();
                if let Ok(sequence) = outcome {
                    self.cluster
                        .forwards_sent
                        .entry((id, boot))
                        .or_default()
                        .push((sequence, term));
                }
                self.say_refusal(outcome.map(|_| ()));
            }
        }
        self.cluster.drain(member);
    }

    /// A snapshot of another member's state arrives, asked for or not.
    fn stage(&mut self, member: u64, of: u64) {
        let mark = self.cluster.nodes[&of].disk.snapshot.clone();
        self.cluster.handle(member, Input::SnapshotStaged(mark));
    }

    fn status(&mut self) {
        for member in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
            if !self.cluster.is_up(member) {
                self.say(format!("{member} down"));
                continue;
            }
            let status = self.cluster.raft(member).status();
            let terms: Vec<String> = (status.first.0..=status.last.0)
                .map(|index| {
                    self.cluster
                        .raft(member)
                        .term_at(Index(index))
                        .expect("in the log")
                        .to_string()
                })
                .collect();
            let lost = if status.standing == Standing::Sound {
                ""
            } else {
                ", entries lost"
            };
            self.say(format!(
                "{member} {:?} t{}, commit {}, log from {}: [{}]{lost}",
                status.role,
                status.term,
                status.commit,
                status.first,
                terms.join(" ")
            ));
        }
    }
}

/// Runs a script and gives it back with what happened.
fn replay(text: &str) -> String {
    let mut script = Script::new();
    let mut replayed = String::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        replayed.push_str(line);
        replayed.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            script.run(line);
            script.cluster.check_log_matching();
        }
        for happened in script.cluster.trace.drain(..) {
            replayed.push_str("  ");
            replayed.push_str(&happened);
            replayed.push('\n');
        }
    }
    replayed
}

fn scripts(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the scripts are there") {
        let path = entry.expect("a readable directory").path();
        if path.is_dir() {
            found.extend(scripts(&path));
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn scripts_do_what_they_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let found = scripts(&directory);
    assert!(found.len() >= 60, "only {} scripts", found.len());
    for path in found {
        let name = path
            .strip_prefix(&directory)
            .expect("inside")
            .display()
            .to_string();
        println!("{name}");
        let text = std::fs::read_to_string(&path).expect("a readable script");
        assert!(
            text.starts_with("# "),
            "{name}: the first line says goal and method"
        );
        let replayed = replay(&text);
        if replayed == text {
            continue;
        }
        if update {
            std::fs::write(&path, replayed).expect("a writable script");
        } else {
            let place = text
                .lines()
                .zip(replayed.lines())
                .take_while(|(a, b)| a == b)
                .count();
            let (was, is) = (
                text.lines().nth(place).unwrap_or("(end)"),
                replayed.lines().nth(place).unwrap_or("(end)"),
            );
            wrong.push(format!(
                "{name}:{}\n  expected {was}\n  got      {is}",
                place + 1
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nUPDATE_GOLDEN=1 rewrites the scripts",
        wrong.join("\n")
    );
}

/// The script listed for a bug, or else the first, that goes another way or stops at a broken assertion with the bug put in.
fn shown_by<'a>(bug: Mutation, listed: &str, scripts: &'a [(String, String)]) -> &'a str {
    mutation::choose(Some(bug));
    let differs = |(_, text): &&(String, String)| {
        std::panic::catch_unwind(|| replay(text)).map_or(true, |replayed| replayed != *text)
    };
    let wanted = listed
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{bug:?} ")));
    let first = scripts.iter().filter(|(name, _)| wanted == Some(name));
    let shown = first.chain(scripts).find(differs);
    mutation::choose(None);
    shown.map_or("-", |(name, _)| name)
}

#[test]
fn the_bugs_put_in_on_purpose_are_shown_by_these_scripts() {
    std::panic::set_hook(Box::new(|_| {}));
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let read = |path: PathBuf| {
        let name = path
            .strip_prefix(&directory)
            .expect("inside")
            .display()
            .to_string();
        (
            name,
            std::fs::read_to_string(&path).expect("a readable script"),
        )
    };
    let scripts: Vec<(String, String)> = scripts(&directory).into_iter().map(read).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bugs.txt");
    let listed = std::fs::read_to_string(&path).expect("the list is there");
    let lines = Mutation::ALL
        .iter()
        .map(|(bug, _)| format!("{bug:?} {}\n", shown_by(*bug, &listed, &scripts)));
    let shown: String = lines.collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return std::fs::write(&path, &shown).expect("a writable list");
    }
    assert!(
        listed == shown,
        "tests/bugs.txt says\n{listed}\nand the scripts show\n{shown}\nUPDATE_GOLDEN=1 rewrites it"
    );
}
