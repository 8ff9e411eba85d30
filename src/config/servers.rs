//! The forms in which programs give lists of servers.

/// A list of servers: one text, with commas between several servers, or anything that can be iterated over and gives
/// such texts.
///
/// ```
/// use kafka_blocking::Producer;
///
/// let one = Producer::builder("kafka01:9092,kafka02:9092");
/// let several = Producer::builder(["kafka01:9092", "kafka02:9092"]);
/// let read = Producer::builder(std::env::args().skip(1));
/// ```
///
/// `Form` tells the two apart: `String` for one text, `Vec<String>` for several. The compiler infers it.
pub trait IntoServers<Form> {
    /// The texts, each of which may name several servers.
    fn into_servers(self) -> Vec<String>;
}

impl<T: Into<String>> IntoServers<String> for T {
    fn into_servers(self) -> Vec<String> {
        vec![self.into()]
    }
}

impl<I: IntoIterator<Item = T>, T: Into<String>> IntoServers<Vec<String>> for I {
    fn into_servers(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_and_any_list_of_texts_name_servers() {
        fn texts<Form>(servers: impl IntoServers<Form>) -> Vec<String> {
            servers.into_servers()
        }
        assert_eq!(texts("a:1,b:2"), ["a:1,b:2"]);
        assert_eq!(texts(String::from("a:1")), ["a:1"]);
        let owned = vec![String::from("a:1"), String::from("b:2")];
        assert_eq!(texts(&owned[0]), ["a:1"]);
        for list in [texts(["a:1", "b:2"]), texts("a:1,b:2".split(',')), texts(&owned), texts(owned.clone())] {
            assert_eq!(list, ["a:1", "b:2"]);
        }
        assert!(texts(Vec::<String>::new()).is_empty());
    }
}
