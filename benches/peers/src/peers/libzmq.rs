//! libzmq, ZeroMQ's C library, as its own `local_thr`, `remote_thr`, `local_lat` and `remote_lat`
//! drive it: blocking calls on one thread beside the library's own, which gathers messages into
//! batches by itself. High-water marks are raised so that it is not they that bound it.

use anyhow::Result;

use crate::peer::{Api, Contender, Peer};
use crate::stage::Stage;
use crate::work::{Executor, Via, Work};

/// The peer.
pub(crate) struct Libzmq;

impl Peer for Libzmq {
    fn name(&self) -> &'static str {
        "libzmq"
    }

    #[cfg(feature = "libzmq")]
    fn version(&self) -> Option<String> {
        let (major, minor, patch) = zmq::version();
        Some(format!("{major}.{minor}.{patch}"))
    }

    fn missing(&self) -> Option<String> {
        (!cfg!(feature = "libzmq")).then(|| {
            "built without the feature libzmq; run benches/peers/install and build with it".into()
        })
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        let (peer, executor) = (self.name(), Executor::Threads);
        match work {
            Work::Stream { .. } => {
                vec![Contender::stream(peer, "push/pull", Api::One, executor)]
            }
            Work::Request { in_flight: 1, .. } => {
                vec![Contender::request(peer, "req/rep", Api::One, executor)]
            }
            Work::Request { .. } | Work::Paced { via: Via::Direct, .. } => {
                vec![Contender::request(peer, "dealer/router", Api::One, executor)]
            }
            _ => Vec::new(),
        }
    }

    #[cfg(feature = "libzmq")]
    fn play(&self, stage: &Stage) -> Result<()> {
        driven::play(stage)
    }

    #[cfg(not(feature = "libzmq"))]
    fn play(&self, _: &Stage) -> Result<()> {
        anyhow::bail!("this was built without libzmq")
    }
}

#[cfg(feature = "libzmq")]
mod driven {
    use std::collections::VecDeque;
    use std::os::fd::AsRawFd;

    use anyhow::{Context, Result, bail};
    use zmq::{Message, PollItem, Socket, SocketType};

    use crate::pacer::Pacer;
    use crate::socket::unix_path;
    use crate::stage::{Meter, Stage};
    use crate::work::Transport;

    /// How many bytes may wait at each end, about, and how many messages at most.
    const WAITING_BYTES: usize = 64 << 20;
    const WAITING_MESSAGES: usize = 100_000;

    pub(super) fn play(stage: &Stage) -> Result<()> {
        let context = zmq::Context::new();
        let meter = stage.meter();
        let in_flight = match stage.script().rate {
            Some(_) => usize::MAX,
            None => stage.script().work.in_flight(),
        };
        match (stage.script().role.as_str(), in_flight) {
            ("receiver", _) => receive(&bind(stage, &context, zmq::PULL)?, &meter),
            ("sender", _) => {
                let socket = connect(stage, &context, zmq::PUSH, "receiver")?;
                send(&socket, &stage.payload(), &meter)
            }
            ("server", 1) => answer(&bind(stage, &context, zmq::REP)?),
            ("client", 1) => {
                let socket = connect(stage, &context, zmq::REQ, "server")?;
                ask(&socket, &stage.payload(), &meter)
            }
            ("server", _) => route(&bind(stage, &context, zmq::ROUTER)?),
            ("client", usize::MAX) => {
                pace(stage, &connect(stage, &context, zmq::DEALER, "server")?)
            }
            ("client", _) => {
                let socket = connect(stage, &context, zmq::DEALER, "server")?;
                deal(&socket, &stage.payload(), in_flight, &meter)
            }
            (role, _) => bail!("libzmq has no {role}"),
        }
    }

