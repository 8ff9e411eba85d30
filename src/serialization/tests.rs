#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a panic is how a test fails")]

use std::fmt::Debug;
use std::sync::Arc;

use super::*;

fn write<T: ?Sized>(serializer: &impl Serializer<T>, value: &T) -> Result<Option<Vec<u8>>, SerializationError> {
    let mut headers = Headers::new();
    let bytes = serializer.serialize(value, &mut Context::new("t", Part::Value, &mut headers))?;
    Ok(bytes.map(Cow::into_owned))
}

fn read<'de, T>(deserializer: &impl Deserializer<'de, T>, bytes: Option<&'de [u8]>) -> Result<T, DeserializationError> {
    let headers = Headers::new();
    deserializer.deserialize(bytes, &Origin::new("t", Part::Value, &headers))
}

fn hex<T: ?Sized>(serializer: &impl Serializer<T>, value: &T) -> String {
    match write(serializer, value).unwrap() {
        Some(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        None => "null".into(),
    }
}

#[test]
fn strings_bytes_and_truth_values_are_as_javas_serializers_write_them() {
    // StringSerializer of kafka-clients 4.3.1.
    for (text, bytes) in [
        ("", ""),
        ("a", "61"),
        ("Precision Products", "507265636973696f6e2050726f6475637473"),
        ("Zürich", "5ac3bc72696368"),
        ("€", "e282ac"),
        ("😀", "f09f9880"),
        ("\0", "00"),
    ] {
        assert_eq!(hex(&java(), text), bytes);
        assert_eq!(hex(&java(), &text.to_owned()), bytes);
        assert_eq!(hex(&java(), &Arc::<str>::from(text)), bytes);
        assert_eq!(hex(&java(), &Box::<str>::from(text)), bytes);
        assert_eq!(hex(&java(), &text), bytes);
    }
    // ByteArraySerializer, BooleanSerializer, VoidSerializer.
    assert_eq!(hex(&java(), &[0_u8, 255, 7]), "00ff07");
    assert_eq!(hex(&java(), &[0_u8, 255, 7][..]), "00ff07");
    assert_eq!(hex(&java(), &vec![0_u8, 255, 7]), "00ff07");
    assert_eq!((hex(&java(), &false), hex(&java(), &true)), ("00".into(), "01".into()));
    assert_eq!(hex(&java(), &()), "null");
}

#[test]
fn integers_are_as_javas_serializers_write_them() {
    // ShortSerializer, IntegerSerializer and LongSerializer of kafka-clients 4.3.1.
    for (number, bytes) in
        [(0, "0000"), (1, "0001"), (-1, "ffff"), (i16::MIN, "8000"), (i16::MAX, "7fff"), (258, "0102")]
    {
        assert_eq!(hex(&java(), &number), bytes);
    }
    for (number, bytes) in [
        (0, "00000000"),
        (1, "00000001"),
        (-1, "ffffffff"),
        (i32::MIN, "80000000"),
        (i32::MAX, "7fffffff"),
        (16_909_060, "01020304"),
    ] {
        assert_eq!(hex(&java(), &number), bytes);
    }
    for (number, bytes) in [
        (0, "0000000000000000"),
        (1, "0000000000000001"),
        (-1, "ffffffffffffffff"),
        (i64::MIN, "8000000000000000"),
        (i64::MAX, "7fffffffffffffff"),
        (72_623_859_790_382_856, "0102030405060708"),
    ] {
        assert_eq!(hex(&java(), &number), bytes);
    }
}

#[test]
fn floating_point_numbers_are_as_javas_serializers_write_them() {
    // FloatSerializer and DoubleSerializer of kafka-clients 4.3.1: the former keeps a NaN's bits, the latter does not.
    for (number, bytes) in [
        (0.0, "00000000"),
        (-0.0, "80000000"),
        (1.5, "3fc00000"),
        (-2.25, "c0100000"),
        (f32::from_bits(1), "00000001"),
        (f32::MAX, "7f7fffff"),
        (f32::INFINITY, "7f800000"),
        (f32::from_bits(0x7fc0_0000), "7fc00000"),
        (f32::from_bits(0x7f80_0001), "7f800001"),
        (0.1, "3dcccccd"),
    ] {
        assert_eq!(hex(&java(), &number), bytes, "{number}");
    }
    for (number, bytes) in [
        (0.0, "0000000000000000"),
        (-0.0, "8000000000000000"),
        (1.5, "3ff8000000000000"),
        (-2.25, "c002000000000000"),
        (f64::from_bits(1), "0000000000000001"),
        (f64::MAX, "7fefffffffffffff"),
        (f64::NEG_INFINITY, "fff0000000000000"),
        (f64::NAN, "7ff8000000000000"),
        (-f64::NAN, "7ff8000000000000"),
        (f64::from_bits(0x7ff0_0000_0000_0001), "7ff8000000000000"),
        (0.1, "3fb999999999999a"),
    ] {
        assert_eq!(hex(&java(), &number), bytes, "{number}");
    }
}

#[test]
fn uuids_are_as_javas_serializer_writes_them() {
    // UUIDSerializer of kafka-clients 4.3.1.
    for text in [
        "00000000-0000-0000-0000-000000000000",
        "123e4567-e89b-12d3-a456-426614174000",
        "ffffffff-ffff-ffff-ffff-fffffffffffe",
    ] {
        let number = u128::from_str_radix(&text.replace('-', ""), 16).unwrap();
        assert_eq!(write(&uuid(), &number).unwrap().unwrap(), text.as_bytes());
        assert_eq!(write(&uuid(), &number.to_be_bytes()).unwrap().unwrap(), text.as_bytes());
        assert_eq!(read::<u128>(&uuid(), Some(text.as_bytes())).unwrap(), number);
        assert_eq!(read::<[u8; 16]>(&uuid(), Some(text.to_uppercase().as_bytes())).unwrap(), number.to_be_bytes());
    }
    let fault = |text: &str| read::<u128>(&uuid(), Some(text.as_bytes())).unwrap_err().downcast_ref().cloned();
    let length = Malformed::Length { wanted: "a UUID", expected: 36, found: 9 };
    assert_eq!(fault("1-1-1-1-1"), Some(length));
    for text in [
        "123e4567-e89b-12d3-a456-42661417400g",
        "123e4567e89b-12d3-a456-4266141740000",
        "123e45670e89b-12d3-a456-42661417400-",
        "123e4567-e89b-12d3-a456-42661417400-",
        "é23e4567-e89b-12d3-a456-42661417400",
    ] {
        assert_eq!(fault(text), Some(Malformed::Uuid), "{text}");
    }
}

/// Checks that what was written is read back unchanged.
fn round_trip<T: PartialEq + Debug>(with: &(impl Serializer<T> + for<'de> Deserializer<'de, T>), value: &T) {
    let bytes = write(with, value).unwrap();
    assert_eq!(read(with, bytes.as_deref()).unwrap(), *value);
}

#[test]
fn whatever_is_written_is_read_back() {
    let mut seed = 7_u64;
    for _ in 0..2000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bytes = seed.to_be_bytes();
        let [a, b, c, d, e, f, g, h] = bytes;
        round_trip(&java(), &i16::from_be_bytes([a, b]));
        round_trip(&java(), &i32::from_be_bytes([c, d, e, f]));
        round_trip(&java(), &i64::from_be_bytes(bytes));
        round_trip(&java(), &Some(i64::from_be_bytes(bytes)));
        round_trip(&java(), &(a > 127));
        round_trip(&java(), &bytes.to_vec());
        let number = f64::from_be_bytes(bytes);
        if !number.is_nan() {
            round_trip(&java(), &number);
            round_trip(&text(), &number);
        }
        let number = f32::from_be_bytes([g, h, a, b]);
        if !number.is_nan() {
            round_trip(&java(), &number);
        }
        round_trip(&text(), &i64::from_be_bytes(bytes));
        let wide = (u128::from(seed) << 64) | u128::from(!seed);
        round_trip(&uuid(), &wide);
        round_trip(&nullable(uuid()), &Some(wide));
        let text: String =
            bytes.iter().filter_map(|byte| char::from_u32(u32::from(*byte) * 977)).chain(['\n', 'ß']).collect();
        round_trip(&java(), &text);
        round_trip(&super::text(), &text);
        round_trip(&java(), &Arc::<str>::from(&*text));
        round_trip(&nullable(java()), &Some(text));
    }
    round_trip(&java(), &());
    round_trip(&java(), &None::<String>);
    round_trip(&nullable(text()), &None::<u8>);
}

