//! A request that is passed on and on: its deadline travels with it, and when nobody wants the
//! answer any more the work stops everywhere.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::StreamExt;
use futures::channel::mpsc::{Receiver, Sender, channel};
use posthaste::prelude::*;
use posthaste::{Memory, Message, Runtime, SharedRuntime};
use posthaste_conformance::Books;
use posthaste_tokio::Tokio;

const SERVICES: [&str; 3] = ["first", "second", "third"];

/// Tells that a handler is gone.
struct Working(&'static str, Sender<&'static str>);

impl Drop for Working {
    fn drop(&mut self) {
        let _nobody_listens = self.1.try_send(self.0);
    }
}

/// Three services, each asking the next one, the last one never done; each has a client of its own.
struct Chain {
    client: Bus,
    begun: Receiver<&'static str>,
    stopped: Receiver<&'static str>,
    deadlines: Arc<Mutex<Vec<Option<Instant>>>>,
    _books: Books,
    _server: Option<posthaste::Server>,
}

impl Chain {
    async fn over(url: Option<&str>) -> Self {
        let runtime: SharedRuntime = Tokio::current().into();
        let broker = Memory::with_runtime(runtime.clone());
        let books = Books::watch(broker.clone());
        let server = match url {
            None => None,
            Some(url) => {
                Some(posthaste::serve(runtime.clone(), broker.clone(), url).await.unwrap())
            }
        };
        let client = async || match &server {
            None => Bus::with_runtime(broker.clone(), runtime.clone()),
            Some(server) => {
                let url = server.endpoints()[0].to_string();
                posthaste::connect(runtime.clone(), url).await.unwrap()
            }
        };
        let (begin, begun) = channel(SERVICES.len());
        let (stop, stopped) = channel(SERVICES.len());
        let deadlines = Arc::new(Mutex::new(Vec::new()));
        for (at, name) in SERVICES.into_iter().enumerate() {
            let bus = client().await;
            let responder = bus.serve(name).open().await.unwrap();
            let (mut begin, stop, deadlines) =
                (begin.clone(), stop.clone(), Arc::clone(&deadlines));
            let serving = responder.run(move |request: Message| {
                let working = Working(name, stop.clone());
                deadlines.lock().unwrap().push(request.deadline());
                let _nobody_listens = begin.try_send(name);
                let bus = bus.clone();
                async move {
                    let _working = working;
                    match SERVICES.get(at + 1) {
                        Some(next) => {
                            let nested = bus.request(*next, "").deadline(request.deadline());
                            nested.await.map(posthaste::Reply::into_payload)
                        }
                        None => std::future::pending().await,
                    }
                }
            });
            runtime.spawn(Box::pin(async { drop(serving.await) }));
        }
        let client = client().await;
        Self { client, begun, stopped, deadlines, _books: books, _server: server }
    }

    async fn all_begin(&mut self) {
        for name in SERVICES {
            assert_eq!(self.begun.next().await, Some(name));
        }
    }

    async fn all_stop(&mut self) {
        let mut stopped = Vec::new();
        for _ in SERVICES {
            stopped.push(self.stopped.next().await.unwrap());
        }
        stopped.sort_unstable();
        assert_eq!(stopped, SERVICES);
    }
}

/// In process, and over both transports; a socket of its own for each.
async fn everywhere(test: impl AsyncFn(Chain)) {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("ph.sock").display());
    for url in [None, Some("tcp://127.0.0.1:0"), Some(&*socket)] {
        test(Chain::over(url).await).await;
    }
}

#[tokio::test]
async fn a_deadline_travels_over_three_hops_and_ends_the_work_at_each() {
    everywhere(async |mut chain| {
        let asked = Tokio::current().now();
        let within = Duration::from_millis(400);
        let asking = chain.client.request("first", "").within(within).await;
        assert_eq!(asking.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        chain.all_begin().await;
        chain.all_stop().await;
        // What travels is what is left, so a hop may add the time that it took, and no more.
        let latest = Tokio::current().now();
        for deadline in chain.deadlines.lock().unwrap().drain(..) {
            let deadline = deadline.expect("a deadline at every hop");
            assert!(deadline >= asked + within / 2 && deadline <= latest + within / 2);
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_request_stops_the_work_at_every_hop() {
    everywhere(async |mut chain| {
        let client = chain.client.clone();
        let mut asking = Box::pin(client.request("first", "").into_future());
        tokio::select! {
            _ = &mut asking => panic!("the last one is never done"),
            () = chain.all_begin() => {}
        }
        drop(asking);
        chain.all_stop().await;
        assert_eq!(client.late_replies(), 0);
    })
    .await;
}
