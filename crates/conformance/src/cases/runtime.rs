//! Cases of the runtime's laws, X1 to X4.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures_io::AsyncRead;
use posthaste_core::SharedRuntime;
use posthaste_core::runtime::{BoxAcceptor, Runtime, StdListener, StdSocket, blocking, timeout_at};
use posthaste_core::task::OneShot;
use posthaste_core::transport::BoxConnection;

use super::streams::{bytes, read_exactly, read_some, write_all, write_some};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{Probe, both};

/// How long blocking work waits for a task before it says that none came.
const WORK_TIME_MAX: Duration = Duration::from_secs(10);
/// How often the clock is read in a row.
const READINGS: usize = 10_000;
/// Shorter than a reactor's tick, where rounding to ticks is early if it rounds down.
const SHORT: Duration = Duration::from_micros(1_700);
/// Longer than what one case takes from one line to the next.
const LONG: Duration = Duration::from_millis(40);
/// Longer than any case.
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// More than a connection may hold while nobody reads.
const STALL_MAX: usize = 64 << 20;

// ---- X1

pub(crate) async fn x1_a_task_may_be_spawned_from_any_thread(runtime: SharedRuntime) -> Outcome {
    let here = spawned(&*runtime, "spawned here");
    // The scope waits for the thread, not for the task.
    let there = thread::scope(|scope| {
        scope.spawn(|| spawned(&*runtime, "spawned on another thread")).join()
    });
    let there = there.map_err(|_| Failure::new("spawning on another thread panicked"))?;
    check_eq!(taken(&here).await, "spawned here", "the task");
    check_eq!(taken(&there).await, "spawned on another thread", "the task");
    Ok(())
}

pub(crate) async fn x1_a_task_may_spawn_another(runtime: SharedRuntime) -> Outcome {
    let done = Arc::new(OneShot::new());
    let (inner, puts) = (Arc::clone(&runtime), Arc::clone(&done));
    runtime.spawn(Box::pin(async move {
        let child = spawned(&*inner, 7);
        puts.put(taken(&child).await);
    }));
    check_eq!(taken(&done).await, 7, "what came from the task of a task");
    Ok(())
}

pub(crate) async fn x1_a_task_is_woken_from_any_thread(runtime: SharedRuntime) -> Outcome {
    let (asked, waits) = (Arc::new(OneShot::new()), Arc::new(OneShot::new()));
    let answered = Arc::new(OneShot::new());
    let (asks, awaited, puts) = (Arc::clone(&asked), Arc::clone(&waits), Arc::clone(&answered));
    runtime.spawn(Box::pin(async move {
        let mut has_asked = false;
        let heard: u32 = poll_fn(|cx| {
            let polled = awaited.poll_take(cx);
            // The task waits from here on, and only now is it told to go on.
            if !std::mem::replace(&mut has_asked, true) {
                asks.put(());
            }
            polled
        })
        .await;
        puts.put(heard + 1);
    }));
    taken(&asked).await;
    thread::scope(|scope| {
        scope.spawn(|| waits.put(41));
    });
    check_eq!(taken(&answered).await, 42, "what the woken task said");
    Ok(())
}

pub(crate) async fn x1_blocking_work_may_spawn_and_holds_up_no_task(
    runtime: SharedRuntime,
) -> Outcome {
    let inner = Arc::clone(&runtime);
    let ran = blocking(&*runtime, move || {
        let (done, finished) = sync_channel(1);
        inner.spawn(Box::pin(async move {
            // Should the work have given up, it says so itself.
            let _ = done.send(42);
        }));
        finished.recv_timeout(WORK_TIME_MAX)
    })
    .await;
    check_eq!(ran, Ok(42), "what the task said to the work that blocked");
    Ok(())
}

/// Spawns a task that puts `value`.
fn spawned<T: Send + 'static>(runtime: &dyn Runtime, value: T) -> Arc<OneShot<T>> {
    let cell = Arc::new(OneShot::new());
    let puts = Arc::clone(&cell);
    runtime.spawn(Box::pin(async move { puts.put(value) }));
    cell
}

async fn taken<T>(cell: &OneShot<T>) -> T {
    poll_fn(|cx| cell.poll_take(cx)).await
}

// ---- X2

pub(crate) async fn x2_now_never_goes_back(runtime: SharedRuntime) -> Outcome {
    never_goes_back(&*runtime, runtime.now()).map(drop)
}

