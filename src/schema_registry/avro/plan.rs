//! How bytes that were written with one schema become values of another, by Avro's rules of schema resolution.
//!
//! `apache_avro` resolves too, but not as the specification and Java do: it uses the aliases of the writer's fields as
//! names, compares the aliases of types without their namespaces, reads the text of a default as UTF-8, requires that a
//! decimal has room for its whole precision, and looks for the branch of a union by trying each, so that its work
//! doubles with each level. It also resolves values after it has read them, when the writer's bytes are lost. So this
//! module compares both schemas once for each pair, and makes a plan; [`read`](super::read) then only follows the plan.

use std::collections::{HashMap, HashSet};

use apache_avro::Schema;
use apache_avro::schema::{
    Alias, DecimalSchema, EnumSchema, FixedSchema, InnerDecimalSchema, Name, RecordField, RecordSchema, SchemaKind,
    UnionSchema, UuidSchema,
};
use apache_avro::types::Value;

use super::default;
use super::schema::AvroSchema;

/// How to read the bytes of a value, step by step. Steps name each other by their index in the list, because schemas
/// may be recursive.
pub(super) struct Plan {
    steps: Vec<PlanStep>,
    root: usize,
    /// Whether a value is only its bytes, without their length before them.
    raw: bool,
}

/// How to read the bytes of one of the writer's types.
pub(super) enum PlanStep {
    /// The two types do not fit, for this reason, a sentence. As in Java, this is an error only when such a value is
    /// read, because the values that occur may all fit.
    Misfit(String),
    /// No bytes.
    Null,
    /// One byte.
    Boolean,
    /// An `int` stays one, under the reader's logical type.
    Int(fn(i32) -> Value),
    /// An `int` or `long` becomes a `long`, under the reader's logical type.
    Long(Number, fn(i64) -> Value),
    /// A number becomes a `float`.
    Float(Number),
    /// A number becomes a `double`.
    Double(Number),
    /// A length, and that many bytes.
    Sized(Form),
    /// This many bytes.
    Fixed(usize, Form),
    /// For each of the writer's symbols: the reader's index and symbol, or the reason why there is none.
    Enum(Vec<Result<(u32, String), String>>),
    /// Items, each read with this step.
    Array(usize),
    /// The same, each item with a key.
    Map(usize),
    /// The writer's union: the step of each branch.
    Branches(Vec<usize>),
    /// The reader's union: the index of the branch, and the step for the value in it.
    Branch(u32, usize),
    /// A record.
    Record(Fields),
}

/// The type of a number in the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Int,
    Long,
    Float,
    Double,
}

/// The type of value that the reader makes from bytes.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Bytes,
    Fixed,
    String,
    Decimal,
    BigDecimal,
    UuidText,
    UuidBytes,
    Duration,
}

/// The steps of a record.
pub(super) struct Fields {
    /// The writer's fields in their order: the step, and the index of the reader's field, if the reader has it.
    pub(super) written: Vec<(usize, Option<usize>)>,
    /// The reader's fields, with the defaults of those that the writer does not have.
    pub(super) template: Vec<(String, Value)>,
}

impl Plan {
    /// The plan for values that were written with one schema and are read with another, which may be the same.
    pub(super) fn new(writer: &AvroSchema, reader: &AvroSchema) -> Self {
        let (writer_names, reader_names) = (writer.definitions(), reader.definitions());
        let aliases = reader_names.values().flat_map(|schema| {
            let aliases = aliases(schema).into_iter().flatten();
            aliases.filter_map(|alias| Some((alias.fullname(None), name(schema)?.as_ref())))
        });
        let mut planner =
            Planner { aliases: aliases.collect(), steps: Vec::new(), records: HashMap::new(), unplanned: Vec::new() };
        let from = SchemaPlace { schema: writer.schema(), names: &writer_names };
        let root = planner.step(from, SchemaPlace { schema: reader.schema(), names: &reader_names });
        // Records are planned in a loop, not recursively, so that a long chain of schemas that name each other needs no
        // deep stack.
        while let Some((index, from, to)) = planner.unplanned.pop() {
            let step = planner.record(from, to);
            if let Some(place) = planner.steps.get_mut(index) {
                *place = step;
            }
        }
        Self { steps: planner.steps, root, raw: is_raw(writer) }
    }

    pub(super) fn root(&self) -> usize {
        self.root
    }

