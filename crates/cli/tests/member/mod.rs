//! A member run by the binary under test, and commands to it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

/// One member with ports the system chose; killed at the end.
pub struct Member {
    pub process: Child,
    /// Where it serves.
    pub endpoint: String,
    _directory: tempfile::TempDir,
}

impl Member {
    pub fn start() -> Member {
        Member::start_with(&[])
    }

    pub fn start_with(more: &[&str]) -> Member {
        Member::start_in(tempfile::tempdir().expect("a directory"), more)
    }

    /// One whose data directory is `n1` in this one.
    pub fn start_in(directory: tempfile::TempDir, more: &[&str]) -> Member {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synod"));
        command
            .args([
                "serve",
                "--client-addr",
                "127.0.0.1:0",
                "--peer-addr",
                "127.0.0.1:0",
                "--log-format",
                "json",
            ])
            .args([
                "--log-segment-bytes",
                "1MiB",
                "--disk-low-water-bytes",
                "0",
                "--data-dir",
            ])
            .arg(directory.path().join("n1"))
            .args(more);
        Member::serving(command, directory)
    }

    /// Runs a command that serves and logs in JSON.
    pub fn serving(mut command: Command, directory: tempfile::TempDir) -> Member {
        let mut process = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut log = BufReader::new(process.stderr.take().expect("it was asked for")).lines();
        let endpoint = log
            .by_ref()
            .map(|line| line.expect("the log is text"))
            .find_map(|line| {
                serde_json::from_str::<serde_json::Value>(&line)
                    .ok()?
                    .get("client_addr")?
                    .as_str()
                    .map(str::to_owned)
            })
            .expect("the member says where it serves");
        // Somebody must read on, or the member would wait for it.
        std::thread::spawn(move || log.for_each(drop));
        Member {
            process,
            endpoint,
            _directory: directory,
        }
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    pub fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut process = Command::new(env!("CARGO_BIN_EXE_synod"))
            .args(arguments)
            .env("SYNOD_ENDPOINTS", &self.endpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        process
            .stdin
            .take()
            .expect("it was asked for")
            .write_all(input.as_bytes())
            .expect("it reads");
        process.wait_with_output().expect("it ends")
    }

    /// What a command that must succeed prints.
    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("the output is text")
    }

    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.text(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
