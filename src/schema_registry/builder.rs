//! The settings of a registry's client.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::client::SchemaRegistry;
use super::http::{Http, Limits};
use super::properties;
use crate::config::properties::parse_text;
use crate::error::{Error, Result};
use crate::time::Backoff;

/// The settings of a [`SchemaRegistry`]. Their `Debug` shows no secret.
#[derive(Clone)]
#[must_use]
pub struct SchemaRegistryBuilder {
    pub(super) urls: Vec<String>,
    pub(super) authorization: Option<Authorization>,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) call_timeout: Duration,
    pub(super) retries: u32,
    pub(super) retry_backoff: Duration,
    pub(super) retry_backoff_max: Duration,
    pub(super) cache_capacity: usize,
    pub(super) max_response_bytes: usize,
    pub(super) normalize: bool,
    pub(super) authorities: Vec<Vec<u8>>,
    /// What is wrong with the properties that were given, one message each.
    pub(super) faults: Vec<String>,
}

/// The value of the header `Authorization`. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Authorization(String);

impl Authorization {
    pub(super) fn basic(user: &str, password: &str) -> Self {
        Self(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    pub(super) fn bearer(token: &str) -> Self {
        Self(format!("Bearer {token}"))
    }

    pub(super) fn header(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split(' ').next().unwrap_or_default())
    }
}

/// One of the registry's addresses. Its `Debug` and `Display` show no secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct BaseUrl {
    /// Without user info and without a slash at the end.
    pub(super) url: String,
    pub(super) authorization: Option<Authorization>,
}

impl BaseUrl {
    /// The error is a sentence about the URL. It does not quote the URL where that could show a password.
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            "a registry's URL begins with http:// or https://, but one that was given does not".to_owned()
        })?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        // After a slash, which ends the host, an @ may belong to the path. But it may also end a password that has a
        // slash in it, and then the text before the slash is no host: `http://user:12/34@host` would go to the host
        // `user`.
        if path.contains('@') {
            return Err(format!(
                "a URL that was given has an @ after its first slash; {ESCAPES}, and an @ in a path %40",
            ));
        }
        let (user_info, host) = match authority.rsplit_once('@') {
            Some((user_info, host)) => (Some(user_info), host),
            None => (None, authority),
        };
        // A question mark or a number sign ends the host as well.
        if user_info.is_some_and(|user_info| user_info.contains(['?', '#', '\\'])) {
            return Err(format!(
                "the user info of a URL that was given has a character that must be escaped; {ESCAPES}"
            ));
        }
        // The HTTP client would ignore a port that is not valid, and connect to the scheme's default port. The port is
        // quoted only if it is a number: if the host is missing, this text is a password.
        let after_address = host.rsplit_once(']').map_or(host, |(_, after)| after);
        if let Some((_, port)) = after_address.rsplit_once(':') {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || !port.parse::<u16>().is_ok_and(|number| number != 0) {
                let shown = if digits { port } else { "not a number" };
                return Err(format!(
                    "a port is a number from 1 to 65535, but the port of a URL that was given is {shown}"
                ));
            }
        }
        let scheme = scheme.to_ascii_lowercase();
        let url = format!("{scheme}://{host}{}", path.trim_end_matches('/'));
        match &*scheme {
            "http" => {}
            "https" if cfg!(feature = "schema-registry-tls") => {}
            "https" => return Err(format!("{url} needs the feature schema-registry-tls")),
            _ => return Err(format!("{url} is neither http:// nor https://")),
        }
        let valid = url.parse::<ureq::http::Uri>().is_ok_and(|uri| {
            uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none() && !url.contains('#')
        });
        if !valid {
            return Err(format!("{url} is not the URL of a registry"));
        }
        let authorization = match user_info {
            None => None,
            Some(user_info) => {
                let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
                let (Some(user), Some(password)) = (percent_decode(user), percent_decode(password)) else {
                    return Err(format!("the user info in the URL of {url} is not percent-encoded UTF-8"));
                };
                Some(Authorization::basic(&user, &password))
            }
        };
        Ok(Self { url, authorization })
    }
}

