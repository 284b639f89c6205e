//! Changes of keys that happen only while a lock is held: `--guard` and `--guarded`.

use crate::output::Failed;
use clap::Args;
use client::{Client, Fence};

/// The arguments of a command that changes keys.
#[derive(Args)]
pub(crate) struct Guarded<T: Args> {
    #[command(flatten)]
    pub args: T,
    #[command(flatten)]
    guard: GuardArgs,
}

#[derive(Args)]
#[command(next_help_heading = "Locks")]
struct GuardArgs {
    /// Refuse the change unless the lock is held by the grant with this token; may be repeated
    #[arg(long = "guard", value_name = "NAME:TOKEN", value_parser = fence)]
    fences: Vec<Fence>,
    /// The same with the lock that this command runs under, from SYNOD_LOCK and SYNOD_TOKEN
    #[arg(long)]
    guarded: bool,
}

fn fence(text: &str) -> Result<Fence, String> {
    Fence::parse(text).ok_or_else(|| {
        "write the lock's name, a colon and the token, as in nightly:42; `synod lock list NAME` prints tokens".into()
    })
}

impl<T: Args> Guarded<T> {
    /// The client whose changes are guarded so, and what is to be changed.
    pub(crate) fn split(self, client: &Client) -> Result<(Client, T), Failed> {
        let mut fences = self.guard.fences;
        if self.guard.guarded {
            fences.push(surrounding()?);
        }
        let client = fences
            .iter()
            .fold(client.clone(), |client, fence| client.with_fence(fence));
        Ok((client, self.args))
    }
}

/// The lock that `synod lock` holds around this command.
fn surrounding() -> Result<Fence, Failed> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let text = format!("{}:{}", variable("SYNOD_LOCK"), variable("SYNOD_TOKEN"));
    Fence::parse(&text).ok_or_else(|| {
        Failed::Usage(
            "--guarded: SYNOD_LOCK and SYNOD_TOKEN name no lock; run this under `synod lock NAME -- ...`, or pass --guard NAME:TOKEN".into(),
        )
    })
}
