//! Defaults of fields: the values that their JSON stands for.
//!
//! `apache_avro` reads the text of `bytes` and `fixed` as UTF-8, but in the specification each code point, from 0 to
//! 255, is a byte. And it accepts no defaults of durations, nor of decimals without a scale.

use apache_avro::Schema;
use apache_avro::schema::{RecordField, UuidSchema};
use apache_avro::types::Value;
use serde_json::Value as Json;

use super::plan::{self, SchemaPlace};
use super::read;

/// How deep defaults may be nested. A record may have itself as a default, which has no end.
const MAX_DEPTH: u32 = 64;

/// The name under which a default that `apache_avro` does not understand is kept for this crate.
pub(super) const ASIDE: &str = "kafka-blocking.default";

/// The default of a field, if it has one.
pub(super) fn of_field(field: &RecordField) -> Option<&Json> {
    field.default.as_ref().or_else(|| field.custom_attributes.get(ASIDE))
}

/// The value that a default stands for. The error is a sentence.
pub(super) fn value(json: &Json, place: SchemaPlace<'_>) -> Result<Value, String> {
    value_at(json, place, 0)
}

fn value_at(json: &Json, place: SchemaPlace<'_>, depth: u32) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("it is nested more than {MAX_DEPTH} levels deep"));
    }
    let place = place.defined().ok_or("its type is not defined")?;
    let wrong = || format!("{} is no {}", kind(json), plan::kind(place.schema));
    let integer = || json.as_i64().ok_or_else(wrong);
    let number = || json.as_f64().or_else(|| special(json)).ok_or_else(wrong);
    match place.schema {
        Schema::Null => json.is_null().then_some(Value::Null).ok_or_else(wrong),
        Schema::Boolean => json.as_bool().map(Value::Boolean).ok_or_else(wrong),
        Schema::Float => {
            #[expect(clippy::cast_possible_truncation, reason = "the nearest float is taken, as in Java")]
            let float = number()? as f32;
            Ok(Value::Float(float))
        }
        Schema::Double => Ok(Value::Double(number()?)),
        Schema::Enum(symbols) => {
            let symbol = json.as_str().ok_or_else(wrong)?;
            let index = symbols.symbols.iter().position(|known| known == symbol).and_then(|at| u32::try_from(at).ok());
            let index = index.ok_or_else(|| format!("it is none of the symbols of {}", symbols.name))?;
            Ok(Value::Enum(index, symbol.to_owned()))
        }
        Schema::Array(array) => {
            let items = json.as_array().ok_or_else(wrong)?.iter();
            let items = items.map(|item| value_at(item, place.inner(&array.items), depth + 1));
            Ok(Value::Array(items.collect::<Result<_, _>>()?))
        }
        Schema::Map(map) => {
            let items = json.as_object().ok_or_else(wrong)?.iter();
            let items = items.map(|(key, item)| Ok((key.clone(), value_at(item, place.inner(&map.types), depth + 1)?)));
            Ok(Value::Map(items.collect::<Result<_, String>>()?))
        }
        Schema::Record(record) => {
            let given = json.as_object().ok_or_else(wrong)?;
            let fields = record.fields.iter().map(|field| {
                let json = given.get(&field.name).or_else(|| of_field(field));
                let json = json.ok_or_else(|| format!("it lacks the field {:?} of {}", field.name, record.name))?;
                Ok((field.name.clone(), value_at(json, place.inner(&field.schema), depth + 1)?))
            });
            Ok(Value::Record(fields.collect::<Result<_, String>>()?))
        }
        // The first branch that the default fits, as in Java, and in the specification since 1.12. Before 1.12 it had
        // to be the first branch.
        Schema::Union(union) => {
            let mut branches = union.variants().iter().zip(0_u32..);
            let found = branches.find_map(|(branch, index)| {
                let value = value_at(json, place.inner(branch), depth + 1).ok()?;
                Some(Value::Union(index, Box::new(value)))
            });
            found.ok_or_else(|| format!("{} fits no branch of its union", kind(json)))
        }
        schema => {
            if let Some(make) = plan::int(schema) {
                return i32::try_from(integer()?).map(make).map_err(|_| wrong());
            }
            if let Some(make) = plan::long(schema) {
                return integer().map(make);
            }
            let text = json.as_str().ok_or_else(wrong)?;
            let form = plan::form(schema).ok_or_else(wrong)?;
            let bytes = match schema {
                Schema::String | Schema::Uuid(UuidSchema::String) => text.as_bytes().to_vec(),
                _ => code_points(text)?,
            };
            if let Some(fixed) = plan::fixed(schema)
                && fixed.size != bytes.len()
            {
                return Err(format!("it has {} bytes, and {} has {}", bytes.len(), fixed.name, fixed.size));
            }
            read::formed(&bytes, form).map_err(|fault| format!("it {fault}"))
        }
    }
}

/// Each code point is a byte.
fn code_points(text: &str) -> Result<Vec<u8>, String> {
    let bytes = text.chars().map(|c| u8::try_from(u32::from(c)));
    bytes.collect::<Result<_, _>>().map_err(|_| "its text has a code point above U+00FF, which is no byte".to_owned())
}

/// Values for which JSON has no numbers. They are not in the specification, but `apache_avro` accepts them.
fn special(json: &Json) -> Option<f64> {
    match json.as_str()? {
        "NaN" => Some(f64::NAN),
        "INF" | "Infinity" => Some(f64::INFINITY),
        "-INF" | "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}
