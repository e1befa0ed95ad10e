//! Two runtimes in one program, and a caller without any: tokio serves a broker over TCP and
//! answers questions, a client on smol asks them, and a bare `block_on` watches in process.
//!
//! Run it with `cargo run --example two_runtimes`.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use posthaste::prelude::*;
use posthaste::{Memory, SharedRuntime};
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let runtime: SharedRuntime = Tokio::new(tokio.handle().clone()).into();
    let broker = Memory::with_runtime(runtime.clone());

    // On tokio: the server, and a responder.
    let home = Bus::with_runtime(broker.clone(), runtime.clone());
    let responder = tokio.block_on(home.serve("text.upper").open())?;
    tokio.spawn(responder.run(async |request: Message| {
        println!("tokio answers on the thread {:?}", std::thread::current().name());
        std::str::from_utf8(request.payload()).map(str::to_uppercase)
    }));
    let server = tokio.block_on(posthaste::serve(runtime, broker.clone(), "tcp://127.0.0.1:0"))?;
    let url = server.endpoints()[0].to_string();

    // On no runtime at all: the same broker, in process.
    let bare = Bus::new(broker);
    let mut overheard = pollster::block_on(bare.subscribe("text.*"))?;

    // On smol: a client of the server.
    let answer = smol::block_on(async {
        let bus = posthaste::connect(Smol::global(), &url).await?;
        let answer = bus.request("text.upper", "three executors, one bus").await?;
        bus.publish("text.spoken", answer.payload().clone()).await?;
        Ok::<_, Error>(answer)
    })?;
    assert_eq!(answer.payload(), "THREE EXECUTORS, ONE BUS");
    println!("smol was told {:?} over {url}", answer.payload());

    pollster::block_on(async {
        let question = overheard.next_delivery().await?;
        let spoken = overheard.next_delivery().await?;
        assert_eq!(question.payload(), "three executors, one bus");
        assert_eq!(spoken.payload(), answer.payload());
        println!("block_on overheard {:?}", question.payload());
        Ok(())
    })
}
