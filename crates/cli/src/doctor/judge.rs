//! What the answers of the members mean. Pure: answers in, findings out.

use crate::status::size;
use proto::etcdserverpb::StatusResponse;
use proto::synodpb::{ExamineResponse, MemberInfo, MemberRole};
use std::time::Duration;

/// Wall clocks further apart than this are warned of.
const CLOCKS_APART_MAX: Duration = Duration::from_millis(500);
/// A member that is this many log entries behind is warned of.
const ENTRIES_BEHIND_MAX: u64 = 5000;
/// Syncs that take longer than this in the middle are warned of.
const SYNC_MEDIAN_MAX: Duration = Duration::from_millis(10);
/// The longest sync above which the same is said.
const SYNC_WORST_MAX: Duration = Duration::from_millis(100);
/// A disk whose room is less than so many times the mark below which its member refuses writes is warned of.
const LOW_WATER_MARKS: u64 = 4;
/// Part of the election timeout that a round trip may take.
const ROUND_TRIP_PARTS: u32 = 5;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    /// Not at all.
    Good,
    /// It works, and could be better.
    Warning,
    /// It does not work, or the next failure will hurt.
    Wrong,
}

impl Grade {
    pub(super) fn word(self) -> &'static str {
        match self {
            Grade::Good => "ok",
            Grade::Warning => "warning",
            Grade::Wrong => "WRONG",
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    /// Whose; empty: the cluster's.
    pub(super) member: String,
    pub(super) grade: Grade,
    pub(super) found: String,
    /// What to do; empty: nothing.
    pub(super) advice: String,
}

/// What one member answered.
pub(super) struct Member {
    pub(super) status: StatusResponse,
    pub(super) examined: ExamineResponse,
    /// Why nothing was heard of how fast its disk is, though it was asked for.
    pub(super) unmeasured: Option<String>,
    /// Its wall clock against this machine's.
    pub(super) clock_ahead_ms: i64,
}

/// Why a member was not examined.
#[derive(Debug)]
pub(super) enum Unexamined {
    /// It refuses, so it runs.
    Refused(String),
    /// It does not answer.
    Silent(String),
}

/// The room on a disk.
pub(super) struct Space {
    pub(super) free_bytes: u64,
    /// The member's --disk-low-water-bytes.
    pub(super) low_water_bytes: u64,
    /// Its member refuses writes for it.
    pub(super) is_low: bool,
}

/// The cluster.
pub(super) struct Patient {
    pub(super) members: Vec<(MemberInfo, Result<Member, Unexamined>)>,
}

impl Patient {
    fn answered(&self) -> impl Iterator<Item = (&MemberInfo, &Member)> {
        let members = self.members.iter();
        members.filter_map(|(info, answer)| Some((info, answer.as_ref().ok()?)))
    }

