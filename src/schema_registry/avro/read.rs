//! Makes values from bytes, as a [`Plan`] says.
//!
//! Bytes from a topic come from strangers. So their lengths and counts are not trusted: each length is compared with
//! the bytes that are there, items are read one by one without reserving memory, and there are limits on items that
//! take no bytes and on the depth.

use std::collections::HashMap;

use apache_avro::types::Value;
use apache_avro::{BigDecimal, Decimal, Uuid};

use super::plan::{Fields, Form, Number, Plan, PlanStep};

/// How deep values may be nested: records, arrays and maps in each other. Reading needs some kilobytes of stack for
/// each level, and a thread has two megabytes.
const MAX_DEPTH: u32 = 64;

/// How many items that take no bytes a value may hold, in addition to one for each byte of the value.
const MAX_EMPTY_ITEMS: usize = 65_536;

/// Why bytes cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadFault {
    /// The bytes are no value of the writer's schema. The text is the end of a sentence about the value.
    Malformed(String),
    /// The value does not fit the reader's schema. The text is a sentence.
    Misfit(String),
}

impl From<String> for ReadFault {
    fn from(fault: String) -> Self {
        Self::Malformed(fault)
    }
}

impl From<&str> for ReadFault {
    fn from(fault: &str) -> Self {
        Self::Malformed(fault.to_owned())
    }
}

/// The value in `bytes`, which must end with it.
pub(super) fn read(plan: &Plan, bytes: &[u8]) -> Result<Value, ReadFault> {
    let empty_items_left = MAX_EMPTY_ITEMS.saturating_add(bytes.len());
    let mut reader = Reader { plan, rest: bytes, empty_items_left, whole: plan.raw() };
    let value = reader.value(plan.root(), 0)?;
    match reader.rest.len() {
        0 => Ok(value),
        more => Err(format!("is followed by {more} bytes that do not belong to it").into()),
    }
}

struct Reader<'a> {
    plan: &'a Plan,
    rest: &'a [u8],
    empty_items_left: usize,
    /// Whether the next bytes have no length before them, because they are the whole payload.
    whole: bool,
}

impl<'a> Reader<'a> {
    fn value(&mut self, step: usize, depth: u32) -> Result<Value, ReadFault> {
        if depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} levels deep").into());
        }
        match self.plan.step(step).ok_or("has a type without a plan")? {
            PlanStep::Misfit(fault) => Err(ReadFault::Misfit(fault.clone())),
            PlanStep::Branches(branches) => {
                let index = usize::try_from(self.long()?).ok();
                let branch = index.and_then(|index| branches.get(index));
                self.value(*branch.ok_or("holds a branch that its union lacks")?, depth)
            }
            PlanStep::Branch(index, inner) => Ok(Value::Union(*index, Box::new(self.value(*inner, depth)?))),
            PlanStep::Array(item) => self.array(*item, depth + 1),
            PlanStep::Map(item) => self.map(*item, depth + 1),
            PlanStep::Record(fields) => self.record(fields, depth + 1),
            leaf => self.leaf(leaf),
        }
    }

    fn array(&mut self, step: usize, depth: u32) -> Result<Value, ReadFault> {
        let mut items = Vec::new();
        self.blocks(|reader| {
            items.push(reader.item(step, depth)?);
            Ok(())
        })?;
        Ok(Value::Array(items))
    }

    fn map(&mut self, step: usize, depth: u32) -> Result<Value, ReadFault> {
        let mut items = HashMap::new();
        self.blocks(|reader| {
            let key = text(reader.sized()?)?;
            items.insert(key, reader.item(step, depth)?);
            Ok(())
        })?;
        Ok(Value::Map(items))
    }

    fn record(&mut self, plan: &Fields, depth: u32) -> Result<Value, ReadFault> {
        let mut fields = plan.template.clone();
        for (step, place) in &plan.written {
            let mut field = place.and_then(|place| fields.get_mut(place));
            let value = self.item(*step, depth).map_err(|fault| match (fault, &field) {
                (ReadFault::Misfit(fault), Some((name, _))) => ReadFault::Misfit(format!("{name}: {fault}")),
                (fault, _) => fault,
            })?;
            if let Some((_, place)) = &mut field {
                *place = value;
            }
        }
        Ok(Value::Record(fields))
    }

    /// A value of a type that has no other types in it.
    fn leaf(&mut self, step: &PlanStep) -> Result<Value, ReadFault> {
        Ok(match step {
            PlanStep::Null => Value::Null,
            PlanStep::Boolean => match self.take(1)? {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return Err("holds a boolean that is neither 0 nor 1".into()),
            },
            PlanStep::Int(make) => make(self.int()?),
            PlanStep::Long(Number::Int, make) => make(self.int()?.into()),
            PlanStep::Long(_, make) => make(self.long()?),
            PlanStep::Float(from) => Value::Float(self.float(*from)?),
            PlanStep::Double(from) => Value::Double(self.double(*from)?),
            PlanStep::Sized(form) => formed(self.sized()?, *form)?,
            PlanStep::Fixed(size, form) => formed(self.take(*size)?, *form)?,
            PlanStep::Enum(symbols) => {
                let index = usize::try_from(self.int()?).ok();
                let symbol = index.and_then(|index| symbols.get(index));
                let symbol = symbol.ok_or("holds a symbol that its enumeration lacks")?;
                let (index, symbol) = symbol.as_ref().map_err(|fault| ReadFault::Misfit(fault.clone()))?;
                Value::Enum(*index, symbol.clone())
            }
            _ => return Err("has a type without a plan".into()),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "Avro's promotion of int and long to float")]
    fn float(&mut self, from: Number) -> Result<f32, ReadFault> {
        Ok(match from {
            Number::Int => self.int()? as f32,
            Number::Long => self.long()? as f32,
            Number::Float | Number::Double => f32::from_le_bytes(self.array_of()?),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "Avro's promotion of long to double")]
    fn double(&mut self, from: Number) -> Result<f64, ReadFault> {
        Ok(match from {
            Number::Int => self.int()?.into(),
            Number::Long => self.long()? as f64,
            Number::Float => f32::from_le_bytes(self.array_of()?).into(),
            Number::Double => f64::from_le_bytes(self.array_of()?),
        })
    }

    /// A value in another value. The number of those that take no bytes is bounded.
    fn item(&mut self, step: usize, depth: u32) -> Result<Value, ReadFault> {
        let before = self.rest.len();
        let value = self.value(step, depth)?;
        if self.rest.len() == before {
            // The fields of such a record come from the reader's defaults, and each takes memory.
            let many = if let Value::Record(fields) = &value { fields.len().max(1) } else { 1 };
            let left = self.empty_items_left.checked_sub(many);
            self.empty_items_left = left.ok_or("holds too many items without a byte")?;
        }
        Ok(value)
    }

    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), ReadFault>) -> Result<(), ReadFault> {
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // After a negative count comes the block's size in bytes, for readers that skip it.
                self.long()?;
                count = count.checked_neg().ok_or("holds a count that is out of range")?;
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    fn sized(&mut self) -> Result<&'a [u8], ReadFault> {
        if std::mem::take(&mut self.whole) {
            return self.take(self.rest.len());
        }
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| "holds a length below 0")?;
        self.take(length)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], ReadFault> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or("ends too early")?;
        self.rest = rest;
        Ok(*taken)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ReadFault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<i32, ReadFault> {
        int(&mut self.rest)
    }

    fn long(&mut self) -> Result<i64, ReadFault> {
        long(&mut self.rest)
    }
}

