//! `member`: who belongs to the cluster, and changes of that.

use crate::output::{Failed, Output, json_head, line};
use crate::terminal::{table, text};
use clap::{Args, Subcommand};
use client::{Client, Security};
use proto::synodpb::member_change::Change;
use proto::synodpb::{AddMember, ListMembersResponse, MemberInfo, MemberRole, MoveMember};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[derive(Subcommand)]
pub(crate) enum MemberCommand {
    /// List the members of the cluster
    List,
    /// Prepare a place for a new member, and print the command that starts it
    ///
    /// It comes up as a learner, and votes by itself once it has caught up; until then it weakens nobody.
    Add(AddArgs),
    /// Let new members take the places of old ones, all in one change once all have caught up
    Replace(ReplaceArgs),
    /// Make a learner a voter
    Promote {
        /// Its name or id
        member: String,
    },
    /// Let members go, all at once
    Remove {
        /// Their names or ids
        #[arg(required = true)]
        members: Vec<String>,
    },
    /// Change where the other members reach a member
    Update {
        /// Its name or id
        member: String,
        /// Where, as HOST:PORT separated by commas
        #[arg(value_delimiter = ',', required = true, value_name = "HOST:PORT")]
        peer_addr: Vec<String>,
    },
    /// Hand leadership over
    MoveLeader {
        /// To this member, by name or id [default: the best of the others]
        member: Option<String>,
    },
}

#[derive(Args)]
pub(crate) struct AddArgs {
    /// Where the other members will reach it, as HOST:PORT separated by commas
    #[arg(value_delimiter = ',', required = true, value_name = "HOST:PORT")]
    peer_addr: Vec<String>,
    /// What to call it in the command that is printed [default: the first of n1, n2 ... that is free]
    #[arg(long)]
    name: Option<String>,
    /// It stays a learner until `member promote`
    #[arg(long)]
    learner: bool,
}

#[derive(Args)]
pub(crate) struct ReplaceArgs {
    /// Who leaves, by name or id, and where the other members will reach its successor
    #[arg(required = true, value_name = "MEMBER=HOST:PORT", value_parser = replacement)]
    pairs: Vec<(String, String)>,
}

fn replacement(text: &str) -> Result<(String, String), String> {
    let (member, address) = text
        .split_once('=')
        .ok_or("write MEMBER=HOST:PORT, such as n1=10.0.0.4:2380")?;
    Ok((member.to_owned(), address.to_owned()))
}

pub(crate) async fn run(
    client: &Client,
    security: &Security,
    output: Output,
    command: MemberCommand,
) -> Result<(), Failed> {
    let before = client.members().await?;
    let members = Members(&before.message);
    match command {
        MemberCommand::List => match output {
            Output::Text => line(text(&members.table())),
            Output::Json => {
                let mut result = json_head(&before, before.message.header.as_ref());
                let leader = before.message.leader;
                let shown = members.0.members.iter();
                result.insert(
                    "members".into(),
                    shown.map(|member| shown_json(member, leader)).collect(),
                );
                line(Value::Object(result))
            }
        },
        MemberCommand::Add(args) => {
            let names = vec![args.name.unwrap_or_else(|| members.free_name(0))];
            let add = AddMember {
                peer_addresses: checked(args.peer_addr)?,
                learner: args.learner,
                replaces: 0,
            };
            prepare(client, output, vec![add], names).await
        }
        MemberCommand::Replace(args) => {
            let mut adds = Vec::new();
            for (member, address) in args.pairs {
                adds.push(AddMember {
                    peer_addresses: checked(vec![address])?,
                    learner: false,
                    replaces: members.find(&member)?.id,
                });
            }
            let names = (0..adds.len()).map(|nth| members.free_name(nth)).collect();
            prepare(client, output, adds, names).await
        }
        MemberCommand::Promote { member } => {
            let member = members.find(&member)?;
            client
                .change_members(vec![Change::Promote(member.id)])
                .await?;
            done(output, "promoted", &[member])
        }
        MemberCommand::Remove { members: named } => {
            let leaving = named.iter().map(|member| members.find(member));
            let leaving: Vec<&MemberInfo> = leaving.collect::<Result<_, _>>()?;
            let changes = leaving.iter().map(|member| Change::Remove(member.id));
            client.change_members(changes.collect()).await?;
            done(output, "removed", &leaving)
        }
        MemberCommand::Update { member, peer_addr } => {
            let member = members.find(&member)?;
            let change = MoveMember {
                member: member.id,
                peer_addresses: checked(peer_addr)?,
            };
            client.change_members(vec![Change::Move(change)]).await?;
            done(output, "updated", &[member])
        }
        MemberCommand::MoveLeader { member } => {
            let target = match &member {
                Some(member) => members.find(member)?,
                None => members.heir()?,
            };
            let leader = members.leader()?;
            let client = Client::secured(&leader.client_addresses, security)?
                .with_timeout(client.timeout())
                .with_user_of(client);
            client.move_leader(target.id).await?;
            done(output, "leader", &[target])
        }
    }
}

