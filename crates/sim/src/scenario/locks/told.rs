//! A story about a lock of others, in words and as a picture.

use super::scene::{Found, Millis, Played, Seen, State};
use crate::picture::{escape, page, style};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Width of the times on the left.
const LEFT: f64 = 70.0;

/// Lanes of a picture, and things that happen in it, at most.
const LANES_MAX: usize = 9;
const SEEN_MAX: usize = 400;

fn clock(at: Millis) -> String {
    format!("{:>3}.{:03} s", at / 1000, at % 1000)
}

/// A line of the story; nothing for what only the picture shows.
fn sentence(played: &Played, seen: &Seen) -> String {
    let name = |lane: &usize| &played.lanes[*lane];
    match seen {
        Seen::Sent {
            from,
            to,
            arrives,
            text,
        } => {
            let lost = if arrives.is_none() { " (lost)" } else { "" };
            format!("     {} → {}: {text}{lost}", name(from), name(to))
        }
        Seen::Holds(client) => format!(" {} has the lock, as it believes", name(client)),
        Seen::Leaves(client) => format!(" {} is done", name(client)),
        Seen::State(lane, State::Runs) => format!(" ** {} goes on", name(lane)),
        Seen::State(lane, State::Stopped) => format!(" ** {} is stopped", name(lane)),
        Seen::State(lane, State::Dead) => format!(" ** {} dies", name(lane)),
        Seen::Said(Some(lane), text) => format!(" ** {} {text}", name(lane)),
        Seen::Said(None, text) => format!(" {text}"),
    }
}

/// What is news, and how much is not: trying again is none, nor is a message that differs from an earlier one in numbers only.
fn news(played: &Played) -> (Vec<&(Millis, Seen)>, usize) {
    let mut told = BTreeSet::new();
    let is_news = |(_, seen): &&(Millis, Seen)| match seen {
        Seen::Sent { from, to, text, .. } => {
            let words: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
            told.insert((*from, *to, words))
        }
        _ => true,
    };
    let news: Vec<_> = played.seen.iter().filter(is_news).collect();
    let again = played.seen.len() - news.len();
    (news, again)
}

/// The story, line by line.
pub fn tell(played: &Played, tell: &mut dyn FnMut(&str)) {
    let (news, again) = news(played);
    for (at, seen) in news {
        tell(&format!("{}{}", clock(*at), sentence(played, seen)));
    }
    if again > 0 {
        tell(&format!(
            "          ({again} more messages say the same as earlier ones)"
        ));
    }
}

/// What was found out, in sentences.
pub fn findings(found: &Found) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |text: String| lines.push(text);
    match (found.at_once, found.out_of_order) {
        (true, _) => say(
            "two clients were at work at the same time, and the resource took the writes of both"
                .into(),
        ),
        (_, true) => {
            say("the resource took a write of an earlier holder after one of a later holder".into())
        }
        _ => say("all writes were taken in the order in which the lock was given".into()),
    }
    if found.refused > 0 {
        let (all, rightful) = (found.refused, found.refused_rightful);
        say(format!(
            "the resource refused {all} writes, {rightful} of them of whoever had the lock"
        ));
    }
    if found.stuck.is_empty() {
        let (times, tries) = (found.entered, found.tries);
        let first = clock(found.first_at);
        let first = first.trim_start();
        say(format!(
            "the lock was got {times} times, in {tries} tries, at first after {first}"
        ));
    } else {
        let who = found.stuck.join(", ");
        say(format!("{who} wait for ever for a lock that nobody has"));
    }
    if found.woken > 1 {
        say(format!(
            "one release woke {} clients, of which one got the lock",
            found.woken
        ));
    }
    lines
}

/// Where things are.
#[derive(Clone, Copy)]
struct Place {
    /// Width of a lane.
    lane: f64,
    /// Height of a line.
    line: f64,
    /// What is said stands across the lanes, not beside them.
    across: bool,
    width: f64,
}

