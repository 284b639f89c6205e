//! Members that die and members that stand still.

use super::field::Field;
use crate::Outcome;

/// Longer than any election.
const ELECTION_MILLIS: u64 = 3_000;
/// Longer than the longest lease of the load lives.
const LEASE_MILLIS: u64 = 6_000;

/// SIGKILL to a follower, to the leader, and to all at once.
///
/// # Errors
/// When a member does not come back.
pub async fn kill(field: &mut Field) -> Outcome<()> {
    for round in 0.. {
        if !field.goes_on() {
            break;
        }
        let victims = match round % 3 {
            2 => (0..field.count()).collect(),
            round => vec![field.pick(round == 1).await?],
        };
        field
            .note(format!("{} killed", names(field, &victims)))
            .await?;
        if victims.len() > 1 {
            field.cluster.kill_all();
        } else {
            field.cluster.kill(victims[0]);
        }
        let down = field.random.below(3_000);
        field.sleep(down).await;
        for at in &victims {
            field.cluster.start_member(*at)?;
        }
        for at in &victims {
            field.listens(*at).await?;
        }
        field.healed().await?;
    }
    Ok(())
}

/// SIGSTOP, in turn for longer than an election and longer than a lease lives.
///
/// # Errors
/// When a member does not run any more.
pub async fn pause(field: &mut Field) -> Outcome<()> {
    // The leader first, for longer than an election; then whatever is left of the time.
    let plans = [
        (true, ELECTION_MILLIS),
        (true, LEASE_MILLIS),
        (false, LEASE_MILLIS),
    ];
    for round in 0.. {
        if !field.goes_on() {
            break;
        }
        let (victims, millis) = match plans.get(round % 4) {
            Some((leads, millis)) => (vec![field.pick(*leads).await?], *millis),
            None => ((0..field.count()).collect(), ELECTION_MILLIS),
        };
        field
            .note(format!(
                "{} stopped for {millis} ms",
                names(field, &victims)
            ))
            .await?;
        for at in &victims {
            field.cluster.pause(*at, true)?;
        }
        field.sleep(millis).await;
        for at in &victims {
            field.cluster.pause(*at, false)?;
        }
        field.healed().await?;
    }
    Ok(())
}

fn names(field: &Field, members: &[usize]) -> String {
    let names: Vec<String> = members.iter().map(|at| field.name(*at)).collect();
    names.join(", ")
}
