//! The registry's operations, and which of their results are kept.

use std::sync::Arc;

use serde_json::{Value, json};
use ureq::http::Method;

use super::builder::SchemaRegistryBuilder;
use super::cache::Cache;
use super::http::{Http, encode};
use super::properties;
use super::schema::{
    Compatibility, CompatibilityLevel, Deletion, SchemaReference, SchemaText, SchemaType, SubjectVersion,
};
use crate::config::servers::IntoServers;
use crate::error::{Error, ErrorKind, Recovery, Result};

/// A client of a schema registry. Cheap to clone; clones share connections and cache. Any number of threads may use it
/// at once; if several ask for the same schema, only one sends a request.
///
/// Answers that cannot change are kept: the schema of an id, and the id of a schema that is registered under a subject.
/// All other answers come from the registry each time.
///
/// *Blocks*: each operation, at most for `call_timeout`.
///
/// *Errors* of each operation: [`ErrorKind::SchemaRegistry`] with the status and the registry's code, if it answered
/// with an error; [`ErrorKind::SchemaRegistryMisbehaved`] if its answer cannot be used; [`ErrorKind::Network`] and
/// [`ErrorKind::Timeout`] if there was no answer. Attempts that may succeed later have been retried before.
#[derive(Clone, Debug)]
pub struct SchemaRegistry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Http,
    by_id: Cache<u32, Arc<SchemaText>>,
    ids: Cache<IdKey, u32>,
    normalize: bool,
}

/// Registering and looking up a schema give the same id, but must not share a result: one may fail where the other does
/// not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct IdKey {
    request: IdRequest,
    subject: String,
    schema: SchemaText,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum IdRequest {
    Register,
    LookUp,
}

impl SchemaRegistry {
    /// Settings for the registry at these addresses, such as `http://registry01:8081` or
    /// `https://user:password@registry/path`, as a list or with commas between them. All must belong to one registry:
    /// the first that answers is used, and the next call begins with it. In a user's name or password some characters
    /// must be escaped: a slash is `%2F`.
    ///
    /// Property: `schema.registry.url`.
    pub fn builder<Form>(urls: impl IntoServers<Form>) -> SchemaRegistryBuilder {
        SchemaRegistryBuilder::new(urls.into_servers().iter().flat_map(|text| properties::urls(text)).collect())
    }

    pub(super) fn new(http: Http, capacity: usize, normalize: bool) -> Self {
        let (by_id, ids) = (Cache::new(capacity), Cache::new(capacity));
        Self(Arc::new(Inner { http, by_id, ids, normalize }))
    }

    /// Registers a schema under a subject, unless it is there already, and returns its id.
    ///
    /// *Errors*: status 409 if it is not compatible with earlier versions, 422 if it is no valid schema.
    pub fn register(&self, subject: &str, schema: &SchemaText) -> Result<u32> {
        self.id(IdRequest::Register, subject, schema, || {
            let path = format!("/subjects/{}/versions{}", encode(subject), self.normalizing());
            id(&self.send(&Method::POST, &path, Some(&body_of(schema)))?)
        })
    }

    /// The id of a schema that is registered under a subject.
    ///
    /// *Errors*: status 404 with code 40401 if there is no such subject, 40403 if the schema is not registered there.
    pub fn registered_id(&self, subject: &str, schema: &SchemaText) -> Result<u32> {
        self.id(IdRequest::LookUp, subject, schema, || Ok(self.look_up(subject, schema)?.id))
    }

    fn id(
        &self,
        request: IdRequest,
        subject: &str,
        schema: &SchemaText,
        load: impl FnOnce() -> Result<u32>,
    ) -> Result<u32> {
        let key = IdKey { request, subject: subject.to_owned(), schema: schema.clone() };
        self.0.ids.get_or_load(&key, load)
    }

    /// The id and version of a schema that is registered under a subject.
    ///
    /// *Errors*: like [`registered_id`](Self::registered_id).
    pub fn look_up(&self, subject: &str, schema: &SchemaText) -> Result<SubjectVersion> {
        let path = format!("/subjects/{}{}", encode(subject), self.normalizing());
        subject_version(&self.send(&Method::POST, &path, Some(&body_of(schema)))?)
    }

    /// The schema of an id.
    ///
    /// *Errors*: status 404 with code 40403 if there is none.
    pub fn schema(&self, id: u32) -> Result<Arc<SchemaText>> {
        self.0.by_id.get_or_load(&id, || {
            let answer = self.send(&Method::GET, &format!("/schemas/ids/{id}"), None)?;
            Ok(Arc::new(schema_text(&answer)?))
        })
    }

