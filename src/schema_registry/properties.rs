//! Reads the settings by their names in Java.

use std::time::Duration;

#[cfg(feature = "avro")]
use super::avro::{AvroDeserializerBuilder, AvroSerializerBuilder};
use super::builder::{Authorization, SchemaRegistryBuilder};
#[cfg(feature = "avro")]
use super::subject::SubjectStrategy;
use crate::config::client;
use crate::config::properties::unknown;
use crate::config::siblings::{self, Sibling, matches};

/// The clients whose properties a file for the whole program may hold.
const SIBLINGS: [&Sibling; 4] =
    [&siblings::SCHEMA_REGISTRY, &siblings::PRODUCERS, &siblings::CONSUMERS, &siblings::ADMINS];

/// Leaves a property to the program's other clients. A property that none of them knows is a fault.
fn leave(name: &str, faults: &mut Vec<String>) {
    let known = || {
        let shared = client::SETTINGS.iter().flat_map(|setting| setting.names.properties());
        let others = client::OTHERS.iter().map(|(name, _)| *name);
        SIBLINGS.iter().flat_map(|sibling| sibling.properties).copied().chain(shared).chain(others)
    };
    if !known().any(|known| matches(known, name)) {
        faults.push(unknown(name, known()));
    }
}

fn collect<N: AsRef<str>, V: AsRef<str>>(properties: impl IntoIterator<Item = (N, V)>) -> Vec<(String, String)> {
    properties.into_iter().map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().trim().to_owned())).collect()
}

fn milliseconds(value: &str) -> Result<Duration, String> {
    value.parse().map(Duration::from_millis).map_err(|_| "a number of milliseconds is wanted".to_owned())
}

fn boolean(value: &str) -> Result<bool, String> {
    match &*value.to_ascii_lowercase() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("true or false is wanted".to_owned()),
    }
}

/// The addresses in a list. A comma may also be part of a password: then the text after it has an @ and no scheme.
pub(super) fn urls(list: &str) -> Vec<String> {
    let mut urls: Vec<String> = Vec::new();
    for part in list.split(',') {
        match urls.last_mut() {
            Some(before) if !part.contains("://") && list.contains('@') => {
                before.push(',');
                before.push_str(part.trim_end());
            }
            _ => urls.push(part.trim().to_owned()),
        }
    }
    urls.retain(|url| !url.is_empty());
    urls
}