pub(crate) async fn x2_now_is_one_clock_on_every_thread(runtime: SharedRuntime) -> Outcome {
    let mut last = runtime.now();
    for _ in 0..4 {
        let there = thread::scope(|scope| scope.spawn(|| never_goes_back(&*runtime, last)).join());
        last = there.map_err(|_| Failure::new("reading the clock elsewhere panicked"))??;
        last = never_goes_back(&*runtime, last)?;
        let (inner, told) = (Arc::clone(&runtime), Arc::new(OneShot::new()));
        let puts = Arc::clone(&told);
        runtime.spawn(Box::pin(async move { puts.put(never_goes_back(&*inner, last)) }));
        last = taken(&told).await?;
    }
    Ok(())
}

/// Reads the clock again and again, from `last` on, and says what it read at the end.
fn never_goes_back(runtime: &dyn Runtime, mut last: Instant) -> Result<Instant, Failure> {
    for _ in 0..READINGS {
        let now = runtime.now();
        check!(now >= last, "the clock went back by {:?}", last - now);
        last = now;
    }
    Ok(last)
}

// ---- X3

pub(crate) async fn x3_a_timer_is_never_early(runtime: SharedRuntime) -> Outcome {
    for wait in [SHORT / 100, SHORT, SHORT * 2, LONG] {
        let deadline = runtime.now() + wait;
        let mut timer = runtime.timer();
        timer.as_mut().reset(deadline);
        timer.await;
        let now = runtime.now();
        check!(now >= deadline, "a timer was early by {:?}", deadline - now);
    }
    Ok(())
}

pub(crate) async fn x3_a_timer_that_has_fired_waits_for_its_next_deadline(
    runtime: SharedRuntime,
) -> Outcome {
    let probe = Probe::new();
    let mut timer = runtime.timer();
    for round in 0..5 {
        let deadline = runtime.now() + SHORT;
        timer.as_mut().reset(deadline);
        timer.as_mut().await;
        check!(runtime.now() >= deadline, "a timer was early when it was set again");
        check!(probe.poll(&mut timer).is_pending(), "a timer fired twice, in round {round}");
    }
    Ok(())
}

pub(crate) async fn x3_a_later_deadline_takes_the_place_of_an_earlier_one(
    runtime: SharedRuntime,
) -> Outcome {
    let probe = Probe::new();
    let mut timer = runtime.timer();
    let start = runtime.now();
    timer.as_mut().reset(start + FOR_EVER);
    check!(probe.poll(&mut timer).is_pending(), "a timer of an hour fired at once");
    timer.as_mut().reset(start + LONG);
    timer.as_mut().await;
    check!(runtime.now() >= start + LONG, "a timer fired before its later deadline");
    Ok(())
}

pub(crate) async fn x3_an_earlier_deadline_takes_the_place_of_a_later_one(
    runtime: SharedRuntime,
) -> Outcome {
    let probe = Probe::new();
    let mut timer = runtime.timer();
    timer.as_mut().reset(runtime.now() + FOR_EVER);
    check!(probe.poll(&mut timer).is_pending(), "a timer of an hour fired at once");
    timer.as_mut().reset(runtime.now() + SHORT);
    timer.as_mut().await;
    // A deadline in the past is over at once.
    timer.as_mut().reset(runtime.now());
    timer.await;
    Ok(())
}

pub(crate) async fn x3_a_timer_that_was_never_armed_stays_pending(
    runtime: SharedRuntime,
) -> Outcome {
    let deadline = runtime.now() + SHORT;
    let never = timeout_at(&*runtime, deadline, runtime.timer()).await;
    check!(never.is_none(), "a timer that was never armed fired");
    Ok(())
}

pub(crate) async fn x3_a_timer_wakes_who_polled_it_last(runtime: SharedRuntime) -> Outcome {
    let (earlier, last) = (Probe::new(), Probe::new());
    let mut timer = runtime.timer();
    timer.as_mut().reset(runtime.now() + LONG);
    if earlier.poll(&mut timer).is_pending() && last.poll(&mut timer).is_pending() {
        last.finish(&mut timer).await;
    }
    Ok(())
}

// ---- X4

pub(crate) async fn x4_an_acceptor_is_woken_by_a_connection(runtime: SharedRuntime) -> Outcome {
    let (mut acceptor, at) = listening(&*runtime)?;
    let probe = Probe::new();
    let waiting = probe.with(|cx| acceptor.poll_accept(cx));
    check!(waiting.is_pending(), "an acceptor accepted before anybody connected");
    let client = TcpStream::connect(at)?;
    let mut accepting = poll_fn(|cx| acceptor.poll_accept(cx));
    let StdSocket::Tcp(accepted) = probe.finish(&mut accepting).await? else {
        return Err(Failure::new("a TCP listener accepted something else"));
    };
    check_eq!(accepted.peer_addr()?, client.local_addr()?, "the peer of what was accepted");
    Ok(())
}

