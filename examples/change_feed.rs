//! Databases: a table publishes every change. A live view follows the orders, and an audit queue
//! that is bound to all changes keeps them for a reader that comes later.
//!
//! Run it with `cargo run --example change_feed`.
#![allow(
    clippy::print_stdout,
    reason = "an example tells its story on the terminal"
)]

use std::collections::BTreeMap;

use posthaste_core::{Bus, Delivery, Pattern, Queue, ReceiverExt, Topic};
use posthaste_memory::Memory;
use serde::{Deserialize, Serialize};

type AnyError = Box<dyn std::error::Error>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Change {
    Put { row: String, value: String },
    Delete { row: String },
}

/// A database of one table after the other, whose every write is an event.
struct Database {
    bus: Bus,
    rows: Rows,
}

type Rows = BTreeMap<(String, String), String>;

impl Database {
    async fn write(&mut self, table: &str, change: Change) -> Result<(), AnyError> {
        let event = serde_json::to_vec(&change)?;
        apply(&mut self.rows, table, change);
        // It resolves once the audit queue has the change; a full queue holds the writer up.
        let receipt = self
            .bus
            .publish(format!("db.{table}.changed"), event)
            .await?;
        assert!(
            receipt.matched >= 1,
            "the audit queue is bound to every table"
        );
        Ok(())
    }
}

fn main() -> Result<(), AnyError> {
    pollster::block_on(async {
        let bus = Bus::new(Memory::new());
        let audit = Queue::new(Topic::new("audit")?).bind(Pattern::new("db.>")?);
        bus.declare(audit.capacity(10_000)).await?;
        let mut orders = bus.subscribe("db.orders.*").await?;

        let mut db = Database {
            bus: bus.clone(),
            rows: Rows::new(),
        };
        for number in 1..=5 {
            db.write("orders", put(number, "new")).await?;
            db.write("customers", put(number, "somebody")).await?;
        }
        db.write("orders", put(3, "shipped")).await?;
        db.write("orders", Change::Delete { row: "1".into() })
            .await?;

        // The live view saw the orders alone.
        let mut view = Rows::new();
        while let Some(change) = orders.try_recv()? {
            follow(&mut view, &change)?;
        }
        println!("live view of the orders: {:?}", view.values());
        assert_eq!(view.len(), 4);

        // The auditor comes late and finds everything, in order.
        let mut auditor = bus.consume("audit").await?;
        let (mut replayed, mut changes) = (Rows::new(), 0);
        while let Some(change) = auditor.try_recv()? {
            follow(&mut replayed, &change)?;
            change.ack();
            changes += 1;
        }
        auditor.settled().await?;
        assert_eq!(
            replayed, db.rows,
            "the changes make the same database again"
        );
        assert_eq!(bus.queue("audit").await?.messages, 0);
        println!(
            "the auditor replayed {changes} changes into {} rows",
            replayed.len()
        );
        Ok(())
    })
}

fn put(number: u32, value: &str) -> Change {
    Change::Put {
        row: number.to_string(),
        value: value.into(),
    }
}

fn follow(rows: &mut Rows, event: &Delivery) -> Result<(), AnyError> {
    let topic = event.message().topic();
    let table = topic
        .as_str()
        .split('.')
        .nth(1)
        .ok_or("the topic names no table")?;
    apply(rows, table, serde_json::from_slice(event.payload())?);
    Ok(())
}

fn apply(rows: &mut Rows, table: &str, change: Change) {
    match change {
        Change::Put { row, value } => drop(rows.insert((table.into(), row), value)),
        Change::Delete { row } => drop(rows.remove(&(table.into(), row))),
    }
}
