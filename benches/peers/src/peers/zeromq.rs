//! zmq.rs, the `zeromq` crate: ZeroMQ's protocol in Rust on tokio, with the sockets and the loops
//! of its own `benches/`.

use anyhow::{Result, bail};
use bytes::Bytes;
use zeromq::{
    DealerSocket, PullSocket, PushSocket, RepSocket, ReqSocket, RouterSocket, Socket, SocketRecv,
    SocketSend, ZmqMessage,
};

use crate::peer::{Api, Contender, Peer};
use crate::socket::unix_path;
use crate::stage::{Meter, Stage};
use crate::work::{Executor, Transport, Work};

/// The peer.
pub(crate) struct ZmqRs;

impl Peer for ZmqRs {
    fn name(&self) -> &'static str {
        "zmq.rs"
    }

    fn version(&self) -> Option<String> {
        crate::versions::of_crate("zeromq")
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        let peer = self.name();
        let tokio = [Executor::TokioMt, Executor::TokioCt];
        let contender = |executor| match work {
            Work::Stream { .. } => Some(Contender::stream(peer, "push/pull", Api::One, executor)),
            Work::Request { in_flight: 1, .. } => {
                Some(Contender::request(peer, "req/rep", Api::One, executor))
            }
            Work::Request { .. } => {
                Some(Contender::request(peer, "dealer/router", Api::One, executor))
            }
            _ => None,
        };
        tokio.into_iter().filter_map(contender).collect()
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        let (stage, in_flight) = (stage.clone(), stage.script().work.in_flight());
        let (meter, payload) = (stage.meter(), stage.payload());
        stage.clone().run(move |_| async move {
            match (stage.script().role.as_str(), in_flight) {
                ("receiver", _) => {
                    let mut socket: PullSocket = bind(&stage).await?;
                    loop {
                        socket.recv().await?;
                        meter.add(1);
                    }
                }
                ("sender", _) => {
                    let mut socket: PushSocket = connect(&stage, "receiver").await?;
                    loop {
                        socket.send(ZmqMessage::from(payload.clone())).await?;
                        meter.add(1);
                    }
                }
                ("server", 1) => {
                    let mut socket: RepSocket = bind(&stage).await?;
                    loop {
                        let request = socket.recv().await?;
                        socket.send(request).await?;
                    }
                }
                ("client", 1) => {
                    let mut socket: ReqSocket = connect(&stage, "server").await?;
                    loop {
                        socket.send(ZmqMessage::from(payload.clone())).await?;
                        socket.recv().await?;
                        meter.add(1);
                    }
                }
                ("server", _) => {
                    let mut socket: RouterSocket = bind(&stage).await?;
                    loop {
                        let request = socket.recv().await?;
                        socket.send(request).await?;
                    }
                }
                ("client", _) => {
                    let socket = connect(&stage, "server").await?;
                    deal(socket, payload, in_flight, meter).await
                }
                (role, _) => bail!("zmq.rs has no {role}"),
            }
        })
    }
}

async fn deal(
    mut socket: DealerSocket,
    payload: Bytes,
    in_flight: usize,
    meter: Meter,
) -> Result<()> {
    for _ in 0..in_flight {
        socket.send(ZmqMessage::from(payload.clone())).await?;
    }
    loop {
        socket.recv().await?;
        meter.add(1);
        socket.send(ZmqMessage::from(payload.clone())).await?;
    }
}

async fn bind<S: Socket>(stage: &Stage) -> Result<S> {
    let mut socket = S::new();
    let endpoint = match stage.script().work.transport() {
        Transport::Tcp => "tcp://127.0.0.1:0".to_owned(),
        Transport::Unix => format!("ipc://{}", unix_path(stage.script())),
    };
    let bound = socket.bind(&endpoint).await?;
    stage.ready(bound.to_string());
    Ok(socket)
}

async fn connect<S: Socket>(stage: &Stage, to: &str) -> Result<S> {
    let mut socket = S::new();
    socket.connect(stage.address_of(to)?).await?;
    stage.ready("");
    Ok(socket)
}
