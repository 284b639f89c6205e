//! Requests about members and versions, as etcd checks them.

use crate::Status;

/// The `host:port` of each peer URL, sorted as etcd sorts them.
///
/// # Errors
/// There are none, or one is malformed, or of a scheme that members do not speak.
pub fn peer_addresses(urls: &[String]) -> Result<Vec<String>, Status> {
    let mut addresses: Vec<String> = urls
        .iter()
        .map(|url| peer_address(url.trim()).ok_or(Status::MEMBER_BAD_URLS))
        .collect::<Result<_, _>>()?;
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(Status::MEMBER_BAD_URLS);
    }
    Ok(addresses)
}

fn peer_address(url: &str) -> Option<String> {
    let address = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))?;
    if address.contains(['/', '?', '#', '@', ' ']) {
        return None;
    }
    let (host, port) = address.rsplit_once(':')?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let sound = !host.is_empty() && (bracketed || !host.contains(':'));
    port.parse::<u16>().ok().filter(|port| *port > 0 && sound)?;
    Some(address.to_owned())
}

/// Checks the version a cluster is to go back to.
///
/// # Errors
/// It is no version, or not the one before `current`, both as `major.minor`.
pub fn downgrade_target(version: &str, current: (u64, u64)) -> Result<(), Status> {
    let parts: Vec<&str> = version.split('.').collect();
    let number = |part: &&str| part.parse::<u64>().ok();
    let numbers: Option<Vec<u64>> = parts.iter().map(number).collect();
    let (major, minor) = match numbers.as_deref() {
        Some([major, minor] | [major, minor, _]) => (*major, *minor),
        _ => return Err(Status::WRONG_DOWNGRADE_VERSION_FORMAT),
    };
    if (major, minor) != (current.0, current.1 - 1) {
        return Err(Status::INVALID_DOWNGRADE_VERSION);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_checked_as_etcd_does() {
        let addresses = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            peer_addresses(&urls)
        };
        assert_eq!(
            addresses(&["http://b:2", " https://[::1]:1", "http://b:2"]),
            Ok(vec!["[::1]:1".to_owned(), "b:2".to_owned()])
        );
        for bad in [
            "",
            "foo",
            "b:2",
            "unix://b:2",
            "http://b",
            "http://b:2/",
            "http://b:2/x",
            "http://:2",
            "http://b:0",
            "http://b:70000",
            "http://::1:2",
            "http://u@b:2",
        ] {
            assert_eq!(addresses(&[bad]), Err(Status::MEMBER_BAD_URLS), "{bad}");
        }
        assert_eq!(addresses(&[]), Err(Status::MEMBER_BAD_URLS));
    }

    #[test]
    fn a_cluster_goes_back_one_version_at_a_time() {
        for good in ["3.5", "3.5.0", "3.5.12"] {
            assert_eq!(downgrade_target(good, (3, 6)), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("3.4", Status::INVALID_DOWNGRADE_VERSION),
            ("3.6", Status::INVALID_DOWNGRADE_VERSION),
            ("x.y", Status::WRONG_DOWNGRADE_VERSION_FORMAT),
            ("3", Status::WRONG_DOWNGRADE_VERSION_FORMAT),
            ("", Status::WRONG_DOWNGRADE_VERSION_FORMAT),
            ("3.5.0.1", Status::WRONG_DOWNGRADE_VERSION_FORMAT),
        ] {
            assert_eq!(downgrade_target(bad, (3, 6)), Err(why), "{bad}");
        }
    }
}
