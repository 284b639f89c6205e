//! Arrows: messages between members, and what clients ask and are told.

use super::{Drawing, HALF, escape};
use crate::clock::Micros;
use crate::timeline::{Kind, Moment, What, name};
use std::fmt::Write;

/// Characters of what clients say.
const SAID_CHARS: usize = 36;

impl Drawing {
    pub(super) fn arrow(&mut self, moment: &Moment) {
        let Some(member) = moment.member else { return };
        match &moment.what {
            What::Sends {
                to,
                arrivals,
                kind,
                label,
                text,
            } => {
                let title = format!("{} to {}: {text}", name(member), name(*to));
                for (nth, arrival) in arrivals.iter().enumerate() {
                    match arrival {
                        Some(at) => {
                            self.message(moment.at, *at, member, *to, *kind, (label, &title))
                        }
                        None if nth == 0 => {
                            self.lost(moment.at, member, *to, *kind, (label, &title))
                        }
                        None => {}
                    }
                }
            }
            What::Asked { .. } => self.client(moment.at, member, ("client", "client asks"), true),
            What::Answers { ok, text, .. } => {
                let class = if *ok { "client" } else { "no" };
                self.client(moment.at, member, (class, text), false);
            }
            _ => {}
        }
    }

    /// An arrow between a client and a member.
    fn client(&mut self, at: Micros, member: usize, (class, title): (&str, &str), asks: bool) {
        let Some(x) = self.layout.client_x() else {
            return;
        };
        let y = self.axis.y(at);
        let (client, member) = ((x, y), (self.x(member) + HALF, y));
        match asks {
            true => self.line(client, member, class, title, false),
            false => self.line(member, client, class, title, false),
        }
    }

    /// What a client asks or is told, if this is that.
    pub(super) fn said(&mut self, moment: &Moment, y: f64) -> bool {
        let (text, class) = match &moment.what {
            What::Asked { text, .. } => (text, "said over"),
            What::Answers { ok: true, text, .. } => (text, "said over"),
            What::Answers { text, .. } => (text, "said saidno over"),
            _ => return false,
        };
        let Some(x) = self.layout.client_x() else {
            return false;
        };
        let short: String = text.chars().take(SAID_CHARS).collect();
        let (x, anchor) = match self.layout.across {
            true => (x - 12.0, " style=\"text-anchor:end\""),
            false => (x + 8.0, ""),
        };
        let _ = write!(
            self.out,
            "<text class=\"{class}\"{anchor} x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escape(&short)
        );
        true
    }

    fn message(
        &mut self,
        sent: Micros,
        at: Micros,
        from: usize,
        to: usize,
        kind: Kind,
        words: (&str, &str),
    ) {
        let (label, title) = words;
        let arrives = self.lanes.state(to, at).alive() && !self.lanes.is_cut(from, to, at);
        let (start, end) = self.ends(
            from,
            to,
            self.axis.y(sent),
            self.axis.y(at.min(self.window.1)),
        );
        let title = if arrives {
            title.to_owned()
        } else {
            format!("{title} (nobody is there to hear it)")
        };
        self.line(start, end, class_of(kind), &title, !arrives);
        let quiet = matches!(kind, Kind::Heartbeat | Kind::HeartbeatReply | Kind::Request);
        if self.labelled && self.layout.has_labels() && !quiet {
            // In the gap where arrows of several members are apart: of answers the first one, of questions the last.
            let half_gap = 0.5 * self.layout.lane / (end.0 - start.0).abs().max(self.layout.lane);
            let answers = matches!(kind, Kind::Vote | Kind::AppendReply);
            let part = if answers { half_gap } else { 1.0 - half_gap };
            let (x, y) = (
                start.0 + (end.0 - start.0) * part,
                start.1 + (end.1 - start.1) * part,
            );
            let _ = write!(
                self.out,
                "<text class=\"label\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                y - 2.0,
                escape(label)
            );
        }
    }

    fn lost(&mut self, sent: Micros, from: usize, to: usize, kind: Kind, words: (&str, &str)) {
        let y = self.axis.y(sent);
        let (start, end) = self.ends(from, to, y, y);
        let way = (end.0 - start.0).signum() * (self.layout.lane * 0.42);
        let title = format!("{} (lost)", words.1);
        self.line(
            start,
            (start.0 + way, y + 6.0),
            &format!("{} lost", class_of(kind)),
            &title,
            true,
        );
    }

    fn ends(&self, from: usize, to: usize, y: f64, y_end: f64) -> ((f64, f64), (f64, f64)) {
        let side = if to > from { HALF } else { -HALF };
        ((self.x(from) + side, y), (self.x(to) - side, y_end))
    }

    fn line(&mut self, start: (f64, f64), end: (f64, f64), class: &str, title: &str, fails: bool) {
        let (dx, dy) = (end.0 - start.0, end.1 - start.1);
        let length = (dx * dx + dy * dy).sqrt().max(1.0);
        let (ux, uy) = (dx / length, dy / length);
        let _ = write!(
            self.out,
            "<g><title>{}</title><line class=\"m {class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            escape(title),
            start.0,
            start.1,
            end.0 - ux * 5.0,
            end.1 - uy * 5.0
        );
        if fails {
            let (x, y) = (end.0 - ux * 5.0, end.1 - uy * 5.0);
            let _ = write!(
                self.out,
                "<path class=\"cross\" d=\"M{:.1} {:.1}l8 8m0-8l-8 8\"/></g>",
                x - 4.0,
                y - 4.0
            );
        } else {
            let (bx, by) = (end.0 - ux * 7.5, end.1 - uy * 7.5);
            let head = class.split(' ').next().unwrap_or(class);
            let _ = write!(
                self.out,
                "<path class=\"head {head}-h\" d=\"M{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}z\"/></g>",
                end.0,
                end.1,
                bx - uy * 3.6,
                by + ux * 3.6,
                bx + uy * 3.6,
                by - ux * 3.6
            );
        }
    }
}

fn class_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Election => "election",
        Kind::Vote => "vote",
        Kind::Append => "append",
        Kind::AppendReply => "reply",
        Kind::Snapshot => "snapshot",
        Kind::Request => "request",
        Kind::Heartbeat | Kind::HeartbeatReply => "heartbeat",
    }
}
