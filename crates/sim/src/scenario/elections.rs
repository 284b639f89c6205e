//! Stories about elections.

use super::stage::Stage;
use crate::director::Fate;
use crate::faults::Fault;
use crate::timeline::{Moment, What};
use raft::{Body, Role};
use replica::{Consistency, Message};

/// The members that took a role in a term.
fn took(moments: &[Moment], wanted: Role, in_term: u64) -> Vec<usize> {
    let mut members: Vec<usize> = moments
        .iter()
        .filter(|moment| {
            matches!(moment.what, What::Role { role, term, .. } if role == wanted && term == in_term)
        })
        .filter_map(|moment| moment.member)
        .collect();
    members.sort_unstable();
    members.dedup();
    members
}

pub fn split_vote(stage: &mut Stage<'_>) {
    stage.say("Three members begin. n1 is the first to ask for votes.");
    stage.elect(0);
    let kept = stage.put_done(0);
    stage.caught_up(0, &[1, 2]);
    let began = stage.now();
    stage.say(
        "n1 is killed. n2 and n3 see their connections to it closed, and both want to replace it.",
    );
    stage.say("Each asks the other first whether an election could be won (a pre-vote). The answers are made to cross, so that both stand.");
    stage.may_ask(1);
    stage.may_ask(2);
    stage.judge(|_, to, message| match message {
        Message::Raft(message)
            if to != 0 && matches!(message.body, Body::PreVoteReply { granted: true, .. }) =>
        {
            Fate::Held
        }
        _ => Fate::Travels,
    });
    stage.fault(Fault::Crash(0));
    stage.until("n2 and n3 would both be elected", |stage| stage.held() == 2);
    stage.release();
    stage.until("both stand for election in term 2", |stage| {
        let moments: Vec<Moment> = stage.since(began).cloned().collect();
        took(&moments, Role::Candidate, 2) == [1, 2]
    });
    stage.say("Each has given its one vote of term 2 to itself, and must refuse the other.");
    stage.pass(20);
    stage.say("Nobody has two of three votes, so term 2 stays without a leader. Waiting times are random; this time n2's is the shorter one.");
    stage.elect(1);
    let found = stage.read_value(2);
    let moments: Vec<Moment> = stage.since(began).cloned().collect();
    stage.check(
        "in term 2 both n2 and n3 stood for election",
        took(&moments, Role::Candidate, 2) == [1, 2],
    );
    stage.check(
        "term 2 had no leader",
        took(&moments, Role::Leader, 2).is_empty(),
    );
    stage.check(
        "term 3 had one leader, n2",
        took(&moments, Role::Leader, 3) == [1],
    );
    stage.check(
        "what n1 had acknowledged before it was killed is read from n3",
        found == Some(kept),
    );
}

pub fn partition_heal(stage: &mut Stage<'_>) {
    stage.say("Five members. n1 leads term 1.");
    stage.elect(0);
    stage.put_done(0);
    stage.caught_up(0, &[1, 2, 3, 4]);
    stage.say("The network splits: n1 and n2 on one side, n3, n4 and n5 on the other.");
    let cut_at = stage.now();
    let decided_before = stage.commit(0);
    stage.cut_off(&[0, 1]);
    stage.say("n1 does not know yet. A client asks it for a change; n1 can give it to n2 only, two of five.");
    let lost = stage.put(0);
    let stale = stage.read(0, Consistency::Linearizable);
    stage.only_asks(2);
    stage.until("n3 leads term 2", |stage| stage.leads(2, 2));
    let lingering = stage.leads(0, 1);
    let kept = stage.put_done(2);
    stage.say("n1 hears from no majority and steps down by itself. For three seconds n1 and n2 ask for votes, and get at most two.");
    for member in [0, 1] {
        stage.may_ask(member);
    }
    stage.pass(3_000);
    let minority: Vec<Moment> = stage
        .since(cut_at)
        .filter(|moment| moment.member.is_some_and(|member| member < 2))
        .cloned()
        .collect();
    let terms = [0, 1].map(|member| stage.status(member).map(|status| status.term.0));
    let decided = [0, 1].map(|member| stage.commit(member));
    let answered = [lost, stale].map(|request| stage.done(request));
    stage.show_logs(&[0, 1, 2, 3, 4]);
    stage.say("The network heals.");
    stage.fault(Fault::Heal);
    stage.until("n1 and n2 have what was decided without them", |stage| {
        stage.log(0) == stage.log(2) && stage.log(1) == stage.log(2)
    });
    stage.caught_up(2, &[0, 1, 3, 4]);
    stage.show_logs(&[0, 1, 2, 3, 4]);
    let found = stage.read_value(0);
    stage.say("n1 now knows for certain that its own entry is lost, so it proposes the change once more; only this time the client hears yes.");
    stage.until("the change is done", |stage| stage.done(lost));
    stage.check(
        "the old leader was still leading term 1 when the other side had elected n3 for term 2",
        lingering,
    );
    stage.check(
        &format!("the minority decided 0 entries while it was cut off (index {decided_before} before and after)"),
        decided == [decided_before; 2],
    );
    stage.check(
        "the minority answered neither the change nor the read that n1 was asked for",
        answered == [false, false],
    );
    stage.check(
        "the minority elected nobody, and pre-votes did not even raise its term",
        took(&minority, Role::Leader, 2).is_empty()
            && took(&minority, Role::Candidate, 2).is_empty()
            && terms == [Some(1), Some(1)],
    );
    stage.check(
        "after healing n1 reads what the majority decided, not what it was asked alone",
        found == Some(kept),
    );
}
