//! Connections that are cut, and nodes that go and come back.

use std::time::Duration;

use posthaste_conformance::Executor;
use posthaste_core::runtime::timeout_at;
use posthaste_core::{
    Ack, Broker, Bus, Delivery, ErrorKind, Message, Receiver, ReceiverExt, SenderExt,
    SenderOptions, SharedRuntime, Subscription, Topic,
};
use posthaste_servers::Proxy;
use posthaste_servers::executors::{OnSmol, OnTokio};
use posthaste_zmtp::{Zmtp, ZmtpOptions};

/// Runs a test on tokio and on smol.
fn on_both(test: impl AsyncFn(SharedRuntime)) {
    let (tokio, smol) = (OnTokio::threads(), OnSmol::default());
    for executor in [&tokio as &dyn Executor, &smol] {
        let runtime = executor.runtime().unwrap();
        executor.block_on(Box::pin(test(runtime)));
    }
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

/// A node that binds, a proxy in front of it, and a node that is connected through that.
async fn through_a_proxy(runtime: &SharedRuntime) -> (Zmtp, Proxy, Zmtp) {
    let bound = Zmtp::open(runtime.clone(), "zmtp+tcp://127.0.0.1:0?bind").await.unwrap();
    let proxy = Proxy::to(bound.endpoints()[0].address()).unwrap();
    let url = format!("zmtp+tcp://{}", proxy.address());
    let connected = Zmtp::open(runtime.clone(), &url).await.unwrap();
    (bound, proxy, connected)
}

async fn within(
    runtime: &SharedRuntime,
    receiver: &mut (impl Receiver + ?Sized),
    millis: u64,
) -> Option<Delivery> {
    let deadline = runtime.now() + Duration::from_millis(millis);
    let came = timeout_at(&**runtime, deadline, receiver.recv()).await?;
    Some(came.unwrap().expect("the receiver has ended"))
}

#[test]
fn subscriptions_come_back_after_every_cut() {
    on_both(async |runtime| {
        let (bound, proxy, connected) = through_a_proxy(&runtime).await;
        let mut news = connected.receiver(Subscription::topic("news.*").unwrap()).await.unwrap();
        let mut sender = bound.sender(SenderOptions::new()).await.unwrap();
        let mut number = 0;
        for bytes in [0, 40, 64, 100, 200, 500] {
            proxy.cut_after(bytes);
            proxy.cut();
            // Until one comes again; what is published meanwhile matches nobody, or is lost.
            let mut came = None;
            for _ in 0..2_000 {
                number += 1;
                let message = Message::new(topic("news.eu"), format!("{number}"));
                sender.send(message).await.unwrap();
                came = within(&runtime, &mut news, 10).await;
                if came.is_some() {
                    break;
                }
            }
            assert!(came.is_some(), "nothing came after a cut at {bytes} bytes");
        }
        assert!(bound.sends().unwrap().is_balanced());
    });
}

#[test]
fn a_queue_holds_while_its_consumer_is_cut_off() {
    on_both(async |runtime| {
        let (bound, proxy, connected) = through_a_proxy(&runtime).await;
        let jobs = Subscription::queue("jobs").unwrap().ack(Ack::Auto);
        let mut jobs = connected.receiver(jobs).await.unwrap();
        let mut sender = bound.sender(SenderOptions::new()).await.unwrap();
        let send = async |sender: &mut posthaste_core::BoxSender, number: u32| {
            let message = Message::to_queue(topic("jobs"), number.to_string());
            sender.send(message).await.unwrap();
        };
        send(&mut sender, 0).await;
        assert_eq!(within(&runtime, &mut jobs, 15_000).await.unwrap().payload(), "0");
        proxy.refuse(true);
        proxy.cut();
        for number in 1..=100 {
            send(&mut sender, number).await;
        }
        proxy.refuse(false);
        // What was written before the cut was known is lost with the connection; of the rest
        // nothing is, and it comes in order.
        let mut last = 0;
        while last < 100 {
            let came = within(&runtime, &mut jobs, 15_000).await.expect("nothing came any more");
            let number = std::str::from_utf8(came.payload()).unwrap().parse().unwrap();
            assert!(number > last, "{number} came after {last}");
            last = number;
        }
    });
}

#[test]
fn who_asks_is_told_that_the_responder_is_lost() {
    on_both(async |runtime| {
        let (bound, proxy, connected) = through_a_proxy(&runtime).await;
        let responder = Bus::with_runtime(connected, runtime.clone());
        let asker = Bus::with_runtime(bound, runtime.clone());
        let mut responder = responder.serve("sum").open().await.unwrap();
        let asking = async { asker.request("sum", "1").await };
        let losing = async {
            let request = responder.recv().await.unwrap().unwrap();
            proxy.cut();
            request
        };
        let (asked, _request) = futures::future::join(asking, losing).await;
        let error = asked.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
        assert!(error.to_string().contains("lost"), "{error}");
    });
}

#[test]
fn a_node_that_is_started_later_is_waited_for() {
    on_both(async |runtime| {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("zmtp").display().to_string();
        let connected = Zmtp::open(runtime.clone(), &format!("zmtp+unix:{place}")).await.unwrap();
        let mut sender = connected.sender(SenderOptions::new()).await.unwrap();
        let sending = sender.send(Message::to_queue(topic("jobs"), "early"));
        let consuming = async {
            let url = format!("zmtp+unix:{place}?bind");
            let bound = Zmtp::open(runtime.clone(), &url).await.unwrap();
            let jobs = Subscription::queue("jobs").unwrap().ack(Ack::Auto);
            let mut jobs = bound.receiver(jobs).await.unwrap();
            within(&runtime, &mut jobs, 15_000).await.unwrap().message().payload().clone()
        };
        let (sent, came) = futures::future::join(sending, consuming).await;
        assert_eq!((sent.unwrap().matched, &came[..]), (1, &b"early"[..]));
    });
}

#[test]
fn a_full_queue_holds_its_sender_up_and_takes_more_when_there_is_room() {
    on_both(async |runtime| {
        let options = ZmtpOptions::new().bind("tcp://127.0.0.1:0".parse().unwrap()).high_water(10);
        let bound = Zmtp::start(runtime.clone(), options).await.unwrap();
        let options = SenderOptions::new().window(4, 1 << 20);
        let mut sender = bound.sender(options).await.unwrap();
        let message = |number: u32| Message::to_queue(topic("jobs"), number.to_string());
        let mut taken = 0;
        let mut slot = Some(message(0));
        let waits = Duration::from_millis(100);
        // Ten in the queue, and what the sender may have on its way there.
        while timeout_at(&*runtime, runtime.now() + waits, sender.send_from(&mut slot))
            .await
            .map(Result::unwrap)
            .is_some()
        {
            taken += 1;
            assert!(taken <= 14, "a queue for 10 took {taken}");
            slot = Some(message(taken));
        }
        assert!(taken >= 10, "a queue for 10 took {taken}");
        let url = format!("zmtp+{}", bound.endpoints()[0]);
        let connected = Zmtp::open(runtime.clone(), &url).await.unwrap();
        let jobs = Subscription::queue("jobs").unwrap().ack(Ack::Auto);
        let mut jobs = connected.receiver(jobs).await.unwrap();
        sender.send_from(&mut slot).await.unwrap();
        sender.flush().await.unwrap();
        for number in 0..=taken {
            let came = within(&runtime, &mut jobs, 15_000).await.unwrap();
            assert_eq!(*came.payload(), number.to_string());
        }
    });
}
