//! Wall clocks that jump while everything else goes on.

use super::field::Field;
use super::wall::shown_offset;
use crate::Outcome;

/// Where the clock jumps to, in seconds from the right time: a leap second either way, an hour, ten years.
const OFFSETS: [i64; 6] = [1, -1, 3_600, -3_600, 315_360_000, -315_360_000];

/// The leader's clock jumps, a follower's, then all; each by another amount, and back.
///
/// # Errors
/// When nobody leads any more, or a member does not show its clock.
pub async fn step(field: &mut Field) -> Outcome<()> {
    for round in 0.. {
        if !field.goes_on(round, 3) {
            break;
        }
        let stepped: Vec<usize> = match round % 3 {
            2 => (0..field.count()).collect(),
            round => vec![field.pick(round == 0).await?],
        };
        for offset in [
            *field.random.pick(&OFFSETS),
            *field.random.pick(&OFFSETS[2..]),
            0,
        ] {
            jump(field, &stepped, offset).await?;
            field.sleep(1_500).await;
        }
        field.healed().await?;
    }
    Ok(())
}

async fn jump(field: &mut Field, stepped: &[usize], offset: i64) -> Outcome<()> {
    let names: Vec<String> = stepped.iter().map(|at| field.name(*at)).collect();
    let names = names.join(", ");
    field
        .note(format!("the clock of {names} jumps to {offset:+} s"))
        .await?;
    for at in stepped {
        field.walls[*at].step(offset)?;
    }
    for at in stepped {
        let shown = shown_offset(field.cluster.members()[*at].client).await?;
        let reached = (shown - offset).abs() <= 1;
        field.report.check(
            "the jump has reached the process",
            reached,
            format!("{} shows {shown:+} s", field.name(*at)),
        );
    }
    Ok(())
}
