//! Confirms wait a turn for what their messages lead to, and no longer.

use posthaste_core::{
    Ack, Broker, Message, ReceiverExt, SenderExt, SenderOptions, SharedRuntime, Subscription, Topic,
};
use posthaste_tokio::Tokio;
use posthaste_wire::{Event, Hop, Link, Role, fields};

use crate::support::{RawPeer, World, topic};

/// A client of its own making, with a link to send on and an inbox.
struct Asking {
    peer: RawPeer,
    sender: Link,
    address: Topic,
}

impl Asking {
    async fn of(world: &World) -> Self {
        let mut peer = RawPeer::connect(world).await;
        let sender = peer.session.open(Role::Sender, &[]).expect("a link is free");
        let mut options = Vec::new();
        fields::Writer::new(&mut options).bytes(4, &[]);
        let inbox = peer.session.open(Role::Receiver, &options).expect("a link is free");
        peer.session.grant(inbox, 1_000, 1 << 20);
        peer.write().await;
        let (mut address, mut credit) = (None, false);
        while address.is_none() || !credit {
            for event in events(&mut peer) {
                match event {
                    Event::Opened { link, info } if link == inbox => {
                        let fields = fields::Fields::new(&info).map(Result::unwrap);
                        let field = fields.into_iter().find(|field| field.tag() == 2).unwrap();
                        address = Some(Topic::new(field.str().unwrap()).unwrap());
                    }
                    Event::Credit { link } if link == sender => credit = true,
                    _ => {}
                }
            }
            if address.is_none() || !credit {
                assert!(peer.read().await, "the server has ended the connection");
            }
        }
        let address = address.expect("an inbox has an address");
        Self { peer, sender, address }
    }

    async fn send(&mut self, message: Message) {
        let parts = message.into_parts();
        let hop = Hop {
            attributes: parts.attributes,
            correlation: std::num::NonZeroU64::new(parts.correlation),
            ..Hop::default()
        };
        let session = &mut self.peer.session;
        session.transfer(self.sender, &hop, &parts.head, &parts.payload).expect("credit");
        self.peer.write().await;
    }

    /// What the next read brings: confirms and messages, in order.
    async fn next(&mut self) -> Vec<&'static str> {
        loop {
            assert!(self.peer.read().await, "the server has ended the connection");
            let told: Vec<_> = events(&mut self.peer)
                .iter()
                .filter_map(|event| match event {
                    Event::Confirm { .. } => Some("confirm"),
                    Event::Transfer { .. } => Some("reply"),
                    _ => None,
                })
                .collect();
            if !told.is_empty() {
                return told;
            }
        }
    }
}

fn events(peer: &mut RawPeer) -> Vec<Event> {
    std::iter::from_fn(|| peer.session.poll_event()).collect()
}

/// Runs a test where one thread takes all turns, one after the other.
fn in_turns(test: impl AsyncFnOnce(SharedRuntime)) {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runtime: SharedRuntime = Tokio::new(tokio.handle().clone()).into();
    tokio.block_on(test(runtime));
}

#[test]
fn a_confirm_goes_out_with_the_reply_that_its_request_leads_to() {
    in_turns(async |runtime| {
        let world = World::new(runtime.clone()).await;
        let service = Subscription::shared("work", "all").unwrap().ack(Ack::Manual);
        let mut responder = world.memory.receiver(service).await.unwrap();
        let mut replies = world.memory.sender(SenderOptions::new()).await.unwrap();
        runtime.spawn(Box::pin(async move {
            while let Ok(Some(request)) = responder.recv().await {
                let reply = request.message().reply("done").expect("a request");
                replies.send(reply).await.expect("the inbox is there");
                request.ack();
            }
        }));
        let mut client = Asking::of(&world).await;
        for number in 1..=10 {
            let to = client.address.clone();
            let request = Message::builder(topic("work")).reply_to(to, number).build().unwrap();
            client.send(request).await;
            assert_eq!(client.next().await, ["reply", "confirm"]);
        }
    });
}

#[test]
fn a_confirm_that_nothing_joins_goes_out_all_the_same() {
    in_turns(async |runtime| {
        let world = World::new(runtime).await;
        let mut client = Asking::of(&world).await;
        for _ in 0..10 {
            client.send(Message::new(topic("nobody.listens"), "x")).await;
            assert_eq!(client.next().await, ["confirm"]);
        }
    });
}