/// Reads the properties of the registry's client.
pub(super) fn load_registry<N: AsRef<str>, V: AsRef<str>>(
    builder: &mut SchemaRegistryBuilder,
    properties: impl IntoIterator<Item = (N, V)>,
) {
    let (mut basic_source, mut user_info) = (None, None);
    let (mut bearer_source, mut token) = (None, None);
    for (name, value) in collect(properties) {
        // Java accepts these also with the prefix.
        let short = name.strip_prefix("schema.registry.").unwrap_or(&name);
        let result = match short {
            "url" => {
                builder.urls = urls(&value);
                Ok(())
            }
            "basic.auth.credentials.source" => {
                basic_source = Some(value);
                Ok(())
            }
            "basic.auth.user.info" => {
                user_info = Some(value);
                Ok(())
            }
            "bearer.auth.credentials.source" => {
                bearer_source = Some(value);
                Ok(())
            }
            "bearer.auth.token" => {
                token = Some(value);
                Ok(())
            }
            "http.connect.timeout.ms" => milliseconds(&value).map(|limit| builder.connect_timeout = limit),
            "http.read.timeout.ms" => milliseconds(&value).map(|limit| builder.request_timeout = limit),
            "retries.wait.ms" => milliseconds(&value).map(|wait| builder.retry_backoff = wait),
            "retries.max.wait.ms" => milliseconds(&value).map(|wait| builder.retry_backoff_max = wait),
            "max.retries" => {
                value.parse().map(|retries| builder.retries = retries).map_err(|_| "a number is wanted".to_owned())
            }
            "max.schemas.per.subject" => value
                .parse()
                .map(|schemas| builder.cache_capacity = schemas)
                .map_err(|_| "a number is wanted".to_owned()),
            "normalize.schemas" => boolean(&value).map(|normalize| builder.normalize = normalize),
            // Properties that would change how the connection is made must not be ignored.
            _ if name.starts_with("schema.registry.ssl.") => Err("call certificate_authority_pem instead".to_owned()),
            "proxy.host" | "proxy.port" => Err("proxies are not supported".to_owned()),
            _ => {
                leave(&name, &mut builder.faults);
                Ok(())
            }
        };
        if let Err(fault) = result {
            builder.faults.push(format!("{name}: {fault}"));
        }
    }
    match basic_source.as_deref() {
        // In Java this means the user info in the URL, which is used in any case.
        None | Some("" | "URL") => {
            if user_info.is_some() {
                builder.faults.push(
                    "basic.auth.user.info: has no effect unless basic.auth.credentials.source is USER_INFO".to_owned(),
                );
            }
        }
        Some("USER_INFO") => match user_info.as_deref().and_then(|info| info.split_once(':')) {
            Some((user, password)) => builder.authorization = Some(Authorization::basic(user, password)),
            None => builder.faults.push("basic.auth.user.info: user:password is wanted".to_owned()),
        },
        Some(_) => builder.faults.push("basic.auth.credentials.source: URL or USER_INFO is wanted".to_owned()),
    }
    match (bearer_source.as_deref(), token) {
        (None, None) => {}
        (Some("STATIC_TOKEN"), Some(_)) if builder.authorization.is_some() => {
            builder.faults.push("bearer.auth.token: a user and password are given as well".to_owned());
        }
        (Some("STATIC_TOKEN"), Some(token)) => builder.authorization = Some(Authorization::bearer(&token)),
        (Some("STATIC_TOKEN"), None) => builder.faults.push("bearer.auth.token: is missing".to_owned()),
        (None, Some(_)) => builder
            .faults
            .push("bearer.auth.token: has no effect unless bearer.auth.credentials.source is STATIC_TOKEN".to_owned()),
        (Some(_), _) => builder.faults.push("bearer.auth.credentials.source: STATIC_TOKEN is wanted".to_owned()),
    }
}

#[cfg(feature = "avro")]
fn strategy(value: &str) -> Result<SubjectStrategy, String> {
    SubjectStrategy::from_property(value).ok_or_else(|| {
        "TopicNameStrategy, RecordNameStrategy or TopicRecordNameStrategy is wanted; for a strategy of your own see \
         SubjectStrategy::Explicit"
            .to_owned()
    })
}

/// Reads the properties of a serializer.
#[cfg(feature = "avro")]
pub(super) fn load_serializer<N: AsRef<str>, V: AsRef<str>>(
    builder: &mut AvroSerializerBuilder,
    properties: impl IntoIterator<Item = (N, V)>,
) {
    for (name, value) in collect(properties) {
        let result = match &*name {
            "auto.register.schemas" => boolean(&value).map(|on| builder.auto_register = Some(on)),
            "use.latest.version" => boolean(&value).map(|on| builder.use_latest_version = on),
            "latest.cache.ttl.sec" => value
                .parse::<i64>()
                .map(|seconds| builder.latest_ttl = u64::try_from(seconds).ok().map(Duration::from_secs))
                .map_err(|_| "a number of seconds is wanted, or -1 for ever".to_owned()),
            "value.subject.name.strategy" => strategy(&value).map(|strategy| builder.value_strategy = strategy),
            "key.subject.name.strategy" => strategy(&value).map(|strategy| builder.key_strategy = strategy),
            "use.schema.id" if value != "-1" => Err("a schema's id cannot be set".to_owned()),
            _ => {
                leave(&name, &mut builder.faults);
                Ok(())
            }
        };
        if let Err(fault) = result {
            builder.faults.push(format!("{name}: {fault}"));
        }
    }
}

