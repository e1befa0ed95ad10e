//! Peers that go and come back.

use posthaste_core::{Broker, Message, SenderExt, Subscription};

use crate::Env;
use crate::pairs::{sender, topic, until_heard};
use crate::peer::Peer;

pub(crate) async fn a_subscription_comes_back(env: Env) {
    if env.meeting.we_bind {
        return;
    }
    let (node, mut peer) = env.meet("PUB", "sub", "").await;
    let mut probes = node.receiver(Subscription::topic("probe").unwrap()).await.unwrap();
    until_heard(&env.runtime, &mut peer, &mut probes).await;
    let at = peer.at().to_owned();
    drop(peer);
    let mut again = Peer::start("PUB", "bind", &at, "").await;
    until_heard(&env.runtime, &mut again, &mut probes).await;
}

pub(crate) async fn a_queue_holds_while_its_puller_is_away(env: Env) {
    if !env.meeting.we_bind {
        return;
    }
    let (node, mut peer) = env.meet("PULL", "push", "").await;
    let mut sender = sender(&node).await;
    sender.send(Message::to_queue(topic("jobs"), "1")).await.unwrap();
    assert_eq!(peer.recv().await, ["jobs", "1"]);
    let at = peer.at().to_owned();
    // It has ended when this returns, and with it its connection.
    drop(peer);
    let again = Peer::start("PULL", "connect", &at, "").await;
    let mut again = again;
    for number in 2..20 {
        sender.send(Message::to_queue(topic("jobs"), number.to_string())).await.unwrap();
    }
    // What was written into the connection of the one that ended is lost, as ZeroMQ has it; what
    // waited was not.
    let mut last = again.recv().await;
    while last[1] != "19" {
        last = again.recv().await;
    }
}
