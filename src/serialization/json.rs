//! JSON through serde.

use std::borrow::Cow;

use serde_core::{Deserialize, Serialize};

use super::{Context, DeserializationError, Deserializer, Malformed, Origin, SerializationError, Serializer};
use crate::error::printable;

/// The JSON of anything that serde serializes, in UTF-8 and without spaces.
///
/// The members of every object, at every depth, are sorted by their names, as kiel's default serializer does (Python's
/// `sort_keys`): by Unicode code points, which is the order of the UTF-8 bytes; `"Z"` is before `"a"`, and `"10"`
/// before `"2"`. Arrays keep their order. So equal values have equal bytes, whatever the order of their fields or maps.
/// Members with the same name keep their order.
///
/// Apart from the order it is what `serde_json::to_vec` writes. To keep the order of `serde_json`, use
/// [`try_from_fn`](super::try_from_fn) with the closure `|value: &T| serde_json::to_vec(value)` as the serializer.
/// Python's text of the same value has spaces and escapes.
///
/// `None` is the JSON `null`, in four bytes; for a null value use [`nullable(json())`](super::nullable) or a record
/// without a value.
///
/// *Errors*: those of `serde_json`, and objects or arrays that are nested more than 128 deep, which few readers accept.
/// Errors of reading show nothing of the value.
pub const fn json() -> Json {
    Json
}

/// See [`json()`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

/// How deep arrays and objects may be nested: as deep as `serde_json` reads them.
const MAX_DEPTH: usize = 128;

impl<T: Serialize + ?Sized> Serializer<T> for Json {
    fn serialize<'v>(
        &self,
        value: &'v T,
        _: &mut Context<'_, '_>,
    ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
        let text = serde_json::to_string(value)?;
        Ok(Some(Cow::Owned(sorted(&text)?.unwrap_or_else(|| text.into_bytes()))))
    }
}

impl<'de, T: Deserialize<'de>> Deserializer<'de, T> for Json {
    fn deserialize(&self, bytes: Option<&'de [u8]>, _: &Origin<'_>) -> Result<T, DeserializationError> {
        let bytes = bytes.ok_or(Malformed::Null { wanted: "JSON" })?;
        serde_json::from_slice(bytes).map_err(|error| without_value(&error.to_string()).into())
    }
}

/// What `serde_json` says of JSON that does not fit a type, without the string or number that it quotes, which may be
/// secret, and may have any length.
fn without_value(error: &str) -> String {
    let quotes = ["invalid type: ", "invalid value: ", "unknown variant ", "unknown field "];
    let quoting = quotes.iter().find_map(|begin| Some((begin, error.strip_prefix(begin)?)));
    let shown = match quoting.and_then(|(begin, rest)| Some((begin, rest.rsplit_once(", expected ")?))) {
        Some((begin, (found, expected))) => {
            let kind = found.split(['"', '`']).next().unwrap_or_default();
            format!("{}, expected {expected}", format!("{begin}{kind}").trim_end())
        }
        None => error.to_owned(),
    };
    printable(&shown)
}

/// The same JSON with sorted members; `None` if they are sorted already. Members are moved as text, so that numbers
/// keep all their digits.
fn sorted(json: &str) -> Result<Option<Vec<u8>>, SerializationError> {
    if !json.contains(':') {
        return Ok(None);
    }
    let mut sorter = Sorter { rest: json, out: Vec::with_capacity(json.len()), depth: 0, moved: false };
    match sorter.value() {
        Ok(()) => Ok(sorter.moved.then_some(sorter.out)),
        Err(JsonFault::TooDeep) => Err(format!("arrays and objects are nested more than {MAX_DEPTH} deep").into()),
        // `serde_json` never writes such text; a program's raw value may be it, and is left as it is.
        Err(JsonFault::NoJson) => Ok(None),
    }
}

enum JsonFault {
    TooDeep,
    NoJson,
}

/// Reads JSON and writes it with sorted members.
struct Sorter<'j> {
    rest: &'j str,
    out: Vec<u8>,
    depth: usize,
    moved: bool,
}

impl<'j> Sorter<'j> {
    fn value(&mut self) -> Result<(), JsonFault> {
        self.skip_spaces();
        match self.rest.as_bytes().first() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(drop),
            Some(_) => {
                let end = self.rest.find([',', ']', '}', ' ', '\n', '\r', '\t']).unwrap_or(self.rest.len());
                if end == 0 { Err(JsonFault::NoJson) } else { self.copy(end).map(drop) }
            }
            None => Err(JsonFault::NoJson),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<(), JsonFault>) -> Result<(), JsonFault> {
        if self.depth == MAX_DEPTH {
            return Err(JsonFault::TooDeep);
        }
        self.depth += 1;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), JsonFault> {
        self.copy(1)?;
        if self.take(']') {
            return Ok(());
        }
        loop {
            self.value()?;
            if self.take(']') {
                return Ok(());
            }
            self.expect(',')?;
        }
    }

