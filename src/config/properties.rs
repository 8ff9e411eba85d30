//! Settings by their names in Java and librdkafka, for any builder: the rows of its tables, the loading of properties
//! with these tables, and the text of a `.properties` file.

use std::collections::BTreeMap;
use std::time::Duration;

use super::client::{self, ClientBuilder};
use super::siblings::{Sibling, matches};
use crate::logging::debug;

/// The names of a setting, here and in other clients, and its default.
#[cfg_attr(not(test), expect(dead_code, reason = "some names are only for the manual, which a test checks"))]
pub(crate) struct SettingNames {
    /// The builder's method, or the call that takes the setting as an argument.
    pub(crate) name: &'static str,
    pub(crate) java: Option<&'static str>,
    /// librdkafka's names, the usual one first. If the last one is also Java's name, the setting means what it means in
    /// Java.
    pub(crate) librdkafka: &'static [&'static str],
    pub(crate) kiel: Option<&'static str>,
    pub(crate) aiokafka: Option<&'static str>,
    /// As a property's value.
    pub(crate) default: &'static str,
    pub(crate) unit: &'static str,
}

impl SettingNames {
    /// Each property that means this setting.
    pub(crate) fn properties(&self) -> impl Iterator<Item = &'static str> {
        self.java.iter().chain(self.librdkafka).copied()
    }
}

/// A setting of `T`, and how a property sets it.
pub(crate) struct Setting<T> {
    pub(crate) names: SettingNames,
    /// Sets it from the property with this name and value. The error is the rest of a sentence that begins with the
    /// property's name.
    pub(crate) apply: fn(&mut T, &str, &str) -> Result<(), String>,
}

