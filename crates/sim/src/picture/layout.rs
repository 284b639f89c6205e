//! Where the columns of a picture are: for a desktop, for a phone, and for the overview.

/// Width of what clients say beside the lanes, and of the notes.
const SAID_WIDTH: f64 = 205.0;
const NOTES_WIDTH: f64 = 450.0;

/// Width of all columns of a picture for a phone.
const NARROW: f64 = 368.0;

/// Lanes of an overview are so wide and no wider.
const OVERVIEW_LANE: f64 = 26.0;

/// Half the width of a band.
pub const HALF: f64 = 9.0;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Width of the times on the left.
    pub left: f64,
    /// Width of a lane.
    pub lane: f64,
    /// Texts stand across the lanes, at a height of their own; otherwise beside them.
    pub across: bool,
    /// Characters of a line of a note.
    pub note_chars: usize,
    members: usize,
    clients: bool,
}

impl Layout {
    /// Texts beside the lanes.
    pub fn wide(members: usize, clients: bool) -> Layout {
        let lane = match members {
            0..=3 => 170.0,
            4..=5 => 118.0,
            6..=7 => 86.0,
            _ => 64.0,
        };
        Layout {
            left: 78.0,
            lane,
            across: false,
            note_chars: 56,
            members,
            clients,
        }
    }

    /// Texts across the lanes.
    pub fn narrow(members: usize, clients: bool) -> Layout {
        let left = 54.0;
        let right = if clients { 16.0 } else { 4.0 };
        Layout {
            left,
            lane: (NARROW - left - right) / members.max(1) as f64,
            across: true,
            note_chars: 42,
            members,
            clients,
        }
    }

    /// Thin lanes, and room for one line beside them.
    pub fn overview(members: usize) -> Layout {
        Layout {
            left: 54.0,
            lane: OVERVIEW_LANE,
            across: false,
            note_chars: 110,
            members,
            clients: false,
        }
    }

    /// The middle of a member's lane.
    pub fn x(&self, member: usize) -> f64 {
        self.left + self.lane * (member as f64 + 0.5)
    }

    /// Where the lanes end.
    pub fn lanes_end(&self) -> f64 {
        self.left + self.lane * self.members as f64
    }

    /// Where clients are, if there are any.
    pub fn client_x(&self) -> Option<f64> {
        let gap = if self.across { 8.0 } else { 24.0 };
        self.clients.then(|| self.lanes_end() + gap)
    }

    /// Where notes begin.
    pub fn notes_x(&self) -> f64 {
        match (self.across, self.clients) {
            (true, _) => self.left + 4.0,
            (false, true) => self.lanes_end() + 40.0 + SAID_WIDTH,
            (false, false) => self.lanes_end() + 10.0,
        }
    }

    /// The whole width.
    pub fn width(&self) -> f64 {
        match self.across {
            true => NARROW,
            false => self.notes_x() + NOTES_WIDTH,
        }
    }

    /// Messages have room for their words.
    pub fn has_labels(&self) -> bool {
        self.lane >= 60.0
    }
}
