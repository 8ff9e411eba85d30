//! What Java's Avro writes is read as Java reads it: with the same schema, a newer and an older one, for every type and
//! logical type. And bytes that nobody should write cost nothing and are an error.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use kafka_blocking::schema_registry::apache_avro::types::Value;
use kafka_blocking::schema_registry::apache_avro::{BigDecimal, Decimal};
use kafka_blocking::schema_registry::{AvroDeserializer, AvroSchema, AvroSerializer, Framed, SchemaRegistry};
use kafka_blocking::{Error, ErrorKind, Recovery};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{hex, unhex};
use crate::support::registry;
use crate::support::script::{Reply, Script};

/// A registry with these schemas: each place in the list is an id.
fn registry_of(schemas: Vec<String>) -> (Script, SchemaRegistry) {
    let script = Script::start(move |_, request| {
        let id = request.line.strip_prefix("GET /schemas/ids/").and_then(|id| id.parse::<usize>().ok());
        let schema = id.and_then(|id| schemas.get(id));
        match (schema, &*request.line) {
            (Some(schema), _) => Reply::json(&serde_json::json!({ "schema": schema }).to_string()),
            (None, line) if line.starts_with("POST") => Reply::json(r#"{"id": 0}"#),
            _ => Reply::status(404),
        }
    });
    let registry = SchemaRegistry::builder([script.url()]).build().unwrap();
    (script, registry)
}

fn framed(id: usize, payload: &[u8]) -> Vec<u8> {
    Framed { schema_id: u32::try_from(id).unwrap(), payload }.to_vec()
}

/// Reads bytes that were written with one schema, with another.
fn read(writer: &str, bytes: &[u8], reader: Option<&str>) -> Result<Value, Error> {
    let (_script, registry) = registry_of(vec![writer.to_owned()]);
    let builder = AvroDeserializer::builder(&registry);
    let reader = reader.map(|reader| AvroSchema::parse(reader).unwrap());
    let builder = if let Some(reader) = &reader { builder.reader_schema(reader) } else { builder };
    builder.build().unwrap().deserialize_value("t", &framed(0, bytes))
}

/// A value as the judge shows it, so that every branch and every bit can be compared.
fn render(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    let number = |number: i64| number.to_string();
    match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Int(n) | Value::Date(n) | Value::TimeMillis(n) => number((*n).into()),
        Value::Long(n)
        | Value::TimeMicros(n)
        | Value::TimestampMillis(n)
        | Value::TimestampMicros(n)
        | Value::TimestampNanos(n)
        | Value::LocalTimestampMillis(n)
        | Value::LocalTimestampMicros(n)
        | Value::LocalTimestampNanos(n) => number(*n),
        Value::Float(n) => format!("float {:08x}", n.to_bits()),
        Value::Double(n) => format!("double {:016x}", n.to_bits()),
        Value::String(text) => format!("string {text}"),
        Value::Uuid(uuid) => format!("uuid {uuid}"),
        Value::Enum(_, symbol) => format!("enum {symbol}"),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => format!("bytes {}", hex(bytes)),
        Value::Decimal(decimal) => format!("bytes {}", hex(&Vec::try_from(decimal).unwrap())),
        Value::Duration(duration) => format!("bytes {}", hex(&<[u8; 12]>::from(*duration))),
        Value::BigDecimal(decimal) => {
            let (digits, scale) = decimal.as_bigint_and_exponent();
            format!("big {} {scale}", hex(&digits.to_signed_bytes_be()))
        }
        Value::Array(items) => format!("[{}]", list(items.iter().map(render).collect())),
        Value::Map(items) => {
            let sorted: BTreeMap<&String, &Value> = items.iter().collect();
            format!("{{{}}}", list(sorted.iter().map(|(key, item)| format!("{key}={}", render(item))).collect()))
        }
        Value::Union(index, inner) => format!("branch {index} {}", render(inner)),
        Value::Record(fields) => {
            format!("({})", list(fields.iter().map(|(name, field)| format!("{name}={}", render(field))).collect()))
        }
    }
}

/// A value of one type, and the types as which it is read, each as the field of a record.
struct Case(&'static str, &'static str, &'static [&'static str]);

const INT: &str = r#""int""#;
const LONG: &str = r#""long""#;
const FLOAT: &str = r#""float""#;
const DOUBLE: &str = r#""double""#;
const STRING: &str = r#""string""#;
const BYTES: &str = r#""bytes""#;
const NULLABLE: &str = r#"["null", "string"]"#;
const DATE: &str = r#"{"type": "int", "logicalType": "date"}"#;
const TIME_MILLIS: &str = r#"{"type": "int", "logicalType": "time-millis"}"#;
const TIME_MICROS: &str = r#"{"type": "long", "logicalType": "time-micros"}"#;
const TIMESTAMP_MILLIS: &str = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
const TIMESTAMP_MICROS: &str = r#"{"type": "long", "logicalType": "timestamp-micros"}"#;
const TIMESTAMP_NANOS: &str = r#"{"type": "long", "logicalType": "timestamp-nanos"}"#;
const LOCAL_MILLIS: &str = r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#;
const LOCAL_MICROS: &str = r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#;
const LOCAL_NANOS: &str = r#"{"type": "long", "logicalType": "local-timestamp-nanos"}"#;
const UUID: &str = r#"{"type": "string", "logicalType": "uuid"}"#;
const UUID_FIXED: &str = r#"{"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}"#;
const FIXED_16: &str = r#"{"type": "fixed", "name": "U", "size": 16}"#;
const DURATION: &str = r#"{"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}"#;
const FIXED_12: &str = r#"{"type": "fixed", "name": "D", "size": 12}"#;
const DECIMAL: &str = r#"{"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}"#;
const WIDE_DECIMAL: &str = r#"{"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2}"#;
const DECIMAL_FIXED: &str =
    r#"{"type": "fixed", "name": "M", "size": 5, "logicalType": "decimal", "precision": 10, "scale": 2}"#;
