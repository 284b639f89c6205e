//! Taking ports: bound early, so that a taken one is told at once; listened on when the member is ready for what comes.

use crate::server::StartError;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Takes ports. `name` is the setting they come from.
///
/// # Errors
/// One cannot be had; the text says why and what to do.
pub(crate) async fn bind_all(
    name: &'static str,
    addresses: &[String],
) -> Result<Vec<TcpSocket>, StartError> {
    let mut sockets = Vec::with_capacity(addresses.len());
    for address in addresses {
        sockets.push(bind(name, address).await?);
    }
    Ok(sockets)
}

async fn bind(name: &'static str, address: &str) -> Result<TcpSocket, StartError> {
    let failed = |reason: String| {
        StartError::Listen(format!("{name}: {address} cannot be listened on: {reason}"))
    };
    let target = match address.parse() {
        Ok(target) => target,
        Err(_) => {
            let mut targets = tokio::net::lookup_host(address)
                .await
                .map_err(|error| failed(error.to_string()))?;
            targets
                .next()
                .ok_or_else(|| failed("it resolves to nothing".into()))?
        }
    };
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|error| failed(error.to_string()))?;
    socket
        .set_reuseaddr(true)
        .map_err(|error| failed(error.to_string()))?;
    socket.bind(target).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => taken(name, address.to_owned()),
        _ => failed(error.to_string()),
    })?;
    Ok(socket)
}

/// Lets connections come to ports that were taken.
///
/// # Errors
/// As [`bind_all`]: a system may notice only now that another process listens there.
pub(crate) fn listen_all(
    sockets: Vec<TcpSocket>,
    name: &'static str,
) -> Result<Vec<TcpListener>, StartError> {
    let sockets = sockets.into_iter();
    sockets.map(|socket| listen(socket, name)).collect()
}

fn listen(socket: TcpSocket, name: &'static str) -> Result<TcpListener, StartError> {
    let address = socket
        .local_addr()
        .map_or_else(|_| String::new(), |address| address.to_string());
    socket.listen(BACKLOG).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => taken(name, address),
        _ => StartError::Listen(format!("{name}: {address} cannot be listened on: {error}")),
    })
}

fn taken(setting: &'static str, address: String) -> StartError {
    StartError::Taken { setting, address }
}
