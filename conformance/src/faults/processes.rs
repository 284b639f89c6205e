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
        if !field.goes_on(round, 3) {
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

/// SIGSTOP to the leader for longer than an election, then for longer than a lease lives; to a follower and to all for as long as that.
///
/// # Errors
/// When a member does not run any more.
pub async fn pause(field: &mut Field) -> Outcome<()> {
    for round in 0.. {
        if !field.goes_on(round, 4) {
            break;
        }
        let (victims, millis) = match round % 4 {
            0 => (vec![field.pick(true).await?], ELECTION_MILLIS),
            1 => (vec![field.pick(true).await?], LEASE_MILLIS),
            2 => (vec![field.pick(false).await?], LEASE_MILLIS),
            _ => ((0..field.count()).collect(), LEASE_MILLIS),
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
