//! Tokio under the laws of a runtime, and what is tokio's own.

use std::task::{Context, Waker};
use std::time::Duration;

use posthaste_conformance::{Executor, LocalFuture, RuntimeSubject, runtime_suite};
use posthaste_core::runtime::{BoxTimer, Runtime, SharedRuntime, StdListener, StdSocket};
use posthaste_tokio::Tokio;

runtime_suite!(on_its_threads, Inside(threads()));
runtime_suite!(on_the_current_thread, Inside(current()));
runtime_suite!(from_outside, Outside(threads()));

/// Cases that run on the runtime itself.
struct Inside(tokio::runtime::Runtime);

impl Executor for Inside {
    fn block_on(&self, case: LocalFuture<'_, ()>) {
        self.0.block_on(case);
    }
}

impl RuntimeSubject for Inside {
    fn open(&self) -> SharedRuntime {
        Tokio::new(self.0.handle().clone()).into()
    }
}

/// Cases that run on a thread of which the runtime knows nothing.
struct Outside(tokio::runtime::Runtime);

impl Executor for Outside {}

impl RuntimeSubject for Outside {
    fn open(&self) -> SharedRuntime {
        Tokio::new(self.0.handle().clone()).into()
    }
}

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn current() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn nothing_panics_or_blocks_when_it_is_dropped_outside_a_runtime() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let runtime = Tokio::new(tokio.handle().clone());
    let mut timer = runtime.timer();
    timer.as_mut().reset(runtime.now() + Duration::from_secs(3_600));
    assert!(is_pending(&mut timer));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let connecting = client.try_clone().unwrap();
    let connecting = runtime.register_connecting(StdSocket::Tcp(connecting));
    let connection = runtime.register(StdSocket::Tcp(client)).unwrap();
    let acceptor = runtime.register_listener(StdListener::Tcp(listener)).unwrap();
    let unused = runtime.timer();
    drop((connecting, unused));
    // One half before the runtime ends, and the other after it.
    drop(connection);
    tokio.shutdown_background();
    drop((timer, acceptor));
    runtime.spawn(Box::pin(async {}));
    drop(runtime);
}

#[test]
fn time_that_a_test_paused_is_paused_here_too() {
    let paused = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    paused.block_on(async {
        let runtime = Tokio::current();
        let start = runtime.now();
        assert_eq!(runtime.now(), start);
        let mut timer = runtime.timer();
        timer.as_mut().reset(start + Duration::from_secs(3_600));
        timer.await;
        let passed = runtime.now() - start;
        assert_eq!(passed.as_secs(), 3_600);
    });
}

#[test]
fn the_current_runtime_is_there_inside_and_not_outside() {
    assert!(Tokio::try_current().is_none());
    for runtime in [threads(), current()] {
        runtime.block_on(async { assert!(Tokio::try_current().is_some()) });
    }
}

#[test]
fn randomness_and_the_wall_clock_come_from_the_machine() {
    let tokio = current();
    let runtime = Tokio::new(tokio.handle().clone());
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
