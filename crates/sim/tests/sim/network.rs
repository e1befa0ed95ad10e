//! Connections: refused, timed out, cut, fallen silent, partitioned.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::runtime::timeout_at;
use posthaste_core::transport::{BoxConnection, Endpoint, Transport};
use posthaste_sim::{Faults, Sim, World};

fn there() -> Endpoint {
    "sim://server:7000".parse().unwrap()
}

/// Worlds in which only what a test does itself goes wrong.
fn worlds() -> Sim {
    Sim::new().seeds(0..20).heal_after(Duration::from_secs(600))
}

async fn connected(world: &World) -> (BoxConnection, BoxConnection) {
    let mut listener = world.node("server").transport().bind(&there()).await.unwrap();
    let client = world.node("client");
    let connecting = {
        let client = client.clone();
        client.clone().spawn(async move { client.transport().connect(&there()).await.unwrap() })
    };
    let server = listener.accept().await.unwrap().await.unwrap();
    (connecting.await.unwrap(), server)
}

async fn write(connection: &mut BoxConnection, bytes: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut *connection).poll_write(cx, bytes)).await
}

async fn read(connection: &mut BoxConnection) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 64];
    let count = poll_fn(|cx| Pin::new(&mut *connection).poll_read(cx, &mut buffer)).await?;
    Ok(buffer[..count].to_vec())
}

async fn silent(world: &World, connection: &mut BoxConnection, time: Duration) -> bool {
    let runtime = world.runtime();
    timeout_at(&*runtime, runtime.now() + time, read(connection)).await.is_none()
}

