//! Requests to the registry: the order of addresses, retries, limits, and the checks of answers.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use ureq::http::{Method, Request, Response, StatusCode, header};
use ureq::{Agent, AsSendBody, Body};

use super::builder::BaseUrl;
use crate::error::{Error, ErrorKind, Recovery, Result, Timeout};
use crate::logging::{debug, warn};
use crate::time::{Backoff, RandomNumbers, deadline};

/// The content types of registries' JSON. The first one is sent and asked for.
const CONTENT_TYPES: [&str; 3] =
    ["application/vnd.schemaregistry.v1+json", "application/vnd.schemaregistry+json", "application/json"];

/// The settings of TLS, for https.
#[cfg(feature = "schema-registry-tls")]
pub(super) type Tls = ureq::tls::TlsConfig;
/// Without https there are no settings.
#[cfg(not(feature = "schema-registry-tls"))]
pub(super) enum Tls {}

/// How long an attempt and a call may take, and how often is retried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) call_timeout: Duration,
    pub(super) retries: u32,
    pub(super) backoff: Backoff,
    pub(super) max_response_bytes: usize,
}

/// Sends each request to the first address that answers.
pub(super) struct Http {
    agent: Agent,
    urls: Vec<BaseUrl>,
    limits: Limits,
    /// The address that answered last, with which the next call begins.
    preferred: AtomicUsize,
    random: Mutex<RandomNumbers>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("urls", &self.urls).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Why an attempt failed, and what to try next.
struct HttpFailure {
    error: Error,
    next: Next,
}

enum Next {
    /// Nothing: every address would answer the same.
    GiveUp,
    /// Another address. Waiting does not help.
    OtherAddress,
    /// Another address, or the same one later; the registry may have said how much later.
    Later(Option<Duration>),
}

impl Http {
    pub(super) fn new(urls: Vec<BaseUrl>, limits: Limits, tls: Option<Tls>) -> Self {
        #[cfg_attr(not(feature = "schema-registry-tls"), expect(unused_mut, reason = "only https changes it"))]
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect could send the credentials to any other server.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The environment's proxy settings are not used.
            .proxy(None)
            .user_agent(concat!("kafka-blocking/", env!("CARGO_PKG_VERSION")))
            .accept(CONTENT_TYPES[0])
            .timeout_connect(Some(limits.connect_timeout));
        #[cfg(feature = "schema-registry-tls")]
        if let Some(tls) = tls {
            config = config.tls_config(tls);
        }
        #[cfg(not(feature = "schema-registry-tls"))]
        if let Some(never) = tls {
            match never {}
        }
        Self {
            agent: Agent::new_with_config(config.build()),
            urls,
            limits,
            preferred: AtomicUsize::new(0),
            random: Mutex::new(RandomNumbers::from_entropy()),
        }
    }