pub(crate) async fn x4_a_reader_is_woken_by_bytes(runtime: SharedRuntime) -> Outcome {
    for _ in 0..3 {
        let (mut one, mut other) = connected(&runtime).await?;
        let (probe, mut byte) = (Probe::new(), [0]);
        let mut reading = poll_fn(|cx| Pin::new(&mut one).poll_read(cx, &mut byte));
        check!(probe.poll(&mut reading).is_pending(), "there was something to read at once");
        write_all(&mut other, b"x").await?;
        check_eq!(probe.finish(&mut reading).await?, 1, "the bytes read");
        check_eq!(&byte, b"x", "what was read");
        // An end is something to read as well.
        let mut reading = poll_fn(|cx| Pin::new(&mut one).poll_read(cx, &mut byte));
        check!(probe.poll(&mut reading).is_pending(), "there was more to read at once");
        drop(other);
        check_eq!(probe.finish(&mut reading).await?, 0, "the bytes read at the end");
    }
    Ok(())
}

pub(crate) async fn x4_a_writer_is_woken_by_room(runtime: SharedRuntime) -> Outcome {
    let (mut one, mut other) = connected(&runtime).await?;
    let (probe, chunk) = (Probe::new(), bytes(1, 64 << 10));
    let mut written = 0;
    while let Poll::Ready(count) = probe.poll(&mut Box::pin(write_some(&mut one, &chunk))) {
        written += count?;
        check!(written < STALL_MAX, "a connection that nobody reads takes {written} bytes");
    }
    // What is read here makes room there, until the write goes on.
    let mut read = 0;
    let writing = async {
        let mut writing = Box::pin(write_some(&mut one, &chunk));
        if probe.poll(&mut writing).is_ready() {
            return Ok(());
        }
        probe.finish(&mut writing).await?;
        Ok(())
    };
    let reading = async {
        while read < written {
            read += read_some(&mut other, 1 << 20).await?.len();
        }
        Ok(())
    };
    both(writing, reading).await?;
    Ok(())
}

pub(crate) async fn x4_a_socket_that_was_connecting_carries_bytes(
    runtime: SharedRuntime,
) -> Outcome {
    let (mut acceptor, at) = listening(&*runtime)?;
    let socket = TcpStream::connect(at)?;
    socket.set_nonblocking(true)?;
    let mut client = runtime.register_connecting(StdSocket::Tcp(socket)).await?;
    let mut server = runtime.register(poll_fn(|cx| acceptor.poll_accept(cx)).await?)?;
    write_all(&mut client, b"there").await?;
    check_eq!(read_exactly(&mut server, 5).await?, b"there", "what came there");
    write_all(&mut server, b"back").await?;
    check_eq!(read_exactly(&mut client, 4).await?, b"back", "what came back");
    Ok(())
}

pub(crate) async fn x4_sockets_work_in_tasks_of_the_runtime(runtime: SharedRuntime) -> Outcome {
    let (mut one, mut other) = connected(&runtime).await?;
    let echoed = Arc::new(OneShot::new());
    let puts = Arc::clone(&echoed);
    runtime.spawn(Box::pin(async move {
        let heard = read_exactly(&mut other, 5).await;
        puts.put(match heard {
            Ok(heard) => write_all(&mut other, &heard).await,
            Err(failure) => Err(failure),
        });
    }));
    write_all(&mut one, b"hello").await?;
    check_eq!(read_exactly(&mut one, 5).await?, b"hello", "what the task sent back");
    taken(&echoed).await
}

/// Whether the runtime has real sockets.
pub(crate) fn has_sockets(runtime: &dyn Runtime) -> Result<bool, Failure> {
    match TcpListener::bind(LOOPBACK) {
        Ok(listener) => match runtime.register_listener(StdListener::Tcp(listener)) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            _ => Ok(true),
        },
        Err(error) => Err(error.into()),
    }
}

/// A port of the operating system's choice.
const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn listening(runtime: &dyn Runtime) -> Result<(BoxAcceptor, SocketAddr), Failure> {
    let listener = TcpListener::bind(LOOPBACK)?;
    let at = listener.local_addr()?;
    Ok((runtime.register_listener(StdListener::Tcp(listener))?, at))
}

/// Two ends of a connection, both in the runtime's reactor.
async fn connected(runtime: &SharedRuntime) -> Result<(BoxConnection, BoxConnection), Failure> {
    let listener = TcpListener::bind(LOOPBACK)?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    Ok((runtime.register(StdSocket::Tcp(client))?, runtime.register(StdSocket::Tcp(server))?))
}