    /// See `Framed`: `bytes` is the only type whose values are not written in Avro.
    pub(super) fn raw(&self) -> bool {
        self.raw
    }

    pub(super) fn step(&self, index: usize) -> Option<&PlanStep> {
        self.steps.get(index)
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan({} steps)", self.steps.len())
    }
}

/// See [`Plan::raw`].
pub(super) fn is_raw(schema: &AvroSchema) -> bool {
    AvroKind::of(schema.schema()) == AvroKind::Bytes
}

/// The types that a schema defines, by their full names.
pub(super) type NamedSchemas<'a> = HashMap<&'a str, &'a Schema>;

/// A schema, and the types that it may name.
#[derive(Clone, Copy)]
pub(super) struct SchemaPlace<'a> {
    pub(super) schema: &'a Schema,
    pub(super) names: &'a NamedSchemas<'a>,
}

impl<'a> SchemaPlace<'a> {
    pub(super) fn inner(self, schema: &'a Schema) -> Self {
        Self { schema, ..self }
    }

    /// The type's definition, if this schema only names the type.
    pub(super) fn defined(mut self) -> Option<Self> {
        while let Schema::Ref { name } = self.schema {
            self.schema = self.names.get(name.as_ref()).copied()?;
        }
        Some(self)
    }

    fn is(self, other: Self) -> bool {
        std::ptr::eq(self.schema, other.schema)
    }
}

/// The Avro type of a schema, whatever its logical type. Java resolves by these types.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AvroKind {
    Null,
    Boolean,
    Number(Number),
    Bytes,
    String,
    Fixed,
    Enum,
    Array,
    Map,
    Record,
    Union,
    Ref,
}

impl AvroKind {
    fn of(schema: &Schema) -> Self {
        match schema {
            Schema::Null => Self::Null,
            Schema::Boolean => Self::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Self::Number(Number::Int),
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Self::Number(Number::Long),
            Schema::Float => Self::Number(Number::Float),
            Schema::Double => Self::Number(Number::Double),
            Schema::Bytes
            | Schema::BigDecimal
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. })
            | Schema::Uuid(UuidSchema::Bytes) => Self::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Self::String,
            Schema::Fixed(_)
            | Schema::Duration(_)
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(_), .. })
            | Schema::Uuid(UuidSchema::Fixed(_)) => Self::Fixed,
            Schema::Enum(_) => Self::Enum,
            Schema::Array(_) => Self::Array,
            Schema::Map(_) => Self::Map,
            Schema::Record(_) => Self::Record,
            Schema::Union(_) => Self::Union,
            Schema::Ref { .. } => Self::Ref,
        }
    }

    /// Whether Avro's rules allow to read a value of this type as the type `to`.
    fn promotes(self, to: Self) -> bool {
        match (self, to) {
            (Self::Number(from), Self::Number(to)) => matches!(
                (from, to),
                (Number::Int, Number::Long | Number::Float | Number::Double)
                    | (Number::Long, Number::Float | Number::Double)
                    | (Number::Float, Number::Double)
            ),
            (Self::String, Self::Bytes) | (Self::Bytes, Self::String) => true,
            _ => false,
        }
    }
}

/// The `fixed` of a schema, also of one with a logical type.
pub(super) fn fixed(schema: &Schema) -> Option<&FixedSchema> {
    match schema {
        Schema::Fixed(fixed)
        | Schema::Duration(fixed)
        | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. })
        | Schema::Uuid(UuidSchema::Fixed(fixed)) => Some(fixed),
        _ => None,
    }
}

/// The name of a schema that defines a named type.
pub(super) fn name(schema: &Schema) -> Option<&Name> {
    match schema {
        Schema::Record(record) => Some(&record.name),
        Schema::Enum(symbols) => Some(&symbols.name),
        _ => fixed(schema).map(|fixed| &fixed.name),
    }
}

fn aliases(schema: &Schema) -> Option<&Vec<Alias>> {
    match schema {
        Schema::Record(record) => record.aliases.as_ref(),
        Schema::Enum(symbols) => symbols.aliases.as_ref(),
        _ => fixed(schema)?.aliases.as_ref(),
    }
}

