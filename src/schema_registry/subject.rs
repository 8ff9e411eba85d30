//! The subject under which a schema is registered.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::serialization::Part;

/// How the subject of a schema is named. Registries check the compatibility of schemas within a subject.
///
/// Property: `value.subject.name.strategy`, `key.subject.name.strategy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubjectStrategy {
    /// `<topic>-value`, or `<topic>-key`: one schema per topic, which may evolve. The default.
    #[default]
    TopicName,
    /// The full name of the schema, such as `customerManagement.avro.Customer`: the same schema in every topic, and
    /// several in one topic.
    RecordName,
    /// `<topic>-<full name>`: several schemas in one topic, each of which evolves for this topic alone.
    TopicRecordName,
    /// This subject, whatever the topic.
    Explicit(Arc<str>),
}

impl SubjectStrategy {
    /// The subject of this name.
    pub fn explicit(subject: impl Into<Arc<str>>) -> Self {
        Self::Explicit(subject.into())
    }

    /// The subject for a record of `topic` whose schema has the full name `record_name`, if it has one.
    ///
    /// *Errors*: `InvalidInput`, if the strategy needs a name and the schema has none.
    pub fn subject(&self, topic: &str, part: Part, record_name: Option<&str>) -> Result<Cow<'_, str>> {
        let named = || {
            record_name.ok_or_else(|| {
                Error::invalid(format!("the subject strategy {self:?} needs a schema with a name, such as a record's"))
                    .at_topic(topic)
            })
        };
        Ok(match self {
            Self::TopicName => format!("{topic}-{part}").into(),
            Self::RecordName => named()?.to_owned().into(),
            Self::TopicRecordName => format!("{topic}-{}", named()?).into(),
            Self::Explicit(subject) => Cow::Borrowed(subject),
        })
    }

    /// The strategy that a property names by its Java class, with or without the package.
    #[cfg(any(test, feature = "avro"))]
    pub(super) fn from_property(value: &str) -> Option<Self> {
        match value.trim().rsplit('.').next()? {
            "TopicNameStrategy" => Some(Self::TopicName),
            "RecordNameStrategy" => Some(Self::RecordName),
            "TopicRecordNameStrategy" => Some(Self::TopicRecordName),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_strategy_names_its_subject() {
        let subject = |strategy: SubjectStrategy, part| {
            strategy.subject("contacts", part, Some("a.b.Customer")).unwrap().into_owned()
        };
        assert_eq!(subject(SubjectStrategy::TopicName, Part::Value), "contacts-value");
        assert_eq!(subject(SubjectStrategy::TopicName, Part::Key), "contacts-key");
        assert_eq!(subject(SubjectStrategy::RecordName, Part::Key), "a.b.Customer");
        assert_eq!(subject(SubjectStrategy::TopicRecordName, Part::Value), "contacts-a.b.Customer");
        assert_eq!(subject(SubjectStrategy::explicit("Customer"), Part::Value), "Customer");
    }

    #[test]
    fn a_schema_without_a_name_has_no_record_subject() {
        for strategy in [SubjectStrategy::RecordName, SubjectStrategy::TopicRecordName] {
            let error = strategy.subject("contacts", Part::Value, None).unwrap_err();
            assert!(error.to_string().contains("needs a schema with a name"), "{error}");
        }
        assert!(SubjectStrategy::TopicName.subject("contacts", Part::Value, None).is_ok());
    }

    #[test]
    fn javas_class_names_are_understood() {
        let java = "io.confluent.kafka.serializers.subject.TopicRecordNameStrategy";
        assert_eq!(SubjectStrategy::from_property(java), Some(SubjectStrategy::TopicRecordName));
        assert_eq!(SubjectStrategy::from_property("RecordNameStrategy"), Some(SubjectStrategy::RecordName));
        assert_eq!(SubjectStrategy::from_property("com.example.MyStrategy"), None);
    }
}
