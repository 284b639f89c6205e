//! A running command in a process group of its own, which signals reach as a whole; on a terminal it is in front, and stops and goes on together with this
//! process.

use super::foreground::Foreground;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, kill_current_process_group, kill_process,
    kill_process_group, test_kill_process_group, waitid,
};
use std::future::poll_fn;
use std::io::Result;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::{sleep, timeout};

/// What this process hands on to its command.
const HANDED_ON: [Signal; 9] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::WINCH,
    Signal::TSTP,
];
/// How often to look whether anything is left of a group that was told to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How soon a process hears of the SIGCONT that has just continued it.
const CONTINUED_WITHIN: Duration = Duration::from_millis(200);

/// Signals to this process, which do not have their usual effect from here on.
pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(super) fn new(which: &[Signal]) -> Result<Signals> {
        let each = which.iter().map(|which| {
            let kind = SignalKind::from_raw(which.as_raw());
            Ok((*which, signal(kind)?))
        });
        Ok(Signals(each.collect::<Result<_>>()?))
    }

    /// Those that [`Process`] hands on, and SIGCHLD, which says that its command has stopped.
    pub(super) fn for_command() -> Result<Signals> {
        Signals::new(&[&HANDED_ON[..], &[Signal::CHILD]].concat())
    }

    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (which, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*which);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// A running command.
pub(super) struct Process {
    child: Child,
    /// The process and its group.
    pid: Pid,
    foreground: Foreground,
    /// SIGCONT to this process.
    continued: unix::Signal,
}

impl Process {
    /// Starts it, in front of the terminal if this process is and stdin is the terminal.
    pub(super) fn start(mut command: Command) -> Result<Process> {
        let continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.expect("it was not waited for yet");
        let mut foreground = Foreground::of(pid);
        // Who uses the terminal before that is stopped, and goes on by `stop_along`.
        foreground.lend_if_used();
        Ok(Process {
            child,
            pid,
            foreground,
            continued,
        })
    }

    /// Waits until the command has ended; what it left behind may go on.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends a signal to the whole group.
    pub(super) fn send(&self, signal: Signal) {
        // It may be gone already; then there is nobody to tell.
        let _ = kill_process_group(self.pid, signal);
        // What is stopped would not hear these.
        if signal == Signal::TERM || signal == Signal::HUP {
            let _ = kill_process_group(self.pid, Signal::CONT);
        }
    }

    /// Lets it go on, in front of the terminal if this process is and it uses the terminal.
    pub(super) fn go_on(&mut self) {
        // In this order: SIGCONT would undo a Ctrl-Z that comes as soon as it is in front.
        self.send(Signal::CONT);
        self.foreground.lend_if_used();
    }

    /// If the command has stopped, stops this process as well, so that the shell sees a stopped job: a command that goes on must have somebody who renews its
    /// lock. Says whether both are to go on.
    pub(super) async fn stop_along(&mut self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let stopped = waitid(WaitId::Pid(self.pid), options);
        let signal = stopped
            .ok()
            .flatten()
            .and_then(|status| status.stopping_signal());
        let Some(signal) = signal.and_then(Signal::from_named_raw) else {
            return false;
        };
        let by_terminal = signal == Signal::TTIN || signal == Signal::TTOU;
        if by_terminal && self.foreground.lend() {
            return true;
        }
        // Somebody who has stopped just the command lets just the command go on.
        if signal == Signal::STOP && !self.foreground.is_lent() {
            return false;
        }
        // All of the group, also who does not listen to SIGTSTP.
        self.send(Signal::STOP);
        // SIGTSTP would not stop a process that has a handler for it, and SIGSTOP would also stop one that no shell can continue. The key for it has told only
        // the group in front, so the rest of the shell's job, its script for example, hears of it here.
        let whole_job = self.foreground.is_lent() || by_terminal;
        self.foreground.take_back();
        let _ = if whole_job {
            kill_current_process_group(Signal::TTOU)
        } else {
            kill_process(getpid(), Signal::TTOU)
        };
        let continued = timeout(CONTINUED_WITHIN, self.continued.recv()).await;
        if continued.is_err() && by_terminal {
            // No shell is there to put it in front, so it would wait for the terminal for ever. That is what the kernel does with such a group.
            self.send(Signal::HUP);
            return false;
        }
        true
    }

    /// Ends the whole group: by SIGTERM, and what is left of it after the grace by SIGKILL.
    pub(super) async fn end(
        &mut self,
        signals: &mut Signals,
        grace: Duration,
    ) -> Result<ExitStatus> {
        self.send(Signal::TERM);
        let over = sleep(grace);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                () = gone(&mut self.child, self.pid) => break,
                () = &mut over => {
                    self.send(Signal::KILL);
                    break;
                }
                signal = signals.next() => {
                    // It cannot wait for a shell now.
                    if signal != Signal::CHILD && signal != Signal::TSTP {
                        self.send(signal);
                    }
                }
            }
        }
        self.child.wait().await
    }

    /// Takes the terminal back from a command that has ended. What it left behind goes on.
    pub(super) fn leave(mut self, status: ExitStatus) {
        let lent = self.foreground.is_lent();
        self.foreground.take_back();
        // Ctrl-C has told only the group in front; the rest of the shell's job, its script for example, is meant as well. This process has a handler.
        for key in [Signal::INT, Signal::QUIT] {
            if lent && status.signal() == Some(key.as_raw()) {
                let _ = kill_current_process_group(key);
            }
        }
    }
}

/// Waits until no process of the group is left.
async fn gone(child: &mut Child, group: Pid) {
    // Until it was waited for it is part of the group.
    let _ = child.wait().await;
    while test_kill_process_group(group) != Err(Errno::SRCH) {
        sleep(LOOK_INTERVAL).await;
    }
}
