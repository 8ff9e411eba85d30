use super::*;

/// The expected properties are those that `java.util.Properties.load` returns.
#[test]
fn property_files_are_read_as_java_reads_them() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("a=b", &[("a", "b")]),
        ("a = b ", &[("a", "b ")]),
        ("a:b", &[("a", "b")]),
        ("a b", &[("a", "b")]),
        ("a\tb", &[("a", "b")]),
        ("  a  :  = b", &[("a", "= b")]),
        ("a==b", &[("a", "=b")]),
        ("a", &[("a", "")]),
        ("a=", &[("a", "")]),
        ("=b", &[("", "b")]),
        (": b", &[("", "b")]),
        ("# c\na=b", &[("a", "b")]),
        ("! c\r\na=b", &[("a", "b")]),
        ("a=b\\\n   c", &[("a", "bc")]),
        ("a=b\\\\\nc=d", &[("a", "b\\"), ("c", "d")]),
        ("a=b\\\r\n  # c", &[("a", "b# c")]),
        ("#x\\\na=b", &[("a", "b")]),
        ("a\\ b\\:c\\=d=e", &[("a b:c=d", "e")]),
        ("a=\\u00e9\\t\\n\\q\\\\", &[("a", "é\t\nq\\")]),
        ("a=\\uD83D\\uDE00", &[("a", "😀")]),
        ("a=b\\", &[("a", "b")]),
        ("\\u0061=b", &[("a", "b")]),
        ("a=b#c", &[("a", "b#c")]),
        ("\\#a=b", &[("#a", "b")]),
        ("a=1\na=2", &[("a", "1"), ("a", "2")]),
        ("a\\\n  b=c", &[("ab", "c")]),
        ("a=b\\\n\nc=d", &[("a", "b"), ("c", "d")]),
        ("a=\\\n", &[("a", "")]),
        ("a=b\n\\\n\nc=d", &[("a", "b"), ("c", "d")]),
        ("a\x0c=\x0cb", &[("a", "b")]),
        ("a=b\rc=d", &[("a", "b"), ("c", "d")]),
        ("a\\\\=b", &[("a\\", "b")]),
        ("  \\\n # a=b", &[]),
        ("a=b\\\n\\\nc", &[("a", "bc")]),
        ("k = v1\\\n\t\x0cv2", &[("k", "v1v2")]),
        ("", &[]),
        ("\n \n\t\n", &[]),
    ];
    for (text, expected) in cases {
        let read = parse_text(text).unwrap();
        let read: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, *expected, "{text:?}");
    }
    for text in ["a=\\u12", "a=\\u12g4", "\\uD83D=x", "a=\\uDE00", "a=\\uD83Dx", "a=\\uD83D\\u0041", "a=\\u+123"] {
        let faults = parse_text(&format!("ok=1\n{text}")).unwrap_err();
        assert!(faults[0].contains("line 2"), "{text}: {faults:?}");
    }
}