fn fault<T: Debug>(bytes: Option<&[u8]>) -> Malformed
where
    Java: for<'de> Deserializer<'de, T>,
{
    let error = read::<T>(&java(), bytes).unwrap_err();
    error.downcast_ref::<Malformed>().unwrap_or_else(|| panic!("{error}")).clone()
}

#[test]
fn malformed_bytes_are_refused_with_what_was_expected_and_what_was_found() {
    for found in [0, 1, 3, 5, 9] {
        let bytes = vec![0; found];
        let length = |wanted, expected| Malformed::Length { wanted, expected, found };
        assert_eq!(fault::<i16>(Some(&bytes)), length("an i16", 2));
        assert_eq!(fault::<i32>(Some(&bytes)), length("an i32", 4));
        assert_eq!(fault::<i64>(Some(&bytes)), length("an i64", 8));
        assert_eq!(fault::<f32>(Some(&bytes)), length("an f32", 4));
        assert_eq!(fault::<f64>(Some(&bytes)), length("an f64", 8));
        assert_eq!(fault::<()>(Some(&bytes)), length("null", 0));
        if found != 1 {
            assert_eq!(fault::<bool>(Some(&bytes)), length("a bool", 1));
        }
    }
    assert_eq!(fault::<bool>(Some(&[2])), Malformed::Bool { found: 2 });
    assert!(matches!(fault::<String>(Some(&[0xff, 65])), Malformed::Utf8(_)));
    assert_eq!(fault::<i32>(None), Malformed::Null { wanted: "an i32" });
    assert_eq!(fault::<String>(None).to_string(), "a text is expected, and null was found");
    assert_eq!(fault::<Vec<u8>>(None), Malformed::Null { wanted: "a value of bytes" });
    assert_eq!(fault::<i32>(Some(&[1, 2, 3])).to_string(), "an i32 is expected, in 4 bytes, and 3 were found");
    // An option must be null or a valid value.
    assert_eq!(fault::<Option<i32>>(Some(&[])), Malformed::Length { wanted: "an i32", expected: 4, found: 0 });
    assert!(read::<u8>(&text(), Some(b"300")).unwrap_err().to_string().contains("too large"));
    assert!(read::<u8>(&text(), Some(b"\xff")).is_err() && read::<u8>(&text(), None).is_err());
}

