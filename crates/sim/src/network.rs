//! The network between members: latency, loss, duplication, reordering, and links that are cut one way or both.

use crate::clock::Micros;
use crate::rng::Rng;

/// How the network behaves at the moment, apart from cut links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weather {
    /// Shortest way of a message.
    pub latency_min: Micros,
    /// Mean of what comes on top.
    pub latency_extra: Micros,
    /// Messages lost, of a thousand.
    pub loss: u32,
    /// Messages that arrive twice, of a thousand.
    pub duplicates: u32,
    /// Messages that may overtake others, of a thousand.
    pub reordered: u32,
    /// Messages that linger for seconds and arrive in another term, of a thousand.
    pub stragglers: u32,
    /// Messages that go through their wire form, of a thousand; the rest are handed over as they are, to save time.
    pub encoded: u32,
}

impl Weather {
    /// A quiet local network.
    pub const CALM: Weather = Weather {
        latency_min: 80,
        latency_extra: 120,
        loss: 0,
        duplicates: 0,
        reordered: 0,
        stragglers: 0,
        encoded: 250,
    };
}

/// The links of a cluster, from each member to each other.
#[derive(Debug)]
pub struct Network {
    members: usize,
    cut: Vec<bool>,
    /// Latest arrival planned per link, to keep the order of messages that do not overtake.
    arrival: Vec<Micros>,
    /// What the distance adds to the way of a message, per link.
    distance: Vec<Micros>,
    weather: Weather,
    rng: Rng,
}

/// The arrivals of one message: none if it is lost, two if it is duplicated.
pub type Arrivals = [Option<Micros>; 2];

impl Network {
    /// A whole network of calm weather.
    pub fn new(members: usize, rng: Rng) -> Network {
        Network {
            members,
            cut: vec![false; members * members],
            arrival: vec![0; members * members],
            distance: vec![0; members * members],
            weather: Weather::CALM,
            rng,
        }
    }

    /// Moves the members far apart: each way of each link takes between 20 and 150 milliseconds.
    pub fn spread(&mut self) {
        for distance in &mut self.distance {
            *distance = self.rng.between(20_000, 150_000);
        }
    }

    /// The longest way.
    pub fn distance_max(&self) -> Micros {
        self.distance.iter().copied().max().unwrap_or(0)
    }

    /// Changes the weather.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// The weather.
    pub fn weather(&self) -> Weather {
        self.weather
    }

    /// Cuts or mends the link from one member to another, this way only.
    pub fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        self.cut[from * self.members + to] = cut;
    }

    /// Mends all links.
    pub fn heal(&mut self) {
        self.cut.fill(false);
    }

    /// Messages from one member to another are cut off.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[from * self.members + to]
    }

    /// The two members hear each other.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    /// Decides when a message sent now arrives.
    pub fn plan(&mut self, now: Micros, from: usize, to: usize) -> Arrivals {
        if self.is_cut(from, to) || self.rng.chance(self.weather.loss) {
            return [None, None];
        }
        let first = self.arrival(now, from, to);
        let second = self
            .rng
            .chance(self.weather.duplicates)
            .then(|| self.arrival(now, from, to));
        [Some(first), second]
    }

    fn arrival(&mut self, now: Micros, from: usize, to: usize) -> Micros {
        let weather = self.weather;
        let link = from * self.members + to;
        let mut at = now
            + self.distance[link]
            + weather.latency_min
            + self.rng.wait(weather.latency_extra.max(1));
        if self.rng.chance(weather.stragglers) {
            return at + self.rng.below(8_000_000);
        }
        if self.rng.chance(weather.reordered) {
            return at + self.rng.below(20_000);
        }
        at = at.max(self.arrival[link] + 1);
        self.arrival[link] = at;
        at
    }

    /// This message goes through its wire form.
    pub fn draws_encoding(&mut self) -> bool {
        self.rng.chance(self.weather.encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calm_network_keeps_order_and_loses_nothing() {
        let mut network = Network::new(3, Rng::new(1));
        let mut last = 0;
        for now in 0..1000 {
            let [first, second] = network.plan(now * 10, 0, 1);
            assert!(first.unwrap() > last && second.is_none());
            last = first.unwrap();
        }
    }

    #[test]
    fn a_cut_is_one_way() {
        let mut network = Network::new(3, Rng::new(1));
        network.set_cut(0, 1, true);
        assert_eq!(network.plan(0, 0, 1), [None, None]);
        assert!(network.plan(0, 1, 0)[0].is_some() && network.plan(0, 0, 2)[0].is_some());
        assert!(!network.connected(0, 1) && network.connected(0, 2));
        network.heal();
        assert!(network.plan(0, 0, 1)[0].is_some());
    }

    #[test]
    fn bad_weather_loses_doubles_and_reorders() {
        let mut network = Network::new(2, Rng::new(1));
        network.set_weather(Weather {
            loss: 100,
            duplicates: 100,
            reordered: 100,
            stragglers: 10,
            ..Weather::CALM
        });
        let (mut lost, mut doubled, mut overtaken, mut last) = (0, 0, 0, 0);
        for now in 0..2000 {
            match network.plan(now * 100, 0, 1) {
                [None, _] => lost += 1,
                [Some(first), second] => {
                    doubled += usize::from(second.is_some());
                    overtaken += usize::from(first < last);
                    last = first;
                }
            }
        }
        assert!(
            lost > 100 && doubled > 100 && overtaken > 100,
            "{lost} lost, {doubled} doubled, {overtaken} overtaken"
        );
    }
}
