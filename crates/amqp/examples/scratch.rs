use futures::future::join_all;
use posthaste_amqp::Amqp;
use posthaste_core::*;
use posthaste_smol::Smol;
fn main() {
    smol::block_on(async {
        let url = std::env::args().nth(1).unwrap();
        let a = Amqp::connect(Smol::global(), &url).await.unwrap();
        let b = Amqp::connect(Smol::global(), &url).await.unwrap();
        let bus = Bus::with_runtime(a, Smol::global().into());
        let peer = Bus::with_runtime(b, Smol::global().into());
        let mut r = peer.serve("service.x").open().await.unwrap();
        let asks = join_all((0..8).map(|n| {
            let bus = bus.clone();
            async move {
                let e = bus
                    .request("service.x", format!("{n}"))
                    .within(std::time::Duration::from_secs(5))
                    .await;
                println!("{n}: {e:?}");
            }
        }));
        let serve = async {
            let held = r.recv().await.unwrap().unwrap();
            println!("held {:?}", held);
            drop(r);
            drop(held);
        };
        futures::join!(asks, serve);
    })
}
