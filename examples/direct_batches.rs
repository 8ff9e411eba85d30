//! Fills batches by hand, one for each file of lines, and sends each as a whole: its lines lie together in the log, and
//! the answer is one offset.
//!
//! `cargo run --example direct_batches [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::{Appended, DirectBatch, Headers, Producer, Recovery};

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("lines", 2)])?;

    let producer = Producer::builder(servers).build()?;
    for (file, lines) in [("a.txt", 3), ("b.txt", 2000), ("c.txt", 5)] {
        // A batch holds as many bytes as `batch_size` says, so that a long file takes several.
        let mut batch = producer.create_batch();
        for number in 1..=lines {
            let line = format!("line {number} of {file}: {}", "-".repeat(200));
            while append(&mut batch, file, &line)?.is_full() {
                let full = std::mem::replace(&mut batch, producer.create_batch());
                send(&producer, full, file)?;
            }
        }
        // Closed: nothing that the program sends later is put beside these lines.
        batch.close();
        send(&producer, batch, file)?;
    }
    producer.close()?;
    Ok(())
}

fn append(batch: &mut DirectBatch, file: &str, line: &str) -> kafka_blocking::Result<Appended> {
    let headers: Headers<'_> = [("kind", "text")].into_iter().collect();
    batch.append_with(file, line, &headers, None)
}

fn send(producer: &Producer, batch: DirectBatch, file: &str) -> kafka_blocking::Result<()> {
    let delivery = match producer.send_batch(batch, "lines", 1) {
        Ok(delivery) => delivery,
        // Nothing was sent, and the batch is here again: the topic may be known the next time.
        Err(refused) if refused.error().recovery() == Recovery::Retry => {
            println!("{file}: not sent yet: {refused}");
            producer.send_batch(refused.into_batch(), "lines", 1)?
        }
        Err(refused) => return Err(refused.into()),
    };
    // A program in a hurry would keep the handle, and wait later.
    let sent = delivery.wait()?;
    println!("{file}: {sent}");
    Ok(())
}
