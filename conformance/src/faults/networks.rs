//! Members that do not reach each other, or only slowly.

use super::field::{Field, said};
use super::proxy::Weather;
use crate::Outcome;
use std::time::Duration;

/// How long a cut lasts: longer than elections, and than a member takes to give up a silent connection.
const CUT_MILLIS: u64 = 6_000;

/// The leader alone, a follower alone, everybody alone.
///
/// # Errors
/// When the system refuses, or nobody leads any more.
pub async fn full(field: &mut Field) -> Outcome<()> {
    for round in 0.. {
        if !field.goes_on(round, 3) {
            break;
        }
        let one = field.pick(round % 3 == 0).await?;
        let everybody = round % 3 == 2;
        let name = field.name(one);
        let who = if everybody { "everybody" } else { &name };
        field.note(format!("{who} cut off")).await?;
        for (from, to) in pairs(field.count()).filter(|(from, to)| from < to) {
            if everybody || from == one || to == one {
                field.network()?.part(from, to)?;
            }
        }
        field.sleep(CUT_MILLIS).await;
        let put = field.put_aside(one).await;
        let what = format!("{name} acknowledges nothing without a majority");
        field.report.check(&what, put.is_err(), said(&put));
        if !everybody {
            served_by_others(field, one).await;
        }
        heal(field).await?;
    }
    Ok(())
}

/// One direction only: nobody hears the leader, the leader hears nobody, nobody hears a follower, a follower hears nobody.
///
/// # Errors
/// When the system refuses, or nobody leads any more.
pub async fn oneway(field: &mut Field) -> Outcome<()> {
    for round in 0.. {
        if !field.goes_on(round, 4) {
            break;
        }
        let one = field.pick(round % 4 < 2).await?;
        let dumb = round % 2 == 0;
        let what = if dumb {
            "is heard by nobody"
        } else {
            "hears nobody"
        };
        let name = field.name(one);
        field.note(format!("{name} {what}")).await?;
        for other in (0..field.count()).filter(|other| *other != one) {
            let (from, to) = if dumb { (one, other) } else { (other, one) };
            field.network()?.cut(from, to)?;
        }
        field.sleep(CUT_MILLIS).await;
        served_by_others(field, one).await;
        heal(field).await?;
    }
    Ok(())
}

/// Two sides and a bridge, which is the leader in every second round.
///
/// # Errors
/// When the system refuses, or nobody leads any more.
pub async fn bridge(field: &mut Field) -> Outcome<()> {
    for round in 0.. {
        if !field.goes_on(round, 2) {
            break;
        }
        let bridge = field.pick(round % 2 == 1).await?;
        let others: Vec<usize> = (0..field.count()).filter(|at| *at != bridge).collect();
        let (left, right) = others.split_at(others.len() / 2);
        let name = field.name(bridge);
        field
            .note(format!("only {name} reaches both sides"))
            .await?;
        for (one, other) in left
            .iter()
            .flat_map(|l| right.iter().map(move |r| (*l, *r)))
        {
            field.network()?.part(one, other)?;
        }
        field.sleep(CUT_MILLIS).await;
        let put = field.put_aside(bridge).await;
        let what = format!("{name}, which reaches everybody, serves");
        field.report.check(&what, put.is_ok(), said(&put));
        heal(field).await?;
    }
    Ok(())
}

/// Some other member serves: whoever is cut off is a minority.
async fn served_by_others(field: &mut Field, cut_off: usize) {
    let other = (cut_off + 1) % field.count();
    let put = field.put_aside(other).await;
    field
        .report
        .check("the others serve", put.is_ok(), said(&put));
}

async fn heal(field: &mut Field) -> Outcome<()> {
    field.network()?.heal()?;
    field.healed().await
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |from| (0..count).map(move |to| (from, to)))
}

/// Slow lines to all, a very slow one to the leader, a narrow one, and one that is open and silent.
///
/// # Errors
/// When nobody leads any more.
pub async fn delay(field: &mut Field) -> Outcome<()> {
    let millis = Duration::from_millis;
    for round in 0.. {
        if !field.goes_on(round, 4) {
            break;
        }
        let one = field.pick(round % 2 == 0).await?;
        let (members, weather, what): (Vec<usize>, Weather, &str) = match round % 4 {
            0 => (
                (0..field.count()).collect(),
                Weather {
                    delay: millis(40),
                    jitter: millis(40),
                    ..Weather::default()
                },
                "everybody: 40 to 80 ms later",
            ),
            1 => (
                vec![one],
                Weather {
                    delay: millis(200),
                    jitter: millis(600),
                    ..Weather::default()
                },
                "200 to 800 ms later",
            ),
            2 => (
                vec![one],
                Weather {
                    stalled: true,
                    ..Weather::default()
                },
                "deaf, with every connection open",
            ),
            _ => (
                vec![one],
                Weather {
                    rate: 64 << 10,
                    ..Weather::default()
                },
                "64 KiB per second",
            ),
        };
        let name = field.name(one);
        field.note(format!("to {name}: {what}")).await?;
        let proxies = field.proxies.as_ref().ok_or("no proxies")?;
        members.iter().for_each(|at| proxies.set(*at, weather));
        field.sleep(CUT_MILLIS).await;
        let proxies = field.proxies.as_ref().ok_or("no proxies")?;
        members
            .iter()
            .for_each(|at| proxies.set(*at, Weather::default()));
        field.healed().await?;
    }
    Ok(())
}
