//! Alarms: listed, raised and lowered by hand. etcd's numbers for their kinds are the state's.

use crate::kv::change;
use crate::{Change, Code, Header, Read, Status, rejection};
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, alarm_request::AlarmAction,
};
use state::{Alarm, AlarmKind, Answer, Operation, Query, Reply, SetAlarm};

/// What a request about alarms comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum AlarmCall {
    /// List those of a kind, or all.
    List(Read),
    /// Raise or lower one.
    Change(Change),
    /// Nothing: it names no kind.
    Nothing,
}

/// Turns a request about alarms into what it comes to.
///
/// # Errors
/// There is no such kind or action.
pub fn alarm(request: &AlarmRequest) -> Result<AlarmCall, Status> {
    let unknown = |text: &'static str| Status::new(Code::InvalidArgument, text);
    let kind = AlarmType::try_from(request.alarm)
        .map_err(|_| unknown("synod: no alarm is of this kind, 1 is NOSPACE and 2 CORRUPT"))?;
    let action = AlarmAction::try_from(request.action)
        .map_err(|_| unknown("synod: alarms know GET, ACTIVATE and DEACTIVATE, 0 to 2"))?;
    Ok(match (action, kind) {
        (AlarmAction::Get, _) => AlarmCall::List(Read {
            query: Query::Alarms,
            serializable: false,
        }),
        (_, AlarmType::None) => AlarmCall::Nothing,
        (action, _) => AlarmCall::Change(change(Operation::SetAlarm(SetAlarm {
            kind: request.alarm,
            member: request.member_id,
            raise: action == AlarmAction::Activate,
        }))),
    })
}

/// An alarm as a message.
fn alarm_member(alarm: Alarm) -> AlarmMember {
    AlarmMember {
        member_id: alarm.member,
        alarm: alarm.kind as i32,
    }
}

/// What etcd calls the kind of an alarm.
pub fn alarm_kind(alarm: Alarm) -> &'static str {
    match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// The alarm in etcd's words, as in the errors of a status.
pub fn alarm_text(alarm: Alarm) -> String {
    format!("memberID:{} alarm:{} ", alarm.member, alarm_kind(alarm))
}

/// The answer to a list: alarms of the kind asked for, or all.
///
/// # Errors
/// The state refused.
pub fn alarm_list_response(
    header: Header,
    request: &AlarmRequest,
    answer: Answer,
) -> Result<AlarmResponse, Status> {
    match answer {
        Answer::Alarms(alarms) => {
            let wanted = |alarm: &Alarm| request.alarm == 0 || request.alarm == alarm.kind as i32;
            Ok(alarm_response(header, alarms.into_iter().filter(wanted)))
        }
        Answer::Rejected(reason) => Err(rejection(reason)),
        _ => Err(crate::reply::mismatch("a list of alarms")),
    }
}

/// The answer to a change: the alarm that was raised, or lowered; none if there was none to lower.
///
/// # Errors
/// The state refused.
pub fn alarm_change_response(
    header: Header,
    request: &AlarmRequest,
    reply: Reply,
) -> Result<AlarmResponse, Status> {
    let raised = request.action == AlarmAction::Activate as i32;
    match (reply, AlarmKind::try_from(request.alarm)) {
        (Reply::SetAlarm { was_raised }, Ok(kind)) => {
            let member = request.member_id;
            let alarm = (raised || was_raised).then_some(Alarm { kind, member });
            Ok(alarm_response(header, alarm))
        }
        (Reply::Rejected(reason), _) => Err(rejection(reason)),
        _ => Err(crate::reply::mismatch("an alarm")),
    }
}

/// An answer that names these alarms.
fn alarm_response(header: Header, alarms: impl IntoIterator<Item = Alarm>) -> AlarmResponse {
    AlarmResponse {
        header: Some(header.into()),
        alarms: alarms.into_iter().map(alarm_member).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        cluster: 1,
        member: 2,
        term: 3,
        revision: 4,
    };

    fn request(action: AlarmAction, member_id: u64, alarm: AlarmType) -> AlarmRequest {
        AlarmRequest {
            action: action.into(),
            member_id,
            alarm: alarm.into(),
        }
    }

    fn named(response: &AlarmResponse) -> Vec<(u64, i32)> {
        let alarms = response.alarms.iter();
        alarms.map(|alarm| (alarm.member_id, alarm.alarm)).collect()
    }

    #[test]
    fn a_list_is_of_a_kind_or_of_all() {
        let alarms = vec![
            Alarm {
                kind: AlarmKind::NoSpace,
                member: 7,
            },
            Alarm {
                kind: AlarmKind::Corrupt,
                member: 8,
            },
        ];
        let listed = |kind| {
            let request = request(AlarmAction::Get, 0, kind);
            assert!(matches!(alarm(&request), Ok(AlarmCall::List(_))));
            named(&alarm_list_response(HEADER, &request, Answer::Alarms(alarms.clone())).unwrap())
        };
        assert_eq!(listed(AlarmType::None), [(7, 1), (8, 2)]);
        assert_eq!(listed(AlarmType::Nospace), [(7, 1)]);
        assert_eq!(listed(AlarmType::Corrupt), [(8, 2)]);
    }

    #[test]
    fn what_was_raised_or_lowered_is_named() {
        let answered = |action, was_raised| {
            let request = request(action, 7, AlarmType::Corrupt);
            assert!(matches!(alarm(&request), Ok(AlarmCall::Change(_))));
            let reply = Reply::SetAlarm { was_raised };
            named(&alarm_change_response(HEADER, &request, reply).unwrap())
        };
        assert_eq!(answered(AlarmAction::Activate, false), [(7, 2)]);
        assert_eq!(answered(AlarmAction::Activate, true), [(7, 2)]);
        assert_eq!(answered(AlarmAction::Deactivate, true), [(7, 2)]);
        assert_eq!(answered(AlarmAction::Deactivate, false), []);
    }

    #[test]
    fn a_change_of_no_kind_does_nothing() {
        for action in [AlarmAction::Activate, AlarmAction::Deactivate] {
            let request = request(action, 7, AlarmType::None);
            assert_eq!(alarm(&request), Ok(AlarmCall::Nothing));
        }
    }

    #[test]
    fn unknown_kinds_and_actions_are_refused() {
        let unknown = AlarmRequest {
            alarm: 3,
            ..AlarmRequest::default()
        };
        assert!(alarm(&unknown).is_err());
        let unknown = AlarmRequest {
            action: 3,
            ..AlarmRequest::default()
        };
        assert!(alarm(&unknown).is_err());
    }
}