#[test]
fn null_is_not_empty() {
    assert_eq!(write(&java(), &None::<String>).unwrap(), None);
    assert_eq!(write(&java(), &Some(String::new())).unwrap(), Some(Vec::new()));
    assert_eq!(read::<Option<String>>(&java(), None).unwrap(), None);
    assert_eq!(read::<Option<String>>(&java(), Some(b"")).unwrap(), Some(String::new()));
    assert_eq!(write(&nullable(text()), &None::<u8>).unwrap(), None);
    assert_eq!(read::<Option<u8>>(&nullable(text()), None).unwrap(), None);
    assert!(read::<Option<u8>>(&nullable(text()), Some(b"")).is_err());
}

#[test]
fn what_lies_there_as_bytes_is_not_copied() {
    let text = String::from("text");
    let mut headers = Headers::new();
    let mut context = Context::new("t", Part::Key, &mut headers);
    let bytes = java().serialize(&text, &mut context).unwrap();
    assert!(matches!(bytes, Some(Cow::Borrowed(bytes)) if bytes.as_ptr() == text.as_ptr()));
}

#[test]
fn what_can_be_borrowed_is_read_without_a_copy() {
    let bytes = b"text".to_vec();
    let address = Some(bytes.as_ptr());
    let text: &str = read(&java(), Some(&bytes)).unwrap();
    assert_eq!((text, Some(text.as_ptr())), ("text", address));
    assert_eq!(read::<&[u8]>(&java(), Some(&bytes)).map(<[u8]>::as_ptr).ok(), address);
    assert_eq!(read::<Option<&str>>(&java(), Some(&bytes)).unwrap().map(str::as_ptr), address);
    assert_eq!(read::<Option<&str>>(&nullable(java()), None).unwrap(), None);
    assert!(matches!(read::<&str>(&java(), Some(b"\xff")).unwrap_err().downcast_ref(), Some(Malformed::Utf8(_))));
    assert_eq!(
        read::<&[u8]>(&java(), None).unwrap_err().to_string(),
        "a value of bytes is expected, and null was found"
    );

    // A function whose result borrows, and one whose result does not.
    fn first_word(bytes: &[u8]) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(bytes).map(|text| text.split(' ').next().unwrap_or_default())
    }
    let words = b"two words".to_vec();
    let word = read(&DeserializerFn(first_word), Some(&words)).unwrap();
    assert_eq!((word, word.as_ptr()), ("two", words.as_ptr()));
    let boxed: Box<dyn for<'de> Deserializer<'de, usize>> =
        Box::new(deserializer_fn(|bytes| Ok::<_, String>(bytes.len())));
    assert_eq!(read(&boxed, Some(&words)).unwrap(), 9);
}