    fn name(&self, id: u64) -> String {
        let known = self.members.iter().find(|(info, _)| info.id == id);
        known.map_or_else(|| format!("{id:x}"), |(info, _)| name(info))
    }
}

fn name(info: &MemberInfo) -> String {
    match info.name.as_str() {
        "" => format!("{:x}", info.id),
        name => name.to_owned(),
    }
}

/// All findings, the cluster's first.
pub(super) fn judge(patient: &Patient) -> Vec<Finding> {
    let mut findings = vec![quorum(patient), leader(patient)];
    // They are compared, for which there must be some.
    if patient.answered().next().is_some() {
        findings.extend([versions(patient), clocks(patient)]);
    }
    for (info, answer) in &patient.members {
        let name = name(info);
        match answer {
            Ok(member) => findings.extend(member_findings(patient, &name, member)),
            Err(Unexamined::Refused(error)) => findings.push(Finding {
                check: "answers",
                member: name,
                grade: Grade::Wrong,
                found: format!("it runs, and refuses to be examined: {error}"),
                advice: "ask again; if it stays so, see its log".into(),
            }),
            Err(Unexamined::Silent(error)) => findings.push(Finding {
                check: "answers",
                member: name,
                grade: match info.name.as_str() {
                    "" => Grade::Warning,
                    _ => Grade::Wrong,
                },
                found: error.clone(),
                advice: silent_advice(info),
            }),
        }
    }
    findings
}

fn silent_advice(info: &MemberInfo) -> String {
    if info.name.is_empty() {
        return "its place is prepared, and nobody has started there: start it, or `synod member remove` it".into();
    }
    format!(
        "is its process running, and is {} reachable from here? If its machine is lost, `synod member replace {}=HOST:PORT`",
        info.client_addresses.join(" or "),
        info.name
    )
}

fn finding(check: &'static str, grade: Grade, found: String, advice: &str) -> Finding {
    Finding {
        check,
        member: String::new(),
        grade,
        found,
        advice: advice.into(),
    }
}

/// How many more members may fail.
fn quorum(patient: &Patient) -> Finding {
    let voters = || {
        patient
            .members
            .iter()
            .filter(|(info, _)| info.role() == MemberRole::Voter)
    };
    let (all, up) = (
        voters().count(),
        voters()
            .filter(|(_, answer)| !matches!(answer, Err(Unexamined::Silent(_))))
            .count(),
    );
    let needed = all / 2 + 1;
    let found = format!("{up} of {all} voters answer, {needed} are needed");
    if up < needed {
        return finding(
            "quorum",
            Grade::Wrong,
            found,
            "writes stop until a majority runs: start the members that do not answer; their data directories are what counts, do not empty them",
        );
    }
    let spare = up - needed;
    let found = match spare {
        0 => format!("{found}: no other may fail"),
        1 => format!("{found}: one more may fail"),
        _ => format!("{found}: {spare} more may fail"),
    };
    match (all, spare) {
        (1, _) => finding(
            "quorum",
            Grade::Warning,
            found,
            "one voter alone loses service with its machine, and everything with its disk: add two with `synod member add`",
        ),
        (_, 0) if up < all => finding(
            "quorum",
            Grade::Wrong,
            found,
            "bring the missing members back before anything else",
        ),
        _ if all % 2 == 0 => finding(
            "quorum",
            Grade::Warning,
            found,
            "an even number of voters survives no more failures than one less: add one or remove one",
        ),
        _ => finding("quorum", Grade::Good, found, ""),
    }
}

/// Whether one leads, and all who answer agree who.
fn leader(patient: &Patient) -> Finding {
    let mut known: Vec<(u64, u64)> = patient
        .answered()
        .map(|(_, member)| (member.status.leader, member.status.raft_term))
        .collect();
    known.sort_unstable();
    known.dedup();
    match known[..] {
        [] => finding("leader", Grade::Wrong, "nobody answers".into(), ""),
        [(0, _)] => finding(
            "leader",
            Grade::Wrong,
            "nobody leads".into(),
            "look at quorum and at the members' connections; an election takes a second once a majority can talk",
        ),
        [(id, term)] => finding(
            "leader",
            Grade::Good,
            format!("{} in term {term}", patient.name(id)),
            "",
        ),
        _ => {
            let named: Vec<String> = patient
                .answered()
                .map(|(info, member)| {
                    let leader = match member.status.leader {
                        0 => "nobody".to_owned(),
                        id => patient.name(id),
                    };
                    format!(
                        "{} says {leader} (term {})",
                        name(info),
                        member.status.raft_term
                    )
                })
                .collect();
            finding(
                "leader",
                Grade::Warning,
                named.join(", "),
                "an election was under way: ask again; if it stays so, members cannot hear each other",
            )
        }
    }
}

fn versions(patient: &Patient) -> Finding {
    let mut versions: Vec<&str> = patient
        .answered()
        .map(|(_, it)| it.examined.version.as_str())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    match versions[..] {
        [one] => finding(
            "versions",
            Grade::Good,
            format!("synod {one} everywhere"),
            "",
        ),
        _ => {
            let each = patient.answered();
            let each =
                each.map(|(info, it)| format!("{} runs {}", name(info), it.examined.version));
            let found = each.collect::<Vec<_>>().join(", ");
            finding(
                "versions",
                Grade::Warning,
                found,
                "that is good for an upgrade; finish it: what is new is switched on once all members know it",
            )
        }
    }
}

fn clocks(patient: &Patient) -> Finding {
    let ahead = || patient.answered().map(|(_, member)| member.clock_ahead_ms);
    let (first, last) = (ahead().min().unwrap_or(0), ahead().max().unwrap_or(0));
    let apart = Duration::from_millis((last - first) as u64);
    if apart <= CLOCKS_APART_MAX {
        return finding(
            "clocks",
            Grade::Good,
            format!("at most {} apart", shown(apart)),
            "",
        );
    }
    let each = patient.answered();
    let each = each.map(|(info, member)| format!("{} {:+} ms", name(info), member.clock_ahead_ms));
    let found = format!(
        "{} apart: against this machine {}",
        shown(apart),
        each.collect::<Vec<_>>().join(", ")
    );
    finding(
        "clocks",
        Grade::Warning,
        found,
        "no time-out and no order rests on wall clocks, but creation times, ids, certificates and tokens do: run an NTP client on every machine",
    )
}

fn member_findings(patient: &Patient, name: &str, member: &Member) -> Vec<Finding> {
    let of = |check, grade, found: String, advice: &str| Finding {
        member: name.to_owned(),
        ..finding(check, grade, found, advice)
    };
    let (status, examined) = (&member.status, &member.examined);
    let mut findings = Vec::new();

    let newest = patient
        .answered()
        .map(|(_, it)| it.status.raft_index)
        .max()
        .unwrap_or(0);
    let behind = newest.saturating_sub(status.raft_applied_index);
    let advice = "it catches up, or its disk or network is too slow for the load: see its disk and its connections";
    findings.push(match behind {
        0..=ENTRIES_BEHIND_MAX => of("log", Grade::Good, format!("{behind} entries behind"), ""),
        _ => of(
            "log",
            Grade::Warning,
            format!("{behind} entries behind"),
            advice,
        ),
    });
    for error in &status.errors {
        findings.push(of(
            "alarms",
            Grade::Wrong,
            error.clone(),
            alarm_advice(error, member),
        ));
    }
    let (used, quota) = (
        status.db_size_in_use.max(0) as u64,
        status.db_size_quota.max(1) as u64,
    );
    let parts = used * 100 / quota;
    let found = format!("{parts} % of what --state-bytes-max allows");
    findings.push(match parts {
        0..80 => of("state", Grade::Good, found, ""),
        _ => of("state", Grade::Warning, found, "writes stop when it is full: compact history (--auto-compaction-retention), delete keys, or raise --state-bytes-max"),
    });
    let micros = Duration::from_micros;
    let times = examined
        .disk
        .map(|times| (micros(times.median_micros), micros(times.worst_micros)));
    let timeout = Duration::from_millis(examined.election_timeout_ms);
    if !examined.disk_error.is_empty() {
        let found = format!("it fails: {}", examined.disk_error);
        let advice = "make room if it is full; else is it mounted and can it be written to? See this member's log";
        findings.push(of("disk", Grade::Wrong, found, advice));
    }
    if let Some(why) = &member.unmeasured {
        let found = format!("not measured: {why}");
        let advice = "it is busy or slow: ask again, with a longer --timeout if that was too short";
        findings.push(of("disk", Grade::Warning, found, advice));
    }
    // A disk that does not even say how much room it has is told of above.
    let says = examined.disk_error.is_empty() || examined.disk_free_bytes > 0;
    let space = (says || examined.low_on_space).then_some(Space {
        free_bytes: examined.disk_free_bytes,
        low_water_bytes: examined.disk_low_water_bytes,
        is_low: examined.low_on_space,
    });
    findings.extend(disk_findings(name, times, space, Some(timeout)));
    findings.extend(peers(patient, name, member, timeout));
    findings
}

fn alarm_advice(error: &str, member: &Member) -> &'static str {
    let me = member.status.header.map_or(0, |header| header.member_id);
    let is_own = error.starts_with(&format!("memberID:{me} "));
    if error.contains("NOSPACE") && is_own && member.examined.low_on_space {
        "its disk is short of space, see there; the alarm goes with the shortage"
    } else if error.contains("NOSPACE") {
        "only deletes and compaction pass: compact, delete keys, or raise --state-bytes-max; the alarm lowers itself"
    } else if error.contains("CORRUPT") {
        "members hold different states: see docs/operate/repair.md"
    } else {
        "see this member's log"
    }
}

