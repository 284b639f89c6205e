//! `synod cert`: an authority of one's own, and certificates of members and clients.

use crate::output::{Failed, line};
use clap::{Args, Subcommand};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tls::{Authority, Issued, Usage};

/// How long an authority and what it makes are valid, unless somebody says otherwise.
const AUTHORITY_DAYS: u32 = 3650;
const DAYS: u32 = 365;
/// The names of a member on its own machine.
const OWN_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const EXAMPLES: &str = "\
Examples:
  synod cert ca
  synod cert server --name n1 --host 10.0.0.1,db1.example
  synod cert client --name alice
  synod cert revoke alice

All files lie in one directory: ca.pem, ca-key.pem, then NAME.pem and NAME-key.pem. Keys are readable by their owner only; keep ca-key.pem where no member runs.";

#[derive(Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct CertArgs {
    /// Where the files lie
    #[arg(long, value_name = "DIR", default_value = "./synod-certs")]
    dir: PathBuf,
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Subcommand)]
enum CertCommand {
    /// Make an authority
    Ca {
        /// Its name
        #[arg(long, default_value = "Synod development authority")]
        name: String,
        /// How long it is valid
        #[arg(long, default_value_t = AUTHORITY_DAYS, value_name = "DAYS")]
        days: u32,
    },
    /// Make a certificate for a member: for its clients and for the other members
    Server {
        /// The member's name, and that of the files
        #[arg(long, default_value = "server")]
        name: String,
        /// Hosts and addresses it is reached at; this machine's own are always among them
        #[arg(long = "host", value_name = "HOST,...", value_delimiter = ',')]
        hosts: Vec<String>,
        #[command(flatten)]
        made: Made,
    },
    /// Make a certificate for a client
    Client {
        /// The client's name, which is its user name too, and that of the files
        #[arg(long)]
        name: String,
        #[command(flatten)]
        made: Made,
    },
    /// Take a certificate back: adds it to crl.pem
    Revoke {
        /// The name it was made for
        name: String,
    },
}

#[derive(Args)]
struct Made {
    /// How long it is valid
    #[arg(long, default_value_t = DAYS, value_name = "DAYS")]
    days: u32,
    /// Make a new one though there is one of this name
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(args: &CertArgs) -> Result<(), Failed> {
    let place = Place(args.dir.clone());
    match &args.command {
        CertCommand::Ca { name, days } => {
            place.make_authority(name, *days)?;
            line(format_args!("made an authority: {}", place.shown("ca.pem")))?;
            line("next, for each member and client:")?;
            line("  synod cert server --name n1 --host HOST")?;
            line("  synod cert client --name alice")
        }
        CertCommand::Server { name, hosts, made } => {
            let mut all: Vec<&str> = hosts.iter().map(String::as_str).collect();
            all.extend(
                OWN_HOSTS
                    .iter()
                    .filter(|own| !hosts.iter().any(|host| host == *own)),
            );
            place.make(Usage::Server, name, &all, made)?;
            line(format_args!(
                "made a certificate for {}: {}",
                all.join(", "),
                place.pem(name)
            ))?;
            line("start the member with:")?;
            let (ca, pem, key) = (place.shown("ca.pem"), place.pem(name), place.key(name));
            line(format_args!("  synod serve --name {name} \\"))?;
            line(format_args!(
                "    --cert-file {pem} --key-file {key} --trusted-ca-file {ca} \\"
            ))?;
            line(format_args!(
                "    --peer-cert-file {pem} --peer-key-file {key} --peer-trusted-ca-file {ca}"
            ))
        }
        CertCommand::Client { name, made } => {
            place.make(Usage::Client, name, &[], made)?;
            line(format_args!(
                "made a certificate for {name}: {}",
                place.pem(name)
            ))?;
            line("connect with:")?;
            line(format_args!("  {}", place.client_flags(name)))
        }
        CertCommand::Revoke { name } => {
            place.revoke(name)?;
            let list = place.shown("crl.pem");
            line(format_args!("{name} is in {list}"))?;
            line("members that run with these look at the file every second:")?;
            line(format_args!(
                "  --client-crl-file {list} --peer-crl-file {list}"
            ))
        }
    }
}

/// A directory of certificates.
pub(crate) struct Place(PathBuf);

impl Place {
    /// The certificates of a cluster on this machine, for `synod dev`: the authority is kept, what it vouches for is made anew.
    pub(crate) fn for_dev(directory: PathBuf, client: &str) -> Result<Place, Failed> {
        let place = Place(directory);
        if !place.path("ca.pem").is_file() {
            place.make_authority("synod dev", AUTHORITY_DAYS)?;
        }
        let made = Made {
            days: DAYS,
            replace: true,
        };
        place.make(Usage::Server, "server", &OWN_HOSTS, &made)?;
        place.make(Usage::Client, client, &[], &made)?;
        Ok(place)
    }

