//! The locks of Redis and ZooKeeper. Their clients for Python are driven by bench/locks_peers.py, in processes of its own; because Python is slow, the
//! commands that redis-py's lock sends are also sent from here, without it. One server each, which favours them: neither waits for a majority.

use super::{Measured, Plan, Work};
use conformance::Outcome;
use conformance::process::{cpu_of, free_ports};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The script of redis-py's lock that releases it: a lock whose token is another's stays.
const RELEASE: &str = "local token = redis.call('get', KEYS[1]) if not token or token ~= ARGV[1] then return 0 end redis.call('del', KEYS[1]) return 1";
/// How long a lock of Redis lives without its client, in milliseconds.
const EXPIRY_MS: &str = "60000";
/// How long the server may take to start.
const START_MAX: Duration = Duration::from_secs(10);

type Row = (String, (Work, usize), Measured);

/// Measures what is installed, once.
pub(super) async fn measure(plan: &Plan) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    if let Some(redis) = Redis::start(&plan.common.directory()).await? {
        for &clients in plan.clients.iter().filter(|clients| **clients > 0) {
            let duration = Duration::from_secs(plan.seconds);
            let measured = redis.drive(clients, duration).await?;
            let label = "Redis, one server, without Python".to_string();
            rows.push((label, (Work::Cycles, clients), measured));
        }
    }
    std::fs::remove_dir_all(plan.common.directory()).ok();
    rows.extend(python(plan).await?);
    Ok(rows)
}

/// Runs the script and reads its table.
async fn python(plan: &Plan) -> Outcome<Vec<Row>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("locks_peers.py");
    let clients: Vec<String> = plan.clients.iter().map(ToString::to_string).collect();
    let output = tokio::process::Command::new("python3")
        .arg(script)
        .args(["--seconds", &plan.seconds.to_string()])
        .args(["--clients", &clients.join(",")])
        .args(["--contenders", &plan.contenders.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("cannot run python3: {error}"))?;
    if !output.status.success() {
        return Err(format!("bench/locks_peers.py ended with {}", output.status).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().skip(2).map(read_row).collect()
}

/// Reads a row of the script's table: lock, work, clients, per s, CPU us.
fn read_row(line: &str) -> Outcome<Row> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [label, work, clients, rate, cpu_us] = cells[..] else {
        return Err(format!("bench/locks_peers.py printed what is no row: {line}").into());
    };
    let work = [Work::Cycles, Work::HandOffs]
        .into_iter()
        .find(|known| known.label() == work)
        .ok_or_else(|| format!("bench/locks_peers.py measured what is not known: {work}"))?;
    let measured = Measured {
        rate: rate.parse()?,
        cpu_us: cpu_us.parse()?,
    };
    Ok((label.to_string(), (work, clients.parse()?), measured))
}

/// A server that syncs its log at every write. Dies with this.
struct Redis {
    server: Child,
    address: SocketAddr,
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Redis {
    /// `None` if it is not installed.
    async fn start(directory: &Path) -> Outcome<Option<Redis>> {
        std::fs::create_dir_all(directory)?;
        let port = free_ports(1)?[0];
        let started = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .arg("--dir")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let server = match started {
            Ok(server) => server,
            Err(error) => {
                eprintln!("skipped Redis: cannot run redis-server: {error}");
                return Ok(None);
            }
        };
        let redis = Redis {
            server,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        let since = Instant::now();
        while TcpStream::connect(redis.address).await.is_err() {
            if since.elapsed() > START_MAX {
                return Err(format!("redis-server does not listen after {START_MAX:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(redis))
    }

    async fn drive(&self, clients: usize, duration: Duration) -> Outcome<Measured> {
        let mut connections = Vec::new();
        for _ in 0..clients {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            connections.push(stream);
        }
        let cpu = || cpu_of(self.server.id()).unwrap_or_default();
        let (before, since) = (cpu(), Instant::now());
        let until = since + duration;
        let running: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(at, stream)| tokio::spawn(cycles(stream, at, until)))
            .collect();
        let mut cycles = 0;
        for client in running {
            cycles += client.await??;
        }
        let used = cpu().saturating_sub(before);
        Ok(Measured {
            rate: cycles as f64 / since.elapsed().as_secs_f64(),
            cpu_us: used.as_micros() as f64 / cycles.max(1) as f64,
        })
    }
}

/// Takes and gives back a lock until then, as redis-py does; gives how often.
async fn cycles(mut stream: TcpStream, at: usize, until: Instant) -> std::io::Result<u64> {
    let (name, token) = (format!("bench/{at}"), format!("{at:032x}"));
    let take = command(&["SET", &name, &token, "NX", "PX", EXPIRY_MS]);
    let give = command(&["EVAL", RELEASE, "1", &name, &token]);
    let mut done = 0;
    while Instant::now() < until {
        ask(&mut stream, &take, b"+OK\r\n").await?;
        ask(&mut stream, &give, b":1\r\n").await?;
        done += 1;
    }
    Ok(done)
}

/// A command as the Redis protocol has it.
fn command(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    text.into_bytes()
}

async fn ask(stream: &mut TcpStream, command: &[u8], expected: &[u8]) -> std::io::Result<()> {
    stream.write_all(command).await?;
    let mut answer = [0; 64];
    let mut bytes = 0;
    while !answer[..bytes].ends_with(b"\r\n") {
        match stream.read(&mut answer[bytes..]).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => bytes += read,
        }
    }
    if answer[..bytes] != *expected {
        let text = String::from_utf8_lossy(&answer[..bytes]);
        return Err(std::io::Error::other(format!("Redis answered {text}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_count_their_words_and_bytes() {
        assert_eq!(command(&["GET", "k"]), b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }

    #[test]
    fn rows_of_the_script_are_read_and_others_refused() {
        let row = "| kazoo | hand-offs of one lock | 64 | 120 | 88.5 |";
        let (label, load, measured) = read_row(row).unwrap();
        assert_eq!((label.as_str(), load.1), ("kazoo", 64));
        assert!(load.0 == Work::HandOffs);
        assert_eq!((measured.rate, measured.cpu_us), (120.0, 88.5));
        assert!(read_row("| kazoo | naps | 64 | 120 | 88.5 |").is_err());
        assert!(read_row("skipped kazoo").is_err());
    }
}
