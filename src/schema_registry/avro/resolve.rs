//! Makes a value that was written with one schema fit another, by Avro's rules of resolution.
//!
//! `apache_avro` resolves too, but looks for the branch of a union by resolving the value with each, so that its work
//! doubles with each level of nesting: a short record can keep it busy for hours. It also does not know the aliases of
//! fields. Here both schemas are followed side by side, and each value is touched once.

use apache_avro::Schema;
use apache_avro::schema::{Alias, Name, NamesRef, NamespaceRef, RecordField, RecordSchema, UnionSchema};
use apache_avro::types::Value;

/// A schema, the table of the names in it, and the namespace that it stands in.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) schema: &'a Schema,
    pub(super) names: &'a NamesRef<'a>,
    pub(super) namespace: NamespaceRef<'a>,
}

impl<'a> Place<'a> {
    pub(super) fn new(schema: &'a Schema, names: &'a NamesRef<'a>) -> Self {
        Self { schema, names, namespace: None }
    }

    fn inner(self, schema: &'a Schema) -> Self {
        Self { schema, ..self }
    }

    /// The schema itself where this one only names it.
    fn defined(mut self) -> Result<Self, String> {
        while let Schema::Ref { name } = self.schema {
            let full = name.fully_qualified_name(self.namespace);
            let known = self.names.get_key_value(&*full).ok_or_else(|| format!("the type {full} is not defined"))?;
            self = Self { schema: known.1, namespace: known.0.namespace(), ..self };
        }
        Ok(self)
    }

    /// The same place, where the namespace is the record's own.
    fn within(self, record: &'a RecordSchema) -> Self {
        Self { namespace: record.name.namespace().or(self.namespace), ..self }
    }
}

/// The value as one of the reader's schema. The error is a sentence.
pub(super) fn resolve(value: Value, writer: Place<'_>, reader: Place<'_>) -> Result<Value, String> {
    let (writer, reader) = (writer.defined()?, reader.defined()?);
    if let Schema::Union(branches) = writer.schema {
        let Value::Union(index, value) = value else { return Err(mismatch(writer, reader)) };
        let branch = usize::try_from(index).ok().and_then(|index| branches.variants().get(index));
        return resolve(*value, writer.inner(branch.ok_or("a branch that its union lacks")?), reader);
    }
    match (value, writer.schema, reader.schema) {
        (value, _, Schema::Union(branches)) => {
            let (index, branch) = choose(writer, reader, branches).ok_or_else(|| mismatch(writer, reader))?;
            Ok(Value::Union(index, Box::new(resolve(value, writer, reader.inner(branch))?)))
        }
        (Value::Record(values), Schema::Record(from), Schema::Record(to)) => {
            record(values, from, to, writer.within(from), reader.within(to))
        }
        (Value::Array(items), Schema::Array(from), Schema::Array(to)) => {
            let (from, to) = (writer.inner(&from.items), reader.inner(&to.items));
            Ok(Value::Array(items.into_iter().map(|item| resolve(item, from, to)).collect::<Result<_, _>>()?))
        }
        (Value::Map(items), Schema::Map(from), Schema::Map(to)) => {
            let (from, to) = (writer.inner(&from.types), reader.inner(&to.types));
            let items = items.into_iter().map(|(key, item)| Ok((key, resolve(item, from, to)?)));
            Ok(Value::Map(items.collect::<Result<_, String>>()?))
        }
        (Value::Enum(_, symbol), _, Schema::Enum(to)) => {
            let place = |symbol: &String| to.symbols.iter().position(|known| known == symbol);
            let known = place(&symbol).map(|index| (index, symbol.clone()));
            let default = || to.default.as_ref().and_then(|default| Some((place(default)?, default.clone())));
            let (index, symbol) = known
                .or_else(default)
                .ok_or_else(|| format!("the symbol {symbol:?} is none of the enumeration {}", to.name))?;
            Ok(Value::Enum(u32::try_from(index).map_err(|error| error.to_string())?, symbol))
        }
        (value, _, _) if promotes(writer.schema, reader.schema) => {
            number(&value, reader.schema).map_or_else(|| leaf(value, writer, reader), Ok)
        }
        _ => Err(mismatch(writer, reader)),
    }
}

