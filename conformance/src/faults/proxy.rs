//! Stands between members on one machine: each reaches another only through the other's proxy, which delays what passes, lets it pass at a limited rate, or takes
//! it and gives nothing on, with the connection open. Needs no root.
//!
//! A member's messages to another travel on a connection it makes itself, so a proxy that gives nothing on to its member makes that member deaf, not dumb.

use crate::Outcome;
use crate::process::{Place, free_ports};
use crate::random::Random;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes taken at once.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces under way per connection and direction; then nothing more is taken.
const PIECES_MAX: usize = 1024;

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// They arrive so much later.
    pub delay: Duration,
    /// And up to so much later still.
    pub jitter: Duration,
    /// Bytes per second at most; 0: no limit.
    pub rate: u64,
    /// They do not arrive while this is so.
    pub stalled: bool,
}

/// A proxy for each member. They end with their handle.
pub struct Proxies {
    places: Vec<Place>,
    weather: Vec<Arc<Mutex<Weather>>>,
    _tasks: JoinSet<()>,
}

impl Proxies {
    /// Listens for `count` members, in fair weather.
    ///
    /// # Errors
    /// When there are no free ports.
    pub async fn new(count: usize) -> Outcome<Proxies> {
        let mut places = Place::on_loopback(count)?;
        let (mut weather, mut tasks) = (Vec::new(), JoinSet::new());
        for (place, port) in places.iter_mut().zip(free_ports(count)?) {
            place.peer = SocketAddr::from(([127, 0, 0, 1], port));
            let listener = TcpListener::bind(place.peer).await?;
            let own = Arc::new(Mutex::new(Weather::default()));
            tasks.spawn(accept(listener, place.peer_listen, own.clone()));
            weather.push(own);
        }
        Ok(Proxies {
            places,
            weather,
            _tasks: tasks,
        })
    }

    /// Where the members live.
    pub fn places(&self) -> Vec<Place> {
        self.places.clone()
    }

    /// From now on what others send to this member, and what it answers on their connections, fares so.
    pub fn set(&self, member: usize, weather: Weather) {
        *self.weather[member].lock().expect("no holder panics") = weather;
    }
}

async fn accept(listener: TcpListener, member: SocketAddr, weather: Arc<Mutex<Weather>>) {
    let mut pumps = JoinSet::new();
    loop {
        let Ok((outer, _)) = listener.accept().await else {
            continue;
        };
        while pumps.try_join_next().is_some() {}
        let weather = weather.clone();
        pumps.spawn(async move {
            // A member that does not listen closes the connection, as it would without a proxy.
            let Ok(inner) = TcpStream::connect(member).await else {
                return;
            };
            let _ = (outer.set_nodelay(true), inner.set_nodelay(true));
            let ((outer_in, outer_out), (inner_in, inner_out)) =
                (outer.into_split(), inner.into_split());
            tokio::select! {
                () = pump(outer_in, inner_out, weather.clone()) => {}
                () = pump(inner_in, outer_out, weather) => {}
            }
        });
    }
}

async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, weather: Arc<Mutex<Weather>>) {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::join!(
        take(from, sender, weather.clone()),
        give(to, receiver, weather)
    );
}

/// Takes pieces as they come and says when each is due.
async fn take(
    mut from: OwnedReadHalf,
    pieces: mpsc::Sender<(Instant, Vec<u8>)>,
    weather: Arc<Mutex<Weather>>,
) {
    let mut random = Random::new(u64::from(
        from.local_addr().map_or(0, |address| address.port()),
    ));
    let mut due = Instant::now();
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let Ok(length @ 1..) = from.read(&mut piece).await else {
            return;
        };
        piece.truncate(length);
        let now = *weather.lock().expect("no holder panics");
        let jitter = now.jitter.mul_f64(random.below(1000) as f64 / 1000.0);
        let sending = match now.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(length as f64 / rate as f64),
        };
        // A stream keeps its order.
        due = due.max(Instant::now() + now.delay + jitter) + sending;
        if pieces.send((due, piece)).await.is_err() {
            return;
        }
    }
}

async fn give(
    mut to: OwnedWriteHalf,
    mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>,
    weather: Arc<Mutex<Weather>>,
) {
    while let Some((due, piece)) = pieces.recv().await {
        tokio::time::sleep_until(due).await;
        while weather.lock().expect("no holder panics").stalled {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_arrive_late_and_whole_and_not_at_all_while_stalled() {
        let proxies = Proxies::new(1).await.unwrap();
        let place = &proxies.places()[0];
        let member = TcpListener::bind(place.peer_listen).await.unwrap();
        proxies.set(
            0,
            Weather {
                delay: Duration::from_millis(60),
                ..Weather::default()
            },
        );
        let since = Instant::now();
        let mut outer = TcpStream::connect(place.peer).await.unwrap();
        outer.write_all(b"abc").await.unwrap();
        let (mut inner, _) = member.accept().await.unwrap();
        let mut bytes = [0; 3];
        inner.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"abc");
        assert!(
            since.elapsed() >= Duration::from_millis(60),
            "{:?}",
            since.elapsed()
        );
        proxies.set(
            0,
            Weather {
                stalled: true,
                ..Weather::default()
            },
        );
        outer.write_all(b"def").await.unwrap();
        let early =
            tokio::time::timeout(Duration::from_millis(100), inner.read_exact(&mut bytes)).await;
        assert!(early.is_err(), "a stalled connection gave {bytes:?}");
    }
}
