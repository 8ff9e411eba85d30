//! Why bytes cannot be deserialized.

use std::fmt;
use std::str::Utf8Error;

/// Why a deserializer of this crate refuses bytes. It shows lengths and positions, but none of the bytes, which may be
/// secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Null, which the type cannot be.
    Null {
        /// What was expected.
        wanted: &'static str,
    },
    /// More or fewer bytes than the type has.
    Length {
        /// What was expected.
        wanted: &'static str,
        /// How many bytes it has.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// Bytes that are not UTF-8.
    Utf8(Utf8Error),
    /// A byte other than 0 and 1 for a truth value.
    Bool {
        /// The byte.
        found: u8,
    },
    /// 36 bytes that are no UUID.
    Uuid,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null { wanted } => write!(f, "{wanted} is expected, and null was found"),
            Self::Length { wanted, expected, found } => {
                write!(f, "{wanted} is expected, in {expected} bytes, and {found} were found")
            }
            Self::Utf8(_) => f.write_str("a text is expected, and the bytes are not UTF-8"),
            Self::Bool { found } => write!(f, "a bool is expected, 0 or 1, and the byte {found} was found"),
            Self::Uuid => f.write_str("a UUID is expected, and the text is not 8-4-4-4-12 hexadecimal digits"),
        }
    }
}

impl std::error::Error for Malformed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Utf8(error) => Some(error),
            _ => None,
        }
    }
}
