//! Connections: refused, timed out, cut, fallen silent, partitioned.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
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
