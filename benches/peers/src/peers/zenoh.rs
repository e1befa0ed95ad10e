//! zenoh between two of its peers, as its `z_pub_thr`, `z_sub_thr`, `z_ping` and `z_pong` drive it:
//! a declared publisher that blocks on congestion, a subscriber with a callback, batching for
//! streams and express messages for round trips. Many requests in flight are `get`s answered by a
//! queryable. It brings an executor of its own.

use anyhow::Result;

use crate::peer::{Api, Contender, Peer};
use crate::stage::Stage;
use crate::work::{Executor, Work};

/// The peer.
pub(crate) struct Zenoh;

impl Peer for Zenoh {
    fn name(&self) -> &'static str {
        "zenoh"
    }

    fn missing(&self) -> Option<String> {
        (!cfg!(feature = "zenoh")).then(|| "built without the feature zenoh".into())
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        let (peer, executor) = (self.name(), Executor::Threads);
        match work {
            Work::Stream { .. } => {
                vec![Contender::stream(peer, "put/callback", Api::One, executor)]
            }
            Work::Request { in_flight: 1, .. } => {
                vec![Contender::request(peer, "ping/pong", Api::One, executor)]
            }
            Work::Request { .. } => {
                vec![Contender::request(peer, "get/queryable", Api::One, executor)]
            }
            _ => Vec::new(),
        }
    }

    #[cfg(feature = "zenoh")]
    fn play(&self, stage: &Stage) -> Result<()> {
        driven::play(stage)
    }

    #[cfg(not(feature = "zenoh"))]
    fn play(&self, _: &Stage) -> Result<()> {
        anyhow::bail!("this was built without zenoh")
    }
}

#[cfg(feature = "zenoh")]
mod driven {
    use std::sync::mpsc::sync_channel;

    use anyhow::{Result, anyhow, bail};
    use futures::{StreamExt, stream};
    use zenoh::bytes::ZBytes;
    use zenoh::pubsub::Publisher;
    use zenoh::qos::CongestionControl;
    use zenoh::query::ConsolidationMode;
    use zenoh::{Config, Session, Wait};

    use crate::socket::unix_path;
    use crate::stage::{Meter, Stage};
    use crate::work::Transport;

    const STREAM: &str = "bench/stream";
    const PING: &str = "bench/ping";
    const PONG: &str = "bench/pong";
    const ECHO: &str = "bench/echo";

    pub(super) fn play(stage: &Stage) -> Result<()> {
        let listens = matches!(stage.script().role.as_str(), "receiver" | "server");
        let (session, address) = if listens { listen(stage)? } else { connect(stage)? };
        let meter = stage.meter();
        match (stage.script().role.as_str(), stage.script().work.in_flight()) {
            ("receiver", _) => {
                let counting = session.declare_subscriber(STREAM).callback(move |_| meter.add(1));
                let _counting = counting.wait().map_err(|error| anyhow!(error))?;
                stage.ready(address);
                forever()
            }
            ("sender", _) => {
                let publisher = publisher(&session, STREAM, false)?;
                let payload = ZBytes::from(stage.payload());
                stage.ready("");
                loop {
                    put(&publisher, payload.clone())?;
                    meter.add(1);
                }
            }
            ("server", 1) => {
                let publisher = publisher(&session, PONG, true)?;
                let answering = session.declare_subscriber(PING).callback(move |ping| {
                    if let Err(error) = put(&publisher, ping.payload().clone()) {
                        crate::stage::fail(&error);
                    }
                });
                let _answering = answering.wait().map_err(|error| anyhow!(error))?;
                stage.ready(address);
                forever()
            }
            ("client", 1) => ping(stage, &session, &meter),
            ("server", _) => {
                let answering = session.declare_queryable(ECHO).callback(|query| {
                    let payload = query.payload().cloned().unwrap_or_default();
                    if let Err(error) = query.reply(ECHO, payload).wait() {
                        crate::stage::fail(&anyhow!(error));
                    }
                });
                let _answering = answering.wait().map_err(|error| anyhow!(error))?;
                stage.ready(address);
                forever()
            }
            ("client", in_flight) => get(stage, &session, in_flight, &meter),
            (role, _) => bail!("zenoh has no {role}"),
        }
    }

