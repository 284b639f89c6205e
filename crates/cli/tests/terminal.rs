//! `synod lock` on a terminal: its command is in front of it, and stops and goes on together with it.

mod member;

use member::Member;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// More than anything here needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal with a shell; closed at the end.
struct Terminal {
    keys: File,
    seen: Arc<Mutex<String>>,
    shell: Child,
}

impl Terminal {
    /// Runs a script of bash, in which `$SYNOD` is the binary under test; with job control if that is said.
    fn start(member: &Member, job_control: bool, script: &str) -> Terminal {
        let keys = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).expect("a terminal");
        grantpt(&keys).expect("it is ours");
        unlockpt(&keys).expect("it can be opened");
        let screen = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(ptsname_r(&keys).expect("it has a name"))
            .expect("it opens");
        // The shell does not get this one, or it would never close.
        let keys = File::from(keys.as_fd().try_clone_to_owned().expect("a copy"));
        let copy = || Stdio::from(screen.try_clone().expect("a copy"));
        let mut shell = Command::new("setsid");
        shell.args(["--ctty", "bash"]);
        if job_control {
            shell.arg("-m");
        }
        let shell = shell
            .args(["-c", script])
            .env("SYNOD", env!("CARGO_BIN_EXE_synod"))
            .env("SYNOD_ENDPOINTS", &member.endpoint)
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .expect("setsid runs");
        let seen = Arc::new(Mutex::new(String::new()));
        let mut reader = keys.try_clone().expect("a copy");
        let into = seen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            // It fails once nobody has the terminal open.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                into.lock().expect("nobody panics").push_str(&text);
            }
        });
        Terminal { keys, seen, shell }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it is open");
    }

    /// Waits until it shows the text.
    fn until(&self, text: &str) {
        let since = Instant::now();
        loop {
            let seen = self.seen.lock().expect("nobody panics").clone();
            if seen.contains(text) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "no {text:?} in {seen:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |file| file.len())
}

/// Whether somebody goes on writing.
fn grows(file: &Path) -> bool {
    let before = length(file);
    std::thread::sleep(Duration::from_millis(500));
    length(file) > before
}

#[test]
fn a_command_reads_from_the_terminal_though_stdin_is_a_pipe() {
    let member = Member::start();
    let mut terminal = Terminal::start(
        &member,
        false,
        "echo x | $SYNOD lock t -- sh -c 'echo ready; read a </dev/tty; echo \"got <$a>\"'; \
         echo code $?; read b; echo \"then <$b>\"",
    );
    terminal.until("ready");
    terminal.type_keys("secret\n");
    terminal.until("got <secret>");
    terminal.until("code 0");
    // The terminal is the shell's again.
    terminal.type_keys("more\n");
    terminal.until("then <more>");
    let shown = member.json(&["lock", "list", "t"]);
    assert_eq!(shown["holders"], serde_json::json!([]));
}

#[test]
fn a_lost_lock_ends_all_that_the_command_started_on_a_terminal() {
    let member = Member::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("written");
    let script = format!(
        "$SYNOD lock t --grace 1s -- sh -c 'sh -c \"echo ready; while :; do sleep 0.05; echo x >>{}; done\"; :'; echo code $?",
        file.display()
    );
    let terminal = Terminal::start(&member, false, &script);
    terminal.until("ready");
    member.text(&["lock", "release", "t", "--force", "--reason", "test"]);
    terminal.until("code 143");
    assert!(!grows(&file));
}

#[test]
fn a_stopped_command_stops_synod_and_goes_on_only_while_the_lock_is_held() {
    let member = Member::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("written");
    // It starts nothing while it writes: a shell that is stopped between vfork and exec is not seen to be.
    let writes = format!(
        "exec 3< <(sleep 1000); echo ready; while :; do read -t 0.05 -u 3; echo x >>{}; done",
        file.display()
    );
    let holds = |ttl: &str, stdin: &str| {
        format!(
            "$SYNOD lock t --ttl {ttl} -- bash -c '{writes}' <{stdin}; echo stopped; read a; fg; echo code $?"
        )
    };
    let mut terminal = Terminal::start(&member, true, &holds("60s", "/dev/tty"));
    terminal.until("ready");
    terminal.type_keys("\x1a");
    terminal.until("stopped");
    assert!(!grows(&file));
    let before = length(&file);
    terminal.type_keys("\n");
    let since = Instant::now();
    while length(&file) == before {
        assert!(since.elapsed() < PATIENCE, "it does not go on");
        std::thread::sleep(Duration::from_millis(20));
    }
    terminal.type_keys("\x03");
    terminal.until("code 130");

    let mut terminal = Terminal::start(&member, true, &holds("1s", "/dev/null"));
    terminal.until("ready");
    terminal.type_keys("\x1a");
    terminal.until("stopped");
    // Others have it meanwhile.
    member.text(&["lock", "t", "--wait", "20s", "--", "true"]);
    let before = length(&file);
    terminal.type_keys("\n");
    terminal.until("code 143");
    assert_eq!(length(&file), before);
}