/// How to write special characters in a URL's user info.
const ESCAPES: &str = "in a user's name or password a slash is written %2F, a question mark %3F, a number sign %23, an @ \
                       %40 and a percent sign %25";

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.url, self.authorization)
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Debug for SchemaRegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Any part of a URL that is not valid may be a password.
        let shown =
            |url: &String| BaseUrl::parse(url).map_or_else(|_| "a URL that is not valid".to_owned(), |url| url.url);
        let urls: Vec<String> = self.urls.iter().map(shown).collect();
        f.debug_struct("SchemaRegistryBuilder")
            .field("urls", &urls)
            .field("authorization", &self.authorization)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("call_timeout", &self.call_timeout)
            .field("retries", &self.retries)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl SchemaRegistryBuilder {
    pub(super) fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            authorization: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(20),
            call_timeout: Duration::from_secs(60),
            retries: 3,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(5),
            cache_capacity: 1000,
            max_response_bytes: 4 << 20,
            normalize: false,
            authorities: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// A builder with the settings in properties: [`properties`](Self::properties) over every default.
    pub fn from_properties<N: AsRef<str>, V: AsRef<str>>(properties: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::new(Vec::new()).properties(properties)
    }

    /// Sets what properties say, with the names of Java, such as `schema.registry.url` and `basic.auth.user.info`. One
    /// file may serve all clients of a program: properties of serializers, producers or consumers are left to those.
    ///
    /// A value that is not supported, and a name that is unknown to all of them, is a fault, which
    /// [`build`](Self::build) reports. Whatever is called later, a setter or this again, overrides what was set before.
    pub fn properties<N: AsRef<str>, V: AsRef<str>>(mut self, properties: impl IntoIterator<Item = (N, V)>) -> Self {
        properties::load_registry(&mut self, properties);
        self
    }

    /// [`properties`](Self::properties) in the text of a Java `.properties` file.
    pub fn properties_text(mut self, text: &str) -> Self {
        match parse_text(text) {
            Ok(properties) => self.properties(properties),
            Err(mut faults) => {
                self.faults.append(&mut faults);
                self
            }
        }
    }

    /// A user and password for all addresses. User info in a URL takes precedence for that address.
    ///
    /// Property: `basic.auth.user.info`, with `basic.auth.credentials.source=USER_INFO`.
    pub fn basic_auth(mut self, user: &str, password: &str) -> Self {
        if user.contains(':') {
            self.faults.push("basic_auth: a user's name cannot contain a colon".to_owned());
        }
        self.authorization = Some(Authorization::basic(user, password));
        self
    }

    /// A token for all addresses, instead of a user and password.
    ///
    /// Property: `bearer.auth.token`, with `bearer.auth.credentials.source=STATIC_TOKEN`.
    pub fn bearer_token(mut self, token: &str) -> Self {
        self.authorization = Some(Authorization::bearer(token));
        self
    }

    /// How long making a connection may take. Default 5 s. Property: `http.connect.timeout.ms`.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long one attempt may take, from connecting to the end of the answer. Default 20 s.
    /// Property: `http.read.timeout.ms`.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// How long one call of a method may take, with all attempts at all addresses and the waits between them.
    /// Default 60 s.
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = limit;
        self
    }

    /// How often all addresses are tried again after the first round, if none can be reached, or all answer 429 or 5xx.
    /// Default 3. Property: `max.retries`.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The wait before the first retry. It doubles with each further retry, and varies by a fifth. Default 100 ms.
    /// Property: `retries.wait.ms`.
    pub fn retry_backoff(mut self, wait: Duration) -> Self {
        self.retry_backoff = wait;
        self
    }

    /// The longest wait before a retry, unless the registry's `Retry-After` asks for a longer one. Default 5 s.
    /// Property: `retries.max.wait.ms`.
    pub fn retry_backoff_max(mut self, wait: Duration) -> Self {
        self.retry_backoff_max = wait;
        self
    }

    /// How many schemas by id, and how many ids by schema, are kept. Default 1000 each.
    /// Property: `max.schemas.per.subject`, which counts within a subject in Java.
    pub fn cache_capacity(mut self, schemas: usize) -> Self {
        self.cache_capacity = schemas;
        self
    }

    /// The longest answer that is read, in bytes. Default 4 MiB.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Whether the registry compares schemas in a normal form when it registers and looks up. Default no.
    /// Property: `normalize.schemas`.
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// Certificates, in PEM, of the authorities that the registry's certificate may come from, instead of those of the
    /// public web. May be called several times.
    #[cfg(feature = "schema-registry-tls")]
    pub fn certificate_authority_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities.push(pem.into());
        self
    }

    /// Makes a client with these settings. No connection is made yet.
    ///
    /// *Errors*: [`ErrorKind::Config`](crate::ErrorKind::Config), with every fault.
    pub fn build(self) -> Result<SchemaRegistry> {
        let mut faults = self.faults.clone();
        if self.urls.is_empty() {
            faults.push("schema.registry.url: no address is given".to_owned());
        }
        let mut urls = Vec::new();
        for url in &self.urls {
            match BaseUrl::parse(url) {
                Ok(url) => urls.push(url),
                Err(fault) => faults.push(format!("schema.registry.url: {fault}")),
            }
        }
        if let Some(authorization) = &self.authorization
            && ureq::http::HeaderValue::from_str(authorization.header()).is_err()
        {
            faults.push("bearer_token: a token has no control characters or line ends".to_owned());
        }
        for (name, limit) in [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("call_timeout", self.call_timeout),
        ] {
            if limit.is_zero() {
                faults.push(format!("{name}: 0 leaves no time"));
            }
        }
        for (name, value) in [("cache_capacity", self.cache_capacity), ("max_response_bytes", self.max_response_bytes)]
        {
            if value == 0 {
                faults.push(format!("{name}: at least 1"));
            }
        }
        if self.retry_backoff > self.retry_backoff_max {
            faults.push("retry_backoff: at most retry_backoff_max".to_owned());
        }
        let tls = match super::http::tls(&self.authorities, urls.iter().any(|url| url.url.starts_with("https:"))) {
            Ok(tls) => tls,
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
        if !faults.is_empty() {
            return Err(Error::config(format!("the schema registry's settings: {}", faults.join("; "))));
        }
        for url in &mut urls {
            url.authorization = url.authorization.take().or_else(|| self.authorization.clone());
        }
        let limits = Limits {
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            call_timeout: self.call_timeout,
            retries: self.retries,
            backoff: Backoff { initial: self.retry_backoff, max: self.retry_backoff_max },
            max_response_bytes: self.max_response_bytes,
        };
        Ok(SchemaRegistry::new(Http::new(urls, limits, tls), self.cache_capacity, self.normalize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(builder: SchemaRegistryBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn user_info_leaves_the_url_for_the_header() {
        let url = BaseUrl::parse("http://al%3Aice:p%40ss%C3%A4@registry:8081/apis/ccompat/v7/").unwrap();
        assert_eq!(url.url, "http://registry:8081/apis/ccompat/v7");
        assert_eq!(url.authorization, Some(Authorization::basic("al:ice", "p@ssä")));
        assert_eq!(Authorization::basic("Aladdin", "open sesame").header(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(BaseUrl::parse("http://[::1]:8081").unwrap().url, "http://[::1]:8081");
    }

    #[test]
    fn no_secret_is_shown() {
        let builder = SchemaRegistry::builder(["http://registry:8081"]).basic_auth("alice", "sesame");
        let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(!shown.contains("sesame") && !shown.contains("c2VzYW1l"), "{shown}");
        let builder = SchemaRegistry::builder(["http://alice:sesame@registry:8081"]);
        let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(!shown.contains("sesame"), "{shown}");
        let token = SchemaRegistry::builder(["http://registry"]).bearer_token("sesame");
        assert!(!format!("{token:?} {:?}", token.clone().build().unwrap()).contains("sesame"));
        for bad in
            ["alice:sesame@registry:8081", "ftp://alice:sesame@registry", "http://alice:sesame@/", "http://a:sesame%@x"]
        {
            assert!(!faults(SchemaRegistry::builder([bad])).contains("sesame"), "{bad}");
        }
    }

    #[test]
    fn a_password_with_characters_that_end_a_host_is_refused_and_not_shown() {
        for bad in [
            "http://alice:ses/ame@registry:8081",
            "http://alice:/sesame@registry:8081",
            "http://alice:12/sesame@registry:8081/path",
            "http://alice:12/sesame@x@registry:8081",
            "http://ali/ce:sesame@registry",
            "http://alice:12?sesame@registry:8081",
            "http://alice:12#sesame@registry:8081",
            "http://alice:12\\sesame@registry:8081",
            "http://alice:sesame",
            "http://alice:sesame/",
        ] {
            let builder = SchemaRegistry::builder([bad]);
            let shown = format!("{builder:?}");
            let text = faults(builder);
            for shown in [shown.split("authorization").next().unwrap(), &text] {
                assert!(!shown.contains("same") && !shown.contains("ses/") && !shown.contains("12"), "{bad}: {shown}");
            }
            assert!(text.contains("%2F") || text.contains("a port is a number"), "{bad}: {text}");
        }
        // The same characters, escaped.
        let url = BaseUrl::parse("http://alice:12%2Fse%40same%3F%23%25@registry:8081").unwrap();
        assert_eq!(url.url, "http://registry:8081");
        assert_eq!(url.authorization, Some(Authorization::basic("alice", "12/se@same?#%")));
        // Characters that are not ambiguous need no escape.
        let url = BaseUrl::parse("http://alice:se@s,a:me@registry/path%40/").unwrap();
        assert_eq!(url.url, "http://registry/path%40");
        assert_eq!(url.authorization, Some(Authorization::basic("alice", "se@s,a:me")));
    }

    #[test]
    fn a_port_that_is_none_is_refused() {
        for (bad, shown) in [
            ("http://registry:99999", "is 99999"),
            ("http://registry:65536/path", "is 65536"),
            ("http://alice:sesame@registry:0", "is 0"),
            ("http://registry:", "is not a number"),
            ("http://registry:8o81", "is not a number"),
            ("http://registry:+80", "is not a number"),
            ("http://[::1]:70000", "is 70000"),
        ] {
            let text = faults(SchemaRegistry::builder([bad]));
            assert!(text.contains("a port is a number from 1 to 65535") && text.contains(shown), "{bad}: {text}");
        }
        for good in ["http://registry:65535", "http://registry:1/path", "http://[::1]:8081", "http://[::1]"] {
            assert_eq!(BaseUrl::parse(good).unwrap().url, good);
        }
    }

    #[test]
    fn build_reports_every_fault() {
        let text = faults(
            SchemaRegistry::builder(["registry:8081", "ftp://registry"])
                .request_timeout(Duration::ZERO)
                .cache_capacity(0)
                .retry_backoff(Duration::from_secs(60))
                .bearer_token("a\nb"),
        );
        for part in [
            "begins with http://",
            "ftp://registry is neither",
            "request_timeout: 0",
            "cache_capacity: at least 1",
            "retry_backoff: at most",
            "bearer_token",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert!(faults(SchemaRegistry::builder(Vec::<String>::new())).contains("no address is given"));
    }
}
