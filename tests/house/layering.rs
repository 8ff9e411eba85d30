//! The layers of the architecture page: a layer names only the layers below it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::sources;

/// Each top module with those that it may name. `testing` and `bench` may use everything below, and nothing uses them.
const LAYERS: &[(&str, &[&str])] = &[
    // Level 0, which every layer above may name.
    ("error", &["topic"]),
    ("topic", &[]),
    ("time", &[]),
    ("bytes", &[]),
    ("offsets", &[]),
    ("thread", &["error"]),
    ("logging", &[]),
    ("outage", &["logging"]),
    ("obstacle", &["error", "topic"]),
    ("config", &["logging", "error", "time"]),
    // Above it.
    ("record", &[]),
    ("protocol", &[]),
    ("serialization", &["record"]),
    ("net", &["protocol"]),
    ("cluster", &["net", "protocol"]),
    ("admin", &["cluster", "net", "protocol"]),
    ("producer", &["serialization", "cluster", "net", "protocol", "record"]),
    ("consumer", &["cluster", "net", "protocol", "record"]),
    ("bench", &["cluster", "net", "protocol", "record"]),
    // It knows nothing of producers: they take bytes.
    ("schema_registry", &["serialization"]),
    ("testing", &["producer", "consumer", "cluster", "net", "protocol", "record"]),
];

/// The modules that every layer above them may name.
const LEVEL_0: &[&str] =
    &["error", "topic", "time", "bytes", "offsets", "thread", "logging", "outage", "obstacle", "config"];

/// Each room of the producer with those that it may name.
const ROOMS: &[(&str, &[&str])] = &[
    // The leaves.
    ("record_metadata", &[]),
    ("metrics", &[]),
    ("partitioner", &[]),
    ("interceptor", &["record_metadata"]),
    ("config", &["interceptor", "partitioner", "record_metadata"]),
    // Above them.
    ("buffer", &["record_metadata", "partitioner"]),
    ("send", &["buffer", "metrics", "partitioner"]),
    ("transaction", &["send", "buffer", "metrics"]),
    ("api", &["transaction", "send", "buffer", "config", "interceptor", "metrics", "partitioner", "record_metadata"]),
];

/// Each room of the consumer with those that it may name.
const CONSUMER_ROOMS: &[(&str, &[&str])] = &[
    ("start", &[]),
    ("config", &["start"]),
    ("buffer", &["start"]),
    ("fetch", &["buffer", "config", "start"]),
    ("api", &["fetch", "buffer", "config", "start"]),
];

/// The longest file of a client without its tests, in lines: one that grows beyond it holds more than one thing.
const LONGEST: usize = 700;

/// What a pure layer must not name.
const IMPURE: &[&str] = &["std::net", "crate::thread", "std::thread", "Instant::now", "SystemTime::now"];

/// The file's code without comments and without its tests, which may name what they like.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The library's files by their top module, without test files.
fn files() -> BTreeMap<String, Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let mut by_module: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in found {
        let inner = path.strip_prefix(&root).unwrap();
        let is_test = inner.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            name == "tests.rs" || name == "tests" || name == "model.rs"
        });
        let top = inner.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if !is_test && top != "lib" && top != "manual" {
            by_module.entry(top).or_default().push(path);
        }
    }
    by_module
}

/// The modules that a text names after `crate::`.
fn named(code: &str) -> Vec<String> {
    named_after(code, "crate::")
}

fn named_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        if !name.is_empty() {
            names.push(name);
        }
    }
    names
}