    /// A version of a subject.
    ///
    /// *Errors*: status 404 with code 40401 or 40402 if there is no such subject or version.
    pub fn version(&self, subject: &str, version: u32) -> Result<SubjectVersion> {
        self.any_version(subject, &version.to_string())
    }

    /// The latest version of a subject.
    ///
    /// *Errors*: status 404 with code 40401 if there is no such subject.
    pub fn latest(&self, subject: &str) -> Result<SubjectVersion> {
        self.any_version(subject, "latest")
    }

    fn any_version(&self, subject: &str, version: &str) -> Result<SubjectVersion> {
        let path = format!("/subjects/{}/versions/{version}", encode(subject));
        subject_version(&self.send(&Method::GET, &path, None)?)
    }

    /// The versions of a subject, in ascending order.
    ///
    /// *Errors*: status 404 with code 40401 if there is no such subject.
    pub fn versions(&self, subject: &str) -> Result<Vec<u32>> {
        numbers(&self.send(&Method::GET, &format!("/subjects/{}/versions", encode(subject)), None)?)
    }

    /// The names of all subjects.
    pub fn subjects(&self) -> Result<Vec<String>> {
        let answer = self.send(&Method::GET, "/subjects", None)?;
        let names = answer.as_array().ok_or_else(|| lacking("a list of subjects"))?;
        names.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(|| lacking("a subject's name"))).collect()
    }

    /// Whether a schema may become the next version of a subject.
    ///
    /// *Errors*: status 404 if there is no such subject (some registries answer that any schema is compatible), 422 if
    /// it is no valid schema.
    pub fn compatibility(&self, subject: &str, schema: &SchemaText) -> Result<Compatibility> {
        let path = format!("/compatibility/subjects/{}/versions/latest?verbose=true", encode(subject));
        let answer = self.send(&Method::POST, &path, Some(&body_of(schema)))?;
        let is_compatible = answer.get("is_compatible").and_then(Value::as_bool);
        let messages = answer.get("messages").and_then(Value::as_array).into_iter().flatten();
        Ok(Compatibility {
            is_compatible: is_compatible.ok_or_else(|| lacking("is_compatible"))?,
            messages: messages.filter_map(|message| message.as_str().map(str::to_owned)).collect(),
        })
    }

    /// Deletes a subject with all its versions, and returns the versions.
    ///
    /// If the answer to the first attempt is lost, the second attempt fails, because there is nothing left to delete.
    pub fn delete_subject(&self, subject: &str, deletion: Deletion) -> Result<Vec<u32>> {
        let path = format!("/subjects/{}{}", encode(subject), permanent(deletion));
        numbers(&self.forget(subject, &path)?)
    }

    /// Deletes a version of a subject.
    ///
    /// If the answer to the first attempt is lost, the second attempt fails, because there is nothing left to delete.
    pub fn delete_version(&self, subject: &str, version: u32, deletion: Deletion) -> Result<()> {
        let path = format!("/subjects/{}/versions/{version}{}", encode(subject), permanent(deletion));
        self.forget(subject, &path).map(drop)
    }

    /// Deletes, and forgets the ids of the subject's schemas, which would have to be registered again.
    fn forget(&self, subject: &str, path: &str) -> Result<Value> {
        let answer = self.send(&Method::DELETE, path, None);
        self.0.ids.retain(|key| key.subject != subject);
        answer
    }

    /// The compatibility level of subjects without a level of their own.
    pub fn global_compatibility(&self) -> Result<CompatibilityLevel> {
        level(&self.send(&Method::GET, "/config", None)?)
    }

    /// Sets the compatibility level of subjects without a level of their own.
    pub fn set_global_compatibility(&self, new: CompatibilityLevel) -> Result<()> {
        self.send(&Method::PUT, "/config", Some(&json!({ "compatibility": new.name() }))).map(drop)
    }

    /// A subject's own compatibility level. If it has none, some registries answer with the global one, and others with
    /// nothing, which is `None` here.
    pub fn subject_compatibility(&self, subject: &str) -> Result<Option<CompatibilityLevel>> {
        match self.send(&Method::GET, &format!("/config/{}", encode(subject)), None) {
            Ok(answer) => level(&answer).map(Some),
            Err(error) if matches!(error.kind(), ErrorKind::SchemaRegistry { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets a subject's own compatibility level; `None` removes it.
    pub fn set_subject_compatibility(&self, subject: &str, new: Option<CompatibilityLevel>) -> Result<()> {
        let path = format!("/config/{}", encode(subject));
        // The answers only repeat the level, under different names.
        match new {
            Some(new) => self.send(&Method::PUT, &path, Some(&json!({ "compatibility": new.name() }))).map(drop),
            None => self.send(&Method::DELETE, &path, None).map(drop),
        }
    }

    /// The bound for other caches that belong to this client.
    #[cfg(feature = "avro")]
    pub(super) fn capacity(&self) -> usize {
        self.0.ids.capacity()
    }

    fn send(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.0.http.call(method, path, body)
    }

    fn normalizing(&self) -> &'static str {
        if self.0.normalize { "?normalize=true" } else { "" }
    }
}

fn permanent(deletion: Deletion) -> &'static str {
    match deletion {
        Deletion::Soft => "",
        Deletion::Permanent => "?permanent=true",
    }
}

fn body_of(schema: &SchemaText) -> Value {
    let mut body = json!({ "schema": schema.text });
    // Avro is the default and is not named, because old registries do not know the field.
    if let Some(body) = body.as_object_mut() {
        if schema.schema_type != SchemaType::Avro {
            body.insert("schemaType".to_owned(), schema.schema_type.name().into());
        }
        if !schema.references.is_empty() {
            let references = schema.references.iter().map(
                |reference| json!({ "name": reference.name, "subject": reference.subject, "version": reference.version }),
            );
            body.insert("references".to_owned(), references.collect());
        }
    }
    body
}

fn lacking(what: &str) -> Error {
    let message = format!("the schema registry sent an answer without {what}, or with one that is not valid");
    Error::new(ErrorKind::SchemaRegistryMisbehaved, Recovery::Fix, message)
}

/// An id is a positive number of 31 bits. It is written into records, so anything else is refused.
fn id(answer: &Value) -> Result<u32> {
    number(answer.get("id")).ok_or_else(|| lacking("a schema's id"))
}

fn number(value: Option<&Value>) -> Option<u32> {
    let number = i32::try_from(value?.as_i64()?).ok()?;
    u32::try_from(number).ok()
}

fn numbers(answer: &Value) -> Result<Vec<u32>> {
    let list = answer.as_array().ok_or_else(|| lacking("a list of versions"))?;
    list.iter().map(|version| number(Some(version)).ok_or_else(|| lacking("a version"))).collect()
}

fn schema_text(answer: &Value) -> Result<SchemaText> {
    let text = answer.get("schema").and_then(Value::as_str).ok_or_else(|| lacking("a schema"))?;
    let schema_type = answer.get("schemaType").and_then(Value::as_str).map_or(SchemaType::Avro, SchemaType::from_name);
    let reference = |value: &Value| {
        Some(SchemaReference {
            name: value.get("name")?.as_str()?.to_owned(),
            subject: value.get("subject")?.as_str()?.to_owned(),
            version: number(value.get("version"))?,
        })
    };
    let references = answer.get("references").and_then(Value::as_array).into_iter().flatten();
    let references = references.map(|value| reference(value).ok_or_else(|| lacking("a reference")));
    Ok(SchemaText { text: text.to_owned(), schema_type, references: references.collect::<Result<_>>()? })
}

fn subject_version(answer: &Value) -> Result<SubjectVersion> {
    Ok(SubjectVersion {
        subject: answer.get("subject").and_then(Value::as_str).ok_or_else(|| lacking("a subject"))?.to_owned(),
        version: number(answer.get("version")).ok_or_else(|| lacking("a version"))?,
        id: id(answer)?,
        schema: schema_text(answer)?,
    })
}

fn level(answer: &Value) -> Result<CompatibilityLevel> {
    let text = answer.get("compatibilityLevel").and_then(Value::as_str).and_then(CompatibilityLevel::from_name);
    text.ok_or_else(|| lacking("a compatibility level"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_positive_number_of_31_bits_is_an_id() {
        assert_eq!(id(&json!({ "id": 7 })).unwrap(), 7);
        assert_eq!(id(&json!({ "id": i32::MAX })).unwrap(), 0x7fff_ffff);
        for bad in
            [json!({}), json!({ "id": "7" }), json!({ "id": -1 }), json!({ "id": 1_u64 << 31 }), json!({ "id": 7.5 })]
        {
            assert_eq!(id(&bad).unwrap_err().kind(), ErrorKind::SchemaRegistryMisbehaved, "{bad}");
        }
    }

    #[test]
    fn a_body_names_only_what_is_not_the_default() {
        assert_eq!(body_of(&SchemaText::avro("\"int\"")), json!({ "schema": "\"int\"" }));
        let reference = SchemaReference { name: "a.B".to_owned(), subject: "b".to_owned(), version: 3 };
        let schema =
            SchemaText { text: "{}".to_owned(), schema_type: SchemaType::Json, references: vec![reference.clone()] };
        let body = body_of(&schema);
        assert_eq!(body["schemaType"], "JSON");
        assert_eq!(schema_text(&body).unwrap(), schema);
    }
}
