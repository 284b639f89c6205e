//! The options by which client commands secure their connections, under etcdctl's names.

use clap::Args;
use client::Security;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct SecurityArgs {
    /// Authorities to trust, in PEM form; without it those the system trusts
    #[arg(long, global = true, env = "SYNOD_CACERT", value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Certificate to show, in PEM form
    #[arg(long, global = true, env = "SYNOD_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Key of --cert
    #[arg(
        id = "cert-key",
        long = "key",
        global = true,
        env = "SYNOD_KEY",
        value_name = "FILE"
    )]
    key: Option<PathBuf>,
    /// Take any server for the right one; for tests only
    #[arg(long, global = true, env = "SYNOD_INSECURE_SKIP_TLS_VERIFY")]
    insecure_skip_tls_verify: bool,
    /// With =false: speak TLS to endpoints that say neither http:// nor https://, as any option above does too
    #[arg(
        long,
        global = true,
        env = "SYNOD_INSECURE_TRANSPORT",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_name = "true|false"
    )]
    insecure_transport: bool,
}

impl SecurityArgs {
    pub(crate) fn security(&self) -> Security {
        Security {
            cacert: self.cacert.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            insecure_skip_verify: self.insecure_skip_tls_verify,
            tls: !self.insecure_transport,
        }
    }
}

/// Stands in commands that talk to no member for [`SecurityArgs`].
#[derive(Args)]
pub(crate) struct NoSecurityArgs {
    #[arg(long, hide = true, value_parser = crate::refuse::<PathBuf>)]
    cacert: Option<PathBuf>,
    #[arg(long, hide = true, value_parser = crate::refuse::<PathBuf>)]
    cert: Option<PathBuf>,
    #[arg(id = "cert-key", long = "key", hide = true, value_parser = crate::refuse::<PathBuf>)]
    key: Option<PathBuf>,
    #[arg(long, hide = true, value_parser = crate::refuse::<bool>)]
    insecure_skip_tls_verify: Option<bool>,
    #[arg(long, hide = true, value_parser = crate::refuse::<bool>)]
    insecure_transport: Option<bool>,
}