fn int(rest: &mut &[u8]) -> Result<i32, ReadFault> {
    i32::try_from(long(rest)?).map_err(|_| "holds a number of more than 32 bits".into())
}

fn long(rest: &mut &[u8]) -> Result<i64, ReadFault> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (byte, more) = rest.split_first().ok_or("ends too early")?;
        *rest = more;
        // The tenth byte may have only one bit.
        if shift == 63 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err("holds a number of more than 64 bits".into())
}

fn text(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "holds a string that is not UTF-8".to_owned())
}

/// `bytes` without the length at their beginning, which frames of the type `bytes` do not have.
pub(super) fn without_length(mut bytes: &[u8]) -> Option<&[u8]> {
    long(&mut bytes).ok().map(|_| bytes)
}

/// The value of this form from bytes. The error is the end of a sentence about the value.
pub(super) fn formed(bytes: &[u8], form: Form) -> Result<Value, String> {
    Ok(match form {
        Form::Bytes => Value::Bytes(bytes.to_vec()),
        Form::Fixed => Value::Fixed(bytes.len(), bytes.to_vec()),
        Form::String => Value::String(text(bytes)?),
        Form::Decimal if bytes.is_empty() => return Err("holds a decimal without a byte".to_owned()),
        Form::Decimal => Value::Decimal(Decimal::from(bytes)),
        Form::BigDecimal => Value::BigDecimal(big_decimal(bytes)?),
        // Java writes any text under this logical type, so it need not be a UUID. Bytes under it, which the
        // specification does not have, need not be 16.
        Form::UuidText => {
            let text = text(bytes)?;
            Uuid::parse_str(&text).map_or_else(|_| Value::String(text), Value::Uuid)
        }
        Form::UuidBytes => {
            bytes.try_into().map_or_else(|_| Value::Bytes(bytes.to_vec()), |bytes| Value::Uuid(Uuid::from_bytes(bytes)))
        }
        Form::Duration => {
            let bytes: [u8; 12] = bytes.try_into().map_err(|_| "holds a duration that is not 12 bytes".to_owned())?;
            Value::Duration(bytes.into())
        }
    })
}

/// Reads the length of the digits, the digits, and the scale. The scale is an `int` as in Java; other readers refuse a
/// larger one, too.
fn big_decimal(bytes: &[u8]) -> Result<BigDecimal, String> {
    let wrong = || "holds a big-decimal whose length does not fit its bytes".to_owned();
    let mut rest = bytes;
    let length = long(&mut rest).ok().and_then(|length| usize::try_from(length).ok()).ok_or_else(wrong)?;
    let (digits, mut rest) = rest.split_at_checked(length).ok_or_else(wrong)?;
    let scale = int(&mut rest).map_err(|_| "holds a big-decimal whose scale is no int".to_owned())?;
    if digits.is_empty() || !rest.is_empty() {
        return Err(wrong());
    }
    Ok(BigDecimal::new(Decimal::from(digits).into(), scale.into()))
}

#[cfg(test)]
mod tests {
    use super::super::schema::AvroSchema;
    use super::*;

    fn checked(schema: &str, bytes: &[u8]) -> Result<(), String> {
        let schema = AvroSchema::parse(schema).unwrap();
        match read(&Plan::new(&schema, &schema), bytes) {
            Ok(_) => Ok(()),
            Err(ReadFault::Malformed(fault) | ReadFault::Misfit(fault)) => Err(fault),
        }
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
            let mut rest = bytes;
            assert_eq!((long(&mut rest), rest.len()), (Ok(number), 0));
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
        assert_eq!(checked("\"string\"", &[1]), Err("holds a length below 0".to_owned()));
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
        // A record that holds only itself has no end, and no bytes.
        let endless = r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}"#;
        assert!(checked(endless, &[]).unwrap_err().starts_with("is nested more than"));
    }
}
