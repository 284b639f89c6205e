//! What takes the writes: databases and an object store as real processes, each with a reason when it is not here. They end with their handles.

use super::script::{Bucket, Store};
use super::sql::{Database, Pattern, Table};
use super::{Resource, Target};
use crate::Outcome;
use crate::faults::system::is_root;
use crate::process::{free_ports, signal};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long one may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one may take to stop.
const STOP: Duration = Duration::from_secs(10);

/// A process that ends with its handle.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // At once, but in order: a database that is killed leaves shared memory behind.
        let _ = signal(self.0.id(), Signal::QUIT);
        let since = Instant::now();
        while since.elapsed() < STOP && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Something to write to that may not be here.
type Found = Result<(Option<Server>, Vec<Resource>), String>;

fn tables(database: &Database) -> Vec<Resource> {
    let table = |pattern| {
        Resource(Target::Table(Table {
            database: database.clone(),
            pattern,
        }))
    };
    vec![table(Pattern::Row), table(Pattern::Table)]
}

/// Finds a program: among those of the path, or in these directories.
fn find(name: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    let all = path.iter().chain(more);
    all.map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// A command of a server that refuses to run as root, as its own user then.
fn as_user(user: &str, program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let (user, group) = (format!("--reuid={user}"), format!("--regid={user}"));
    command
        .args([&user, &group, "--clear-groups", "--"])
        .arg(program);
    command
}

/// A directory that the user of a server owns.
fn directory_of(user: &str, directory: &Path) -> Outcome<()> {
    std::fs::create_dir_all(directory)?;
    if is_root() {
        let name = directory.display();
        crate::faults::system::run(&format!("chown {user}:{user} {name}"))?;
    }
    Ok(())
}

fn finished(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
    }
}

fn spawned(command: &mut Command, log: &Path) -> Outcome<Server> {
    let log = std::fs::File::create(log)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(Server(child))
}

/// A database file.
///
/// # Errors
/// When its tables cannot be made.
pub async fn sqlite(directory: &Path) -> Outcome<Found> {
    if find("sqlite3", &[]).is_none() {
        return Ok(Err("there is no sqlite3 (Debian: sqlite3)".into()));
    }
    let database = Database::Sqlite(directory.join("sqlite"));
    database.prepare().await?;
    Ok(Ok((None, tables(&database))))
}

/// PostgreSQL, with its defaults.
///
/// # Errors
/// When it does not start.
pub async fn postgresql(directory: &Path) -> Outcome<Found> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter();
    let more = installed.flatten().flatten();
    let more: Vec<PathBuf> = more.map(|version| version.path().join("bin")).collect();
    let (Some(initdb), Some(postgres), Some(_)) = (
        find("initdb", &more),
        find("postgres", &more),
        find("psql", &[]),
    ) else {
        return Ok(Err("it is not installed (Debian: postgresql)".into()));
    };
    let home = directory.join("postgresql");
    directory_of("postgres", &home)?;
    let data = home.join("data");
    finished(
        as_user("postgres", &initdb)
            .args(["-A", "trust", "-U", "postgres", "-D"])
            .arg(&data),
    )?;
    let mut command = as_user("postgres", &postgres);
    command.args(["-c", "listen_addresses=", "-k"]).arg(&home);
    command.arg("-D").arg(&data);
    let server = spawned(&mut command, &directory.join("postgresql.log"))?;
    let database = Database::Postgresql(home);
    serving(&database).await?;
    database.prepare().await?;
    Ok(Ok((Some(server), tables(&database))))
}

/// MariaDB, with its defaults.
///
/// # Errors
/// When it does not start.
pub async fn mariadb(directory: &Path) -> Outcome<Found> {
    let sbin = [PathBuf::from("/usr/sbin")];
    let (Some(install), Some(mariadbd), Some(_)) = (
        find("mariadb-install-db", &[]),
        find("mariadbd", &sbin),
        find("mariadb", &[]),
    ) else {
        return Ok(Err("it is not installed (Debian: mariadb-server)".into()));
    };
    let home = directory.join("mariadb");
    directory_of("mysql", &home)?;
    let data = format!("--datadir={}", home.join("data").display());
    finished(
        as_user("mysql", &install)
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .arg(&data),
    )?;
    let socket = home.join("socket");
    let mut command = as_user("mysql", &mariadbd);
    command
        .args(["--no-defaults", "--skip-networking"])
        .arg(&data);
    command.arg(format!("--socket={}", socket.display()));
    let server = spawned(&mut command, &directory.join("mariadb.log"))?;
    let database = Database::Mariadb(socket);
    serving(&database).await?;
    database.prepare().await?;
    Ok(Ok((Some(server), tables(&database))))
}

async fn serving(database: &Database) -> Outcome<()> {
    let since = Instant::now();
    loop {
        match database.run("SELECT 1;").await? {
            Ok(_) => return Ok(()),
            Err(error) if since.elapsed() > PATIENCE => {
                return Err(format!("{} does not serve: {error}", database.name()).into());
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// An object store that speaks S3's protocol and keeps objects as files: versitygw.
///
/// # Errors
/// When it does not start.
pub async fn objects(directory: &Path) -> Outcome<Found> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.or(home).unwrap_or_default();
    let built = std::fs::read_dir(cache.join("synod-conformance")).into_iter();
    let built: Vec<PathBuf> = built.flatten().flatten().map(|at| at.path()).collect();
    let Some(program) = find("versitygw", &built) else {
        let why = "there is no versitygw; conformance/object-store.sh builds it with Go";
        return Ok(Err(why.into()));
    };
    if find("curl", &[]).is_none() {
        return Ok(Err("there is no curl (Debian: curl)".into()));
    }
    let address = SocketAddr::from(([127, 0, 0, 1], free_ports(1)?[0]));
    let bucket = Bucket {
        address,
        key: "conformance".into(),
        secret: "not-a-secret".into(),
        directory: directory.join("objects"),
    };
    let data = bucket.directory.join("data");
    std::fs::create_dir_all(&data)?;
    let mut command = Command::new(program);
    command.args(["--access", &bucket.key, "--secret", &bucket.secret]);
    command.args(["--port", &address.to_string(), "--quiet", "posix"]);
    let server = spawned(command.arg(&data), &directory.join("objects.log"))?;
    let since = Instant::now();
    let store = Store::Objects(bucket);
    while let Err(error) = store.prepare().await {
        if since.elapsed() > PATIENCE {
            return Err(format!("versitygw does not serve: {error}").into());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(Ok((Some(server), vec![Resource(Target::Store(store))])))
}

/// A directory.
///
/// # Errors
/// When it cannot be made.
pub async fn files(directory: &Path) -> Outcome<Found> {
    let store = Store::Files(directory.join("files"));
    store.prepare().await?;
    Ok(Ok((None, vec![Resource(Target::Store(store))])))
}
