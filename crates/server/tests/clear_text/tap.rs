//! Somebody in the middle of connections, who passes every byte on and keeps it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What passed, each connection and direction for itself.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// See the module.
pub struct Tap {
    /// Where it listens.
    pub address: SocketAddr,
    heard: Heard,
}

impl Tap {
    /// Listens at an address, and passes on to another.
    pub async fn new(at: &str, to: SocketAddr) -> Tap {
        let listener = TcpListener::bind(at).await.expect("the port is free");
        let address = listener.local_addr().expect("it listens");
        let heard = Heard::default();
        let keep = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // Nobody is there while a member is down.
                let Ok(far) = TcpStream::connect(to).await else {
                    continue;
                };
                let (near_reads, near_writes) = near.into_split();
                let (far_reads, far_writes) = far.into_split();
                tokio::spawn(pass(near_reads, far_writes, Arc::clone(&keep)));
                tokio::spawn(pass(far_reads, near_writes, Arc::clone(&keep)));
            }
        });
        Tap { address, heard }
    }

    /// Forgets what passed; connections go on.
    pub fn forget(&self) {
        self.heard
            .lock()
            .expect("whole")
            .iter_mut()
            .for_each(Vec::clear);
    }

    /// How many bytes passed.
    pub fn bytes(&self) -> usize {
        self.heard.lock().expect("whole").iter().map(Vec::len).sum()
    }

    /// Those of the marks that passed in clear.
    pub fn seen<'a>(&self, marks: &[&'a str]) -> Vec<&'a str> {
        let heard = self.heard.lock().expect("whole");
        let holds = |mark: &&str| {
            let mut streams = heard.iter();
            streams.any(|bytes| {
                bytes
                    .windows(mark.len())
                    .any(|part| part == mark.as_bytes())
            })
        };
        marks.iter().copied().filter(holds).collect()
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    heard: Heard,
) {
    let place = {
        let mut heard = heard.lock().expect("whole");
        heard.push(Vec::new());
        heard.len() - 1
    };
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        heard.lock().expect("whole")[place].extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // The other end hears that nothing follows.
    let _ = to.shutdown().await;
}