/// The form of a type whose values are bytes.
pub(super) fn form(schema: &Schema) -> Option<Form> {
    Some(match schema {
        Schema::Bytes => Form::Bytes,
        Schema::String => Form::String,
        Schema::Fixed(_) => Form::Fixed,
        Schema::Decimal(_) => Form::Decimal,
        Schema::BigDecimal => Form::BigDecimal,
        Schema::Uuid(UuidSchema::String) => Form::UuidText,
        Schema::Uuid(UuidSchema::Bytes | UuidSchema::Fixed(_)) => Form::UuidBytes,
        Schema::Duration(_) => Form::Duration,
        _ => return None,
    })
}

/// The kind of value that an `int` with this logical type is.
pub(super) fn int(schema: &Schema) -> Option<fn(i32) -> Value> {
    Some(match schema {
        Schema::Int => Value::Int,
        Schema::Date => Value::Date,
        Schema::TimeMillis => Value::TimeMillis,
        _ => return None,
    })
}

/// The kind of value that a `long` with this logical type is.
pub(super) fn long(schema: &Schema) -> Option<fn(i64) -> Value> {
    Some(match schema {
        Schema::Long => Value::Long,
        Schema::TimeMicros => Value::TimeMicros,
        Schema::TimestampMillis => Value::TimestampMillis,
        Schema::TimestampMicros => Value::TimestampMicros,
        Schema::TimestampNanos => Value::TimestampNanos,
        Schema::LocalTimestampMillis => Value::LocalTimestampMillis,
        Schema::LocalTimestampMicros => Value::LocalTimestampMicros,
        Schema::LocalTimestampNanos => Value::LocalTimestampNanos,
        _ => return None,
    })
}

fn without_namespace(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// How an error calls a type, without its name.
pub(super) fn kind(schema: &Schema) -> String {
    format!("{:?}", SchemaKind::from(schema)).to_lowercase()
}

/// How an error calls a type, with its name if it has one.
pub(super) fn title(schema: &Schema) -> String {
    let kind = kind(schema);
    match name(schema) {
        Some(name) => format!("the {kind} {name}"),
        None => kind,
    }
}

fn misfit(writer: SchemaPlace<'_>, reader: SchemaPlace<'_>) -> PlanStep {
    PlanStep::Misfit(format!("{} cannot be read as {}", title(writer.schema), title(reader.schema)))
}

/// A record of the writer and one of the reader.
type Pair = (*const Schema, *const Schema);

/// The pairs that were compared already, with the result, so that recursion ends.
type Known = HashMap<Pair, bool>;

struct Planner<'a> {
    /// The reader's names of types, by their aliases.
    aliases: HashMap<String, &'a str>,
    steps: Vec<PlanStep>,
    records: HashMap<Pair, usize>,
    /// The records that have an index among the steps, but no step yet.
    unplanned: Vec<(usize, SchemaPlace<'a>, SchemaPlace<'a>)>,
}

impl<'a> Planner<'a> {
    fn push(&mut self, step: PlanStep) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    fn step(&mut self, writer: SchemaPlace<'a>, reader: SchemaPlace<'a>) -> usize {
        let (Some(writer), Some(reader)) = (writer.defined(), reader.defined()) else {
            return self.push(PlanStep::Misfit("a type is not defined".to_owned()));
        };
        if let (Schema::Record(_), Schema::Record(_)) = (writer.schema, reader.schema) {
            let pair = (std::ptr::from_ref(writer.schema), std::ptr::from_ref(reader.schema));
            if let Some(index) = self.records.get(&pair) {
                return *index;
            }
            let index = self.push(PlanStep::Null);
            self.records.insert(pair, index);
            self.unplanned.push((index, writer, reader));
            return index;
        }
        let step = self.plain_step(writer, reader);
        self.push(step)
    }

