//! Models of the pipe, the byte stream inside one process: a thread at each end.
#![cfg(loom)]

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::transport::BoxConnection;
use posthaste_link::Pipe;
use posthaste_models::{block_on, explore, join, join_all, spawn};

fn read(end: &mut BoxConnection) -> io::Result<usize> {
    let mut into = [0; 8];
    block_on(poll_fn(|cx| Pin::new(&mut *end).poll_read(cx, &mut into)))
}

fn write(end: &mut BoxConnection) -> io::Result<usize> {
    block_on(poll_fn(|cx| Pin::new(&mut *end).poll_write(cx, b"x")))
}

#[test]
fn a_writer_and_a_reader_pass_a_single_byte_of_room_along() {
    explore(3, || {
        let (mut here, mut there) = Pipe::new().capacity(1).pair();
        let writing = spawn(move || {
            for _ in 0..3 {
                assert_eq!(write(&mut here).unwrap(), 1);
            }
        });
        let mut count = 0;
        while let more @ 1.. = read(&mut there).unwrap() {
            count += more;
        }
        assert_eq!(count, 3);
        join(writing);
    });
}

#[test]
fn a_writer_that_waits_for_room_hears_that_the_reader_is_gone() {
    explore(3, || {
        let (mut here, there) = Pipe::new().capacity(1).pair();
        write(&mut here).unwrap();
        let leaving = spawn(move || drop(there));
        assert_eq!(write(&mut here).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        join(leaving);
    });
}

#[test]
fn a_cut_wakes_whoever_waits_for_room_and_whoever_waits_for_bytes() {
    explore(3, || {
        let pipe = Pipe::new().capacity(1);
        let (mut writer, _never_reads) = pipe.pair();
        let (mut reader, _never_writes) = pipe.pair();
        write(&mut writer).unwrap();
        let threads = [
            spawn(move || write(&mut writer).unwrap_err().kind()),
            spawn(move || read(&mut reader).unwrap_err().kind()),
        ];
        pipe.cut();
        assert_eq!(join_all(threads), [io::ErrorKind::ConnectionReset; 2]);
    });
}
