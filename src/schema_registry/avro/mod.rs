//! Makes bytes from values and values from bytes, in Avro, with the registry's ids.

mod de;
mod default;
mod plan;
mod read;
mod schema;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apache_avro::error::Details;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use parking_lot::RwLock;
use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use self::plan::Plan;
use self::read::ReadFault;
pub use self::schema::AvroSchema;
use super::cache::Cache;
use super::framing::{Framed, malformed};
use super::{SchemaRegistry, SubjectStrategy, properties};
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::serialization::{Context, DeserializationError, Deserializer, Origin, Part, SerializationError, Serializer};

/// Makes the bytes of a record's key or value: the id of the schema, and the value in Avro. Cheap to clone, and any
/// number of threads may use it at once.
///
/// The registry is asked once for each subject; after that serializing needs no registry. If the registry does not
/// answer the first time, serializing fails, and nothing is sent.
#[derive(Clone, Debug)]
pub struct AvroSerializer(Arc<Serializing>);

#[derive(Debug)]
struct Serializing {
    registry: SchemaRegistry,
    schema: Option<AvroSchema>,
    strategy: SubjectStrategy,
    part: Part,
    choice: SchemaChoice,
    /// What the registry answered, by topic. The lock is never held while the registry is asked.
    prepared: RwLock<HashMap<String, Prepared>>,
}

/// The schema to write with, and where its id comes from.
#[derive(Clone, Copy, Debug)]
enum SchemaChoice {
    Register,
    LookUp,
    Latest { ttl: Option<Duration> },
}

#[derive(Clone, Debug)]
struct Prepared {
    id: u32,
    schema: AvroSchema,
    /// When the registry is asked again. `None`: never.
    until: Option<Instant>,
}

/// The settings of an [`AvroSerializer`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AvroSerializerBuilder {
    registry: SchemaRegistry,
    schema: Option<AvroSchema>,
    part: Part,
    pub(super) value_strategy: SubjectStrategy,
    pub(super) key_strategy: SubjectStrategy,
    pub(super) auto_register: Option<bool>,
    pub(super) use_latest_version: bool,
    pub(super) latest_ttl: Option<Duration>,
    /// What is wrong with the properties that were given, one message each.
    pub(super) faults: Vec<String>,
}

impl AvroSerializerBuilder {
    /// The schema to write with. It must be given, unless [`use_latest_version`](Self::use_latest_version) is set.
    pub fn schema(mut self, schema: &AvroSchema) -> Self {
        self.schema = Some(schema.clone());
        self
    }

    /// Makes a serializer of keys. Default: one of values.
    pub fn for_keys(mut self) -> Self {
        self.part = Part::Key;
        self
    }

    /// Under which subject the schema is found. Default [`SubjectStrategy::TopicName`].
    ///
    /// Property: `value.subject.name.strategy`, `key.subject.name.strategy`.
    pub fn subject(mut self, strategy: SubjectStrategy) -> Self {
        self.value_strategy = strategy.clone();
        self.key_strategy = strategy;
        self
    }

    /// Whether a schema that the registry does not have is registered. If not, it must be registered already. Default:
    /// yes, unless the latest version is used.
    ///
    /// Property: `auto.register.schemas`.
    pub fn auto_register(mut self, on: bool) -> Self {
        self.auto_register = Some(on);
        self
    }

    /// Whether to write with the subject's latest schema instead of the serializer's own. Then nothing is registered.
    /// Default: no.
    ///
    /// Property: `use.latest.version`. In Java it has no effect while `auto.register.schemas` is true. Here the two
    /// together are refused, and `auto.register.schemas` need not be set to false.
    pub fn use_latest_version(mut self, on: bool) -> Self {
        self.use_latest_version = on;
        self
    }

    /// After how long the registry is asked for the latest version again. Default: `None`, which is never.
    ///
    /// Property: `latest.cache.ttl.sec`.
    pub fn latest_ttl(mut self, ttl: Option<Duration>) -> Self {
        self.latest_ttl = ttl;
        self
    }

    /// Sets what properties say, with the names of Java. One file may serve all clients of a program: properties of
    /// others, such as `schema.registry.url`, are left to those. A value that is not supported, and a name that is
    /// unknown to all of them, is a fault, which [`build`](Self::build) reports.
    pub fn properties<N: AsRef<str>, V: AsRef<str>>(mut self, properties: impl IntoIterator<Item = (N, V)>) -> Self {
        properties::load_serializer(&mut self, properties);
        self
    }