    /// The step for two definitions that are not both records.
    fn plain_step(&mut self, writer: SchemaPlace<'a>, reader: SchemaPlace<'a>) -> PlanStep {
        if let Schema::Union(from) = writer.schema {
            let equivalent = self.equivalent(writer, reader, &mut Known::new());
            let mut branches = Vec::with_capacity(from.variants().len());
            for (index, branch) in from.variants().iter().enumerate() {
                let branch = writer.inner(branch);
                // If both unions are equivalent, a branch is read as the branch with the same index, even if another
                // one fits.
                let same = match reader.schema {
                    Schema::Union(to) if equivalent => to.variants().get(index),
                    _ => None,
                };
                branches.push(match same.zip(u32::try_from(index).ok()) {
                    Some((same, index)) => {
                        let inner = self.step(branch, reader.inner(same));
                        self.push(PlanStep::Branch(index, inner))
                    }
                    None => self.step(branch, reader),
                });
            }
            return PlanStep::Branches(branches);
        }
        match (writer.schema, reader.schema) {
            (_, Schema::Union(branches)) => match self.choose(writer, reader, branches, &mut Known::new()) {
                Some((index, branch)) => PlanStep::Branch(index, self.step(writer, branch)),
                None => misfit(writer, reader),
            },
            (Schema::Array(from), Schema::Array(to)) => {
                PlanStep::Array(self.step(writer.inner(&from.items), reader.inner(&to.items)))
            }
            (Schema::Map(from), Schema::Map(to)) => {
                PlanStep::Map(self.step(writer.inner(&from.types), reader.inner(&to.types)))
            }
            (Schema::Enum(from), Schema::Enum(to)) if self.is_called(writer, reader) => {
                PlanStep::Enum(symbols(from, to))
            }
            _ => self.leaf(writer, reader).unwrap_or_else(|| misfit(writer, reader)),
        }
    }

    /// The step for a type that has no other types in it.
    fn leaf(&self, writer: SchemaPlace<'a>, reader: SchemaPlace<'a>) -> Option<PlanStep> {
        if let (Schema::Decimal(from), Schema::Decimal(to)) = (writer.schema, reader.schema)
            && from.scale != to.scale
        {
            // By the specification these do not match: the digits would be read as another number.
            let fault = format!("a decimal of scale {} cannot be read as one of scale {}", from.scale, to.scale);
            return Some(PlanStep::Misfit(fault));
        }
        Some(match (AvroKind::of(writer.schema), AvroKind::of(reader.schema)) {
            (AvroKind::Null, AvroKind::Null) => PlanStep::Null,
            (AvroKind::Boolean, AvroKind::Boolean) => PlanStep::Boolean,
            (from @ AvroKind::Number(number), to @ AvroKind::Number(wanted)) if from == to || from.promotes(to) => {
                match wanted {
                    Number::Int => PlanStep::Int(int(reader.schema)?),
                    Number::Long => PlanStep::Long(number, long(reader.schema)?),
                    Number::Float => PlanStep::Float(number),
                    Number::Double => PlanStep::Double(number),
                }
            }
            (AvroKind::Bytes | AvroKind::String, AvroKind::Bytes | AvroKind::String) => {
                PlanStep::Sized(form(reader.schema)?)
            }
            (AvroKind::Fixed, AvroKind::Fixed) => {
                let (from, to) = (fixed(writer.schema)?, fixed(reader.schema)?);
                if from.size != to.size || !self.is_called(writer, reader) {
                    return None;
                }
                PlanStep::Fixed(from.size, form(reader.schema)?)
            }
            _ => return None,
        })
    }