/// What a disk is good for.
pub(super) fn disk_findings(
    member: &str,
    times: Option<(Duration, Duration)>,
    space: Option<Space>,
    election_timeout: Option<Duration>,
) -> Vec<Finding> {
    let of = |grade, found: String, advice: &str| Finding {
        member: member.to_owned(),
        ..finding("disk", grade, found, advice)
    };
    let mut findings = Vec::new();
    if let Some((median, worst)) = times {
        let found = format!("a sync takes {}, at worst {}", shown(median), shown(worst));
        let slow = "every write waits for a sync on a majority: give the log a disk of its own, an SSD with power-loss protection at best";
        findings.push(match election_timeout {
            Some(timeout) if worst >= timeout => of(Grade::Wrong, found, "syncs take longer than --election-timeout, leaders will be lost: give the log a faster disk, or raise --election-timeout"),
            _ if median > SYNC_MEDIAN_MAX || worst > SYNC_WORST_MAX => of(Grade::Warning, found, slow),
            _ => of(Grade::Good, found, ""),
        });
    }
    findings.extend(space.map(|space| {
        let free = format!("{} free", size(space.free_bytes));
        let mark = size(space.low_water_bytes);
        let beside = format!("{free}, --disk-low-water-bytes is {mark}");
        if space.is_low {
            let how = match space.free_bytes {
                0 => "full",
                _ => "short of space",
            };
            let advice = "growing writes that are asked of it are refused, and others lead: make room on its disk, or lower --disk-low-water-bytes if that is more than it needs";
            of(Grade::Wrong, format!("{how}: {beside}"), advice)
        } else if space.free_bytes / LOW_WATER_MARKS < space.low_water_bytes {
            of(
                Grade::Warning,
                beside,
                "below that only deletes and compaction pass: make room in time",
            )
        } else {
            of(Grade::Good, free, "")
        }
    }));
    findings
}

