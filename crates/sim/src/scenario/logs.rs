//! Stories about logs that differ (Raft paper §5.3 and §5.4.2, figures 7 and 8).

use super::stage::Stage;
use crate::director::Fate;
use crate::faults::Fault;
use crate::timeline::{Kind, What};
use raft::{Body, Index};
use replica::Message;
use std::cell::Cell;

/// The newest index of the entries in an append; `None` for other messages, and for appends without entries.
fn newest_in(message: &Message) -> Option<Index> {
    match message {
        Message::Raft(raft::Message {
            body: Body::Append { entries, .. },
            ..
        }) => entries.last().map(|entry| entry.index),
        _ => None,
    }
}

pub fn divergent_logs(stage: &mut Stage<'_>) {
    stage.say("Five members, n1 leads term 1. Everybody has the first two entries.");
    stage.elect(0);
    stage.put_done(0);
    stage.caught_up(0, &[1, 2, 3, 4]);
    stage.say("n5 is killed, and misses what is decided without it.");
    stage.fault(Fault::Crash(4));
    stage.put_done(0);
    stage.put_done(0);
    stage.caught_up(0, &[1, 2, 3]);
    stage.say("Now n1 reaches n4 only: a change gets to two of five, and is not decided. The next one does not leave n1 at all.");
    stage.judge(|from, to, message| match newest_in(message) {
        Some(newest) if from == 0 && (to != 3 || newest > Index(5)) => Fate::Lost,
        _ => Fate::Travels,
    });
    let fourth = stage.put(0);
    stage.until("n4 has the extra entry", |stage| stage.log(3).len() == 5);
    let undecided = [fourth, stage.put(0)];
    stage.until("n1 has two extra entries", |stage| stage.log(0).len() == 6);
    stage.say("n1 is killed, too, and n5 starts again. n2 asks for votes.");
    stage.fault(Fault::Crash(0));
    stage.fault(Fault::Start(4));
    stage.show_logs(&[0, 1, 2, 3, 4]);
    let (missing, extra) = (stage.log(4).len(), stage.log(3).len());
    let decided: Vec<u64> = stage.log(1);
    stage.only_asks(1);
    stage.until("n2 leads term 2", |stage| stage.leads(1, 2));
    stage.say("n4 has an entry more than n2 and gives it no vote; n3 and n5 do. n2 looks for the place where each log agrees with its own.");
    stage.until("n2 has decided something in its term", |stage| {
        stage.commit(1) > 4
    });
    let refused_by_n4 = stage.since(0).any(|moment| {
        moment.member == Some(3)
            && matches!(&moment.what, What::Sends { to: 1, kind: Kind::Vote, label, .. } if label == "no")
    });
    let kept = stage.put_done(1);
    stage.caught_up(1, &[2, 3, 4]);
    stage.show_logs(&[0, 1, 2, 3, 4]);
    let both = stage.log(0);
    let leader = stage.log(1);
    stage.say("n5 got what it missed, n4 gave up its extra entry. n1 comes back: it has extra entries, and misses others.");
    stage.fault(Fault::Start(0));
    stage.until("n1 has the log of n2", |stage| stage.log(0) == stage.log(1));
    stage.caught_up(1, &[0]);
    stage.show_logs(&[0, 1]);
    stage.check(
        &format!(
            "when n2 was elected, n5 was missing {} entries and n4 had {} extra",
            decided.len() - missing,
            extra - decided.len()
        ),
        missing == 2 && extra == 5 && decided.len() == 4,
    );
    stage.check(
        "n4, whose log was longer, did not vote for n2",
        refused_by_n4,
    );
    stage.check(
        "n1 had both: two extra entries of term 1, and none of term 2",
        both.len() == 6 && both[4..] == [1, 1] && leader[4..] == [2, 2],
    );
    let logs: Vec<Vec<u64>> = (0..5).map(|member| stage.log(member)).collect();
    stage.check(
        "in the end all five logs are equal, and start with the four entries that were decided first",
        logs.iter().all(|log| *log == logs[1]) && logs[1].starts_with(&decided),
    );
    stage.check(
        "no client was told that the extra entries are done",
        !undecided.iter().any(|request| stage.done(*request)),
    );
    let found = stage.read_value(0);
    stage.check("n1 reads what n2 decided", found == Some(kept));
}

/// The settings that let an append carry one entry only, so that a script can part them.
pub fn one_entry_each() -> raft::Settings {
    raft::Settings {
        append_bytes_max: 1,
        ..raft::Settings::default()
    }
}

