//! The terminal this process was started from, and which process group is in front of it: that one gets the signals of its keys, and it alone may read.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::io::Errno;
use rustix::process::{Pid, getpgrp, test_kill_process_group};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use std::fs::File;
use std::io::IsTerminal;

/// What a command's process group needs to use the terminal while this process waits for it.
pub(super) struct Foreground {
    /// None if there is no terminal.
    terminal: Option<File>,
    group: Pid,
    /// Whether the command uses it, as far as is known.
    used: bool,
    lent: bool,
}

impl Foreground {
    pub(super) fn of(group: Pid) -> Foreground {
        // Not stdin: that may be a file or a pipe, and the command can use the terminal all the same.
        let terminal = File::options().read(true).write(true).open("/dev/tty");
        Foreground {
            terminal: terminal.ok(),
            group,
            // Else it may be beside a script that uses the terminal itself, and gets it when it tries to.
            used: std::io::stdin().is_terminal(),
            lent: false,
        }
    }

    /// Whether the command's group was put in front by this process.
    pub(super) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Lends it to a command that is known to use it.
    pub(super) fn lend_if_used(&mut self) {
        if self.used {
            self.lend();
        }
    }

    /// Puts the command's group in front if this process's is there. Says whether the command's is then.
    pub(super) fn lend(&mut self) -> bool {
        self.used = true;
        let front = self.front();
        if front == Some(getpgrp()) {
            self.lent = self.put(self.group);
            return self.lent;
        }
        front == Some(self.group)
    }

    /// Puts this process's group in front again, unless somebody else has taken the terminal since, as a shell does with a stopped job's.
    pub(super) fn take_back(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        let ours =
            |front| front == self.group || test_kill_process_group(front) == Err(Errno::SRCH);
        if lent && self.front().is_some_and(ours) {
            self.put(getpgrp());
        }
    }

    fn front(&self) -> Option<Pid> {
        tcgetpgrp(self.terminal.as_ref()?).ok()
    }

    fn put(&self, group: Pid) -> bool {
        let Some(terminal) = &self.terminal else {
            return false;
        };
        // Whoever is not in front is stopped by SIGTTOU when it asks for this, unless it blocks it. Not for longer than that: the command would inherit it.
        let stop = SigSet::from(Signal::SIGTTOU);
        let Ok(before) = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK) else {
            return false;
        };
        let put = tcsetpgrp(terminal, group).is_ok();
        let _ = before.thread_set_mask();
        put
    }
}
