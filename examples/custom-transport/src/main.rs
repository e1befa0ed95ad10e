//! All three patterns over a transport of one's own.
//!
//! Run it with `cargo run -p posthaste-example-custom-transport`.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use posthaste_core::{Bus, Error, ReceiverExt, SharedRuntime};
use posthaste_example_custom_transport::Board;
use posthaste_link::{Remote, RemoteOptions, Server, ServerOptions};
use posthaste_memory::Memory;
use posthaste_smol::Smol;

fn main() -> Result<(), Error> {
    let runtime: SharedRuntime = Smol::global().into();
    smol::block_on(async {
        let board = Board::default();
        let memory = Memory::with_runtime(runtime.clone());
        let server = Server::new(runtime.clone(), memory, ServerOptions::new());
        let port = server.listen(board.clone(), "serial:ttyS0".parse()?).await?;
        println!("serving at {port}");

        let remote = Remote::connect(runtime.clone(), board, port, RemoteOptions::new()).await?;
        let bus = Bus::with_runtime(remote, runtime);

        let mut readings = bus.subscribe("sensors.*").await?;
        bus.publish("sensors.door", "open").await?;
        let reading = readings.next_delivery().await?;
        assert_eq!(reading.payload(), "open");
        println!("received: {} is open", reading.message().topic());

        bus.send("jobs", "close the door").await?;
        let mut jobs = bus.consume("jobs").await?;
        let job = jobs.next_delivery().await?;
        assert_eq!(job.payload(), "close the door");
        job.ack();
        jobs.settled().await?;
        println!("done: one job");

        let mut responder = bus.serve("door.state").open().await?;
        let answering = async {
            let request = responder.recv().await?.ok_or_else(|| Error::closed("the door"))?;
            request.reply("closed").await
        };
        let asking = bus.request("door.state", "").into_future();
        let ((), reply) = smol::future::try_zip(answering, asking).await?;
        assert_eq!(reply.payload(), "closed");
        println!("replied: the door is closed");
        Ok(())
    })
}