    /// Sends a request until an address answers it, and returns the JSON of the answer.
    ///
    /// *Blocks* at most for `call_timeout`.
    pub(super) fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let until = deadline(Instant::now(), self.limits.call_timeout);
        let body = body.map(Value::to_string);
        let mut attempts = 0;
        for round in 1_u32.. {
            let first = self.preferred.load(Ordering::Relaxed);
            let mut later = None;
            let mut last = None;
            for offset in 0..self.urls.len() {
                let index = first.wrapping_add(offset).checked_rem(self.urls.len()).unwrap_or(0);
                let Some(base) = self.urls.get(index) else { continue };
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                attempts += 1;
                let failure = match self.attempt(base, method, path, body.as_deref(), left) {
                    Ok(answer) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(failure) => failure,
                };
                let error = failure.error.at_address(&base.url).in_context(|context| context.attempts = Some(attempts));
                debug!("schema registry: {method} {path}: {error:#}");
                match failure.next {
                    Next::GiveUp => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Err(error);
                    }
                    Next::OtherAddress => {}
                    Next::Later(wait) => later = Some(later.unwrap_or(Duration::ZERO).max(wait.unwrap_or_default())),
                }
                last = Some(error);
            }
            let error = last.unwrap_or_else(|| self.out_of_time());
            let Some(asked) = later else { return Err(error) };
            let wait = self.limits.backoff.after(round, &mut self.random.lock()).max(asked);
            if round > self.limits.retries {
                return Err(error);
            }
            // If the wait would take longer than the call may, the error is returned now.
            if Instant::now().checked_add(wait).is_none_or(|then| then >= until) {
                return Err(error);
            }
            warn!("schema registry: {method} {path}: again in {wait:?}: {error:#}");
            thread::sleep(wait);
        }
        Err(self.out_of_time())
    }

    fn out_of_time(&self) -> Error {
        let limit = self.limits.call_timeout;
        Error::timeout(Timeout::Request, format!("the schema registry did not answer within {limit:?}"))
    }

    fn attempt(
        &self,
        base: &BaseUrl,
        method: &Method,
        path: &str,
        body: Option<&str>,
        left: Duration,
    ) -> Result<Value, HttpFailure> {
        let limit = left.min(self.limits.request_timeout);
        let mut request = Request::builder().method(method).uri(format!("{}{path}", base.url));
        if let Some(authorization) = &base.authorization {
            request = request.header(header::AUTHORIZATION, authorization.header());
        }
        let sent = match body {
            Some(body) => self.run(request.header(header::CONTENT_TYPE, CONTENT_TYPES[0]).body(body), limit),
            None => self.run(request.body(()), limit),
        };
        let mut response = sent.map_err(|error| self.no_answer(error, limit))?;
        let wait = retry_after(&response);
        let status = response.status();
        let content_type = content_type(&response);
        let bound = u64::try_from(self.limits.max_response_bytes).unwrap_or(u64::MAX);
        let read = response.body_mut().with_config().limit(bound).read_to_vec();
        if !status.is_success() {
            // The body of an error answer may be anything, also empty.
            return Err(error_answer(status, &read.unwrap_or_default(), wait));
        }
        let bytes = read.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => HttpFailure {
                error: misbehaved(format!("an answer of more than {} bytes", self.limits.max_response_bytes))
                    .over_limit("max_response_bytes", bound),
                next: Next::OtherAddress,
            },
            error => self.no_answer(error, limit),
        })?;
        let garbage = |what: String| HttpFailure { error: misbehaved(what), next: Next::OtherAddress };
        if !CONTENT_TYPES.iter().any(|known| known.eq_ignore_ascii_case(&content_type)) {
            return Err(garbage(format!(
                "an answer of type {:?}, which is not a registry's; is something else at this address?",
                shorten(&content_type)
            )));
        }
        serde_json::from_slice(&bytes).map_err(|error| garbage(format!("an answer that is no JSON: {error}")))
    }

    fn run<B: AsSendBody>(
        &self,
        request: Result<Request<B>, ureq::http::Error>,
        limit: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(request?).timeout_global(Some(limit)).build();
        self.agent.run(request)
    }

    /// The failure of an attempt that ended without a whole answer.
    fn no_answer(&self, error: ureq::Error, limit: Duration) -> HttpFailure {
        let error = match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                let limit = self.limits.connect_timeout.min(limit);
                Error::timeout(Timeout::Connect, format!("no connection to the schema registry within {limit:?}"))
            }
            ureq::Error::Timeout(_) => {
                Error::timeout(Timeout::Request, format!("the schema registry did not answer within {limit:?}"))
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) | ureq::Error::Http(_) => {
                let error = misbehaved("an answer that is not HTTP").with_source(error);
                return HttpFailure { error, next: Next::OtherAddress };
            }
            error => {
                Error::network("the schema registry cannot be reached, or it closed the connection").with_source(error)
            }
        };
        HttpFailure { error, next: Next::Later(None) }
    }
}

fn misbehaved(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::SchemaRegistryMisbehaved, Recovery::Fix, format!("the schema registry sent {what}"))
}