/// The members as they were told.
struct Members<'a>(&'a ListMembersResponse);

impl<'a> Members<'a> {
    /// The one of this name or id.
    fn find(&self, text: &str) -> Result<&'a MemberInfo, Failed> {
        let id = u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok();
        let members = &self.0.members;
        let named = members
            .iter()
            .find(|member| member.name == text && !text.is_empty());
        named
            .or_else(|| members.iter().find(|member| Some(member.id) == id))
            .ok_or_else(|| {
                let known: Vec<String> = members.iter().map(shown).collect();
                Failed::Refused(format!(
                    "member: {text} is none of the cluster; its members are {}",
                    known.join(", ")
                ))
            })
    }

    fn leader(&self) -> Result<&'a MemberInfo, Failed> {
        let mut members = self.0.members.iter();
        let leader = members.find(|member| member.id == self.0.leader);
        leader
            .filter(|leader| !leader.client_addresses.is_empty())
            .ok_or_else(|| Failed::Unreachable("nobody is known to lead; try again".into()))
    }

    /// Who should lead if not the leader.
    fn heir(&self) -> Result<&'a MemberInfo, Failed> {
        let members = self.0.members.iter();
        let others = members.filter(|member| member.id != self.0.leader && role(member) == "voter");
        others
            .max_by_key(|member| member.priority)
            .ok_or_else(|| Failed::Refused("no other member votes, so none can lead".into()))
    }

    /// The `nth` free one of the names n1, n2 and so on, behind those that were shown for places where nobody has started yet.
    fn free_name(&self, nth: usize) -> String {
        let members = || self.0.members.iter();
        let taken = |name: &String| members().any(|member| member.name == *name);
        let prepared = members().filter(|member| member.name.is_empty()).count();
        (1..)
            .map(|number| format!("n{number}"))
            .filter(|name| !taken(name))
            .nth(prepared + nth)
            .expect("there are more names than members")
    }

    fn table(&self) -> comfy_table::Table {
        let mut table = table(["NAME", "ID", "PEERS AT", "CLIENTS AT", "ROLE"]);
        for member in &self.0.members {
            let leads = member.id == self.0.leader;
            table.add_row([
                if member.name.is_empty() {
                    "-".to_owned()
                } else {
                    member.name.clone()
                },
                format!("{:x}", member.id),
                addresses(&member.peer_addresses),
                addresses(&member.client_addresses),
                if leads { "leader" } else { role(member) }.to_owned(),
            ]);
        }
        table
    }
}

fn role(member: &MemberInfo) -> &'static str {
    match member.role() {
        MemberRole::Voter => "voter",
        MemberRole::Learner if member.name.is_empty() => "learner, not started",
        MemberRole::Joining if member.name.is_empty() => "not started",
        MemberRole::Learner => "learner",
        MemberRole::Joining => "catching up",
    }
}

