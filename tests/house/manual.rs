//! The manual's pages name tests, items and each other: all of them are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::sources;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages by their names, without `.md`.
fn pages() -> BTreeMap<String, String> {
    let entries = fs::read_dir(root().join("src/manual")).unwrap().map(|entry| entry.unwrap().path());
    let pages: BTreeMap<String, String> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    assert!(pages.len() > 10, "{:?}", pages.keys());
    pages
}

/// The list of the tests that hold what the pages promise.
fn promises() -> String {
    fs::read_to_string(root().join("tests/promises.md")).unwrap()
}

/// A row of a table: its cells.
fn cells(line: &str) -> Vec<&str> {
    line.trim_start_matches('|').trim_end_matches('|').split('|').map(str::trim).collect()
}

/// The library's code, without comments and without the tests at the ends of files.
fn library() -> String {
    let mut paths = Vec::new();
    sources(&root().join("src"), &mut paths);
    paths.retain(|path| path.file_name().is_some_and(|name| name != "tests.rs"));
    let mut code = String::new();
    for path in paths {
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

/// A page's text between single backticks, outside of blocks of code.
fn quoted(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    found
}

/// A page's lines outside of blocks of code.
fn prose(page: &str) -> Vec<&str> {
    let mut in_code = false;
    page.lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            in_code ^= fence;
            !fence && !in_code
        })
        .collect()
}

/// The names of a file's tests: functions behind `#[test]`, and promises that `on_both!` and `on_each!` make tests of.
fn tests(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = false;
    for line in text.lines().map(str::trim_start) {
        if line == "#[test]" {
            waiting = true;
        } else if waiting && let Some(name) = line.strip_prefix("fn ") {
            found.insert(name.split('(').next().unwrap().to_owned());
            waiting = false;
        }
    }
    let lists = ["\non_both!(", "\non_each!("].into_iter().filter_map(|start| text.split_once(start));
    for (_, list) in lists {
        // The clusters come first, in brackets.
        let promises = list.split(");").next().and_then(|list| list.rsplit(']').next()).unwrap();
        found.extend(promises.split(',').map(|name| name.trim().to_owned()));
    }
    found
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut seen = 0;
    for (page, text) in pages().into_iter().chain([("promises".to_owned(), promises())]) {
        for quote in quoted(&text) {
            let Some((file, name)) = quote.split_once(".rs::") else { continue };
            let file = format!("{file}.rs");
            let known = files.entry(file.clone()).or_insert_with(|| {
                let text = fs::read_to_string(root().join(&file));
                tests(&text.unwrap_or_else(|error| panic!("{page} names {file}: {error}")))
            });
            assert!(known.contains(name), "{page} names {quote}, which is no test");
            seen += 1;
        }
    }
    assert!(seen > 150, "the test has looked at next to nothing: {seen}");
}

/// What a page for those who come from another client has a row for: those that are kept, and those that are not there
/// yet.
const ROWS: [(&str, &str, &str); 3] = [
    ("coming_from_kiel", "K1-K36", "G1-G24"),
    ("coming_from_aiokafka", "A1-A40", ""),
    ("coming_from_java", "J1-J55", ""),
];

/// Other tables whose rows need a test each: the page, how the table begins, and the column that names the promise.
const TABLES: [(&str, &str, usize); 2] = [("threads", "| call | waits for |", 0), ("typed", "| | what runs |", 1)];

fn ids(list: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for part in list.split_whitespace() {
        let letter = &part[..1];
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |id: &str| id[1..].parse::<u32>().unwrap();
        ids.extend((number(first)..=number(last)).map(|number| format!("{letter}{number}")));
    }
    ids
}