/// The connections of a member to the others.
fn peers(patient: &Patient, name: &str, member: &Member, timeout: Duration) -> Option<Finding> {
    let me = member.status.header.map_or(0, |header| header.member_id);
    let (mut down, mut slow, mut good) = (Vec::new(), Vec::new(), Vec::new());
    let started = |info: &MemberInfo| info.id != me && !info.name.is_empty();
    for (info, _) in patient.members.iter().filter(|(info, _)| started(info)) {
        let link = member.examined.peers.iter().find(|link| link.id == info.id);
        let other = patient.name(info.id);
        match link.filter(|link| link.connected) {
            None => down.push(other),
            Some(link) => {
                let round_trip = Duration::from_micros(link.round_trip_micros);
                let list = if round_trip * ROUND_TRIP_PARTS > timeout {
                    &mut slow
                } else {
                    &mut good
                };
                list.push(format!("{other} {}", shown(round_trip)));
            }
        }
    }
    let (grade, found, advice) = if !down.is_empty() {
        let advice = "do firewalls, names and --peer-addr let it through, and do both speak TLS or neither? Its log says why";
        (
            Grade::Wrong,
            format!("cannot reach {}", down.join(", ")),
            advice,
        )
    } else if !slow.is_empty() {
        let advice = "a round trip should take a fifth of --election-timeout at most: raise it with --heartbeat-interval, on every member";
        (Grade::Warning, format!("slow: {}", slow.join(", ")), advice)
    } else if good.is_empty() {
        return None;
    } else {
        (Grade::Good, good.join(", "), "")
    };
    Some(Finding {
        member: name.to_owned(),
        ..finding("peers", grade, found, advice)
    })
}

