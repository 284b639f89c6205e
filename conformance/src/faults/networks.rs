//! Members that do not reach each other, or only slowly.

use super::field::Field;
use super::network::Network;
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
        if !field.goes_on() {
            break;
        }
        let one = field.pick(round % 3 == 0).await?;
        let everybody = round % 3 == 2;
        let who = if everybody {
            "everybody".to_string()
        } else {
            field.name(one)
        };
        cut(field, format!("{who} cut off"), |network, count| {
            for (from, to) in pairs(count).filter(|(from, to)| from < to) {
                if everybody || from == one || to == one {
                    network.part(from, to)?;
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// One direction only: nobody hears the leader, the leader hears nobody, nobody hears a follower, a follower hears nobody.
///
/// # Errors
/// When the system refuses, or nobody leads any more.
pub async fn oneway(field: &mut Field) -> Outcome<()> {
    for round in 0.. {
        if !field.goes_on() {
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
        cut(field, format!("{name} {what}"), |network, count| {
            for other in (0..count).filter(|other| *other != one) {
                let (from, to) = if dumb { (one, other) } else { (other, one) };
                network.cut(from, to)?;
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Two sides and a bridge, which is the leader in every second round.
///
/// # Errors
/// When the system refuses, or nobody leads any more.
pub async fn bridge(field: &mut Field) -> Outcome<()> {
    for round in 0.. {
        if !field.goes_on() {
            break;
        }
        let bridge = field.pick(round % 2 == 1).await?;
        let others: Vec<usize> = (0..field.count()).filter(|at| *at != bridge).collect();
        let (left, right) = others.split_at(others.len() / 2);
        let name = field.name(bridge);
        cut(
            field,
            format!("only {name} reaches both sides"),
            |network, _| {
                for one in left {
                    for other in right {
                        network.part(*one, *other)?;
                    }
                }
                Ok(())
            },
        )
        .await?;
    }
    Ok(())
}

async fn cut(
    field: &mut Field,
    what: String,
    cut: impl FnOnce(&Network, usize) -> Outcome<()>,
) -> Outcome<()> {
    field.note(what).await?;
    let count = field.count();
    cut(network(field)?, count)?;
    field.sleep(CUT_MILLIS).await;
    network(field)?.heal()?;
    field.healed().await
}

fn network(field: &Field) -> Outcome<&Network> {
    field
        .network
        .as_ref()
        .ok_or_else(|| "no network namespaces".into())
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
        if !field.goes_on() {
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
