//! What a refusal says beside its code and text, as trailers of gRPC and fields of JSON.

use etcd::Advice;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;

/// A stable word for programs.
pub(crate) const REASON: &str = "synod-reason";
/// Whether another try can help.
pub(crate) const CLASS: &str = "synod-class";
/// How long to wait before it.
pub(crate) const RETRY_AFTER: &str = "synod-retry-after-ms";

/// Writes it into trailers.
pub(crate) fn write(advice: &Advice, trailers: &mut HeaderMap) {
    let mut put = |name, value| trailers.insert(HeaderName::from_static(name), value);
    put(REASON, HeaderValue::from_static(advice.reason));
    put(CLASS, HeaderValue::from_static(advice.class.word()));
    if advice.retry_after_ms > 0 {
        put(RETRY_AFTER, HeaderValue::from(advice.retry_after_ms));
    }
}

/// The same as tonic's metadata.
pub(crate) fn metadata(advice: Option<&Advice>) -> MetadataMap {
    let mut trailers = HeaderMap::new();
    if let Some(advice) = advice {
        write(advice, &mut trailers);
    }
    MetadataMap::from_headers(trailers)
}