/// Up to (c) of the figure: an entry of term 1 is on three of five logs, and n1 leads term 3.
fn until_c(stage: &mut Stage<'_>) -> u64 {
    stage.say("Five members. (a) n1 leads term 1; its second entry gets to n2 only.");
    stage.elect(0);
    stage.caught_up(0, &[1, 2, 3, 4]);
    stage.judge(|from, to, message| match newest_in(message) {
        Some(_) if from == 0 && to != 1 => Fate::Lost,
        _ => Fate::Travels,
    });
    let change = stage.put(0);
    stage.until("n2 has the entry", |stage| stage.log(1) == [1, 1]);
    stage.say("(b) n1 is killed. n5 is elected for term 2 by n3, n4 and itself, and has an entry of its own in the second place, which goes nowhere.");
    stage.judge(|from, _, message| match newest_in(message) {
        Some(_) if from == 4 => Fate::Lost,
        _ => Fate::Travels,
    });
    stage.fault(Fault::Crash(0));
    stage.only_asks(4);
    stage.until("n5 leads term 2", |stage| stage.leads(4, 2));
    stage.until("n5 has its own entry", |stage| stage.log(4) == [1, 2]);
    stage.show_logs(&[0, 1, 2, 3, 4]);
    stage.say("(c) n5 is killed, n1 starts again and is elected for term 3. It gives its old entry of term 1 to n3: now three of five have it.");
    let probed = Cell::new(false);
    stage.judge(move |from, to, message| match newest_in(message) {
        // What n1 sends n3 first does not fit its log and is refused; so n1 learns what n3 needs.
        Some(newest) if from == 0 && to == 2 && newest > Index(2) && !probed.replace(true) => {
            Fate::Travels
        }
        Some(newest) if from == 0 && (newest > Index(2) || to == 3) => Fate::Lost,
        _ => Fate::Travels,
    });
    stage.fault(Fault::Crash(4));
    stage.fault(Fault::Start(0));
    stage.only_asks(0);
    stage.until("n1 leads term 3", |stage| stage.leads(0, 3));
    stage.until("n3 has the entry of term 1", |stage| stage.log(2) == [1, 1]);
    stage.pass(300);
    stage.show_logs(&[0, 1, 2, 3, 4]);
    change
}

pub fn figure_8(stage: &mut Stage<'_>) {
    let change = until_c(stage);
    let holders = (0..5)
        .filter(|member| stage.log(*member).get(1) == Some(&1))
        .count();
    let counted = (0..5).any(|member| stage.commit(member) >= 2);
    stage.say("A leader must not count copies of an entry of an older term: that would decide it here. n1 does not.");
    stage.say("(d) n1 is killed. n5 comes back; its last entry is of term 2, newer than term 1, so n3 and n4 may elect it for term 4.");
    stage.fault(Fault::Crash(0));
    stage.fault(Fault::Start(4));
    stage.judge(|_, _, _| Fate::Travels);
    stage.elect(4);
    let elected = stage.status(4).map(|status| status.term.0);
    stage.caught_up(4, &[1, 2, 3]);
    stage.show_logs(&[0, 1, 2, 3, 4]);
    let overwritten = (1..5).all(|member| stage.log(member).get(1) == Some(&2));
    let told = stage.done(change);
    stage.check(
        &format!("the entry of term 1 was durable on {holders} of 5 logs while n1 led term 3"),
        holders == 3,
    );
    stage.check("nobody counted it as decided", !counted);
    stage.check(
        "n5 was elected for term 4 and its entry of term 2 took the place on n2 and n3",
        elected == Some(4) && overwritten,
    );
    stage.check(
        "the client was never told that the lost change was done",
        !told,
    );
}

pub fn figure_8_decided(stage: &mut Stage<'_>) {
    until_c(stage);
    stage.say("(e) This time n1 first gets an entry of its own term 3 to n2 and n3: that decides it, and with it everything before.");
    stage.judge(|_, to, message| match newest_in(message) {
        Some(_) if to == 3 => Fate::Lost,
        _ => Fate::Travels,
    });
    stage.until("n1 has decided its entry of term 3", |stage| {
        stage.commit(0) == 3
    });
    stage.show_logs(&[0, 1, 2, 3, 4]);
    stage.say("n1 is killed. n5 comes back and asks for votes for three seconds; n2 and n3 have a newer last entry and refuse.");
    stage.fault(Fault::Crash(0));
    stage.fault(Fault::Start(4));
    stage.only_asks(4);
    let asked_from = stage.now();
    stage.pass(3_000);
    let leads = stage.since(asked_from).any(|moment| {
        matches!(
            moment.what,
            What::Role {
                role: raft::Role::Leader,
                ..
            }
        )
    });
    stage.judge(|_, _, _| Fate::Travels);
    stage.say("n2 may ask, too, and wins: its log has everything that was decided.");
    stage.elect(1);
    stage.caught_up(1, &[2, 3, 4]);
    stage.show_logs(&[0, 1, 2, 3, 4]);
    let second: Vec<Option<u64>> = (0..5)
        .map(|member| stage.log(member).get(1).copied())
        .collect();
    stage.check(
        "n5 could not be elected once an entry of term 3 was decided",
        !leads,
    );
    stage.check(
        "the entry of term 1 in the second place is kept on all logs",
        second == [Some(1); 5],
    );
}