fn mismatch(writer: Place<'_>, reader: Place<'_>) -> String {
    format!("{} cannot be read as {}", title(writer.schema), title(reader.schema))
}

fn title(schema: &Schema) -> String {
    let kind = format!("{:?}", apache_avro::schema::SchemaKind::from(schema)).to_lowercase();
    schema.name().map_or_else(|| kind.clone(), |name| format!("the {kind} {name}"))
}

fn record(
    values: Vec<(String, Value)>,
    from: &RecordSchema,
    to: &RecordSchema,
    writer: Place<'_>,
    reader: Place<'_>,
) -> Result<Value, String> {
    let mut values: Vec<Option<Value>> = values.into_iter().map(|(_, value)| Some(value)).collect();
    let mut fields = Vec::with_capacity(to.fields.len());
    for field in &to.fields {
        let names = std::iter::once(&field.name).chain(&field.aliases);
        let index = names.filter_map(|name| from.lookup.get(name)).next();
        let written = index.and_then(|index| Some((from.fields.get(*index)?, values.get_mut(*index)?.take()?)));
        let value = match written {
            Some((origin, value)) => resolve(value, writer.inner(&origin.schema), reader.inner(&field.schema))
                .map_err(|fault| format!("{}: {fault}", field.name))?,
            None => default(field, to, reader)?,
        };
        fields.push((field.name.clone(), value));
    }
    Ok(Value::Record(fields))
}

/// The default of a field that the writer did not have. Defaults are the program's own, so their size is its affair.
fn default(field: &RecordField, record: &RecordSchema, reader: Place<'_>) -> Result<Value, String> {
    let json = field.default.clone().ok_or_else(|| {
        format!("the writer has no field {:?} of {}, and the reader has no default for it", field.name, record.name)
    })?;
    let of = |schema: &Schema| {
        Value::try_from(json)
            .and_then(|value| value.resolve_with_names(schema, reader.names))
            .map_err(|error| format!("the default of the field {:?} of {}: {error}", field.name, record.name))
    };
    match &field.schema {
        // A default is one of the first branch.
        Schema::Union(union) => match union.variants().first() {
            Some(first) => Ok(Value::Union(0, Box::new(of(first)?))),
            None => Err("a union without branches".to_owned()),
        },
        schema => of(schema),
    }
}

/// The reader's branch for a value of the writer's schema: one of the same type and name, else the first that it can
/// be promoted to.
fn choose<'a>(writer: Place<'_>, reader: Place<'a>, branches: &'a UnionSchema) -> Option<(u32, &'a Schema)> {
    let fits = |wanted: fn(&Schema, &Schema) -> bool| {
        let found = branches.variants().iter().enumerate().find(|(_, branch)| {
            reader.inner(branch).defined().is_ok_and(|branch| wanted(writer.schema, branch.schema))
        });
        found.and_then(|(index, branch)| Some((u32::try_from(index).ok()?, branch)))
    };
    fits(is_same).or_else(|| fits(promotes))
}

fn is_same(writer: &Schema, reader: &Schema) -> bool {
    use apache_avro::schema::SchemaKind;
    let named = |aliases: Option<&Vec<Alias>>, from: &Name, to: &Name| {
        from == to || aliases.is_some_and(|aliases| aliases.iter().any(|alias| alias.name() == from.name()))
    };
    SchemaKind::from(writer) == SchemaKind::from(reader)
        && match (writer.name(), reader.name()) {
            (Some(from), Some(to)) => named(reader.aliases(), from, to),
            _ => true,
        }
}

/// What a schema is on the wire, in the order of promotion where there is one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wire {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    Fixed,
    Enum,
    Array,
    Map,
    Record,
    Other,
}

fn wire(schema: &Schema) -> Wire {
    match schema {
        Schema::Null => Wire::Null,
        Schema::Boolean => Wire::Boolean,
        Schema::Int | Schema::Date | Schema::TimeMillis => Wire::Int,
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => Wire::Long,
        Schema::Float => Wire::Float,
        Schema::Double => Wire::Double,
        Schema::String | Schema::Bytes | Schema::BigDecimal | Schema::Decimal(_) | Schema::Uuid(_) => Wire::Text,
        Schema::Fixed(_) | Schema::Duration(_) => Wire::Fixed,
        Schema::Enum(_) => Wire::Enum,
        Schema::Array(_) => Wire::Array,
        Schema::Map(_) => Wire::Map,
        Schema::Record(_) => Wire::Record,
        Schema::Union(_) | Schema::Ref { .. } => Wire::Other,
    }
}