#[test]
fn every_promise_has_one_row_and_those_that_are_kept_have_a_test() {
    let pages = pages();
    let promises = promises();
    let mut tested = BTreeSet::new();
    for line in promises.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| tests |")) {
        let cells = cells(line);
        assert!(cells.len() == 2 && cells[1].contains(".rs::"), "promises.md names no test: {line}");
        assert!(tested.insert(cells[0].to_owned()), "promises.md has {} twice", cells[0]);
    }
    let mut promised = BTreeSet::new();
    for (name, kept, missing) in ROWS {
        let (kept_part, missing_part) = pages[name].split_once("\n## Not there yet\n").unwrap();
        for (part, wanted, columns) in [(kept_part, ids(kept), 4), (missing_part, ids(missing), 3)] {
            let mut found = BTreeSet::new();
            for line in part.lines().filter(|line| line.starts_with('|')) {
                let cells = cells(line);
                if cells[0].is_empty() || cells[0].starts_with('-') {
                    continue;
                }
                assert!(found.insert(cells[0].to_owned()), "{name}: {} is there twice", cells[0]);
                assert_eq!(line.matches('|').count(), columns + 1, "{name}: {line}");
                assert!(!cells[1].is_empty() && !cells[2].is_empty(), "{name}: {line}");
            }
            assert_eq!(found, wanted, "{name}");
            if columns == 4 {
                promised.extend(found);
            }
        }
    }
    for (name, header, column) in TABLES {
        let (_, table) = pages[name].split_once(header).unwrap_or_else(|| panic!("{name} has no table {header}"));
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        promised.extend(rows.map(|line| cells(line)[column].to_owned()));
    }
    let untested: Vec<_> = promised.difference(&tested).collect();
    assert!(untested.is_empty(), "tests/promises.md has no test of these: {untested:?}");
    // What it has besides is promised by the page on transactions, in its sentences.
    let (_, others) = promises.split_once("\n## Transactions\n").unwrap();
    for line in promises.lines().filter(|line| line.starts_with("| ") && !others.contains(line)) {
        let id = cells(line)[0];
        assert!(promised.contains(id) || line.ends_with("| tests |"), "promises.md has {id}, which no page promises");
    }
}

/// The targets of a page's links.
fn links(page: &str) -> Vec<String> {
    let text = prose(page).join("\n");
    let ends = text.match_indices("](").map(|(at, found)| &text[at + found.len()..]);
    ends.map(|rest| rest.split(')').next().unwrap().to_owned()).collect()
}

/// Whether the library has something of this name: an item, a variant or field, or a name that is handed on.
fn defines(library: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    library.match_indices(name).any(|(at, _)| {
        let (before, after) = (&library[..at], &library[at + name.len()..]);
        if before.ends_with(is_word) || after.starts_with(is_word) {
            return false;
        }
        let defined = ["fn ", "struct ", "enum ", "trait ", "type ", "mod ", "const ", "pub ", "$"]
            .iter()
            .any(|word| before.ends_with(word));
        let start = before.rsplit('\n').next().unwrap().trim().is_empty();
        let variant = start && (after.starts_with([',', '(', ' ', ';']) || after.starts_with(" {"));
        defined || variant
    })
}

#[test]
fn every_link_leads_somewhere() {
    let library = library();
    let pages = pages();
    let mut seen = 0;
    for (page, text) in &pages {
        for link in links(text) {
            if let Some(path) = link.strip_prefix("crate::manual::") {
                assert!(pages.contains_key(path), "{page} links {link}");
            } else if let Some(path) = link.strip_prefix("crate::") {
                for name in path.split("::") {
                    assert!(defines(&library, name), "{page} links {link}, and there is no {name}");
                }
            } else if !link.starts_with("https://") && !link.starts_with('#') {
                let file = link.split('#').next().unwrap();
                assert!(root().join("src/manual").join(file).exists(), "{page} links {link}");
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "the test has looked at next to nothing: {seen}");
    // README names pages by their files.
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for link in links(&readme).iter().filter(|link| !link.starts_with("https://")) {
        let file = link.split('#').next().unwrap();
        assert!(root().join(file).exists(), "README.md links {link}");
    }
}

/// What a type's `impl` blocks, its variants and its fields are called.
fn members(library: &str, owner: &str) -> BTreeSet<String> {
    // Macros give several types the same methods.
    let expanded = ["client_setters", "properties_forms"].iter().fold(library.to_owned(), |expanded, name| {
        expanded.replace(&format!("    {name}!();\n"), written_by(library, name))
    });
    members_as_written(&expanded, owner)
}

/// The methods that a macro without arguments gives a builder, indented as there.
fn written_by<'l>(library: &'l str, name: &str) -> &'l str {
    let (_, rest) = library.split_once(&format!("macro_rules! {name} {{\n    () => {{\n")).unwrap();
    rest.split_once("\n    };\n}").unwrap().0
}