    /// The full name by which the reader knows the writer's type.
    fn full_name(&self, writer: SchemaPlace<'a>, reader: SchemaPlace<'a>) -> Option<&'a str> {
        let full = name(writer.schema)?.as_ref();
        // A schema's aliases do not count when it is read with itself.
        if writer.is(reader) { Some(full) } else { Some(self.aliases.get(full).copied().unwrap_or(full)) }
    }

    /// Whether two types have the same name, without its namespace.
    fn is_called(&self, writer: SchemaPlace<'a>, reader: SchemaPlace<'a>) -> bool {
        let from = self.full_name(writer, reader).map(without_namespace);
        from == name(reader.schema).map(|name| without_namespace(name.as_ref()))
    }

    fn record(&mut self, writer: SchemaPlace<'a>, reader: SchemaPlace<'a>) -> PlanStep {
        let (Schema::Record(from), Schema::Record(to)) = (writer.schema, reader.schema) else {
            return misfit(writer, reader);
        };
        let places = match places(from, to) {
            Ok(places) => places,
            Err(fault) => return PlanStep::Misfit(fault),
        };
        let mut template = Vec::with_capacity(to.fields.len());
        for (index, field) in to.fields.iter().enumerate() {
            let value = if places.contains(&Some(index)) {
                Value::Null
            } else {
                match default_of(field, to, reader) {
                    Ok(value) => value,
                    Err(fault) => return PlanStep::Misfit(fault),
                }
            };
            template.push((field.name.clone(), value));
        }
        let mut written = Vec::with_capacity(from.fields.len());
        for (field, place) in from.fields.iter().zip(places) {
            let from = writer.inner(&field.schema);
            // A field that the reader does not have is read as it was written, and dropped.
            let to = place.and_then(|place| to.fields.get(place)).map_or(from, |field| reader.inner(&field.schema));
            written.push((self.step(from, to), place));
        }
        PlanStep::Record(Fields { written, template })
    }

    /// The branch of the reader's union for a writer's type that is no union. As in Java, it is a branch of the same
    /// type, and for named types of the same full name; else a record of another name that the value can be read as,
    /// preferably one with the same name without namespace; else the first branch that the value can be promoted to.
    fn choose(
        &self,
        writer: SchemaPlace<'a>,
        reader: SchemaPlace<'a>,
        branches: &'a UnionSchema,
        asked: &mut Known,
    ) -> Option<(u32, SchemaPlace<'a>)> {
        let kind = AvroKind::of(writer.schema);
        let branches = || {
            let all = branches.variants().iter().enumerate();
            all.filter_map(|(index, branch)| Some((u32::try_from(index).ok()?, reader.inner(branch).defined()?)))
        };
        let mut similar = None;
        for (index, branch) in branches().filter(|(_, branch)| AvroKind::of(branch.schema) == kind) {
            let Some(full) = name(branch.schema) else { return Some((index, branch)) };
            if self.full_name(writer, branch) == Some(full.as_ref()) {
                return Some((index, branch));
            }
            if kind == AvroKind::Record
                && self.fits_inside(writer, branch, asked)
                && (similar.is_none() || self.is_called(writer, branch))
            {
                similar = Some((index, branch));
            }
        }
        similar.or_else(|| branches().find(|(_, branch)| kind.promotes(AvroKind::of(branch.schema))))
    }

    /// Whether one record can be read as another, as far as the types of its fields tell without the types in them.
    fn fits_inside(&self, writer: SchemaPlace<'a>, reader: SchemaPlace<'a>, asked: &mut Known) -> bool {
        let (Schema::Record(from), Schema::Record(to)) = (writer.schema, reader.schema) else { return false };
        let pair = (std::ptr::from_ref(writer.schema), std::ptr::from_ref(reader.schema));
        if let Some(known) = asked.get(&pair) {
            return *known;
        }
        // A pair that is being compared already is assumed to fit.
        asked.insert(pair, true);
        let fits = complete_places(from, to).is_some_and(|places| {
            from.fields.iter().zip(places).all(|(field, place)| {
                let Some(place) = place.and_then(|place| to.fields.get(place)) else { return true };
                self.fits(writer.inner(&field.schema), reader.inner(&place.schema), asked)
            })
        });
        asked.insert(pair, fits);
        fits
    }

    /// Whether a type can be read as another, as far as can be said without looking at the types in it.
    fn fits(&self, writer: SchemaPlace<'a>, reader: SchemaPlace<'a>, asked: &mut Known) -> bool {
        let (Some(writer), Some(reader)) = (writer.defined(), reader.defined()) else { return false };
        match (writer.schema, reader.schema) {
            (Schema::Union(_), _) | (Schema::Array(_), Schema::Array(_)) | (Schema::Map(_), Schema::Map(_)) => true,
            (_, Schema::Union(branches)) => self.choose(writer, reader, branches, asked).is_some(),
            (Schema::Record(from), Schema::Record(to)) => complete_places(from, to).is_some(),
            (Schema::Enum(_), Schema::Enum(_)) => self.is_called(writer, reader),
            _ => self.leaf(writer, reader).is_some(),
        }
    }

    /// Whether two types are the same except for defaults, aliases, namespaces and logical types.
    fn equivalent(&self, writer: SchemaPlace<'a>, reader: SchemaPlace<'a>, known: &mut Known) -> bool {
        let (Some(writer), Some(reader)) = (writer.defined(), reader.defined()) else { return false };
        if writer.is(reader) {
            return true;
        }
        if AvroKind::of(writer.schema) != AvroKind::of(reader.schema) || !self.is_called(writer, reader) {
            return false;
        }
        match (writer.schema, reader.schema) {
            (Schema::Array(from), Schema::Array(to)) => {
                self.equivalent(writer.inner(&from.items), reader.inner(&to.items), known)
            }
            (Schema::Map(from), Schema::Map(to)) => {
                self.equivalent(writer.inner(&from.types), reader.inner(&to.types), known)
            }
            (Schema::Enum(from), Schema::Enum(to)) => from.symbols == to.symbols,
            (Schema::Union(from), Schema::Union(to)) => {
                let (from, to) = (from.variants(), to.variants());
                from.len() == to.len()
                    && from.iter().zip(to).all(|(f, t)| self.equivalent(writer.inner(f), reader.inner(t), known))
            }
            (Schema::Record(from), Schema::Record(to)) => {
                let pair = (std::ptr::from_ref(writer.schema), std::ptr::from_ref(reader.schema));
                if let Some(known) = known.get(&pair) {
                    return *known;
                }
                known.insert(pair, true);
                let in_order = from.fields.len() == to.fields.len()
                    && places(from, to)
                        .is_ok_and(|places| places.iter().enumerate().all(|(index, place)| *place == Some(index)));
                let mut fields = from.fields.iter().zip(&to.fields);
                let same = in_order
                    && fields.all(|(f, t)| self.equivalent(writer.inner(&f.schema), reader.inner(&t.schema), known));
                known.insert(pair, same);
                same
            }
            _ => fixed(writer.schema).map(|fixed| fixed.size) == fixed(reader.schema).map(|fixed| fixed.size),
        }
    }
}

