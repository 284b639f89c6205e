//! Stories about what a member remembers after its power, its log or its whole disk was lost.

use super::stage::Stage;
use crate::faults::Fault;
use crate::timeline::What;
use log::memory_disk::Survival;
use raft::Standing;

pub fn power_loss_all(stage: &mut Stage<'_>) {
    stage.say("Three members, n1 leads term 1. Some changes are made.");
    stage.elect(0);
    stage.put_done(0);
    stage.put_done(0);
    stage.say("At the very moment at which n1 acknowledges the next change, all machines lose power, and every byte that was not synced is gone.");
    stage.fault(Fault::PowerLossAtReply(Survival::Nothing));
    let acknowledged = stage.put_done(0);
    let all_dark = (0..3).all(|member| stage.status(member).is_none());
    stage.show_logs(&[0, 1, 2]);
    let durable = (0..3)
        .filter(|member| stage.log(*member).len() >= 4)
        .count();
    stage.say(
        "Power returns. n1 stays down a little longer, so that the others must do without it.",
    );
    stage.fault(Fault::Start(1));
    stage.fault(Fault::Start(2));
    stage.elect(2);
    stage.caught_up(2, &[1]);
    let found = stage.read_value(1);
    stage.say("n1 starts, and is asked for one more change. Before a single disk has synced it, the power goes again.");
    stage.fault(Fault::Start(0));
    stage.caught_up(2, &[0]);
    let unacknowledged = stage.put(0);
    stage.fault(Fault::PowerLossAll(Survival::Nothing));
    let from = stage.now();
    for member in 0..3 {
        stage.fault(Fault::Start(member));
    }
    stage.elect(2);
    stage.caught_up(2, &[0, 1]);
    stage.show_logs(&[0, 1, 2]);
    let last = stage.read_value(0);
    let restarts = stage
        .since(from)
        .filter(|moment| matches!(moment.what, What::Starts { last } if last >= 4));
    let restarts = restarts.count();
    stage.check("all three lost power at the acknowledgement", all_dark);
    stage.check(
        &format!("the acknowledged change was durable on {durable} of 3 disks by then"),
        durable >= 2,
    );
    stage.check(
        "without n1 the others still read it",
        found == Some(acknowledged),
    );
    stage.check(
        "the change that no disk had synced was acknowledged to nobody, and is gone",
        !stage.done(unacknowledged) && last == Some(acknowledged),
    );
    stage.check(
        "all three found everything else on their disks again",
        restarts == 3,
    );
}

pub fn amnesia(stage: &mut Stage<'_>) {
    stage.say("Three members, n1 leads term 1. n3 is cut off, so that the next changes are decided by n1 and n2 alone.");
    stage.elect(0);
    stage.put_done(0);
    stage.caught_up(0, &[1, 2]);
    stage.cut_off(&[2]);
    stage.put_done(0);
    let acknowledged = stage.put_done(0);
    stage.caught_up(0, &[1]);
    let before = stage.log(1).len();
    stage.say("n1 and n2 are killed.");
    stage.fault(Fault::Crash(0));
    stage.fault(Fault::Crash(1));
    stage.damage_log(1, 3);
    stage.say("n2 starts, and hears n3 again: a majority, and neither has what was decided.");
    stage.fault(Fault::Heal);
    stage.fault(Fault::Start(1));
    stage.show_logs(&[0, 1, 2]);
    let after = stage.log(1).len();
    let forgetful = stage
        .status(1)
        .is_some_and(|status| status.standing == Standing::EntriesLost);
    stage.only_asks(2);
    stage.may_ask(1);
    let alone_from = stage.now();
    stage.pass(5_000);
    let led = stage.since(alone_from).any(|moment| {
        let role = raft::Role::Leader;
        matches!(moment.what, What::Role { role: found, .. } if found == role)
    });
    let asked = stage.since(alone_from).any(
        |moment| matches!(&moment.what, What::Sends { label, .. } if label.starts_with("pre-vote")),
    );
    stage.say("n3 asks for votes, and n2, which may have promised what it cannot remember, says nothing. n1 starts again.");
    stage.fault(Fault::Start(0));
    stage.elect(0);
    stage.until("n2 may be believed again", |stage| {
        let standing = stage.status(1).map(|status| status.standing);
        standing == Some(Standing::Sound)
    });
    stage.caught_up(0, &[1, 2]);
    stage.show_logs(&[0, 1, 2]);
    let found = stage.read_value(1);
    stage.check(
        &format!(
            "n2 had {before} entries, came back with {after}, and knew that some were missing"
        ),
        before > after && forgetful,
    );
    stage.check(
        "n3 asked for votes, and n2 and n3 together elected nobody",
        asked && !led,
    );
    stage.check(
        "with n1, n2 got back what it had lost",
        stage.log(1) == stage.log(0),
    );
    stage.check(
        "the acknowledged change is there",
        found == Some(acknowledged),
    );
}
