//! TCP addresses: what connects, what can be listened on, and what the errors say.

use std::io::{ErrorKind, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use crate::support::{endpoint, on_every_runtime, pair, refusal, skipped};
use futures::{AsyncReadExt, AsyncWriteExt};
use posthaste_core::transport::{Connection, Transport};
use posthaste_tcp::Tcp;

/// An address at which nobody listens: it was free a moment ago, and the socket that is returned
/// with it keeps it from everyone else without listening.
fn silent_address() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn port_0_is_a_free_port_and_the_listener_names_it() {
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let named = listener.endpoint();
        assert_eq!(named.scheme(), "tcp");
        let address: SocketAddr = named.address().parse().unwrap();
        assert_ne!(address.port(), 0);
        tcp.connect(&named).await.unwrap();
    });
}

#[test]
fn each_end_knows_the_address_of_the_other() {
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let mut listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let at = listener.endpoint();
        // A client that says where it connects from.
        let mut plain = TcpStream::connect(at.address()).unwrap();
        let mut server = listener.accept().await.unwrap().await.unwrap();
        let from = plain.local_addr().unwrap().to_string();
        assert_eq!(server.peer().address, Some(from));
        assert_eq!(server.peer().credentials, None);
        plain.write_all(b"!").unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        let client = tcp.connect(&at).await.unwrap();
        assert_eq!(client.peer().address.as_deref(), Some(at.address()));
    });
}

#[test]
fn a_host_name_is_looked_up() {
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let mut listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let address: SocketAddr = listener.endpoint().address().parse().unwrap();
        // Where the name is ::1 first, nobody listens there, and the next address is tried.
        let by_name = endpoint(&format!("tcp://localhost:{}", address.port()));
        let (client, server) = futures::join!(tcp.connect(&by_name), listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap().await.unwrap());
        assert_eq!(client.peer().address, Some(address.to_string()));
        client.write_all(b"by name").await.unwrap();
        server.read_exact(&mut [0; 7]).await.unwrap();
    });
}

#[test]
fn ipv6_addresses_stand_in_brackets() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        skipped("this machine has no ::1");
        return;
    }
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let mut listener = tcp.bind(&endpoint("tcp://[::1]:0")).await.unwrap();
        assert!(listener.endpoint().address().starts_with("[::1]:"));
        let (client, server) = pair(&tcp, &mut *listener).await;
        assert_eq!(client.peer().address.as_deref(), Some(listener.endpoint().address()));
        assert!(server.peer().address.is_some_and(|address| address.starts_with("[::1]:")));
    });
}

#[test]
fn an_ipv6_listener_takes_ipv4_only_when_asked() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        skipped("this machine has no ::1");
        return;
    }
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let both = tcp.clone().dual_stack(true).bind(&endpoint("tcp://[::]:0")).await.unwrap();
        let port = both.endpoint().address().rsplit_once(':').unwrap().1.to_owned();
        tcp.connect(&endpoint(&format!("tcp://127.0.0.1:{port}"))).await.unwrap();
        tcp.connect(&endpoint(&format!("tcp://[::1]:{port}"))).await.unwrap();
        drop(both);
        // With IPv4's twin port held by a socket that does not listen, only a listener that took
        // IPv4 as well could answer there.
        let (_held, silent) = silent_address();
        let six = tcp.bind(&endpoint(&format!("tcp://[::]:{}", silent.port()))).await.unwrap();
        tcp.connect(&endpoint(&format!("tcp://[::1]:{}", silent.port()))).await.unwrap();
        let error = refusal(tcp.connect(&endpoint(&format!("tcp://{silent}"))).await);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        drop(six);
    });
}

#[test]
fn a_refused_connect_says_where() {
    on_every_runtime(async |runtime| {
        let (_held, silent) = silent_address();
        let tcp = Tcp::new(runtime);
        let error = refusal(tcp.connect(&endpoint(&format!("tcp://{silent}"))).await);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot connect to {silent}: ")), "{text}");
        assert!(text.to_lowercase().contains("refused"), "{text}");
        let by_name = format!("localhost:{}", silent.port());
        let text = refusal(tcp.connect(&endpoint(&format!("tcp://{by_name}"))).await).to_string();
        assert!(text.starts_with(&format!("cannot connect to {by_name} (")), "{text}");
        assert!(text.contains(&format!(":{}): ", silent.port())), "{text}");
    });
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let nowhere = endpoint("tcp://no-such-host.invalid:7411");
        let text = refusal(tcp.connect(&nowhere).await).to_string();
        assert!(text.starts_with("cannot look up \"no-such-host.invalid\": "), "{text}");
        let text = refusal(tcp.bind(&nowhere).await).to_string();
        assert!(text.starts_with("cannot look up \"no-such-host.invalid\": "), "{text}");
    });
}

#[test]
fn an_address_in_use_is_named() {
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let error = refusal(tcp.bind(&listener.endpoint()).await);
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let named = format!("cannot listen on {}: ", listener.endpoint().address());
        assert!(error.to_string().starts_with(&named), "{error}");
        tcp.connect(&listener.endpoint()).await.unwrap();
    });
}

#[test]
fn an_address_can_be_bound_again_at_once() {
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let mut listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let at = listener.endpoint();
        for _ in 0..5 {
            let (mut client, server) = pair(&tcp, &mut *listener).await;
            // The server's end closes first, so its address is the one that lingers.
            drop((server, listener));
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            drop(client);
            listener = tcp.bind(&at).await.unwrap();
        }
    });
}

#[test]
fn what_is_no_address_is_refused_with_the_reason() {
    let cases = [
        ("tcp://", "it has no port"),
        ("tcp://127.0.0.1", "it has no port"),
        ("tcp://:7411", "it has no host"),
        ("tcp://[]:7411", "it has no host"),
        ("tcp://127.0.0.1:", "its port is no number"),
        ("tcp://127.0.0.1:65536", "its port is no number"),
        ("tcp://127.0.0.1:+1", "its port is no number"),
        ("tcp://127.0.0.1:http", "its port is no number"),
        ("tcp://::1:7411", "brackets"),
        ("tcp://[::1:7411", "its bracket is not closed"),
        ("unix:/run/app.sock", "its scheme is not tcp"),
    ];
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        for (url, why) in cases {
            for error in [
                refusal(tcp.connect(&endpoint(url)).await),
                refusal(tcp.bind(&endpoint(url)).await),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
                assert!(error.to_string().contains(why), "{url}: {error}");
            }
        }
    });
}