#[test]
fn connecting_where_nobody_listens_is_refused_and_where_nothing_arrives_times_out() {
    worlds().run(async |world| {
        let (client, server) = (world.node("client"), world.node("server"));
        let refused = client.transport().connect(&there()).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        world.part(&[&client], &[&server]);
        let unheard = client.transport().connect(&there()).await.err().unwrap();
        assert_eq!(unheard.kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_cut_resets_both_ends() {
    worlds().faults(Faults::gentle()).run(async |world| {
        let (mut client, mut server) = connected(&world).await;
        world.cut();
        assert_eq!(read(&mut client).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(read(&mut server).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_partition_holds_bytes_back_and_loses_none() {
    worlds().run(async |world| {
        let (mut client, mut server) = connected(&world).await;
        world.part(&[&world.node("client")], &[&world.node("server")]);
        write(&mut client, b"x").await.unwrap();
        assert!(silent(&world, &mut server, Duration::from_secs(5)).await);
        world.mend();
        assert_eq!(read(&mut server).await.unwrap(), b"x");
    });
}

#[test]
fn the_peers_of_a_killed_process_hear_of_it_and_those_of_a_dead_machine_do_not() {
    worlds().run(async |world| {
        let (client, server) = (world.node("client"), world.node("server"));
        let (mut kept, _lost) = connected(&world).await;
        server.kill();
        assert_eq!(read(&mut kept).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        server.restart();
        let (mut kept, _lost) = connected(&world).await;
        server.power_off();
        assert!(silent(&world, &mut kept, Duration::from_secs(60)).await);
        let unheard = client.transport().connect(&there()).await.err().unwrap();
        assert_eq!(unheard.kind(), io::ErrorKind::TimedOut);
        // A machine that is back knows nothing of the connection, and says so when it is asked.
        server.restart();
        write(&mut kept, b"are you there?").await.unwrap();
        assert_eq!(read(&mut kept).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_partition_in_one_direction_lets_the_other_pass() {
    worlds().run(async |world| {
        let (mut client, mut server) = connected(&world).await;
        world.part_one_way(&[&world.node("client")], &[&world.node("server")]);
        write(&mut client, b"lost for now").await.unwrap();
        write(&mut server, b"heard").await.unwrap();
        assert_eq!(read(&mut client).await.unwrap(), b"heard");
        assert!(silent(&world, &mut server, Duration::from_secs(5)).await);
        world.mend();
        assert_eq!(read(&mut server).await.unwrap(), b"lost for now");
    });
}

#[test]
fn a_connection_falls_silent_in_one_direction_or_both_and_nobody_is_told() {
    let ways = Mutex::new(BTreeSet::new());
    worlds().seeds(0..60).run(async |world| {
        let (mut client, mut server) = connected(&world).await;
        world.node("client").half_open();
        write(&mut client, b"x").await.unwrap();
        write(&mut server, b"x").await.unwrap();
        let minute = Duration::from_secs(60);
        let there = silent(&world, &mut server, minute).await;
        let back = silent(&world, &mut client, minute).await;
        // Not even the end of the other side comes through where nothing does.
        drop(server);
        assert_eq!(back, silent(&world, &mut client, minute).await);
        ways.lock().unwrap().insert((there, back));
    });
    let all = [(false, true), (true, false), (true, true)];
    assert_eq!(ways.into_inner().unwrap(), all.into());
}

#[test]
fn bytes_overtake_those_of_another_connection_and_never_their_own() {
    let orders = Mutex::new(BTreeSet::new());
    worlds().faults(Faults::gentle().pauses(0)).seeds(0..60).run(async |world| {
        let mut listener = world.node("server").transport().bind(&there()).await.unwrap();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        for name in ["first", "second"] {
            let client = world.node(name);
            let sends = client.clone();
            drop(client.spawn(async move {
                let mut connection = sends.transport().connect(&there()).await.unwrap();
                for byte in 0..5 {
                    write(&mut connection, &[byte]).await.unwrap();
                }
                std::future::pending::<()>().await;
            }));
        }
        let mut readers = Vec::new();
        for which in 0..2 {
            let mut connection = listener.accept().await.unwrap().await.unwrap();
            let arrived = Arc::clone(&arrived);
            readers.push(world.node("server").spawn(async move {
                let mut own = Vec::new();
                while own.len() < 5 {
                    let bytes = read(&mut connection).await.unwrap();
                    arrived.lock().unwrap().push(which);
                    own.extend(bytes);
                }
                assert_eq!(own, [0, 1, 2, 3, 4], "bytes of one connection keep their order");
            }));
        }
        for reader in readers {
            reader.await.unwrap();
        }
        orders.lock().unwrap().insert(arrived.lock().unwrap().clone());
    });
    assert!(orders.into_inner().unwrap().len() > 30, "two connections keep step");
}

#[test]
fn a_rough_world_has_every_kind_of_fault() {
    const KINDS: [&str; 12] = [
        "is cut",
        "nothing from the client arrives",
        "nothing from the server arrives",
        "nothing arrives on",
        "stalls",
        " and ",
        "does not reach",
        "stands still",
        "wall clock",
        "is killed",
        "loses its power",
        "is started again",
    ];
    let seen = Mutex::new(BTreeSet::new());
    Sim::new().seeds(0..60).faults(Faults::rough()).run(async |world| {
        let _server = world.node("server").mortal().start(|node| async move {
            let mut listener = node.transport().bind(&there()).await.unwrap();
            let mut kept = Vec::new();
            loop {
                kept.push(listener.accept().await.unwrap().await.unwrap());
            }
        });
        let _client = world.node("client").mortal().start(|node| async move {
            loop {
                let connected = node.transport().connect(&there()).await;
                node.sleep(Duration::from_secs(1)).await;
                drop(connected);
            }
        });
        world.healed().await;
        let text: Vec<String> =
            world.history().events().iter().map(|event| event.what.to_string()).collect();
        let kinds = KINDS.iter().filter(|kind| text.iter().any(|line| line.contains(**kind)));
        seen.lock().unwrap().extend(kinds.copied());
    });
    assert_eq!(seen.into_inner().unwrap(), KINDS.into());
}