impl Place {
    /// For a desktop.
    fn wide(lanes: usize) -> Place {
        let lane = if lanes > 6 { 94.0 } else { 120.0 };
        Place {
            lane,
            line: 22.0,
            across: false,
            width: LEFT + lane * lanes as f64 + 420.0,
        }
    }

    /// For a phone.
    fn narrow(lanes: usize) -> Place {
        let width = 368.0;
        Place {
            lane: (width - LEFT) / lanes as f64,
            line: 26.0,
            across: true,
            width,
        }
    }
}

/// What is seen, as far as it has room.
struct Drawing<'a> {
    played: &'a Played,
    place: Place,
    lanes: usize,
    rows: Vec<(f64, &'a (Millis, Seen))>,
    out: String,
}

impl Drawing<'_> {
    fn x(&self, lane: usize) -> f64 {
        LEFT + self.place.lane * (lane.min(self.lanes - 1) as f64 + 0.5)
    }

    /// Where a time is: between what happened before it and after it.
    fn y(&self, at: Millis) -> f64 {
        let after = self.rows.partition_point(|(_, (time, _))| *time < at);
        let bottom = self.rows.last().map_or(0.0, |(y, _)| *y) + self.place.line;
        self.rows.get(after).map_or(bottom, |(y, _)| *y)
    }

    fn names(&mut self) {
        for lane in 0..self.lanes {
            let last = self.played.lanes.len() - 1;
            let lane_name = if lane + 1 == self.lanes { last } else { lane };
            // Names of thin lanes stand at two heights.
            let thin = self.place.lane < 55.0;
            let low = thin && lane % 2 == 1;
            let _ = write!(
                self.out,
                "<text class=\"name\" style=\"font-size:{}px\" x=\"{:.0}\" y=\"{}\">{}</text>",
                if thin { 11 } else { 15 },
                self.x(lane),
                if low { 32 } else { 16 },
                escape(&self.played.lanes[lane_name])
            );
        }
    }

    /// The band of a lane while something is so.
    fn bands(&mut self) {
        let bottom = self.y(Millis::MAX);
        for lane in 0..self.lanes {
            let x = self.x(lane);
            let _ = write!(
                self.out,
                "<line class=\"rail\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"38\" y2=\"{bottom:.1}\"/>"
            );
        }
        let rows = self.rows.clone();
        let ends = |lane: usize, from: f64, over: fn(&Seen, usize) -> bool| {
            let mut later = rows.iter().filter(|(y, _)| *y > from);
            later
                .find(|(_, (_, seen))| over(seen, lane))
                .map_or(bottom, |(y, _)| *y)
        };
        for (y, (_, seen)) in &rows {
            let (lane, class, end) = match seen {
                Seen::Holds(lane) => {
                    let over = |seen: &Seen, lane| {
                        *seen == Seen::Leaves(lane) || *seen == Seen::State(lane, State::Dead)
                    };
                    (
                        *lane,
                        format!("leads t{}", lane % style::TERMS),
                        ends(*lane, *y, over),
                    )
                }
                Seen::State(lane, State::Stopped | State::Dead) => {
                    let over = |seen: &Seen, lane| *seen == Seen::State(lane, State::Runs);
                    (*lane, "paused".into(), ends(*lane, *y, over))
                }
                _ => continue,
            };
            let (x, height) = (self.x(lane) - 7.0, end - y);
            let _ = write!(
                self.out,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"14\" height=\"{height:.1}\" rx=\"3\"/>"
            );
        }
    }

    fn happenings(&mut self) {
        let mut last = None;
        for (y, (at, seen)) in self.rows.clone() {
            if last != Some(*at) {
                let time = clock(*at);
                let _ = write!(
                    self.out,
                    "<text class=\"time\" x=\"60\" y=\"{:.1}\">{time}</text>",
                    y + 4.0
                );
                last = Some(*at);
            }
            match seen {
                Seen::Sent {
                    from,
                    to,
                    arrives,
                    text,
                } => self.arrow(*from, *to, (y, *arrives), text),
                other => {
                    let text = sentence(self.played, other);
                    let text = text.trim_start_matches([' ', '*']);
                    let class = match other {
                        Seen::Holds(_) | Seen::Leaves(_) => "fact",
                        Seen::Said(Some(lane), _) if *lane + 1 == self.played.lanes.len() => {
                            "badtext"
                        }
                        _ => "fault",
                    };
                    let x = match self.place.across {
                        true => LEFT,
                        false => LEFT + self.place.lane * self.lanes as f64 + 12.0,
                    };
                    let _ = write!(
                        self.out,
                        "<text class=\"{class} over\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                        y + 4.0,
                        escape(text)
                    );
                }
            }
        }
    }

    fn arrow(&mut self, from: usize, to: usize, (y, arrives): (f64, Option<Millis>), text: &str) {
        let end_y = arrives.map_or(y + self.place.line / 2.0, |at| self.y(at).max(y + 6.0));
        let way = (self.x(to) - self.x(from)).signum();
        let (start, end) = (self.x(from) + way * 8.0, self.x(to) - way * 8.0);
        let end = if arrives.is_some() {
            end
        } else {
            (start + end) / 2.0
        };
        let class = if arrives.is_some() {
            "append"
        } else {
            "append lost"
        };
        let _ = write!(
            self.out,
            "<line class=\"m {class}\" x1=\"{start:.1}\" y1=\"{y:.1}\" x2=\"{end:.1}\" y2=\"{end_y:.1}\"/>"
        );
        if arrives.is_some() {
            let (bx, by) = (end - way * 7.0, end_y - 3.5);
            let _ = write!(
                self.out,
                "<path class=\"head append-h\" d=\"M{end:.1} {end_y:.1}L{bx:.1} {by:.1}L{bx:.1} {:.1}z\"/>",
                by + 7.0
            );
        } else {
            let _ = write!(
                self.out,
                "<path class=\"cross\" d=\"M{:.1} {:.1}l8 8m0-8l-8 8\"/>",
                end - 4.0,
                end_y - 4.0
            );
        }
        let middle = start + way * self.place.lane * 0.4;
        let half = text.chars().count() as f64 * 2.6;
        let middle = middle.clamp(LEFT + half, (self.place.width - half).max(LEFT + half));
        let _ = write!(
            self.out,
            "<text class=\"label\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>",
            y - 3.0,
            escape(text)
        );
    }
}