    fn listen(stage: &Stage) -> Result<(Session, String)> {
        let address = match stage.script().work.transport() {
            Transport::Tcp => format!("tcp/{}", crate::server::free_address()?),
            Transport::Unix => format!("unixsock-stream/{}", unix_path(stage.script())),
        };
        Ok((open(&[("listen/endpoints", &address)])?, address))
    }

    fn connect(stage: &Stage) -> Result<(Session, String)> {
        let peer = if stage.script().role == "sender" { "receiver" } else { "server" };
        let to = stage.address_of(peer)?;
        Ok((open(&[("connect/endpoints", to)])?, String::new()))
    }

    /// Two peers that know each other and look for nobody else.
    fn open(endpoints: &[(&str, &str)]) -> Result<Session> {
        let mut config = Config::default();
        let mut set = |key: &str, value: &str| {
            let set = config.insert_json5(key, value);
            set.map_err(|error| anyhow!("zenoh refuses {key}: {error}"))
        };
        set("mode", "\"peer\"")?;
        set("scouting/multicast/enabled", "false")?;
        if endpoints.iter().all(|(key, _)| *key != "listen/endpoints") {
            set("listen/endpoints", "[]")?;
        }
        for (key, address) in endpoints {
            set(key, &format!("[{address:?}]"))?;
        }
        zenoh::open(config).wait().map_err(|error| anyhow!(error))
    }

    fn publisher(
        session: &Session,
        key: &'static str,
        express: bool,
    ) -> Result<Publisher<'static>> {
        let publisher = session.declare_publisher(key);
        let publisher = publisher.congestion_control(CongestionControl::Block).express(express);
        publisher.wait().map_err(|error| anyhow!(error))
    }

    fn put(publisher: &Publisher<'_>, payload: ZBytes) -> Result<()> {
        publisher.put(payload).wait().map_err(|error| anyhow!(error))
    }

    fn ping(stage: &Stage, session: &Session, meter: &Meter) -> Result<()> {
        let (tell, told) = sync_channel(1);
        let subscriber = session.declare_subscriber(PONG).callback(move |_| {
            // Whoever waits for it is the one that sent the ping.
            let _ = tell.send(());
        });
        let _subscriber = subscriber.wait().map_err(|error| anyhow!(error))?;
        let publisher = publisher(session, PING, true)?;
        let payload = ZBytes::from(stage.payload());
        stage.ready("");
        // The other peer's subscription is heard of soon; until then a ping goes nowhere.
        while told.recv_timeout(std::time::Duration::from_millis(100)).is_err() {
            put(&publisher, payload.clone())?;
        }
        loop {
            put(&publisher, payload.clone())?;
            told.recv()?;
            meter.add(1);
        }
    }

    fn get(stage: &Stage, session: &Session, in_flight: usize, meter: &Meter) -> Result<()> {
        let payload = ZBytes::from(stage.payload());
        stage.ready("");
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let ask = async || {
            let ask = session.get(ECHO).payload(payload.clone());
            let replies = ask.consolidation(ConsolidationMode::None).await;
            let replies = replies.map_err(|error| anyhow!(error))?;
            // Before the queryable is heard of there is nobody to answer.
            let mut answered = 0;
            while replies.recv_async().await.is_ok() {
                answered += 1;
            }
            Ok::<_, anyhow::Error>(answered)
        };
        runtime.block_on(async {
            let mut answers = stream::repeat(()).map(|()| ask()).buffer_unordered(in_flight);
            while let Some(answered) = answers.next().await {
                meter.add(answered?);
            }
            Ok(())
        })
    }

    fn forever() -> ! {
        loop {
            std::thread::park();
        }
    }
}
