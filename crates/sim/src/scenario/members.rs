//! Stories about members that come, go, and come back as somebody else (Raft thesis §4).

use super::stage::Stage;
use crate::director::Fate;
use crate::faults::Fault;
use crate::timeline::What;
use raft::{Body, Role};
use replica::Message;

/// Somebody was elected since then.
fn elected_since(stage: &Stage<'_>, from: u64) -> bool {
    let elected = |what: &What| {
        matches!(
            what,
            What::Role {
                role: Role::Leader,
                ..
            }
        )
    };
    stage.since(from).any(|moment| elected(&moment.what))
}

pub fn wiped_member(stage: &mut Stage<'_>) {
    stage.say("Three members, n1 leads term 1. Some changes are made.");
    stage.elect(0);
    stage.put_done(0);
    let acknowledged = stage.put_done(0);
    stage.caught_up(0, &[1, 2]);
    let before = stage.id(2);
    stage.say("n3 loses its disk, and is started on an empty one with the flags it was first started with. n1 is down, too: only n2 remembers the cluster.");
    stage.fault(Fault::Crash(0));
    stage.fault(Fault::Wipe(2));
    stage.fault(Fault::Start(2));
    for member in 0..3 {
        stage.may_ask(member);
    }
    let from = stage.now();
    stage.pass(5_000);
    let (led_without, ran) = (elected_since(stage, from), stage.status(2).is_some());
    stage.say("n3 asked n1 and n2 for its cluster, and waits: n2 knows one, and nobody has admitted n3 there. n1 starts again.");
    stage.fault(Fault::Start(0));
    stage.elect(0);
    stage.until("n3 is admitted", |stage| stage.status(2).is_some());
    let after = stage.id(2);
    let learner = stage.configuration().learners.contains(&after);
    let old_gone = !stage.configuration().contains(before);
    stage.say("n3 is somebody else now: what its old self promised binds nobody any more. It learns what was decided, and then counts.");
    stage.until("n3 is a voter", |stage| {
        stage.configuration().voters.contains(&after) && !stage.configuration().is_joint()
    });
    stage.caught_up(0, &[1, 2]);
    stage.show_logs(&[0, 1, 2]);
    let found = stage.read_value(2);
    stage.say("Now n1 is killed, and n2 and n3 do without it.");
    stage.fault(Fault::Crash(0));
    stage.elect(1);
    let last = stage.put_done(2);
    let read = stage.read_value(2);
    stage.check(
        "with an empty disk, and one other that remembered, n3 neither ran nor helped to elect anybody",
        !ran && !led_without,
    );
    stage.check(
        "n3 came back under another id, as a learner, and its old id left with the same change",
        after != before && learner && old_gone,
    );
    stage.check(
        "what was acknowledged before is on its new disk",
        found == Some(acknowledged),
    );
    stage.check(
        "as a voter it decides with n2 when n1 is gone",
        read == Some(last),
    );
}

pub fn joint(stage: &mut Stage<'_>) {
    stage.say("Five members, n1 leads term 1.");
    stage.elect(0);
    stage.put_done(0);
    stage.caught_up(0, &[1, 2, 3, 4]);
    stage.say("n4 and n5 are cut off. An operator asks n1 for the voters n3, n4 and n5: n1 and n2 are to leave, both at once.");
    stage.cut_off(&[3, 4]);
    let decided = stage.commit(0);
    stage.ask_for_voters(0, &[2, 3, 4]);
    stage.until("three of five have the joint configuration", |stage| {
        (0..3).all(|member| stage.log(member).len() as u64 > decided)
    });
    let from = stage.now();
    for member in 0..5 {
        stage.may_ask(member);
    }
    stage.pass(5_000);
    stage.show_logs(&[0, 1, 2, 3, 4]);
    let lingers = stage.leads(0, 1);
    let decided_without = (0..5).any(|member| stage.commit(member) > decided);
    let led_without = elected_since(stage, from);
    stage.say("Three of the five old voters have it, but only one of the three new ones: nothing is decided, and n1 gives up leading. The links are mended, and n3 asks for votes.");
    stage.fault(Fault::Heal);
    stage.elect(2);
    stage.until("the change is finished", |stage| {
        let configuration = stage.configuration();
        configuration.voters.len() == 3 && !configuration.is_joint()
    });
    stage.caught_up(2, &[3, 4]);
    let gone = [0, 1].map(|member| stage.configuration().contains(stage.id(member)));
    stage.say("Now two of three are enough, whatever the others do: n1, n2 and n5 are killed.");
    for member in [0, 1, 4] {
        stage.fault(Fault::Crash(member));
    }
    let last = stage.put_done(3);
    let found = stage.read_value(3);
    stage.check(
        "a majority of the old voters alone decided nothing and elected nobody, and the old leader stepped down",
        !decided_without && !led_without && !lingers,
    );
    stage.check(
        "when all heard each other again the change was finished by itself, and n1 and n2 were out",
        gone == [false, false],
    );
    stage.check(
        "then n3 and n4 decided a change, two of the five of before",
        found == Some(last),
    );
}

/// Diego Ongaro, "bug in single-server membership changes", raft-dev, July 2015.
pub fn flaw_of_2015(stage: &mut Stage<'_>) {
    stage
        .say("Five members, n1 leads term 1. n5 is made a learner, so that there are four voters.");
    stage.elect(0);
    stage.ask_to_switch(0, 4);
    stage.until("there are four voters", |stage| {
        stage.configuration().voters.len() == 4 && !stage.configuration().is_joint()
    });
    let acknowledged = stage.put_done(0);
    stage.caught_up(0, &[1, 2, 3, 4]);
    let decided = stage.commit(0);
    stage.say("n1 and n5 are cut off from the others, and n1 is asked to make n5 a voter again. Only the two have that entry.");
    stage.cut_off(&[0, 4]);
    stage.ask_to_switch(0, 4);
    stage.until("n5 has the change", |stage| {
        stage.log(4).len() as u64 > decided
    });
    stage.say("n2 is elected by n2, n3 and n4. What it appends reaches n3 and not n4. It is asked to make a learner of n1.");
    stage.judge(|from, to, message| match message {
        Message::Raft(message) if matches!(message.body, Body::Append { .. }) => match (from, to) {
            (1, 3) => Fate::Lost,
            _ => Fate::Travels,
        },
        _ => Fate::Travels,
    });
    stage.only_asks(1);
    stage.until("n2 leads term 2", |stage| stage.leads(1, 2));
    stage.ask_to_switch(1, 0);
    stage.pass(1_000);
    stage.show_logs(&[0, 1, 2, 3, 4]);
    let begun = stage.log(1).len() as u64 > decided + 1;
    let decided_by_two = stage.commit(1) > decided;
    stage.say("n2 and n3 are cut off, and n1, n4 and n5 hear each other: three of the five voters that n1 wanted.");
    stage.fault(Fault::Heal);
    stage.cut_off(&[1, 2]);
    let from = stage.now();
    stage.only_asks(0);
    stage.pass(5_000);
    let led = elected_since(stage, from);
    stage.say("All links are mended.");
    stage.release();
    stage.fault(Fault::Heal);
    stage.elect(1);
    stage.caught_up(1, &[0, 2, 3, 4]);
    let found = stage.read_value(4);
    stage.check(
        "n2 began no change and decided nothing with n3 alone, because an entry of its own was not decided yet",
        !begun && !decided_by_two,
    );
    stage.check(
        "n1, n4 and n5 elected nobody: n1's change needs a majority of the four voters, too",
        !led,
    );
    stage.check(
        "what was acknowledged before is there",
        found == Some(acknowledged),
    );
}
