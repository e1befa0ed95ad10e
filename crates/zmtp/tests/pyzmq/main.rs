//! Against libzmq, through pyzmq: every pair of sockets, either side binding, over TCP and over
//! Unix sockets, on tokio and on smol.

mod pairs;
mod peer;
mod reconnecting;
mod security;

use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};
use posthaste_conformance::{Executor, LocalFuture};
use posthaste_core::SharedRuntime;
use posthaste_servers::executors::{OnSmol, OnTokio};
use posthaste_zmtp::Zmtp;

use crate::peer::Peer;

/// Where two sides meet, and which of them binds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meeting {
    over_tcp: bool,
    /// Whether Posthaste binds.
    we_bind: bool,
}

/// What a test is run with.
pub(crate) struct Env {
    pub(crate) runtime: SharedRuntime,
    pub(crate) meeting: Meeting,
    pub(crate) folder: PathBuf,
}

type Test = fn(Env) -> LocalFuture<'static, ()>;

/// Every test, on every runtime and at every meeting.
const TESTS: &[(&str, Test)] = &[
    ("we_push_and_they_pull", |env| Box::pin(pairs::we_push_and_they_pull(env))),
    ("they_push_and_we_pull", |env| Box::pin(pairs::they_push_and_we_pull(env))),
    ("we_publish_and_they_subscribe", |env| Box::pin(pairs::we_publish_and_they_subscribe(env))),
    ("they_publish_and_we_subscribe", |env| Box::pin(pairs::they_publish_and_we_subscribe(env))),
    ("they_ask_with_req", |env| Box::pin(pairs::they_ask_with_req(env))),
    ("they_ask_with_dealer", |env| Box::pin(pairs::they_ask_with_dealer(env))),
    ("they_answer_with_rep", |env| Box::pin(pairs::they_answer_with_rep(env))),
    ("they_answer_with_router", |env| Box::pin(pairs::they_answer_with_router(env))),
    ("large_messages_pass", |env| Box::pin(pairs::large_messages_pass(env))),
    ("nobody_answers_a_request_at_once", |env| Box::pin(pairs::nobody_answers(env))),
    ("groups_are_refused_of_publishers_without", |env| Box::pin(pairs::groups_are_refused(env))),
    ("plain_lets_in_who_is_known", |env| Box::pin(security::plain_lets_in_who_is_known(env))),
    ("plain_keeps_out_who_is_not", |env| Box::pin(security::plain_keeps_out_who_is_not(env))),
    ("curve_lets_in_who_is_known", |env| Box::pin(security::curve_lets_in_who_is_known(env))),
    ("curve_keeps_out_who_is_not", |env| Box::pin(security::curve_keeps_out_who_is_not(env))),
    ("another_mechanism_is_refused", |env| Box::pin(security::another_mechanism_is_refused(env))),
    ("a_subscription_comes_back_with_its_publisher", |env| {
        Box::pin(reconnecting::a_subscription_comes_back(env))
    }),
    ("a_queue_holds_while_its_puller_is_away", |env| {
        Box::pin(reconnecting::a_queue_holds_while_its_puller_is_away(env))
    }),
];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for (name, test) in TESTS {
        for over_tcp in [true, false] {
            for we_bind in [true, false] {
                let meeting = Meeting { over_tcp, we_bind };
                let place = if over_tcp { "tcp" } else { "ipc" };
                let side = if we_bind { "we_bind" } else { "they_bind" };
                let here = |executor: &str| format!("{name}::{place}::{side}::{executor}");
                trials.push(trial(here("tokio"), OnTokio::current, meeting, *test));
                trials.push(trial(here("smol"), OnSmol::default, meeting, *test));
            }
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial<E: Executor + 'static>(
    name: String,
    executor: fn() -> E,
    meeting: Meeting,
    test: Test,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Err(missing) = peer::python() {
            // On a build server nothing may be left out.
            return match std::env::var_os("CI") {
                Some(_) => Err(missing.into()),
                None => Ok(Completion::ignored_with(missing)),
            };
        }
        let executor = executor();
        let runtime = executor.runtime().ok_or("the executor has no runtime")?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let env = Env { runtime, meeting, folder: folder.path().to_owned() };
        executor.block_on(test(env));
        Ok(Completion::Completed)
    })
}

impl Env {
    /// A node, and a socket of that type which is connected with it, for the lane of that option.
    pub(crate) async fn meet(&self, socket: &str, lane: &str, settings: &str) -> (Zmtp, Peer) {
        let path = self.folder.join("socket");
        let path = path.display();
        if self.meeting.we_bind {
            let url = match self.meeting.over_tcp {
                true => String::from("zmtp+tcp://127.0.0.1:0?bind"),
                false => format!("zmtp+unix:{path}?bind"),
            };
            let node = Zmtp::open(self.runtime.clone(), &url).await.unwrap();
            let at = node.endpoints()[0].to_string().replace("unix:", "ipc://");
            (node, Peer::start(socket, "connect", &at, settings).await)
        } else {
            let at = match self.meeting.over_tcp {
                true => String::from("tcp://127.0.0.1:*"),
                false => format!("ipc://{path}"),
            };
            let peer = Peer::start(socket, "bind", &at, settings).await;
            let url = match self.meeting.over_tcp {
                true => {
                    let (_, port) = peer.at().rsplit_once(':').unwrap();
                    format!("zmtp+tcp://127.0.0.1?{lane}={port}")
                }
                false => format!("zmtp+unix:{path}?{lane}={path}"),
            };
            (Zmtp::open(self.runtime.clone(), &url).await.unwrap(), peer)
        }
    }
}
