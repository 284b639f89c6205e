//! The call behind `synod doctor`.

use super::context::Context;
use super::door::{Answered, Door, Outcome};
use crate::examine::{free_bytes, wall_ms};
use etcd::{Code, Status};
use proto::synodpb::{ExamineRequest, ExamineResponse, PeerLink, SyncTimes};

impl Door {
    /// Tells how this member is doing beneath the protocols.
    pub async fn examine(&self, _: &Context, request: ExamineRequest) -> Outcome<ExamineResponse> {
        let data_dir = &self.examiner.data_dir;
        let measured = match request.disk {
            true => Some(self.examiner.sync_times().await.ok_or_else(|| {
                let text = "synod: the disk is being measured for somebody else; try again";
                Status::new(Code::ResourceExhausted, text)
            })?),
            false => None,
        };
        // A disk that fails is told of beside the rest: who asks wants to know how this member is.
        let mut disk_error = String::new();
        let mut failed = |error| disk_error = format!("{}: {error}", data_dir.display());
        let free = free_bytes(data_dir).map_err(&mut failed).ok();
        let times = measured.and_then(|times| times.map_err(&mut failed).ok());
        let disk = times.map(|times| SyncTimes {
            syncs: times.syncs as u32,
            median_micros: times.median.as_micros() as u64,
            worst_micros: times.worst.as_micros() as u64,
        });
        let low_water = self.examiner.disk_low_water_bytes;
        let noticed = self.handle.metrics().low_on_space.get() > 0;
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
            disk_free_bytes: free.unwrap_or(0),
            disk,
            disk_error,
            disk_low_water_bytes: low_water,
            // Who writes nothing does not notice.
            low_on_space: noticed || free.is_some_and(|free| free < low_water),
            peers: peers.collect(),
            election_timeout_ms: self.examiner.election_timeout.as_millis() as u64,
        }))
    }
}