/// Whether a value of the one may be read as the other, as far as the outermost type says. A number becomes a wider one.
fn promotes(writer: &Schema, reader: &Schema) -> bool {
    let (from, to) = (wire(writer), wire(reader));
    // A decimal or uuid may be either on the wire, so the leaf says more.
    let loose = |schema: &Schema| matches!(schema, Schema::Decimal(_) | Schema::Uuid(_));
    let numbers = Wire::Int..=Wire::Double;
    from == to && from != Wire::Other
        || numbers.contains(&from) && numbers.contains(&to) && from < to
        || (from == Wire::Fixed && loose(reader))
        || (loose(writer) && to == Wire::Fixed)
}

/// The number as one of the reader's schema.
#[expect(clippy::cast_precision_loss, reason = "Avro's promotion of long to float and double")]
fn number(value: &Value, reader: &Schema) -> Option<Value> {
    enum Number {
        Int(i32),
        Long(i64),
        Float(f32),
        Double(f64),
    }
    let number = match *value {
        Value::Int(number) | Value::Date(number) | Value::TimeMillis(number) => Number::Int(number),
        Value::Long(number)
        | Value::TimeMicros(number)
        | Value::TimestampMillis(number)
        | Value::TimestampMicros(number)
        | Value::TimestampNanos(number)
        | Value::LocalTimestampMillis(number)
        | Value::LocalTimestampMicros(number)
        | Value::LocalTimestampNanos(number) => Number::Long(number),
        Value::Float(number) => Number::Float(number),
        Value::Double(number) => Number::Double(number),
        _ => return None,
    };
    let int = |make: fn(i32) -> Value| if let Number::Int(number) = number { Some(make(number)) } else { None };
    let long = |make: fn(i64) -> Value| match number {
        Number::Int(number) => Some(make(number.into())),
        Number::Long(number) => Some(make(number)),
        _ => None,
    };
    match reader {
        Schema::Int => int(Value::Int),
        Schema::Date => int(Value::Date),
        Schema::TimeMillis => int(Value::TimeMillis),
        Schema::Long => long(Value::Long),
        Schema::TimeMicros => long(Value::TimeMicros),
        Schema::TimestampMillis => long(Value::TimestampMillis),
        Schema::TimestampMicros => long(Value::TimestampMicros),
        Schema::TimestampNanos => long(Value::TimestampNanos),
        Schema::LocalTimestampMillis => long(Value::LocalTimestampMillis),
        Schema::LocalTimestampMicros => long(Value::LocalTimestampMicros),
        Schema::LocalTimestampNanos => long(Value::LocalTimestampNanos),
        Schema::Float => match number {
            Number::Int(number) => Some(Value::Float(number as f32)),
            Number::Long(number) => Some(Value::Float(number as f32)),
            Number::Float(number) => Some(Value::Float(number)),
            Number::Double(_) => None,
        },
        Schema::Double => Some(Value::Double(match number {
            Number::Int(number) => number.into(),
            Number::Long(number) => number as f64,
            Number::Float(number) => number.into(),
            Number::Double(number) => number,
        })),
        _ => None,
    }
}

/// What has no other types in it, where `apache_avro` does as well.
fn leaf(value: Value, writer: Place<'_>, reader: Place<'_>) -> Result<Value, String> {
    match (&value, reader.schema) {
        (Value::Null, Schema::Null) | (Value::Boolean(_), Schema::Boolean) => Ok(value),
        (Value::String(_), Schema::String) | (Value::Bytes(_), Schema::Bytes) => Ok(value),
        (Value::Array(_) | Value::Map(_) | Value::Record(_) | Value::Union(..), _) => Err(mismatch(writer, reader)),
        (_, schema) => value.resolve(schema).map_err(|error| error.to_string()),
    }
}
