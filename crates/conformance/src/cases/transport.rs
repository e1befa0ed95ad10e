//! Cases of the transport's laws, T1 to T4, and of law D1 for its handles.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::Poll;

use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::transport::{BoxConnection, Endpoint};

use super::streams::{
    accept_beside, accept_talking, bytes, close, connected, exchange, flush, pair, read_exactly,
    read_some, read_to_end, say, write_all, write_some,
};
use crate::Medium;
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::{LocalFuture, Probe, all, both, give_up_after};
use crate::random::Xorshift;

/// More than goes in one piece.
const A_LOT: usize = 256 << 10;
/// More than a connection may hold while nobody reads.
const STALL_MAX: usize = 32 << 20;

// ---- T1

pub(crate) async fn t1_bytes_arrive_in_order_both_ways(medium: Medium) -> Outcome {
    let (mut client, mut server) = connected(&medium).await?;
    let (there, back) = (bytes(1, A_LOT), bytes(2, A_LOT));
    let (one, other) =
        both(exchange(&mut client, &there, back.len()), exchange(&mut server, &back, there.len()))
            .await?;
    check!(other == there, "what the client wrote came as something else");
    check!(one == back, "what the server wrote came as something else");
    Ok(())
}

pub(crate) async fn t1_the_end_of_one_direction_is_visible_while_the_other_runs(
    medium: Medium,
) -> Outcome {
    for swapped in [false, true] {
        let (client, server) = connected(&medium).await?;
        let (mut ending, mut going_on) = if swapped { (server, client) } else { (client, server) };
        let saying = async {
            write_all(&mut ending, b"that is all").await?;
            close(&mut ending).await
        };
        let ((), heard) = both(saying, read_to_end(&mut going_on)).await?;
        check_eq!(heard, b"that is all", "what came before the end");
        check_eq!(read_some(&mut going_on, 8).await?, b"", "the end, once more");
        // The other direction knows nothing of it.
        let answer = bytes(3, 100_000);
        let answering = async {
            write_all(&mut going_on, &answer).await?;
            close(&mut going_on).await
        };
        let ((), heard) = both(answering, read_to_end(&mut ending)).await?;
        check!(heard == answer, "the other direction lost something: {} bytes", heard.len());
    }
    Ok(())
}

pub(crate) async fn t1_what_was_written_before_a_close_arrives(medium: Medium) -> Outcome {
    let (mut client, mut server) = connected(&medium).await?;
    let sent = bytes(4, 300_000);
    let writing = async {
        write_all(&mut client, &sent).await?;
        close(&mut client).await?;
        Ok(())
    };
    let ((), heard) = both(writing, async { read_to_end(&mut server).await }).await?;
    check!(heard == sent, "{} of {} bytes arrived before the end", heard.len(), sent.len());
    Ok(())
}

pub(crate) async fn t1_a_dropped_connection_ends_the_other(medium: Medium) -> Outcome {
    let (client, mut server) = connected(&medium).await?;
    let probe = Probe::new();
    let mut buffer = [0; 8];
    {
        let mut reading = poll_fn(|cx| Pin::new(&mut server).poll_read(cx, &mut buffer));
        check!(probe.poll(&mut reading).is_pending(), "something came that nobody sent");
        drop(client);
        // An end or an error, but not a wait for ever.
        if let Ok(count) = probe.finish(&mut reading).await {
            check_eq!(count, 0, "bytes that came from a dropped connection");
        }
    }
    let mut written = 0;
    while let Ok(count) = write_some(&mut server, &[0; 1_024]).await {
        written += count;
        check!(written < STALL_MAX, "writing to a dropped connection never fails");
    }
    Ok(())
}

pub(crate) async fn t1_connections_do_not_mix(medium: Medium) -> Outcome {
    let mut listener = medium.transport.bind(&medium.at).await?;
    let at = listener.endpoint();
    let mut pairs = Vec::new();
    for _ in 0..12 {
        pairs.push(pair(&medium, &mut listener, &at).await?);
    }
    all((0..).zip(&mut pairs).map(|(nth, (client, server))| {
        let run: LocalFuture<'_, Outcome> = Box::pin(async move {
            let sent = bytes(100 + nth, 20_000);
            let writing = async { write_all(client, &sent).await };
            let reading = async { read_exactly(server, sent.len()).await };
            let ((), heard) = both(writing, reading).await?;
            check!(heard == sent, "connection {nth} got what another one sent");
            Ok(())
        });
        run
    }))
    .await?;
    Ok(())
}

pub(crate) async fn t1_a_connection_that_nobody_reads_fills_up(medium: Medium) -> Outcome {
    let (mut client, mut server) = connected(&medium).await?;
    let chunk = bytes(5, 64 << 10);
    let probe = Probe::new();
    let mut written = 0;
    // A pending write may only mean that the medium is still moving what it has.
    let mut last_look = false;
    loop {
        let wrote = probe.with(|cx| Pin::new(&mut client).poll_write(cx, &chunk));
        match wrote? {
            Poll::Ready(count) => {
                written += count;
                last_look = false;
                check!(written < STALL_MAX, "{written} bytes went where nobody reads");
            }
            Poll::Pending if last_look => break,
            Poll::Pending => last_look = give_up_after(50, probe.woken()).await.is_none(),
        }
    }
    // Reading makes room, and says so to the one who waits.
    let reading = async { read_exactly(&mut server, written).await };
    let writing = async {
        probe.woken().await;
        Ok(())
    };
    let (heard, ()) = both(reading, writing).await?;
    check_eq!(heard.len(), written, "bytes that arrived");
    say(&mut client, &mut server, b"goes on", "what came afterwards").await?;
    Ok(())
}