/// Reads the properties of a deserializer. None is supported yet, but one that would change the result is refused.
#[cfg(feature = "avro")]
pub(super) fn load_deserializer<N: AsRef<str>, V: AsRef<str>>(
    builder: &mut AvroDeserializerBuilder,
    properties: impl IntoIterator<Item = (N, V)>,
) {
    for (name, value) in collect(properties) {
        let fault = match &*name {
            "use.latest.version" if value.eq_ignore_ascii_case("true") => {
                "a deserializer reads with the schema that it was given, see reader_schema"
            }
            _ => {
                leave(&name, &mut builder.faults);
                continue;
            }
        };
        builder.faults.push(format!("{name}: {fault}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema_registry::SchemaRegistry;

    fn faults(properties: &[(&str, &str)]) -> String {
        let address = [("schema.registry.url", "http://registry")];
        let all = address.iter().chain(properties).copied();
        SchemaRegistryBuilder::from_properties(all).build().unwrap_err().to_string()
    }

    #[test]
    fn javas_properties_set_the_client() {
        let builder = SchemaRegistryBuilder::from_properties([
            ("schema.registry.url", "http://a:8081, http://b:8081"),
            ("schema.registry.basic.auth.user.info", "alice:se:same"),
            ("basic.auth.credentials.source", "USER_INFO"),
            ("http.connect.timeout.ms", "1500"),
            ("max.retries", "7"),
            ("bootstrap.servers", "kafka:9092"),
            ("auto.register.schemas", "false"),
            ("linger.ms", "5"),
            ("group.id", "shop"),
            ("ssl.truststore.location", "/t"),
        ]);
        assert_eq!(builder.urls, ["http://a:8081", "http://b:8081"]);
        assert_eq!(builder.authorization, Some(Authorization::basic("alice", "se:same")));
        assert_eq!((builder.connect_timeout, builder.retries), (Duration::from_millis(1500), 7));
        builder.build().unwrap();
    }

    #[test]
    fn a_comma_in_a_password_does_not_make_a_host_of_the_user() {
        let urls = urls("http://a:8081, http://alice:12,se,same@b:8081 ,http://c");
        assert_eq!(urls, ["http://a:8081", "http://alice:12,se,same@b:8081", "http://c"]);
        let builder = SchemaRegistryBuilder::from_properties([("schema.registry.url", "http://alice:sesame,x@b:8081")]);
        assert!(!format!("{builder:?} {:?}", builder.clone().build().unwrap()).contains("sesame"));
    }

    #[test]
    fn what_cannot_be_followed_is_refused_without_showing_secrets() {
        assert!(faults(&[("max.retrys", "7")]).contains("\"max.retrys\" is unknown; is it max.retries?"));
        assert!(faults(&[("max.retries", "many")]).contains("max.retries: a number is wanted"));
        assert!(faults(&[("basic.auth.credentials.source", "SASL_INHERIT")]).contains("URL or USER_INFO"));
        assert!(faults(&[("bearer.auth.credentials.source", "OAUTHBEARER")]).contains("STATIC_TOKEN is wanted"));
        assert!(faults(&[("schema.registry.ssl.truststore.location", "/t")]).contains("certificate_authority_pem"));
        let text = faults(&[("basic.auth.user.info", "alice:sesame"), ("bearer.auth.token", "sesame")]);
        assert!(text.contains("USER_INFO") && text.contains("STATIC_TOKEN") && !text.contains("sesame"), "{text}");
    }

    #[cfg(feature = "avro")]
    #[test]
    fn a_serializer_takes_its_strategies_from_properties() {
        let registry = SchemaRegistry::builder(["http://registry"]).build().unwrap();
        let builder = crate::schema_registry::AvroSerializer::builder(&registry).properties([
            ("auto.register.schemas", "false"),
            ("value.subject.name.strategy", "io.confluent.kafka.serializers.subject.RecordNameStrategy"),
            ("latest.cache.ttl.sec", "-1"),
        ]);
        assert_eq!(builder.auto_register, Some(false));
        assert_eq!((builder.value_strategy, builder.latest_ttl), (SubjectStrategy::RecordName, None));
    }
}
