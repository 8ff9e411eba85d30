//! A record's headers.

use std::borrow::Cow;
use std::fmt;

use super::IntoBytes;

/// A record's headers, in order. Names may repeat.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers<'a>(Vec<Header<'a>>);

/// One header: a name, and a value that may be null.
#[derive(Clone, PartialEq, Eq)]
pub struct Header<'a> {
    name: Cow<'a, str>,
    value: Option<Cow<'a, [u8]>>,
}

impl<'a> Headers<'a> {
    /// No headers. Allocates nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a header after the existing ones.
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, value: impl IntoBytes<'a>) {
        self.0.push(Header { name: name.into(), value: value.into_bytes() });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All headers, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Header<'a>> {
        self.0.iter()
    }

    /// The first header of this name.
    pub fn first(&self, name: &str) -> Option<&Header<'a>> {
        self.iter().find(|header| header.name == name)
    }

    /// The last header of this name, which is the one that counts where a name repeats (Java's `lastHeader`).
    pub fn last(&self, name: &str) -> Option<&Header<'a>> {
        self.iter().rfind(|header| header.name == name)
    }

    /// Removes every header of this name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|header| header.name != name);
    }

    /// The same headers without borrowed parts.
    pub fn into_owned(self) -> Headers<'static> {
        let owned = |header: Header<'a>| Header {
            name: Cow::Owned(header.name.into_owned()),
            value: header.value.map(|value| Cow::Owned(value.into_owned())),
        };
        Headers(self.0.into_iter().map(owned).collect())
    }
}

impl<'a> Header<'a> {
    /// A header that was read.
    pub(crate) fn read(name: Cow<'a, str>, value: Option<&'a [u8]>) -> Self {
        Self { name, value: value.map(Cow::Borrowed) }
    }
}

impl Header<'_> {
    /// The header's name (Java: key).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The header's value, or `None` if it is null.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }
}

impl<'s, 'a> IntoIterator for &'s Headers<'a> {
    type Item = &'s Header<'a>;
    type IntoIter = std::slice::Iter<'s, Header<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, N: Into<Cow<'a, str>>, V: IntoBytes<'a>> FromIterator<(N, V)> for Headers<'a> {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let header = |(name, value): (N, V)| Header { name: name.into(), value: value.into_bytes() };
        Self(pairs.into_iter().map(header).collect())
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// Shows the size of the value, not the value, which may be secret.
impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("name", &self.name)
            .field("value_len", &self.value.as_ref().map(|value| value.len()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_repeat_and_the_order_is_kept() {
        let mut headers: Headers<'_> = [("a", Some("1")), ("b", None), ("a", Some("2"))].into_iter().collect();
        assert_eq!(headers.iter().map(Header::name).collect::<Vec<_>>(), ["a", "b", "a"]);
        assert_eq!(headers.first("a").and_then(Header::value), Some(&b"1"[..]));
        assert_eq!(headers.last("a").and_then(Header::value), Some(&b"2"[..]));
        assert_eq!(headers.first("c"), None);
        headers.remove("a");
        assert_eq!(headers.len(), 1);
    }
}
