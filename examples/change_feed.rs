//! Databases: every change of a table is an event. A live view follows the orders, and a queue that
//! is bound to all tables keeps every change for an auditor who comes later.
//!
//! Run it with `cargo run --example change_feed`.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use std::collections::BTreeMap;

use posthaste::Memory;
use posthaste::prelude::*;
use serde::{Deserialize, Serialize};

type AnyError = Box<dyn std::error::Error>;

/// What the rows of all tables hold, by table and number.
type Rows = BTreeMap<(String, u32), String>;

/// A row's new value; without one the row is deleted.
#[derive(Serialize, Deserialize)]
struct Change {
    row: u32,
    value: Option<String>,
}

fn main() -> Result<(), AnyError> {
    pollster::block_on(async {
        let bus = Bus::new(Memory::new());
        let audit = Queue::new(Topic::new("audit")?).bind(Pattern::new("db.>")?);
        bus.declare(audit.capacity(10_000)).await?;
        let mut orders = bus.subscribe("db.orders.*").await?;

        let mut rows = Rows::new();
        for row in 1..=5 {
            write(&bus, &mut rows, "orders", row, Some("new")).await?;
            write(&bus, &mut rows, "customers", row, Some("somebody")).await?;
        }
        write(&bus, &mut rows, "orders", 3, Some("shipped")).await?;
        write(&bus, &mut rows, "orders", 1, None).await?;

        // The live view saw the orders alone.
        let mut view = Rows::new();
        while let Some(change) = orders.try_recv()? {
            follow(&mut view, &change)?;
        }
        println!("the live view of the orders: {:?}", view.values());
        assert!(view.keys().all(|(table, _)| table == "orders"));
        assert_eq!(view.len(), 4);

        // The auditor comes late and finds everything, in order.
        let mut auditor = bus.consume("audit").await?;
        let (mut copy, mut changes) = (Rows::new(), 0);
        while let Some(change) = auditor.try_recv()? {
            follow(&mut copy, &change)?;
            change.ack();
            changes += 1;
        }
        auditor.settled().await?;
        assert_eq!(copy, rows, "the changes make the same tables again");
        assert_eq!(bus.queue("audit").await?.messages, 0);
        println!("the auditor made {} rows of {changes} changes", copy.len());
        Ok(())
    })
}

/// Writes once the queue has the change, so the auditor misses none; a full queue makes it wait.
async fn write(
    bus: &Bus,
    rows: &mut Rows,
    table: &str,
    row: u32,
    value: Option<&str>,
) -> Result<(), AnyError> {
    let value = value.map(String::from);
    let change = Change { row, value };
    let topic = format!("db.{table}.{row}");
    bus.publish(topic, serde_json::to_vec(&change)?).await?;
    apply(rows, table, change);
    Ok(())
}

fn follow(rows: &mut Rows, event: &Delivery) -> Result<(), AnyError> {
    let topic = event.message().topic();
    let mut words = topic.as_str().split('.');
    let table = words.nth(1).ok_or("the topic names no table")?;
    apply(rows, table, serde_json::from_slice(event.payload())?);
    Ok(())
}

fn apply(rows: &mut Rows, table: &str, change: Change) {
    let at = (table.to_owned(), change.row);
    match change.value {
        Some(value) => rows.insert(at, value),
        None => rows.remove(&at),
    };
}
