//! Sends customers in Avro, with a schema that is kept in a schema registry, and reads one back.
//!
//! `cargo run --features avro --example avro_customer [BOOTSTRAP_SERVERS REGISTRY_URL]`

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use kafka_blocking::schema_registry::{AvroDeserializer, AvroSchema, AvroSerializer, SchemaRegistry};
use kafka_blocking::serialization::java;
use kafka_blocking::{Producer, TypedProducer, TypedRecord};
use serde::{Deserialize, Serialize};

/// The default of `email` is null, not the string "null": a union's default is one of its first branch.
const SCHEMA: &str = r#"{"namespace": "customerManagement.avro", "type": "record", "name": "Customer", "fields": [
    {"name": "id", "type": "int"},
    {"name": "name", "type": "string"},
    {"name": "email", "type": ["null", "string"], "default": null}]}"#;

#[derive(Debug, Serialize, Deserialize)]
struct Customer {
    id: i32,
    name: String,
    email: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let servers = support::servers(&[("customerContacts", 3)])?;
    // Without an address the example talks to a registry in this process, too.
    let url = std::env::args().nth(2).map_or_else(small_registry, Ok)?;

    let registry = SchemaRegistry::builder([url]).build()?;
    let schema = AvroSchema::parse(SCHEMA)?;
    // Registers the schema under the subject customerContacts-value when the first value is serialized.
    let serializer = AvroSerializer::builder(&registry).schema(&schema).build()?;
    let deserializer = AvroDeserializer::builder(&registry).reader_schema(&schema).build()?;

    let producer = Producer::builder(servers).build()?;
    let customers: TypedProducer<str, Customer> = TypedProducer::new(producer, java(), serializer.clone());
    for (id, name, email) in [(1, "yifan", None), (2, "Ada", Some("ada@example.org"))] {
        let customer = Customer { id, name: name.to_owned(), email: email.map(str::to_owned) };
        let key = id.to_string();
        let sent = customers.send(TypedRecord::to("customerContacts").key(&*key).value(&customer)).wait()?;
        println!("{name}: {sent}");
        // What was written, and what a reader makes of it.
        let bytes = serializer.serialize("customerContacts", &customer)?;
        let read: Customer = deserializer.deserialize("customerContacts", &bytes)?;
        println!("{} bytes are {read:?}", bytes.len());
    }
    customers.close()?;
    Ok(())
}

/// A registry with room for one schema, which gets the id 1.
fn small_registry() -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        let answer = serde_json::json!({ "id": 1, "schema": SCHEMA }).to_string();
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|_| !line.trim().is_empty()) {
                let header = line.to_ascii_lowercase();
                length = header.strip_prefix("content-length:").map_or(length, |n| n.trim().parse().unwrap_or(0));
                line.clear();
            }
            let _ = std::io::copy(&mut reader.take(length), &mut std::io::sink());
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
            let _ = write!(&stream, "{head} {}\r\n\r\n{answer}", answer.len());
        }
    });
    Ok(url)
}