    /// A serializer with these settings. The registry is not asked yet.
    ///
    /// *Errors*: [`ErrorKind::Config`], with every fault.
    pub fn build(self) -> Result<AvroSerializer> {
        let mut faults = self.faults;
        let choice = match (self.use_latest_version, self.auto_register) {
            (true, Some(true)) => {
                faults.push(
                    "use_latest_version: with it nothing is registered, so auto_register cannot be on".to_owned(),
                );
                SchemaChoice::Register
            }
            (true, _) => SchemaChoice::Latest { ttl: self.latest_ttl },
            (false, Some(false)) => SchemaChoice::LookUp,
            (false, _) => SchemaChoice::Register,
        };
        let strategy = match self.part {
            Part::Key => self.key_strategy,
            Part::Value => self.value_strategy,
        };
        if self.schema.is_none() {
            if !self.use_latest_version {
                faults.push("schema: is missing".to_owned());
            } else if matches!(strategy, SubjectStrategy::RecordName | SubjectStrategy::TopicRecordName) {
                faults.push(format!("schema: is missing, and the subject strategy {strategy:?} needs its name"));
            }
        }
        if !faults.is_empty() {
            return Err(Error::config(format!("the serializer's settings: {}", faults.join("; "))));
        }
        Ok(AvroSerializer(Arc::new(Serializing {
            registry: self.registry,
            schema: self.schema,
            strategy,
            part: self.part,
            choice,
            prepared: RwLock::new(HashMap::new()),
        })))
    }
}

impl AvroSerializer {
    /// Settings for a serializer whose schemas are in this registry.
    pub fn builder(registry: &SchemaRegistry) -> AvroSerializerBuilder {
        AvroSerializerBuilder {
            registry: registry.clone(),
            schema: None,
            part: Part::Value,
            value_strategy: SubjectStrategy::default(),
            key_strategy: SubjectStrategy::default(),
            auto_register: None,
            use_latest_version: false,
            latest_ttl: None,
            faults: Vec::new(),
        }
    }

    /// The bytes of a value of the program's own type.
    ///
    /// *Blocks* while the registry is asked about the subject, which happens once, at most for the registry's
    /// `call_timeout`.
    ///
    /// *Errors*: [`ErrorKind::Serialization`] if the value does not fit the schema; those of [`SchemaRegistry`].
    pub fn serialize<T: Serialize + ?Sized>(&self, topic: &str, value: &T) -> Result<Vec<u8>> {
        self.write(topic, |writer, bytes| writer.write_ser(bytes, &value).map(drop))
    }

    /// The bytes of a value of Avro's own type.
    ///
    /// *Blocks* and *Errors*: like [`serialize`](Self::serialize).
    pub fn serialize_value(&self, topic: &str, value: &Value) -> Result<Vec<u8>> {
        self.write(topic, |writer, bytes| writer.write_value_ref(bytes, value).map(drop))
    }

    fn write(
        &self,
        topic: &str,
        write: impl FnOnce(&GenericDatumWriter<'_>, &mut Vec<u8>) -> Result<(), apache_avro::Error>,
    ) -> Result<Vec<u8>> {
        let prepared = self.prepare(topic)?;
        let mut bytes = Framed::header(prepared.id).to_vec();
        let written = prepared.schema.resolved().and_then(|resolved| {
            let writer = GenericDatumWriter::builder(prepared.schema.schema()).resolved_schemata(resolved);
            write(&writer.human_readable(false).build()?, &mut bytes)
        });
        match written {
            Ok(()) if plan::is_raw(&prepared.schema) => {
                let payload = bytes.get(Framed::HEADER_BYTES..).and_then(read::without_length);
                let payload = payload.ok_or_else(|| Error::bug("bytes were written without their length"))?;
                Ok(Framed { schema_id: prepared.id, payload }.to_vec())
            }
            Ok(()) => Ok(bytes),
            Err(error) => {
                let name = prepared.schema.name().unwrap_or("without a name");
                let message = format!("a value does not fit the schema {name}: {}", de::bounded(unwritable(error)));
                Err(Error::new(ErrorKind::Serialization, Recovery::Fix, message).at_topic(topic))
            }
        }
    }

    /// The schema to write with, and its id.
    fn prepare(&self, topic: &str) -> Result<Prepared> {
        if let Some(prepared) = self.0.prepared.read().get(topic)
            && prepared.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(prepared.clone());
        }
        let prepared = self.ask(topic).map_err(|error| error.at_topic(topic))?;
        let mut all = self.0.prepared.write();
        // A bound on the memory. A program with more topics asks the registry again now and then.
        if all.len() >= self.0.registry.capacity() {
            all.clear();
        }
        all.insert(topic.to_owned(), prepared.clone());
        Ok(prepared)
    }

