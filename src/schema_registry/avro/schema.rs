//! A schema in both forms: the text for the registry, and the parsed schema.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::ResolvedSchema;
use serde_json::Value;

use super::default;
use super::plan::{self, NamedSchemas, SchemaPlace};
use crate::error::{Error, Result};
use crate::schema_registry::framing::malformed;
use crate::schema_registry::{SchemaReference, SchemaRegistry, SchemaText, SchemaType};

/// How many other schemas one schema may name, directly and through others.
const MAX_REFERENCES: usize = 256;

/// An Avro schema: its text, as it is registered, and the parsed form. Cheap to clone.
///
/// ```
/// use kafka_blocking::schema_registry::AvroSchema;
///
/// # fn main() -> kafka_blocking::Result<()> {
/// let schema = AvroSchema::parse(r#"{"type": "record", "name": "a.Point", "fields": [{"name": "x", "type": "int"}]}"#)?;
/// assert_eq!(schema.name(), Some("a.Point"));
///
/// // The string "null" cannot be the default of a union whose first branch is null.
/// let field = r#"{"name": "email", "type": ["null", "string"], "default": "null"}"#;
/// let text = format!(r#"{{"type": "record", "name": "Customer", "fields": [{field}]}}"#);
/// let error = AvroSchema::parse(&text).unwrap_err();
/// assert!(error.to_string().contains("write null without quotes"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AvroSchema(Arc<Parsed>);

struct Parsed {
    text: SchemaText,
    schema: Schema,
    /// The schemas that `schema` names.
    dependencies: Vec<Schema>,
    name: Option<String>,
    /// Whether names have to be resolved to use the schema. Most schemas need none resolved, which saves a table per
    /// value.
    refers: bool,
}

impl AvroSchema {
    /// Parses a schema.
    ///
    /// *Errors*: [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the text is no valid schema. The
    /// default of a union must be a value of its first branch. Not all implementations of Avro require this, but some
    /// refuse a schema without it.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with_references(text, &[])
    }

    /// Parses a schema that names types of other schemas, which the registry knows under these references.
    ///
    /// *Errors*: like [`parse`](Self::parse).
    pub fn parse_with_references(text: &str, references: &[(SchemaReference, &Self)]) -> Result<Self> {
        let mut dependencies = Vec::new();
        for (_, dependency) in references {
            dependency.add_texts(&mut dependencies)?;
        }
        let text = SchemaText {
            text: text.to_owned(),
            schema_type: SchemaType::Avro,
            references: references.iter().map(|(reference, _)| reference.clone()).collect(),
        };
        let parsed = Self::new(text, &dependencies)
            .map_err(|error| Error::invalid(format!("no valid Avro schema: {error}")).with_source(error))?;
        parsed.check_defaults()?;
        Ok(parsed)
    }

    /// A schema from the registry. Its defaults are not checked: another program may have registered it with one that
    /// is not valid, which does not matter for reading values that were written with it.
    pub(super) fn from_registry(registry: &SchemaRegistry, text: &SchemaText) -> Result<Self> {
        if text.schema_type != SchemaType::Avro {
            return Err(malformed(format!(
                "a schema has the type {}, but an Avro schema is needed",
                text.schema_type.name()
            )));
        }
        let (mut texts, mut seen) = (Vec::new(), HashSet::new());
        let mut wanted = text.references.clone();
        while let Some(reference) = wanted.pop() {
            if !seen.insert((reference.subject.clone(), reference.version)) {
                continue;
            }
            if seen.len() > MAX_REFERENCES {
                return Err(malformed(format!("a schema names more than {MAX_REFERENCES} others")));
            }
            let other = registry.version(&reference.subject, reference.version)?.schema;
            wanted.extend(other.references);
            if !texts.contains(&other.text) {
                texts.push(other.text);
            }
        }
        Self::new(text.clone(), &texts)
            .map_err(|error| malformed("this client does not understand the registry's schema").with_source(error))
    }

    fn new(text: SchemaText, dependencies: &[String]) -> Result<Self, apache_avro::Error> {
        let (schema, dependencies) = parse(&text.text, dependencies).or_else(|error| {
            // The parser may have refused a part that does not matter for reading, so it is tried without these parts.
            let others = dependencies.iter().map(|text| set_aside(text)).collect::<Option<Vec<_>>>();
            let kept = set_aside(&text.text).zip(others);
            kept.and_then(|(text, dependencies)| parse(&text, &dependencies).ok()).ok_or(error)
        })?;
        let name = schema.name().map(|name| name.fullname(None));
        let refers = refers(&schema);
        let parsed = Parsed { text, schema, dependencies, name, refers };
        parsed.resolved()?;
        Ok(Self(Arc::new(parsed)))
    }

    /// The texts of this schema and of those it names.
    fn add_texts(&self, texts: &mut Vec<String>) -> Result<()> {
        let dependencies = self.0.dependencies.iter().map(serde_json::to_string);
        let all = dependencies.chain([Ok(self.0.text.text.clone())]);
        for text in all {
            let text = text.map_err(|error| Error::invalid("a schema cannot be written as text").with_source(error))?;
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        Ok(())
    }

    /// What is registered: the text as it was given, and the references.
    pub fn text(&self) -> &SchemaText {
        &self.0.text
    }

    /// The full name, if the schema has one: a record's, an enumeration's or a fixed's.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The schema as the crate `apache_avro` knows it.
    pub fn schema(&self) -> &Schema {
        &self.0.schema
    }

    /// The types that this schema and those that it names define, by their full names.
    pub(super) fn definitions(&self) -> NamedSchemas<'_> {
        let mut names = NamedSchemas::new();
        for schema in self.0.dependencies.iter().chain([&self.0.schema]) {
            define(schema, &mut names);
        }
        names
    }

    pub(super) fn resolved(&self) -> Result<ResolvedSchema<'_>, apache_avro::Error> {
        self.0.resolved()
    }

    /// Refuses defaults of unions that are not of the first branch, which Avro's parser accepts. Checks the defaults
    /// that the parser does not understand.
    pub(super) fn check_defaults(&self) -> Result<()> {
        let place = SchemaPlace { schema: &self.0.schema, names: &self.definitions() };
        check_defaults(place).map_err(|fault| Error::invalid(format!("no valid Avro schema: {fault}")))
    }
}