fn members_as_written(library: &str, owner: &str) -> BTreeSet<String> {
    let mut members = BTreeSet::new();
    let mut inside = false;
    for line in library.lines() {
        if !line.starts_with(' ') {
            let begins = |word: &str| {
                let rest = line.split_once(word).map(|(_, rest)| rest.trim_start());
                // `impl<K: ?Sized, V> ` has its parameters first.
                let rest = rest.map(|rest| match rest.strip_prefix('<').and_then(|rest| rest.split_once("> ")) {
                    Some((_, rest)) => rest,
                    None => rest,
                });
                let rest = rest.map(|rest| rest.rsplit(" for ").next().unwrap_or(rest));
                rest.is_some_and(|rest| {
                    rest.strip_prefix(owner).is_some_and(|end| !end.starts_with(|c: char| c.is_alphanumeric()))
                })
            };
            if line.ends_with('{') {
                inside =
                    begins("impl") || begins("impl<'a>") || begins("enum ") || begins("struct ") || begins("trait ");
            } else if line.starts_with('}') {
                inside = false;
            }
        } else if inside {
            let rest = line.trim_start();
            // What is private to the library is named by the pages for those who change it.
            let visible = ["pub(crate) ", "pub(super) "].iter().find_map(|word| rest.strip_prefix(word));
            let public = visible.map(|rest| format!("pub {rest}"));
            let deep = line.len() - rest.len() > 4 && !rest.starts_with("pub fn ");
            let rest = public.as_deref().unwrap_or(rest);
            // What a macro writes is indented by eight.
            let rest = ["pub const fn ", "pub fn ", "fn ", "pub const ", "pub "]
                .iter()
                .find_map(|word| rest.strip_prefix(word))
                .unwrap_or(rest);
            if !deep {
                members.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
        }
    }
    members
}

#[test]
fn every_method_and_variant_that_a_page_names_is_there() {
    let library = library();
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let public: BTreeSet<&str> = lib
        .lines()
        .skip_while(|line| !line.starts_with("pub use "))
        .flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .filter(|word| word.starts_with(char::is_uppercase))
        .collect();
    assert!(public.contains("ProducerBuilder") && public.contains("Delivery"), "{public:?}");
    let mut seen = 0;
    for (page, text) in pages() {
        for quote in quoted(&text) {
            let path: String = quote.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            let names: Vec<&str> = path.split("::").collect();
            let [owner, member] = names[..] else { continue };
            // Pages for those who come from another client name that client's types as well.
            let own = !page.starts_with("coming_from_");
            if owner == "partitioner" {
                assert!(defines(&library, member), "{page} names {quote}");
            } else if public.contains(owner) || (own && has_type(&library, owner)) {
                let members = members(&library, owner);
                assert!(members.contains(member), "{page} names {quote}; {owner} has {members:?}");
            } else {
                continue;
            }
            seen += 1;
        }
    }
    assert!(seen > 60, "the test has looked at next to nothing: {seen}");
}

/// Whether one of these files is `file`, or ends with it as a path.
fn is_there(paths: &[PathBuf], file: &str) -> bool {
    paths.iter().any(|path| path.ends_with(file))
}

#[test]
fn every_source_file_that_a_page_or_a_comment_names_is_there() {
    let mut paths = Vec::new();
    for folder in ["src", "tests", "examples", "benches"] {
        sources(&root().join(folder), &mut paths);
    }
    let comments = paths.iter().map(|path| {
        let text = fs::read_to_string(path).unwrap();
        let comments: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("//")).collect();
        (path.display().to_string(), comments.join("\n"))
    });
    let mut seen = 0;
    for (place, text) in pages().into_iter().chain(comments) {
        for quote in quoted(&text) {
            let is_path = quote.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_/.".contains(c));
            let Some(name) = quote.strip_suffix(".rs").filter(|name| is_path && !name.is_empty()) else { continue };
            assert!(is_there(&paths, &format!("{name}.rs")), "{place} names `{quote}`, which is no file");
            seen += 1;
        }
    }
    assert!(seen > 60, "the test has looked at next to nothing: {seen}");
}

/// Whether the library has a type of this name.
fn has_type(library: &str, name: &str) -> bool {
    ["struct ", "enum ", "trait ", "type "].iter().any(|word| {
        library
            .match_indices(&format!("{word}{name}"))
            .any(|(at, found)| !library[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

/// The types that a text names between backticks: without their modules, and without what follows them.
fn types(text: &str) -> Vec<String> {
    let first_type = |quote: String| {
        let path = quote.split(['(', '<', ' ']).next().unwrap().to_owned();
        let name = path.split("::").find(|part| part.starts_with(char::is_uppercase))?.to_owned();
        name.chars().all(char::is_alphanumeric).then_some(name)
    };
    quoted(text).into_iter().filter_map(first_type).collect()
}

#[test]
fn the_glossary_names_types_that_are_there_and_all_that_the_architecture_page_names() {
    let (library, pages) = (library(), pages());
    let mut words = BTreeSet::new();
    for line in pages["glossary"].lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ours ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 5 && cells.iter().all(|cell| !cell.is_empty()), "{line}");
        for name in types(cells[0]) {
            assert!(has_type(&library, &name), "the glossary names `{name}`, which is no type of the library");
            words.insert(name);
        }
    }
    assert!(words.len() > 30, "the test has looked at next to nothing: {words:?}");
    for name in types(&pages["architecture"]) {
        assert!(
            words.contains(&name) || !has_type(&library, &name),
            "the architecture page names `{name}`, which the glossary lacks"
        );
    }
}
