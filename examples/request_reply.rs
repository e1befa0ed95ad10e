//! Request-reply on smol: responders that share the work, and three ways to get no answer.
//!
//! Run it with `cargo run --example request_reply`.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use futures::future::{join, try_join_all};
use posthaste::prelude::*;
use posthaste_smol::Smol;
use smol::future::{or, yield_now};

fn main() -> Result<(), Error> {
    smol::block_on(async {
        let bus = posthaste::connect(Smol::global(), "memory:").await?;

        // Nobody is there, and that is told at once, not in an hour.
        let asking = bus.request("math.add", "20 22").within(Duration::from_secs(3_600));
        let nobody = asking.await.unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::NoResponders);
        println!("no responders: {nobody}");

        // Two responders of one pattern: each request goes to one of them.
        let first = bus.serve("math.*").concurrency(1).open().await?;
        let second = bus.serve("math.*").concurrency(1).open().await?;
        let serving = or(
            first.run(|request| calculate("the first", request)),
            second.run(|request| calculate("the second", request)),
        );
        or(serving, ask(&bus)).await
    })
}

async fn ask(bus: &Bus) -> Result<(), Error> {
    let sums = ["20 22", "1 2", "3 4", "5 6"].map(|pair| bus.request("math.add", pair));
    let sums = try_join_all(sums.map(IntoFuture::into_future)).await?;
    let sums = sums.iter().map(|sum| String::from_utf8_lossy(sum.payload()));
    let sums = sums.collect::<Vec<_>>();
    println!("answered: {}", sums.join(", "));
    assert!(sums.iter().any(|sum| sum.ends_with("the first")));
    assert!(sums.iter().any(|sum| sum.ends_with("the second")));

    // A responder that fails says why, and its words arrive.
    let failed = bus.request("math.divide", "1 0").await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Failed);
    println!("failed: {failed}");

    // A responder that is too slow: this one takes the request and keeps it.
    let mut oracle = bus.serve("oracle").open().await?;
    let asking = bus.request("oracle", "when?").within(Duration::from_millis(50));
    let (answer, question) = join(asking.into_future(), oracle.recv()).await;
    let late = answer.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
    println!("too late: {late}");
    drop(question);
    Ok(())
}

async fn calculate(who: &str, request: Message) -> Result<String, String> {
    yield_now().await; // Pretends to take its time, so that the other one has its turn.
    let text = String::from_utf8_lossy(request.payload());
    let numbers = text.split(' ').map(|word| word.parse::<i64>().map_err(|e| e.to_string()));
    let [a, b] = numbers.collect::<Result<Vec<_>, _>>()?[..] else {
        return Err("two numbers, please".into());
    };
    let result = match request.topic().as_str() {
        "math.add" => a.checked_add(b),
        "math.divide" => a.checked_div(b),
        other => return Err(format!("{other} is not taught here")),
    };
    result.map(|number| format!("{number} by {who}")).ok_or("there is no such number".into())
}