/// The media type without parameters.
fn content_type<B>(response: &Response<B>) -> String {
    let value = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

/// The wait that the registry asks for, if it says it in seconds. (The other form is a date, which no registry sends.)
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

fn error_answer(status: StatusCode, body: &[u8], wait: Option<Duration>) -> HttpFailure {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let error_code = answer.get("error_code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
    let message = answer.get("message").and_then(Value::as_str).map(shorten).unwrap_or_default();
    let (recovery, next) = match status.as_u16() {
        408 | 429 | 500..=599 => (Recovery::Retry, Next::Later(wait)),
        _ => (Recovery::Fix, Next::GiveUp),
    };
    let mut text = format!("the schema registry answered {status}");
    if let Some(code) = error_code
        && code != i32::from(status.as_u16())
    {
        text.push_str(&format!(", code {code}"));
    }
    if !message.is_empty() {
        text.push_str(": ");
        text.push_str(&message);
    }
    if let Some(wait) = wait {
        text.push_str(&format!("; it asks clients to wait for {wait:?}"));
    }
    let kind = ErrorKind::SchemaRegistry { status: status.as_u16(), error_code: error_code.unwrap_or(0) };
    HttpFailure { error: Error::new(kind, recovery, text), next }
}

/// The registry's text as it can stand in a log line: control characters are replaced, and it has at most 500
/// characters.
fn shorten(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A part of a path, with everything but unreserved characters encoded.
pub(super) fn encode(part: &str) -> String {
    let mut encoded = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The settings of TLS. `None` without the feature.
#[cfg(not(feature = "schema-registry-tls"))]
pub(super) fn tls(_: &[Vec<u8>], _: bool) -> Result<Option<Tls>, String> {
    Ok(None)
}

/// The settings of TLS; `None` if no address uses https. The error is a fault of the settings.
#[cfg(feature = "schema-registry-tls")]
pub(super) fn tls(authorities: &[Vec<u8>], needed: bool) -> Result<Option<Tls>, String> {
    use std::sync::Arc;

    use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

    if !needed {
        return Ok(None);
    }
    let mut certificates = Vec::new();
    for pem in authorities {
        let before = certificates.len();
        for item in parse_pem(pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(format!("certificate_authority_pem: {error}")),
            }
        }
        if certificates.len() == before {
            return Err("certificate_authority_pem: it holds no certificate".to_owned());
        }
    }
    let roots = if certificates.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&certificates) };
    // The program's own provider takes precedence: the program may need a certified one, or one for a processor that
    // the built-in one does not support.
    let provider = match rustls::crypto::CryptoProvider::get_default() {
        Some(provider) => Arc::clone(provider),
        None => Arc::new(own_provider().ok_or(
            "https: this processor lacks instructions that the built-in cryptography needs; install a provider with \
             rustls::crypto::CryptoProvider::install_default",
        )?),
    };
    Ok(Some(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build()))
}

/// Graviola panics if the processor lacks instructions that it needs, so they are checked here first.
#[cfg(feature = "schema-registry-tls")]
fn own_provider() -> Option<rustls::crypto::CryptoProvider> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let able = has!("adx") && has!("aes") && has!("avx") && has!("avx2") && has!("bmi1") && has!("pclmulqdq");
        able.then(rustls_graviola::default_provider)
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected as has;
        (has!("aes") && has!("neon") && has!("pmull") && has!("sha2")).then(rustls_graviola::default_provider)
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_part_of_a_path() {
        assert_eq!(encode("customer-value"), "customer-value");
        assert_eq!(encode("a/b c?ä:"), "a%2Fb%20c%3F%C3%A4%3A");
    }

    #[test]
    fn the_text_of_an_error_cannot_forge_log_lines() {
        let body = br#"{"error_code":42201,"message":"bad\nschema"}"#;
        let failure = error_answer(StatusCode::UNPROCESSABLE_ENTITY, body, None);
        assert_eq!(failure.error.kind(), ErrorKind::SchemaRegistry { status: 422, error_code: 42201 });
        assert!(failure.error.to_string().contains("code 42201: bad schema"), "{}", failure.error);
        assert!(matches!(failure.next, Next::GiveUp));
        // A body without an error code, such as a gateway sends.
        let failure = error_answer(StatusCode::BAD_GATEWAY, b"<html>", None);
        assert_eq!(failure.error.kind(), ErrorKind::SchemaRegistry { status: 502, error_code: 0 });
        assert!(matches!(failure.next, Next::Later(None)));
    }
}
