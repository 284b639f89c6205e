//! Files and objects, through the scripts of the page.

use super::page::block;
use super::{Mark, PATIENCE, Written};
use crate::Outcome;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// What is written by a script.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Store {
    /// Files of a directory.
    Files(PathBuf),
    /// Objects of a store.
    Objects(Bucket),
}

/// A bucket of an object store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bucket {
    /// Where the store serves.
    pub address: SocketAddr,
    /// Who asks: key and secret.
    pub key: String,
    pub secret: String,
    /// Where scripts lie.
    pub directory: PathBuf,
}

const BUCKET: &str = "conformance";
const REGION: &str = "us-east-1";

impl Bucket {
    /// A request by curl, with a body or to read: the status and the body of the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn request(&self, path: &str, body: Option<&str>) -> Outcome<(u16, String)> {
        let put = ["-X", "PUT", "--data-binary"].into_iter().chain(body);
        let output = Command::new("curl")
            .args(["-sS", "-m", "10", "-w", "\n%{http_code}"])
            .args(["--user", &format!("{}:{}", self.key, self.secret)])
            .args(["--aws-sigv4", &format!("aws:amz:{REGION}:s3")])
            .args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
            .args(put.filter(|_| body.is_some()))
            .arg(format!("http://{}/{BUCKET}{path}", self.address))
            .stdin(Stdio::null())
            .output()
            .await?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            return Err(format!("curl: {}", error.trim()).into());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').ok_or("curl says no status")?;
        Ok((status.parse()?, body.to_owned()))
    }
}

/// A script that waits before it writes.
pub struct HalfWay {
    child: Child,
    go: PathBuf,
}

impl HalfWay {
    /// Lets it write.
    ///
    /// # Errors
    /// When it fails for another reason than its token.
    pub async fn go_on(self) -> Outcome<Written> {
        std::fs::write(&self.go, "")?;
        judged(&self.child.wait_with_output().await?)
    }
}

/// What a script of the page has done.
fn judged(output: &Output) -> Outcome<Written> {
    let error = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(Written::Applied),
        Some(1) if error.contains("is stale") => Ok(Written::Stale),
        code => Err(format!("exit code {code:?}: {}", error.trim()).into()),
    }
}

/// Puts a script of the page where it can be run.
fn script(directory: &Path, name: &str) -> Outcome<PathBuf> {
    let path = directory.join(name);
    if !path.exists() {
        // Written aside: another process may run it at the same moment.
        let aside = directory.join(format!("{name}.{}", std::process::id()));
        std::fs::write(&aside, block(name))?;
        std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&aside, &path)?;
    }
    Ok(path)
}

impl Store {
    /// What a reader and a log call it.
    pub fn name(&self) -> &'static str {
        match self {
            Store::Files(_) => "file",
            Store::Objects(_) => "object",
        }
    }

    /// Makes what they live in.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn prepare(&self) -> Outcome<()> {
        match self {
            Store::Files(directory) => {
                std::fs::create_dir_all(directory)?;
                script(directory, "fenced-file.sh").map(drop)
            }
            Store::Objects(bucket) => {
                script(&bucket.directory, "fenced-object.sh")?;
                match bucket.request("", Some("")).await? {
                    (200, _) => Ok(()),
                    (status, body) => Err(format!("making a bucket: {status} {body}").into()),
                }
            }
        }
    }

    /// The script with what it writes to, and its environment; what the value is made by follows.
    fn command(&self, token: u64, key: u64) -> Outcome<Vec<String>> {
        let mut words = vec!["env".to_owned(), format!("SYNOD_TOKEN={token}")];
        let (script, target) = match self {
            Store::Files(directory) => (
                script(directory, "fenced-file.sh")?,
                directory.join(key.to_string()).display().to_string(),
            ),
            Store::Objects(bucket) => {
                words.push(format!("S3_KEY={}", bucket.key));
                words.push(format!("S3_SECRET={}", bucket.secret));
                words.push(format!("S3_REGION={REGION}"));
                let script = script(&bucket.directory, "fenced-object.sh")?;
                (script, format!("http://{}/{BUCKET}/{key}", bucket.address))
            }
        };
        words.extend([script.display().to_string(), target]);
        Ok(words)
    }

    async fn run(&self, token: u64, key: u64, next: &[&str]) -> Outcome<Written> {
        let words = self.command(token, key)?;
        let output = Command::new(&words[0])
            .args(&words[1..])
            .args(next)
            .stdin(Stdio::null())
            .output()
            .await?;
        judged(&output)
    }

    /// Writes as the page says.
    pub async fn write(&self, mark: &Mark, key: u64, value: &str) -> Outcome<Written> {
        self.run(mark.token, key, &["echo", value]).await
    }

    /// Raises the mark only.
    pub async fn raise(&self, mark: &Mark, key: u64) -> Outcome<Written> {
        self.run(mark.token, key, &["cat"]).await
    }

    /// A write that has looked at the mark and not written yet.
    pub async fn half_way(&self, token: u64, key: u64, value: &str) -> Outcome<HalfWay> {
        let directory = match self {
            Store::Files(directory) => directory,
            Store::Objects(bucket) => &bucket.directory,
        };
        let (looked, go) = (directory.join("looked"), directory.join("go"));
        let wait = format!(
            "touch {}; until [ -e {} ]; do sleep 0.05; done; echo {value}",
            looked.display(),
            go.display()
        );
        let words = self.command(token, key)?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(["sh", "-c", &wait])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let since = Instant::now();
        while !looked.exists() {
            if since.elapsed() > PATIENCE {
                return Err(format!("{} is not made", looked.display()).into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(HalfWay { child, go })
    }

    /// The mark and the value.
    pub async fn read(&self, key: u64) -> Outcome<(u64, String)> {
        let (mark, value) = match self {
            Store::Files(directory) => {
                let file = directory.join(key.to_string());
                // The mark is raised before the value is written.
                let value = read(&file)?;
                (read(&file.with_extension("fence"))?, value)
            }
            Store::Objects(bucket) => {
                let (status, body) = bucket.request(&format!("/{key}"), None).await?;
                match (status, body.split_once('\n')) {
                    (404, _) => (String::new(), String::new()),
                    (200, Some((mark, value))) => (mark.to_owned(), value.to_owned()),
                    _ => return Err(format!("reading an object: {status} {body}").into()),
                }
            }
        };
        let mark = mark.trim().parse().unwrap_or(0);
        Ok((mark, value.trim().to_owned()))
    }

    /// What the page warns of.
    pub async fn write_unfenced(&self, key: u64, value: &str) -> Outcome<()> {
        match self {
            Store::Files(directory) => Ok(std::fs::write(directory.join(key.to_string()), value)?),
            Store::Objects(bucket) => {
                let (path, body) = (format!("/{key}"), format!("0\n{value}\n"));
                match bucket.request(&path, Some(&body)).await? {
                    (200, _) => Ok(()),
                    (status, body) => Err(format!("writing an object: {status} {body}").into()),
                }
            }
        }
    }
}

/// A file's text; nothing if there is none.
fn read(path: &Path) -> Outcome<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => Ok(read?),
    }
}
