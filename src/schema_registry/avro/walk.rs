//! Decodes values, after a look through their bytes.
//!
//! The decoder of `apache_avro` takes a value that ends too early for one with nulls in it, reserves memory for as many
//! items as the bytes claim to hold, and follows a recursive schema as deep as they say, with thirty kilobytes of stack
//! for each level where it is not optimized. Bytes from a topic are a stranger's, so they are measured first: then each
//! length is known to be true, and nothing of that can happen.

use std::borrow::Cow;
use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{FixedSchema, InnerDecimalSchema, Name, NamesRef, NamespaceRef, UuidSchema};
use apache_avro::types::Value;

/// How deep values may be nested: records, arrays and maps in each other. Decoding and resolving take some kilobytes
/// of stack for each, of the two megabytes that a thread has.
const MAX_DEPTH: u32 = 64;

/// How many items without a single byte a value may hold, beside one for each byte that there is.
const MAX_EMPTY_ITEMS: usize = 65_536;

/// Checks that `bytes` are one value of `schema` and no more. The error is the end of a sentence about the value.
fn check(schema: &Schema, names: &NamesRef<'_>, bytes: &[u8]) -> Result<(), String> {
    let mut walk = Walk { rest: bytes, names, empty_items_left: MAX_EMPTY_ITEMS.saturating_add(bytes.len()) };
    walk.skip(schema, None, 0)?;
    match walk.rest.len() {
        0 => Ok(()),
        more => Err(format!("is followed by {more} bytes that do not belong to it")),
    }
}

/// The value that `bytes` are. The error is the end of a sentence about the value.
pub(super) fn decode(schema: &Schema, names: &NamesRef<'_>, bytes: &[u8]) -> Result<Value, String> {
    check(schema, names, bytes)?;
    let mut walk = Walk { rest: bytes, names, empty_items_left: usize::MAX };
    walk.value(schema, None)
}

struct Walk<'a> {
    rest: &'a [u8],
    names: &'a NamesRef<'a>,
    empty_items_left: usize,
}