    fn object(&mut self) -> Result<(), JsonFault> {
        self.copy(1)?;
        if self.take('}') {
            return Ok(());
        }
        let start = self.out.len();
        // Each member's name, and where the member begins and ends in `out`.
        let mut members: Vec<(Cow<'j, str>, usize, usize)> = Vec::new();
        loop {
            self.skip_spaces();
            let from = self.out.len();
            let name = self.string()?;
            self.expect(':')?;
            self.value()?;
            members.push((name, from, self.out.len()));
            if self.take('}') {
                break;
            }
            self.expect(',')?;
        }
        if members.is_sorted_by(|(one, ..), (next, ..)| one <= next) {
            return Ok(());
        }
        self.moved = true;
        // Stable, so that members of one name keep their order.
        members.sort_by(|(one, ..), (next, ..)| one.cmp(next));
        let unsorted = self.out.split_off(start);
        for (place, (_, from, to)) in members.into_iter().enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            let (from, to) = (from - start, to - start);
            self.out.extend_from_slice(unsorted.get(from..to).ok_or(JsonFault::NoJson)?);
        }
        // The bracket was written after the unsorted members, and was cut off with them.
        self.out.push(b'}');
        Ok(())
    }

    /// Copies a string with its quotation marks, and returns its content.
    fn string(&mut self) -> Result<Cow<'j, str>, JsonFault> {
        let mut escaped = false;
        let mut any_escape = false;
        let inner = self.rest.strip_prefix('"').ok_or(JsonFault::NoJson)?;
        for (place, byte) in inner.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => (escaped, any_escape) = (true, true),
                b'"' => {
                    let quoted = self.copy(place + 2)?;
                    let raw = inner.get(..place).map(Cow::Borrowed).ok_or(JsonFault::NoJson);
                    // Escapes that stand for no text (half a surrogate pair) are compared as they are written.
                    let read = any_escape.then(|| serde_json::from_str(quoted).ok()).flatten();
                    return read.map_or(raw, |name| Ok(Cow::Owned(name)));
                }
                _ => {}
            }
        }
        Err(JsonFault::NoJson)
    }

    fn copy(&mut self, bytes: usize) -> Result<&'j str, JsonFault> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(JsonFault::NoJson)?;
        self.out.extend_from_slice(taken.as_bytes());
        self.rest = rest;
        Ok(taken)
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\n', '\r', '\t']);
    }

    /// Copies the sign if it is next.
    fn take(&mut self, sign: char) -> bool {
        self.skip_spaces();
        self.rest.starts_with(sign) && self.copy(sign.len_utf8()).is_ok()
    }

    fn expect(&mut self, sign: char) -> Result<(), JsonFault> {
        if self.take(sign) { Ok(()) } else { Err(JsonFault::NoJson) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Headers;
    use crate::serialization::{Origin, Part};
    use serde_core::de::DeserializeOwned;
    use serde_json::{Value, json as value};
    use std::collections::{BTreeMap, HashMap};

    fn write<T: Serialize + ?Sized>(value: &T) -> String {
        let mut headers = Headers::new();
        let mut context = Context::new("t", Part::Value, &mut headers);
        String::from_utf8(json().serialize(value, &mut context).unwrap().unwrap().into_owned()).unwrap()
    }

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, DeserializationError> {
        let headers = Headers::new();
        json().deserialize(Some(text.as_bytes()), &Origin::new("t", Part::Value, &headers))
    }

    #[test]
    fn an_error_of_reading_shows_nothing_of_the_value_and_is_short() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "it is never read")]
        struct Login {
            user: u32,
            kind: Kind,
        }
        #[derive(Debug, serde::Deserialize)]
        enum Kind {
            Guest,
        }
        let secret = "5e5a3e, expected ".repeat(10_000);
        for (json, wanted) in [
            (value!({ "user": secret }), "invalid type: string, expected u32 at line 1 column "),
            (value!({ "user": -535_353 }), "invalid value: integer, expected u32 at line 1 column 15"),
            (value!({ "user": 1, "kind": secret }), "unknown variant, expected `Guest` at line 1 column "),
            (value!({ secret.clone(): 1 }), "unknown field, expected `user` or `kind` at line 1 column "),
            (value!({ "user": 1 }), "missing field `kind` at line 1 column 10"),
        ] {
            let error = read::<Login>(&json.to_string()).unwrap_err().to_string();
            assert!(error.starts_with(wanted) && error.len() < 100, "{error}");
            assert!(!error.contains("5e5a3e") && !error.contains("535"), "{error}");
        }
        assert!(read::<Login>("{").unwrap_err().to_string().starts_with("EOF while parsing"));
    }

    fn sort(text: &str) -> String {
        sorted(text).unwrap().map_or_else(|| text.to_owned(), |bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn members_are_sorted_by_code_points_at_every_depth_as_pythons_sort_keys_does() {
        // json.dumps(.., sort_keys=True, separators=(',', ':'), ensure_ascii=False) in Python 3.
        let python = "{\"\":3,\"\\n\":7,\"10\":1,\"2\":2,\"a\":{\"Z\":\"ü\\n\\\"\",\"z\":[{\"x\":2,\"y\":1}],\"é\":0,\
                      \"\u{ffff}\":2,\"😀\":1},\"a b\":5,\"a\\\"b\":4,\"a\\\\\":6,\"b\":1}";
        let unsorted = "{\"b\":1,\"a\":{\"z\":[{\"y\":1,\"x\":2}],\"é\":0,\"Z\":\"ü\\n\\\"\",\"😀\":1,\"\u{ffff}\":2},\
                        \"10\":1,\"2\":2,\"\":3,\"a\\\"b\":4,\"a b\":5,\"a\\\\\":6,\"\\n\":7}";
        assert_eq!(sort(unsorted), python);
        assert_eq!(sort(python), python);
    }

    #[test]
    fn maps_of_any_order_have_the_same_bytes() {
        let pairs: Vec<(String, u32)> = (0..100).map(|n| (format!("name {}", n * 37 % 100), n)).collect();
        let hashed: HashMap<_, _> = pairs.iter().cloned().collect();
        let ordered: BTreeMap<_, _> = pairs.into_iter().collect();
        assert_eq!(write(&hashed), write(&ordered));
        assert_eq!(write(&hashed), serde_json::to_string(&ordered).unwrap());
    }

    #[test]
    fn numbers_keep_every_digit_and_equal_names_their_order() {
        for text in [
            "{\"b\":340282366920938463463374607431768211455,\"a\":0.1000}",
            "{\"b\":-170141183460469231731687303715884105728,\"a\":1e400}",
        ] {
            let (b, a) = text.trim_matches(['{', '}']).split_once(',').unwrap();
            assert_eq!(sort(text), format!("{{{a},{b}}}"));
        }
        assert_eq!(write(&BTreeMap::from([("u", u128::MAX)])), format!("{{\"u\":{}}}", u128::MAX));
        assert_eq!(write(&HashMap::from([("f", 0.1_f32)])), "{\"f\":0.1}");
        assert_eq!(sort("{\"a\":2,\"b\":0,\"a\":1}"), "{\"a\":2,\"a\":1,\"b\":0}");
        // Half of a surrogate pair is no text, and is compared as it is written.
        assert_eq!(sort("{\"b\":0,\"\\ud800\":1,\"A\":2}"), "{\"A\":2,\"\\ud800\":1,\"b\":0}");
    }

    #[test]
    fn what_is_no_object_is_as_serde_json_writes_it() {
        for (text, bytes) in [
            ("null", "null"),
            ("[]", "[]"),
            ("{}", "{}"),
            ("\"a:{b\"", "\"a:{b\""),
            ("[1,[2,{}],\"x\"]", "[1,[2,{}],\"x\"]"),
        ] {
            assert_eq!(write(&serde_json::from_str::<Value>(text).unwrap()), bytes);
            assert_eq!(sort(text), bytes);
        }
        assert_eq!(write("text"), "\"text\"");
        assert_eq!(write(&None::<u8>), "null");
        // Spaces, which serde_json writes only from raw values.
        assert_eq!(sort("{ \"b\" : [ 1 , 2 ] , \"a\" : { } }"), "{\"a\":{},\"b\":[1,2]}");
    }

    /// Writes a random value; its members are not sorted.
    fn any_json(random: &mut impl FnMut(usize) -> usize, depth: usize, text: &mut String) {
        const TEXTS: [&str; 8] = ["", "a", "Z", "é\"", "\\", "10", "2", "a:{,}"];
        match random(if depth > 4 { 4 } else { 8 }) {
            0 => text.push_str("null"),
            1 => text.push_str(&random(1000).to_string()),
            2 => text.push_str("-1.5"),
            3 => text.push_str(&value!(TEXTS[random(8)]).to_string()),
            4 | 5 => {
                text.push('[');
                for place in 0..random(4) {
                    if place > 0 {
                        text.push(',');
                    }
                    any_json(random, depth + 1, text);
                }
                text.push(']');
            }
            _ => {
                text.push('{');
                let first = random(8);
                for place in 0..random(6) {
                    if place > 0 {
                        text.push(',');
                    }
                    text.push_str(&value!(TEXTS[(first + place * 3) % 8]).to_string());
                    text.push(':');
                    any_json(random, depth + 1, text);
                }
                text.push('}');
            }
        }
    }

    #[test]
    fn any_value_is_sorted_as_ordered_maps_are_and_broken_text_harms_nothing() {
        let mut seed = 11_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        let mut moved = 0;
        for _ in 0..5000 {
            let mut text = String::new();
            any_json(&mut random, 0, &mut text);
            let ordered = serde_json::from_str::<Ordered>(&text).unwrap();
            let wanted = serde_json::to_string(&ordered).unwrap();
            assert_eq!(sort(&text), wanted);
            assert_eq!(sort(&wanted), wanted);
            moved += u32::from(text != wanted);
            let cut = random(text.len() + 1);
            if let (Some(begin), Some(end)) = (text.get(..cut), text.get(cut..)) {
                let _ =
                    (sorted(begin), sorted(end), sorted(&format!("{begin}\"{end}")), sorted(&format!("{begin}]{end}")));
            }
        }
        assert!(moved > 500, "{moved} texts were unsorted");
    }

    /// JSON whose objects are ordered maps, whatever the features of `serde_json`.
    enum Ordered {
        Object(BTreeMap<String, Self>),
        Array(Vec<Self>),
        Other(Value),
    }

    impl<'de> serde_core::Deserialize<'de> for Ordered {
        fn deserialize<D: serde_core::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            fn ordered(value: Value) -> Ordered {
                match value {
                    Value::Object(map) => Ordered::Object(map.into_iter().map(|(k, v)| (k, ordered(v))).collect()),
                    Value::Array(values) => Ordered::Array(values.into_iter().map(ordered).collect()),
                    other => Ordered::Other(other),
                }
            }
            Value::deserialize(deserializer).map(ordered)
        }
    }

    impl Serialize for Ordered {
        fn serialize<S: serde_core::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Object(map) => map.serialize(serializer),
                Self::Array(values) => values.serialize(serializer),
                Self::Other(value) => value.serialize(serializer),
            }
        }
    }

    #[test]
    fn hand_made_text_that_is_no_json_is_left_as_it_is() {
        for text in ["{:", "{\"a\":}", "{\"a\":1", "{\"a\":1,}", "{\"a\" 1:", "[1:", "{\"a\":\"b", ":", "{\"\\u12\":1}"]
        {
            assert_eq!(sort(text), text);
        }
    }

    #[test]
    fn values_too_deep_for_readers_are_refused_without_overflow() {
        let nest = |depth: usize| format!("{}{{\"b\":1,\"a\":2}}{}", "[".repeat(depth), "]".repeat(depth));
        let text = nest(MAX_DEPTH - 1);
        assert_eq!(sort(&text), text.replace("\"b\":1,\"a\":2", "\"a\":2,\"b\":1"));
        assert!(sorted(&nest(MAX_DEPTH)).unwrap_err().to_string().contains("128 deep"));
        assert!(sorted(&nest(1_000_000)).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let wanted = value!({ "user": "Ada", "tags": ["x", null, { "b": 1.5, "a": [] }], "n": u64::MAX, "\t": false });
        let text = write(&wanted);
        assert_eq!(read::<Value>(&text).unwrap(), wanted);
        assert_eq!(write(&read::<Value>(&text).unwrap()), text);
    }

    #[test]
    fn what_serde_borrows_is_read_without_a_copy() {
        struct Borrowed<'b>(&'b str);

        impl<'de> Deserialize<'de> for Borrowed<'de> {
            fn deserialize<D: serde_core::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <&str>::deserialize(deserializer).map(Self)
            }
        }

        let (bytes, headers) = (br#"["Ada"]"#.to_vec(), Headers::new());
        let origin = Origin::new("t", Part::Value, &headers);
        let names: Vec<Borrowed<'_>> = Deserializer::deserialize(&json(), Some(&bytes), &origin).unwrap();
        assert_eq!((names[0].0, names[0].0.as_ptr()), ("Ada", bytes[2..].as_ptr()));
    }

    #[test]
    fn what_cannot_be_written_or_read_is_an_error() {
        let mut headers = Headers::new();
        let mut context = Context::new("t", Part::Value, &mut headers);
        let no_text = HashMap::from([((1, 2), 3)]);
        assert!(json().serialize(&no_text, &mut context).unwrap_err().to_string().contains("key must be a string"));
        assert!(read::<u8>("{").is_err() && read::<u8>("300").is_err() && read::<Value>("{} {}").is_err());
        let headers = Headers::new();
        let null = Deserializer::<Value>::deserialize(&json(), None, &Origin::new("t", Part::Value, &headers));
        assert_eq!(null.unwrap_err().downcast_ref(), Some(&Malformed::Null { wanted: "JSON" }));
    }
}
