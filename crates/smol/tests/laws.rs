//! Smol under the laws of a runtime, and what is smol's own.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures::channel::oneshot;
use posthaste_conformance::{Executor, LocalFuture, RuntimeSubject, runtime_suite};
use posthaste_core::runtime::{BoxTimer, Runtime, SharedRuntime, StdListener, StdSocket};
use posthaste_smol::Smol;

runtime_suite!(on_the_global_executor, Global);
runtime_suite!(on_an_executor_of_ones_own, Own::default());
runtime_suite!(from_outside, Outside);

/// Cases that run beside smol's global executor.
struct Global;

impl Executor for Global {
    fn block_on(&self, case: LocalFuture<'_, ()>) {
        smol::block_on(case);
    }
}

impl RuntimeSubject for Global {
    fn open(&self) -> SharedRuntime {
        Smol::global().into()
    }
}

/// Cases that run on an executor which nobody else runs.
#[derive(Default)]
struct Own(Arc<smol::Executor<'static>>);

impl Executor for Own {
    fn block_on(&self, case: LocalFuture<'_, ()>) {
        smol::block_on(self.0.run(case));
    }
}

impl RuntimeSubject for Own {
    fn open(&self) -> SharedRuntime {
        Smol::new(Arc::clone(&self.0)).into()
    }
}

/// Cases that run on a thread which drives no reactor.
struct Outside;

impl Executor for Outside {}

impl RuntimeSubject for Outside {
    fn open(&self) -> SharedRuntime {
        Smol::global().into()
    }
}

#[test]
fn nothing_panics_or_blocks_when_it_is_dropped_outside_a_runtime() {
    let executor = Arc::new(smol::Executor::new());
    let runtime = Smol::new(Arc::clone(&executor));
    let mut timer = runtime.timer();
    timer.as_mut().reset(runtime.now() + Duration::from_secs(3_600));
    assert!(is_pending(&mut timer));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let connecting = client.try_clone().unwrap();
    let connecting = runtime.register_connecting(StdSocket::Tcp(connecting));
    let connection = runtime.register(StdSocket::Tcp(client)).unwrap();
    let acceptor = runtime.register_listener(StdListener::Tcp(listener)).unwrap();
    // Nobody runs the executor, so the task goes with it, and what the task holds as well.
    let (held, gone) = oneshot::channel::<()>();
    runtime.spawn(Box::pin(async move {
        let _held = held;
        std::future::pending::<()>().await;
    }));
    drop((runtime, executor, connecting, connection, acceptor, timer));
    assert_eq!(pollster::block_on(gone), Err(oneshot::Canceled));
}

#[test]
fn a_task_runs_on_the_executor_that_was_given() {
    let executor = Arc::new(smol::Executor::new());
    let (done, finished) = oneshot::channel();
    Smol::new(Arc::clone(&executor)).spawn(Box::pin(async move { done.send(7).unwrap() }));
    assert!(executor.try_tick(), "the task is on another executor");
    assert_eq!(pollster::block_on(finished), Ok(7));
}

#[test]
fn randomness_and_the_wall_clock_come_from_the_machine() {
    let runtime = Smol::global();
    let (mut one, mut other) = ([0; 32], [0; 32]);
    runtime.fill_random(&mut one);
    runtime.fill_random(&mut other);
    assert!(one != other && one != [0; 32]);
    runtime.fill_random(&mut []);
    // 2020 is behind us.
    assert!(runtime.unix_time() > Duration::from_secs(1_577_836_800));
}

fn is_pending(timer: &mut BoxTimer) -> bool {
    timer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}
