//! Plain HTTP/1.1, one request per connection: what curl does, without curl.

use crate::Outcome;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends one request and gives the status and the body. No body makes it a GET.
///
/// # Errors
/// When there is no answer within five seconds, or none that is HTTP.
pub async fn request(
    address: SocketAddr,
    path: &str,
    body: Option<&str>,
) -> Outcome<(u16, String)> {
    timely(address, path, &[], body).await
}

/// Sends one request with a body and headers of its own.
///
/// # Errors
/// See [`request`].
pub async fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Outcome<(u16, String)> {
    timely(address, path, headers, Some(body)).await
}

async fn timely(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Outcome<(u16, String)> {
    let exchange = exchange(address, path, headers, body);
    match tokio::time::timeout(Duration::from_secs(5), exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("{path}: no answer within 5 s").into()),
    }
}

async fn exchange(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Outcome<(u16, String)> {
    let headers = headers.iter();
    let headers: String = headers
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let mut stream = TcpStream::connect(address).await?;
    let head = match body {
        None => {
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n")
        }
        Some(body) => format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        ),
    };
    stream.write_all(head.as_bytes()).await?;
    stream
        .write_all(body.unwrap_or_default().as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| format!("{path}: the answer is not HTTP").into())
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        Some((status, unchunk(body)))
    } else {
        Some((status, body.to_string()))
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let Ok(length) = usize::from_str_radix(length.trim(), 16) else {
            break;
        };
        let Some(chunk) = rest.get(..length).filter(|_| length > 0) else {
            break;
        };
        whole.push_str(chunk);
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_answers_are_put_together() {
        let answer =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(answer), Some((200, "abcde".to_string())));
    }

    #[test]
    fn plain_answers_are_taken_as_they_are() {
        assert_eq!(
            parse("HTTP/1.1 404 Not Found\r\n\r\nno"),
            Some((404, "no".to_string()))
        );
        assert_eq!(parse("nonsense"), None);
    }
}
