//! tarpc, as its readme has it: a service, a server that spawns each request's handler, and a
//! client, over its TCP and Unix transports with bincode. Its channel may hold more requests than
//! are ever in flight here.

use anyhow::{Result, bail};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tarpc::serde_transport::{tcp, unix};
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{ClientMessage, Response, Transport, client, context};

use crate::peer::{Api, Contender, Peer};
use crate::socket::unix_path;
use crate::stage::{Meter, Stage};
use crate::work::{self, Executor, Work};

/// The peer.
pub(crate) struct Tarpc;

#[tarpc::service]
trait Echo {
    /// Answers what it was asked.
    async fn echo(payload: Vec<u8>) -> Vec<u8>;
}

#[derive(Clone)]
struct Echoing;

impl Echo for Echoing {
    async fn echo(self, _: context::Context, payload: Vec<u8>) -> Vec<u8> {
        payload
    }
}

impl Peer for Tarpc {
    fn name(&self) -> &'static str {
        "tarpc"
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        match work {
            Work::Request { .. } => [Executor::TokioMt, Executor::TokioCt]
                .map(|executor| Contender::request(self.name(), "", Api::One, executor))
                .into(),
            _ => Vec::new(),
        }
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        let (stage, meter) = (stage.clone(), stage.meter());
        stage.clone().run(|_| async move {
            match stage.script().role.as_str() {
                "server" => serve(&stage).await,
                "client" => ask(&stage, meter).await,
                role => bail!("tarpc has no {role}"),
            }
        })
    }
}

async fn serve(stage: &Stage) -> Result<()> {
    match stage.script().work.transport() {
        work::Transport::Tcp => {
            let mut listener = tcp::listen("127.0.0.1:0", Bincode::default).await?;
            stage.ready(listener.local_addr().to_string());
            let connected = listener.next().await.transpose()?;
            answer(connected).await
        }
        work::Transport::Unix => {
            let path = unix_path(stage.script());
            let mut listener = unix::listen(&path, Bincode::default).await?;
            stage.ready(path);
            let connected = listener.next().await.transpose()?;
            answer(connected).await
        }
    }
}

async fn answer<T>(transport: Option<T>) -> Result<()>
where
    T: Transport<Response<EchoResponse>, ClientMessage<EchoRequest>> + Send + 'static,
{
    if let Some(transport) = transport {
        spawn_each(BaseChannel::with_defaults(transport).execute(Echoing.serve())).await;
    }
    bail!("the client is gone")
}

async fn spawn_each<S, F>(handlers: S)
where
    S: Stream<Item = F>,
    F: Future<Output = ()> + Send + 'static,
{
    handlers.for_each(async |handler| drop(tokio::spawn(handler))).await;
}

async fn ask(stage: &Stage, meter: Meter) -> Result<()> {
    let address = stage.address_of("server")?;
    let config = client::Config::default();
    let client = match stage.script().work.transport() {
        work::Transport::Tcp => {
            EchoClient::new(config, tcp::connect(address, Bincode::default).await?).spawn()
        }
        work::Transport::Unix => {
            EchoClient::new(config, unix::connect(address, Bincode::default).await?).spawn()
        }
    };
    stage.ready("");
    let payload = stage.payload();
    let mut answers = stream::repeat(())
        .map(|()| echo(&client, &payload))
        .buffer_unordered(stage.script().work.in_flight());
    while let Some(answer) = answers.next().await {
        answer?;
        meter.add(1);
    }
    Ok(())
}

async fn echo(client: &EchoClient, payload: &Bytes) -> Result<Vec<u8>> {
    Ok(client.echo(context::current(), payload.to_vec()).await?)
}