    fn ask(&self, topic: &str) -> Result<Prepared> {
        let Serializing { registry, schema, strategy, part, choice, .. } = &*self.0;
        let subject = strategy.subject(topic, *part, schema.as_ref().and_then(AvroSchema::name))?;
        let own = || schema.clone().ok_or_else(|| Error::bug("a serializer without a schema was built"));
        match choice {
            SchemaChoice::Register => {
                let schema = own()?;
                Ok(Prepared { id: registry.register(&subject, schema.text())?, schema, until: None })
            }
            SchemaChoice::LookUp => {
                let schema = own()?;
                Ok(Prepared { id: registry.registered_id(&subject, schema.text())?, schema, until: None })
            }
            SchemaChoice::Latest { ttl } => {
                let until = ttl.and_then(|ttl| Instant::now().checked_add(ttl));
                let latest = registry.latest(&subject)?;
                let schema = AvroSchema::from_registry(registry, &latest.schema)?;
                schema.check_defaults()?;
                Ok(Prepared { id: latest.id, schema, until })
            }
        }
    }
}

/// Makes values from the bytes of records, whatever schema they were written with. Cheap to clone, and any number of
/// threads may use it at once.
///
/// The registry is asked once for each schema id that occurs.
#[derive(Clone, Debug)]
pub struct AvroDeserializer(Arc<Deserializing>);

#[derive(Debug)]
struct Deserializing {
    registry: SchemaRegistry,
    reader: Option<AvroSchema>,
    /// How to read values that were written with a schema, by the schema's id.
    plans: Cache<u32, Arc<Plan>>,
}

/// The settings of an [`AvroDeserializer`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AvroDeserializerBuilder {
    registry: SchemaRegistry,
    reader: Option<AvroSchema>,
    /// What is wrong with the properties that were given, one message each.
    pub(super) faults: Vec<String>,
}

impl AvroDeserializerBuilder {
    /// The schema to read with. Values that were written with another schema are converted by Avro's rules of schema
    /// resolution, aliases included. Fields that the writer did not have get this schema's defaults. Without a reader's
    /// schema, values are read as they were written.
    pub fn reader_schema(mut self, schema: &AvroSchema) -> Self {
        self.reader = Some(schema.clone());
        self
    }

    /// Sets what properties say, with the names of Java. One file may serve all clients of a program: properties of
    /// others are left to those. A value that is not supported, and a name that is unknown to all of them, is a fault,
    /// which [`build`](Self::build) reports.
    pub fn properties<N: AsRef<str>, V: AsRef<str>>(mut self, properties: impl IntoIterator<Item = (N, V)>) -> Self {
        properties::load_deserializer(&mut self, properties);
        self
    }

    /// A deserializer with these settings.
    ///
    /// *Errors*: [`ErrorKind::Config`], with every fault.
    pub fn build(self) -> Result<AvroDeserializer> {
        if !self.faults.is_empty() {
            return Err(Error::config(format!("the deserializer's settings: {}", self.faults.join("; "))));
        }
        let plans = Cache::new(self.registry.capacity());
        Ok(AvroDeserializer(Arc::new(Deserializing { registry: self.registry, reader: self.reader, plans })))
    }
}

impl AvroDeserializer {
    /// Settings for a deserializer whose schemas are in this registry.
    pub fn builder(registry: &SchemaRegistry) -> AvroDeserializerBuilder {
        AvroDeserializerBuilder { registry: registry.clone(), reader: None, faults: Vec::new() }
    }