/// For each of the writer's fields, the index of the reader's field. A writer's field whose name is an alias in the
/// reader is the reader's field with this alias, not the one with its own name. The writer's own aliases do not count
/// here.
fn places(from: &RecordSchema, to: &RecordSchema) -> Result<Vec<Option<usize>>, String> {
    let fields = || to.fields.iter().enumerate();
    let mut names: HashMap<&str, usize> = fields().map(|(index, field)| (&*field.name, index)).collect();
    if !std::ptr::eq(from, to) {
        names.extend(fields().flat_map(|(index, field)| field_aliases(field).map(move |alias| (alias, index))));
    }
    let places: Vec<Option<usize>> = from.fields.iter().map(|field| names.get(&*field.name).copied()).collect();
    let mut taken = HashSet::new();
    for place in places.iter().flatten() {
        if !taken.insert(place) {
            let name = to.fields.get(*place).map_or("", |field| &field.name);
            return Err(format!(
                "by the aliases of {} two of the writer's fields are its field {name:?}, so it is not clear which one to read",
                to.name
            ));
        }
    }
    Ok(places)
}

/// The name under which aliases of a field that `apache_avro` does not accept are kept for this crate.
pub(super) const ASIDE: &str = "kafka-blocking.aliases";

fn field_aliases(field: &RecordField) -> impl Iterator<Item = &str> {
    let aside = field.custom_attributes.get(ASIDE).and_then(|aliases| aliases.as_array());
    let aside = aside.into_iter().flatten().filter_map(|alias| alias.as_str());
    field.aliases.iter().map(String::as_str).chain(aside)
}

/// The same, if each of the reader's fields is written or has a default.
fn complete_places(from: &RecordSchema, to: &RecordSchema) -> Option<Vec<Option<usize>>> {
    let places = places(from, to).ok()?;
    let has_value =
        |(index, field): (usize, &RecordField)| places.contains(&Some(index)) || default::of_field(field).is_some();
    to.fields.iter().enumerate().all(has_value).then_some(places)
}

fn default_of(field: &RecordField, record: &RecordSchema, reader: SchemaPlace<'_>) -> Result<Value, String> {
    let json = default::of_field(field).ok_or_else(|| {
        format!("the writer has no field {:?} of {}, and the reader has no default for it", field.name, record.name)
    })?;
    default::value(json, reader.inner(&field.schema))
        .map_err(|fault| format!("the default of the field {:?} of {}: {fault}", field.name, record.name))
}

/// For each of the writer's symbols, the reader's index and symbol.
fn symbols(from: &EnumSchema, to: &EnumSchema) -> Vec<Result<(u32, String), String>> {
    let place = |symbol: &String| {
        let index = to.symbols.iter().position(|known| known == symbol)?;
        Some((u32::try_from(index).ok()?, symbol.clone()))
    };
    let read = |symbol: &String| {
        place(symbol)
            .or_else(|| to.default.as_ref().and_then(place))
            .ok_or_else(|| format!("the symbol {symbol:?} is none of the enumeration {}", to.name))
    };
    from.symbols.iter().map(read).collect()
}