// ---- T2

pub(crate) async fn t2_a_stalled_peer_does_not_hold_up_accept(medium: Medium) -> Outcome {
    let mut listener = medium.transport.bind(&medium.at).await?;
    let at = listener.endpoint();
    // The first one connects and does nothing; its handshake is never driven on.
    let mut stalling = medium.transport.connect(&at);
    let stalled = accept_beside(&mut stalling, &mut listener).await?;
    let (mut client, mut server) = pair(&medium, &mut listener, &at).await?;
    say(&mut client, &mut server, b"next, please", "what the second one sent").await?;
    drop((stalled, stalling));
    Ok(())
}

pub(crate) async fn t2_a_peer_that_left_does_not_hold_up_accept(medium: Medium) -> Outcome {
    let mut listener = medium.transport.bind(&medium.at).await?;
    let at = listener.endpoint();
    for polls in [1, 2, 5, 50] {
        drop(give_up_after(polls, medium.transport.connect(&at)).await);
    }
    let accepting = async {
        // Those that left may be accepted, or make accepting fail; nothing comes from them.
        loop {
            if let Some(connection) = accept_talking(&mut listener).await {
                return Ok(connection);
            }
            crate::poll::yield_now().await;
        }
    };
    let talking = async {
        let mut client = medium.transport.connect(&at).await?;
        write_all(&mut client, b"x").await?;
        Ok::<_, Failure>(client)
    };
    let (mut client, mut server) = both(talking, accepting).await?;
    say(&mut server, &mut client, b"here", "what came to the one who stayed").await?;
    Ok(())
}

pub(crate) async fn t2_a_dropped_accept_loses_no_connection(medium: Medium) -> Outcome {
    let mut listener = medium.transport.bind(&medium.at).await?;
    let at = listener.endpoint();
    for polls in [1, 2, 3, 7] {
        let connecting = async { Ok(medium.transport.connect(&at).await?) };
        let accepting = async {
            let upgrade = loop {
                if let Some(accepted) = give_up_after(polls, listener.accept()).await {
                    break accepted?;
                }
                crate::poll::yield_now().await;
            };
            Ok::<BoxConnection, Failure>(upgrade.await?)
        };
        let (mut client, mut server): (BoxConnection, _) = both(connecting, accepting).await?;
        say(&mut client, &mut server, b"in spite of it", "what was sent").await?;
    }
    Ok(())
}

// ---- T3

pub(crate) async fn t3_reads_may_be_cut_anywhere(medium: Medium) -> Outcome {
    let (mut client, mut server) = connected(&medium).await?;
    let sent = bytes(6, 300);
    for size in (1..40).chain([299, 300, 301, 5_000]) {
        let reading = async {
            let mut heard = Vec::new();
            while heard.len() < sent.len() {
                let part = read_some(&mut server, size.min(sent.len() - heard.len())).await?;
                check!(!part.is_empty(), "an end after {} bytes", heard.len());
                heard.extend(part);
            }
            Ok(heard)
        };
        let ((), heard) = both(write_all(&mut client, &sent), reading).await?;
        check!(heard == sent, "reads of up to {size} bytes heard something else");
    }
    Ok(())
}

pub(crate) async fn t3_writes_may_be_cut_anywhere(medium: Medium) -> Outcome {
    let (mut client, mut server) = connected(&medium).await?;
    let sent = bytes(7, 120);
    for cut in 0..=sent.len() {
        let (head, tail) = sent.split_at(cut);
        let writing = async {
            write_all(&mut client, head).await?;
            write_all(&mut client, tail).await
        };
        let ((), heard) = both(writing, read_exactly(&mut server, sent.len())).await?;
        check!(heard == sent, "a write that was cut after {cut} bytes arrived as something else");
    }
    let writing = async {
        for byte in &sent {
            write_all(&mut client, &[*byte]).await?;
        }
        Ok(())
    };
    let ((), heard) = both(writing, read_exactly(&mut server, sent.len())).await?;
    check!(heard == sent, "single bytes arrived as something else");
    Ok(())
}