/// How to name a member to people.
fn shown(member: &MemberInfo) -> String {
    if member.name.is_empty() {
        format!("{:x}", member.id)
    } else {
        format!("{} ({:x})", member.name, member.id)
    }
}

fn shown_json(member: &MemberInfo, leader: u64) -> Value {
    json!({
        "name": member.name,
        "id": format!("{:x}", member.id),
        "peer_urls": member.peer_addresses,
        "client_urls": member.client_addresses,
        "learner": member.role() == MemberRole::Learner,
        "role": role(member),
        "leader": member.id == leader,
        "priority": member.priority,
        "incarnation": member.incarnation,
    })
}

fn addresses(addresses: &[String]) -> String {
    if addresses.is_empty() {
        "-".into()
    } else {
        addresses.join(",")
    }
}

/// Peer addresses as members are told them: `host:port`, a URL's scheme left out.
fn checked(addresses: Vec<String>) -> Result<Vec<String>, Failed> {
    let check = |address: String| {
        let bare = bare(&address);
        server::config::check_address(bare, false)
            .map_err(|why| Failed::Usage(format!("peer address: {why}")))?;
        Ok(bare.to_owned())
    };
    addresses.into_iter().map(check).collect()
}

/// An address without the scheme it may be written with.
pub(crate) fn bare(address: &str) -> &str {
    address
        .split_once("://")
        .map_or(address, |(_, address)| address)
}

fn done(output: Output, what: &str, members: &[&MemberInfo]) -> Result<(), Failed> {
    match output {
        Output::Text => {
            let members: Vec<String> = members.iter().map(|member| shown(member)).collect();
            line(format!("{what}: {}", members.join(", ")))
        }
        Output::Json => {
            let ids = members.iter().map(|member| format!("{:x}", member.id));
            line(json!({ what: ids.collect::<Vec<_>>() }))
        }
    }
}

/// Prepares places and prints the commands that start members in them.
async fn prepare(
    client: &Client,
    output: Output,
    adds: Vec<AddMember>,
    names: Vec<String>,
) -> Result<(), Failed> {
    let (several, learner) = (adds.len() > 1, adds.iter().any(|add| add.learner));
    let replaces = adds.iter().any(|add| add.replaces != 0);
    let places: Vec<String> = adds
        .iter()
        .map(|add| add.peer_addresses[0].clone())
        .collect();
    let changes = adds.into_iter().map(Change::Add).collect();
    let answer = client.change_members(changes).await?.message;
    let started = answer
        .members
        .iter()
        .filter(|member| !member.name.is_empty());
    let listed: Vec<String> = started
        .map(|member| format!("{}={}", member.name, bare(&member.peer_addresses[0])))
        .collect();
    let client_addresses = free_client_addresses(&answer.members, &places);
    let commands = names.iter().zip(&places).zip(&client_addresses);
    let commands = commands.map(|((name, place), clients)| command(name, place, clients, &listed));
    match output {
        Output::Text => {
            let (it, votes) = if several {
                ("them", "vote")
            } else {
                ("it", "votes")
            };
            eprintln!(
                "prepared {}; start {it} with an empty data directory:",
                places.join(", ")
            );
            for command in commands {
                line(command)?;
            }
            match (learner, replaces) {
                (true, _) => eprintln!("it stays a learner until `synod member promote`"),
                (false, false) => eprintln!("it {votes} once it has caught up"),
                (false, true) => eprintln!(
                    "the old {} once the new {} caught up",
                    if several {
                        "members leave"
                    } else {
                        "member leaves"
                    },
                    if several { "ones have all" } else { "one has" }
                ),
            }
            Ok(())
        }
        Output::Json => {
            for ((name, id), command) in names.iter().zip(&answer.added).zip(commands) {
                line(json!({ "id": format!("{id:x}"), "name": name, "command": command }))?;
            }
            Ok(())
        }
    }
}

