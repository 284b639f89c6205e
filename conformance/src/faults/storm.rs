//! Faults of processes and networks on top of one another, at random.

use super::field::Field;
use crate::Outcome;

/// Faults between two times of peace.
const FAULTS: usize = 8;

/// What a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Runs,
    Stopped,
    Dead,
}

/// Members die, stand still, come back and lose one another without order; then everything is mended at once.
///
/// # Errors
/// When the system refuses, or a member does not come back.
pub async fn storm(field: &mut Field) -> Outcome<()> {
    for round in 0.. {
        if !field.goes_on(round, 1) {
            break;
        }
        let mut members = vec![Condition::Runs; field.count()];
        for _ in 0..FAULTS {
            let pause = 100 + field.random.below(1_500);
            field.sleep(pause).await;
            let one = field.random.below(members.len() as u64) as usize;
            let other =
                (one + 1 + field.random.below(members.len() as u64 - 1) as usize) % members.len();
            match field.random.below(5) {
                0 => change(field, &mut members, one, Condition::Dead).await?,
                1 => change(field, &mut members, one, Condition::Stopped).await?,
                2 => change(field, &mut members, one, Condition::Runs).await?,
                3 => {
                    let (from, to) = (field.name(one), field.name(other));
                    field.note(format!("{to} does not hear {from}")).await?;
                    field.network()?.cut(one, other)?;
                }
                _ => {
                    field.note("every line mended".into()).await?;
                    field.network()?.heal()?;
                }
            }
        }
        field.note("the end of the storm".into()).await?;
        field.network()?.heal()?;
        for at in 0..members.len() {
            change(field, &mut members, at, Condition::Runs).await?;
        }
        for at in 0..members.len() {
            field.listens(at).await?;
        }
        field.healed().await?;
    }
    Ok(())
}

async fn change(
    field: &mut Field,
    members: &mut [Condition],
    at: usize,
    to: Condition,
) -> Outcome<()> {
    let name = field.name(at);
    match (members[at], to) {
        (before, after) if before == after => return Ok(()),
        (_, Condition::Dead) => {
            field.note(format!("{name} killed")).await?;
            field.cluster.kill(at);
        }
        (Condition::Runs, _) => {
            field.note(format!("{name} stopped")).await?;
            field.cluster.pause(at, true)?;
        }
        (Condition::Stopped, _) => {
            field.note(format!("{name} goes on")).await?;
            field.cluster.pause(at, false)?;
        }
        // A member that died can only be started.
        (Condition::Dead, _) => {
            field.note(format!("{name} started")).await?;
            field.cluster.start_member(at)?;
            members[at] = Condition::Runs;
            return Ok(());
        }
    }
    members[at] = to;
    Ok(())
}
