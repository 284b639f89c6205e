//! Stories about what a member remembers after its power, its log or its whole disk was lost.

use super::stage::Stage;
use crate::faults::Fault;
use crate::timeline::What;
use log::memory_disk::Survival;

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