impl Parsed {
    fn resolved(&self) -> Result<ResolvedSchema<'_>, apache_avro::Error> {
        let all = if self.refers { self.dependencies.iter().chain([&self.schema]).collect() } else { Vec::new() };
        ResolvedSchema::new_with_schemata(all)
    }
}

impl PartialEq for AvroSchema {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl fmt::Debug for AvroSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AvroSchema").field(&self.0.text.text).finish()
    }
}

/// Finds the types that a schema defines. The parser has made all names full ones.
fn define<'a>(schema: &'a Schema, names: &mut NamedSchemas<'a>) {
    if let Some(name) = plan::name(schema) {
        names.entry(name.as_ref()).or_insert(schema);
    }
    match schema {
        Schema::Array(array) => define(&array.items, names),
        Schema::Map(map) => define(&map.types, names),
        Schema::Union(union) => union.variants().iter().for_each(|branch| define(branch, names)),
        Schema::Record(record) => record.fields.iter().for_each(|field| define(&field.schema, names)),
        _ => {}
    }
}

/// Whether a schema names a type instead of defining it.
fn refers(schema: &Schema) -> bool {
    match schema {
        Schema::Ref { .. } => true,
        Schema::Array(array) => refers(&array.items),
        Schema::Map(map) => refers(&map.types),
        Schema::Union(union) => union.variants().iter().any(refers),
        Schema::Record(record) => record.fields.iter().any(|field| refers(&field.schema)),
        _ => false,
    }
}

fn parse(text: &str, dependencies: &[String]) -> Result<(Schema, Vec<Schema>), apache_avro::Error> {
    if dependencies.is_empty() {
        Ok((Schema::parse_str(text)?, Vec::new()))
    } else {
        Schema::parse_str_with_list(text, dependencies)
    }
}

/// The same schema with the defaults and aliases of its fields under other names, which `apache_avro` keeps but does
/// not check: it refuses schemas because of valid defaults, such as those of durations, and because of an alias that is
/// the name of another field.
fn set_aside(text: &str) -> Option<String> {
    fn keep(schema: &mut Value) {
        match schema {
            Value::Array(branches) => branches.iter_mut().for_each(keep),
            Value::Object(parts) => {
                for name in ["type", "items", "values"] {
                    parts.get_mut(name).into_iter().for_each(keep);
                }
                let fields = parts.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten();
                for field in fields.filter_map(Value::as_object_mut) {
                    field.get_mut("type").into_iter().for_each(keep);
                    for (name, aside) in [("default", default::ASIDE), ("aliases", plan::ASIDE)] {
                        if let Some(part) = field.remove(name) {
                            field.insert(aside.to_owned(), part);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    let mut schema = serde_json::from_str(text).ok()?;
    keep(&mut schema);
    Some(schema.to_string())
}

fn check_defaults(place: SchemaPlace<'_>) -> Result<(), String> {
    match place.schema {
        Schema::Array(array) => check_defaults(place.inner(&array.items)),
        Schema::Map(map) => check_defaults(place.inner(&map.types)),
        Schema::Union(union) => union.variants().iter().try_for_each(|branch| check_defaults(place.inner(branch))),
        Schema::Record(record) => record.fields.iter().try_for_each(|field| {
            if let (Some(default), Schema::Union(union)) = (default::of_field(field), &field.schema)
                && let Some(first) = union.variants().first()
                && !may_be(default, first)
            {
                let hint = if matches!(first, Schema::Null) && default.as_str() == Some("null") {
                    ": write null without quotes"
                } else {
                    ""
                };
                return Err(format!(
                    "the default of the field {:?} of {} is {}, but the default of a union must be one of its first \
                     branch, which is {}{hint}",
                    field.name,
                    record.name.fullname(None),
                    describe(default),
                    plan::kind(first),
                ));
            }
            if let Some(default) = field.custom_attributes.get(default::ASIDE) {
                default::value(default, place.inner(&field.schema)).map_err(|fault| {
                    format!("the default of the field {:?} of {}: {fault}", field.name, record.name)
                })?;
            }
            check_defaults(place.inner(&field.schema))
        }),
        _ => Ok(()),
    }
}

/// Whether a default is the kind of JSON that values of this schema have.
fn may_be(default: &Value, schema: &Schema) -> bool {
    match schema {
        Schema::Null => default.is_null(),
        Schema::Boolean => default.is_boolean(),
        Schema::Int
        | Schema::Long
        | Schema::Date
        | Schema::TimeMillis
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => default.is_i64() || default.is_u64(),
        Schema::Float | Schema::Double => default.is_number(),
        Schema::Array(_) => default.is_array(),
        Schema::Map(_) | Schema::Record(_) => default.is_object(),
        Schema::Ref { .. } => default.is_object() || default.is_string(),
        _ => default.is_string(),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => format!("the boolean {value}"),
        Value::Number(_) => format!("the number {value}"),
        Value::String(_) => format!("the string {value}"),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
