//! Which web pages browsers let talk to this port (CORS), as etcd says it.

use crate::grpc::body::Body;
use http::{HeaderMap, HeaderValue, Response, header};

/// Stands for every origin.
const ALL: &str = "*";

/// The origins that are let in.
#[derive(Clone, Debug)]
pub(crate) struct Origins(Vec<String>);

impl Origins {
    pub(crate) fn new(origins: &[String]) -> Origins {
        Origins(origins.to_vec())
    }

    /// The origin to name in the answer to a request with these headers; `None`: its page is none of those.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.0.iter().any(|origin| origin == ALL) {
            return Some(HeaderValue::from_static(ALL));
        }
        let origin = headers.get(header::ORIGIN)?;
        let known = self
            .0
            .iter()
            .any(|known| known.as_bytes() == origin.as_bytes());
        known.then(|| origin.clone())
    }
}

/// Tells a browser that pages of this origin may read the answer.
pub(super) fn allow(mut response: Response<Body>, origin: Option<HeaderValue>) -> Response<Body> {
    let Some(origin) = origin else {
        return response;
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("accept, content-type, authorization"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_let_in_by_name_or_all() {
        let allowed = |known: &[&str], origin: Option<&'static str>| {
            let known: Vec<String> = known.iter().map(|it| (*it).to_owned()).collect();
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            Origins::new(&known).allowed(&headers)
        };
        let (a, b) = ("https://a.example", "https://b.example");
        assert_eq!(allowed(&[ALL], None), Some(HeaderValue::from_static(ALL)));
        assert_eq!(allowed(&[a, b], Some(b)), Some(HeaderValue::from_static(b)));
        assert_eq!(allowed(&[a], Some(b)), None);
        assert_eq!(allowed(&[a], None), None);
        let answer = |origin| allow(Response::new(Body::Empty), origin);
        assert!(answer(None).headers().is_empty());
        assert_eq!(answer(allowed(&[a], Some(a))).headers().len(), 3);
    }
}