#[test]
fn a_layer_names_only_the_layers_below_it() {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut seen = 0;
    for (module, paths) in files() {
        let allowed = layers.get(&*module).unwrap_or_else(|| panic!("the module {module} has no place in the picture"));
        for path in paths {
            for name in named(&code(&path)) {
                // Items that lib.rs re-exports begin with a capital letter; they are named in documents only.
                let from_below = LEVEL_0.contains(&&*name) && !LEVEL_0.contains(&&*module);
                let fine = name == module || from_below || allowed.contains(&&*name);
                assert!(fine, "{} names crate::{name}, which is not below {module}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "the test has looked at next to nothing: {seen}");
}

/// What stands between frames and a socket, such as TLS, is then known to one file. The fake cluster is a server, with
/// sockets of its own.
#[test]
fn the_socket_of_a_connection_is_named_by_the_stream_alone() {
    let mut named = Vec::new();
    for (module, paths) in files() {
        for path in paths {
            if module != "testing" && code(&path).contains("TcpStream") {
                named.push(path);
            }
        }
    }
    let stream = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/stream.rs");
    assert_eq!(named, [stream], "these files name a socket's type");
}

/// What `super::` means in a file is found by its depth: a file of a room names its siblings so, and nobody else.
fn rooms_name_only_those_below(client: &str, picture: &[(&str, &[&str])]) {
    let rooms: BTreeMap<_, _> = picture.iter().copied().collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(client);
    let (mut seen, mut found) = (0, Vec::new());
    for path in files().remove(client).unwrap() {
        let inner = path.strip_prefix(&root).unwrap();
        let room = inner.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if room == "mod" || inner.ends_with("fixture.rs") || inner.ends_with("stress.rs") {
            continue;
        }
        let allowed = rooms.get(&*room).unwrap_or_else(|| panic!("the room {room} has no place in the picture"));
        let code = code(&path);
        let mut names = named_after(&code, &format!("{client}::"));
        if inner.iter().count() == 1 {
            names.extend(named_after(&code, "super::"));
        } else {
            let above = code.contains("super::super::") && inner.iter().count() == 2;
            assert!(!above, "{} names a room by super::super::, which this test does not read", path.display());
        }
        for name in names {
            let fine = name == room || allowed.contains(&&*name);
            assert!(fine, "{} names the room {name}, which is not below {room}", path.display());
            seen += 1;
        }
        found.push(room);
    }
    assert!(seen > 20, "the test has looked at next to nothing: {seen}");
    assert!(
        picture.iter().all(|(room, _)| found.iter().any(|other| other == room)),
        "a room of the picture is not there"
    );
}

#[test]
fn a_room_of_the_producer_names_only_the_rooms_below_it() {
    rooms_name_only_those_below("producer", ROOMS);
}

#[test]
fn a_room_of_the_consumer_names_only_the_rooms_below_it() {
    rooms_name_only_those_below("consumer", CONSUMER_ROOMS);
}

#[test]
fn a_file_of_a_client_holds_one_thing() {
    let mut files = files();
    for path in ["producer", "consumer", "admin"].iter().flat_map(|client| files.remove(*client).unwrap()) {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.split("\n#[cfg(test)]\nmod ").next().unwrap().lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines", path.display());
    }
}

/// A room's `mod.rs` says what is in it, and does nothing itself.
#[test]
fn a_rooms_mod_file_declares_and_re_exports_only() {
    let producer = ["", "api/", "buffer/", "send/", "transaction/"].map(|room| format!("producer/{room}"));
    let consumer = ["", "api/", "buffer/", "fetch/"].map(|room| format!("consumer/{room}"));
    for room in producer.iter().chain(&consumer) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{room}mod.rs"));
        let code = code(&path);
        for item in ["fn ", "struct ", "enum ", "trait ", "impl ", "const ", "static "] {
            assert!(!code.contains(item), "{} has more than declarations: {item}", path.display());
        }
    }
}

#[test]
fn protocol_records_and_serialization_are_pure() {
    for (module, paths) in files() {
        if !["protocol", "record", "serialization"].contains(&&*module) {
            continue;
        }
        for path in paths {
            let code = code(&path);
            for word in IMPURE {
                assert!(!code.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn a_consumers_machines_are_pure() {
    for name in
        ["buffer/gate", "buffer/reading", "buffer/share", "fetch/session", "fetch/exchange", "fetch/lookup", "start"]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/consumer/{name}.rs"));
        let code = code(&path);
        for word in IMPURE {
            assert!(!code.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn a_brokers_turn_is_pure() {
    for name in [
        "send/turn/mod",
        "send/turn/answers",
        "send/turn/hold",
        "send/turn/request",
        "send/turn/schedule",
        "send/queue",
        "send/queue/numbers",
        "send/verdict",
        "send/sequence",
        "send/batch_failure",
        "buffer/batch",
        "buffer/stamp",
        "transaction/core",
        "transaction/state",
        "transaction/verdict",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/producer/{name}.rs"));
        let code = code(&path);
        for word in IMPURE {
            assert!(!code.contains(word), "{} names {word}", path.display());
        }
    }
}
