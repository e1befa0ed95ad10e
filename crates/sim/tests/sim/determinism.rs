//! The same seed, the same world: in this process, and in another one.

use std::process::Command;
use std::time::Duration;

use posthaste_core::transport::Endpoint;
use posthaste_core::{Broker, ReceiverExt, SenderExt, SenderOptions};
use posthaste_core::{Bus, Message, Subscription, Topic};
use posthaste_link::{Remote, RemoteOptions, Server, ServerOptions};
use posthaste_memory::Memory;
use posthaste_sim::{Faults, Node, Sim, World};

/// A broker that dies, a sender and a consumer that reconnect.
async fn scenario(world: World) {
    world.node("broker").mortal().start(|node| async move {
        let memory = Memory::with_runtime(node.runtime());
        let server = Server::new(node.runtime(), memory, ServerOptions::new());
        let here = "sim://broker:7000".parse().unwrap();
        server.listen(node.transport(), here).await.unwrap();
        std::future::pending::<()>().await;
    });
    let sender = world.node("sender").start(|node| async move {
        let remote = connect(&node).await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..20 {
            let job = Message::to_queue(Topic::new("jobs").unwrap(), number.to_string());
            let _ = sender.send(job).await;
            node.sleep(Duration::from_millis(node.random(400))).await;
        }
    });
    world.node("consumer").start(|node| async move {
        let remote = connect(&node).await;
        let jobs = Subscription::queue("jobs").unwrap().prefetch(3);
        let mut receiver = remote.receiver(jobs).await.unwrap();
        while let Ok(delivery) = receiver.next_delivery().await {
            match node.random(4) {
                0 => drop(delivery),
                _ => delivery.ack(),
            }
        }
    });
    sender.finished().await;
    world.healed().await;
    let ledger = Bus::new(connect(&world.node("auditor")).await).ledger().await.unwrap();
    assert!(ledger.is_balanced());
}

async fn connect(node: &Node) -> impl Broker + use<> {
    let there: Endpoint = "sim://broker:7000".parse().unwrap();
    loop {
        let (runtime, transport) = (node.runtime(), node.transport());
        let options = RemoteOptions::new();
        if let Ok(remote) = Remote::connect(runtime, transport, there.clone(), options).await {
            return node.record(remote);
        }
    }
}

fn sim() -> Sim {
    Sim::new().faults(Faults::rough())
}

#[test]
fn two_hundred_seeds_run_twice_are_the_same_to_the_last_byte() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let (first, second) = (sim().one(seed, scenario), sim().one(seed, scenario));
        assert!(first.failure.is_none(), "{}", first.failure.unwrap());
        assert_eq!((first.hash, first.steps), (second.hash, second.steps), "seed {seed}");
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 200, "different seeds are the same world");
}

const CHILD: &str = "POSTHASTE_SIM_TEST_CHILD";

#[test]
fn a_seed_is_the_same_world_in_another_process() {
    let report = sim().seeds(1_000..1_040).run(scenario);
    if std::env::var_os(CHILD).is_some() {
        #[expect(clippy::print_stdout, reason = "this process is asked for it")]
        {
            println!("hash={:016x}", report.hash);
        }
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "determinism::a_seed_is_the_same_world_in_another_process",
            "--exact",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains(&format!("hash={:016x}", report.hash)), "{said}");
}