fn shown(duration: Duration) -> String {
    match duration.as_micros() {
        0..1000 => format!("{} us", duration.as_micros()),
        1000..100_000 => format!("{:.1} ms", duration.as_micros() as f64 / 1e3),
        _ => format!("{} ms", duration.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::ResponseHeader;
    use proto::synodpb::{PeerLink, SyncTimes};

    fn healthy(ids: &[u64]) -> Patient {
        let member = |id: u64| {
            let info = MemberInfo {
                id,
                name: format!("n{id}"),
                client_addresses: vec![format!("h{id}:2379")],
                ..MemberInfo::default()
            };
            let links = ids.iter().filter(|other| **other != id);
            let member = Member {
                status: StatusResponse {
                    header: Some(ResponseHeader {
                        member_id: id,
                        ..ResponseHeader::default()
                    }),
                    leader: ids[0],
                    raft_term: 3,
                    db_size_quota: 1000,
                    ..StatusResponse::default()
                },
                examined: ExamineResponse {
                    version: "1.0".into(),
                    disk_free_bytes: 1 << 40,
                    disk_low_water_bytes: 256 << 20,
                    disk: Some(SyncTimes {
                        syncs: 64,
                        median_micros: 200,
                        worst_micros: 900,
                    }),
                    election_timeout_ms: 500,
                    peers: links
                        .map(|id| PeerLink {
                            id: *id,
                            connected: true,
                            round_trip_micros: 150,
                        })
                        .collect(),
                    ..ExamineResponse::default()
                },
                unmeasured: None,
                clock_ahead_ms: 0,
            };
            (info, Ok(member))
        };
        Patient {
            members: ids.iter().map(|id| member(*id)).collect(),
        }
    }

    /// What is not good, as `check member: found`.
    fn complaints(patient: &Patient) -> Vec<String> {
        let findings = judge(patient);
        let bad = findings.iter().filter(|it| it.grade != Grade::Good);
        bad.map(|it| {
            assert!(!it.advice.is_empty() || it.check == "leader", "{it:?}");
            format!("{} {}: {}", it.check, it.member, it.found)
        })
        .collect()
    }

    #[test]
    fn a_healthy_cluster_has_nothing_to_complain_of() {
        assert_eq!(complaints(&healthy(&[1, 2, 3])), Vec::<String>::new());
    }

    #[test]
    fn each_ill_is_found_and_named() {
        let ill = |change: &dyn Fn(&mut Member)| {
            let mut patient = healthy(&[1, 2, 3]);
            change(patient.members[1].1.as_mut().expect("it answers"));
            complaints(&patient).join("; ")
        };
        for (change, expected) in [
            (
                &(|it: &mut Member| it.clock_ahead_ms = -1200) as &dyn Fn(&mut Member),
                "clocks : 1200 ms apart: against this machine n1 +0 ms, n2 -1200 ms, n3 +0 ms",
            ),
            (
                &|it| it.examined.disk.as_mut().expect("measured").median_micros = 20_000,
                "disk n2: a sync takes 20.0 ms",
            ),
            (
                &|it| it.examined.disk.as_mut().expect("measured").worst_micros = 700_000,
                "at worst 700 ms",
            ),
            (
                &|it| it.examined.disk_free_bytes = 1 << 29,
                "disk n2: 512.0 MiB free, --disk-low-water-bytes is 256.0 MiB",
            ),
            (
                &|it| it.examined.disk_error = "/d: No space left".into(),
                "disk n2: it fails: /d: No space left",
            ),
            (
                &|it| it.unmeasured = Some("no answer in time".into()),
                "disk n2: not measured: no answer in time",
            ),
            (&|it| it.examined.version = "1.1".into(), "n2 runs 1.1"),
            (
                &|it| it.examined.peers[1].connected = false,
                "peers n2: cannot reach n3",
            ),
            (
                &|it| it.examined.peers[0].round_trip_micros = 200_000,
                "slow: n1 200 ms",
            ),
            (&|it| it.status.leader = 0, "n2 says nobody"),
            (&|it| it.status.raft_index = 9000, "9000 entries behind"),
            (&|it| it.status.db_size_in_use = 900, "90 % of what"),
            (
                &|it| it.status.errors.push("memberID:1 alarm:NOSPACE ".into()),
                "alarms n2: memberID",
            ),
        ] {
            let told = ill(change);
            assert!(told.contains(expected), "{expected:?} is not in {told:?}");
        }
    }

    #[test]
    fn who_is_missing_counts() {
        let mut patient = healthy(&[1, 2, 3]);
        let silent = || Err(Unexamined::Silent("no answer".into()));
        patient.members[2].1 = silent();
        let told = complaints(&patient).join("; ");
        assert!(
            told.contains("2 of 3 voters answer, 2 are needed: no other may fail"),
            "{told}"
        );
        assert!(told.contains("answers n3: no answer"), "{told}");
        patient.members[1].1 = silent();
        assert_eq!(quorum(&patient).grade, Grade::Wrong);
        patient.members[0].1 = silent();
        let told = complaints(&patient).join("; ");
        assert!(
            !told.contains("versions") && !told.contains("clocks"),
            "{told}"
        );
        assert_eq!(quorum(&healthy(&[1, 2])).grade, Grade::Warning);
        assert_eq!(quorum(&healthy(&[1, 2, 3, 4])).grade, Grade::Warning);
        assert_eq!(quorum(&healthy(&[1])).grade, Grade::Warning);
    }

    #[test]
    fn who_refuses_or_has_a_broken_disk_counts_as_answering() {
        let mut patient = healthy(&[1, 2, 3]);
        let ill = patient.members[2].1.as_mut().expect("it answers");
        ill.examined.disk = None;
        ill.examined.disk_error = "/d: No space left on device (os error 28)".into();
        ill.examined.disk_free_bytes = 0;
        ill.examined.low_on_space = true;
        patient.members[1].1 = Err(Unexamined::Refused("permission denied".into()));
        assert_eq!(quorum(&patient).grade, Grade::Good);
        let told = complaints(&patient);
        assert_eq!(
            told[..3],
            [
                "answers n2: it runs, and refuses to be examined: permission denied",
                "disk n3: it fails: /d: No space left on device (os error 28)",
                "disk n3: full: 0 B free, --disk-low-water-bytes is 256.0 MiB",
            ]
        );
    }

    #[test]
    fn a_disk_is_held_against_the_mark_of_its_member() {
        let found = |free_bytes, low_water_bytes, is_low| {
            let space = Space {
                free_bytes,
                low_water_bytes,
                is_low,
            };
            let findings = disk_findings("n1", None, Some(space), None);
            (findings[0].grade, findings[0].found.clone())
        };
        let (mib, gib) = (1 << 20, 1 << 30);
        assert_eq!(
            found(76 * gib, 1024 * gib, true),
            (
                Grade::Wrong,
                "short of space: 76.0 GiB free, --disk-low-water-bytes is 1024.0 GiB".into()
            )
        );
        assert_eq!(
            found(64 * mib, 8 * mib, false),
            (Grade::Good, "64.0 MiB free".into())
        );
        assert_eq!(found(20 * mib, 8 * mib, false).0, Grade::Warning);
    }

    /// The alarm for the state, and that of a member for its own disk, have the same name.
    #[test]
    fn the_alarm_for_a_disk_is_not_that_for_the_state() {
        let mut patient = healthy(&[1, 2]);
        for (_, answer) in &mut patient.members {
            let member = answer.as_mut().expect("it answers");
            member
                .status
                .errors
                .push("memberID:1 alarm:NOSPACE ".into());
            member.examined.low_on_space = true;
        }
        let advice = |(_, answer): &(MemberInfo, Result<Member, Unexamined>)| {
            let member = answer.as_ref().expect("it answers");
            alarm_advice(&member.status.errors[0], member)
        };
        assert!(advice(&patient.members[0]).contains("its disk is short"));
        assert!(advice(&patient.members[1]).contains("--state-bytes-max"));
    }
}