    /// A file's path as it can be typed.
    pub(crate) fn shown(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    pub(crate) fn pem(&self, name: &str) -> String {
        self.shown(&format!("{name}.pem"))
    }

    pub(crate) fn key(&self, name: &str) -> String {
        self.shown(&format!("{name}-key.pem"))
    }

    fn client_flags(&self, name: &str) -> String {
        let (ca, pem, key) = (self.shown("ca.pem"), self.pem(name), self.key(name));
        format!("--cacert {ca} --cert {pem} --key {key}")
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn make_authority(&self, name: &str, days: u32) -> Result<(), Failed> {
        if self.path("ca.pem").exists() || self.path("ca-key.pem").exists() {
            return Err(Failed::Refused(format!(
                "{} has an authority already, and what it vouched for would be worth nothing; use it, or pass another --dir",
                self.0.display()
            )));
        }
        fs::create_dir_all(&self.0).map_err(|error| cannot_write(&self.0, &error))?;
        let (_, issued) = Authority::new(name, days).map_err(Failed::system)?;
        self.write("ca", &issued)
    }

    fn authority(&self) -> Result<Authority, Failed> {
        let missing = |_| {
            Failed::Refused(format!(
                "{} has no authority; make one with `synod cert ca`, or pass --dir",
                self.0.display()
            ))
        };
        let issued = Issued {
            certificate: fs::read_to_string(self.path("ca.pem")).map_err(missing)?,
            key: fs::read_to_string(self.path("ca-key.pem")).map_err(missing)?,
        };
        Authority::open(&issued)
            .map_err(|error| Failed::Refused(format!("{}: {error}", self.shown("ca-key.pem"))))
    }

    fn make(&self, usage: Usage, name: &str, hosts: &[&str], made: &Made) -> Result<(), Failed> {
        let is_file_name = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        if !is_file_name || name == "ca" || name == "crl" {
            return Err(Failed::Usage(format!(
                "--name: {name:?} cannot name a file here; use something like n1 or alice"
            )));
        }
        if !made.replace && Path::new(&self.pem(name)).exists() {
            return Err(Failed::Refused(format!(
                "{} is there already; pass --replace to make a new one, or another --name",
                self.pem(name)
            )));
        }
        let issued = self
            .authority()?
            .issue(usage, name, hosts, made.days)
            .map_err(Failed::system)?;
        self.write(name, &issued)
    }

    fn revoke(&self, name: &str) -> Result<(), Failed> {
        let pem = self.pem(name);
        let serial = fs::read(&pem)
            .ok()
            .and_then(|bytes| tls::serial(&bytes))
            .ok_or_else(|| Failed::Refused(format!("{pem} holds no certificate")))?;
        let previous = fs::read_to_string(self.path("crl.pem")).ok();
        let list = self
            .authority()?
            .revoke(previous.as_deref(), &serial)
            .map_err(Failed::system)?;
        write(&self.path("crl.pem"), 0o644, &list)
    }

    fn write(&self, name: &str, issued: &Issued) -> Result<(), Failed> {
        write(Path::new(&self.key(name)), 0o600, &issued.key)?;
        write(Path::new(&self.pem(name)), 0o644, &issued.certificate)
    }
}

/// Puts a file in place in one step: a member may be reading it.
fn write(path: &Path, mode: u32, text: &str) -> Result<(), Failed> {
    let staged = path.with_extension("tmp");
    let _ = fs::remove_file(&staged);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options
        .open(&staged)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&staged, path));
    written.map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failed {
    Failed::Refused(format!("{} cannot be written: {error}", path.display()))
}
