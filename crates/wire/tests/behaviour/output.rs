//! The output: in order, without copying large payloads, in any division of the writes.

use std::io::IoSlice;

use bytes::Bytes;
use posthaste_wire::{Hop, Output};

use crate::support::{Pair, events, send, transfers};

/// A pair whose client has small and large payloads to send, and what its output holds.
fn mixed() -> (Pair, Output, Bytes) {
    let mut pair = Pair::new();
    let (link, _) = pair.sender();
    let large = Bytes::from(vec![7; 20_000]);
    send(&mut pair.client, link, b"small");
    pair.client.transfer(link, &Hop::default(), b"h", &large).unwrap();
    pair.client.transfer(link, &Hop::default(), b"h", &large).unwrap();
    send(&mut pair.client, link, b"small");
    let mut output = Output::new();
    pair.client.swap_output(&mut output);
    (pair, output, large)
}

#[test]
fn large_payloads_are_referred_to_and_small_ones_copied() {
    let (_, output, large) = mixed();
    let mut slices = [IoSlice::new(&[]); 16];
    let filled = output.io_slices(&mut slices);
    assert_eq!(filled, 5, "frames, payload, frame, payload, frame");
    assert_eq!(slices[1].as_ptr(), large.as_ptr());
    assert_eq!(slices[3].as_ptr(), large.as_ptr());
    assert_eq!(slices[..filled].iter().map(|slice| slice.len()).sum::<usize>(), output.len());
}

#[test]
fn any_division_of_the_writes_writes_the_same_bytes() {
    let whole = mixed().1.to_vec();
    for step in [1, 7, 100, 8_191, 20_000, usize::MAX] {
        let (mut pair, mut output, _) = mixed();
        let mut written = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let filled = output.io_slices(&mut slices);
            assert!(filled > 0, "what is not empty has slices");
            let available = slices[..filled].iter().flat_map(|slice| slice.iter().copied());
            let before = written.len();
            written.extend(available.take(step));
            let taken = written.len() - before;
            output.advance(taken);
        }
        assert!(written == whole, "in steps of {step}");
        pair.server.handle_input(&mut bytes::BytesMut::from(&written[..]), pair.now);
        assert_eq!(transfers(&events(&mut pair.server)).len(), 4);
    }
}

#[test]
fn an_output_that_still_holds_something_is_not_swapped() {
    let (mut pair, mut output, _) = mixed();
    let held = output.len();
    pair.client.goodbye(posthaste_wire::Code::Ok, "");
    pair.client.swap_output(&mut output);
    assert_eq!(output.len(), held);
    assert!(pair.client.wants_output(), "the goodbye waits for the next swap");
}

#[test]
fn a_session_with_nothing_to_say_yields_nothing() {
    let mut pair = Pair::new();
    let mut output = Output::new();
    pair.client.swap_output(&mut output);
    assert!(output.is_empty());
    assert_eq!(output.io_slices(&mut [IoSlice::new(&[]); 4]), 0);
    output.advance(10);
}
