//! `posthaste request`: asks and prints the reply.

use std::ffi::OsString;
use std::future::IntoFuture;
use std::time::Duration;

use clap::Args;
use posthaste::{ErrorKind, Reconnect};

use crate::args::{BrokerArgs, PropertyArgs, ReconnectArgs, topic};
use crate::exit::{Code, Failure};
use crate::signals::Signals;
use crate::{connect, duration, input, output};

/// Send a request and print the reply
///
/// Prints the reply's payload and a newline. Exits with 5 at once if nobody is there to answer,
/// with 4 if no reply came in time, and with 1 and the responder's text on stderr if it failed. A
/// signal gives the request up, which its responder is told.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// The topic
    topic: String,
    /// The payload; without it, all of stdin (on a terminal: empty)
    #[arg(allow_negative_numbers = true)]
    payload: Option<OsString>,
    /// How long to wait for the reply
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    properties: PropertyArgs,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    reconnect: ReconnectArgs,
}

pub(crate) async fn run(args: RequestArgs) -> Result<(), Failure> {
    let topic = topic(&args.topic)?;
    let bus = connect::connect(&args.broker, Reconnect::For(args.reconnect.reconnect)).await?;
    let payload = input::payload(args.payload).await?;
    let mut signals = Signals::listen()?;
    let mut ask = bus.request(topic, payload).within(args.timeout);
    for (name, value) in args.properties.headers {
        ask = ask.header(name, value);
    }
    if let Some(key) = args.properties.key {
        ask = ask.key(key);
    }
    let answer = tokio::select! {
        answer = ask.into_future() => answer,
        () = signals.next() => {
            // The request is given up by now: the goodbye lets its responder know.
            connect::goodbye(&bus).await;
            return Err(Failure::new(Code::Failed, "interrupted before the reply came"));
        }
    };
    let reply = answer.map_err(|error| match error.kind() {
        ErrorKind::NoResponders => {
            let text = format!("no responders for {}: {error}", args.topic);
            Failure::new(Code::NoResponders, text)
        }
        _ => Failure::from(error),
    })?;
    let mut line = Vec::from(reply.into_payload());
    line.push(b'\n');
    output::write(&line)?;
    connect::goodbye(&bus).await;
    Ok(())
}
