//! Alarms: those of the state, and this member's own while its disk is short of space.

use super::context::Context;
use super::door::{Answered, Door, Outcome, REQUEST_TIMEOUT};
use etcd::AlarmCall;
use proto::etcdserverpb::{AlarmRequest, AlarmResponse};
use state::{Alarm, AlarmKind, Answer};

impl Door {
    /// Lists, raises or lowers alarms.
    pub async fn alarm(&self, context: &Context, request: AlarmRequest) -> Outcome<AlarmResponse> {
        let (message, stamp) = match etcd::alarm(&request)? {
            AlarmCall::List(read) => {
                let (header, mut answer, stamp) = self.read(context, read, REQUEST_TIMEOUT).await?;
                if let Answer::Alarms(alarms) = &mut answer {
                    self.add_own(alarms);
                }
                let message = etcd::alarm_list_response(header, &request, answer)?;
                (message, Some(stamp))
            }
            AlarmCall::Change(change) => {
                let (header, reply, stamp) = self.change(context, change).await?;
                let message = etcd::alarm_change_response(header, &request, reply)?;
                (message, Some(stamp))
            }
            AlarmCall::Nothing => (
                AlarmResponse {
                    header: Some(self.header()),
                    ..AlarmResponse::default()
                },
                None,
            ),
        };
        Ok(Answered { message, stamp })
    }

    /// The alarms as this member knows them now.
    pub fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = self.handle.status().alarms.clone();
        self.add_own(&mut alarms);
        alarms
    }

    /// A disk short of space is this member's affair alone: it is not in the log, and goes when there is space.
    fn add_own(&self, alarms: &mut Vec<Alarm>) {
        let own = Alarm {
            kind: AlarmKind::NoSpace,
            member: self.handle.member(),
        };
        if self.handle.metrics().low_on_space.get() > 0 && !alarms.contains(&own) {
            alarms.insert(0, own);
        }
    }
}