const NARROW_DECIMAL_FIXED: &str =
    r#"{"type": "fixed", "name": "M", "size": 5, "logicalType": "decimal", "precision": 8, "scale": 2}"#;
const FIXED_5: &str = r#"{"type": "fixed", "name": "M", "size": 5}"#;
const FIXED_6: &str = r#"{"type": "fixed", "name": "M", "size": 6}"#;
const OTHER_FIXED_5: &str = r#"{"type": "fixed", "name": "N", "size": 5}"#;
const ALIAS_FIXED_5: &str = r#"{"type": "fixed", "name": "N", "size": 5, "aliases": ["M"]}"#;
const OTHER_ALIAS_FIXED_5: &str = r#"{"type": "fixed", "name": "N", "size": 5, "aliases": ["other.M"]}"#;
const ELSEWHERE_FIXED_5: &str = r#"{"type": "fixed", "name": "other.M", "size": 5}"#;
const BIG_DECIMAL: &str = r#"{"type": "bytes", "logicalType": "big-decimal"}"#;
const SUIT: &str = r#"{"type": "enum", "name": "Suit", "symbols": ["CLUBS", "HEARTS", "SPADES"]}"#;
const SUIT_MOVED: &str = r#"{"type": "enum", "name": "Suit", "symbols": ["SPADES", "CLUBS", "HEARTS", "STARS"]}"#;
const SUIT_LESS: &str = r#"{"type": "enum", "name": "Suit", "symbols": ["CLUBS"]}"#;
const SUIT_DEFAULT: &str = r#"{"type": "enum", "name": "Suit", "symbols": ["NONE", "CLUBS"], "default": "NONE"}"#;
const SUIT_ELSEWHERE: &str = r#"{"type": "enum", "name": "other.Suit", "symbols": ["CLUBS", "HEARTS", "SPADES"]}"#;
const COLOUR: &str = r#"{"type": "enum", "name": "Colour", "symbols": ["CLUBS", "HEARTS", "SPADES"]}"#;
const COLOUR_ALIAS: &str =
    r#"{"type": "enum", "name": "Colour", "aliases": ["Suit"], "symbols": ["CLUBS", "HEARTS", "SPADES"]}"#;
const COLOUR_OTHER_ALIAS: &str =
    r#"{"type": "enum", "name": "Colour", "aliases": ["other.Suit"], "symbols": ["CLUBS", "HEARTS", "SPADES"]}"#;

