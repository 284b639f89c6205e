//! The call behind `synod doctor`.

use super::context::Context;
use super::door::{Answered, Door, Outcome};
use crate::examine::{free_bytes, wall_ms};
use etcd::{Code, Status};
use proto::synodpb::{ExamineRequest, ExamineResponse, PeerLink, SyncTimes};

impl Door {
    /// Tells how this member is doing beneath the protocols.
    pub async fn examine(&self, _: &Context, request: ExamineRequest) -> Outcome<ExamineResponse> {
        let failed = |error: std::io::Error| {
            let shown = self.examiner.data_dir.display();
            Status::new(
                Code::Internal,
                format!("synod: the disk of {shown} cannot be examined: {error}"),
            )
        };
        let disk = match request.disk {
            true => {
                let measured = self.examiner.sync_times().await.ok_or_else(|| {
                    let text = "synod: the disk is being measured for somebody else; try again";
                    Status::new(Code::ResourceExhausted, text)
                })?;
                let times = measured.map_err(failed)?;
                Some(SyncTimes {
                    syncs: times.syncs as u32,
                    median_micros: times.median.as_micros() as u64,
                    worst_micros: times.worst.as_micros() as u64,
                })
            }
            false => None,
        };
        let links = self.handle.metrics().peer_links.all().into_iter();
        let members = self.handle.members();
        let present = |id: u64| members.iter().any(|member| member.id == id);
        let peers = links
            .filter(|(id, _)| present(*id))
            .map(|(id, link)| PeerLink {
                id,
                connected: link.connected,
                round_trip_micros: link.round_trip.as_micros() as u64,
            });
        Ok(Answered::unstamped(ExamineResponse {
            header: Some(self.header()),
            name: self.examiner.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            wall_ms: wall_ms(),
            disk_free_bytes: free_bytes(&self.examiner.data_dir).map_err(failed)?,
            disk,
            peers: peers.collect(),
            election_timeout_ms: self.examiner.election_timeout.as_millis() as u64,
        }))
    }
}
