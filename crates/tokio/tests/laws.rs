//! The laws of a runtime, on tokio with one thread and with many.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use futures::channel::oneshot;
use futures::{AsyncReadExt, AsyncWriteExt};
use posthaste_core::Runtime;
use posthaste_core::runtime::{BoxTimer, StdListener, StdSocket, blocking, timeout_at};
use posthaste_tokio::Tokio;

/// Runs `test` on both kinds of tokio runtime.
fn on_both(test: impl AsyncFn(Tokio)) {
    let many = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    many.block_on(test(Tokio::new(many.handle().clone())));
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    one.block_on(test(Tokio::new(one.handle().clone())));
}

fn is_pending(timer: &mut BoxTimer) -> bool {
    timer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn x1_a_task_may_be_spawned_from_any_thread() {
    on_both(async |runtime| {
        let (done, finished) = oneshot::channel();
        // The scope waits for the thread, not for the task.
        std::thread::scope(|scope| {
            scope.spawn(|| runtime.spawn(Box::pin(async move { done.send("ran").unwrap() })));
        });
        assert_eq!(finished.await, Ok("ran"));
    });
}

#[test]
fn x2_now_never_goes_back() {
    on_both(async |runtime| {
        let outside = std::thread::scope(|scope| scope.spawn(|| runtime.now()).join().unwrap());
        let mut last = outside;
        for _ in 0..10_000 {
            let now = runtime.now();
            assert!(now >= last);
            last = now;
        }
    });
}

#[test]
fn x3_a_timer_is_never_early_and_can_be_set_again() {
    on_both(async |runtime| {
        let mut timer = runtime.timer();
        for _ in 0..5 {
            let deadline = runtime.now() + Duration::from_micros(1_700);
            timer.as_mut().reset(deadline);
            timer.as_mut().await;
            assert!(runtime.now() >= deadline);
            assert!(is_pending(&mut timer), "a timer that has fired waits for its next deadline");
        }
    });
}

#[test]
fn x3_a_later_deadline_takes_the_place_of_an_earlier_one() {
    on_both(async |runtime| {
        let mut timer = runtime.timer();
        let start = runtime.now();
        timer.as_mut().reset(start + Duration::from_millis(1));
        assert!(is_pending(&mut timer));
        timer.as_mut().reset(start + Duration::from_millis(30));
        timer.as_mut().await;
        assert!(runtime.now() >= start + Duration::from_millis(30));
        timer.as_mut().reset(start + Duration::from_secs(3_600));
        assert!(is_pending(&mut timer));
        timer.as_mut().reset(start);
        timer.await;
    });
}

#[test]
fn x3_a_timer_that_was_never_armed_stays_pending() {
    on_both(async |runtime| {
        let deadline = runtime.now() + Duration::from_millis(5);
        let never = runtime.timer();
        assert_eq!(timeout_at(&runtime, deadline, never).await, None);
    });
}

#[test]
fn x4_sockets_are_woken_by_their_own_reactor_under_any_executor() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let runtime = Tokio::new(tokio.handle().clone());
    pollster::block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut acceptor = runtime.register_listener(StdListener::Tcp(listener)).unwrap();
        let waiting = acceptor.poll_accept(&mut Context::from_waker(Waker::noop()));
        assert!(waiting.is_pending());
        let client = std::net::TcpStream::connect(address).unwrap();
        let mut client = runtime.register_connecting(StdSocket::Tcp(client)).await.unwrap();
        let accepted = poll_fn(|cx| acceptor.poll_accept(cx)).await.unwrap();
        let mut server = runtime.register(accepted).unwrap();
        let mut byte = [0];
        let mut read = server.read_exact(&mut byte);
        assert!(futures::poll!(Pin::new(&mut read)).is_pending());
        client.write_all(b"x").await.unwrap();
        read.await.unwrap();
        assert_eq!(&byte, b"x");
    });
}

#[test]
fn timers_work_under_any_executor() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let runtime = Tokio::new(tokio.handle().clone());
    pollster::block_on(async {
        let deadline = runtime.now() + Duration::from_millis(3);
        let mut timer = runtime.timer();
        timer.as_mut().reset(deadline);
        timer.await;
        assert!(runtime.now() >= deadline);
    });
}

#[test]
fn blocking_work_holds_up_no_task_and_gives_its_result() {
    on_both(async |runtime| {
        let (go, wait) = std::sync::mpsc::sync_channel(0);
        let work = blocking(&runtime, move || wait.recv().unwrap());
        let (result, ()) = futures::join!(work, async {
            let (done, finished) = oneshot::channel();
            runtime.spawn(Box::pin(async move { done.send(()).unwrap() }));
            finished.await.unwrap();
            go.send(42).unwrap();
        });
        assert_eq!(result, 42);
    });
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
    on_both(async |_| assert!(Tokio::try_current().is_some()));
}

#[test]
fn randomness_and_the_wall_clock_come_from_the_machine() {
    on_both(async |runtime| {
        let (mut one, mut other) = ([0; 32], [0; 32]);
        runtime.fill_random(&mut one);
        runtime.fill_random(&mut other);
        assert!(one != other && one != [0; 32]);
        runtime.fill_random(&mut []);
        // 2020 is behind us.
        assert!(runtime.unix_time() > Duration::from_secs(1_577_836_800));
    });
}