impl<'a> Walk<'a> {
    fn skip(&mut self, schema: &Schema, namespace: NamespaceRef<'_>, depth: u32) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} levels deep"));
        }
        match schema {
            Schema::Null => Ok(()),
            Schema::Boolean => match self.take(1)? {
                [0 | 1] => Ok(()),
                _ => Err("holds a boolean that is neither 0 nor 1".to_owned()),
            },
            Schema::Int | Schema::Date | Schema::TimeMillis => self.int().map(drop),
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => self.long().map(drop),
            Schema::Float => self.take(4).map(drop),
            Schema::Double => self.take(8).map(drop),
            Schema::Bytes
            | Schema::String
            | Schema::BigDecimal
            | Schema::Decimal(apache_avro::schema::DecimalSchema { inner: InnerDecimalSchema::Bytes, .. })
            | Schema::Uuid(UuidSchema::String | UuidSchema::Bytes) => self.sized().map(drop),
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed))
            | Schema::Decimal(apache_avro::schema::DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => {
                self.fixed(fixed)
            }
            Schema::Enum(symbols) => {
                let index = usize::try_from(self.int()?).ok();
                match index.and_then(|index| symbols.symbols.get(index)) {
                    Some(_) => Ok(()),
                    None => Err(format!("holds a symbol that the enumeration {} lacks", symbols.name)),
                }
            }
            Schema::Union(union) => {
                let index = usize::try_from(self.long()?).ok();
                match index.and_then(|index| union.variants().get(index)) {
                    // The branch is paid for by the byte that names it.
                    Some(Schema::Null) => Ok(()),
                    Some(branch) => self.skip(branch, namespace, depth),
                    None => Err("holds a branch that its union lacks".to_owned()),
                }
            }
            Schema::Array(array) => self.blocks(|walk| walk.item(&array.items, namespace, depth + 1)),
            Schema::Map(map) => self.blocks(|walk| {
                walk.sized()?;
                walk.item(&map.types, namespace, depth + 1)
            }),
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                record.fields.iter().try_for_each(|field| self.item(&field.schema, name.namespace(), depth + 1))
            }
            Schema::Ref { name } => {
                let name: Cow<'_, Name> = name.fully_qualified_name(namespace);
                let named = self.names.get(&*name).copied();
                let named = named.ok_or_else(|| format!("has a type {name} that its schema does not define"))?;
                self.skip(named, name.namespace(), depth + 1)
            }
        }
    }

    /// Reads what has been checked.
    fn value(&mut self, schema: &Schema, namespace: NamespaceRef<'_>) -> Result<Value, String> {
        match schema {
            Schema::Union(union) => {
                let index = u32::try_from(self.long()?).map_err(|error| error.to_string())?;
                let branch = usize::try_from(index).ok().and_then(|index| union.variants().get(index));
                let branch = branch.ok_or("holds a branch that its union lacks")?;
                Ok(Value::Union(index, Box::new(self.value(branch, namespace)?)))
            }
            Schema::Array(array) => {
                let mut items = Vec::new();
                self.blocks(|walk| {
                    items.push(walk.value(&array.items, namespace)?);
                    Ok(())
                })?;
                Ok(Value::Array(items))
            }
            Schema::Map(map) => {
                let mut items = HashMap::new();
                self.blocks(|walk| {
                    let key = text(walk.sized()?)?;
                    items.insert(key, walk.value(&map.types, namespace)?);
                    Ok(())
                })?;
                Ok(Value::Map(items))
            }
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    fields.push((field.name.clone(), self.value(&field.schema, name.namespace())?));
                }
                Ok(Value::Record(fields))
            }
            Schema::Ref { name } => {
                let name: Cow<'_, Name> = name.fully_qualified_name(namespace);
                let named = self.names.get(&*name).copied();
                let named = named.ok_or_else(|| format!("has a type {name} that its schema does not define"))?;
                self.value(named, name.namespace())
            }
            _ => self.leaf(schema),
        }
    }

    /// Reads what has no other types in it.
    fn leaf(&mut self, schema: &Schema) -> Result<Value, String> {
        Ok(match schema {
            Schema::Null => Value::Null,
            Schema::Int => Value::Int(self.int()?),
            Schema::Long => Value::Long(self.long()?),
            Schema::String => Value::String(text(self.sized()?)?),
            Schema::Bytes => Value::Bytes(self.sized()?.to_vec()),
            _ => {
                let before = self.rest;
                self.skip(schema, None, 0)?;
                let length = before.len().saturating_sub(self.rest.len());
                let mut bytes = before.get(..length).ok_or("ends too early")?;
                GenericDatumReader::builder(schema)
                    .human_readable(false)
                    .build()
                    .and_then(|reader| reader.read_value(&mut bytes))
                    .map_err(|error| format!("cannot be read: {error}"))?
            }
        })
    }

    /// A value within another, which may be without a single byte: a bounded number of them is.
    fn item(&mut self, schema: &Schema, namespace: NamespaceRef<'_>, depth: u32) -> Result<(), String> {
        let before = self.rest.len();
        self.skip(schema, namespace, depth)?;
        if self.rest.len() == before {
            let left = self.empty_items_left.checked_sub(1);
            self.empty_items_left = left.ok_or("holds too many items without a byte")?;
        }
        Ok(())
    }

    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The block's size in bytes, for those who skip it, follows a negative count.
                self.long()?;
                count = count.checked_neg().ok_or("holds a count that is none")?;
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    fn fixed(&mut self, fixed: &FixedSchema) -> Result<(), String> {
        self.take(fixed.size).map(drop)
    }

    fn sized(&mut self) -> Result<&'a [u8], String> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| "holds a length below 0".to_owned())?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<i32, String> {
        i32::try_from(self.long()?).map_err(|_| "holds a number of more than 32 bits".to_owned())
    }

    fn long(&mut self) -> Result<i64, String> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { break };
            // Of the tenth byte one bit is left.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err("holds a number of more than 64 bits".to_owned())
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "holds a string that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use apache_avro::schema::ResolvedSchema;

    use super::*;

    fn checked(schema: &str, bytes: &[u8]) -> Result<(), String> {
        let schema = Schema::parse_str(schema).unwrap();
        let resolved = ResolvedSchema::try_from(&schema).unwrap();
        check(&schema, resolved.get_names(), bytes)
    }

    #[test]
    fn numbers_are_read_as_avro_writes_them() {
        for (number, bytes) in [
            (0_i64, &[0_u8][..]),
            (-1, &[1]),
            (1, &[2]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let names = NamesRef::new();
            let mut walk = Walk { rest: bytes, names: &names, empty_items_left: 0 };
            assert_eq!((walk.long(), walk.rest.len()), (Ok(number), 0));
        }
        assert_eq!(
            checked("\"int\"", &[0x80, 0x80, 0x80, 0x80, 0x80, 1]),
            Err("holds a number of more than 32 bits".to_owned())
        );
        let wide = checked("\"long\"", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 3]);
        assert_eq!(wide, Err("holds a number of more than 64 bits".to_owned()));
        assert_eq!(checked("\"long\"", &[0xff; 20]), Err("holds a number of more than 64 bits".to_owned()));
    }

    #[test]
    fn lengths_that_are_not_true_are_found() {
        assert_eq!(checked("\"string\"", &[6, b'a', b'b', b'c']), Ok(()));
        assert_eq!(checked("\"string\"", &[6, b'a', b'b']), Err("ends too early".to_owned()));
        assert_eq!(checked("\"bytes\"", &[1]), Err("holds a length below 0".to_owned()));
        let more = checked("\"string\"", &[0, 7, 7]);
        assert_eq!(more, Err("is followed by 2 bytes that do not belong to it".to_owned()));
        assert_eq!(checked("\"boolean\"", &[]), Err("ends too early".to_owned()));
        assert_eq!(checked("\"boolean\"", &[2]), Err("holds a boolean that is neither 0 nor 1".to_owned()));
        assert_eq!(checked(r#"["null", "int"]"#, &[4]), Err("holds a branch that its union lacks".to_owned()));
    }

    #[test]
    fn arrays_of_nothing_are_bounded() {
        let nulls = r#"{"type": "array", "items": "null"}"#;
        assert_eq!(checked(nulls, &[20, 0]), Ok(()));
        // 2^30 nulls in six bytes.
        let bytes = [0x80, 0x80, 0x80, 0x80, 8, 0];
        assert_eq!(checked(nulls, &bytes), Err("holds too many items without a byte".to_owned()));
        // Nullable items have a byte each, and are not bounded.
        let mut bytes = vec![0x80, 0xb5, 0x18];
        bytes.extend(vec![0; 200_000]);
        bytes.push(0);
        assert_eq!(checked(r#"{"type": "array", "items": ["null", "int"]}"#, &bytes), Ok(()));
        // A block with its size.
        assert_eq!(checked(r#"{"type": "array", "items": "int"}"#, &[3, 4, 2, 4, 0]), Ok(()));
    }

    #[test]
    fn recursion_is_bounded() {
        let list = r#"{"type": "record", "name": "n.List", "fields": [{"name": "next", "type": ["null", "List"]}]}"#;
        assert_eq!(checked(list, &[2, 2, 2, 0]), Ok(()));
        let deep = vec![2; 100_000];
        assert!(checked(list, &deep).unwrap_err().starts_with("is nested more than"));
        // A record of itself alone has no end, and no byte.
        let endless = r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}"#;
        assert!(checked(endless, &[]).unwrap_err().starts_with("is nested more than"));
    }
}
