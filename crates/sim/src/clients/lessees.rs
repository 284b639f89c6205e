//! Clients that hold leases.

use super::*;

impl Clients {
    /// The next step of a lessee: grant, attach keys, renew for a while, then revoke or fall silent.
    pub(super) fn hold(&mut self, client: usize) {
        let request = self.number();
        let (fresh, key) = (1 + self.rng.below(1 << 40) as i64, self.key('l'));
        let (ttl_ms, puts_left, renewals_left) = (
            self.rng.between(1_000, 6_000),
            self.rng.below(4),
            self.rng.below(12),
        );
        let (revokes, closing) = (self.rng.chance(300), self.closing);
        let Kind::Lessee(lessee) = &mut self.clients[client].kind else {
            unreachable!("only lessees hold")
        };
        if !lessee.held {
            if closing {
                return;
            }
            *lessee = Lessee {
                lease: fresh,
                ttl_ms,
                puts_left,
                renewals_left,
                ..Lessee::default()
            };
            return self.propose(
                client,
                request,
                Operation::LeaseGrant(LeaseGrant { id: fresh, ttl_ms }),
            );
        }
        let lease = lessee.lease;
        if lessee.puts_left > 0 && !closing {
            lessee.puts_left -= 1;
            let put = Put {
                key,
                value: value_of(request),
                lease,
                ..Put::default()
            };
            self.propose(client, request, Operation::Put(put));
        } else if lessee.renewals_left > 0 && !closing {
            lessee.renewals_left -= 1;
            self.ask(client, request, Request::KeepAlive(lease));
        } else {
            lessee.held = false;
            if revokes || closing {
                self.propose(
                    client,
                    request,
                    Operation::LeaseRevoke(LeaseRevoke { id: lease }),
                );
            } else {
                self.wake_after(client, 2_000_000);
            }
        }
    }
}