const CASES: &[Case] = &[
    Case(r#""null""#, "null", &[r#""null""#, NULLABLE, INT]),
    Case(r#""boolean""#, "true", &[r#""boolean""#, r#"["null", "boolean"]"#, INT]),
    Case(
        INT,
        "-70000",
        &[INT, LONG, FLOAT, DOUBLE, DATE, TIME_MILLIS, TIMESTAMP_MILLIS, STRING, r#"["null", "double", "long"]"#],
    ),
    Case(INT, "16777217", &[FLOAT, DOUBLE, r#"["string", "float", "int"]"#, r#"["string", "float", "long"]"#]),
    Case(
        LONG,
        "-9223372036854775807",
        &[LONG, FLOAT, DOUBLE, INT, TIMESTAMP_NANOS, r#"["null", "int"]"#, r#"["null", "float", "double"]"#],
    ),
    Case(FLOAT, "1.1", &[FLOAT, DOUBLE, LONG, r#"["null", "double"]"#]),
    Case(DOUBLE, "1.1", &[DOUBLE, FLOAT, r#"["null", "float"]"#, r#"["float", "double"]"#]),
    Case(
        STRING,
        r#""Grace Ω""#,
        &[STRING, BYTES, UUID, NULLABLE, r#"["null", "bytes"]"#, r#"["bytes", "string"]"#, DECIMAL, INT],
    ),
    Case(BYTES, r#""00017f""#, &[BYTES, STRING, DECIMAL, r#"["null", "string"]"#, r#"["null", "bytes"]"#, FIXED_5]),
    Case(BYTES, r#""""#, &[BYTES, STRING]),
    Case(DATE, "19000", &[DATE, INT, LONG, TIME_MILLIS, DOUBLE, TIMESTAMP_MICROS]),
    Case(TIME_MILLIS, "1", &[TIME_MILLIS, INT, TIME_MICROS, LONG]),
    Case(TIME_MICROS, "86399999999", &[TIME_MICROS, LONG, DOUBLE, INT]),
    Case(TIMESTAMP_MILLIS, "1700000000123", &[TIMESTAMP_MILLIS, LONG, TIMESTAMP_MICROS, LOCAL_MILLIS, FLOAT]),
    Case(TIMESTAMP_MICROS, "-1", &[TIMESTAMP_MICROS, LONG, TIMESTAMP_MILLIS]),
    Case(TIMESTAMP_NANOS, "1", &[TIMESTAMP_NANOS, LONG]),
    Case(LOCAL_MILLIS, "1", &[LOCAL_MILLIS, LONG, TIMESTAMP_MILLIS]),
    Case(LOCAL_MICROS, "1", &[LOCAL_MICROS, LONG]),
    Case(LOCAL_NANOS, "1", &[LOCAL_NANOS, LONG, DATE]),
    Case(
        UUID,
        r#""123e4567-e89b-12d3-a456-426614174000""#,
        &[UUID, STRING, BYTES, r#"["null", "string"]"#, UUID_FIXED],
    ),
    Case(UUID, r#""123E4567-E89B-12D3-A456-426614174000""#, &[STRING, BYTES]),
    Case(UUID, r#""no uuid at all""#, &[UUID, STRING]),
    Case(UUID_FIXED, r#""123e4567e89b12d3a456426614174000""#, &[UUID_FIXED, FIXED_16, STRING, BYTES]),
    Case(FIXED_16, r#""123e4567e89b12d3a456426614174000""#, &[FIXED_16, UUID_FIXED]),
    Case(DURATION, r#""0102030405060708090a0b0c""#, &[DURATION, FIXED_12, BYTES]),
    Case(FIXED_12, r#""0102030405060708090a0b0c""#, &[FIXED_12, DURATION]),
    // Java writes a decimal with the fewest bytes: one for 0.01, whatever the precision.
    Case(
        DECIMAL,
        r#""0.01""#,
        &[
            DECIMAL,
            WIDE_DECIMAL,
            BYTES,
            r#"["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}]"#,
            BIG_DECIMAL,
            DECIMAL_FIXED,
        ],
    ),
    Case(DECIMAL, r#""-12345678.90""#, &[DECIMAL, WIDE_DECIMAL, BYTES]),
    Case(WIDE_DECIMAL, r#""0.00""#, &[DECIMAL, WIDE_DECIMAL, BYTES]),
    Case(WIDE_DECIMAL, r#""1234567890123456789012345678.90""#, &[WIDE_DECIMAL, BYTES, DECIMAL]),
    Case(
        DECIMAL_FIXED,
        r#""-0.01""#,
        &[
            DECIMAL_FIXED,
            NARROW_DECIMAL_FIXED,
            FIXED_5,
            FIXED_6,
            OTHER_FIXED_5,
            ALIAS_FIXED_5,
            OTHER_ALIAS_FIXED_5,
            ELSEWHERE_FIXED_5,
            DECIMAL,
            BYTES,
        ],
    ),
    Case(
        FIXED_5,
        r#""0000000001""#,
        &[
            DECIMAL_FIXED,
            r#"["null", {"type": "fixed", "name": "M", "size": 5}]"#,
            r#"["null", {"type": "fixed", "name": "other.M", "size": 5}]"#,
        ],
    ),
    Case(BIG_DECIMAL, r#""1.50""#, &[BIG_DECIMAL, BYTES]),
    Case(BIG_DECIMAL, r#""-123456789012345678901234567890E+20""#, &[BIG_DECIMAL, BYTES]),
    Case(BIG_DECIMAL, r#""1E-2000000000""#, &[BIG_DECIMAL, BYTES]),
    Case(
        SUIT,
        r#""HEARTS""#,
        &[
            SUIT,
            SUIT_MOVED,
            SUIT_LESS,
            SUIT_DEFAULT,
            SUIT_ELSEWHERE,
            COLOUR,
            COLOUR_ALIAS,
            COLOUR_OTHER_ALIAS,
            STRING,
            r#"["null", {"type": "enum", "name": "Suit", "symbols": ["HEARTS"]}]"#,
            r#"["null", {"type": "enum", "name": "other.Suit", "symbols": ["HEARTS"]}]"#,
            r#"["null", {"type": "enum", "name": "Colour", "aliases": ["Suit"], "symbols": ["HEARTS"]}]"#,
        ],
    ),
    Case(SUIT, r#""CLUBS""#, &[SUIT_LESS, SUIT_DEFAULT, SUIT_MOVED]),
    Case(
        r#"{"type": "array", "items": "int"}"#,
        "[1, -1, 70000]",
        &[
            r#"{"type": "array", "items": "int"}"#,
            r#"{"type": "array", "items": "double"}"#,
            r#"{"type": "array", "items": ["null", "long"]}"#,
            r#"{"type": "array", "items": "string"}"#,
            r#"["null", {"type": "array", "items": "long"}]"#,
        ],
    ),
    Case(
        r#"{"type": "array", "items": "int"}"#,
        "[]",
        &[r#"{"type": "array", "items": "string"}"#, r#"["null", {"type": "array", "items": "string"}]"#],
    ),
    Case(
        r#"{"type": "map", "values": "string"}"#,
        r#"{"a": "1", "ä": "", "b": "x"}"#,
        &[
            r#"{"type": "map", "values": "string"}"#,
            r#"{"type": "map", "values": "bytes"}"#,
            r#"{"type": "map", "values": ["int", "string"]}"#,
            r#"{"type": "map", "values": "int"}"#,
        ],
    ),
    Case(
        r#"{"type": "map", "values": {"type": "array", "items": "int"}}"#,
        r#"{"k": [1, 2]}"#,
        &[r#"{"type": "map", "values": {"type": "array", "items": ["null", "float"]}}"#],
    ),
    // Unions: the branch that was written, as the reader's first that fits.
    Case(
        NULLABLE,
        r#"{"branch": 1, "value": "x"}"#,
        &[
            NULLABLE,
            STRING,
            BYTES,
            r#"["string", "null"]"#,
            r#"["bytes", "null", "string"]"#,
            r#"["null", "bytes"]"#,
            r#"["null", "int"]"#,
        ],
    ),
    Case(
        NULLABLE,
        r#"{"branch": 0, "value": null}"#,
        &[NULLABLE, STRING, r#""null""#, r#"["string", "null"]"#, r#"["int", "string"]"#],
    ),
    Case(
        r#"["int", "long", "float"]"#,
        r#"{"branch": 0, "value": 5}"#,
        &[LONG, r#"["long", "float"]"#, r#"["float", "long"]"#, r#"["double", "int"]"#, DOUBLE, FLOAT],
    ),
    Case(
        r#"["int", "long", "float"]"#,
        r#"{"branch": 2, "value": 0.5}"#,
        &[DOUBLE, r#"["int", "double"]"#, r#"["int", "long"]"#, r#"["int", "long", "float"]"#],
    ),
    Case(
        r#"["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]"#,
        r#"{"branch": 1, "value": "0.01"}"#,
        &[
            r#"["null", {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}]"#,
            WIDE_DECIMAL,
            r#"["null", "bytes"]"#,
            r#"["bytes", "null"]"#,
        ],
    ),
    Case(
        r#"["null", {"type": "string", "logicalType": "uuid"}]"#,
        r#"{"branch": 1, "value": "123e4567-e89b-12d3-a456-426614174000"}"#,
        &[r#"["null", "string"]"#, STRING],
    ),
    // Records within records, by name, by alias and by their fields alone.
    Case(
        r#"["null", {"type": "record", "name": "A", "fields": [{"name": "x", "type": "int"}]}, {"type": "record", "name": "B", "fields": [{"name": "x", "type": "int"}, {"name": "y", "type": "int"}]}]"#,
        r#"{"branch": 2, "value": {"x": 1, "y": 2}}"#,
        &[
            r#"["null", {"type": "record", "name": "A", "fields": [{"name": "x", "type": "int"}]}, {"type": "record", "name": "B", "fields": [{"name": "x", "type": "int"}, {"name": "y", "type": "int"}]}]"#,
            r#"[{"type": "record", "name": "A", "fields": [{"name": "x", "type": "int"}]}, {"type": "record", "name": "B", "fields": [{"name": "y", "type": "long"}]}]"#,
            r#"[{"type": "record", "name": "C", "fields": [{"name": "z", "type": "int"}]}, {"type": "record", "name": "D", "fields": [{"name": "y", "type": "long"}]}]"#,
            r#"[{"type": "record", "name": "C", "fields": [{"name": "y", "type": "int"}]}, {"type": "record", "name": "o.B", "fields": [{"name": "y", "type": "long"}]}]"#,
            r#"[{"type": "record", "name": "C", "fields": [{"name": "y", "type": "int"}]}, {"type": "record", "name": "D", "aliases": ["B"], "fields": [{"name": "y", "type": "long"}]}]"#,
            r#"[{"type": "record", "name": "C", "fields": [{"name": "y", "type": "int"}]}, {"type": "record", "name": "D", "aliases": ["o.B"], "fields": [{"name": "y", "type": "long"}]}]"#,
            r#"[{"type": "record", "name": "C", "fields": [{"name": "y", "type": "string"}]}, {"type": "record", "name": "D", "fields": [{"name": "y", "type": ["null", "long"]}]}]"#,
            r#"{"type": "record", "name": "Z", "fields": [{"name": "y", "type": "long"}]}"#,
            r#"{"type": "record", "name": "Z", "fields": [{"name": "z", "type": "long"}]}"#,
        ],
    ),
    Case(
        r#"{"type": "record", "name": "P", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}, {"name": "c", "type": {"type": "array", "items": "long"}}]}"#,
        r#"{"a": 1, "b": "x", "c": [1, 2]}"#,
        &[
            r#"{"type": "record", "name": "P", "fields": [{"name": "c", "type": {"type": "array", "items": "double"}}, {"name": "a", "type": "long"}]}"#,
            r#"{"type": "record", "name": "P", "fields": [{"name": "d", "type": "long", "aliases": ["a"]}]}"#,
            r#"{"type": "record", "name": "P", "fields": [{"name": "d", "type": "long", "aliases": ["no", "a"]}, {"name": "a", "type": "string", "default": "d"}]}"#,
            r#"{"type": "record", "name": "P", "fields": [{"name": "a", "type": "int", "aliases": ["b"]}]}"#,
            r#"{"type": "record", "name": "Q", "aliases": ["P"], "fields": [{"name": "d", "type": "long", "aliases": ["a"]}]}"#,
            r#"{"type": "record", "name": "P", "fields": [{"name": "d", "type": "long"}]}"#,
            r#"{"type": "record", "name": "P", "fields": []}"#,
        ],
    ),
    // The writer's aliases are of no account.
    Case(
        r#"{"type": "record", "name": "P", "fields": [{"name": "old", "type": "int"}, {"name": "new", "type": "int", "aliases": ["old", "other"]}]}"#,
        r#"{"old": 1, "new": 2}"#,
        &[
            r#"{"type": "record", "name": "P", "fields": [{"name": "old", "type": "int"}, {"name": "new", "type": "int"}]}"#,
            r#"{"type": "record", "name": "P", "fields": [{"name": "old", "type": "int"}]}"#,
            r#"{"type": "record", "name": "P", "fields": [{"name": "other", "type": "int", "default": 9}]}"#,
            r#"{"type": "record", "name": "P", "fields": [{"name": "other", "type": "int"}]}"#,
            r#"{"type": "record", "name": "P", "fields": [{"name": "old", "type": "int"}, {"name": "new", "type": "long", "aliases": ["old"]}]}"#,
        ],
    ),
];

/// Whole schemas with a value, and the schemas with which it is read.
const WHOLE: &[Case] = &[
    Case(
        r#"{"type": "record", "name": "n.List", "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "List"]}]}"#,
        r#"{"v": 1, "next": {"branch": 1, "value": {"v": 2, "next": {"branch": 0, "value": null}}}}"#,
        &[
            r#"{"type": "record", "name": "n.List", "fields": [{"name": "next", "type": ["null", "List"]}, {"name": "v", "type": "double"}, {"name": "w", "type": "int", "default": 7}]}"#,
            r#"{"type": "record", "name": "n.Chain", "aliases": ["List"], "fields": [{"name": "more", "aliases": ["next"], "type": ["null", "Chain"]}]}"#,
            r#"{"type": "record", "name": "n.List", "fields": [{"name": "next", "type": ["null", {"type": "record", "name": "m.Rest", "fields": [{"name": "v", "type": "long"}]}]}]}"#,
        ],
    ),
    Case(
        r#"{"type": "record", "name": "a.Order", "fields": [{"name": "at", "type": {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}]}}, {"name": "to", "type": "Address"}, {"name": "sum", "type": {"type": "fixed", "name": "Sum", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 2}}, {"name": "tax", "type": "Sum"}]}"#,
        r#"{"at": {"city": "Paris"}, "to": {"city": "Lyon"}, "sum": "12.50", "tax": "-0.01"}"#,
        &[
            r#"{"type": "record", "name": "a.Order", "fields": [{"name": "at", "type": {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}, {"name": "zip", "type": ["null", "string"], "default": null}]}}, {"name": "to", "type": "Address"}, {"name": "sum", "type": {"type": "fixed", "name": "Sum", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 2}}, {"name": "tax", "type": "Sum"}]}"#,
            r#"{"type": "record", "name": "b.Order", "fields": [{"name": "to", "type": {"type": "record", "name": "Place", "fields": [{"name": "city", "type": "bytes"}]}}, {"name": "tax", "type": {"type": "fixed", "name": "Sum", "size": 4}}]}"#,
            r#"{"type": "record", "name": "a.Order", "fields": [{"name": "sum", "type": {"type": "fixed", "name": "Amount", "aliases": ["Sum"], "size": 4}}]}"#,
            r#"{"type": "record", "name": "a.Order", "fields": [{"name": "sum", "type": {"type": "fixed", "name": "Amount", "aliases": ["b.Sum"], "size": 4}}]}"#,
        ],
    ),
    Case(
        r#"{"type": "record", "name": "a.Outer", "fields": [{"name": "i", "type": {"type": "record", "name": "Inner", "namespace": "", "fields": [{"name": "v", "type": "int"}, {"name": "me", "type": ["null", "Inner"]}]}}]}"#,
        r#"{"i": {"v": 1, "me": {"branch": 1, "value": {"v": 2, "me": {"branch": 0, "value": null}}}}}"#,
        &[
            r#"{"type": "record", "name": "a.Outer", "fields": [{"name": "i", "type": {"type": "record", "name": "Inner", "namespace": "", "fields": [{"name": "v", "type": "long"}, {"name": "me", "type": ["null", "Inner"]}]}}]}"#,
        ],
    ),
    // Defaults of every type.
    Case(
        r#"{"type": "record", "name": "R", "fields": []}"#,
        "{}",
        &[
            r#"{"type": "record", "name": "R", "fields": [{"name": "n", "type": "null", "default": null}, {"name": "b", "type": "boolean", "default": true}, {"name": "i", "type": "int", "default": -1}, {"name": "l", "type": "long", "default": 9223372036854775807}, {"name": "f", "type": "float", "default": 1.1}, {"name": "d", "type": "double", "default": 1}, {"name": "s", "type": "string", "default": "ÿΩ"}]}"#,
            r#"{"type": "record", "name": "R", "fields": [{"name": "one", "type": "bytes", "default": "\u00ff"}, {"name": "x", "type": {"type": "fixed", "name": "X", "size": 2}, "default": "\u00ff\u0000"}, {"name": "y", "type": "X", "default": "a\u0080"}]}"#,
            r#"{"type": "record", "name": "R", "fields": [{"name": "m", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "default": "\u00ff"}, {"name": "k", "type": {"type": "fixed", "name": "K", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 2}, "default": "\u00ff\u00ff\u00ff\u0080"}]}"#,
            r#"{"type": "record", "name": "R", "fields": [{"name": "u", "type": {"type": "string", "logicalType": "uuid"}, "default": "123e4567-e89b-12d3-a456-426614174000"}, {"name": "v", "type": {"type": "fixed", "name": "V", "size": 16, "logicalType": "uuid"}, "default": "\u00ff\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0001"}]}"#,
            r#"{"type": "record", "name": "R", "fields": [{"name": "t", "type": {"type": "fixed", "name": "T", "size": 12, "logicalType": "duration"}, "default": "\u0001\u0000\u0000\u0000\u0002\u0000\u0000\u0000\u00ff\u0000\u0000\u0000"}, {"name": "g", "type": {"type": "bytes", "logicalType": "big-decimal"}, "default": "\u0002\u0001\u0004"}]}"#,
            r#"{"type": "record", "name": "R", "fields": [{"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}, "default": "B"}, {"name": "a", "type": {"type": "array", "items": ["null", "bytes"]}, "default": [null, "\u00ff"]}, {"name": "q", "type": {"type": "map", "values": "E"}, "default": {"k": "A"}}, {"name": "o", "type": ["bytes", "null"], "default": "\u00fe"}]}"#,
            r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": {"type": "record", "name": "S", "fields": [{"name": "p", "type": "int"}, {"name": "q", "type": "bytes", "default": "\u00e4"}, {"name": "z", "type": ["null", "S"], "default": null}]}, "default": {"p": 4}}, {"name": "date", "type": {"type": "int", "logicalType": "date"}, "default": 3}, {"name": "when", "type": {"type": "long", "logicalType": "timestamp-micros"}, "default": 5}]}"#,
            r#"{"type": "record", "name": "R", "fields": [{"name": "none", "type": "int"}]}"#,
        ],
    ),
];

/// All pairs: the writer's schema, the value in JSON, the reader's schema.
fn pairs() -> Vec<(String, String, String)> {
    let record = |of: &str, more: &str| {
        format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {of}}}{more}]}}"#)
    };
    let mut pairs = Vec::new();
    for Case(writer, value, readers) in CASES {
        for (index, reader) in readers.iter().enumerate() {
            // Every other reader is newer or older also in that its record has one field more, or the writer's has.
            let (more, less) = match index % 3 {
                0 => ("", ""),
                1 => (r#", {"name": "more", "type": ["null", "int"], "default": null}"#, ""),
                _ => ("", r#", {"name": "less", "type": {"type": "map", "values": "string"}}"#),
            };
            let value = if less.is_empty() {
                format!(r#"{{"f": {value}}}"#)
            } else {
                format!(r#"{{"f": {value}, "less": {{"k": "v"}}}}"#)
            };
            pairs.push((record(writer, less), value, record(reader, more)));
        }
    }
    for Case(writer, value, readers) in WHOLE {
        for reader in [writer].into_iter().chain(*readers) {
            pairs.push(((*writer).to_owned(), (*value).to_owned(), (*reader).to_owned()));
        }
    }
    pairs
}

/// What Java writes for each pair, and how it reads that.
fn judged() -> &'static [String] {
    static JUDGED: OnceLock<Vec<String>> = OnceLock::new();
    JUDGED.get_or_init(|| {
        let line = |(writer, value, reader)| format!("evolve\t{writer}\t{value}\t{reader}");
        registry::judge("no registry", &pairs().into_iter().map(line).collect::<Vec<_>>())
    })
}

#[test]
fn what_java_writes_is_read_as_java_reads_it() {
    let pairs = pairs();
    let (_script, registry) = registry_of(pairs.iter().map(|(writer, ..)| writer.clone()).collect());
    let as_written = AvroDeserializer::builder(&registry).build().unwrap();
    let mut wrong = Vec::new();
    let (mut read, mut refused) = (0, 0);
    for (id, ((writer, value, reader), judged)) in pairs.iter().zip(judged()).enumerate() {
        let (bytes, java) = judged.split_once('\t').unwrap_or_else(|| panic!("{judged}: {writer} {value}"));
        assert!(!bytes.starts_with("fails"), "{judged}: {writer} {value}");
        let bytes = framed(id, &unhex(bytes));
        if let Err(error) = as_written.deserialize_value("t", &bytes) {
            wrong.push(format!("{writer}\n    {value}\n    as written: {error}"));
        }
        let ours = AvroSchema::parse(reader).and_then(|reader| {
            AvroDeserializer::builder(&registry).reader_schema(&reader).build()?.deserialize_value("t", &bytes)
        });
        let ours = match &ours {
            Ok(value) => render(value),
            Err(error) => format!("fails {error}"),
        };
        match java.starts_with("fails") {
            true => refused += 1,
            false => read += 1,
        }
        if java != ours && !(java.starts_with("fails") && ours.starts_with("fails")) {
            wrong.push(format!("{writer}\n    {value}\n    as {reader}\n    Java: {java}\n    here: {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), pairs.len(), wrong.join("\n"));
    assert!(read > 130 && refused > 40, "{read} are read and {refused} refused: the table has lost its point");
}

#[test]
fn names_that_two_fields_have_exchanged_are_the_readers() {
    // Java renames a field twice where the new name is an alias again, and then finds two of one name.
    let record = |fields: &str| format!(r#"{{"type": "record", "name": "P", "fields": [{fields}]}}"#);
    let writer = record(r#"{"name": "a", "type": "int"}, {"name": "b", "type": "string"}"#);
    let reader =
        record(r#"{"name": "a", "type": "string", "aliases": ["b"]}, {"name": "b", "type": "long", "aliases": ["a"]}"#);
    let value = read(&writer, b"\x02\x02x", Some(&reader)).unwrap();
    assert_eq!(render(&value), "(a=string x, b=1)");
}

#[test]
fn a_decimal_of_another_scale_is_refused_and_not_another_number() {
    let of = |scale: u32| format!(r#"{{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": {scale}}}"#);
    let error = read(&of(2), &[1], Some(&of(3))).unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Serialization, Recovery::Fix));
    assert!(error.to_string().contains("a decimal of scale 2 cannot be read as one of scale 3"), "{error}");
}

#[test]
fn a_value_of_bytes_has_no_length_before_it() {
    // So Java's serializers write it, and their deserializers read it: all of the payload.
    let (_script, registry) =
        registry_of(vec![BYTES.to_owned(), DECIMAL.to_owned(), r#"["null", "bytes"]"#.to_owned()]);
    let serializer = AvroSerializer::builder(&registry).schema(&AvroSchema::parse(BYTES).unwrap()).build().unwrap();
    let long = vec![7_u8; 300];
    for bytes in [&b""[..], &[0], &[6, 1, 2, 3], &long] {
        let written = serializer.serialize_value("t", &Value::Bytes(bytes.to_vec())).unwrap();
        assert_eq!(written, framed(0, bytes));
        let deserializer = AvroDeserializer::builder(&registry).build().unwrap();
        assert_eq!(deserializer.deserialize_value("t", &written).unwrap(), Value::Bytes(bytes.to_vec()));
        let nullable = AvroSchema::parse(r#"["null", "bytes"]"#).unwrap();
        let deserializer = AvroDeserializer::builder(&registry).reader_schema(&nullable).build().unwrap();
        let value = deserializer.deserialize_value("t", &written).unwrap();
        assert_eq!(value, Value::Union(1, Value::Bytes(bytes.to_vec()).into()));
    }
    let deserializer = AvroDeserializer::builder(&registry).build().unwrap();
    let decimal = deserializer.deserialize_value("t", &framed(1, &[1, 0])).unwrap();
    assert_eq!(decimal, Value::Decimal(Decimal::from([1, 0])));
    // Within another type there is a length, as always in Avro.
    let union = deserializer.deserialize_value("t", &framed(2, &[2, 4, 1, 0])).unwrap();
    assert_eq!(union, Value::Union(1, Value::Bytes(vec![1, 0]).into()));
}

/// A record with a field that the program's type lacks, and one that it has.
fn with_big_decimal() -> String {
    format!(
        r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": {BIG_DECIMAL}}}, {{"name": "g", "type": "int"}}]}}"#
    )
}

#[derive(Debug, PartialEq, Deserialize)]
struct G {
    g: i32,
}

#[test]
fn a_short_record_cannot_ask_for_much_memory() {
    let schema = with_big_decimal();
    let (_script, registry) = registry_of(vec![schema.clone()]);
    let deserializer = AvroDeserializer::builder(&registry).build().unwrap();
    let long = |number: i64| {
        let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
        let mut bytes = Vec::new();
        while rest > 0x7f {
            bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        bytes.push(u8::try_from(rest).unwrap());
        bytes
    };
    let record = |digits: &[u8], length: i64, scale: i64| {
        let inner = [long(length), digits.to_vec(), long(scale)].concat();
        [long(inner.len().try_into().unwrap()), inner, long(5)].concat()
    };
    // The largest scales that Java knows: 2 GB of zeros, where somebody writes them out.
    for scale in [i64::from(i32::MIN), -1_000_000_000, i64::from(i32::MAX)] {
        let bytes = framed(0, &record(&[1], 1, scale));
        assert_eq!(deserializer.deserialize::<G>("t", &bytes).unwrap(), G { g: 5 });
        deserializer.deserialize::<IgnoredAny>("t", &bytes).unwrap();
        let shown = deserializer.deserialize::<serde_json::Value>("t", &bytes).unwrap();
        let text = shown["f"].as_str().unwrap();
        assert!(text.len() < 30 && text.parse::<BigDecimal>().unwrap() == BigDecimal::new(1.into(), scale), "{text}");
    }
    let shown = deserializer.deserialize::<serde_json::Value>("t", &framed(0, &record(&[0x7f], 1, -3))).unwrap();
    assert_eq!(shown["f"], "127000");
    // Beyond, and with lengths that are not true.
    for (digits, length, scale) in [
        (&[1_u8][..], 1, -(1_i64 << 34)),
        (&[1], 1, i64::MAX),
        (&[1], 500_000_000, 0),
        (&[1], i64::MAX, 0),
        (&[1], -1, 0),
        (&[1, 1, 1], 1, 0),
        (&[], 0, 0),
    ] {
        let bytes = framed(0, &record(digits, length, scale));
        for error in [
            deserializer.deserialize::<G>("t", &bytes).unwrap_err(),
            deserializer.deserialize_value("t", &bytes).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Serialization, "{error}");
            assert!(error.to_string().contains("big-decimal"), "{error}");
        }
    }
    // A text of many digits takes time by their square.
    let many = vec![1; 1 << 20];
    let bytes = framed(0, &record(&many, 1 << 20, 0));
    assert_eq!(deserializer.deserialize::<G>("t", &bytes).unwrap(), G { g: 5 });
    let error = deserializer.deserialize::<serde_json::Value>("t", &bytes).unwrap_err();
    assert!(error.to_string().contains("more than 4096 bytes"), "{error}");
    // What takes no bytes is counted, also where the reader's defaults fill it.
    let nothing = r#"{"type": "array", "items": {"type": "record", "name": "E", "fields": []}}"#;
    let much = r#"{"type": "array", "items": {"type": "record", "name": "E", "fields": [{"name": "a", "type": "int", "default": 1}, {"name": "b", "type": "int", "default": 1}]}}"#;
    let block = |count: i64| [long(count), vec![0]].concat();
    assert!(read(nothing, &block(60_000), None).is_ok());
    for (count, reader) in [(70_000, None), (60_000, Some(much)), (i64::MAX, None), (i64::MAX, Some(much))] {
        let error = read(nothing, &block(count), reader).unwrap_err();
        assert!(error.to_string().contains("too many items without a byte"), "{error}");
    }
    let error = read(nothing, &block(i64::MIN), None).unwrap_err();
    assert!(error.to_string().contains("ends too early") || error.to_string().contains("count"), "{error}");
}

#[test]
fn no_beginning_of_a_value_is_one() {
    let pairs = pairs();
    let (_script, registry) = registry_of(pairs.iter().map(|(writer, ..)| writer.clone()).collect());
    let mut cuts = 0;
    for (id, ((.., reader), judged)) in pairs.iter().zip(judged()).enumerate() {
        let bytes = framed(id, &unhex(judged.split_once('\t').unwrap().0));
        let reader = AvroSchema::parse(reader).unwrap();
        for deserializer in
            [AvroDeserializer::builder(&registry), AvroDeserializer::builder(&registry).reader_schema(&reader)]
        {
            let deserializer = deserializer.build().unwrap();
            for length in 0..bytes.len() {
                let error = deserializer.deserialize_value("t", &bytes[..length]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Serialization, "{error}");
                deserializer.deserialize::<IgnoredAny>("t", &bytes[..length]).unwrap_err();
                cuts += 1;
            }
            // Every byte as another one: a value or an error, and at once.
            for at in 5..bytes.len() {
                for other in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] = other;
                    let _ = deserializer.deserialize_value("t", &changed);
                    let _ = deserializer.deserialize::<serde_json::Value>("t", &changed);
                }
            }
        }
    }
    assert!(cuts > 5_000, "{cuts}");
}

#[test]
fn an_error_shows_nothing_of_the_value_and_is_short() {
    let schema = r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L", "string", "bytes"]}, {"name": "word", "type": "string"}]}"#;
    let (_script, registry) = registry_of(vec![schema.to_owned()]);
    let deserializer = AvroDeserializer::builder(&registry).build().unwrap();
    // Twenty records in each other, and what JSON has no place for in the last: each union used to quote the error of the
    // one inside once more, with its quotes escaped.
    let mut bytes = vec![2; 20];
    bytes.extend([6, 2, b'"']);
    bytes.extend([2, b'"'].repeat(21));
    let error = deserializer.deserialize::<serde_json::Value>("t", &framed(0, &bytes)).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.len() < 2_000, "{} bytes: {shown:.500}", shown.len());
    assert!(error.to_string().contains("next: next: next: "), "{error}");

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Wrong<T> {
        word: T,
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    enum Colour {
        Red,
    }
    let secret = "sesame ".repeat(100_000);
    let value = [&[0][..], &[0xc0, 0xb9, 0x55], secret.as_bytes()].concat();
    let bytes = framed(0, &value);
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Right {
        word: String,
    }
    assert_eq!(deserializer.deserialize::<Right>("t", &bytes).unwrap().word, secret);
    for error in [
        deserializer.deserialize::<Wrong<i32>>("t", &bytes).unwrap_err(),
        deserializer.deserialize::<Wrong<u64>>("t", &bytes).unwrap_err(),
        deserializer.deserialize::<Wrong<bool>>("t", &bytes).unwrap_err(),
        deserializer.deserialize::<Wrong<char>>("t", &bytes).unwrap_err(),
        deserializer.deserialize::<Wrong<Vec<String>>>("t", &bytes).unwrap_err(),
        deserializer.deserialize::<Wrong<G>>("t", &bytes).unwrap_err(),
        deserializer.deserialize::<Wrong<Colour>>("t", &bytes).unwrap_err(),
        deserializer.deserialize::<Wrong<std::net::IpAddr>>("t", &bytes).unwrap_err(),
        deserializer.deserialize::<Vec<String>>("t", &bytes).unwrap_err(),
        deserializer.deserialize::<String>("t", &bytes).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Serialization);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("sesame") && shown.len() < 1_000, "{} bytes: {shown:.500}", shown.len());
    }
}

#[test]
fn a_default_that_is_none_is_refused_and_what_was_written_with_it_is_read() {
    let record = |default: &str| {
        format!(
            r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": "int"}}, {{"name": "d", "type": {DURATION}, "default": {default}}}]}}"#
        )
    };
    for (default, why) in
        [(r#""""#, "it has 0 bytes, and D has 12"), ("7", "a number is no duration"), (r#""Ω""#, "U+00FF")]
    {
        let schema = record(default);
        let error = AvroSchema::parse(&schema).unwrap_err();
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::InvalidInput, Recovery::Fix));
        assert!(error.to_string().contains(why), "{error}");
        let value = read(&schema, &[2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], None).unwrap();
        assert_eq!(render(&value), "(f=1, d=bytes 0102030405060708090a0b0c)");
    }
    // One of a field that is not written is an error when it is needed.
    let wide = r#"{"type": "record", "name": "R", "fields": [{"name": "f", "type": {"type": "fixed", "name": "F", "size": 2}, "default": "\u00ff"}]}"#;
    let error = read(r#"{"type": "record", "name": "R", "fields": []}"#, &[], Some(wide)).unwrap_err();
    assert!(error.to_string().contains("the default of the field \"f\" of R: it has 1 bytes, and F has 2"), "{error}");
}
