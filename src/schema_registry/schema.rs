//! The registry's data, as plain values.

use std::fmt;

/// The format of a schema. This crate serializes only Avro; the registry's client handles schemas of all formats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchemaType {
    /// Avro, the default.
    #[default]
    Avro,
    /// JSON Schema.
    Json,
    /// Protocol Buffers.
    Protobuf,
    /// A format that a plug-in of the registry knows.
    Other(String),
}

impl SchemaType {
    /// The name that the registry uses for it.
    pub fn name(&self) -> &str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
            Self::Other(name) => name,
        }
    }

    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "AVRO" => Self::Avro,
            "JSON" => Self::Json,
            "PROTOBUF" => Self::Protobuf,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Another schema of the registry that a schema names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SchemaReference {
    /// The name in the schema's text; in Avro the full name of the type.
    pub name: String,
    /// The other schema's subject.
    pub subject: String,
    /// Its version there.
    pub version: u32,
}

/// A schema as text, with the format and the references that the registry needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SchemaText {
    /// The schema itself; JSON in Avro's case.
    pub text: String,
    /// Its format.
    pub schema_type: SchemaType,
    /// The schemas that it names.
    pub references: Vec<SchemaReference>,
}

impl SchemaText {
    /// An Avro schema without references.
    pub fn avro(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// A schema under a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubjectVersion {
    /// The subject.
    pub subject: String,
    /// The version within the subject; 1 is the first.
    pub version: u32,
    /// The schema's id, the same under every subject.
    pub id: u32,
    /// The schema.
    pub schema: SchemaText,
}

/// Whether a schema may become the next version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compatibility {
    /// Whether it may.
    pub is_compatible: bool,
    /// Why not, in the registry's words. Some registries do not say it.
    pub messages: Vec<String>,
}

/// Which other schemas of a subject a new schema must be able to read, or must be readable by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CompatibilityLevel {
    /// No restriction.
    None,
    /// The new schema can read values written with the last one.
    Backward,
    /// The new schema can read values written with any earlier one.
    BackwardTransitive,
    /// The last schema can read values written with the new one.
    Forward,
    /// Every earlier schema can read values written with the new one.
    ForwardTransitive,
    /// Backward and forward.
    Full,
    /// Backward and forward, with every earlier schema.
    FullTransitive,
}

impl CompatibilityLevel {
    const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// The name that the registry uses for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl fmt::Display for CompatibilityLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a schema is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deletion {
    /// The schema is no longer found under its subject, but still by its id, so that records stay readable.
    Soft,
    /// The schema is gone, and records written with it cannot be read. Registries require a soft deletion first.
    Permanent,
}