/// Where clients are to reach the members in these places: the port before that of the peers, as everywhere, or the next one before it that no member
/// has on that host, places where nobody has started yet included.
fn free_client_addresses(members: &[MemberInfo], places: &[String]) -> Vec<String> {
    let told = members
        .iter()
        .flat_map(|member| member.peer_addresses.iter().chain(&member.client_addresses));
    let mut taken: BTreeSet<String> = told.map(|address| bare(address).to_owned()).collect();
    let prepared = members
        .iter()
        .filter(|member| member.name.is_empty())
        .filter_map(|member| member.peer_addresses.first())
        .map(|address| bare(address))
        .filter(|address| !places.iter().any(|place| place == address));
    for place in prepared {
        let address = free_client_address(place, &taken);
        taken.insert(address);
    }
    let mut free = Vec::new();
    for place in places {
        let address = free_client_address(place, &taken);
        taken.insert(address.clone());
        free.push(address);
    }
    free
}

fn free_client_address(place: &str, taken: &BTreeSet<String>) -> String {
    let (host, port) = place.rsplit_once(':').expect("it was checked");
    let port: u16 = port.parse().unwrap_or(2380);
    (1..port)
        .rev()
        .chain(port + 1..)
        .map(|port| format!("{host}:{port}"))
        .find(|address| !taken.contains(address))
        .expect("a host has more ports than members")
}

/// The command that starts a member in a place.
fn command(name: &str, place: &str, clients: &str, listed: &[String]) -> String {
    format!(
        "synod serve --name {name} --data-dir {name} --client-addr {clients} --peer-addr {place} --cluster-state existing --cluster {},{name}={place}",
        listed.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_command_is_understood() {
        let listed = ["n1=10.0.0.1:2380".to_owned()];
        let line = command("n4", "10.0.0.4:2380", "10.0.0.4:2379", &listed);
        assert_eq!(
            line,
            "synod serve --name n4 --data-dir n4 --client-addr 10.0.0.4:2379 --peer-addr 10.0.0.4:2380 --cluster-state existing \
             --cluster n1=10.0.0.1:2380,n4=10.0.0.4:2380"
        );
        assert!(<crate::Cli as clap::Parser>::try_parse_from(line.split_whitespace()).is_ok());
    }

    /// Both places that were prepared one after the other were told to start as n4, one of them at the port of another member's peers.
    #[test]
    fn what_is_proposed_is_nobodys_not_even_of_who_has_not_started() {
        let member = |name: &str, peers: u16, clients: &[u16]| MemberInfo {
            name: name.into(),
            peer_addresses: vec![format!("http://h:{peers}")],
            client_addresses: clients
                .iter()
                .map(|port| format!("http://h:{port}"))
                .collect(),
            ..MemberInfo::default()
        };
        let mut list = ListMembersResponse {
            members: vec![member("n1", 20, &[19]), member("n3", 22, &[12])],
            ..ListMembersResponse::default()
        };
        assert_eq!(Members(&list).free_name(0), "n2");
        list.members.push(member("", 21, &[]));
        assert_eq!(Members(&list).free_name(0), "n4");
        assert_eq!(Members(&list).free_name(1), "n5");
        list.members
            .extend([member("", 25, &[]), member("", 26, &[])]);
        // Who is to start at 21 was told 18.
        let places = ["h:26", "h:25", "i:23"].map(str::to_owned);
        let told = free_client_addresses(&list.members, &places);
        assert_eq!(told, ["h:24", "h:23", "i:22"]);
    }

    #[test]
    fn addresses_are_checked_before_anybody_is_asked() {
        let kept = checked(vec!["http://h:1".into(), "[::1]:2".into()]).ok();
        assert_eq!(kept, Some(vec!["h:1".to_owned(), "[::1]:2".to_owned()]));
        assert!(checked(vec!["h".into()]).is_err());
        assert!(checked(vec!["h:0".into()]).is_err());
    }
}