    /// A value of the program's own type.
    ///
    /// *Blocks* while the registry is asked for a schema, which happens once for each schema, at most for the
    /// registry's `call_timeout`.
    ///
    /// *Errors*: [`ErrorKind::Serialization`] if the bytes are no frame or no value of their schema, or if the value
    /// does not fit the reader's schema or the type; those of [`SchemaRegistry`].
    pub fn deserialize<T: DeserializeOwned>(&self, topic: &str, bytes: &[u8]) -> Result<T> {
        let (id, value) = self.read(topic, bytes)?;
        de::from_value(&value)
            .map_err(|error| unreadable(topic, id, format!("does not fit its type: {error}")).with_source(error))
    }

    /// A value of Avro's own type.
    ///
    /// *Blocks* and *Errors*: like [`deserialize`](Self::deserialize).
    pub fn deserialize_value(&self, topic: &str, bytes: &[u8]) -> Result<Value> {
        self.read(topic, bytes).map(|(_, value)| value)
    }

    /// The id of the schema that the value was written with, and the value, resolved if there is a reader's schema.
    fn read(&self, topic: &str, bytes: &[u8]) -> Result<(u32, Value)> {
        let Framed { schema_id: id, payload } = Framed::parse(bytes).map_err(|error| error.at_topic(topic))?;
        let plan = self.plan(id).map_err(|error| error.at_topic(topic))?;
        let value = read::read(&plan, payload).map_err(|fault| match fault {
            ReadFault::Malformed(what) => unreadable(topic, id, what),
            ReadFault::Misfit(what) => unreadable(topic, id, format!("does not fit the reader's schema: {what}")),
        })?;
        Ok((id, value))
    }

    fn plan(&self, id: u32) -> Result<Arc<Plan>> {
        self.0.plans.get_or_load(&id, || {
            let text = self.0.registry.schema(id)?;
            let writer = AvroSchema::from_registry(&self.0.registry, &text)?;
            Ok(Arc::new(Plan::new(&writer, self.0.reader.as_ref().unwrap_or(&writer))))
        })
    }
}

/// Why a value could not be written. The error itself does not become the source: its text has the whole schema in it,
/// in the notation of Rust, and sometimes the value.
fn unwritable(error: apache_avro::Error) -> String {
    let text = match error.into_details() {
        Details::SerializeRecordFieldWithSchema { field_name, error, .. } => format!("{field_name}: {error}"),
        Details::SerializeValueWithSchema { value_type, value, schema } => {
            format!("`{value_type}` was found for {}: {value}", plan::title(&schema))
        }
        Details::SerializeRecordUnknownFieldIndex { position, schema } => {
            format!("{} has no field for item {position} of a tuple", schema.name)
        }
        Details::MissingDefaultForSkippedField { field_name, .. } => {
            format!("{field_name}: is missing, and has no default")
        }
        Details::GetField(name) => format!("{name}: is no field of the schema"),
        details => details.to_string(),
    };
    // The text names Avro's types as Rust's variants.
    text.replace("Schema::", "")
}

/// `what` is the end of a sentence about the value, and does not show its content.
fn unreadable(topic: &str, id: u32, what: impl fmt::Display) -> Error {
    malformed(format!("a value written with schema {id} {}", de::bounded(what))).at_topic(topic)
}

impl<T: Serialize + ?Sized> Serializer<T> for AvroSerializer {
    fn serialize<'v>(
        &self,
        value: &'v T,
        context: &mut Context<'_, '_>,
    ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
        // Otherwise the subject of the key would get the schema of the value, or the reverse.
        if self.0.part != context.part {
            let made_for = self.0.part;
            let message = format!("a serializer of {made_for}s is used for a {}; see for_keys", context.part);
            return Err(Error::invalid(message).into());
        }
        Ok(Some(Cow::Owned(Self::serialize(self, context.topic, value)?)))
    }
}

impl<T: DeserializeOwned> Deserializer<'_, T> for AvroDeserializer {
    /// Null has no schema, so it is an error; [`nullable`](crate::serialization::nullable) around the deserializer
    /// accepts it.
    fn deserialize(&self, bytes: Option<&[u8]>, origin: &Origin<'_>) -> Result<T, DeserializationError> {
        let bytes = bytes.ok_or_else(|| malformed("null is no value of a schema").at_topic(origin.topic))?;
        Ok(Self::deserialize(self, origin.topic, bytes)?)
    }
}