/// How a property that is no setting is treated.
pub(crate) enum Treatment {
    /// These values say what the client does anyway; any other value is refused, for this reason.
    Only(&'static [&'static str], &'static str),
    /// Its value makes no difference, for this reason.
    Ignored(&'static str),
    /// It is refused. The text says what replaces it, or why nothing does.
    Refused(&'static str),
}

/// Properties that are no settings, each with its treatment. A name that ends in `*` stands for all names that begin
/// so.
pub(crate) type Others = [(&'static str, Treatment)];

/// A table of settings. Each row: name, Java's, librdkafka's, kiel's, aiokafka's, default, unit, reader.
macro_rules! settings {
    ($($name:literal, $java:expr, [$($librdkafka:literal),*], $kiel:expr, $aiokafka:expr, $default:literal, $unit:literal,
       |$to:ident, $property:pat_param, $value:ident| $apply:expr;)*) => {
        &[$($crate::config::properties::Setting {
            names: $crate::config::properties::SettingNames {
                name: $name, java: $java, librdkafka: &[$($librdkafka),*], kiel: $kiel, aiokafka: $aiokafka,
                default: $default, unit: $unit,
            },
            apply: |$to, $property, $value| { $apply; Ok(()) },
        }),*]
    };
}
pub(crate) use settings;

/// A builder, as what properties are loaded into. It also keeps what has to wait until all of them are read.
pub(crate) trait PropertyTarget: Sized + 'static {
    /// Its own settings, besides those that every client has.
    const SETTINGS: &'static [Setting<Self>];
    /// Its own properties that are no settings.
    const OTHERS: &'static Others;
    /// The other clients of the program, whose properties are left to them.
    const SIBLINGS: &'static [&'static Sibling];

    /// The settings that every client has.
    fn client(&mut self) -> &mut ClientBuilder;
}

/// The other forms of `properties`, in the `impl` block of a builder that has `new`, `properties` and `faults`.
macro_rules! properties_forms {
    () => {
        /// A builder with the settings in properties: [`properties`](Self::properties) over every default.
        pub fn from_properties<N: AsRef<str>, V: AsRef<str>>(properties: impl IntoIterator<Item = (N, V)>) -> Self {
            Self::new([""; 0]).properties(properties)
        }

        /// A builder with the settings in the text of a Java `.properties` file:
        /// [`properties_text`](Self::properties_text) over every default.
        pub fn from_properties_text(text: &str) -> Self {
            Self::new([""; 0]).properties_text(text)
        }

        /// [`properties`](Self::properties) in the text of a Java `.properties` file: comments with `#` or `!`, `=` or
        /// `:` or a space after the name, lines continued with `\`, and its escapes, such as `"# soon\nlinger.ms = 2\n"`.
        pub fn properties_text(mut self, text: &str) -> Self {
            match $crate::config::properties::parse_text(text) {
                Ok(properties) => self.properties(properties),
                Err(mut faults) => {
                    self.faults.append(&mut faults);
                    self
                }
            }
        }
    };
}
pub(crate) use properties_forms;

/// Sets what the properties say. Returns what is wrong with them.
pub(crate) fn load<T: PropertyTarget, N: AsRef<str>, V: AsRef<str>>(
    to: &mut T,
    properties: impl IntoIterator<Item = (N, V)>,
) -> Vec<String> {
    let mut faults = Vec::new();
    // The property that has set each setting, and its value, to notice two properties that contradict each other.
    let mut seen: BTreeMap<&'static str, (String, String)> = BTreeMap::new();
    for (name, value) in properties {
        let (name, value) = (name.as_ref().trim(), value.as_ref().trim());
        let (setting, applied) = if let Some(own) = setting(T::SETTINGS, name) {
            (&own.names, (own.apply)(to, name, value))
        } else if let Some(shared) = setting(client::SETTINGS, name) {
            let client = to.client();
            client.set(shared.names.name);
            (&shared.names, (shared.apply)(client, name, value))
        } else {
            faults.extend(other::<T>(name, value));
            continue;
        };
        if let Err(fault) = applied {
            faults.push(format!("{name} {fault}"));
        }
        match seen.get(setting.name) {
            Some((earlier, different)) if different != value => {
                let both = match earlier == name {
                    true => format!("{name} is given twice"),
                    false => format!("{earlier} and {name} are one setting, {}, and are given", setting.name),
                };
                faults.push(format!("{both} with different values: {} and {}", shown(different), shown(value)));
            }
            Some(_) => {}
            None => {
                seen.insert(setting.name, (name.to_owned(), value.to_owned()));
            }
        }
    }
    faults
}

/// The setting that a property stands for.
pub(crate) fn setting<T>(settings: &'static [Setting<T>], property: &str) -> Option<&'static Setting<T>> {
    settings.iter().find(|setting| setting.names.properties().any(|name| name == property))
}

/// A setting's name with Java's beside it (or librdkafka's, where only that exists), for the text of a fault.
pub(crate) fn label<T>(settings: &[Setting<T>], name: &str) -> Option<String> {
    let names = &settings.iter().find(|setting| setting.names.name == name)?.names;
    names.properties().next().map(|property| format!("{name} ({property})"))
}

/// The fault of a property that is no setting, if it is one. The text does not repeat the value of an unknown or
/// refused property, which may be a password.
pub(crate) fn other<T: PropertyTarget>(name: &str, value: &str) -> Option<String> {
    let known = T::OTHERS.iter().chain(client::OTHERS).find(|(known, _)| matches(known, name));
    if known.is_none()
        && let Some(sibling) = T::SIBLINGS.iter().find(|sibling| sibling.knows(name))
    {
        debug!("property {name} is left to {}", sibling.owner);
        return None;
    }
    match known {
        Some((_, Treatment::Only(values, _))) if values.iter().any(|only| only.eq_ignore_ascii_case(value)) => None,
        Some((_, Treatment::Only(values, reason))) => {
            let values: Vec<&str> =
                values.iter().map(|value| if value.is_empty() { "an empty value" } else { value }).collect();
            Some(format!("{name} is {}, only {} is possible: {reason}", shown(value), values.join(", ")))
        }
        Some((_, Treatment::Ignored(reason))) => {
            debug!("property {name} makes no difference: {reason}");
            None
        }
        Some((_, Treatment::Refused(reason))) => Some(format!("{name} is not supported: {reason}")),
        None => {
            let own = T::SETTINGS.iter().flat_map(|setting| setting.names.properties());
            let shared = client::SETTINGS.iter().flat_map(|setting| setting.names.properties());
            let others = T::OTHERS.iter().chain(client::OTHERS).map(|(name, _)| *name);
            let siblings = T::SIBLINGS.iter().flat_map(|sibling| sibling.properties).copied();
            Some(unknown(name, own.chain(shared).chain(others).chain(siblings)))
        }
    }
}

/// The fault of an unknown property, with the most similar known name, if one is similar enough.
pub(crate) fn unknown(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    match nearest(name, known) {
        Some(nearest) => format!("{} is unknown; is it {nearest}?", shown(name)),
        None => format!("{} is unknown", shown(name)),
    }
}

fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    const LONGEST: usize = 80;
    if name.len() > LONGEST {
        return None;
    }
    let java_spelling = name.to_ascii_lowercase().replace(['_', '-'], ".");
    let near = known.filter(|known| !known.ends_with('*')).map(|known| (distance(&java_spelling, known), known)).min();
    near.filter(|(distance, known)| *distance <= 1 + known.len() / 6).map(|(_, known)| known)
}

/// How many letters must be added, removed or changed to make `b` from `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (diagonal + usize::from(from != to)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// A name or value for the text of a fault: quoted, and cut to the length of a line.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

pub(crate) fn boolean(value: &str) -> Result<bool, String> {
    match () {
        () if value.eq_ignore_ascii_case("true") => Ok(true),
        () if value.eq_ignore_ascii_case("false") => Ok(false),
        () => Err(format!("is {}, it must be true or false", shown(value))),
    }
}

pub(crate) fn number(value: &str) -> Result<u32, String> {
    match value.parse::<u32>() {
        Ok(number) if number <= i32::MAX.cast_unsigned() => Ok(number),
        _ => Err(format!("is {}, it must be a whole number from 0 to {}", shown(value), i32::MAX)),
    }
}

pub(crate) fn size(name: &str, value: &str) -> Result<usize, String> {
    let factor = if name.ends_with(".kbytes") { 1024 } else { 1 };
    let size = value.parse::<usize>().ok().and_then(|size| size.checked_mul(factor));
    size.ok_or_else(|| format!("is {}, it must be a whole number, not negative", shown(value)))
}

pub(crate) fn ms(value: &str) -> Result<Duration, String> {
    match value.parse() {
        Ok(ms) => Ok(Duration::from_millis(ms)),
        Err(_) => Err(format!(
            "is {}, it must be a whole number of milliseconds, not negative and without a unit, such as 5",
            shown(value)
        )),
    }
}

/// The names and values in the text of a Java `.properties` file, in order. The faults name the lines, but not their
/// content, which may be a password.
pub(crate) fn parse_text(text: &str) -> Result<Vec<(String, String)>, Vec<String>> {
    let mut properties = Vec::new();
    let mut faults = Vec::new();
    for (number, line) in logical_lines(text) {
        let (name, value) = split_line(&line);
        match (unescape(name), unescape(value)) {
            (Some(name), Some(value)) => properties.push((name, value)),
            _ => faults.push(format!(
                "properties, line {number}: an escape \\u is not followed by the four digits of a character"
            )),
        }
    }
    if faults.is_empty() { Ok(properties) } else { Err(faults) }
}

const BLANK: [char; 3] = [' ', '\t', '\x0c'];

/// The lines that hold a property, continuations joined, with the number of the first line of each. `\r`, `\n` and
/// `\r\n` end a line; after a backslash at its end a line goes on in the next, unless the backslash is escaped itself.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.replace("\r\n", "\n").split(['\n', '\r']).enumerate() {
        let line = line.trim_start_matches(BLANK);
        if open.is_none() && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let (number, mut joined) = open.take().unwrap_or((index + 1, String::new()));
        let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
        match line.strip_suffix('\\') {
            Some(continued) if backslashes % 2 == 1 => {
                joined.push_str(continued);
                // A line that holds only the backslash does not begin a property yet; the next line may be a comment.
                open = (!joined.is_empty()).then_some((number, joined));
            }
            _ => {
                joined.push_str(line);
                lines.push((number, joined));
            }
        }
    }
    // The last line may end with a backslash.
    lines.extend(open);
    lines
}

/// A name ends at the first `=`, `:` or blank that no backslash escapes; blanks around one `=` or `:` belong to
/// neither side.
fn split_line(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && (BLANK.contains(c) || matches!(c, '=' | ':'));
        escaped = !escaped && *c == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.map_or(line.len(), |(index, _)| index));
    let rest = rest.trim_start_matches(BLANK);
    (name, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(BLANK))
}

/// The text without its escapes: `\t`, `\n`, `\r`, `\f`, `\uXXXX` in UTF-16; any other character after a backslash
/// stands for itself. `None` where a `\u` is malformed or is only half of a character.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\x0c'),
            Some('u') => {
                let first = utf16_unit(&mut chars)?;
                let mut units = vec![first];
                if (0xd800..0xdc00).contains(&first) {
                    if (chars.next()?, chars.next()?) != ('\\', 'u') {
                        return None;
                    }
                    units.push(utf16_unit(&mut chars)?);
                }
                plain.push_str(&String::from_utf16(&units).ok()?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Some(plain)
}

fn utf16_unit(chars: &mut std::str::Chars<'_>) -> Option<u16> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit * 16 + chars.next()?.to_digit(16)?;
    }
    u16::try_from(unit).ok()
}

#[cfg(test)]
mod tests;