/// The picture alone.
pub fn svg(played: &Played) -> String {
    let (drawn, width, height) = draw(played, Place::wide);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">\
         <style>{}</style><rect class=\"bg\" width=\"100%\" height=\"100%\"/>{drawn}</svg>\n",
        style::sheet(),
    )
}

/// A page that shows it, on a desktop and on a phone.
pub fn show(played: &Played, title: &str, notes: &[String]) -> String {
    let both = [
        ("wide", draw(played, Place::wide)),
        ("narrow", draw(played, Place::narrow)),
    ];
    let body = both.map(|(class, (drawn, width, height))| {
        format!(
            "<div class=\"{class}\"><svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">{drawn}</svg></div>"
        )
    });
    page(title, notes, &body.concat())
}

/// What is drawn, its width and its height.
fn draw(played: &Played, place: fn(usize) -> Place) -> (String, f64, f64) {
    let lanes = played.lanes.len().min(LANES_MAX);
    let place = place(lanes);
    let rows = news(played).0.into_iter().take(SEEN_MAX).enumerate();
    let rows: Vec<_> = rows
        .map(|(n, seen)| (54.0 + n as f64 * place.line, seen))
        .collect();
    let mut drawing = Drawing {
        played,
        place,
        lanes,
        rows,
        out: String::new(),
    };
    let height = drawing.y(Millis::MAX) + place.line;
    drawing.names();
    drawing.bands();
    drawing.happenings();
    (drawing.out, place.width, height)
}