    fn bind(stage: &Stage, context: &zmq::Context, kind: SocketType) -> Result<Socket> {
        let socket = open(stage, context, kind)?;
        socket.bind(&match stage.script().work.transport() {
            Transport::Tcp => "tcp://127.0.0.1:*".to_owned(),
            Transport::Unix => format!("ipc://{}", unix_path(stage.script())),
        })?;
        let endpoint = socket.get_last_endpoint()?;
        stage.ready(endpoint.ok().context("an endpoint is UTF-8")?);
        Ok(socket)
    }

    fn connect(
        stage: &Stage,
        context: &zmq::Context,
        kind: SocketType,
        to: &str,
    ) -> Result<Socket> {
        let socket = open(stage, context, kind)?;
        socket.connect(stage.address_of(to)?)?;
        stage.ready("");
        Ok(socket)
    }

    fn open(stage: &Stage, context: &zmq::Context, kind: SocketType) -> Result<Socket> {
        let socket = context.socket(kind)?;
        let messages = (WAITING_BYTES / stage.script().work.size()).min(WAITING_MESSAGES);
        let messages = i32::try_from(messages)?;
        socket.set_sndhwm(messages)?;
        socket.set_rcvhwm(messages)?;
        Ok(socket)
    }

    fn send(socket: &Socket, payload: &[u8], meter: &Meter) -> Result<()> {
        loop {
            socket.send(payload, 0)?;
            meter.add(1);
        }
    }

    fn receive(socket: &Socket, meter: &Meter) -> Result<()> {
        let mut message = Message::new();
        loop {
            socket.recv(&mut message, 0)?;
            meter.add(1);
        }
    }

    fn ask(socket: &Socket, payload: &[u8], meter: &Meter) -> Result<()> {
        let mut message = Message::new();
        loop {
            socket.send(payload, 0)?;
            socket.recv(&mut message, 0)?;
            meter.add(1);
        }
    }

    fn answer(socket: &Socket) -> Result<()> {
        loop {
            let mut message = Message::new();
            socket.recv(&mut message, 0)?;
            socket.send(message, 0)?;
        }
    }

    /// A dealer sends as it likes; what tells requests apart is theirs to carry, as here in order.
    fn deal(socket: &Socket, payload: &[u8], in_flight: usize, meter: &Meter) -> Result<()> {
        let mut message = Message::new();
        for _ in 0..in_flight {
            socket.send(payload, 0)?;
        }
        loop {
            socket.recv(&mut message, 0)?;
            meter.add(1);
            socket.send(payload, 0)?;
        }
    }

    /// At a fixed rate. One server answers in the order in which it was asked.
    fn pace(stage: &Stage, socket: &Socket) -> Result<()> {
        let (payload, mut answers) = (stage.payload(), stage.answers());
        let mut pacer = Pacer::start(stage)?;
        let mut unanswered = VecDeque::new();
        let mut message = Message::new();
        loop {
            for nth in pacer.take(unanswered.len()) {
                socket.send(&payload[..], 0)?;
                unanswered.push_back(pacer.due(nth));
            }
            let mut taken = 0;
            while socket.recv(&mut message, zmq::DONTWAIT).is_ok() {
                let due = unanswered.pop_front().context("an answer that nobody asked for")?;
                answers.record(pacer.since(due));
                taken += 1;
            }
            if taken > 0 {
                continue;
            }
            pacer.arm()?;
            let timer = PollItem::from_fd(pacer.timer().as_raw_fd(), zmq::POLLIN);
            let mut ready = [socket.as_poll_item(zmq::POLLIN), timer];
            let asks = if Pacer::is_full(unanswered.len()) { 1 } else { 2 };
            zmq::poll(&mut ready[..asks], -1)?;
        }
    }

    /// A router receives who asks, then what, and sends both back.
    fn route(socket: &Socket) -> Result<()> {
        loop {
            let (mut who, mut what) = (Message::new(), Message::new());
            socket.recv(&mut who, 0)?;
            socket.recv(&mut what, 0)?;
            socket.send(who, zmq::SNDMORE)?;
            socket.send(what, 0)?;
        }
    }
}