/// A consumer whose records live only during each call needs this: types that own their data can be read from them.
#[test]
fn what_is_owned_outlives_the_bytes() {
    fn from_a_record<T>(deserializer: &impl for<'de> Deserializer<'de, T>) -> T {
        let bytes = b"7".to_vec();
        read(deserializer, Some(&bytes)).unwrap()
    }
    assert_eq!(from_a_record::<String>(&java()), "7");
    assert_eq!(from_a_record::<u8>(&text()), 7);
    assert_eq!(from_a_record::<Option<Vec<u8>>>(&nullable(java())), Some(b"7".to_vec()));
}

#[test]
fn functions_become_serializers_and_deserializers() {
    #[derive(Debug, PartialEq)]
    struct Odd(u8);
    let even = try_from_fn(|number: &u8| if number.is_multiple_of(2) { Ok(vec![*number]) } else { Err("odd") });
    assert_eq!(write(&even, &4).unwrap(), Some(vec![4]));
    assert_eq!(write(&even, &5).unwrap_err().to_string(), "odd");
    let text = try_from_fn(|number: &u8| Ok::<_, SerializationError>(number.to_string()));
    assert_eq!(write(&text, &5).unwrap(), Some(b"5".to_vec()));
    assert_eq!(write(&from_fn(|text: &str| text.to_uppercase()), "ab").unwrap(), Some(b"AB".to_vec()));

    let odd = deserializer_fn(|bytes| match bytes {
        [number] if number % 2 == 1 => Ok(Odd(*number)),
        _ => Err("even"),
    });
    assert_eq!(read(&odd, Some(&[7])).unwrap(), Odd(7));
    assert_eq!(read(&odd, Some(&[8])).unwrap_err().to_string(), "even");
    assert_eq!(read(&odd, None).unwrap_err().downcast_ref(), Some(&Malformed::Null { wanted: "a value" }));
    let boxed: Box<dyn for<'de> Deserializer<'de, Odd>> = Box::new(odd);
    assert_eq!(read(&nullable(boxed), Some(&[7])).unwrap(), Some(Odd(7)));
    let boxed: Box<dyn Serializer<u8>> = Box::new(even);
    assert_eq!(write(&boxed, &4).unwrap(), Some(vec![4]));
}

/// A program may share a serializer between several producers, or lend it.
#[test]
fn what_points_to_a_serializer_is_one() {
    fn round<S: Serializer<i32> + for<'de> Deserializer<'de, i32>>(with: S) {
        assert_eq!(write(&with, &258).unwrap(), Some(vec![0, 0, 1, 2]));
        assert_eq!(read::<i32>(&with, Some(&[0, 0, 1, 2])).unwrap(), 258);
    }
    let lent = &java();
    round(lent);
    round(Arc::new(java()));
    round(Box::new(java()));
    let shared: Arc<dyn Serializer<i32>> = Arc::new(java());
    assert_eq!(write(&shared, &1).unwrap(), Some(vec![0, 0, 0, 1]));
}

#[test]
fn a_fault_shows_none_of_the_bytes() {
    for fault in [
        fault::<String>(Some(b"secret\xff")).to_string(),
        fault::<i64>(Some(b"secret")).to_string(),
        read::<u128>(&uuid(), Some(b"secret--secret--secret--secret--secr")).unwrap_err().to_string(),
    ] {
        assert!(!fault.contains("secr"), "{fault}");
    }
}

#[test]
fn a_function_that_may_fail_is_a_serializer_and_its_error_comes_through() {
    fn of_a_byte(number: &u32) -> Result<String, std::num::TryFromIntError> {
        u8::try_from(*number).map(|number| number.to_string())
    }
    let serializer = try_from_fn(of_a_byte);
    assert_eq!(write(&serializer, &7).unwrap(), Some(b"7".to_vec()));
    let error = write(&serializer, &256).unwrap_err();
    assert!(error.downcast_ref::<std::num::TryFromIntError>().is_some(), "{error}");
    // A closure for an unsized type, whose error is a text and whose result is bytes; and one with `nullable`.
    let serializer =
        try_from_fn(|text: &str| if text.is_empty() { Err("empty") } else { Ok(text.as_bytes().to_vec()) });
    assert_eq!(write(&serializer, "a").unwrap(), Some(b"a".to_vec()));
    assert_eq!(write(&serializer, "").unwrap_err().to_string(), "empty");
    let optional = nullable(try_from_fn(of_a_byte));
    assert_eq!(write(&optional, &None).unwrap(), None);
    assert_eq!(write(&optional, &Some(8)).unwrap(), Some(b"8".to_vec()));
    assert_eq!(format!("{serializer:?}"), "TryFromFn");
}
