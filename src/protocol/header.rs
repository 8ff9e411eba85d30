//! Whole frames: a header and a message. The headers are written by hand, because they have two exceptions: the client
//! id stays a classic string in a flexible header, and ApiVersions is answered with the old header, for clients that do
//! not know the new one.

use super::api::Request;
use super::frame::{FrameReader, FrameWriter};
use super::messages::{ApiVersionsRequest, ApiVersionsResponse};
use super::wire::{At, Wire};
use crate::bytes::SharedBytes;
use crate::error::{Error, ErrorCode, Result};

/// The layout of the fields that every header version has.
const CLASSIC: At = At { version: 0, flexible: false };

/// Writes a whole request frame, beginning with its length. What the writer held before is dropped.
pub(crate) fn encode_request<R: Request>(
    w: &mut FrameWriter,
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<()> {
    w.begin();
    write_request::<R>(w, request, version, correlation_id, client_id).map_err(|error| at_api::<R>(error, version))
}

fn write_request<R: Request>(
    w: &mut FrameWriter,
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<()> {
    let at = R::at(version);
    R::KEY.write(w, CLASSIC)?;
    version.write(w, CLASSIC)?;
    correlation_id.write(w, CLASSIC)?;
    match client_id {
        Some(id) => {
            let len = i16::try_from(id.len()).map_err(|_| Error::invalid("the client id is too long"))?;
            len.write(w, CLASSIC)?;
            w.put(id.as_bytes());
        }
        None => (-1i16).write(w, CLASSIC)?,
    }
    if at.flexible {
        w.put_uvarint(0);
    }
    request.write(w, at)?;
    w.finish()
}

/// Reads the answer to a request of `version`: the correlation id and the message. `frame` is without its length. Bytes
/// after the message are an error.
pub(crate) fn decode_response<R: Request>(frame: SharedBytes, version: i16) -> Result<(i32, R::Response)> {
    read_response::<R>(&frame, version).map_err(|error| at_api::<R>(error, version))
}

fn read_response<R: Request>(frame: &SharedBytes, version: i16) -> Result<(i32, R::Response)> {
    let at = R::at(version);
    let mut r = FrameReader::new(frame);
    let correlation_id = i32::read(&mut r, CLASSIC)?;
    if response_header_has_tags::<R>(at) {
        r.skip_tags()?;
    }
    let response = R::Response::read(&mut r, at)?;
    r.expect_end()?;
    Ok((correlation_id, response))
}

/// Reads the answer to an ApiVersions request. A broker that does not know the request's version answers at version 0,
/// whatever the request's version was, and lists the versions that it does know (KIP-511).
pub(crate) fn decode_api_versions(frame: SharedBytes, version: i16) -> Result<(i32, ApiVersionsResponse)> {
    // The error code is the first field at every version.
    if frame.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes())
        && let Ok(answer) = read_response::<ApiVersionsRequest>(&frame, 0)
    {
        return Ok(answer);
    }
    decode_response::<ApiVersionsRequest>(frame, version)
}

fn response_header_has_tags<R: Request>(at: At) -> bool {
    at.flexible && R::KEY != ApiVersionsRequest::KEY
}

#[cold]
fn at_api<R: Request>(error: Error, version: i16) -> Error {
    error.in_context(|context| context.api = Some((R::NAME, version)))
}

/// The header of a request, which a broker reads before it knows which message follows.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHeader {
    pub(crate) api_key: i16,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<String>,
}

/// The broker's side of [`encode_request`]: the header of a request frame without its length, and a reader of the rest:
/// the header's tags, if the version is flexible, and the message. [`decode_request`] reads the rest.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn decode_request_header(frame: &SharedBytes) -> Result<(RequestHeader, FrameReader<'_>)> {
    let mut r = FrameReader::new(frame);
    let header = RequestHeader {
        api_key: i16::read(&mut r, CLASSIC)?,
        version: i16::read(&mut r, CLASSIC)?,
        correlation_id: i32::read(&mut r, CLASSIC)?,
        client_id: Option::read(&mut r, CLASSIC)?,
    };
    Ok((header, r))
}

/// The message of a request, from the reader that [`decode_request_header`] gave.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn decode_request<R: Request>(mut r: FrameReader<'_>, version: i16) -> Result<R> {
    let at = R::at(version);
    if at.flexible {
        r.skip_tags()?;
    }
    let request = R::read(&mut r, at)?;
    r.expect_end()?;
    Ok(request)
}

/// The broker's side of [`decode_response`]: writes a whole response frame, beginning with its length.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn encode_response<R: Request>(
    w: &mut FrameWriter,
    response: &R::Response,
    version: i16,
    correlation_id: i32,
) -> Result<()> {
    let at = R::at(version);
    w.begin();
    correlation_id.write(w, CLASSIC)?;
    if response_header_has_tags::<R>(at) {
        w.put_uvarint(0);
    }
    response.write(w, at)?;
    w.finish()
}