pub(crate) async fn t3_vectored_writes_may_be_cut_anywhere(medium: Medium) -> Outcome {
    let (mut client, mut server) = connected(&medium).await?;
    let sent = bytes(8, 90_000);
    let mut random = Xorshift::new(9);
    for _ in 0..6 {
        let writing = async {
            let mut rest = &sent[..];
            while !rest.is_empty() {
                // Slices of odd lengths, empty ones among them.
                let mut slices = Vec::new();
                let mut from = rest;
                for _ in 0..5 {
                    let (slice, after) = from.split_at(random.below(9_000).min(from.len()));
                    slices.push(IoSlice::new(slice));
                    from = after;
                }
                if slices.iter().all(|slice| slice.is_empty()) {
                    continue;
                }
                let count =
                    poll_fn(|cx| Pin::new(&mut client).poll_write_vectored(cx, &slices)).await?;
                check!(count > 0, "a vectored write of something wrote nothing");
                rest = rest.get(count..).ok_or_else(|| Failure::new("more written than given"))?;
            }
            flush(&mut client).await
        };
        let reading = async { read_exactly(&mut server, sent.len()).await };
        let ((), heard) = both(writing, reading).await?;
        check!(heard == sent, "vectored writes arrived as something else");
    }
    Ok(())
}

pub(crate) async fn t3_a_dropped_read_or_write_loses_no_byte(medium: Medium) -> Outcome {
    let (mut client, mut server) = connected(&medium).await?;
    let sent = bytes(10, A_LOT);
    let mut random = Xorshift::new(12);
    let mut waits = Xorshift::new(13);
    let writing = async {
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let part = &rest[..(1 + random.below(30_000)).min(rest.len())];
            if let Some(count) =
                give_up_after(1 + random.below(3), write_some(&mut client, part)).await
            {
                rest = &rest[count?..];
            }
        }
        close(&mut client).await
    };
    let reading = async {
        let mut heard = Vec::new();
        loop {
            let reading = read_some(&mut server, 1 + waits.below(30_000));
            match give_up_after(1 + waits.below(3), reading).await.transpose()? {
                Some(part) if part.is_empty() => return Ok(heard),
                part => heard.extend(part.unwrap_or_default()),
            }
        }
    };
    let ((), heard) = both(writing, reading).await?;
    check!(heard == sent, "what was read between dropped reads differs from what was written");
    Ok(())
}

// ---- T4

pub(crate) async fn t4_a_listener_says_where_it_can_be_reached(medium: Medium) -> Outcome {
    let mut listener = medium.transport.bind(&medium.at).await?;
    let at = listener.endpoint();
    check_eq!(at.scheme(), medium.at.scheme(), "the scheme of the listener's endpoint");
    let said: Endpoint = at.to_string().parse()?;
    check_eq!(said, at, "the endpoint, written as a URL and read again");
    let (mut client, mut server) = pair(&medium, &mut listener, &said).await?;
    say(&mut client, &mut server, b"found you", "what was sent there").await?;
    // Both ends can say who is at the other one, if only that they do not know.
    check!(!client.peer().to_string().is_empty(), "the server's name is empty");
    check!(!server.peer().to_string().is_empty(), "the client's name is empty");
    Ok(())
}

pub(crate) async fn t4_nobody_there_is_an_error(medium: Medium) -> Outcome {
    let listener = medium.transport.bind(&medium.at).await?;
    let at = listener.endpoint();
    drop(listener);
    for _ in 0..3 {
        check!(medium.transport.connect(&at).await.is_err(), "somebody listens where nobody does");
    }
    Ok(())
}

pub(crate) async fn t4_an_address_in_use_is_an_error(medium: Medium) -> Outcome {
    let mut listener = medium.transport.bind(&medium.at).await?;
    let at = listener.endpoint();
    match medium.transport.bind(&at).await {
        Ok(_) => return Err(Failure::new("two listeners at one address")),
        Err(error) => check_eq!(error.kind(), io::ErrorKind::AddrInUse, "the error: {error}"),
    }
    // The first one is none the worse for it.
    let (mut client, mut server) = pair(&medium, &mut listener, &at).await?;
    say(&mut client, &mut server, b"still here", "what was sent").await?;
    Ok(())
}

pub(crate) async fn t4_an_address_is_free_after_its_listener(medium: Medium) -> Outcome {
    let mut at = medium.at.clone();
    for _ in 0..3 {
        let mut listener = medium.transport.bind(&at).await?;
        at = listener.endpoint();
        let (mut client, mut server) = pair(&medium, &mut listener, &at).await?;
        drop(listener);
        // What was accepted outlives its listener.
        say(&mut client, &mut server, b"alive", "what was sent after its listener was gone")
            .await?;
    }
    Ok(())
}

// ---- D1

pub(crate) async fn d1_transport_handles_may_be_dropped_anywhere(medium: Medium) -> Outcome {
    let mut listener = medium.transport.bind(&medium.at).await?;
    let at = listener.endpoint();
    let (mut client, mut server) = pair(&medium, &mut listener, &at).await?;
    let transport = medium.transport.clone();
    super::drops::on_a_thread_of_its_own(move || {
        let probe = Probe::new();
        let mut buffer = [0; 8];
        let _ = probe.with(|cx| Pin::new(&mut client).poll_read(cx, &mut buffer));
        let _ = probe.with(|cx| Pin::new(&mut server).poll_read(cx, &mut buffer));
        drop(client);
        let _ = probe.poll(&mut listener.accept());
        drop((listener, transport, server));
    })?;
    let kind = medium.transport.connect(&at).await.err().map(|error| error.kind());
    check!(kind.is_some(), "a dropped listener still listens");
    Ok(())
}
